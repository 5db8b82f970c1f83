"""Enter the engines to compare: each is a joblib backend under a name, with workers that are ready when it is entered.

skjob and stock joblib+Dask use the same cluster (`cluster.py`), each with its own settings and its own way to scale.
dask-ml uses that of stock Dask. loky and Ray start their own workers; `threads` is what scikit-learn does by default.
Ray counts as many cores as there are workers, because tasks that sleep need none.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import joblib

from engine.cluster import ClusterSpec, cluster_process

OURS = "skjob"
ON_DASK = ("skjob", "dask", "dask-ml")
FIRST_WORKER_TIMEOUT = 120.0
"""Seconds for a peer's first worker; stock joblib gives up after 10 by default."""


def missing(peer: str) -> bool:
    """Return whether this peer is not installed."""
    module = {"ray": "ray", "dask-ml": "dask_ml"}.get(peer)
    return module is not None and importlib.util.find_spec(module) is None


@contextmanager
def engine(
    peer: str, workers: int, maximum: int = 0, *, delay: float = 0.0, scaled: bool = False, **settings: Any
) -> Iterator[Any]:
    """Send joblib's work within the block to this peer. Return the Dask client if there is one.

    `workers` are ready when the block is entered; if `scaled`, `maximum` may come, `delay` seconds after they were
    requested. `settings` are passed to skjob's backend.
    """
    maximum = maximum or workers
    if peer in ON_DASK:
        scaling = "none" if not scaled else "skjob" if peer == OURS else "adapt"
        spec = ClusterSpec(workers, maximum, delay, scaling, ours=peer == OURS)
        with (
            cluster_process(spec) as address,
            _client(address, workers) as client,
            _on(peer, client, maximum, settings),
        ):
            yield client
    elif peer == "ray":
        with _ray(workers):
            yield None
    elif peer == "threads":
        with joblib.parallel_config(n_jobs=workers):
            yield None
    else:
        with joblib.parallel_config(backend=peer, n_jobs=workers):
            yield None


def warm_up(workers: int, parallel: joblib.Parallel | None = None) -> None:
    """Let every worker run something, so that imports are done."""
    (parallel or joblib.Parallel())(joblib.delayed(time.sleep)(0.2) for _ in range(4 * workers))


def connect(address: str) -> Any:
    """Return a client of the cluster at this address."""
    from distributed import Client

    return Client(address)


def backend(peer: str, client: Any, maximum: int, **settings: Any) -> Any:
    """Return the context in which joblib's work goes to this client's cluster."""
    if peer == OURS:
        from skjob.engine.backend import SkjobBackend

        return joblib.parallel_config(backend=SkjobBackend(client, width=maximum, **settings), n_jobs=-1)
    return joblib.parallel_config(backend="dask", wait_for_workers_timeout=FIRST_WORKER_TIMEOUT, n_jobs=-1)


@contextmanager
def _client(address: str, workers: int) -> Iterator[Any]:
    with connect(address) as client:
        if workers:
            client.wait_for_workers(workers, timeout=FIRST_WORKER_TIMEOUT)
        yield client


@contextmanager
def _on(peer: str, client: Any, maximum: int, settings: dict[str, Any]) -> Iterator[None]:
    with backend(peer, client, maximum, **settings):
        yield


@contextmanager
def _ray(workers: int) -> Iterator[None]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.util.joblib import register_ray

    ray.init(num_cpus=workers, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    register_ray()
    try:
        with joblib.parallel_config(backend="ray", n_jobs=workers):
            yield
    finally:
        ray.shutdown()
