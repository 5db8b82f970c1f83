"""What the engine reports while it runs: the start and end of each Parallel call, and each fit or task that finishes.

One producer, many readers: a run writes events to its record as lines of JSON (`run/events_file.py`), and the terminal,
a notebook and the report read them. Times are seconds since the epoch on the client's clock. Values of the program are
text already: parameters are formatted once a candidate.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

VERSION = 1
"""Version of the format. A reader ignores kinds of lines and fields that it does not know."""

MAX_VALUE_LENGTH = 200
"""Characters of a parameter's value in an event."""


class FitStatus(StrEnum):
    """How a fit came to its scores."""

    DONE = "done"
    REUSED = "reused"
    FAILED = "failed"


@dataclass(frozen=True)
class CallStarted:
    """A Parallel call begins.

    Attributes
    ----------
    call : int
        The number of the call within the run.
    at : float
        When it began.
    name : str
        What made it: a search by its class, otherwise the function that the tasks call.
    estimator : str
        The class of the estimator that its tasks fit, if they fit one.
    search : int or None
        The number of the search that makes the call. A halving search makes a call for each iteration.
    iteration : int or None
        The iteration of a halving search.
    candidates, splits : int or None
        How many there are, if the call is of a search.
    tasks : int or None
        How many fits or tasks the call has, if that is known.
    metric : str
        The metric by which the best candidate is chosen; empty if a callable chooses it, or there is no search.
    metric_is_first : bool
        Whether that is the first of several metrics because the program names none.
    parent : int or None
        The call whose task makes this call in the program's process.
    """

    call: int
    at: float
    name: str
    estimator: str = ""
    search: int | None = None
    iteration: int | None = None
    candidates: int | None = None
    splits: int | None = None
    tasks: int | None = None
    metric: str = ""
    metric_is_first: bool = False
    parent: int | None = None


@dataclass(frozen=True)
class FitFinished:
    """A fit of a search or a cross-validation has finished, failed, or was reused.

    Attributes
    ----------
    call : int
        The call that the fit belongs to.
    task : int
        The index of the fit in its call.
    candidate, split : int or None
        Which candidate it fits and on which split, from 0.
    parameters : mapping of str to str, or None
        The candidate's parameters, in the first event of each candidate alone.
    scores, train_scores : mapping of str to float
        By metric; NaN if the fit failed. A single metric is named `score`.
    fit_seconds, score_seconds : float or None
        What scikit-learn measured.
    worker : str
        The name of the worker; empty if the fit ran in the program's process or was reused.
    started : float
        When it began; for a reused fit, when it was found.
    seconds : float
        How long it took altogether; 0 for a reused fit.
    status : FitStatus
    error : str
        Why it failed: the error's last line.
    """

    call: int
    task: int
    candidate: int | None = None
    split: int | None = None
    parameters: Mapping[str, str] | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    train_scores: Mapping[str, float] = field(default_factory=dict)
    fit_seconds: float | None = None
    score_seconds: float | None = None
    worker: str = ""
    started: float = 0.0
    seconds: float = 0.0
    status: FitStatus = FitStatus.DONE
    error: str = ""


@dataclass(frozen=True)
class TasksFinished:
    """Tasks of a call that fits no search have finished: so many, together, on one worker."""

    call: int
    tasks: int
    worker: str = ""
    started: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class CallFinished:
    """A Parallel call has ended. `ok` is False if it ended in an error or was interrupted."""

    call: int
    at: float
    ok: bool = True


Event = CallStarted | FitFinished | TasksFinished | CallFinished
Report = Callable[[Event], None]
"""Takes an event. Called from several threads; never raises."""

KINDS: Mapping[str, type[Event]] = {
    "call": CallStarted,
    "fit": FitFinished,
    "tasks": TasksFinished,
    "end": CallFinished,
}
_NAMES = {kind: name for name, kind in KINDS.items()}


def to_line(event: Event) -> str:
    """Return an event as one line of JSON, without fields that have their default.

    A score of NaN is null, an infinite one text: JSON has no such numbers.
    """
    fields: dict[str, Any] = {"kind": _NAMES[type(event)]}
    defaults = type(event).__dataclass_fields__
    for name, value in asdict(event).items():
        if name in ("call", "task") or value != defaults[name].default:
            fields[name] = value
    for name in ("scores", "train_scores"):
        if scores := fields.pop(name, None):
            fields[name] = {metric: _to_json(score) for metric, score in scores.items()}
    return json.dumps(fields, allow_nan=False, separators=(",", ":")) + "\n"


def from_line(line: str | bytes) -> Event | None:
    """Return the event of a line; None if it is of a kind that this version does not know, or no event."""
    try:
        fields: dict[str, Any] = json.loads(line)
        kind = KINDS[fields.pop("kind")]
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    known = {name: value for name, value in fields.items() if name in kind.__dataclass_fields__}
    try:
        for name in ("scores", "train_scores"):
            if name in known:
                known[name] = {metric: _from_json(score) for metric, score in known[name].items()}
        if "status" in known:
            known["status"] = FitStatus(known["status"])
        return kind(**known)
    except (ValueError, TypeError, AttributeError):
        return None


def _to_json(score: float) -> float | str | None:
    if math.isnan(score):
        return None
    return float(score) if math.isfinite(score) else str(float(score))


def _from_json(score: float | str | None) -> float:
    return math.nan if score is None else float(score)
