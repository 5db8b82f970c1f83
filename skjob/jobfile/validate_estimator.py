"""Check the estimator of a job: build it as far as possible, and report what is wrong with it."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import ValidationError

from skjob.errors import did_you_mean, in_a_line
from skjob.jobfile.build import (
    ImportProblem,
    as_component,
    as_tuple,
    build_component,
    build_value,
    import_named,
)
from skjob.jobfile.imports import is_module_in
from skjob.jobfile.parser import Diagnostics, Location, format_value
from skjob.jobfile.schema import Component, step_names
from skjob.jobfile.validate_schema import Sections, report_errors

RejectionReason: TypeAlias = Callable[[type], str]
"""Return why a class cannot be used somewhere; an empty text if it can."""


@dataclass
class EstimatorValidator:
    """Checks the estimator of a job, and values of parameters, against the classes they name."""

    sections: Sections
    folder: Path
    diagnostics: Diagnostics
    unknown_steps: set[str] = field(default_factory=set)
    """Steps that cannot be built, so that their parameters are unknown."""

    def _estimator(self) -> Any:
        """Return the estimator as far as it can be built, to check other sections against it; None if it cannot be."""
        form = self.sections.estimator
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
                self.diagnostics.at_value(("estimator", index, "name"), f"`{name}` is the name of a step before")
            if built is None:
                self.unknown_steps.add(name)
            steps.append((name, "passthrough" if built is None else built))
        return Pipeline(steps)

    def _component(self, component: Component, location: Location, why_not: RejectionReason) -> Any:
        """Build the component without what is wrong with it, which is reported. Return None if that is impossible."""
        before = len(self.diagnostics.problems)
        accepted = dict(component.parameters)
        factory = self._factory(component, (*location, "class"), why_not)
        for name in self._arguments(factory, component.parameters, location) if factory is not None else ():
            del accepted[name]
        for name, value in component.parameters.items():
            place = (*location, "parameters", name)
            if not self._value(value, place):
                accepted.pop(name, None)
            elif reason := rejection_reason(factory, name, value):
                self.diagnostics.at_value(place, f"{format_value(value)} {reason}")
        if factory is None:
            return None
        try:
            return build_component(component.model_copy(update={"parameters": accepted}))
        except Exception as error:
            if len(self.diagnostics.problems) == before:
                message = f"`{component.class_name}` rejects its parameters: {in_a_line(error)}"
                self.diagnostics.at_key(location, message)
            return None

    def _factory(self, component: Component, location: Location, why_not: RejectionReason) -> Any:
        try:
            factory = import_named(component.import_path)
        except ImportProblem as problem:
            self.diagnostics.at_value(location, str(problem))
            return None
        reason = why_not(factory) if isinstance(factory, type) else "it is not a class"
        if reason:
            self.diagnostics.at_value(location, f"`{component.import_path}` cannot be used here: {reason}")
            return None
        return factory

    def _why_no_part(self, factory: type) -> str:
        """Return why a class must not be built as a parameter's value; empty if it may.

        Building runs the class's code, so only classes that are meant as parameters are allowed."""
        known = factory.__module__.partition(".")[0] == "sklearn"
        for names in (("get_params", "set_params"), ("split", "get_n_splits")):
            known = known or all(hasattr(factory, name) for name in names)
        if known or is_module_in(self.folder, sys.modules.get(factory.__module__)):
            return ""
        return "it is not an estimator, kernel or splitter, nor part of scikit-learn, nor a class beside the job file"

    def _arguments(self, function: Any, given: dict[str, Any], location: Location) -> list[str]:
        """Report names that a function does not accept, and required ones that are missing. Return the former."""
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
            self.diagnostics.at_key((*location, "parameters", name), message)
        for name, parameter in takes.items():
            if parameter.default is parameter.empty and name not in given:
                self.diagnostics.at_key((*location, "parameters"), f"`{name}` is missing")
        return unknown

    def _value(self, value: Any, location: Location) -> bool:
        """Return whether a parameter's value can be built; report why if not."""
        before = len(self.diagnostics.problems)
        try:
            component = as_component(value)
        except ValidationError as error:
            report_errors(location, value, error.errors(), self.diagnostics)
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
        return len(self.diagnostics.problems) == before


def rejection_reason(owner: Any, name: str, value: Any) -> str:
    """Return why an estimator of scikit-learn would reject a value, as `is not ...`; empty if that is unknown."""
    constraints = getattr(owner, "_parameter_constraints", None)
    if not isinstance(constraints, dict) or name not in constraints:
        return ""
    try:
        # Private, and the only way to know before a fit; without it the fit reports the same, later.
        from sklearn.utils._param_validation import validate_parameter_constraints
    except ImportError:
        return ""
    try:
        validate_parameter_constraints({name: constraints[name]}, {name: build_value(value)}, "")
    except ValueError as error:
        words = re.search(r"must be (.*)\. Got .* instead\.$", str(error), re.DOTALL)
        if words:
            # The alternatives come from a set; sorted, the message is the same each time.
            ordered = re.sub(r"\{(.*?)\}", lambda found: f"{{{', '.join(sorted(found[1].split(', ')))}}}", words[1])
            return f"is not {ordered}"
        return f"is rejected: {in_a_line(error)}"
    return ""


def _why_no_estimator(factory: type) -> str:
    missing = [name for name in ("fit", "get_params", "set_params") if not hasattr(factory, name)]
    return f"it is not an estimator: it has no `{missing[0]}`" if missing else ""


def _why_no_transformer(factory: type) -> str:
    if reason := _why_no_estimator(factory):
        return reason
    # A class may have it only with some parameters; then it is a descriptor, and `dir` still lists it.
    return "" if "transform" in dir(factory) else "only the last step may lack a `transform`"


def owner_name(estimator: Any) -> str:
    """Return how a message names the estimator that parameters belong to."""
    return "the pipeline" if hasattr(estimator, "steps") else f"`{type(estimator).__name__}`"
