"""Wait for a Dask client's coroutines from other threads, with a time limit; and know the run's own client."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import wait
from typing import Any

WORKERS_TIMEOUT = 30.0
"""Seconds for a scheduler to list its workers."""

CONNECTION_LOST = "the connection to the scheduler is lost"

run_client: Any = None
"""The run's client in the process of a program of `skjob run`, where `skjob.cluster()` is that run's cluster.

`skjob.run.program.child` sets it before the program begins; it is None in every other process.
"""


def is_closed(client: Any) -> bool:
    """Return whether the client has given up its scheduler: it closes itself when it cannot reconnect in time."""
    return client.status in ("closing", "closed")


def wait_result(client: Any, coroutine: Coroutine[Any, Any, Any], timeout: float) -> Any:
    """Return the result of a coroutine of the client's.

    Raise TimeoutError after `timeout` seconds, ConnectionError if the client is closed, and what the coroutine raises.
    """
    try:
        return asyncio.run_coroutine_threadsafe(coroutine, client.loop.asyncio_loop).result(timeout)
    except (RuntimeError, AttributeError) as error:
        # A closed client loses its scheduler, and then its loop.
        if client.loop.asyncio_loop.is_closed() or is_closed(client):
            raise ConnectionError("the client is closed") from error
        raise
    finally:
        if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
            coroutine.close()  # its loop has ended; otherwise Python warns about it later, somewhere else


def call_method(client: Any, method: Callable[[], Any], timeout: float) -> Any:
    """Call a method that has no time limit of its own on the client's event loop, and return what it gives.

    Raise TimeoutError after `timeout` seconds, and what the method raises.
    """

    async def call() -> Any:
        return await method()

    return wait_result(client, call(), timeout)


def workers_of(client: Any) -> dict[str, Any]:
    """Return the scheduler's current information about its workers, by their addresses.

    `Client.scheduler_info(n_workers=-1)` may leave them all out (distributed 2026.8): it returns the client's last
    answer, and every two seconds the client makes a request of its own, without workers. GONE WHEN
    `test_polling_client_does_not_make_workers_look_lost` fails.

    Raise TimeoutError or OSError if the scheduler does not answer.
    """
    workers: dict[str, Any] = call_method(client, lambda: client.scheduler.identity(n_workers=-1), WORKERS_TIMEOUT)[
        "workers"
    ]
    return workers


def wait_while_connected(client: Any, coroutine: Coroutine[Any, Any, Any], timeout: float) -> Any:
    """Return the result of a coroutine of the client's, as long as it is connected.

    Raise ConnectionError as soon as the client loses its connection, although it tries to reconnect; TimeoutError after
    `timeout` seconds; and what the coroutine raises.
    """
    future = asyncio.run_coroutine_threadsafe(coroutine, client.loop.asyncio_loop)
    deadline = time.monotonic() + timeout
    while not wait([future], 0.25).done:
        if client.status != "running":
            future.cancel()
            raise ConnectionError(CONNECTION_LOST)
        if time.monotonic() > deadline:
            future.cancel()
            raise TimeoutError(f"no answer from the scheduler within {timeout:.0f} s")
    try:
        return future.result()
    except Exception as error:
        if client.status != "running":  # a closed client fails in various ways
            raise ConnectionError(CONNECTION_LOST) from error
        raise
