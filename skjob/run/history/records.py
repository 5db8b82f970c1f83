"""Find the records of past runs below a folder, and read them, also those of earlier versions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from skjob.errors import ConfigError, did_you_mean, first_line
from skjob.run.record import FOLDER, Record, RunOutcome, RunStep, WorkersAt, run_file
from skjob.utils.text import visible

Part = TypeVar("Part")

LISTS_RUNS = "`skjob runs` lists the runs of this folder"


@dataclass(frozen=True)
class PastRun:
    """A run that has a record, and the folder that the record is in."""

    record: Record
    folder: Path


def run_ids(folder: Path) -> list[str]:
    """Return the ids of the runs that were started in a folder, the last one first."""
    try:
        found = [each.name for each in (folder / FOLDER).iterdir() if (each / "run.json").is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigError(f"the folder `{folder / FOLDER}` cannot be read: {error.strerror}") from error
    return sorted(found, reverse=True)


def find_run(folder: Path, wanted: str | None) -> PastRun:
    """Return the run of an id, or of the beginning or the last part of one; the last run if none is named.

    Raises:
        ConfigError: there is no such run, or several, or its record cannot be read.
    """
    known = run_ids(folder)
    if not known:
        raise ConfigError(
            f"there are no runs below `{folder / FOLDER}`",
            "change to the folder that the run was started in; `skjob run train.py` starts one here",
        )
    return read_run(folder, known[0] if wanted is None else _id(known, wanted))


def _id(known: list[str], wanted: str) -> str:
    if wanted in known:
        return wanted
    # The last part, six digits, is in the names of the run's objects too.
    matches = [each for each in known if wanted and (each.startswith(wanted) or f"-{wanted}" in each[-7:])]
    if len(matches) == 1:
        return matches[0]
    shown = visible(wanted)
    if matches:
        some = ", ".join(f"`{each}`" for each in matches[:3]) + (", …" if len(matches) > 3 else "")
        raise ConfigError(f"`{shown}` is part of the ids of {len(matches)} runs: {some}", "write more of it")
    raise ConfigError(f"there is no run `{shown}`{did_you_mean(shown, known)}", LISTS_RUNS)


def read_run(folder: Path, run_id: str) -> PastRun:
    """Read the record of a run.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    path = folder / run_file(run_id)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise ConfigError(f"the record `{path}` cannot be read: {reason}", LISTS_RUNS) from error
    if not isinstance(content, dict):
        raise ConfigError(f"the record `{path}` cannot be read: it is no JSON object", LISTS_RUNS)
    return PastRun(_record(run_id, content), path.parent)


def _record(run_id: str, content: Mapping[str, Any]) -> Record:
    """Return a record from its JSON. What another version wrote otherwise than this one does is left out."""
    known = {
        "run_id": run_id,
        "steps": _parts(RunStep, content.get("steps")),
        "workers": _parts(WorkersAt, content.get("workers")),
        "outcome": next(iter(_parts(RunOutcome, [content.get("outcome")])), RunOutcome("unknown")),
    }
    required = {"program": "", "arguments": [], "started": "", "versions": {}}
    return Record(**{**required, **_fitting(Record, {**content, **known})})


def _parts(kind: type[Part], content: Any) -> list[Part]:
    found = []
    for each in content if isinstance(content, list) else []:
        if not isinstance(each, Mapping):
            continue
        known = _fitting(kind, each)
        if all(name in known for name in _required(kind)):
            found.append(kind(**known))
    return found


def _required(kind: Any) -> list[str]:
    return [each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING]


def _fitting(kind: Any, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the values that have the type of their field."""
    types = get_type_hints(kind)
    return {name: value for name, value in content.items() if name in types and _fits(value, types[name])}


def _fits(value: Any, kind: Any) -> bool:
    if kind is Any:
        return True
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return any(_fits(value, each) for each in arguments)
    if origin is list:
        return isinstance(value, list) and all(_fits(each, arguments[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(each, arguments[1]) for each in value.values())
    return isinstance(value, int | float if kind is float else kind)
