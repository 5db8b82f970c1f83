"""Test the local port that leads to a scheduler, and the first answer from there."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from kr8s.asyncio.objects import Pod
from kr8s.asyncio.portforward import PortForward

from skjob.deploy.kubernetes import kubecluster
from skjob.deploy.kubernetes.kubecluster import LISTEN_TIMEOUT, MAX_PORTS_TRIED, first_answer, open_port_forward
from skjob.errors import StartError


@pytest.fixture
def taken() -> Iterator[int]:
    """A used port on which nobody listens, like that of an outgoing connection."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def forward() -> Any:
    return PortForward(Pod({"metadata": {"name": "scheduler"}}, api=object()), 8786, local_port="auto")


def test_a_port_that_is_taken_is_not_the_last(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        free = other.getsockname()[1]
    ports = iter([taken, taken, free])
    monkeypatch.setattr(random, "randint", lambda *_: next(ports))

    async def reached() -> int:
        opened = await open_port_forward(forward)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", opened.local_port)
            # Until the other side has closed it, since there is no pod: the end of the loop would leave that connection
            # open.
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        finally:
            await opened.__aexit__(None, None, None)
        return int(opened.local_port)

    assert asyncio.run(reached()) == free


def test_no_free_port_is_an_error(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(random, "randint", lambda *_: made.append(1) or taken)
    with pytest.raises(StartError, match=f"no port of this machine is free .*{taken}"):
        asyncio.run(open_port_forward(forward))
    assert len(made) == MAX_PORTS_TRIED


class SlowScheduler:
    """A scheduler that rejects connections with less time than it needs."""

    def __init__(self, needs: float) -> None:
        self.needs = needs
        self.tries: list[float] = []

    def open_rpc(self, seconds: float) -> Any:
        self.tries.append(seconds)
        return Rpc(self, seconds)


class Rpc:
    def __init__(self, scheduler: SlowScheduler, seconds: float) -> None:
        self.scheduler = scheduler
        self.timeout = seconds
        self.closed = False

    async def identity(self) -> None:
        if self.timeout < self.scheduler.needs:
            raise OSError(f"Timed out trying to connect after {self.timeout} s")

    async def close_rpc(self) -> None:
        self.closed = True


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubecluster, "CONNECT_POLL_INTERVAL", 0.0)


@pytest.mark.usefixtures("no_pauses")
def test_each_try_to_connect_gets_more_time_and_what_follows_all_of_it() -> None:
    scheduler = SlowScheduler(needs=4.0)
    looked = []
    answering = asyncio.run(first_answer(scheduler.open_rpc, lambda: looked.append(1), "a-run"))
    assert scheduler.tries == [2.0, 3.0, 4.5]
    assert len(looked) == 2
    assert answering.timeout == LISTEN_TIMEOUT


@pytest.mark.usefixtures("no_pauses")
def test_a_scheduler_that_never_answers_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubecluster, "LISTEN_TIMEOUT", 0.01)
    with pytest.raises(StartError, match="the scheduler of `a-run` runs but did not answer within 0 s: Timed out"):
        asyncio.run(first_answer(SlowScheduler(needs=1e9).open_rpc, lambda: None, "a-run"))
