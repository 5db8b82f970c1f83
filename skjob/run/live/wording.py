"""Format words and numbers for the live view and the closing lines. Pure."""

from __future__ import annotations

import math

from skjob.deploy.base import WorkerCounts
from skjob.deploy.kubernetes.costs.prices import money
from skjob.run.events.searches import CallProgress, Candidate
from skjob.run.live.state import CostSoFar
from skjob.utils.text import shortened, visible

MAX_NAME_LENGTH = 40


def number(score: float) -> str:
    """Format a score with five significant digits, so that those in a column align; `nan` if there is none."""
    return f"{score:#.5g}".rstrip(".")


def spread_of(candidate: Candidate) -> str:
    """Format the spread of a candidate's scores; `0` if it is only rounding, empty for fewer than two scores."""
    spread = candidate.spread
    if len(candidate.scores) < 2 or math.isnan(spread):
        return ""
    return f"{spread:.2g}" if spread > abs(candidate.mean) * 1e-12 else "0"


def score_of(candidate: Candidate) -> str:
    """Format a candidate's score as `0.91800 ± 0.014`, without the spread if there is none."""
    return " ± ".join(filter(None, [number(candidate.mean), spread_of(candidate)]))


def rate(call: CallProgress, now: float) -> str:
    """Format how many fits or tasks of a call finish per second or minute; empty before the first."""
    elapsed = now - call.started.at
    if call.measured <= 0 or elapsed <= 0:
        return ""
    each_second = call.measured / elapsed
    return f"{each_second:.{1 if each_second < 100 else 0}f}/s" if each_second >= 1 else f"{each_second * 60:.2g}/min"


def unit(call: CallProgress) -> str:
    """Return the unit of a call's work: `fits` for a search or a cross-validation, else `tasks`."""
    return "tasks" if call.started.splits is None else "fits"


def name_of(call: CallProgress) -> str:
    """Return a call's name, such as `GridSearchCV(SVC)`, with a halving search's iteration (from 0)."""
    begun = call.started
    name = visible(begun.name)
    if begun.estimator and begun.estimator != begun.name:
        name += f"({visible(begun.estimator)})"
    name = shortened(name, MAX_NAME_LENGTH)
    return name if begun.iteration is None else f"{name}, iteration {begun.iteration}"


def parameters_of(candidate: Candidate) -> str:
    """Format a candidate's parameters as `C=10, kernel=rbf`."""
    return ", ".join(f"{visible(name)}={visible(value)}" for name, value in candidate.parameters.items())


def workers_in_words(counts: WorkerCounts, *, short: bool = False) -> str:
    """Format worker counts as `2 of 4 workers`, with the number starting, or as `2/4 workers` if `short`."""
    if short:
        return f"{counts.connected}/{counts.asked} workers"
    words = f"{counts.connected} of {counts.asked} workers"
    starting = counts.running - counts.connected
    return f"{words}, {starting} starting" if starting > 0 else words


def cost_in_words(cost: CostSoFar) -> str:
    """Format a cost as `0.04 EUR of 2.00 EUR`."""
    words = money(cost.amount, cost.currency)
    return words if cost.limit is None else f"{words} of {money(cost.limit, cost.currency)}"
