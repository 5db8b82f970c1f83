"""The story of a run: acquire a cluster, run the program on it, collect what happened, release everything.

`run` reads from top to bottom. Whatever ends it, an error, a signal or the program itself, takes the same way out:
the record says how it ended, the cluster is removed, and the exit status is the program's own or one of
`skjob.errors`. Nothing here prints: the recorder passes everything on to a reporter.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from skjob.config.plan import JobSpec, Plan
from skjob.config.settings import Place
from skjob.config.sources import ResolvedSettings
from skjob.deploy.base import Cluster, Problem
from skjob.deploy.kubernetes.manifests.labels import new_run_id
from skjob.errors import INTERNAL_FAULT, CleanupFailed, ConfigError, SkjobError, data_without_credentials
from skjob.run.budget import RunBudget, enforce
from skjob.run.connect import Connection, as_start_error, forget_credentials, start_and_connect
from skjob.run.monitor import ClusterMonitor, MessagePump, monitored, supervise
from skjob.run.observer import RunReporter
from skjob.run.program.check import check_program
from skjob.run.program.leading_imports import leading_imports
from skjob.run.program.process import ProgramProcess
from skjob.run.program.spec import ProgramSpec
from skjob.run.program.variables import variables_of
from skjob.run.record import FITS_FOLDER, Recorder
from skjob.run.run import Run, RunOptions
from skjob.run.signals import Signals, Stopped
from skjob.run.target import (
    ChosenCluster,
    RunTarget,
    create_cluster,
    environment_for,
    private_folder,
    resolve_target,
)
from skjob.run.worker_queries import compare_numbers, count_peak_memory, count_transitions, peak_memory

NO_TASKS = "the workers of this run did nothing: the program had no task for them"


def run(job: JobSpec, requested: ResolvedSettings, options: RunOptions, reporter: RunReporter, folder: Path) -> int:
    """Run a program on a cluster, take everything down again, and return the exit status.

    The record goes to a file below `folder`, and to `reporter` however the run ends.

    Raises:
        SkjobError: the run could not begin, or its cluster was lost, or not all of it could be removed.
    """
    check_program(job)
    recorder = Recorder(new_run_id(), job.name, job.arguments, folder, reporter)
    recorder.begin()
    with _reported(recorder, reporter) as signals:
        stack = ExitStack()
        try:
            with _outcome_recorded(recorder):
                acquired = acquire(job, requested, options, recorder, signals, stack)
                with collected(acquired, recorder, signals) as messages:
                    code = run_program(acquired, messages, signals)
                recorder.end("succeeded" if code == 0 else "failed", code)
        finally:
            release(stack, recorder, signals)
    return recorder.record.outcome.exit_code or 0


@dataclass(frozen=True)
class Acquired:
    """What a program runs with: its process, which waits for `spec`, and a connected cluster that is monitored."""

    program: ProgramProcess
    spec: ProgramSpec
    connection: Connection
    budget: RunBudget
    monitor: ClusterMonitor


def acquire(
    job: JobSpec,
    requested: ResolvedSettings,
    options: RunOptions,
    recorder: Recorder,
    signals: Signals,
    stack: ExitStack,
) -> Acquired:
    """Find out where to run, start a cluster there, and connect to it. `stack` undoes all of it.

    Raises:
        SkjobError: the program cannot have a cluster.
    """
    began = time.monotonic()
    target = resolve_target(requested, recorder.notify)
    plan = _make_plan(target, options, recorder)
    private = stack.enter_context(private_folder())
    # The program's process imports while the cluster starts.
    variables = variables_of(requested)
    program = ProgramProcess(() if job.declared else leading_imports(job.path, job.module), variables.values)
    stack.callback(program.close)
    environment = environment_for(plan, job)
    run_id = recorder.record.run_id
    chosen = create_cluster(Run(job, run_id, target, plan, private, recorder, environment, options, variables))
    run, cluster = chosen.run, chosen.cluster
    budget = RunBudget(began, run.plan, cluster.cost)
    placement = _place_data(run, recorder)
    stack.callback(_close_cluster, cluster, options, recorder, signals)
    recorder.record.cluster = run.describe_cluster(cluster.name)
    recorder.record.cost = {} if run.plan.max_cost is None else {"most": run.plan.max_cost}
    with enforce(budget):
        connection = stack.enter_context(start_and_connect(chosen, budget=budget))
    recorder.workers(connection.workers)
    if remaining := budget.describe_remaining(cluster.requested()):
        recorder.notify(remaining)
    with as_start_error(cluster.name):
        count_peak_memory(connection.client)
    recorder.record.numbers = compare_numbers(connection.client)
    recorder.record.cluster["environment"] = cluster.environment
    monitor = ClusterMonitor(cluster.name)
    stack.enter_context(monitored(connection, monitor, lambda: recorder.done_here))
    return Acquired(program, _program_spec(chosen, recorder.path.parent, placement), connection, budget, monitor)


def run_program(acquired: Acquired, messages: MessagePump, signals: Signals) -> int:
    """Run the program to its end, whatever ends it, and return its exit status.

    Raises:
        SkjobError: the program could not begin, or its time is over, or its cluster was lost.
    """
    program = acquired.program
    program.begin(acquired.spec)
    try:
        return supervise(program, acquired.monitor, acquired.budget, messages.read, signals.check)
    except Stopped as stopped:
        signals.note_only()
        program.stop(stopped.number, lambda: signals.hurried)
        raise
    except SkjobError:
        program.stop(signal.SIGTERM)
        raise


@contextmanager
def collected(acquired: Acquired, recorder: Recorder, signals: Signals) -> Iterator[MessagePump]:
    """Time the program within the block; after it, however it ends, collect what the program and its workers did."""
    run, client = acquired.connection.run, acquired.connection.client
    messages = MessagePump(run.private, recorder)
    before = count_transitions(client)
    succeeded = False
    with recorder.step("run the program"):
        try:
            yield messages
            succeeded = acquired.program.wait(0) == 0
        finally:
            if run.options.leaves_cluster and not signals.hurried:
                forget_credentials(client)
            messages.read()
            if succeeded:
                recorder.memory(peak_memory(client))
                if not recorder.record.fits.get("found") and before is not None and before == count_transitions(client):
                    recorder.notify(NO_TASKS)
            for line in (*messages.last, *_describe_fits(recorder.record.fits, finished=succeeded)):
                recorder.notify(line)


def release(stack: ExitStack, recorder: Recorder, signals: Signals) -> None:
    """Undo everything, in reverse. The first error of the run leads; what clean-up could not do is added to it.

    Raises:
        CleanupFailed: the run succeeded, and something of it is left.
    """
    signals.note_only()
    outcome = recorder.record.outcome
    try:
        stack.close()
    except Exception as error:
        failed = error if isinstance(error, SkjobError) else CleanupFailed(f"{type(error).__name__}: {error}")
        outcome.cleanup = failed.message
        recorder.notify(str(Problem(failed.message, failed.hint)))
        if outcome.status == "succeeded":
            recorder.end("error", CleanupFailed.exit_code, failed.message)
            raise CleanupFailed(failed.message, failed.hint) from error
    finally:
        recorder.save()


# ---- how a run ends


@contextmanager
def _reported(recorder: Recorder, reporter: RunReporter) -> Iterator[Signals]:
    """Take signals within the block, and give the record to the reporter after it."""
    try:
        with Signals() as signals:
            try:
                yield signals
            except Stopped as stopped:  # between two steps, where nothing else takes it
                _record_stop(recorder, stopped)
    finally:
        reporter.ended(recorder.record)


@contextmanager
def _outcome_recorded(recorder: Recorder) -> Iterator[None]:
    """Record what ends the block; a signal is an outcome, not an error."""
    try:
        yield
    except Stopped as stopped:
        _record_stop(recorder, stopped)
    except SkjobError as error:
        recorder.end("error", error.exit_code, error.message)
        raise
    except Exception as error:
        recorder.end("error", INTERNAL_FAULT, f"{type(error).__name__}: {error}")
        raise


def _record_stop(recorder: Recorder, stopped: Stopped) -> None:
    recorder.end("stopped", 128 + stopped.number, f"stopped by {signal.Signals(stopped.number).name}")


def _close_cluster(cluster: Cluster, options: RunOptions, recorder: Recorder, signals: Signals) -> None:
    """Ask for the cluster's removal in any case, and wait for it unless the user is in a hurry."""
    if recorder.record.outcome.status in ("error", "failed") and not signals.hurried:
        with suppress(Exception):  # the API may be the very thing that failed
            recorder.record.logs = data_without_credentials(cluster.logs())
    try:
        with recorder.step("leave the cluster" if options.leaves_cluster else "remove the cluster"):
            cluster.close(hurried=lambda: signals.hurried)
    finally:
        if (cost := cluster.cost()) is not None:
            from skjob.deploy.kubernetes.costs.prices import rounded

            recorder.record.cost |= {"amount": rounded(cost.amount), "currency": cost.currency}
            if cost.gpu_hours:
                recorder.record.cost |= {"gpu_hours": rounded(cost.gpu_hours)}


# ---- what a run begins with


def _make_plan(target: RunTarget, options: RunOptions, recorder: Recorder) -> Plan:
    """Make the plan, and record and report it.

    Raises:
        ConfigError: the command asks for what its settings do not allow.
    """
    # Not for `skjob.cluster`, which may be used in any folder.
    settings = replace(target.settings, checkpoint=target.settings.checkpoint or str(FITS_FOLDER))
    plan = target.plan(settings)
    recorder.record.place, recorder.record.why = plan.place, plan.why
    if options.keep and plan.place is Place.LOCAL:
        raise ConfigError(f"`--keep` needs Kubernetes: {target.reason}", "leave it out to run on this machine")
    if options.cluster is None or plan.place is Place.KUBERNETES:
        recorder.notify(plan.why)
    if options.resume and plan.checkpoint is None:
        raise ConfigError("`--resume` reuses kept fits, and `--checkpoint none` keeps none", "leave one out")
    if plan.checkpoint is not None and target.settings.checkpoint is not None:
        from skjob.engine.checkpoint.store import FitStore

        FitStore(plan.checkpoint, recorder.record.run_id)  # fails before anything starts if no fit can be stored there
    return plan


def _place_data(run: Run, recorder: Recorder) -> dict[str, Any] | None:
    """Choose where the data of a declared job goes, and record and report it. Raises ConfigError if it fits nowhere."""
    if not run.job.declared:
        return None
    from skjob.jobfile.data.placement import Workers
    from skjob.jobfile.loader import read_job
    from skjob.jobfile.runner import place_data

    plan = run.plan
    workers = Workers(plan.workers.maximum, plan.size.memory, plan.size.threads)
    placed = place_data(read_job(run.job.path), run.job.root, workers, shared_files=plan.place is Place.LOCAL)
    if placed is None:
        return None
    recorder.notify(placed.why)
    recorder.record.data = asdict(placed)
    return recorder.record.data


def _program_spec(chosen: ChosenCluster, record: Path, placement: dict[str, Any] | None) -> ProgramSpec:
    run = chosen.run
    job, plan = run.job, run.plan
    return ProgramSpec(
        path=str(job.path),
        module=job.module,
        root=str(job.root),
        arguments=job.arguments,
        declared=job.declared,
        folder=str(run.private),
        record=str(record.absolute()),
        address=chosen.cluster.address,
        width=plan.width,
        workers=plan.workers.first,
        wait_for_workers=plan.start_timeout,
        reconnect_timeout=plan.reconnect_timeout,
        run=run.run_id,
        checkpoint=plan.checkpoint,
        resume=run.options.resume,
        packages=_packages_file(run),
        placement=placement,
        variables=chosen.variables,
    )


def _packages_file(run: Run) -> str | None:
    """Write the distributions that are local here to a file, for the program to send; None if there are none."""
    if run.environment is None or not run.environment.packages:
        return None
    file = run.private / "packages.zip"
    file.write_bytes(run.environment.packages)
    return str(file)


def _describe_fits(fits: dict[str, int], *, finished: bool) -> list[str]:
    if not fits:
        return []
    from skjob.engine.checkpoint.fit_counts import FitCounts

    return FitCounts(**fits).lines(finished=finished)
