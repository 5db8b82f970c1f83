"""A client of a cluster that has started: connected, the only run on it, and with a worker that fits."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skjob.config.plan import JobSpec
from skjob.config.settings import Place
from skjob.deploy.base import Cluster, Problem, WorkerCounts
from skjob.deploy.kubernetes.run_lock import lock_cluster, new_lock
from skjob.environment.pod.requirements import installed
from skjob.environment.version_check import check_installed, check_pins, check_versions
from skjob.errors import StartError, Unanswered, in_a_line
from skjob.run.budget import RunBudget
from skjob.run.run import Run
from skjob.run.target import ChosenCluster
from skjob.run.worker_queries import ASK_TIMEOUT, installed_on_workers
from skjob.utils.dask_client import CONNECTION_LOST, call_method, is_closed
from skjob.utils.reconnect import set_reconnect_timeout

if TYPE_CHECKING:
    from skjob.environment.spec import EnvironmentSpec

_POLL_INTERVAL = 0.1
_CONNECT_TIMEOUT = 30


@dataclass(frozen=True)
class Connection:
    """A run with a Dask client of its cluster, which can take work.

    `workers` are those that were there first, and `seconds` is how long they took to come.
    """

    run: Run
    cluster: Cluster
    client: Any
    workers: WorkerCounts
    seconds: float


@contextmanager
def start_and_connect(
    chosen: ChosenCluster, *, budget: RunBudget | None = None, default: bool = False
) -> Iterator[Connection]:
    """Start the cluster and connect to it: for this run alone, with a worker that has the run's environment.

    Each of the three waits is a step of the run, and ends when `budget` does. For `default` see `connect_client`.

    Raises:
        SkjobError: see `Cluster.start`, `connect_client`, `acquire_lock` and `first_worker`.
    """
    run, cluster, reused = chosen.run, chosen.cluster, chosen.reused
    step, plan = run.observer.step, run.plan
    began = time.monotonic()
    with step("start the scheduler" if reused is None else "find the cluster"):
        cluster.start(budget.check if budget is not None else lambda: None)
    with ExitStack() as stack:
        with step("connect"):
            client = stack.enter_context(connect_client(cluster, default=default))
            set_reconnect_timeout(client, plan.reconnect_timeout)
            acquire_lock(client, run.job, chosen)
            if reused is not None:
                _forget_others_credentials(client, reused.name)
        with step("wait for the first worker"):
            # On this machine all of the first come at once.
            first = plan.workers.first if plan.place is Place.LOCAL else 1
            counts = first_worker(run, cluster, client, budget, first)
        seconds = time.monotonic() - began
        if reused is not None and run.environment is not None:
            _check_pins(client, run.environment, reused.name)
        yield Connection(run, cluster, client, counts, seconds)


@contextmanager
def connect_client(cluster: Cluster, *, default: bool = False) -> Iterator[Any]:
    """Connect a client to the cluster's scheduler; with `default`, it is the one that this process's programs find.

    Raises:
        StartError: the scheduler does not answer.
    """
    from distributed import Client

    security = cluster.tls.security()
    try:
        with _quiet_about_versions():
            client = Client(cluster.address, security=security, timeout=_CONNECT_TIMEOUT, set_as_default=default)
    except (OSError, TimeoutError) as error:
        raise StartError(
            f"the scheduler of `{cluster.name}` does not answer: {error}", "`skjob run -v` shows its log"
        ) from error
    try:
        yield client
    finally:
        with suppress(Exception):  # the connection may be the very thing that was lost
            client.close(timeout=2)


@contextmanager
def _quiet_about_versions() -> Iterator[None]:
    """Silence distributed's warnings of any difference between versions: `check_versions` judges those that matter."""
    from distributed.versions import VersionMismatchWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VersionMismatchWarning)
        yield


def acquire_lock(client: Any, job: JobSpec, chosen: ChosenCluster) -> None:
    """Keep other runs off the cluster; of one that stood before, others can see who uses it.

    Raises:
        ClusterLocked: another run uses it.
    """
    ours = new_lock(job.path.name if job.module is None else job.name)
    lock_cluster(client, ours, chosen.cluster.name)
    if (reused := chosen.reused) is not None:
        reused.use(ours)
        if chosen.run.plan.workers.first > reused.requested():
            reused.add_workers(chosen.run.plan.workers.first)


@contextmanager
def as_start_error(cluster: str) -> Iterator[None]:
    """Raise StartError for a scheduler that is lost before the program begins."""
    try:
        yield
    except (OSError, TimeoutError) as error:
        raise _lost(cluster, in_a_line(error)) from error


def _lost(cluster: str, why: str, hint: str = "") -> StartError:
    return StartError(
        f"the scheduler of `{cluster}` does not answer any more: {why}",
        hint or "run it again; `skjob doctor` looks for causes in the cluster",
    )


def first_worker(
    run: Run, cluster: Cluster, client: Any, budget: RunBudget | None = None, first: int = 1
) -> WorkerCounts:
    """Wait until the `first` workers are connected, and compare versions with ours before they get any work.

    Raises:
        StartError: there is none within `--start-timeout`, or can never be, with the cause, if the cluster knows it; or
            the client has given up its scheduler; or its versions do not work with ours.
        DeadlineError: `budget` is used up meanwhile.
    """
    counts = _wait_for_workers(run, cluster, client, budget, first)
    with as_start_error(cluster.name):
        versions = call_method(client, client.get_versions, ASK_TIMEOUT)
    for difference in check_versions(versions):
        run.observer.notify(difference)
    with suppress(OSError, TimeoutError):  # the worker that is asked goes away just now
        for difference in check_installed(installed(), installed_on_workers(client)):
            run.observer.notify(difference)
    return counts


def _wait_for_workers(run: Run, cluster: Cluster, client: Any, budget: RunBudget | None, first: int) -> WorkerCounts:
    timeout = run.plan.start_timeout
    deadline = time.monotonic() + timeout
    last_look = 0.0
    connected = 0
    problems: list[Problem] = []
    unanswered: list[Problem] = []
    while True:
        with suppress(OSError):  # a connection that breaks is made again
            connected = len(call_method(client, client.ncores, ASK_TIMEOUT))
        if connected >= first:
            return _count_workers(cluster, connected)
        if budget is not None:
            budget.check()
        if time.monotonic() - last_look > 0.5:
            try:
                problems, unanswered = cluster.pending_problems(), []
            except Unanswered as error:  # it may come back while there is time: until then, what it last said counts
                unanswered = [Problem(error.message, error.hint)]
            last_look = time.monotonic()
        for problem in problems:
            run.observer.notify(str(problem))
        if is_closed(client):
            known = unanswered[0] if unanswered else Problem(CONNECTION_LOST, "")
            raise _lost(cluster.name, known.message, known.hint)
        if time.monotonic() > deadline:
            counts = _count_workers(cluster, connected)
            causes = [*problems, *unanswered]
            cause = f": {causes[0].message}" if causes else ""
            hint = "give it more time, or ask for smaller workers with `--worker-cpu` and `--worker-memory`"
            raise StartError(
                f"no worker within `--start-timeout`, {timeout:.0f} s ({counts}){cause}",
                (causes[0].hint if causes else "") or hint,
            )
        time.sleep(_POLL_INTERVAL)


def _count_workers(cluster: Cluster, connected: int) -> WorkerCounts:
    """Count workers; if the API is unreachable, count connected workers as running."""
    running = connected
    with suppress(Unanswered):
        running = cluster.running()
    return WorkerCounts(cluster.requested(), running, connected)


def _forget_others_credentials(client: Any, name: str) -> None:
    """Remove the variables and credentials of a run that died on this cluster: they are not for this run's tasks."""
    from skjob.run.program.storage_credentials import forget

    try:
        forget(client)
    except (OSError, TimeoutError) as error:
        raise StartError(
            f"the workers of `{name}` cannot remove an earlier run's variables and credentials: {error}",
            "try again, or run on a cluster of its own: leave out its name",
        ) from error


def forget_credentials(client: Any) -> None:
    """Remove this run's variables and credentials from a cluster that it leaves; if that fails, the next run does."""
    from skjob.run.program.storage_credentials import forget

    with suppress(Exception):
        forget(client)


def _check_pins(client: Any, environment: EnvironmentSpec, cluster: str) -> None:
    """Check that a cluster that stood before has what the run needs.

    Raises:
        StartError: it lacks something, or does not say what it has.
    """
    try:
        there = installed_on_workers(client)
    except (OSError, TimeoutError) as error:
        raise StartError(f"no worker of `{cluster}` reports its packages: {in_a_line(error)}", "try again") from error
    check_pins(environment.pins, there, cluster)
