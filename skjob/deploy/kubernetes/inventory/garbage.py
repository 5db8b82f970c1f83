"""Decide what `skjob gc` removes: objects of runs that Kubernetes should have removed and has not.

A run's anchor removes it in nearly every case. What can be left: objects whose anchor is gone, or never came to own
them; a deletion that waits for a dead operator; an anchor that outlived its deadline because no controller handles
Jobs. A live run, a kept cluster within its time, and anything that skjob did not make are not garbage. Nor is a run
that Kubernetes is removing, until that takes too long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.inventory import cleanup
from skjob.deploy.kubernetes.inventory import runs as inventory
from skjob.deploy.kubernetes.inventory.runs import OVERDUE, RunningCluster, RunState


@dataclass(frozen=True)
class Garbage:
    """A run whose objects should be gone, and why."""

    run: RunningCluster
    why: str


@dataclass(frozen=True)
class Terminating:
    """A run that is being removed.

    If it still exists in `due_in` seconds, it is garbage; None if it is unknown since when it is being removed.
    """

    run: RunningCluster
    why: str
    due_in: float | None


@dataclass(frozen=True)
class FoundGarbage:
    """Runs that should be gone, and runs that will be soon."""

    garbage: list[Garbage]
    terminating: list[Terminating]


def find_garbage(api: Api, namespace: str | None) -> FoundGarbage:
    """Return the garbage in a namespace; in all namespaces if it is None."""
    # A run creates its anchor first: one that began between these two listings appears with its anchor only in the
    # second.
    first, second = inventory.runs(api, namespace), inventory.runs(api, namespace)
    known = {run.run_id for run in first}
    return classify([run for run in second if run.run_id in known])


def classify(runs: Sequence[RunningCluster]) -> FoundGarbage:
    """Return the runs among these that should be gone, and those that are being removed."""
    judged = [verdict for run in runs if (verdict := _judge(run)) is not None]
    return FoundGarbage(
        [verdict for verdict in judged if isinstance(verdict, Garbage)],
        [verdict for verdict in judged if isinstance(verdict, Terminating)],
    )


def _judge(run: RunningCluster) -> Garbage | Terminating | None:
    if run.state is RunState.ABANDONED:
        return Garbage(run, "nothing owns its objects")
    if run.removing_for is not None:
        return _by_age(run, f"its removal was requested {max(0.0, run.removing_for):.0f} s ago", run.removing_for)
    if run.overdue > 0:
        return _by_age(run, f"its deadline passed {run.overdue:.0f} s ago", run.overdue)
    if run.state is RunState.REMOVING:
        return Terminating(run, "its anchor is gone, and the rest will follow", None)
    return None


def _by_age(run: RunningCluster, why: str, seconds_ago: float) -> Garbage | Terminating:
    if seconds_ago > OVERDUE:
        return Garbage(run, f"{why}, and it still exists")
    return Terminating(run, why, OVERDUE - seconds_ago)


def remove_garbage(api: Api, garbage: Sequence[Garbage]) -> None:
    """Remove garbage. Raise CleanupFailed if something is left."""
    cleanup.remove_runs(api, [each.run for each in garbage])
