"""What clusters that are open change in this process, in the order in which they end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from skjob.run.context import _last_in_first_out

pytestmark = pytest.mark.unit

NOW = ["nothing"]


@contextmanager
def setting(value: str) -> Iterator[None]:
    """As `joblib.parallel_config`: it restores what it has found."""
    before = NOW[0]
    NOW[0] = value
    try:
        yield
    finally:
        NOW[0] = before


@pytest.mark.parametrize(
    ("closed", "seen"),
    [
        ("ba", ["a", "nothing"]),
        ("ab", ["b", "nothing"]),
        ("cba", ["b", "a", "nothing"]),
        ("abc", ["c", "c", "nothing"]),
        ("bca", ["c", "a", "nothing"]),
        ("acb", ["c", "b", "nothing"]),
    ],
)
def test_the_last_that_is_open_counts_whichever_closes_first(closed: str, seen: list[str]) -> None:
    opened = {}
    for name in sorted(closed):
        opened[name] = ExitStack()
        opened[name].enter_context(_last_in_first_out(setting(name)))
    found = []
    for name in closed:
        opened[name].close()
        found.append(NOW[0])
    assert found == seen
