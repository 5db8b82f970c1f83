"""What a question to a Dask client ends in, where there is no answer."""

from __future__ import annotations

import asyncio
import threading
from concurrent import futures
from typing import Any

import pytest
from client_loop import client_loop
from clocks import DEADLINE

from skjob.utils import dask_client
from skjob.utils.dask_client import wait_result, wait_while_connected

NEVER = object()


class Client:
    """`status` is as the client has it; what it is asked gives `outcome`, but not before somebody looks at `status`."""

    def __init__(self, status: str, outcome: Any) -> None:
        self._status, self.outcome = status, outcome
        self.loop = client_loop()
        self.looked_at = threading.Event()

    @property
    def status(self) -> str:
        self.looked_at.set()
        return self._status

    async def asked(self) -> Any:
        while self.outcome is NEVER or not self.looked_at.is_set():
            await asyncio.sleep(0.001)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_client, "wait", lambda asked, _: futures.wait(asked, 0.01))


def _answer(client: Client, seconds: float = DEADLINE) -> Any:
    return wait_while_connected(client, client.asked(), seconds)


def test_an_answer() -> None:
    assert _answer(Client("running", 7)) == 7


@pytest.mark.parametrize("status", ["connecting", "closing", "closed"])
def test_no_answer_without_a_connection(status: str) -> None:
    with pytest.raises(ConnectionError, match="the connection to the scheduler is lost"):
        _answer(Client(status, NEVER))


def test_a_client_that_is_closed_has_lost_its_connection() -> None:
    """As distributed has it, it has no scheduler any more."""
    client = Client("closed", AttributeError("'NoneType' object has no attribute 'run_function'"))
    with pytest.raises(ConnectionError, match="the connection to the scheduler is lost"):
        _answer(client)
    with pytest.raises(ConnectionError, match="the client is closed"):
        wait_result(client, client.asked(), DEADLINE)


def test_what_the_scheduler_says_is_not_changed() -> None:
    with pytest.raises(ValueError, match="no such plugin"):
        _answer(Client("running", ValueError("no such plugin")))


def test_no_answer_in_time() -> None:
    with pytest.raises(TimeoutError, match="within 0 s"):
        _answer(Client("running", NEVER), 0.1)
