"""The form of a job file: what it says against the models of `skjob.jobfile.schema`, pydantic's words put into a
user's.

The second of the three passes over it. A part that is wrong is reported and left out, so that the third can look at
the rest.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from skjob.jobfile.parser import Diagnostics, Location, Mark, shown
from skjob.jobfile.schema import Component, Dataset, DeclaredJob, Outputs, Step, TableFile, forms
from skjob.jobfile.schema_search import DISTRIBUTIONS, SEARCHES, Search, SearchForm, SpaceForm
from skjob.utils.suggestions import did_you_mean

SECTIONS = {
    name: TypeAdapter(hint)
    for name, hint in get_type_hints(DeclaredJob, include_extras=True).items()
    if name in DeclaredJob.model_fields
}
# A section that is left out is absent; one that is there and empty was forgotten.
SECTIONS |= {"search": TypeAdapter(SearchForm), "space": TypeAdapter(SpaceForm)}
FORMS = {form.tag: form for form in forms()}
_TAGS = {*FORMS, "<list>", "<subspace>", "<subspaces>", "<folds>"}


@dataclass
class Sections:
    """The sections of a job that hold; None for one that is absent or wrong."""

    estimator: Component | tuple[Step, ...] | None = None
    search: Search | None = None
    space: Any = None
    data: TableFile | Dataset | None = None
    scoring: str | tuple[str, ...] | None = None
    cv: int | Component | None = None
    holdout: float | None = None
    outputs: Outputs | None = None


def validate_schema(content: Any, findings: Diagnostics) -> Sections:
    parts = Sections()
    if content is None:
        findings.at(Mark(1, 1), (), "is empty")
        return parts
    if not isinstance(content, dict):
        findings.at_value((), f"{shown(content)} is not a mapping of keys to values")
        return parts
    for key in content:
        if key not in SECTIONS:
            findings.at_key((key,), f"unknown key{did_you_mean(key, SECTIONS)}")
    for name, model_field in DeclaredJob.model_fields.items():
        if name in content:
            setattr(parts, name, _section(name, content[name], findings))
        elif model_field.is_required():
            findings.at_key((), f"`{name}` is missing")
    return parts


def _section(name: str, value: Any, findings: Diagnostics) -> Any:
    """The section as a value. A part that is wrong is reported and left out, so that the rest can be looked at too."""
    if name == "search" and isinstance(value, dict) and not _search_kind_holds(value, findings):
        return None
    reported = False
    while True:
        try:
            return SECTIONS[name].validate_python(value)
        except ValidationError as error:
            errors = error.errors()
        if not reported:
            report_errors((name,), value, errors, findings)
            reported = True
        value = _without(value, errors)
        if value is None:
            return None


def _search_kind_holds(search: dict[Any, Any], findings: Diagnostics) -> bool:
    if "kind" not in search:
        findings.at_key(("search",), "`kind` is missing")
    elif not (isinstance(search["kind"], str) and search["kind"] in SEARCHES):
        known = ", ".join(f"`{kind}`" for kind in SEARCHES)
        near = did_you_mean(search["kind"], SEARCHES)
        findings.at_value(("search", "kind"), f"{shown(search['kind'])} is not one of {known}{near}")
    else:
        return True
    return False


def _in_file(location: Location) -> Location:
    """pydantic's location without the marks of unions."""
    return tuple(part for part in location if part not in _TAGS and part != "[key]")


def _without(value: Any, errors: list[ErrorDetails]) -> Any:
    """A copy without the keys that the errors are about; None where that can't be."""
    remaining = copy.deepcopy(value)
    for error in errors:
        location = _in_file(error["loc"])
        if not location or error["type"] == "missing":
            return None
        holder = remaining
        for part in location[:-1]:
            holder = holder[part]
        if not isinstance(holder, dict):
            # A list's members would move up, and with them their places.
            return None
        holder.pop(location[-1], None)
    return remaining


def report_errors(prefix: Location, section: Any, errors: list[ErrorDetails], findings: Diagnostics) -> None:
    for error in errors:
        location = (*prefix, *_in_file(error["loc"]))
        value, kind = error["input"], error["type"]
        if kind == "missing":
            findings.at_key(location[:-1], f"`{location[-1]}` is missing")
        elif kind == "extra_forbidden":
            findings.at_key(location, _why_unknown(error, location))
        elif error["loc"][-1:] == ("[key]",):
            findings.at_key(location, f"`{location[-1]}` is not a name: names are text")
        elif kind == "too_short":
            # A list whose members are all wrong counts as too short as well; they are reported already.
            if not value:
                findings.at_value(location, "is empty")
        elif kind == "expected":
            findings.at_value(location, f"{shown(value)} is not {error['msg']}{_remedy(location, value)}")
        elif kind in ("model_type", "dict_type", "model_attributes_type"):
            findings.at_value(location, f"{shown(value)} is not a mapping of keys to values")
        else:
            findings.at_value(location, f"{shown(value)} can't be used: {error['msg'].lower()}")


def _why_unknown(error: ErrorDetails, location: Location) -> str:
    tags = [part for part in error["loc"] if part in FORMS]
    form = FORMS[str(tags[-1])] if tags else Outputs
    key = location[-1]
    if form in SEARCHES.values():
        others = [kind for kind, search in SEARCHES.items() if key in search.model_fields]
        if others:
            own = next(kind for kind, search in SEARCHES.items() if search is form)
            return f"`{own}` has no `{key}`: it belongs to {' and '.join(f'`{kind}`' for kind in others)}"
    if form is TableFile and key == "loader":
        return "data is either a `path` or a `loader`"
    if form is Dataset and key in TableFile.model_fields:
        return f"`{key}` belongs to data from a `path`, not to a `loader`"
    known = [model_field.alias or name for name, model_field in form.model_fields.items()]
    return f"unknown key{did_you_mean(key, known)}"


def _remedy(location: Location, value: Any) -> str:
    if location[0] == "space" and len(location) > 1:
        if isinstance(value, dict) and len(value) == 1:
            return did_you_mean(next(iter(value)), DISTRIBUTIONS)
        if isinstance(value, str | int | float) and not isinstance(location[-1], int):
            return f"; write `[{value}]`" if not isinstance(value, bool) else f"; write `[{str(value).lower()}]`"
    if location == ("estimator",) and isinstance(value, str):
        return f"; write `class: {value}`"
    return ""
