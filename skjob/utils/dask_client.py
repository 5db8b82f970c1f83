"""Calls of a Dask client from other threads than its event loop's, each with a time limit; and the run's own client."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import wait
from typing import Any

WORKERS_SECONDS = 30.0
"""Within which a scheduler says who its workers are."""

CONNECTION_LOST = "the connection to the scheduler is lost"

run_client: Any = None
"""The run's client in the process of a program of `skjob run`, where `skjob.cluster()` is that run's cluster.

`skjob.run.program.child` sets it before the program begins; it is None in every other process.
"""


def is_closed(client: Any) -> bool:
    """Whether it will not have its scheduler back: it closes itself when its patience is over."""
    return client.status in ("closing", "closed")


def wait_result(client: Any, asked: Coroutine[Any, Any, Any], seconds: float) -> Any:
    """The result of a coroutine of the client's.

    Raises TimeoutError after so many seconds, ConnectionError where the client is closed, and what that raises.
    """
    try:
        return asyncio.run_coroutine_threadsafe(asked, client.loop.asyncio_loop).result(seconds)
    except (RuntimeError, AttributeError) as error:
        # One that is closed has no scheduler any more, and then no loop.
        if client.loop.asyncio_loop.is_closed() or is_closed(client):
            raise ConnectionError("the client is closed") from error
        raise
    finally:
        if inspect.getcoroutinestate(asked) == inspect.CORO_CREATED:
            asked.close()  # its loop has ended: else Python warns of it, some time later and somewhere else


def call_method(client: Any, method: Callable[[], Any], seconds: float) -> Any:
    """What a method of the client's returns that has no time limit of its own: called on the client's event loop, it
    gives what can be waited for. Raises TimeoutError after so many seconds, and what it raises."""

    async def call() -> Any:
        return await method()

    return wait_result(client, call(), seconds)


def workers_of(client: Any) -> dict[str, Any]:
    """What the scheduler knows of its workers now, by their addresses.

    `Client.scheduler_info(n_workers=-1)` may leave them all out (distributed 2026.8): it returns what the client was
    told last, and every two seconds the client asks for itself, without them. Gone when
    `test_a_question_of_the_clients_own_loses_no_worker` says so.

    Raises TimeoutError and OSError where the scheduler does not answer.
    """
    found: dict[str, Any] = call_method(client, lambda: client.scheduler.identity(n_workers=-1), WORKERS_SECONDS)[
        "workers"
    ]
    return found


def wait_while_connected(client: Any, asked: Coroutine[Any, Any, Any], seconds: float) -> Any:
    """As `wait_result`; raises ConnectionError as soon as the client has lost its connection, which it then tries to
    make
    again for as long as it may."""
    answering = asyncio.run_coroutine_threadsafe(asked, client.loop.asyncio_loop)
    deadline = time.monotonic() + seconds
    while not wait([answering], 0.25).done:
        if client.status != "running":
            answering.cancel()
            raise ConnectionError(CONNECTION_LOST)
        if time.monotonic() > deadline:
            answering.cancel()
            raise TimeoutError(f"no answer of the scheduler within {seconds:.0f} s")
    try:
        return answering.result()
    except Exception as error:
        if client.status != "running":  # one that is closed stumbles over itself, in some way
            raise ConnectionError(CONNECTION_LOST) from error
        raise
