"""Check a job file against the models of `skjob.jobfile.schema`: the second of three passes over it.

Pydantic's errors are reworded for users. A wrong part is left out, so that the third pass can check the rest.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from skjob.errors import did_you_mean
from skjob.jobfile.parser import Diagnostics, Location, Mark, format_value
from skjob.jobfile.schema import Component, Dataset, DeclaredJob, Outputs, Step, TableFile, forms
from skjob.jobfile.schema_search import DISTRIBUTION_KINDS, SEARCH_KINDS, Search, SearchForm, SpaceForm

SECTIONS = {
    name: TypeAdapter(hint)
    for name, hint in get_type_hints(DeclaredJob, include_extras=True).items()
    if name in DeclaredJob.model_fields
}
# An absent section is intended; an empty one was forgotten.
SECTIONS |= {"search": TypeAdapter(SearchForm), "space": TypeAdapter(SpaceForm)}
FORMS = {form.tag: form for form in forms()}
_TAGS = {*FORMS, "<list>", "<subspace>", "<subspaces>", "<folds>"}


@dataclass
class Sections:
    """The valid sections of a job; None for a section that is absent or wrong."""

    estimator: Component | tuple[Step, ...] | None = None
    search: Search | None = None
    space: Any = None
    data: TableFile | Dataset | None = None
    scoring: str | tuple[str, ...] | None = None
    cv: int | Component | None = None
    holdout: float | None = None
    outputs: Outputs | None = None


def validate_schema(content: Any, diagnostics: Diagnostics) -> Sections:
    """Report what is wrong with a job file's content. Return the sections that are valid."""
    sections = Sections()
    if content is None:
        diagnostics.at(Mark(1, 1), (), "is empty")
        return sections
    if not isinstance(content, dict):
        diagnostics.at_value((), f"{format_value(content)} is not a mapping of keys to values")
        return sections
    for key in content:
        if key not in SECTIONS:
            diagnostics.at_key((key,), f"unknown key{did_you_mean(key, SECTIONS)}")
    for name, model_field in DeclaredJob.model_fields.items():
        if name in content:
            setattr(sections, name, _section(name, content[name], diagnostics))
        elif model_field.is_required():
            diagnostics.at_key((), f"`{name}` is missing")
    return sections


def _section(name: str, value: Any, diagnostics: Diagnostics) -> Any:
    """Return the section as a value. Report a wrong part and leave it out, so that the rest can be checked too."""
    if name == "search" and isinstance(value, dict) and not _search_kind_holds(value, diagnostics):
        return None
    reported = False
    while True:
        try:
            return SECTIONS[name].validate_python(value)
        except ValidationError as error:
            errors = error.errors()
        if not reported:
            report_errors((name,), value, errors, diagnostics)
            reported = True
        value = _without(value, errors)
        if value is None:
            return None


def _search_kind_holds(search: dict[Any, Any], diagnostics: Diagnostics) -> bool:
    if "kind" not in search:
        diagnostics.at_key(("search",), "`kind` is missing")
    elif not (isinstance(search["kind"], str) and search["kind"] in SEARCH_KINDS):
        known = ", ".join(f"`{kind}`" for kind in SEARCH_KINDS)
        near = did_you_mean(search["kind"], SEARCH_KINDS)
        diagnostics.at_value(("search", "kind"), f"{format_value(search['kind'])} is not one of {known}{near}")
    else:
        return True
    return False


def _in_file(location: Location) -> Location:
    """Return pydantic's location without the tags of unions."""
    return tuple(part for part in location if part not in _TAGS and part != "[key]")


def _without(value: Any, errors: list[ErrorDetails]) -> Any:
    """Return a copy without the keys that the errors are about; None if that is impossible."""
    remaining = copy.deepcopy(value)
    for error in errors:
        location = _in_file(error["loc"])
        if not location or error["type"] == "missing":
            return None
        holder = remaining
        for part in location[:-1]:
            holder = holder[part]
        if not isinstance(holder, dict):
            # The other members of a list would get other places.
            return None
        holder.pop(location[-1], None)
    return remaining


def report_errors(prefix: Location, section: Any, errors: list[ErrorDetails], diagnostics: Diagnostics) -> None:
    """Report pydantic's errors, reworded for users, each at its place in the file."""
    for error in errors:
        location = (*prefix, *_in_file(error["loc"]))
        value, kind = error["input"], error["type"]
        if kind == "missing":
            diagnostics.at_key(location[:-1], f"`{location[-1]}` is missing")
        elif kind == "extra_forbidden":
            diagnostics.at_key(location, _why_unknown(error, location))
        elif error["loc"][-1:] == ("[key]",):
            diagnostics.at_key(location, f"`{location[-1]}` is not a name: names are text")
        elif kind == "too_short":
            # A list whose members are all wrong counts as too short too; they are reported already.
            if not value:
                diagnostics.at_value(location, "is empty")
        elif kind == "expected":
            diagnostics.at_value(location, f"{format_value(value)} is not {error['msg']}{_remedy(location, value)}")
        elif kind in ("model_type", "dict_type", "model_attributes_type"):
            diagnostics.at_value(location, f"{format_value(value)} is not a mapping of keys to values")
        else:
            diagnostics.at_value(location, f"{format_value(value)} cannot be used: {error['msg'].lower()}")


def _why_unknown(error: ErrorDetails, location: Location) -> str:
    tags = [part for part in error["loc"] if part in FORMS]
    form = FORMS[str(tags[-1])] if tags else Outputs
    key = location[-1]
    if form in SEARCH_KINDS.values():
        others = [kind for kind, search in SEARCH_KINDS.items() if key in search.model_fields]
        if others:
            own = next(kind for kind, search in SEARCH_KINDS.items() if search is form)
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
            return did_you_mean(next(iter(value)), DISTRIBUTION_KINDS)
        if isinstance(value, str | int | float) and not isinstance(location[-1], int):
            return f"; write `[{value}]`" if not isinstance(value, bool) else f"; write `[{str(value).lower()}]`"
    if location == ("estimator",) and isinstance(value, str):
        return f"; write `class: {value}`"
    return ""
