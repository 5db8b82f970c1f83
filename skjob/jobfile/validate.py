"""The meaning of a job file: what it says against what is there. The third of the three passes over it.

The estimator is really built, the data's columns are looked up and the output folders looked at; nothing is fitted,
nothing written. This imports the estimator's module, and with it runs that module's top level, as `import` does.
"""

from __future__ import annotations

import inspect
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import ValidationError

from skjob.errors import ConfigError, in_a_line
from skjob.jobfile.data.files import files_of, has_pattern, is_remote
from skjob.jobfile.data.table_size import table_of
from skjob.jobfile.imports import beside, stands_in
from skjob.jobfile.parser import Diagnostics, Location, shown
from skjob.jobfile.schema import (
    Choice,
    Component,
    Dataset,
    Distribution,
    HalvingGridSearch,
    HalvingRandomSearch,
    ImportProblem,
    LogUniform,
    RandomInteger,
    TableFile,
    Uniform,
    as_component,
    as_tuple,
    build_value,
    dataset_loaders,
    import_named,
    step_names,
)
from skjob.jobfile.validate_schema import Sections, report_errors
from skjob.utils.suggestions import did_you_mean

WhyNot: TypeAlias = Callable[[type], str]
"""Why a class can't be used in some place; nothing where it can."""


@dataclass
class Validator:
    """Tries what a job says against what is there."""

    parts: Sections
    folder: Path
    findings: Diagnostics
    unknown_steps: set[str] = field(default_factory=set)
    """Steps that can't be built: what parameters they have is not known."""

    def check(self) -> None:
        estimator = self._estimator()
        self._space(estimator)
        self._search(estimator)
        self._single_fit()
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

    def _component(self, component: Component, location: Location, why_not: WhyNot) -> Any:
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
                self.findings.at_value(place, f"{shown(value)} {refusal}")
        if factory is None:
            return None
        try:
            return component.model_copy(update={"parameters": sound}).build()
        except Exception as error:
            if len(self.findings.found) == before:
                message = f"`{component.class_name}` refuses its parameters: {in_a_line(error)}"
                self.findings.at_key(location, message)
            return None

    def _factory(self, component: Component, location: Location, why_not: WhyNot) -> Any:
        try:
            factory = import_named(component.import_path)
        except ImportProblem as problem:
            self.findings.at_value(location, str(problem))
            return None
        reason = why_not(factory) if isinstance(factory, type) else "it is not a class"
        if reason:
            self.findings.at_value(location, f"`{component.import_path}` can't be used here: {reason}")
            return None
        return factory

    def _why_no_part(self, factory: type) -> str:
        """Building it runs its code: only what is made to be a part of an estimator, or is the user's own, may be."""
        known = factory.__module__.partition(".")[0] == "sklearn"
        for names in (("get_params", "set_params"), ("split", "get_n_splits")):
            known = known or all(hasattr(factory, name) for name in names)
        if known or stands_in(self.folder, sys.modules.get(factory.__module__)):
            return ""
        return "it is no estimator, kernel or splitter, neither scikit-learn's nor a class beside the job file"

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
            message = f"`{function.__name__}` has no parameter `{name}`{did_you_mean(name, takes)}"
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
            report_errors(location, value, error.errors(), self.findings)
            return False
        if component is not None:
            self._component(component, location, self._why_no_part)
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
            self.findings.at_key(location, f"{owner} has no parameter `{name}`{did_you_mean(name, parameters)}")
            return
        owner = parameters[prefix] if prefix else estimator
        for place, value in tries:
            if refusal := _refusal(owner, own_name, value):
                drawn = "can draw " if isinstance(values, Uniform | LogUniform | RandomInteger) else ""
                told = f"`{value:.6g}`, which" if drawn else shown(value)
                self.findings.at_value(place, f"{drawn}{told} {refusal}")
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
            near = did_you_mean(search.resource, ["n_samples", *estimator.get_params()])
            message = f"`{search.resource}` is neither `n_samples` nor a parameter of the estimator{near}"
            self.findings.at_value(location, message)
        elif any(search.resource in subspace for subspace in spaces):
            self.findings.at_value(location, f"`{search.resource}` can't be in the parameter space too")
        elif search.max_resources == "auto":
            message = (
                f"`max_resources` is missing: only of `n_samples` is it known how much `{search.resource}` there is"
            )
            self.findings.at_value(location, message)

    def _single_fit(self) -> None:
        """What belongs to a search is nothing without one, and the other way round."""
        given = self.findings.document.content
        if not isinstance(given, dict):
            return
        if "search" in given:
            if "space" not in given:
                self.findings.at_key((), "`space` is missing")
            if "holdout" in given:
                self.findings.at_key(("holdout",), "is for a single fit: a `search` scores on its folds")
            return
        if "space" in given:
            self.findings.at_key(("space",), "is tried by a `search`: give one, or leave it out for a single fit")
        if "cv" in given:
            self.findings.at_key(("cv",), "is for a `search`: a single fit is scored on what `holdout` leaves out")
        if self.parts.outputs is not None and self.parts.outputs.table is not None:
            self.findings.at_key(("outputs", "table"), "is of a `search`: a single fit has only a `model`")
        if isinstance(self.parts.data, TableFile) and self.parts.data.groups is not None:
            self.findings.at_key(("data", "groups"), "is for the folds of a `search`")

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
                self.findings.at_value(location, f"no scorer is called `{name}`{did_you_mean(name, known)}")
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
                ("search", "refit"), f"`{search.refit}` is not among the scorers{did_you_mean(search.refit, names)}"
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
            columns = table_of(files_of(data.addresses, self.folder)).names
        except ConfigError as error:
            for problem in error.problems:
                self.findings.at_value(("data", "path"), problem.replace(str(self.folder) + os.sep, ""))
            return
        features = list(data.features or ())
        wanted: list[tuple[Location, str]] = [(("data", "target"), data.target)]
        wanted += [(("data", "groups"), data.groups)] if data.groups else []
        wanted += [(("data", "features", index), name) for index, name in enumerate(features)]
        for location, name in wanted:
            if name not in columns:
                self.findings.at_value(location, f"`{data.shown}` has no column `{name}`{did_you_mean(name, columns)}")
        for index, name in enumerate(features):
            location = ("data", "features", index)
            if name in features[:index]:
                self.findings.at_value(location, f"`{name}` is listed twice")
            elif name == data.target:
                self.findings.at_value(location, f"`{name}` is the target")
        if data.target in columns and not features and not set(columns) - {data.target, data.groups}:
            self.findings.at_value(("data", "path"), f"`{data.shown}` has no column to learn from")

    def _file_alone(self) -> None:
        """Where something else of `data` is wrong, whether its file is there can be said all the same."""
        content = self.findings.document.content
        data = content.get("data") if isinstance(content, dict) else None
        path = data.get("path") if isinstance(data, dict) else None
        known = isinstance(path, str) and not is_remote(path) and not has_pattern(path)
        there = self._path(str(path), ("data", "path")) if known else None
        if there is not None and not there.exists():
            self.findings.at_value(("data", "path"), f"`{path}` does not exist")

    def _path(self, text: str, location: Location) -> Path | None:
        """A path beside the job file; None where it is none, which is reported."""
        try:
            return beside(self.folder, text)
        except ConfigError as error:
            self.findings.at_value(location, error.message)
            return None

    def _dataset(self, data: Dataset) -> None:
        loaders = dataset_loaders()
        if data.loader not in loaders:
            near = did_you_mean(data.loader, loaders)
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
            location = ("outputs", name)
            if text is None or (path := self._path(text, location)) is None:
                continue
            if not path.parent.is_dir():
                self.findings.at_value(location, f"folder `{Path(text).parent}` does not exist")
            elif not os.access(path.parent, os.W_OK | os.X_OK):
                self.findings.at_value(location, f"folder `{Path(text).parent}` can't be written to")
            elif path.is_dir():
                self.findings.at_value(location, f"`{text}` is a folder")
            elif isinstance(data, TableFile) and str(path.resolve()) in self._data_files(data):
                self.findings.at_value(location, f"`{text}` is the data file: it would be overwritten")

    def _data_files(self, data: TableFile) -> set[str]:
        """Those on this machine, as far as they can be found."""
        try:
            return {str(Path(file.url).resolve()) for file in files_of(data.addresses, self.folder) if not file.remote}
        except ConfigError:
            return set()


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
