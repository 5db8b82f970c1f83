"""Test locking a cluster whose scheduler is lost at that moment."""

from __future__ import annotations

from typing import Any

import pytest

from skjob.deploy.kubernetes.run_lock import lock_cluster, new_lock
from skjob.errors import StartError

pytestmark = pytest.mark.unit


class _Lost:
    """A client whose connection breaks during the request."""

    id = "Client-1"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def run_on_scheduler(self, *_: Any, **__: Any) -> None:
        raise self.error


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError("reset")])
def test_a_scheduler_that_does_not_answer_is_told(error: Exception) -> None:
    with pytest.raises(StartError, match="the scheduler of `dev` does not answer: "):
        lock_cluster(_Lost(error), new_lock("train.py"), "dev")
