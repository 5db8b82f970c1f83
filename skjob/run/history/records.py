"""Find and read the records of past runs below a folder, including those of earlier versions."""

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

RUNS_HINT = "`skjob runs` lists the runs of this folder"


@dataclass(frozen=True)
class PastRun:
    """A past run: its record, and the folder that contains it."""

    record: Record
    folder: Path


def run_ids(folder: Path) -> list[str]:
    """Return the ids of the runs that were started in a folder, latest first."""
    try:
        items = [each.name for each in (folder / FOLDER).iterdir() if (each / "run.json").is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigError(f"the folder `{folder / FOLDER}` cannot be read: {error.strerror}") from error
    return sorted(items, reverse=True)


def find_run(folder: Path, requested: str | None) -> PastRun:
    """Return the run with an id, or with the first or last part of one; the last run if None.

    Raises:
        ConfigError: there is no such run, or several, or its record cannot be read.
    """
    known = run_ids(folder)
    if not known:
        raise ConfigError(
            f"no runs found below `{folder / FOLDER}`",
            "change to the folder that the run was started in; `skjob run train.py` starts one here",
        )
    return read_run(folder, known[0] if requested is None else _id(known, requested))


def _id(known: list[str], requested: str) -> str:
    if requested in known:
        return requested
    # The last part, six digits, is also in the names of the run's objects.
    matches = [each for each in known if requested and (each.startswith(requested) or f"-{requested}" in each[-7:])]
    if len(matches) == 1:
        return matches[0]
    shown = visible(requested)
    if matches:
        some = ", ".join(f"`{each}`" for each in matches[:3]) + (", …" if len(matches) > 3 else "")
        raise ConfigError(f"`{shown}` is part of the ids of {len(matches)} runs: {some}", "give more of it")
    raise ConfigError(f"there is no run `{shown}`{did_you_mean(shown, known)}", RUNS_HINT)


def read_run(folder: Path, run_id: str) -> PastRun:
    """Read the record of a run.

    Raises:
        ConfigError: it does not exist, or cannot be read.
    """
    path = folder / run_file(run_id)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise ConfigError(f"the record `{path}` cannot be read: {reason}", RUNS_HINT) from error
    if not isinstance(content, dict):
        raise ConfigError(f"the record `{path}` cannot be read: it is not a JSON object", RUNS_HINT)
    return PastRun(_record(run_id, content), path.parent)


def _record(run_id: str, content: Mapping[str, Any]) -> Record:
    """Parse a record from its JSON. Values that another version wrote in another form are left out."""
    known = {
        "run_id": run_id,
        "steps": _parts(RunStep, content.get("steps")),
        "workers": _parts(WorkersAt, content.get("workers")),
        "outcome": next(iter(_parts(RunOutcome, [content.get("outcome")])), RunOutcome("unknown")),
    }
    required = {"program": "", "arguments": [], "started": "", "versions": {}}
    return Record(**{**required, **_fitting(Record, {**content, **known})})


def _parts(kind: type[Part], content: Any) -> list[Part]:
    items = []
    for each in content if isinstance(content, list) else []:
        if not isinstance(each, Mapping):
            continue
        known = _fitting(kind, each)
        if all(name in known for name in _required(kind)):
            items.append(kind(**known))
    return items


def _required(kind: Any) -> list[str]:
    return [each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING]


def _fitting(kind: Any, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that have the type of their field."""
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
