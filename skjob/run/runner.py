"""The story of a run: acquire a cluster, run the program on it, collect what happened, release everything.

`run` reads from top to bottom. Whatever ends it, an error, a signal or the program itself, takes the same way out:
the record says how it ended, the cluster is removed, and the exit status is the program's own or one of
`skjob.errors`. Nothing here prints; `tell` takes events for whoever shows them.
"""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skjob.config.plan import JobSpec, Plan
from skjob.config.settings import Place
from skjob.config.sources import Layer
from skjob.deploy.base import Cluster, Problem
from skjob.deploy.kubernetes.manifests.labels import new_run_id
from skjob.environment.reproducibility import compare, local_profile
from skjob.errors import (
    INTERNAL_FAULT,
    CleanupFailed,
    ConfigError,
    SkjobError,
)
from skjob.run.budget import RunBudget, enforce
from skjob.run.connect import as_start_error, ask_a_worker, forget_credentials, start_and_connect
from skjob.run.leading_imports import leading_imports
from skjob.run.monitor import ClusterMonitor, MessagePump, monitored, supervise
from skjob.run.program.process import ProgramProcess, check_script
from skjob.run.program.spec import ProgramSpec
from skjob.run.record import FITS_FOLDER, Event, Record, Recorder
from skjob.run.signals import Signals, Stopped
from skjob.run.target import RunTarget, create_cluster, environment_for, private_folder, resolve_target
from skjob.utils.dask_client import wait_result

if TYPE_CHECKING:
    from skjob.environment.spec import EnvironmentSpec

Tell = Callable[[Event], None]
ASK_TIMEOUT = 10.0

NO_TASKS = "the workers of this run did nothing: the program had no task for them"


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

    `name` is a cluster that `skjob up` or `--keep` has left: it is used, and stays. `ended` gets the record of a run
    that had one, however it ended.

    Raises:
        SkjobError: the run could not begin, or its cluster was lost, or not all of it could be removed.
    """
    check(job)
    recorder = Recorder(new_run_id(), job.name, job.arguments, folder, tell)
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
        from skjob.jobfile.loader import read_job

        hint = "all that a job does stands in its file; `skjob schema` prints what it may say"
        given = f"a job file takes no arguments, and there are `{shlex.join(job.arguments)}`"
        problems = [given] if job.arguments else []
        try:
            read_job(job.path)
        except ConfigError as error:
            problems, hint = [*problems, *error.problems], error.hint or hint
        if problems:
            raise ConfigError.collect(problems, hint)
    else:
        check_script(job.path, job.module)


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
    ground = resolve_target(layers, recorder.note)
    plan = _planned(ground, recorder, keep=keep, resume=resume, name=name)
    private = Path(stack.enter_context(private_folder()))
    program = ProgramProcess(
        () if job.declared else leading_imports(job.path, job.module)
    )  # imports while the cluster starts
    stack.callback(program.close)
    wanted = environment_for(plan, job)
    chosen = create_cluster(
        job, recorder.record.run_id, plan, ground, private, recorder.note, wanted, keep=keep, name=name
    )
    cluster, plan = chosen.cluster, chosen.plan
    leaves = keep or name is not None
    limit = RunBudget(began, plan, cluster.spent)
    placement = _place_data(job, plan, recorder)
    stack.callback(_Closing(cluster, recorder, signals, "leave the cluster" if leaves else "remove the cluster"))
    recorder.record.cluster = _described(cluster.name, plan, ground)
    recorder.record.cost = {} if plan.max_cost is None else {"most": plan.max_cost}
    with enforce(limit):
        connection = stack.enter_context(
            start_and_connect(chosen, job, wanted, recorder.note, limit=limit, step=recorder.step)
        )
    client = connection.client
    recorder.workers(connection.workers)
    if told := limit.money_lasts(cluster.asked()):
        recorder.note(told)
    with as_start_error(cluster.name):
        _note_peaks(client)
    recorder.record.numbers = _numbers(client)
    recorder.record.cluster["environment"] = cluster.environment

    watch = ClusterMonitor(cluster.name)
    stack.enter_context(
        monitored(
            cluster, client, plan, connection.seconds,
            recorder.workers, recorder.progress, recorder.note, watch, recorder.memory, lambda: recorder.done_here,
        )
    )  # fmt: skip
    assignment = ProgramSpec(
        path=str(job.path),
        module=job.module,
        root=str(job.root),
        arguments=job.arguments,
        declared=job.declared,
        folder=str(private),
        address=cluster.address,
        width=plan.width,
        workers=plan.workers.first,
        wait_for_workers=plan.start_timeout,
        patience=plan.patience,
        run=recorder.record.run_id,
        checkpoint=plan.checkpoint,
        resume=resume,
        packages=_packages_file(wanted, private),
        placement=placement,
    )
    return _run_program(program, assignment, watch, limit, recorder, signals, client, leaves=leaves)


def _planned(ground: RunTarget, recorder: Recorder, *, keep: bool, resume: bool, name: str | None) -> Plan:
    """The plan, recorded and told. Raises ConfigError where the command can't mean what it says."""
    # Not for `skjob.cluster`, which may be used in any folder.
    settings = replace(ground.settings, checkpoint=ground.settings.checkpoint or str(FITS_FOLDER))
    plan = ground.plan(settings)
    recorder.record.place, recorder.record.why = plan.place, plan.why
    if keep and plan.place is Place.LOCAL:
        raise ConfigError(f"`--keep` needs Kubernetes: {ground.reason}", "leave it out to run on this machine")
    if name is None or plan.place is Place.KUBERNETES:
        recorder.note(plan.why)
    if resume and plan.checkpoint is None:
        raise ConfigError("`--resume` takes fits that were kept, and `--checkpoint none` keeps none", "leave one out")
    if plan.checkpoint is not None and ground.settings.checkpoint is not None:
        _check_store(plan.checkpoint, recorder.record.run_id)
    return plan


def _run_program(
    program: ProgramProcess,
    assignment: ProgramSpec,
    watch: ClusterMonitor,
    limit: RunBudget,
    recorder: Recorder,
    signals: Signals,
    client: Any,
    *,
    leaves: bool,
) -> int:
    """Run it to its end, whatever ends it; its exit status. With `leaves`, the workers forget what was this run's."""
    before = _steps(client)
    program.begin(assignment)
    mail = MessagePump(Path(assignment.folder), recorder)
    code: int | None = None
    with recorder.step("run the program"):
        try:
            code = supervise(program, watch, limit, mail.read, signals.check)
        except Stopped as stopped:
            signals.note_only()
            program.stop(stopped.number, lambda: signals.hurried)
            raise
        except SkjobError:
            program.stop(signal.SIGTERM)
            raise
        finally:
            if leaves and not signals.hurried:
                forget_credentials(client)
            mail.read()
            if code == 0:
                recorder.memory(_peaks(client))
                if not recorder.record.fits.get("found") and before is not None and before == _steps(client):
                    recorder.note(NO_TASKS)
            for line in (*mail.last, *_of_fits(recorder.record.fits, finished=code == 0)):
                recorder.note(line)
    return code


def _of_fits(fits: dict[str, int], *, finished: bool) -> list[str]:
    if not fits:
        return []
    from skjob.engine.checkpoint.counts import FitCounts

    return FitCounts(**fits).lines(finished=finished)


def _check_store(address: str, run_id: str) -> None:
    """Before anything starts. Raises ConfigError where no fit can be kept at this address."""
    from skjob.engine.checkpoint.store import FitStore

    FitStore(address, run_id)


def _packages_file(wanted: EnvironmentSpec | None, private: Path) -> str | None:
    """With the distributions that are local here, for the program to send; None where there are none."""
    if wanted is None or not wanted.packages:
        return None
    file = private / "packages.zip"
    file.write_bytes(wanted.packages)
    return str(file)


def _numbers(client: Any) -> dict[str, Any]:
    """Whether they are those of a local run. Nothing where the worker that is asked goes just now."""
    with suppress(Exception):
        return compare(local_profile(), ask_a_worker(client, local_profile))
    return {}


def _place_data(job: JobSpec, plan: Plan, recorder: Recorder) -> dict[str, Any] | None:
    """Where the data of a declared job goes; told, and in the record. Raises ConfigError where it fits in no way."""
    if not job.declared:
        return None
    from skjob.jobfile.data.placement import Workers
    from skjob.jobfile.loader import read_job
    from skjob.jobfile.runner import place_data

    workers = Workers(plan.workers.maximum, plan.size.memory, plan.size.threads)
    placed = place_data(read_job(job.path), job.root, workers, shared_files=plan.place is Place.LOCAL)
    if placed is None:
        return None
    recorder.note(placed.why)
    recorder.record.data = asdict(placed)
    return recorder.record.data


def _note_peaks(client: Any) -> None:
    from skjob.engine.transfer.worker_plugins import register_plugin
    from skjob.run.peak_memory import PeakMemory

    register_plugin(client, PeakMemory())


def _peaks(client: Any) -> dict[str, int]:
    """The most memory that each worker has had up to now; of those that do not answer the loop has noted it."""
    from skjob.run.peak_memory import peak_of

    with suppress(Exception):
        asking = client.run(peak_of, on_error="ignore", asynchronous=True)
        return dict(wait_result(client, asking, ASK_TIMEOUT).values())
    return {}


def _steps(client: Any) -> int | None:
    """A number that grows as soon as there is a task for a worker; None if the scheduler does not answer."""
    from skjob.deploy.scaling.scheduler import transitions

    with suppress(Exception):
        asking = client.run_on_scheduler(transitions, asynchronous=True)
        return int(wait_result(client, asking, ASK_TIMEOUT))
    return None


def _described(name: str, plan: Plan, ground: RunTarget) -> dict[str, Any]:
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


def tell_all(lines: list[str], note: Callable[[str], None]) -> None:
    for line in lines:
        note(line)


def once(note: Callable[[str], None]) -> Callable[[str], None]:
    """The same, each line once: what holds a worker back is found again and again."""
    told: set[str] = set()

    def tell(line: str) -> None:
        if line not in told:
            told.add(line)
            note(line)

    return tell


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
        try:
            with self._recorder.step(self._step):
                self._cluster.close(hurried=lambda: self._signals.hurried)
        finally:
            if (spent := self._cluster.spent()) is not None:
                self._recorder.record.cost |= {"amount": round(spent.amount, 6), "currency": spent.currency}


def _release(stack: ExitStack, recorder: Recorder, signals: Signals) -> None:
    """Undo everything, in reverse. The first error of the run leads; what clean-up could not do is added to it."""
    signals.note_only()
    outcome = recorder.record.outcome
    try:
        stack.close()
    except Exception as error:
        failed = error if isinstance(error, SkjobError) else CleanupFailed(f"{type(error).__name__}: {error}")
        outcome.cleanup = failed.message
        recorder.note(str(Problem(failed.message, failed.hint)))
        if outcome.status == "succeeded":
            recorder.end("error", CleanupFailed.exit_code, failed.message)
            raise CleanupFailed(failed.message, failed.hint) from error
    finally:
        recorder.save()
