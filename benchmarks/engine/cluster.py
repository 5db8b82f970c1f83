"""Run a LocalCluster in a process of its own, with its scheduler, nannies, and a scaling loop.

As in `skjob run`, and as on Kubernetes, the scheduler shares neither a process nor its lock with the client. Workers
can be made to come as late as pods do: their processes start at once, so that eight imports on two cores are done in
time, and join the scheduler `delay` seconds after they were requested. A setting chooses the scaling: none, skjob's own
loop, or distributed's `adapt`, as a user of stock joblib and Dask would have it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from engine.measure import command_of, environment

JOINS_AT = "SKJOB_BENCHMARK_JOINS_AT"
START_TIMEOUT, CLOSE_TIMEOUT = 60.0, 30.0


@dataclass(frozen=True)
class ClusterSpec:
    """What to start: `workers` from the beginning, with one thread each, and `maximum` that may come.

    `delay` is in seconds. `scaling` is "none", "skjob" or "adapt"; `ours` sets what skjob sets on its clusters.
    """

    workers: int
    maximum: int
    delay: float = 0.0
    scaling: str = "none"
    ours: bool = False


async def dask_setup(worker: Any) -> None:
    """Hold a late worker, which is ready, until a pod would be. Called by distributed as a preload."""
    await asyncio.sleep(float(os.environ[JOINS_AT]) - time.time())


class _Shared:
    """Addresses of clusters that stay from one measurement to the next; None if each measurement has its own."""

    addresses: dict[ClusterSpec, str] | None = None
    stack = ExitStack()


@contextmanager
def shared_clusters() -> Iterator[None]:
    """Let measurements within the block share clusters of the same kind that do not scale."""
    _Shared.addresses = {}
    with _Shared.stack:
        yield
    _Shared.addresses = None


@contextmanager
def cluster_process(spec: ClusterSpec) -> Iterator[str]:
    """Return the address of a scheduler: of a shared cluster, or of one that ends with the block."""
    if _Shared.addresses is None or spec.scaling != "none":
        with _started(spec) as address:
            yield address
        return
    if spec not in _Shared.addresses:
        _Shared.addresses[spec] = _Shared.stack.enter_context(_started(spec))
    yield _Shared.addresses[spec]


@contextmanager
def _started(spec: ClusterSpec) -> Iterator[str]:
    """Start the process and return its scheduler's address. It ends with the block, and all it started with it."""
    process = subprocess.Popen(
        command_of("engine.cluster", json.dumps(asdict(spec))),
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError("the cluster's process ended before it had a scheduler")
        yield address
    finally:
        process.stdin.close()
        try:
            process.wait(CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _serve(spec: ClusterSpec) -> None:
    import dask
    from distributed import LocalCluster, Nanny
    from distributed.deploy.spec import ProcessInterface

    class Pod(ProcessInterface):  # type: ignore[misc]
        """A requested worker: an object at once, and connected to the scheduler `delay` seconds later."""

        def __init__(self, scheduler: str, name: Any = None, **options: Any) -> None:
            super().__init__(scheduler, name)
            joins_at = str(time.time() + (spec.delay if _late(name) else 0.0))
            self._nanny = Nanny(scheduler, name=name, preload=["engine.cluster"], env={JOINS_AT: joins_at}, **options)
            self._starting: asyncio.Task[Any] | None = None

        async def start(self) -> None:
            self._starting = asyncio.ensure_future(self._nanny.start())
            await super().start()

        async def close(self, **_: Any) -> None:
            await super().close()
            self._ending = asyncio.ensure_future(self._end())

        async def _end(self) -> None:
            if self._starting is not None:
                await asyncio.wait([self._starting])
            await self._nanny.close(timeout=2)

    def _late(name: Any) -> bool:
        return not (isinstance(name, int) and name < spec.workers)

    settings = {"distributed.scheduler.active-memory-manager.start": False} if spec.ours else {}
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=spec.workers,
            threads_per_worker=1,
            memory_limit="3GiB",
            protocol="tcp://",
            worker_class=Pod if spec.delay else None,
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
            silence_logs=logging.ERROR,
        ) as cluster,
    ):
        loop = _scale(cluster, spec)
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
        if loop is not None:
            loop.stop()


def _scale(cluster: Any, spec: ClusterSpec) -> Any:
    """Start to scale. Return what to stop at the end."""
    if spec.scaling == "adapt":
        cluster.adapt(minimum=spec.workers, maximum=spec.maximum)
    if spec.scaling != "skjob":
        return None
    from distributed import Client

    from skjob.config.settings import WorkerRange
    from skjob.deploy.scaling.loop import ScalingLoop

    loop = ScalingLoop(
        Pods(cluster, spec.workers),
        Client(cluster, set_as_default=False),
        WorkerRange(spec.workers, spec.maximum),
        1,
        60.0,
        observe=lambda counts: None,
        progress=lambda progress: None,
        notify=lambda text: None,
        lost=lambda error: print(error, file=sys.stderr),
        usual_start=spec.delay,
    )
    loop.start()
    return loop


class Pods:
    """Implements the part of `skjob.deploy.base.Cluster` that a scaling loop uses, over a cluster of late workers."""

    name = "benchmark"

    def __init__(self, cluster: Any, workers: int) -> None:
        self._cluster = cluster
        self._requested = workers

    def add_workers(self, total: int) -> None:
        """Ask for workers until there are `total`."""
        self._requested = max(self._requested, total)
        self._cluster.scale(self._requested)

    def remove_workers(self, names: list[str]) -> None:
        """End these workers and no others."""
        by_name = {str(name): name for name in self._cluster.worker_spec}
        self._cluster.sync(self._cluster.scale_down, [by_name[name] for name in names if name in by_name])
        self._requested -= len(names)

    def cancel_pending(self, maximum: int, connected: list[str]) -> None:
        """End up to so many workers that have not joined."""
        self.remove_workers([str(name) for name in self._cluster.worker_spec if str(name) not in connected][-maximum:])

    def requested(self) -> int:
        """How many workers were asked for."""
        return self._requested

    def running(self) -> int:
        """How many worker processes run."""
        return len(self._cluster.workers)

    def pending_problems(self) -> list[str]:
        """None are simulated."""
        return []


if __name__ == "__main__":
    _serve(ClusterSpec(**json.loads(sys.argv[1])))
