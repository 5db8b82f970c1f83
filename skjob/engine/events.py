"""What the engine reports while it runs: the start and end of each Parallel call, and each fit or task that finishes.

One producer, many readers: a run writes events to its record as lines of JSON (`run/events/file.py`), and the terminal,
a notebook and the report read them. Times are seconds since the epoch on the client's clock. Values of the program are
text already: parameters are formatted once a candidate.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from itertools import chain
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

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
        What made it: a search or another estimator by its class, a function of scikit-learn such as `cross_validate`,
        and for the program's own call the function that its tasks call.
    estimator : str
        The class of the estimator that its tasks fit, if they fit one.
    search : int or None
        The number of the search that makes the call. A halving search makes a call for each iteration.
    iteration : int or None
        The iteration of a halving search.
    candidates, splits : int or None
        How many there are, if the call is of a search; `cross_validate` has splits alone.
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
        By metric, as scikit-learn has them: of a fit that failed its `error_score`, usually NaN. A single metric is
        named `score`.
    fit_seconds, score_seconds : float or None
        What scikit-learn measured.
    worker : str
        The name of the worker; empty if the fit ran in the program's process or was reused.
    started : float
        When it began, on the client's clock; for a reused fit, when it was found. A fit of joblib's own processes is
        reported as its batch ends: for it, the time of the report less `seconds`.
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
class ResultsDropped:
    """A call is taken back from workers: the results of its tasks from number `kept` on do not count.

    These tasks run in the program's process, and are reported again, by the same numbers.
    """

    call: int
    kept: int


@dataclass(frozen=True)
class CallFinished:
    """A Parallel call has ended. `ok` is False if it ended in an error or was interrupted."""

    call: int
    at: float
    ok: bool = True


Event = CallStarted | FitFinished | TasksFinished | ResultsDropped | CallFinished
Report = Callable[[Event], None]
"""Takes an event. Called from several threads; never raises."""


_MAX_NUMBER = 2**53
"""The largest number of a field of a line: sums and times of larger ones, NaN and infinity may raise."""


def _json_types(hint: Any) -> tuple[type, ...]:
    """Return what JSON may have for a value of this type."""
    if get_origin(hint) is UnionType:
        return tuple(chain.from_iterable(map(_json_types, get_args(hint))))
    if hint is float:
        return float, int
    if get_origin(hint) is Mapping:
        return (dict,)
    return (str,) if hint is FitStatus else (hint,)


KINDS: Mapping[str, type[Event]] = {
    "call": CallStarted,
    "fit": FitFinished,
    "tasks": TasksFinished,
    "dropped": ResultsDropped,
    "end": CallFinished,
}
_NAMES = {kind: name for name, kind in KINDS.items()}
_TYPES: Mapping[type[Event], Mapping[str, tuple[type, ...]]] = {
    kind: {name: _json_types(hint) for name, hint in get_type_hints(kind).items()} for kind in KINDS.values()
}
"""What JSON has for each field: the program may have written to the file itself."""
_DEFAULTS: Mapping[type[Event], Mapping[str, Any]] = {
    kind: {each.name: {} if each.default_factory is not MISSING else each.default for each in fields(kind)}
    for kind in KINDS.values()
}


def as_fields(event: Event) -> dict[str, Any]:
    """Return an event as JSON has it: its kind, and the fields that do not have their default.

    A score of NaN is null, an infinite one text: JSON has no such numbers.
    """
    shown: dict[str, Any] = {"kind": _NAMES[type(event)]}
    defaults = _DEFAULTS[type(event)]
    shown.update((name, value) for name, value in vars(event).items() if value != defaults[name])
    for name in ("scores", "train_scores"):
        if name in shown:
            shown[name] = {metric: json_number(score) for metric, score in shown[name].items()}
    return shown


def to_line(event: Event, mask: Callable[[str], str] = str) -> str:
    """Return an event as one line of JSON; `mask` is applied to each text in it."""
    return json.dumps(_masked(as_fields(event), mask), allow_nan=False, separators=(",", ":")) + "\n"


def _masked(value: Any, mask: Callable[[str], str]) -> Any:
    if isinstance(value, Mapping):
        return {_masked(name, mask): _masked(each, mask) for name, each in value.items()}
    return mask(value) if type(value) is str else value


def from_line(line: str | bytes) -> Event | None:
    """Return the event of a line; None if it is of a kind that this version does not know, or no event."""
    try:
        read: dict[str, Any] = json.loads(line)
        kind = KINDS[read.pop("kind")]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
    types = _TYPES[kind]
    known = {name: value for name, value in read.items() if name in types}
    if not all(isinstance(value, types[name]) for name, value in known.items()):
        return None
    if any(isinstance(value, int | float) and not abs(value) <= _MAX_NUMBER for value in known.values()):
        return None
    try:
        for name in ("scores", "train_scores"):
            if name in known:
                known[name] = {metric: _from_json(score) for metric, score in known[name].items()}
        if not all(isinstance(text, str) for text in (known.get("parameters") or {}).values()):
            return None
        if "status" in known:
            known["status"] = FitStatus(known["status"])
        return kind(**known)
    except (ValueError, TypeError, AttributeError, OverflowError):
        return None


def json_number(number: float) -> float | str | None:
    """Return a number as JSON can have it: none as null, an infinite one as text."""
    if math.isnan(number):
        return None
    return float(number) if math.isfinite(number) else str(float(number))


def _from_json(score: float | str | None) -> float:
    return math.nan if score is None else float(score)
