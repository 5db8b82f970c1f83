"""States of a run that tests of the live view show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from skjob.deploy.base import WorkerCounts
from skjob.engine.events import CallStarted, FitFinished, FitStatus
from skjob.run.live.state import CostSoFar, RunState

BEGAN = 1000.0
NOW = 1043.0


def begun(*events: Any) -> RunState:
    """A run that has had these events."""
    state = RunState(began=BEGAN)
    for event in events:
        state.add(event)
    return state


def search(call: int = 1, **fields: Any) -> CallStarted:
    """A grid search of 32 candidates on 5 splits, which begins 3 seconds after the run."""
    known = {"search": call, "candidates": 32, "splits": 5, "metric": "score"}
    return CallStarted(call, BEGAN + 3, **{"name": "GridSearchCV", "estimator": "SVC", **known, **fields})


def fits(number: int, call: int = 1, *, reused: int = 0, parameters: dict[str, str] | None = None) -> list[FitFinished]:
    """The first fits of a search, candidate by candidate, with mean scores of 0.9, 0.901, 0.902 and so on."""
    done = []
    for task in range(number):
        candidate, split = divmod(task, 5)
        own = {"C": str(candidate), "kernel": "rbf"} if parameters is None else parameters
        status = FitStatus.REUSED if task < reused else FitStatus.DONE
        seconds = 0.0 if status is FitStatus.REUSED else 0.8
        scores = {"score": 0.9 + candidate / 1000 + (split - 2) / 100}
        fit = FitFinished(1, task, candidate, split, own if split == 0 else None, scores, status=status)
        done.append(replace(fit, call=call, worker="w", started=BEGAN + 3 + task * 0.4, seconds=seconds))
    return done


def with_cluster(state: RunState) -> RunState:
    """The run has two workers of four, and has cost something."""
    state.set_workers(WorkerCounts(4, 3, 2))
    state.set_cost(CostSoFar(0.04, "EUR", 2.0))
    return state
