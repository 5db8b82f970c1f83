"""The port on this machine that leads to a scheduler."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from kr8s.asyncio.objects import Pod
from kr8s.asyncio.portforward import PortForward

from skjob.cluster.kubecluster import PORTS_TRIED, listening
from skjob.errors import StartError


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that is in use, and on which nobody answers: what a connection from here looks like."""
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
        opened = await listening(forward)
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", opened.local_port)
            writer.close()
        finally:
            await opened.__aexit__(None, None, None)
        return int(opened.local_port)

    assert asyncio.run(reached()) == free


def test_no_free_port_is_an_error(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(random, "randint", lambda *_: made.append(1) or taken)
    with pytest.raises(StartError, match=f"no port of this machine is free .*{taken}"):
        asyncio.run(listening(forward))
    assert len(made) == PORTS_TRIED
