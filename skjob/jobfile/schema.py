"""What a job file says, as values: estimator, search, parameter space, data, scoring, folds and outputs.

These models are the one definition of the format: `skjob.jobfile.loader` reads a file into them, `skjob schema` prints
them as JSON Schema, whose descriptions are the format's documentation. They are frozen, refuse unknown keys, and
convert nothing: `"5"` is not a number. `build` turns a value into the object it names; scikit-learn, scipy and the
user's own modules are imported there and nowhere else, as an `import` statement would import them: the module's top
level runs.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    Tag,
)

from skjob.errors import in_a_line
from skjob.jobfile.fields import (
    DataPaths,
    Expected,
    Flag,
    HeldOut,
    ImportPath,
    ModelPath,
    Name,
    Parameters,
    Positive,
    Seed,
    TablePath,
    ascending,
    ascending_above_zero,
)
from skjob.utils.suggestions import did_you_mean


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)

    tag: ClassVar[str] = ""
    """How a union of several forms marks this one in the place of a problem; never a key of a file."""


class Component(_Value):
    """A class and the parameters to build it with."""

    tag: ClassVar[str] = "<component>"

    import_path: ImportPath = Field(
        alias="class",
        description="Import path of the class. Modules beside the job file can be imported.",
        examples=["sklearn.svm.SVC", "my_models.Stacked"],
    )
    parameters: Parameters = Field(
        default={},
        description=(
            "Keyword arguments of the class. Besides plain values: `{class: ..., parameters: ...}` is built into an "
            "object, `{tuple: [1, 2]}` into a tuple."
        ),
    )

    @property
    def class_name(self) -> str:
        """The last part of the import path."""
        return self.import_path.rpartition(".")[2]

    def build(self) -> Any:
        """The object. Imports its module."""
        factory = import_named(self.import_path)
        return factory(**{name: build_value(value) for name, value in self.parameters.items()})


class Step(Component):
    """One step of a pipeline."""

    tag: ClassVar[str] = "<step>"

    name: (
        Annotated[
            StrictStr,
            Field(pattern=r"^_?([^_]+_?)+$"),
            Expected("a name of a step, without `__`"),
        ]
        | None
    ) = Field(
        default=None,
        description=(
            "What the parameter space calls the step. By default the class's name in lower case, followed by `-1`, "
            "`-2`, ... where several steps have the same one."
        ),
    )


def step_names(steps: Iterable[Step]) -> list[str]:
    """What each step is called, as `sklearn.pipeline.make_pipeline` would call it."""
    steps = list(steps)
    plain = [step.name or step.class_name.lower() for step in steps]
    unnamed = [None if step.name else name for step, name in zip(steps, plain, strict=True)]
    return [
        f"{name}-{unnamed[: index + 1].count(name)}" if unnamed[index] and plain.count(name) > 1 else name
        for index, name in enumerate(plain)
    ]


class _Search(_Value):
    refit: Annotated[StrictBool | StrictStr, Expected("`true`, `false`, or the name of one of the scorers")] = Field(
        default=True,
        description=(
            "Fit the best candidate again on all data. With several scorers: the name of the one that chooses it."
        ),
    )
    error_score: Annotated[Literal["raise", "nan"] | StrictFloat, Expected("`raise`, `nan` or a number")] = Field(
        default="nan", description="The score of a fit that fails; `raise` ends the search with its error."
    )
    return_train_score: Flag = Field(
        default=False, description="Score the training part of each fold too, for the table."
    )

    @property
    def samples(self) -> bool:
        """Whether candidates are drawn, so that the space may hold distributions."""
        return False

    @property
    def halves(self) -> bool:
        """Whether candidates are eliminated in rounds."""
        return False


class GridSearch(_Search):
    """Every combination of the parameter space."""

    tag: ClassVar[str] = "<grid>"

    kind: Literal["grid"] = Field(description="Try every combination of the parameter space.")


class RandomSearch(_Search):
    """A number of combinations, drawn at random."""

    tag: ClassVar[str] = "<random>"

    kind: Literal["random"] = Field(description="Try combinations drawn at random from the parameter space.")
    n_iter: Positive = Field(default=10, description="How many combinations to try.")
    random_state: Seed = Field(
        default=0, description="Seed of the draw. The same each time by default; `null` draws anew each time."
    )

    @property
    def samples(self) -> bool:
        return True


class _Halving(_Search):
    factor: Annotated[StrictFloat, Field(gt=1), Expected("a number above 1")] = Field(
        default=3, description="Each round keeps one candidate of so many, with so many times the resources."
    )
    resource: Name = Field(
        default="n_samples",
        description="What grows from round to round: `n_samples`, or a whole-number parameter of the estimator.",
    )
    min_resources: Annotated[
        Literal["exhaust", "smallest"] | Positive, Expected("`exhaust`, `smallest` or a whole number of at least 1")
    ] = Field(default="exhaust", description="The resources of the first round.")
    max_resources: Annotated[Literal["auto"] | Positive, Expected("`auto` or a whole number of at least 1")] = Field(
        default="auto", description="The most resources a candidate gets; all samples by default."
    )
    aggressive_elimination: Flag = Field(
        default=False, description="Repeat the first round until few enough candidates are left for the last."
    )
    random_state: Seed = Field(
        default=0, description="Seed of the draws. The same each time by default; `null` draws anew each time."
    )

    @property
    def halves(self) -> bool:
        return True


class HalvingGridSearch(_Halving):
    """Every combination, eliminated in rounds."""

    tag: ClassVar[str] = "<halving-grid>"

    kind: Literal["halving-grid"] = Field(description="Start with every combination; each round keeps the best.")


class HalvingRandomSearch(_Halving):
    """A number of combinations drawn at random, eliminated in rounds."""

    tag: ClassVar[str] = "<halving-random>"

    kind: Literal["halving-random"] = Field(
        description="Start with combinations drawn at random; each round keeps the best."
    )
    n_candidates: Annotated[Literal["exhaust"] | Positive, Expected("`exhaust` or a whole number of at least 1")] = (
        Field(default="exhaust", description="How many combinations the first round has.")
    )

    @property
    def samples(self) -> bool:
        return True


class Uniform(_Value):
    """Real numbers, evenly between two bounds."""

    tag: ClassVar[str] = "<uniform>"

    uniform: Annotated[
        tuple[StrictFloat, StrictFloat], AfterValidator(ascending), Expected("two numbers, the smaller one first")
    ] = Field(description="The lower and the upper bound.")

    def build(self) -> Any:
        """scipy's distribution."""
        from scipy.stats import uniform

        low, high = self.uniform
        return uniform(low, high - low)


class LogUniform(_Value):
    """Real numbers, evenly between two bounds on a logarithmic scale."""

    tag: ClassVar[str] = "<loguniform>"

    loguniform: Annotated[
        tuple[StrictFloat, StrictFloat],
        AfterValidator(ascending_above_zero),
        Expected("two numbers above 0, the smaller one first"),
    ] = Field(description="The lower and the upper bound, both above 0.")

    def build(self) -> Any:
        """scipy's distribution."""
        from scipy.stats import loguniform

        return loguniform(*self.loguniform)


class RandomInteger(_Value):
    """Whole numbers from a range."""

    tag: ClassVar[str] = "<randint>"

    randint: Annotated[
        tuple[StrictInt, StrictInt],
        AfterValidator(ascending),
        Expected("two whole numbers, the smaller one first"),
    ] = Field(description="The first number, and the one after the last, as in `scipy.stats.randint`.")

    def build(self) -> Any:
        """scipy's distribution."""
        from scipy.stats import randint

        return randint(*self.randint)


class Choice(_Value):
    """One of several values, each as likely as the other."""

    tag: ClassVar[str] = "<choice>"

    choice: Annotated[tuple[Any, ...], Field(min_length=1), Expected("a list of at least one value")] = Field(
        description="The values."
    )

    def build(self) -> list[Any]:
        """The values, as scikit-learn takes them."""
        return [build_value(value) for value in self.choice]


Distribution: TypeAlias = Uniform | LogUniform | RandomInteger | Choice
DISTRIBUTIONS: Mapping[str, type[Distribution]] = {
    "uniform": Uniform,
    "loguniform": LogUniform,
    "randint": RandomInteger,
    "choice": Choice,
}


class TableFile(_Value):
    """A table in a file: one row a sample."""

    tag: ClassVar[str] = "<file>"

    path: DataPaths = Field(
        description=(
            "A CSV or Parquet file, a pattern such as `data/*.parquet`, a folder of Parquet files, or a list of these. "
            "A path is relative to the job file's folder; an address that fsspec knows, `s3://...`, is read by the "
            "workers themselves."
        ),
        examples=["data/train.parquet", "s3://bucket/measurements/*.parquet"],
    )
    target: Name = Field(description="The column to predict.")
    features: Annotated[tuple[StrictStr, ...] | None, Field(min_length=1), Expected("a list of column names")] = Field(
        default=None, description="The columns to learn from, in this order. By default all but target and groups."
    )
    groups: Name | None = Field(
        default=None, description="The column of group labels, for a splitter such as `GroupKFold`."
    )

    @property
    def addresses(self) -> tuple[str, ...]:
        """The paths as a list, also where there is one."""
        return self.path if isinstance(self.path, tuple) else (self.path,)

    @property
    def shown(self) -> str:
        """What a message calls it."""
        first, *others = self.addresses
        return f"{first} and {len(others)} more" if others else first


class Dataset(_Value):
    """A data set of scikit-learn."""

    tag: ClassVar[str] = "<loader>"

    loader: Name = Field(
        description="A loader of `sklearn.datasets`, by name.", examples=["load_digits", "make_classification"]
    )
    parameters: Parameters = Field(default={}, description="Keyword arguments of the loader.")

    def build(self) -> tuple[Any, Any]:
        """What to learn from, and what to predict."""
        loader = dataset_loaders()[self.loader]
        own = {} if self.loader.startswith("make_") else {"return_X_y": True}
        X, y = loader(**{name: build_value(value) for name, value in self.parameters.items()}, **own)  # noqa: N806
        return X, y


class Outputs(_Value):
    """Where the results go. Each file appears complete or not at all, and replaces an older one."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    model: ModelPath | None = Field(
        default=None,
        description=(
            "The best candidate, fitted on all data, or without a search the model that was scored; as `joblib.load` "
            "reads it. Relative to the job file's folder; the folder must exist."
        ),
        examples=["best.joblib"],
    )
    table: TablePath | None = Field(
        default=None,
        description=(
            "The search's `cv_results_`, one row a candidate, as CSV, Parquet or JSON by its suffix. Relative to the "
            "job file's folder; the folder must exist."
        ),
        examples=["results.csv"],
    )


def _form_of(*forms: tuple[type, str]) -> Any:
    """Chooses a union's form by the type of what is in the file."""

    def choose(value: Any) -> str | None:
        if isinstance(value, _Value):
            return value.tag
        return next((tag for kind, tag in forms if isinstance(value, kind)), None)

    return choose


def _search_form(value: Any) -> str | None:
    if isinstance(value, _Value):
        return value.tag
    kind = value.get("kind") if isinstance(value, dict) else None
    return SEARCHES[kind].tag if isinstance(kind, str) and kind in SEARCHES else None


def _data_form(value: Any) -> str | None:
    if isinstance(value, _Value):
        return value.tag
    if not isinstance(value, dict):
        return None
    return Dataset.tag if "loader" in value and "path" not in value else TableFile.tag


def _values_form(value: Any) -> str | None:
    if isinstance(value, _Value):
        return value.tag
    if isinstance(value, dict):
        return next((DISTRIBUTIONS[key].tag for key in value if key in DISTRIBUTIONS), None)
    return "<list>" if isinstance(value, list | tuple) else None


Search: TypeAlias = GridSearch | RandomSearch | HalvingGridSearch | HalvingRandomSearch
SEARCHES: Mapping[str, type[Search]] = {
    "grid": GridSearch,
    "random": RandomSearch,
    "halving-grid": HalvingGridSearch,
    "halving-random": HalvingRandomSearch,
}

EstimatorForm: TypeAlias = Annotated[
    Annotated[Component, Tag("<component>")] | Annotated[tuple[Step, ...], Field(min_length=1), Tag("<step>")],
    Discriminator(
        _form_of((dict, "<component>"), (list, "<step>"), (tuple, "<step>")),
        custom_error_type="expected",
        custom_error_message="a mapping with `class` and `parameters`, or a list of such steps",
    ),
]
SearchForm: TypeAlias = Annotated[
    Annotated[GridSearch, Tag("<grid>")]
    | Annotated[RandomSearch, Tag("<random>")]
    | Annotated[HalvingGridSearch, Tag("<halving-grid>")]
    | Annotated[HalvingRandomSearch, Tag("<halving-random>")],
    Discriminator(
        _search_form, custom_error_type="expected", custom_error_message="a mapping with the search's `kind`"
    ),
]
SpaceValues: TypeAlias = Annotated[
    Annotated[tuple[Any, ...], Field(min_length=1), Expected("a list of at least one value"), Tag("<list>")]
    | Annotated[Uniform, Tag("<uniform>")]
    | Annotated[LogUniform, Tag("<loguniform>")]
    | Annotated[RandomInteger, Tag("<randint>")]
    | Annotated[Choice, Tag("<choice>")],
    Discriminator(
        _values_form, custom_error_type="expected", custom_error_message="a list of values or a distribution"
    ),
]
Subspace: TypeAlias = Annotated[dict[StrictStr, SpaceValues], Field(min_length=1)]
SpaceForm: TypeAlias = Annotated[
    Annotated[Subspace, Tag("<subspace>")] | Annotated[tuple[Subspace, ...], Field(min_length=1), Tag("<subspaces>")],
    Discriminator(
        _form_of((dict, "<subspace>"), (list, "<subspaces>"), (tuple, "<subspaces>")),
        custom_error_type="expected",
        custom_error_message="a mapping of parameters to their values, or a list of such mappings",
    ),
]
DataForm: TypeAlias = Annotated[
    Annotated[TableFile, Tag("<file>")] | Annotated[Dataset, Tag("<loader>")],
    Discriminator(
        _data_form,
        custom_error_type="expected",
        custom_error_message="a mapping with a `path` and a `target`, or with a `loader`",
    ),
]
ScoringForm: TypeAlias = Annotated[
    Name | Annotated[tuple[Name, ...], Field(min_length=1)] | None,
    Expected("the name of a scorer such as `accuracy`, or a list of them"),
]
FoldsForm: TypeAlias = Annotated[
    Annotated[StrictInt, Field(ge=2), Expected("a whole number of at least 2, or a splitter"), Tag("<folds>")]
    | Annotated[Component, Tag("<component>")],
    Discriminator(
        # Whatever is not a mapping is judged as a number, so that there is one message for all of it.
        lambda value: "<component>" if isinstance(value, dict | Component) else "<folds>"
    ),
]


class DeclaredJob(_Value):
    """A search, or a single fit, that skjob runs on a cluster, without a script."""

    estimator: EstimatorForm = Field(
        description=(
            "The estimator to tune or to fit: one class with its parameters, or a list of steps that form a pipeline."
        )
    )
    search: SearchForm | None = Field(
        default=None,
        description=(
            "How the parameter space is searched. Without it the estimator is fitted once, as it is, and scored on "
            "the rows that `holdout` leaves out."
        ),
    )
    space: SpaceForm | None = Field(
        default=None,
        description=(
            "The values to try for each parameter: a list, or in a random search a distribution. A pipeline's "
            "parameters are named `step__parameter`. A list of such mappings is searched one after the other."
        ),
        examples=[{"svc__C": [0.1, 1, 10]}, {"C": {"loguniform": [0.01, 100]}}],
    )
    data: DataForm = Field(description="What to learn from: a file, or a data set of scikit-learn.")
    scoring: ScoringForm = Field(
        default=None,
        description=(
            "A scorer of scikit-learn by name, or several; by default the estimator's own score. With several, "
            "`search.refit` names the one that chooses."
        ),
        examples=["accuracy", "neg_mean_squared_error"],
    )
    cv: FoldsForm = Field(default=5, description="A search's number of folds, or a splitter with its parameters.")
    holdout: HeldOut = Field(
        default=0.25,
        description=(
            "Without a search: the part of the rows, drawn at random and the same each time, that the model is scored "
            "on and does not learn from."
        ),
    )
    outputs: Outputs = Field(description="Where the fitted model and a search's table of results go.")

    @property
    def scorers(self) -> tuple[str, ...]:
        """The names of the scorers; none where the estimator scores itself."""
        if self.scoring is None:
            return ()
        return (self.scoring,) if isinstance(self.scoring, str) else self.scoring

    @property
    def subspaces(self) -> tuple[dict[str, tuple[Any, ...] | Distribution], ...]:
        """The parameter space as a list of mappings, also where there is one."""
        if self.space is None:
            return ()
        return self.space if isinstance(self.space, tuple) else (self.space,)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a job file, for editors and for people."""
    schema = DeclaredJob.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "skjob job file",
    }


# ---- from a value to the object it names


class ImportProblem(Exception):
    """An import path that leads nowhere, and why."""


def import_named(path: str) -> Any:
    """What an import path names. Imports the module, unless it is one of Python's own: nothing in those is fitted."""
    module_path, _, attribute = path.rpartition(".")
    if module_path.partition(".")[0] in sys.stdlib_module_names:
        raise ImportProblem(f"`{module_path}` is a module of Python's own, and has nothing that a job is made of")
    try:
        module = importlib.import_module(module_path)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        # Another name than ours, or than a part of ours: the module is there, and what it imports is not.
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
    """The component that a parameter's value describes, where it has the form of one."""
    if not (isinstance(value, dict) and "class" in value and set(value) <= {"class", "parameters"}):
        return None
    return Component.model_validate(value)


def as_tuple(value: Any) -> tuple[Any, ...] | None:
    """The members that `{tuple: [...]}` describes, where a value has that form."""
    if isinstance(value, dict) and set(value) == {"tuple"} and isinstance(value["tuple"], list | tuple):
        return tuple(value["tuple"])
    return None


def build_value(value: Any) -> Any:
    """A parameter's value as the object it stands for: components and tuples are built, the rest stays."""
    if (component := as_component(value)) is not None:
        return component.build()
    if (members := as_tuple(value)) is not None:
        return tuple(build_value(member) for member in members)
    if isinstance(value, dict):
        return {key: build_value(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [build_value(member) for member in value]
    return value


def build_estimator(form: Component | tuple[Step, ...]) -> Any:
    """The estimator, or the pipeline of the steps."""
    if isinstance(form, Component):
        return form.build()
    from sklearn.pipeline import Pipeline

    return Pipeline([(name, step.build()) for name, step in zip(step_names(form), form, strict=True)])


def build_space(job: DeclaredJob) -> dict[str, Any] | list[dict[str, Any]]:
    """The parameter space as scikit-learn takes it."""
    built = [{name: _build_values(values) for name, values in subspace.items()} for subspace in job.subspaces]
    return built if isinstance(job.space, tuple) else built[0]


def _build_values(values: tuple[Any, ...] | Distribution) -> Any:
    return [build_value(value) for value in values] if isinstance(values, tuple) else values.build()


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
    """The functions of `sklearn.datasets` that give samples and targets, by name."""
    from sklearn import datasets

    found = {name: getattr(datasets, name) for name in datasets.__all__}
    return {
        name: function
        for name, function in found.items()
        if name in _GENERATORS
        # `load_files` reads a folder of texts: that is a file of the user's, not a data set of scikit-learn.
        or (
            name.startswith(("load_", "fetch_"))
            and name != "load_files"
            and "return_X_y" in inspect.signature(function).parameters
        )
    }


def forms() -> Iterator[type[_Value]]:
    """Every model that a mapping of a job file can take the form of."""
    yield from (Component, Step, TableFile, Dataset, *SEARCHES.values(), *DISTRIBUTIONS.values())
