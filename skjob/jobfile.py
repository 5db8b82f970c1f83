"""Reads a job file and says everything that is wrong with it at once, each with its place: `job.yaml:12:5: ...`.

Three passes, none of which stops at its first finding. The text: YAML, as `yaml.safe_load` reads it, so that reading
runs no code; the node marks give each key and value its line and column. The form: the models of `skjob.job`, with
pydantic's words put into a user's. The meaning: whatever of the form holds is tried against what is there, with the
estimator really built, the data file's header read and the output folders looked at; nothing is fitted, nothing
written. The third pass imports the estimator's module, and with it runs that module's top level, as `import` does.
Modules beside the job file can be imported: its folder is on `sys.path` meanwhile.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from skjob.errors import ConfigError
from skjob.job import (
    DISTRIBUTIONS,
    SEARCHES,
    Choice,
    Component,
    Dataset,
    DeclaredJob,
    Distribution,
    HalvingGridSearch,
    HalvingRandomSearch,
    ImportProblem,
    LogUniform,
    Outputs,
    RandomInteger,
    Search,
    Step,
    TableFile,
    Uniform,
    as_component,
    as_tuple,
    build_value,
    dataset_loaders,
    forms,
    import_named,
    in_a_line,
    nearest,
    step_names,
)

Location: TypeAlias = tuple[Any, ...]
"""Keys and indices from the top of a job file to a value of it."""

WhyNot: TypeAlias = Callable[[type], str]
"""Why a class can't be used in some place; nothing where it can."""

HINT = "`skjob schema` prints every key of a job file"


def read_job(path: Path) -> DeclaredJob:
    """The job that a file declares. ConfigError with all its problems, in the order of the file."""
    document = _read(path)
    findings = _Findings(path, document)
    for mark, location, message in document.problems:
        findings.at(mark, location, message)
    parts = _form(document.content, findings)
    folder = path.resolve().parent
    with importable_from(folder):
        _Meaning(parts, folder, findings).check()
    findings.raise_any()
    return DeclaredJob.model_validate(document.content)


def beside(folder: Path, text: str) -> Path:
    """A path as a job file writes it: relative to the file's folder, `~` is the user's home."""
    return folder / Path(text).expanduser()


@contextmanager
def importable_from(folder: Path) -> Iterator[None]:
    """Modules of `folder` can be imported inside, and are forgotten after: the next job file may have its own."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None)
            # An environment inside the folder, `.venv`, is no code of the job.
            if origin and Path(origin).is_relative_to(folder) and "site-packages" not in origin:
                del sys.modules[name]


# ---- the text


@dataclass(frozen=True, order=True)
class Mark:
    """A line and a column, both from 1."""

    line: int
    column: int

    @classmethod
    def of(cls, mark: Any) -> Mark:
        """PyYAML's mark, which counts from 0."""
        return cls(mark.line + 1, mark.column + 1)


@dataclass
class _Document:
    content: Any = None
    keys: dict[Location, Mark] = field(default_factory=dict)
    values: dict[Location, Mark] = field(default_factory=dict)
    problems: list[tuple[Mark, Location, str]] = field(default_factory=list)
    walked: set[int] = field(default_factory=set)

    def key(self, location: Location) -> Mark:
        """Where a key stands; where there is none, the key of what it would be in."""
        while location and location not in self.keys:
            location = location[:-1]
        return self.keys.get(location, Mark(1, 1))

    def value(self, location: Location) -> Mark:
        """Where a value begins; where there is none, as `key`."""
        return self.values.get(location) or self.key(location)


class _Loader(yaml.SafeLoader):
    """SafeLoader which also takes `1e-3` for a number: YAML 1.1 would make it a text, and a grid of texts of it."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+(?:\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def _read(path: Path) -> _Document:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"`{path}` does not exist") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"`{path}` is not UTF-8 text: byte {error.start} can't be read") from error
    except OSError as error:
        raise ConfigError(f"`{path}` can't be read: {(error.strerror or str(error)).lower()}") from error
    try:
        return _parse(text)
    except yaml.MarkedYAMLError as error:
        mark = Mark.of(error.problem_mark or error.context_mark) if error.problem_mark else Mark(1, 1)
        raise ConfigError(f"{path}:{mark.line}:{mark.column}: {_yaml_words(error)}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        raise ConfigError(f"{path}:{line}:{column}: character `\\x{error.character:02x}` is not allowed") from error
    except RecursionError as error:
        raise ConfigError(f"{path}:1:1: is nested too deeply, or contains itself") from error
    except ValueError as error:
        # A scalar that looks like a date or a number and is none: `2024-13-45`.
        raise ConfigError(f"{path}:1:1: a value can't be read: {error}") from error


def _parse(text: str) -> _Document:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        document = _Document()
        if node is not None:
            _note_places(loader, node, (), document)
            document.content = loader.construct_document(node)
        return document
    finally:
        loader.dispose()


def _note_places(loader: _Loader, node: yaml.Node, location: Location, document: _Document) -> None:
    # Of a node with several aliases the place is that of the first, where it is written.
    document.values[location] = Mark.of(node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        for index, member in enumerate(node.value):
            document.keys[(*location, index)] = Mark.of(member.start_mark)
            _note_places(loader, member, (*location, index), document)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[Any, Mark] = {}
        # An alias leads here again, to a node that is flattened already and was judged then.
        for key_node, _ in node.value if id(node) not in document.walked else ():
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.endswith(":merge"):
                continue
            key, mark = loader.construct_object(key_node), Mark.of(key_node.start_mark)
            if key in seen:
                message = f"`{key}` is given twice, first in line {seen[key].line}"
                document.problems.append((mark, (*location, key), message))
            seen.setdefault(key, mark)
        document.walked.add(id(node))
        # Only now: it puts the keys of `<<` in front, where the mapping's own may repeat them.
        loader.flatten_mapping(node)
        for key_node, value_node in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                key = loader.construct_object(key_node)
                document.keys[(*location, key)] = Mark.of(key_node.start_mark)
                _note_places(loader, value_node, (*location, key), document)


def _yaml_words(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "can't be read"
    if tag := re.search(r"could not determine a constructor for the tag '(.*)'", problem):
        short = tag[1].replace("tag:yaml.org,2002:", "!!")
        return f"`{short}` is not allowed: a job file holds plain values"
    if "found character '\\t'" in problem:
        return "a tab can't indent: use spaces"
    if "mapping values are not allowed here" in problem:
        return "a second `:` in one line, or a wrong indentation"
    if "expected a single document" in (error.context or ""):
        return "a second document begins here: a job file is one"
    where = f" ({error.context})" if error.context else ""
    return f"is not valid YAML: {problem}{where}"


# ---- what was found


@dataclass
class _Findings:
    path: Path
    document: _Document
    found: list[tuple[Mark, str]] = field(default_factory=list)

    def at(self, mark: Mark, location: Location, message: str) -> None:
        where = _shown_location(location)
        line = f"{self.path}:{mark.line}:{mark.column}: {f'{where}: ' if where else ''}{message}"
        if (mark, line) not in self.found:
            self.found.append((mark, line))

    def at_key(self, location: Location, message: str) -> None:
        self.at(self.document.key(location), location, message)

    def at_value(self, location: Location, message: str) -> None:
        self.at(self.document.value(location), location, message)

    def raise_any(self) -> None:
        if self.found:
            ordered = sorted(self.found, key=lambda finding: finding[0])
            raise ConfigError.collect([line for _, line in ordered], HINT)


def _shown_location(location: Location) -> str:
    shown = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return shown.removeprefix(".")


def _shown(value: Any) -> str:
    """A value as a message names it."""
    if value is None:
        return "an empty value"
    if isinstance(value, str):
        return f"`{value}`"
    try:
        text = json.dumps(value, default=str)
    except (TypeError, ValueError):
        text = str(value)
    if len(text) <= 40:
        return f"`{text}`"
    return "this list" if isinstance(value, list) else "this mapping"


# ---- the form

_SECTIONS = {
    name: TypeAdapter(hint)
    for name, hint in get_type_hints(DeclaredJob, include_extras=True).items()
    if name in DeclaredJob.model_fields
}
_FORMS = {form.tag: form for form in forms()}
_TAGS = {*_FORMS, "<list>", "<subspace>", "<subspaces>", "<folds>"}


@dataclass
class _Parts:
    """The sections of a job that hold; None for one that is absent or wrong."""

    estimator: Component | tuple[Step, ...] | None = None
    search: Search | None = None
    space: Any = None
    data: TableFile | Dataset | None = None
    scoring: str | tuple[str, ...] | None = None
    cv: int | Component | None = None
    outputs: Outputs | None = None


def _form(content: Any, findings: _Findings) -> _Parts:
    parts = _Parts()
    if content is None:
        findings.at(Mark(1, 1), (), "is empty")
        return parts
    if not isinstance(content, dict):
        findings.at_value((), f"{_shown(content)} is not a mapping of keys to values")
        return parts
    for key in content:
        if key not in _SECTIONS:
            findings.at_key((key,), f"unknown key{nearest(key, _SECTIONS)}")
    for name, model_field in DeclaredJob.model_fields.items():
        if name in content:
            setattr(parts, name, _section(name, content[name], findings))
        elif model_field.is_required():
            findings.at_key((), f"`{name}` is missing")
    return parts


def _section(name: str, value: Any, findings: _Findings) -> Any:
    """The section as a value. A part that is wrong is reported and left out, so that the rest can be looked at too."""
    if name == "search" and isinstance(value, dict) and not _search_kind_holds(value, findings):
        return None
    reported = False
    while True:
        try:
            return _SECTIONS[name].validate_python(value)
        except ValidationError as error:
            errors = error.errors()
        if not reported:
            _report_form((name,), value, errors, findings)
            reported = True
        value = _without(value, errors)
        if value is None:
            return None


def _search_kind_holds(search: dict[Any, Any], findings: _Findings) -> bool:
    if "kind" not in search:
        findings.at_key(("search",), "`kind` is missing")
    elif not (isinstance(search["kind"], str) and search["kind"] in SEARCHES):
        known = ", ".join(f"`{kind}`" for kind in SEARCHES)
        near = nearest(search["kind"], SEARCHES)
        findings.at_value(("search", "kind"), f"{_shown(search['kind'])} is not one of {known}{near}")
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


def _report_form(prefix: Location, section: Any, errors: list[ErrorDetails], findings: _Findings) -> None:
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
            findings.at_value(location, f"{_shown(value)} is not {error['msg']}{_remedy(location, value)}")
        elif kind in ("model_type", "dict_type", "model_attributes_type"):
            findings.at_value(location, f"{_shown(value)} is not a mapping of keys to values")
        else:
            findings.at_value(location, f"{_shown(value)} can't be used: {error['msg'].lower()}")


def _why_unknown(error: ErrorDetails, location: Location) -> str:
    tags = [part for part in error["loc"] if part in _FORMS]
    form = _FORMS[str(tags[-1])] if tags else Outputs
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
    return f"unknown key{nearest(key, known)}"


def _remedy(location: Location, value: Any) -> str:
    if location[0] == "space" and len(location) > 1:
        if isinstance(value, dict) and len(value) == 1:
            return nearest(next(iter(value)), DISTRIBUTIONS)
        if isinstance(value, str | int | float) and not isinstance(location[-1], int):
            return f"; write `[{value}]`" if not isinstance(value, bool) else f"; write `[{str(value).lower()}]`"
    if location == ("estimator",) and isinstance(value, str):
        return f"; write `class: {value}`"
    return ""


# ---- the meaning


@dataclass
class _Meaning:
    """Tries what a job says against what is there."""

    parts: _Parts
    folder: Path
    findings: _Findings
    unknown_steps: set[str] = field(default_factory=set)
    """Steps that can't be built: what parameters they have is not known."""

    def check(self) -> None:
        estimator = self._estimator()
        self._space(estimator)
        self._search(estimator)
        self._scoring(estimator)
        self._folds()
        if isinstance(self.parts.data, TableFile):
            self._file(self.parts.data)
        elif isinstance(self.parts.data, Dataset):
            self._dataset(self.parts.data)
        else:
            self._file_alone()
        self._outputs()

    # -- estimator

    def _estimator(self) -> Any:
        """The estimator as far as it can be built, for what is checked against it; None where it can't at all."""
        form = self.parts.estimator
        if form is None:
            return None
        if isinstance(form, Component):
            return self._component(form, ("estimator",), _why_no_estimator)
        from sklearn.pipeline import Pipeline

        names, last = step_names(form), len(form) - 1
        steps = []
        for index, (step, name) in enumerate(zip(form, names, strict=True)):
            why_not = _why_no_estimator if index == last else _why_no_transformer
            built = self._component(step, ("estimator", index), why_not)
            if name in names[:index]:
                self.findings.at_value(("estimator", index, "name"), f"`{name}` is the name of a step before")
            if built is None:
                self.unknown_steps.add(name)
            steps.append((name, "passthrough" if built is None else built))
        return Pipeline(steps)

    def _component(self, component: Component, location: Location, why_not: WhyNot | None = None) -> Any:
        """The component, built without what is wrong with it; None where that can't be. What is wrong is reported."""
        before = len(self.findings.found)
        sound = dict(component.parameters)
        factory = self._factory(component, (*location, "class"), why_not)
        for name in self._arguments(factory, component.parameters, location) if factory is not None else ():
            del sound[name]
        for name, value in component.parameters.items():
            place = (*location, "parameters", name)
            if not self._value(value, place):
                sound.pop(name, None)
            elif refusal := _refusal(factory, name, value):
                self.findings.at_value(place, f"{_shown(value)} {refusal}")
        if factory is None:
            return None
        try:
            return component.model_copy(update={"parameters": sound}).build()
        except Exception as error:
            if len(self.findings.found) == before:
                message = f"`{component.class_name}` refuses its parameters: {in_a_line(error)}"
                self.findings.at_key(location, message)
            return None

    def _factory(self, component: Component, location: Location, why_not: WhyNot | None) -> Any:
        try:
            factory = import_named(component.import_path)
        except ImportProblem as problem:
            self.findings.at_value(location, str(problem))
            return None
        reason = "it is not a class" if not isinstance(factory, type) else why_not and why_not(factory)
        if reason:
            self.findings.at_value(location, f"`{component.import_path}` can't be used here: {reason}")
            return None
        return factory

    def _arguments(self, function: Any, given: dict[str, Any], location: Location) -> list[str]:
        """The given names that a function does not take. They are reported, and those that it lacks."""
        try:
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):
            return []
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return []
        takes = {
            name: parameter
            for name, parameter in parameters.items()
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        }
        unknown = [name for name in given if name not in takes]
        for name in unknown:
            message = f"`{function.__name__}` has no parameter `{name}`{nearest(name, takes)}"
            self.findings.at_key((*location, "parameters", name), message)
        for name, parameter in takes.items():
            if parameter.default is parameter.empty and name not in given:
                self.findings.at_key((*location, "parameters"), f"`{name}` is missing")
        return unknown

    def _value(self, value: Any, location: Location) -> bool:
        """Whether a parameter's value can be built; if not, why is reported."""
        before = len(self.findings.found)
        try:
            component = as_component(value)
        except ValidationError as error:
            _report_form(location, value, error.errors(), self.findings)
            return False
        if component is not None:
            self._component(component, location)
        elif (members := as_tuple(value)) is not None:
            for index, member in enumerate(members):
                self._value(member, (*location, "tuple", index))
        elif isinstance(value, dict):
            for key, member in value.items():
                self._value(member, (*location, key))
        elif isinstance(value, list):
            for index, member in enumerate(value):
                self._value(member, (*location, index))
        return len(self.findings.found) == before

    # -- space and search

    def _space(self, estimator: Any) -> None:
        space = self.parts.space
        if space is None:
            return
        many = isinstance(space, tuple)
        for index, subspace in enumerate(space if many else (space,)):
            location: Location = ("space", index) if many else ("space",)
            for name, values in subspace.items():
                self._space_of(estimator, subspace, name, values, (*location, name))

    def _space_of(
        self,
        estimator: Any,
        subspace: dict[str, Any],
        name: str,
        values: tuple[Any, ...] | Distribution,
        location: Location,
    ) -> None:
        search = self.parts.search
        if search is not None and not search.samples and not isinstance(values, tuple):
            remedy = "write its values as a list" if isinstance(values, Choice) else "write a list of values"
            self.findings.at_value(location, f"a `{search.kind}` search takes no distribution; {remedy}")
        tries = [(place, value) for place, value in _trials(values, location) if self._value(value, place)]
        if estimator is None:
            return
        parameters = estimator.get_params()
        prefix, _, own_name = name.rpartition("__")
        if any(name.startswith(f"{other}__") for other in {*subspace, *self.unknown_steps}):
            # The space replaces what the parameter belongs to, or it can't be built: not known what it has.
            return
        if name not in parameters:
            owner = _owner_name(estimator)
            self.findings.at_key(location, f"{owner} has no parameter `{name}`{nearest(name, parameters)}")
            return
        owner = parameters[prefix] if prefix else estimator
        for place, value in tries:
            if refusal := _refusal(owner, own_name, value):
                drawn = "can draw " if isinstance(values, Uniform | LogUniform | RandomInteger) else ""
                shown = f"`{value:.6g}`, which" if drawn else _shown(value)
                self.findings.at_value(place, f"{drawn}{shown} {refusal}")
                if drawn:
                    return

    def _search(self, estimator: Any) -> None:
        search, outputs = self.parts.search, self.parts.outputs
        if search is None:
            return
        if search.refit is False and outputs is not None and outputs.model is not None:
            message = "no model is fitted with `refit: false`: leave out `outputs.model`"
            self.findings.at_value(("search", "refit"), message)
        if isinstance(search, HalvingGridSearch | HalvingRandomSearch) and search.resource != "n_samples":
            self._resource(search, estimator)

    def _resource(self, search: HalvingGridSearch | HalvingRandomSearch, estimator: Any) -> None:
        location = ("search", "resource")
        spaces = self.parts.space if isinstance(self.parts.space, tuple) else (self.parts.space or {},)
        if estimator is not None and search.resource not in estimator.get_params():
            near = nearest(search.resource, ["n_samples", *estimator.get_params()])
            message = f"`{search.resource}` is neither `n_samples` nor a parameter of the estimator{near}"
            self.findings.at_value(location, message)
        elif any(search.resource in subspace for subspace in spaces):
            self.findings.at_value(location, f"`{search.resource}` can't be in the parameter space too")
        elif search.max_resources == "auto":
            message = (
                f"`max_resources` is missing: only of `n_samples` is it known how much `{search.resource}` there is"
            )
            self.findings.at_value(location, message)

    # -- scoring and folds

    def _scoring(self, estimator: Any) -> None:
        from sklearn.metrics import get_scorer_names

        scoring, search = self.parts.scoring, self.parts.search
        many = isinstance(scoring, tuple)
        names = scoring if isinstance(scoring, tuple) else (scoring,) if scoring else ()
        known = get_scorer_names()
        for index, name in enumerate(names):
            location: Location = ("scoring", index) if many else ("scoring",)
            if name not in known:
                self.findings.at_value(location, f"no scorer is called `{name}`{nearest(name, known)}")
            elif name in names[:index]:
                self.findings.at_value(location, f"`{name}` is listed twice")
        scores = estimator is None or hasattr(estimator, "score")
        if not scores and "scoring" not in self.findings.document.content:
            message = f"{_owner_name(estimator)} has no score of its own: give `scoring`"
            self.findings.at_key(("estimator",), message)
        if search is None:
            return
        if many and search.halves:
            self.findings.at_value(("scoring",), f"a `{search.kind}` search takes one scorer")
        elif many and search.refit is True:
            message = f"with several scorers, name the one that chooses: `refit: {names[0]}`"
            self.findings.at_value(("search", "refit"), message)
        elif isinstance(search.refit, str) and search.refit not in names:
            self.findings.at_value(
                ("search", "refit"), f"`{search.refit}` is not among the scorers{nearest(search.refit, names)}"
            )

    def _folds(self) -> None:
        form, search, data = self.parts.cv, self.parts.search, self.parts.data
        if not isinstance(form, Component):
            return
        splitter = self._component(form, ("cv",), _why_no_splitter)
        if splitter is None:
            return
        if _needs_groups(splitter) and data is not None and getattr(data, "groups", None) is None:
            remedy = "data from a `loader` has none" if isinstance(data, Dataset) else "name them in `data.groups`"
            self.findings.at_value(("cv", "class"), f"`{form.class_name}` splits by groups: {remedy}")
        shuffles = getattr(splitter, "shuffle", True) and getattr(splitter, "random_state", 0) is None
        if search is not None and search.halves and shuffles:
            message = f"a `{search.kind}` search needs the same folds each time: give `random_state`"
            self.findings.at_key(("cv", "parameters"), message)

    # -- data and outputs

    def _file(self, data: TableFile) -> None:
        try:
            columns = table_columns(beside(self.folder, data.path))
        except ConfigError as error:
            self.findings.at_value(("data", "path"), error.message.replace(str(self.folder) + os.sep, ""))
            return
        features = list(data.features or ())
        wanted: list[tuple[Location, str]] = [(("data", "target"), data.target)]
        wanted += [(("data", "groups"), data.groups)] if data.groups else []
        wanted += [(("data", "features", index), name) for index, name in enumerate(features)]
        for location, name in wanted:
            if name not in columns:
                self.findings.at_value(location, f"`{data.path}` has no column `{name}`{nearest(name, columns)}")
        for index, name in enumerate(features):
            location = ("data", "features", index)
            if name in features[:index]:
                self.findings.at_value(location, f"`{name}` is listed twice")
            elif name == data.target:
                self.findings.at_value(location, f"`{name}` is the target")
        if data.target in columns and not features and not set(columns) - {data.target, data.groups}:
            self.findings.at_value(("data", "path"), f"`{data.path}` has no column to learn from")

    def _file_alone(self) -> None:
        """Where something else of `data` is wrong, whether its file is there can be said all the same."""
        content = self.findings.document.content
        data = content.get("data") if isinstance(content, dict) else None
        path = data.get("path") if isinstance(data, dict) else None
        if isinstance(path, str) and not beside(self.folder, path).exists():
            self.findings.at_value(("data", "path"), f"`{path}` does not exist")

    def _dataset(self, data: Dataset) -> None:
        loaders = dataset_loaders()
        if data.loader not in loaders:
            near = nearest(data.loader, loaders)
            message = f"`sklearn.datasets` has no loader of samples and targets called `{data.loader}`{near}"
            self.findings.at_value(("data", "loader"), message)
            return
        given = dict(data.parameters)
        if "return_X_y" in given:
            del given["return_X_y"]
            self.findings.at_key(("data", "parameters", "return_X_y"), "is always true in a job: leave it out")
        self._arguments(loaders[data.loader], given, ("data",))
        for name, value in given.items():
            self._value(value, ("data", "parameters", name))

    def _outputs(self) -> None:
        outputs, data = self.parts.outputs, self.parts.data
        if outputs is None:
            return
        if outputs.model is None and outputs.table is None:
            given = self.findings.document.content["outputs"]
            if not given:
                self.findings.at_key(("outputs",), "is empty: give `model`, `table` or both")
        for name, text in (("model", outputs.model), ("table", outputs.table)):
            if text is None:
                continue
            path, location = beside(self.folder, text), ("outputs", name)
            if not path.parent.is_dir():
                self.findings.at_value(location, f"folder `{Path(text).parent}` does not exist")
            elif not os.access(path.parent, os.W_OK | os.X_OK):
                self.findings.at_value(location, f"folder `{Path(text).parent}` can't be written to")
            elif path.is_dir():
                self.findings.at_value(location, f"`{text}` is a folder")
            elif isinstance(data, TableFile) and path.resolve() == beside(self.folder, data.path).resolve():
                self.findings.at_value(location, f"`{text}` is the data file: it would be overwritten")


def table_columns(path: Path) -> list[str]:
    """The names of a data file's columns, from its header or schema alone."""
    if not path.exists():
        raise ConfigError(f"`{path}` does not exist")
    if not path.is_file():
        raise ConfigError(f"`{path}` is not a file")
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            # By way of pandas, which keeps an index as a column of the file.
            frame = pyarrow.parquet.read_schema(path).empty_table().to_pandas()
        else:
            import pandas

            frame = pandas.read_csv(path, nrows=0)
    except Exception as error:
        raise ConfigError(f"`{path}` can't be read: {in_a_line(error)}") from error
    return [str(column) for column in frame.columns]


def _trials(values: tuple[Any, ...] | Distribution, location: Location) -> Iterator[tuple[Location, Any]]:
    """Values that a search may try, each with its place: all of a list, the ends and the middle of a distribution."""
    if isinstance(values, tuple):
        yield from (((*location, index), value) for index, value in enumerate(values))
    elif isinstance(values, Choice):
        yield from (((*location, "choice", index), value) for index, value in enumerate(values.choice))
    elif isinstance(values, RandomInteger):
        first, end = values.randint
        yield from (((*location, "randint"), value) for value in (first, end - 1))
    elif isinstance(values, Uniform | LogUniform):
        kind = type(values).tag.strip("<>")
        low, high = values.uniform if isinstance(values, Uniform) else values.loguniform
        # Not the bounds: they are never drawn, and a parameter may exclude them.
        inner = ((low + high) / 2, math.nextafter(low, high), math.nextafter(high, low))
        yield from (((*location, kind), value) for value in inner)


def _refusal(owner: Any, name: str, value: Any) -> str:
    """`is not ...`: why an estimator of scikit-learn would not take a value. Nothing where that is not known."""
    constraints = getattr(owner, "_parameter_constraints", None)
    if not isinstance(constraints, dict) or name not in constraints:
        return ""
    try:
        # Private, and the only way to hear it before a fit; without it the fit says the same, later.
        from sklearn.utils._param_validation import validate_parameter_constraints
    except ImportError:
        return ""
    try:
        validate_parameter_constraints({name: constraints[name]}, {name: build_value(value)}, "")
    except ValueError as error:
        words = re.search(r"must be (.*)\. Got .* instead\.$", str(error), re.DOTALL)
        if words:
            # Its alternatives come from a set: in this order the message is the same each time.
            ordered = re.sub(r"\{(.*?)\}", lambda found: f"{{{', '.join(sorted(found[1].split(', ')))}}}", words[1])
            return f"is not {ordered}"
        return f"is refused: {in_a_line(error)}"
    return ""


def _why_no_estimator(factory: type) -> str:
    lacking = [name for name in ("fit", "get_params", "set_params") if not hasattr(factory, name)]
    return f"it is not an estimator: it has no `{lacking[0]}`" if lacking else ""


def _why_no_transformer(factory: type) -> str:
    if reason := _why_no_estimator(factory):
        return reason
    # A class may offer it only with some parameters; then it is a descriptor, and `dir` still names it.
    return "" if "transform" in dir(factory) else "only the last step may lack a `transform`"


def _why_no_splitter(factory: type) -> str:
    lacking = [name for name in ("split", "get_n_splits") if not hasattr(factory, name)]
    return f"it is not a splitter: it has no `{lacking[0]}`" if lacking else ""


def _needs_groups(splitter: Any) -> bool:
    try:
        return splitter.get_metadata_routing().split.requests.get("groups") is True
    except AttributeError:
        return False


def _owner_name(estimator: Any) -> str:
    return "the pipeline" if hasattr(estimator, "steps") else f"`{type(estimator).__name__}`"
