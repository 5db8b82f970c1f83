"""What a question to a Dask client ends in, where there is no answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from client_loop import client_loop

from skjob.answers import answer, answer_while_connected


class Client:
    """`status` is as the client has it; what it is asked gives `outcome` after `seconds`."""

    def __init__(self, status: str, outcome: Any, seconds: float = 0.0) -> None:
        self.status, self.outcome, self.seconds = status, outcome, seconds
        self.loop = client_loop()

    async def asked(self) -> Any:
        await asyncio.sleep(self.seconds)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def _answer(client: Client, seconds: float = 10.0) -> Any:
    return answer_while_connected(client, client.asked(), seconds)


def test_an_answer() -> None:
    assert _answer(Client("running", 7, 0.3)) == 7


@pytest.mark.parametrize("status", ["connecting", "closing", "closed"])
def test_no_answer_without_a_connection(status: str) -> None:
    with pytest.raises(ConnectionError, match="the connection to the scheduler is lost"):
        _answer(Client(status, None, 60))


def test_a_client_that_is_closed_has_lost_its_connection() -> None:
    """As distributed has it, it has no scheduler any more."""
    client = Client("closed", AttributeError("'NoneType' object has no attribute 'run_function'"))
    with pytest.raises(ConnectionError, match="the connection to the scheduler is lost"):
        _answer(client)
    with pytest.raises(ConnectionError, match="the client is closed"):
        answer(client, client.asked(), 10.0)


def test_what_the_scheduler_says_is_not_changed() -> None:
    with pytest.raises(ValueError, match="no such plugin"):
        _answer(Client("running", ValueError("no such plugin")))


def test_no_answer_in_time() -> None:
    with pytest.raises(TimeoutError, match="within 0 s"):
        _answer(Client("running", None, 60), 0.1)
