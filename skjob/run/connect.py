"""A client of a cluster that has started: connected, the only run on it, and with a worker that fits."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skjob.config.plan import JobSpec
from skjob.config.settings import Place
from skjob.deploy.base import Cluster, Problem, WorkerCounts
from skjob.deploy.kubernetes.run_lock import acquire, new_lock
from skjob.environment.pod.requirements import installed
from skjob.environment.version_check import check_installed, check_pins, check_versions
from skjob.errors import StartError, Unanswered, in_a_line
from skjob.run.budget import RunBudget
from skjob.run.target import ChosenCluster
from skjob.utils.dask_client import CONNECTION_LOST, call_method, is_closed, wait_result
from skjob.utils.reconnect import set_reconnect_timeout

if TYPE_CHECKING:
    from skjob.environment.spec import EnvironmentSpec

POLL = 0.1
CONNECT_TIMEOUT = 30
ASK_TIMEOUT = 10.0


@dataclass(frozen=True)
class Connection:
    """A Dask client of a cluster that can take work, the workers there were then, and the seconds that it took."""

    client: Any
    workers: WorkerCounts
    seconds: float


@contextmanager
def start_and_connect(
    chosen: ChosenCluster,
    job: JobSpec,
    wanted: EnvironmentSpec | None,
    note: Callable[[str], None],
    *,
    default: bool = False,
    limit: RunBudget | None = None,
    step: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> Iterator[Connection]:
    """Start the cluster and connect to it: ours alone, with a worker that has what `wanted` says.

    `step` is entered for each of the three waits, with its name. For `default` see `connect`.

    Raises:
        SkjobError: see `Cluster.start`, `connect`, `acquire_lock` and `first_worker`.
    """
    cluster, plan, kept = chosen.cluster, chosen.plan, chosen.kept
    began = time.monotonic()
    with step("start the scheduler" if kept is None else "find the cluster"):
        cluster.start(limit.check if limit is not None else lambda: None)
    with ExitStack() as stack:
        with step("connect"):
            client = stack.enter_context(connect(cluster, default=default))
            set_reconnect_timeout(client, plan.reconnect_timeout)
            acquire_lock(client, job, chosen)
            if kept is not None:
                _forget_others_credentials(client, kept.name)
        with step("wait for the first worker"):
            # On this machine all of the first come at once.
            first = plan.workers.first if plan.place is Place.LOCAL else 1
            counts = first_worker(cluster, client, plan.start_timeout, note, limit, first)
        seconds = time.monotonic() - began
        if kept is not None and wanted is not None:
            _check_pins(client, wanted, kept.name)
        yield Connection(client, counts, seconds)


@contextmanager
def connect(cluster: Cluster, *, default: bool = False) -> Iterator[Any]:
    """A client of the cluster's scheduler; with `default`, the one that this process's programs find."""
    from distributed import Client

    security = cluster.tls.security()
    try:
        with _quiet_about_versions():
            client = Client(cluster.address, security=security, timeout=CONNECT_TIMEOUT, set_as_default=default)
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
    """Distributed warns of every difference, also of one in the last digit of Python's; `check_versions` judges."""
    from distributed.versions import VersionMismatchWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VersionMismatchWarning)
        yield


def acquire_lock(client: Any, job: JobSpec, chosen: ChosenCluster) -> None:
    """No other run may use the cluster meanwhile; of one that was left, others see who does."""
    ours = new_lock(job.path.name if job.module is None else job.name)
    acquire(client, ours, chosen.cluster.name)
    if (kept := chosen.kept) is not None:
        kept.use(ours)
        if chosen.plan.workers.first > kept.requested():
            kept.add_workers(chosen.plan.workers.first)


@contextmanager
def as_start_error(cluster: str) -> Iterator[None]:
    """A scheduler that is lost before the program begins is an error of the start. Raises StartError."""
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
    cluster: Cluster,
    client: Any,
    timeout: float,
    note: Callable[[str], None],
    limit: RunBudget | None = None,
    first: int = 1,
) -> WorkerCounts:
    """Wait until the `first` workers are connected, and compare versions with ours before they get any work.

    Raises:
        StartError: there is none within `timeout` seconds, or can never be, with the cause, if the cluster knows it; or
            the client has given up its scheduler; or it has versions that can't work with ours.
        DeadlineError: `limit` is reached meanwhile.
    """
    counts = _wait_for_workers(cluster, client, timeout, note, limit, first)
    with as_start_error(cluster.name):
        versions = call_method(client, client.get_versions, ASK_TIMEOUT)
    for difference in check_versions(versions):
        note(difference)
    with suppress(OSError, TimeoutError):  # the worker that is asked goes just now
        for difference in check_installed(installed(), _installed_there(client)):
            note(difference)
    return counts


def _wait_for_workers(
    cluster: Cluster, client: Any, timeout: float, note: Callable[[str], None], limit: RunBudget | None, first: int
) -> WorkerCounts:
    deadline = time.monotonic() + timeout
    last_look = 0.0
    connected = 0
    problems: list[Problem] = []
    away: list[Problem] = []
    while True:
        with suppress(OSError):  # a connection that breaks is made again
            connected = len(call_method(client, client.ncores, ASK_TIMEOUT))
        if connected >= first:
            return _counts(cluster, connected)
        if limit is not None:
            limit.check()
        if time.monotonic() - last_look > 0.5:
            try:
                problems, away = cluster.pending_problems(), []
            except Unanswered as error:  # it may come back while there is time: until then, what it last told counts
                away = [Problem(error.message, error.hint)]
            last_look = time.monotonic()
        for problem in problems:
            note(str(problem))
        if is_closed(client):
            known = away[0] if away else Problem(CONNECTION_LOST, "")
            raise _lost(cluster.name, known.message, known.hint)
        if time.monotonic() > deadline:
            counts = _counts(cluster, connected)
            whys = [*problems, *away]
            why = f": {whys[0].message}" if whys else ""
            hint = "give it more time, or ask for smaller workers with `--worker-cpu` and `--worker-memory`"
            raise StartError(
                f"no worker within `--start-timeout`, {timeout:.0f} s ({counts}){why}",
                (whys[0].hint if whys else "") or hint,
            )
        time.sleep(POLL)


def _counts(cluster: Cluster, connected: int) -> WorkerCounts:
    """Of an API that is away, what those that are connected tell: they run."""
    running = connected
    with suppress(Unanswered):
        running = cluster.running()
    return WorkerCounts(cluster.requested(), running, connected)


def _forget_others_credentials(client: Any, name: str) -> None:
    """Of a run that died on this cluster: its tasks' way to data is not for ours."""
    from skjob.run.program.storage_credentials import forget

    try:
        forget(client)
    except (OSError, TimeoutError) as error:
        raise StartError(
            f"the workers of `{name}` don't let go of an earlier run's storage credentials: {error}",
            "try again, or run on a cluster of its own: leave out its name",
        ) from error


def forget_credentials(client: Any) -> None:
    """Those of this run, whose cluster is left; where that can't be, the next run does it first."""
    from skjob.run.program.storage_credentials import forget

    with suppress(Exception):
        forget(client)


def _check_pins(client: Any, wanted: EnvironmentSpec, cluster: str) -> None:
    """On a cluster that was there before. Raises StartError where it lacks something, or does not tell what it has."""
    try:
        there = _installed_there(client)
    except (OSError, TimeoutError) as error:
        raise StartError(f"no worker of `{cluster}` tells what it has: {in_a_line(error)}", "try again") from error
    check_pins(wanted.pins, there, cluster)


def _installed_there(client: Any) -> dict[str, str]:
    found: dict[str, str] = ask_a_worker(client, installed)
    return found


def ask_a_worker(client: Any, question: Callable[[], Any]) -> Any:
    """One speaks for all: they are of one image, and each has compared its environment with what is needed.

    Raises OSError or TimeoutError where it goes just now.
    """
    worker = next(iter(call_method(client, client.nthreads, ASK_TIMEOUT)), None)
    if worker is None:
        raise ConnectionError("it has gone")
    asking = client.run(question, workers=[worker], asynchronous=True)
    return wait_result(client, asking, ASK_TIMEOUT)[worker]
