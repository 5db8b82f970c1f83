"""Check the meaning of a job file against classes, data and folders: the third of three passes over it.

The estimator is built, and the data's columns and the output folders are looked up; nothing is fitted or written.
Building imports the estimator's module, which runs its top-level code, as `import` does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from skjob.errors import did_you_mean
from skjob.jobfile.parser import Location, format_value
from skjob.jobfile.schema import Component, Dataset, TableFile
from skjob.jobfile.schema_search import (
    Choice,
    Distribution,
    HalvingGridSearch,
    HalvingRandomSearch,
    LogUniform,
    RandomInteger,
    Uniform,
)
from skjob.jobfile.validate_data import DataValidator
from skjob.jobfile.validate_estimator import owner_name, rejection_reason


class Validator(DataValidator):
    """Checks all sections of a job."""

    def check(self) -> None:
        """Report every problem of the sections that are valid on their own."""
        estimator = self._estimator()
        self._space(estimator)
        self._search(estimator)
        self._single_fit()
        self._scoring(estimator)
        self._folds()
        if isinstance(self.sections.data, TableFile):
            self._file(self.sections.data)
        elif isinstance(self.sections.data, Dataset):
            self._dataset(self.sections.data)
        else:
            self._file_alone()
        self._outputs()

    def _space(self, estimator: Any) -> None:
        space = self.sections.space
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
        search = self.sections.search
        if search is not None and not search.samples and not isinstance(values, tuple):
            remedy = "write its values as a list" if isinstance(values, Choice) else "write a list of values"
            self.diagnostics.at_value(location, f"a `{search.kind}` search does not accept a distribution; {remedy}")
        tries = [(place, value) for place, value in _trials(values, location) if self._value(value, place)]
        if estimator is None:
            return
        parameters = estimator.get_params()
        prefix, _, own_name = name.rpartition("__")
        if any(name.startswith(f"{other}__") for other in {*subspace, *self.unknown_steps}):
            # The space replaces what the parameter belongs to, or it cannot be built: its parameters are unknown.
            return
        if name not in parameters:
            owner = owner_name(estimator)
            self.diagnostics.at_key(location, f"{owner} has no parameter `{name}`{did_you_mean(name, parameters)}")
            return
        owner = parameters[prefix] if prefix else estimator
        for place, value in tries:
            if reason := rejection_reason(owner, own_name, value):
                drawn = "can draw " if isinstance(values, Uniform | LogUniform | RandomInteger) else ""
                tried = f"`{value:.6g}`, which" if drawn else format_value(value)
                self.diagnostics.at_value(place, f"{drawn}{tried} {reason}")
                if drawn:
                    return

    def _search(self, estimator: Any) -> None:
        search, outputs = self.sections.search, self.sections.outputs
        if search is None:
            return
        if search.refit is False and outputs is not None and outputs.model is not None:
            message = "no model is fitted with `refit: false`: leave out `outputs.model`"
            self.diagnostics.at_value(("search", "refit"), message)
        if isinstance(search, HalvingGridSearch | HalvingRandomSearch) and search.resource != "n_samples":
            self._resource(search, estimator)

    def _resource(self, search: HalvingGridSearch | HalvingRandomSearch, estimator: Any) -> None:
        location = ("search", "resource")
        spaces = self.sections.space if isinstance(self.sections.space, tuple) else (self.sections.space or {},)
        if estimator is not None and search.resource not in estimator.get_params():
            suggestion = did_you_mean(search.resource, ["n_samples", *estimator.get_params()])
            message = f"`{search.resource}` is neither `n_samples` nor a parameter of the estimator{suggestion}"
            self.diagnostics.at_value(location, message)
        elif any(search.resource in subspace for subspace in spaces):
            self.diagnostics.at_value(location, f"`{search.resource}` cannot be in the parameter space too")
        elif search.max_resources == "auto":
            message = (
                f"`max_resources` is missing: `auto` is possible for `n_samples` only, not for `{search.resource}`"
            )
            self.diagnostics.at_value(location, message)

    def _single_fit(self) -> None:
        """Report keys of a search in a single fit, and keys of a single fit in a search."""
        given = self.diagnostics.document.content
        if not isinstance(given, dict):
            return
        if "search" in given:
            if "space" not in given:
                self.diagnostics.at_key((), "`space` is missing")
            if "holdout" in given:
                self.diagnostics.at_key(("holdout",), "belongs to a single fit: a `search` scores on its folds")
            return
        if "space" in given:
            self.diagnostics.at_key(("space",), "belongs to a `search`: give one, or leave this out for a single fit")
        if "cv" in given:
            self.diagnostics.at_key(("cv",), "belongs to a `search`: a single fit is scored on the rows of `holdout`")
        if self.sections.outputs is not None and self.sections.outputs.table is not None:
            self.diagnostics.at_key(("outputs", "table"), "belongs to a `search`: a single fit has only a `model`")
        if isinstance(self.sections.data, TableFile) and self.sections.data.groups is not None:
            self.diagnostics.at_key(("data", "groups"), "belongs to the folds of a `search`")

    def _scoring(self, estimator: Any) -> None:
        from sklearn.metrics import get_scorer_names

        scoring, search = self.sections.scoring, self.sections.search
        many = isinstance(scoring, tuple)
        names = scoring if isinstance(scoring, tuple) else (scoring,) if scoring else ()
        known = get_scorer_names()
        for index, name in enumerate(names):
            location: Location = ("scoring", index) if many else ("scoring",)
            if name not in known:
                self.diagnostics.at_value(location, f"unknown scorer `{name}`{did_you_mean(name, known)}")
            elif name in names[:index]:
                self.diagnostics.at_value(location, f"`{name}` is listed twice")
        scores = estimator is None or hasattr(estimator, "score")
        if not scores and "scoring" not in self.diagnostics.document.content:
            message = f"{owner_name(estimator)} has no score of its own: give `scoring`"
            self.diagnostics.at_key(("estimator",), message)
        if search is None:
            return
        if many and search.halves:
            self.diagnostics.at_value(("scoring",), f"a `{search.kind}` search takes one scorer")
        elif many and search.refit is True:
            message = f"with several scorers, name the one that chooses: `refit: {names[0]}`"
            self.diagnostics.at_value(("search", "refit"), message)
        elif isinstance(search.refit, str) and search.refit not in names:
            self.diagnostics.at_value(
                ("search", "refit"), f"`{search.refit}` is not among the scorers{did_you_mean(search.refit, names)}"
            )

    def _folds(self) -> None:
        form, search, data = self.sections.cv, self.sections.search, self.sections.data
        if not isinstance(form, Component):
            return
        splitter = self._component(form, ("cv",), _why_no_splitter)
        if splitter is None:
            return
        if _needs_groups(splitter) and data is not None and getattr(data, "groups", None) is None:
            remedy = "data from a `loader` has none" if isinstance(data, Dataset) else "name them in `data.groups`"
            self.diagnostics.at_value(("cv", "class"), f"`{form.class_name}` splits by groups: {remedy}")
        shuffles = getattr(splitter, "shuffle", True) and getattr(splitter, "random_state", 0) is None
        if search is not None and search.halves and shuffles:
            message = f"a `{search.kind}` search needs the same folds each time: give `random_state`"
            self.diagnostics.at_key(("cv", "parameters"), message)


def _trials(values: tuple[Any, ...] | Distribution, location: Location) -> Iterator[tuple[Location, Any]]:
    """Yield values that a search may try, with their places: all of a list, ends and middle of a distribution."""
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
        # Not the bounds themselves: they are never drawn, and a parameter may exclude them.
        inner = ((low + high) / 2, math.nextafter(low, high), math.nextafter(high, low))
        yield from (((*location, kind), value) for value in inner)


def _why_no_splitter(factory: type) -> str:
    missing = [name for name in ("split", "get_n_splits") if not hasattr(factory, name)]
    return f"it is not a splitter: it has no `{missing[0]}`" if missing else ""


def _needs_groups(splitter: Any) -> bool:
    try:
        return splitter.get_metadata_routing().split.requests.get("groups") is True
    except AttributeError:
        return False
