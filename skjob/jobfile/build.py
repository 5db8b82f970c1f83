"""Build the objects that a job file names: estimators, distributions, splitters, data sets.

scikit-learn, scipy and the user's own modules are imported here and nowhere else, as an `import` statement imports
them: the module's top-level code runs.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import pkgutil
import sys
from collections.abc import Callable
from typing import Any

from skjob.errors import did_you_mean, in_a_line
from skjob.jobfile.schema import Component, Dataset, DeclaredJob, Step, step_names
from skjob.jobfile.schema_search import Choice, Distribution, LogUniform, Uniform


class ImportProblem(Exception):
    """An import path cannot be resolved; the message says why."""


def import_named(path: str) -> Any:
    """Import the object at a path. Reject the standard library: nothing in it can be fitted."""
    module_path, _, attribute = path.rpartition(".")
    if module_path.partition(".")[0] in sys.stdlib_module_names:
        raise ImportProblem(
            f"`{module_path}` is part of Python's standard library, which has no estimators, splitters or distributions"
        )
    try:
        module = importlib.import_module(module_path)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        # Neither this module nor one of its parents is missing, so an import inside the module failed.
        if not f"{module_path}.".startswith(f"{missing}."):
            raise ImportProblem(
                f"importing `{module_path}` failed: {type(error).__name__}: {in_a_line(error)}"
            ) from error
        raise ImportProblem(_why_not_found(missing)) from error
    except (Exception, SystemExit) as error:
        raise ImportProblem(f"importing `{module_path}` failed: {type(error).__name__}: {in_a_line(error)}") from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        public = (name for name in dir(module) if not name.startswith("_"))
        raise ImportProblem(f"module `{module_path}` has no `{attribute}`{did_you_mean(attribute, public)}") from error


def _why_not_found(missing: str) -> str:
    parent, _, name = missing.rpartition(".")
    if not parent:
        installed = importlib.metadata.packages_distributions()
        return f"package `{missing}` is not installed{did_you_mean(missing, installed)}"
    inside = pkgutil.iter_modules(getattr(importlib.import_module(parent), "__path__", None) or [])
    return f"package `{parent}` has no module `{name}`{did_you_mean(name, (each.name for each in inside))}"


def as_component(value: Any) -> Component | None:
    """Return the component that a parameter's value describes; None if it does not have the form of one."""
    if not (isinstance(value, dict) and "class" in value and set(value) <= {"class", "parameters"}):
        return None
    return Component.model_validate(value)


def as_tuple(value: Any) -> tuple[Any, ...] | None:
    """Return the members that `{tuple: [...]}` describes; None if a value does not have that form."""
    if isinstance(value, dict) and set(value) == {"tuple"} and isinstance(value["tuple"], list | tuple):
        return tuple(value["tuple"])
    return None


def build_value(value: Any) -> Any:
    """Build the object that a parameter's value stands for: a component, a tuple, or the value itself."""
    if (component := as_component(value)) is not None:
        return build_component(component)
    if (members := as_tuple(value)) is not None:
        return tuple(build_value(member) for member in members)
    if isinstance(value, dict):
        return {key: build_value(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [build_value(member) for member in value]
    return value


def build_component(component: Component) -> Any:
    """Import the class of a component and call it with the parameters."""
    factory = import_named(component.import_path)
    return factory(**{name: build_value(value) for name, value in component.parameters.items()})


def build_estimator(form: Component | tuple[Step, ...]) -> Any:
    """Build the estimator, or the pipeline of the steps."""
    if isinstance(form, Component):
        return build_component(form)
    from sklearn.pipeline import Pipeline

    return Pipeline([(name, build_component(step)) for name, step in zip(step_names(form), form, strict=True)])


def build_space(job: DeclaredJob) -> dict[str, Any] | list[dict[str, Any]]:
    """Build the parameter space as scikit-learn takes it."""
    built = [{name: _build_values(values) for name, values in subspace.items()} for subspace in job.subspaces]
    return built if isinstance(job.space, tuple) else built[0]


def _build_values(values: tuple[Any, ...] | Distribution) -> Any:
    return [build_value(value) for value in values] if isinstance(values, tuple) else build_distribution(values)


def build_distribution(distribution: Distribution) -> Any:
    """Build scipy's distribution; for a choice, the list of its values, which scikit-learn draws from."""
    if isinstance(distribution, Choice):
        return [build_value(value) for value in distribution.choice]
    from scipy import stats

    if isinstance(distribution, Uniform):
        low, high = distribution.uniform
        return stats.uniform(low, high - low)
    if isinstance(distribution, LogUniform):
        return stats.loguniform(*distribution.loguniform)
    return stats.randint(*distribution.randint)


def load_dataset(dataset: Dataset) -> tuple[Any, Any]:
    """Load a data set of scikit-learn: the features, and what to predict."""
    loader = dataset_loaders()[dataset.loader]
    own = {} if dataset.loader.startswith("make_") else {"return_X_y": True}
    features, target = loader(**{name: build_value(value) for name, value in dataset.parameters.items()}, **own)
    return features, target


# Those of `sklearn.datasets` whose names begin with `make_` and which return samples and targets.
_GENERATORS = frozenset(
    f"make_{name}"
    for name in (
        "blobs", "circles", "classification", "friedman1", "friedman2", "friedman3", "gaussian_quantiles",
        "hastie_10_2", "moons", "multilabel_classification", "regression", "s_curve", "sparse_uncorrelated",
        "swiss_roll",
    )
)  # fmt: skip


def dataset_loaders() -> dict[str, Callable[..., Any]]:
    """Return the functions of `sklearn.datasets` that give samples and targets, by name."""
    from sklearn import datasets

    public = {name: getattr(datasets, name) for name in datasets.__all__}
    return {
        name: function
        for name, function in public.items()
        if name in _GENERATORS
        # `load_files` reads a folder of the user's texts, which is not a data set of scikit-learn.
        or (
            name.startswith(("load_", "fetch_"))
            and name != "load_files"
            and "return_X_y" in inspect.signature(function).parameters
        )
    }
