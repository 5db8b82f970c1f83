"""What a run asks the workers and the scheduler of its cluster, in their own processes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from skjob.environment.pod.requirements import installed
from skjob.environment.reproducibility import compare, local_profile
from skjob.utils.dask_client import call_method, wait_result

ASK_TIMEOUT = 10.0
"""Seconds that a worker or the scheduler gets to answer."""


def ask_a_worker(client: Any, question: Callable[[], Any]) -> Any:
    """Return what a function returns on one worker.

    One speaks for all: they share an image, and each has compared its environment with what is needed.

    Raises:
        OSError, TimeoutError: the worker is just disconnecting.
    """
    worker = next(iter(call_method(client, client.nthreads, ASK_TIMEOUT)), None)
    if worker is None:
        raise ConnectionError("it has gone")
    asking = client.run(question, workers=[worker], asynchronous=True)
    return wait_result(client, asking, ASK_TIMEOUT)[worker]


def installed_on_workers(client: Any) -> dict[str, str]:
    """Return the version of each distribution on the workers. Raises as `ask_a_worker`."""
    found: dict[str, str] = ask_a_worker(client, installed)
    return found


def compare_numbers(client: Any) -> dict[str, Any]:
    """Return whether workers compute the same numbers as this machine; empty if the worker that is asked goes away."""
    with suppress(Exception):
        return compare(local_profile(), ask_a_worker(client, local_profile))
    return {}


def count_peak_memory(client: Any) -> None:
    """Let each worker report its peak memory from now on, also those that join later."""
    from skjob.deploy.scaling.peak_memory import PeakMemory
    from skjob.engine.transfer.worker_plugins import register_plugin

    register_plugin(client, PeakMemory())


def peak_memory(client: Any) -> dict[str, int]:
    """Return the most memory that each worker has used, by its name; the scaling loop knows of those that are gone."""
    from skjob.deploy.scaling.peak_memory import peak_of

    with suppress(Exception):
        asking = client.run(peak_of, on_error="ignore", asynchronous=True)
        return dict(wait_result(client, asking, ASK_TIMEOUT).values())
    return {}


def count_transitions(client: Any) -> int | None:
    """Return a number that grows with each task for a worker; None if the scheduler does not answer."""
    from skjob.deploy.scaling.scheduler import transitions

    with suppress(Exception):
        asking = client.run_on_scheduler(transitions, asynchronous=True)
        return int(wait_result(client, asking, ASK_TIMEOUT))
    return None
