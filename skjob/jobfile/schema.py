"""Define the job file's format as pydantic models: estimator, data, scoring, folds and outputs.

These models and those of `schema_search` are the only definition of the format: `skjob.jobfile.loader` reads a file
into them, and `skjob schema` prints them as JSON Schema, whose descriptions document the format. They are frozen,
reject unknown keys, and convert nothing: `"5"` is not a number. `skjob.jobfile.build` builds the objects they name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import ConfigDict, Discriminator, Field, StrictInt, StrictStr, Tag

from skjob.jobfile.fields import (
    DataPaths,
    Expected,
    HeldOut,
    ImportPath,
    JobModel,
    KeywordArguments,
    ModelPath,
    Name,
    TablePath,
    form_of,
)
from skjob.jobfile.schema_search import DISTRIBUTION_KINDS, SEARCH_KINDS, Distribution, SearchForm, SpaceForm


class Component(JobModel):
    """A class and the parameters to build it with."""

    tag: ClassVar[str] = "<component>"

    import_path: ImportPath = Field(
        alias="class",
        description="Import path of the class. Modules beside the job file can be imported.",
        examples=["sklearn.svm.SVC", "my_models.Stacked"],
    )
    parameters: KeywordArguments = Field(
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
            "`-2`, ... if several steps have the same one."
        ),
    )


def step_names(steps: Iterable[Step]) -> list[str]:
    """Return the names of the steps, as `sklearn.pipeline.make_pipeline` gives them."""
    steps = list(steps)
    plain = [step.name or step.class_name.lower() for step in steps]
    unnamed = [None if step.name else name for step, name in zip(steps, plain, strict=True)]
    return [
        f"{name}-{unnamed[: index + 1].count(name)}" if unnamed[index] and plain.count(name) > 1 else name
        for index, name in enumerate(plain)
    ]


class TableFile(JobModel):
    """A table in one or more files: each row is a sample."""

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
        """The paths as a tuple, even if there is only one."""
        return self.path if isinstance(self.path, tuple) else (self.path,)

    @property
    def display_name(self) -> str:
        """The table as a message names it."""
        first, *others = self.addresses
        return f"{first} and {len(others)} more" if others else first


class Dataset(JobModel):
    """A data set of scikit-learn."""

    tag: ClassVar[str] = "<loader>"

    loader: Name = Field(
        description="A loader of `sklearn.datasets`, by name.", examples=["load_digits", "make_classification"]
    )
    parameters: KeywordArguments = Field(default={}, description="Keyword arguments of the loader.")


class Outputs(JobModel):
    """Where to write the results. Each file is written atomically and replaces an older one."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    model: ModelPath | None = Field(
        default=None,
        description=(
            "The best candidate, fitted on all data; without a search, the model that was scored. Written for "
            "`joblib.load`. Relative to the job file's folder; the folder must exist."
        ),
        examples=["best.joblib"],
    )
    table: TablePath | None = Field(
        default=None,
        description=(
            "The search's `cv_results_`, one row per candidate, as CSV, Parquet or JSON depending on its suffix. "
            "Relative to the job file's folder; the folder must exist."
        ),
        examples=["results.csv"],
    )


def _data_form(value: Any) -> str | None:
    if isinstance(value, JobModel):
        return value.tag
    if not isinstance(value, dict):
        return None
    return Dataset.tag if "loader" in value and "path" not in value else TableFile.tag


EstimatorForm: TypeAlias = Annotated[
    Annotated[Component, Tag("<component>")] | Annotated[tuple[Step, ...], Field(min_length=1), Tag("<step>")],
    Discriminator(
        form_of((dict, "<component>"), (list, "<step>"), (tuple, "<step>")),
        custom_error_type="expected",
        custom_error_message="a mapping with `class` and `parameters`, or a list of such steps",
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
        # Everything but a mapping is checked as a number, so that one message covers all of it.
        lambda value: "<component>" if isinstance(value, dict | Component) else "<folds>"
    ),
]


class DeclaredJob(JobModel):
    """A search or a single fit that skjob runs on a cluster without a script."""

    estimator: EstimatorForm = Field(
        description=(
            "The estimator to tune or to fit: one class with its parameters, or a list of steps that form a pipeline."
        )
    )
    search: SearchForm | None = Field(
        default=None,
        description=(
            "How the parameter space is searched. Without it, the estimator is fitted once with its own parameters, "
            "and scored on the rows held out (`holdout`)."
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
            "Without a search: the fraction of the rows to score the model on instead of fitting it to them. They are "
            "drawn at random, the same rows each time."
        ),
    )
    outputs: Outputs = Field(description="Where to write the fitted model and a search's table of results.")

    @property
    def scorers(self) -> tuple[str, ...]:
        """The names of the scorers; none if the estimator scores itself."""
        if self.scoring is None:
            return ()
        return (self.scoring,) if isinstance(self.scoring, str) else self.scoring

    @property
    def subspaces(self) -> tuple[dict[str, tuple[Any, ...] | Distribution], ...]:
        """The parameter space as a tuple of mappings, even if there is only one."""
        if self.space is None:
            return ()
        return self.space if isinstance(self.space, tuple) else (self.space,)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a job file, for editors and for people."""
    schema = DeclaredJob.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "skjob job file",
    }


def forms() -> Iterator[type[JobModel]]:
    """Yield every model that a mapping of a job file can be read into."""
    yield from (Component, Step, TableFile, Dataset, *SEARCH_KINDS.values(), *DISTRIBUTION_KINDS.values())
