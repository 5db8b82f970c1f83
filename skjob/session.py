"""The story of a run: acquire a cluster, run the program on it, collect what happened, release everything.

`run` reads from top to bottom. Whatever ends it, an error, a signal or the program itself, takes the same way out:
the record says how it ended, the cluster is removed, and the exit status is the program's own or one of
`skjob.errors`. Nothing here prints; `tell` takes events for whoever shows them.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from skjob import config
from skjob.answers import answer
from skjob.cluster.base import Cluster, WorkerCounts
from skjob.cluster.claim import claim_of, take
from skjob.cluster.names import RunNames, new_run_id
from skjob.config import Layer, Place, Settings, WorkerRange
from skjob.environment.needs import installed
from skjob.environment.numbers import compare, ground_here
from skjob.environment.versions import check_pins, check_versions
from skjob.errors import (
    INTERNAL_FAULT,
    AccessError,
    CleanupFailed,
    ClusterLost,
    ConfigError,
    DeadlineError,
    OperatorError,
    SkjobError,
    StartError,
)
from skjob.mailbox import Reader
from skjob.plan import JobSpec, Machine, Plan, make_plan
from skjob.program import Assignment, Program, check_script
from skjob.record.record import FITS_FOLDER, Event, Record, Recorder
from skjob.scaling.loop import Progress, ScalingLoop

if TYPE_CHECKING:
    from skjob.cluster.api import Api
    from skjob.environment.wanted import Wanted

Tell = Callable[[Event], None]
POLL = 0.1
CONNECT_TIMEOUT = 30
ASK_TIMEOUT = 10.0
LEAST_PATIENCE = 30.0
"""Seconds without a word from scheduler or API that any run survives; half the grace, where that is longer."""
UNSEEN = 5.0
"""Seconds without a word from the scheduler after which a program that fails has failed for that."""


class Stopped(BaseException):
    """A signal asked the run to end. A BaseException, so that no handler for errors takes it for one."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass(frozen=True)
class Ground:
    """Where a run takes place: the place, why there, the settings, and the API where it is Kubernetes."""

    place: Place
    reason: str
    settings: Settings
    api: Api | None = None


def run(
    job: JobSpec,
    layers: Sequence[Layer],
    *,
    keep: bool,
    resume: bool,
    tell: Tell,
    ended: Callable[[Record], None],
    folder: Path,
    name: str | None = None,
) -> int:
    """Run a program on a cluster and take everything down again; the exit status.

    `name` is a cluster that `--keep` has left: it is used, and stays. `ended` gets the record of a run that had one,
    however it ended.

    Raises:
        SkjobError: the run could not begin, or its cluster was lost, or not all of it could be removed.
    """
    check(job)
    recorder = Recorder(new_run_id(), str(job.path), job.arguments, folder, tell)
    recorder.begin()
    outcome = recorder.record.outcome
    try:
        with Signals() as signals:
            try:
                _run_and_release(job, layers, recorder, signals, keep=keep, resume=resume, name=name)
            except Stopped as stopped:  # between two steps, where nothing else takes it
                _end_stopped(recorder, stopped)
    finally:
        ended(recorder.record)
    return outcome.exit_code or 0


def _run_and_release(
    job: JobSpec,
    layers: Sequence[Layer],
    recorder: Recorder,
    signals: Signals,
    *,
    keep: bool,
    resume: bool,
    name: str | None,
) -> None:
    stack = ExitStack()
    try:
        code = _run(job, layers, recorder, stack, signals, keep=keep, resume=resume, name=name)
        recorder.end("succeeded" if code == 0 else "failed", code, None)
    except Stopped as stopped:
        _end_stopped(recorder, stopped)
    except SkjobError as error:
        recorder.end("error", error.exit_code, error.message)
        raise
    except Exception as error:
        recorder.end("error", INTERNAL_FAULT, f"{type(error).__name__}: {error}")
        raise
    finally:
        _release(stack, recorder, signals)


def _end_stopped(recorder: Recorder, stopped: Stopped) -> None:
    recorder.end("stopped", 128 + stopped.number, f"stopped by {signal.Signals(stopped.number).name}")


def check(job: JobSpec) -> None:
    """Everything that can be known of the program before anything starts. Raises ConfigError."""
    if job.declared:
        from skjob.jobfile import read_job

        read_job(job.path)
    else:
        check_script(job.path)


def _run(
    job: JobSpec,
    layers: Sequence[Layer],
    recorder: Recorder,
    stack: ExitStack,
    signals: Signals,
    *,
    keep: bool,
    resume: bool,
    name: str | None,
) -> int:
    began = time.monotonic()
    ground = find_ground(layers)
    # Not for `skjob.cluster`, which may be used in any folder.
    settings = replace(ground.settings, checkpoint=ground.settings.checkpoint or str(FITS_FOLDER))
    plan = make_plan(settings, ground.place, ground.reason, this_machine(), python_minor())
    recorder.record.place, recorder.record.why = plan.place, plan.why
    recorder.note(plan.why)
    if keep and plan.place is Place.LOCAL:
        raise ConfigError("`--keep` needs a cluster that outlives skjob", f"leave it out: {plan.why}")
    if resume and plan.checkpoint is None:
        raise ConfigError("`--resume` takes fits that were kept, and `--checkpoint none` keeps none", "leave one out")
    if plan.checkpoint is not None and ground.settings.checkpoint is not None:
        _check_store(plan.checkpoint, recorder.record.run_id)
    placement = _place_data(job, plan, recorder)
    deadline = None if plan.max_time is None else began + plan.max_time

    private = Path(stack.enter_context(_private_folder()))
    program = Program()  # imports while the cluster starts
    stack.callback(program.close)
    wanted = wanted_by(plan, job)
    if name is None:
        cluster = make_cluster(job, recorder.record.run_id, plan, ground, private, recorder.note, wanted, keep=keep)
    else:
        cluster = _kept_cluster(name, ground, plan, private, recorder.note)
        plan = replace(plan, workers=WorkerRange(cluster.asked(), cluster.asked()))
    leaves = keep or name is not None
    stack.callback(_Closing(cluster, recorder, signals, "leave the cluster" if leaves else "remove the cluster"))
    recorder.record.cluster = _described(cluster.name, plan, ground)
    with _within(deadline, plan.max_time):
        asked = time.monotonic()
        with recorder.step("start the scheduler"):
            cluster.start()
        with recorder.step("connect"):
            client = stack.enter_context(connect(cluster))
            take(client, claim_of(job.path.name), cluster.name)
        with recorder.step("wait for the first worker"):
            recorder.workers(first_worker(cluster, client, plan.start_timeout, recorder.note))
        took = time.monotonic() - asked
    _note_peaks(client)
    recorder.record.numbers = _numbers(client)
    recorder.record.cluster["environment"] = cluster.environment
    if wanted is not None and name is not None:
        check_pins(wanted.pins, _installed_there(client), name)

    watch = _Watch(cluster.name)
    stack.enter_context(
        _watched(
            cluster, client, plan, took, recorder.workers, recorder.progress, recorder.note, watch, recorder.memory
        )
    )
    program.begin(
        Assignment(
            path=str(job.path),
            arguments=job.arguments,
            declared=job.declared,
            folder=str(private),
            address=cluster.address,
            width=plan.width,
            wait_for_workers=plan.start_timeout,
            run=recorder.record.run_id,
            checkpoint=plan.checkpoint,
            resume=resume,
            packages=_packages_file(wanted, private),
            placement=placement,
        )
    )
    mail = Mail(private, recorder)
    code: int | None = None
    with recorder.step("run the program"):
        try:
            code = supervise(program, watch, deadline, plan.max_time, mail.read)
        except Stopped as stopped:
            signals.note_only()
            program.stop(stopped.number, lambda: signals.hurried)
            raise
        except SkjobError:
            program.stop(signal.SIGTERM)
            raise
        finally:
            mail.read()
            if code == 0:
                recorder.memory(_peaks(client))
            for line in _of_fits(recorder.record.fits, finished=code == 0):
                recorder.note(line)
    return code


def _of_fits(fits: dict[str, int], *, finished: bool) -> list[str]:
    if not fits:
        return []
    from skjob.engine.tally import Tally

    return Tally(**fits).lines(finished=finished)


def _check_store(address: str, run_id: str) -> None:
    """Before anything starts. Raises ConfigError where no fit can be kept at this address."""
    from skjob.engine.checkpoint import FitStore

    FitStore(address, run_id)


def wanted_by(plan: Plan, job: JobSpec) -> Wanted | None:
    """The environment that pods must have. This machine's workers have the one they are started in."""
    if plan.place is Place.LOCAL:
        return None
    from skjob.environment.wanted import wanted_environment

    return wanted_environment(plan.env, job)


def _packages_file(wanted: Wanted | None, private: Path) -> str | None:
    """With the distributions that are local here, for the program to send; None where there are none."""
    if wanted is None or not wanted.packages:
        return None
    file = private / "packages.zip"
    file.write_bytes(wanted.packages)
    return str(file)


def _numbers(client: Any) -> dict[str, Any]:
    """Whether they are those of a local run. Nothing where the worker that is asked goes just now."""
    with suppress(Exception):
        return compare(ground_here(), _ask_a_worker(client, ground_here))
    return {}


def _installed_there(client: Any) -> dict[str, str]:
    found: dict[str, str] = _ask_a_worker(client, installed)
    return found


def _ask_a_worker(client: Any, question: Callable[[], Any]) -> Any:
    """One speaks for all: they are of one image, and each has compared its environment with what is needed."""
    worker = next(iter(client.nthreads()))
    asking = client.run(question, workers=[worker], asynchronous=True)
    return answer(client, asking, ASK_TIMEOUT)[worker]


def _place_data(job: JobSpec, plan: Plan, recorder: Recorder) -> dict[str, Any] | None:
    """Where the data of a declared job goes; told, and in the record. Raises ConfigError where it fits in no way."""
    if not job.declared:
        return None
    from skjob.data.placement import Workers
    from skjob.declared import place_data
    from skjob.jobfile import read_job

    workers = Workers(plan.workers.maximum, plan.size.memory, plan.size.threads)
    placed = place_data(read_job(job.path), job.root, workers, shared_files=plan.place is Place.LOCAL)
    if placed is None:
        return None
    recorder.note(placed.why)
    recorder.record.data = asdict(placed)
    return recorder.record.data


def _note_peaks(client: Any) -> None:
    from skjob.engine.plugin import register
    from skjob.record.memory import PeakMemory

    register(client, PeakMemory())


def _peaks(client: Any) -> dict[str, int]:
    """The most memory that each worker has had up to now; of those that do not answer the loop has noted it."""
    from skjob.record.memory import peak_of

    with suppress(Exception):
        asking = client.run(peak_of, on_error="ignore", asynchronous=True)
        return dict(answer(client, asking, ASK_TIMEOUT).values())
    return {}


@contextmanager
def _within(deadline: float | None, max_time: float | None) -> Iterator[None]:
    """A start that fails after `--max-time` has failed because of it: each of its waits is no longer than that."""
    try:
        yield
    except StartError as error:
        if deadline is not None and time.monotonic() > deadline:
            raise _too_late(max_time) from error
        raise


def _too_late(max_time: float | None) -> DeadlineError:
    return DeadlineError(f"the run has reached `--max-time`, {max_time:.0f} s", "give it more, or more workers")


def _described(name: str, plan: Plan, ground: Ground) -> dict[str, Any]:
    """The cluster, for the record: sizes in cores and bytes."""
    described = {
        "name": name,
        "workers": str(plan.workers),
        "worker_threads": plan.size.threads,
        "worker_memory": plan.size.memory,
    }
    if ground.api is not None:
        described |= {
            "context": ground.api.context.name,
            "namespace": ground.api.context.namespace,
            "image": plan.image,
            "worker_cpu": plan.size.cpu,
        }
    return described


class Mail:
    """What the program tells, on its way into the record."""

    def __init__(self, folder: Path, recorder: Recorder) -> None:
        self._reader = Reader(folder)
        self._recorder = recorder

    def read(self) -> None:
        """Record what has come since the last time."""
        for letter in self._reader.news():
            if letter.kind == "note":
                self._recorder.note(letter.content)
            elif letter.kind == "fits":
                self._recorder.record.fits = letter.content
            elif letter.kind == "failure":
                self._recorder.record.outcome.cause = letter.content


def supervise(
    program: Program, watch: _Watch, deadline: float | None, max_time: float | None, read_mail: Callable[[], None]
) -> int:
    """Wait until the program has ended; its exit status. `read_mail` is called meanwhile.

    Raises:
        DeadlineError: `--max-time` is over.
        ClusterLost: the scheduler is gone, or the cluster can't be seen any more.
    """
    while True:
        code = program.wait(POLL)
        read_mail()
        if code is not None:
            # A program that ends because its cluster is gone may notice that sooner than we do.
            if code != 0 and watch.unseen_for() > UNSEEN:
                raise watch.gone()
            return code
        if watch.lost is not None:
            raise watch.lost
        if deadline is not None and time.monotonic() > deadline:
            raise _too_late(max_time)


@contextmanager
def open_cluster(job: JobSpec, layers: Sequence[Layer], name: str | None, note: Callable[[str], None]) -> Iterator[Any]:
    """A cluster for the length of a `with` block, with joblib's backend on it: the Python API behind `skjob.cluster`.

    `job` is the program that is running, `name` a cluster that `--keep` has left; it is used and stays. Yields the
    Dask client.
    """
    import joblib

    from skjob.boosters import prepare
    from skjob.engine.backend import SkjobBackend
    from skjob.engine.finished import FinishedFits
    from skjob.engine.modules import pack
    from skjob.engine.plugin import PACKAGES_PART, SCRIPT_PART, send_modules

    ground = find_ground(layers)
    plan = make_plan(ground.settings, ground.place, ground.reason, this_machine(), python_minor())
    note(plan.why)
    wanted = wanted_by(plan, job)
    fits = FinishedFits(plan.checkpoint, tell=note) if plan.checkpoint else None
    with ExitStack() as stack:
        private = stack.enter_context(_private_folder())
        if name is None:
            cluster = make_cluster(job, new_run_id(), plan, ground, private, note, wanted, keep=False)
        else:
            cluster = _kept_cluster(name, ground, plan, private, note)
        stack.callback(cluster.close)
        asked = time.monotonic()
        cluster.start()
        client = stack.enter_context(connect(cluster, default=True))
        take(client, claim_of(job.path.name), cluster.name)
        first_worker(cluster, client, plan.start_timeout, note)
        took = time.monotonic() - asked
        if wanted is not None and name is not None:
            check_pins(wanted.pins, _installed_there(client), name)
        if wanted is not None and wanted.packages:
            send_modules(client, PACKAGES_PART, wanted.packages)
        send_modules(client, SCRIPT_PART, pack(job.root).content)
        prepare(client, None if name else plan.width, note)
        if name is None:
            watch = _Watch(cluster.name, told=note)
            stack.enter_context(_watched(cluster, client, plan, took, lambda _: None, lambda _: None, note, watch))
        if fits is not None:
            stack.callback(fits.close)
        backend = SkjobBackend(client, None if name else plan.width, job.root, plan.start_timeout, fits)
        stack.enter_context(joblib.parallel_config(backend=backend, n_jobs=-1))
        yield client


def _kept_cluster(name: str, ground: Ground, plan: Plan, private: Path, note: Callable[[str], None]) -> Cluster:
    if ground.api is None:
        raise AccessError(
            f"`{name}` can't be reached: {ground.reason}", "name its context, with `--context` or `context=`"
        )
    from skjob.cluster.kube import KeptCluster

    return KeptCluster(ground.api, name, plan, private, note)


def find_ground(layers: Sequence[Layer]) -> Ground:
    """Where to run: Kubernetes where a context is there and has the Dask operator, or as asked; else this machine.

    Raises:
        AccessError, ForbiddenError, OperatorError: Kubernetes was asked for, by name, and can't be had.
    """
    settings = config.resolve(layers)
    if settings.on is Place.LOCAL:
        return Ground(Place.LOCAL, "`--on local`", settings)
    from skjob.cluster.api import connect as connect_api
    from skjob.cluster.defaults import read_defaults
    from skjob.cluster.install import has_operator

    try:
        api = connect_api(settings.context, settings.namespace)
        found = has_operator(api)
    except AccessError as error:
        if settings.on is Place.KUBERNETES or settings.context is not None:
            raise
        return Ground(Place.LOCAL, error.message, settings)
    context = api.context
    if not found:
        missing = f"the cluster of context `{context.name}` has no Dask operator"
        if settings.on is Place.KUBERNETES:
            raise OperatorError(missing, f"`skjob install --context {context.name}` installs it")
        return Ground(Place.LOCAL, missing, settings)
    settings = config.resolve([*layers, read_defaults(api)])
    return Ground(Place.KUBERNETES, f"context `{context.name}`, namespace `{context.namespace}`", settings, api)


def make_cluster(
    job: JobSpec,
    run_id: str,
    plan: Plan,
    ground: Ground,
    private: Path,
    note: Callable[[str], None],
    wanted: Wanted | None,
    *,
    keep: bool,
) -> Cluster:
    """The cluster that the plan calls for, not started yet."""
    names = RunNames(run_id, job.path.stem, getpass.getuser())
    if plan.place is Place.LOCAL:
        from skjob.cluster.local import LocalCluster

        return LocalCluster(names.cluster, private, plan.workers.first, plan.size, plan.retries)
    from skjob.cluster.kube import KubernetesCluster

    assert ground.api is not None  # noqa: S101 - there is no such ground without one
    return KubernetesCluster(ground.api, names, plan, private, note, wanted=wanted, keep=keep)


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
            f"the scheduler of `{cluster.name}` does not answer: {error}", "see its log with `-v`"
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


def first_worker(cluster: Cluster, client: Any, timeout: float, note: Callable[[str], None]) -> WorkerCounts:
    """Wait until a worker is connected, and compare its versions with ours before it gets any work.

    Raises:
        StartError: there is none within `timeout` seconds, or can never be, with the cause, if the cluster knows it; or
            it has versions that can't work with ours.
    """
    counts = _wait_for_a_worker(cluster, client, timeout, note)
    for difference in check_versions(client.get_versions()):
        note(difference)
    return counts


def _wait_for_a_worker(cluster: Cluster, client: Any, timeout: float, note: Callable[[str], None]) -> WorkerCounts:
    deadline = time.monotonic() + timeout
    last_look = 0.0
    connected = 0
    problems: list[str] = []
    while True:
        with suppress(OSError):  # a connection that breaks is made again
            connected = len(client.ncores())
        if connected:
            return WorkerCounts(cluster.asked(), cluster.running(), connected)
        if time.monotonic() - last_look > 0.5:
            problems = cluster.problems()
            last_look = time.monotonic()
        for problem in problems:
            note(problem)
        if time.monotonic() > deadline:
            counts = WorkerCounts(cluster.asked(), cluster.running(), connected)
            why = f": {problems[0]}" if problems else ""
            raise StartError(
                f"no worker within `--start-timeout`, {timeout:.0f} s ({counts}){why}",
                "give it more time, or ask for smaller workers with `--worker-cpu` and `--worker-memory`",
            )
        time.sleep(POLL)


def this_machine() -> Machine:
    """Cores that this process may use, and bytes of memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(cores, memory)


def python_minor() -> str:
    """This interpreter's version as images are tagged: `3.11`."""
    import sys

    return f"{sys.version_info.major}.{sys.version_info.minor}"


@contextmanager
def _private_folder() -> Iterator[Path]:
    """For certificates and sockets of this run: readable by this user alone, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="skjob-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Watch:
    """What the scaling loop has seen: `lost` is set, and `told`, when the cluster can't carry the run any more."""

    def __init__(self, cluster_name: str, told: Callable[[str], None] = lambda _: None) -> None:
        self._name = cluster_name
        self._told = told
        self.lost: SkjobError | None = None
        self.unseen_for: Callable[[], float] = lambda: 0.0

    def lose(self, error: Exception) -> None:
        """Called by the loop as it ends."""
        self.lost = error if isinstance(error, ClusterLost) else self.gone(error)
        self._told(self.lost.message)

    def gone(self, error: Exception | None = None) -> ClusterLost:
        """The error for a scheduler that does not answer."""
        cause = f": {type(error).__name__}: {error}" if error else ""
        return ClusterLost(
            f"the scheduler of `{self._name}` is gone{cause}",
            "run it again; `skjob doctor` looks for causes in the cluster",
        )


@contextmanager
def _watched(
    cluster: Cluster,
    client: Any,
    plan: Plan,
    usual_start: float,
    observe: Callable[[WorkerCounts], None],
    progress: Callable[[Progress], None],
    complain: Callable[[str], None],
    watch: _Watch,
    memory: Callable[[dict[str, int]], None] = lambda _: None,
) -> Iterator[_Watch]:
    loop = ScalingLoop(
        cluster,
        client,
        plan.workers,
        plan.size.threads,
        patience=max(LEAST_PATIENCE, plan.grace / 2),
        observe=observe,
        progress=progress,
        complain=complain,
        lost=watch.lose,
        usual_start=usual_start,
        memory=memory,
    )
    watch.unseen_for = loop.unseen_for
    loop.start()
    try:
        yield watch
    finally:
        loop.stop()


class _Closing:
    """Closes a cluster on the way out: asks for its removal in any case, waits unless the user is in a hurry."""

    def __init__(self, cluster: Cluster, recorder: Recorder, signals: Signals, step: str) -> None:
        self._step = step
        self._cluster = cluster
        self._recorder = recorder
        self._signals = signals

    def __call__(self) -> None:
        if self._recorder.record.outcome.status in ("error", "failed") and not self._signals.hurried:
            with suppress(Exception):  # the API may be the very thing that failed
                self._recorder.record.logs = self._cluster.logs()
        with self._recorder.step(self._step):
            self._cluster.close(hurried=lambda: self._signals.hurried)


def _release(stack: ExitStack, recorder: Recorder, signals: Signals) -> None:
    """Undo everything, in reverse. The first error of the run leads; what clean-up could not do is added to it."""
    signals.note_only()
    outcome = recorder.record.outcome
    try:
        stack.close()
    except Exception as error:
        failed = error if isinstance(error, SkjobError) else CleanupFailed(f"{type(error).__name__}: {error}")
        outcome.cleanup = failed.message
        recorder.note(f"{failed.message}; {failed.hint}")
        if outcome.status == "succeeded":
            recorder.end("error", CleanupFailed.exit_code, failed.message)
            raise CleanupFailed(failed.message, failed.hint) from error
    finally:
        recorder.save()


class Signals:
    """SIGINT, SIGTERM and SIGHUP end the run; a second one skips waiting, never the request to delete.

    The first raises `Stopped` in the main thread. From `note_only` on they are counted and nothing is raised, so that
    clean-up can't be cut short half-way.
    """

    NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._received = 0
        self._raising = True
        self._previous: dict[int, Any] = {}

    @property
    def hurried(self) -> bool:
        """Whether the user has asked twice."""
        return self._received > 1

    def note_only(self) -> None:
        """Raise nothing any more."""
        self._raising = False

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in self.NUMBERS:
                # What is ignored stays so: `nohup` ignores SIGHUP for those it starts.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self._received += 1
        if self._raising:
            self._raising = False
            raise Stopped(number)
