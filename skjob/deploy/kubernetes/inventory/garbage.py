"""What should not be there any more: runs' objects that Kubernetes was to remove and has not. The policy of `skjob gc`.

A run's anchor removes it in nearly every case. What can be left: objects whose anchor is gone, or never came to own
them; a deletion that waits for an operator that is dead; an anchor that outlived its deadline, because nobody in the
cluster minds Jobs. A run that lives, a cluster that was left and is in its time, and anything that skjob did not make
is no garbage. Nor is a run that Kubernetes is removing, while it has its time for that; but it is not gone either.
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
    """A run whose objects should not be there, and why."""

    run: RunningCluster
    why: str


@dataclass(frozen=True)
class Terminating:
    """A run that is being removed. If it is still there in `due_in` seconds, it is garbage; None where nobody knows
    since when it goes."""

    run: RunningCluster
    why: str
    due_in: float | None


@dataclass(frozen=True)
class Found:
    """What should not be there, and what will not be there for long."""

    garbage: list[Garbage]
    going: list[Terminating]


def find(api: Api, namespace: str | None) -> Found:
    """What is in a namespace; in all namespaces where it is None."""
    # A run creates its anchor first. Of one that began between the two looks, only the second has seen the anchor.
    first, second = inventory.runs(api, namespace), inventory.runs(api, namespace)
    there = {run.run_id for run in first}
    return classify([run for run in second if run.run_id in there])


def classify(runs: Sequence[RunningCluster]) -> Found:
    """Those of these runs that should not be there, and those that are on their way out."""
    judged = [verdict for run in runs if (verdict := _judge(run)) is not None]
    return Found(
        [verdict for verdict in judged if isinstance(verdict, Garbage)],
        [verdict for verdict in judged if isinstance(verdict, Terminating)],
    )


def _judge(run: RunningCluster) -> Garbage | Terminating | None:
    if run.state is RunState.ABANDONED:
        return Garbage(run, "nothing owns its objects")
    if run.removing_for is not None:
        return _ended(run, f"its removal was asked for {max(0.0, run.removing_for):.0f} s ago", run.removing_for)
    if run.overdue > 0:
        return _ended(run, f"its deadline was {run.overdue:.0f} s ago", run.overdue)
    if run.state is RunState.REMOVING:
        return Terminating(run, "its anchor is gone, and the rest goes after it", None)
    return None


def _ended(run: RunningCluster, why: str, seconds_ago: float) -> Garbage | Terminating:
    if seconds_ago > OVERDUE:
        return Garbage(run, f"{why}, and it is still there")
    return Terminating(run, why, OVERDUE - seconds_ago)


def collect(api: Api, garbage: Sequence[Garbage]) -> None:
    """Remove it. Raises CleanupFailed where something stays."""
    cleanup.remove_runs(api, [each.run for each in garbage])
