"""Define a job file's sections `search` and `space` as pydantic models: kinds of search, and the values they try."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, StrictBool, StrictFloat, StrictInt, StrictStr, Tag

from skjob.jobfile.fields import (
    Expected,
    Flag,
    JobModel,
    Name,
    Positive,
    Seed,
    ascending,
    ascending_above_zero,
    form_of,
)


class _Search(JobModel):
    refit: Annotated[StrictBool | StrictStr, Expected("`true`, `false`, or the name of one of the scorers")] = Field(
        default=True,
        description=(
            "Refit the best candidate on all data. With several scorers: the name of the one that chooses it."
        ),
    )
    error_score: Annotated[Literal["raise", "nan"] | StrictFloat, Expected("`raise`, `nan` or a number")] = Field(
        default="nan", description="The score of a fit that fails; `raise` ends the search with its error."
    )
    return_train_score: Flag = Field(
        default=False, description="Also score the training rows of each fold, for the table."
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
        default=0, description="Seed of the draw. By default the same each time; with `null`, every run draws others."
    )

    @property
    def samples(self) -> bool:
        return True


class _Halving(_Search):
    factor: Annotated[StrictFloat, Field(gt=1), Expected("a number above 1")] = Field(
        default=3,
        description="Each round keeps one in `factor` candidates, and gives each `factor` times the resources.",
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
        default=0, description="Seed of the draws. By default the same each time; with `null`, every run draws others."
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
        Field(default="exhaust", description="How many combinations to start the first round with.")
    )

    @property
    def samples(self) -> bool:
        return True


class Uniform(JobModel):
    """Real numbers, uniformly between two bounds."""

    tag: ClassVar[str] = "<uniform>"

    uniform: Annotated[
        tuple[StrictFloat, StrictFloat], AfterValidator(ascending), Expected("two numbers, the smaller one first")
    ] = Field(description="The lower and the upper bound.")


class LogUniform(JobModel):
    """Real numbers, log-uniformly between two bounds."""

    tag: ClassVar[str] = "<loguniform>"

    loguniform: Annotated[
        tuple[StrictFloat, StrictFloat],
        AfterValidator(ascending_above_zero),
        Expected("two numbers above 0, the smaller one first"),
    ] = Field(description="The lower and the upper bound, both above 0.")


class RandomInteger(JobModel):
    """Whole numbers from a range."""

    tag: ClassVar[str] = "<randint>"

    randint: Annotated[
        tuple[StrictInt, StrictInt],
        AfterValidator(ascending),
        Expected("two whole numbers, the smaller one first"),
    ] = Field(description="The first number, and one past the last, as in `scipy.stats.randint`.")


class Choice(JobModel):
    """One of several values, all equally likely."""

    tag: ClassVar[str] = "<choice>"

    choice: Annotated[tuple[Any, ...], Field(min_length=1), Expected("a list of at least one value")] = Field(
        description="The values."
    )


Distribution: TypeAlias = Uniform | LogUniform | RandomInteger | Choice
DISTRIBUTION_KINDS: Mapping[str, type[Distribution]] = {
    "uniform": Uniform,
    "loguniform": LogUniform,
    "randint": RandomInteger,
    "choice": Choice,
}


def _search_form(value: Any) -> str | None:
    if isinstance(value, JobModel):
        return value.tag
    kind = value.get("kind") if isinstance(value, dict) else None
    return SEARCH_KINDS[kind].tag if isinstance(kind, str) and kind in SEARCH_KINDS else None


def _values_form(value: Any) -> str | None:
    if isinstance(value, JobModel):
        return value.tag
    if isinstance(value, dict):
        return next((DISTRIBUTION_KINDS[key].tag for key in value if key in DISTRIBUTION_KINDS), None)
    return "<list>" if isinstance(value, list | tuple) else None


Search: TypeAlias = GridSearch | RandomSearch | HalvingGridSearch | HalvingRandomSearch
SEARCH_KINDS: Mapping[str, type[Search]] = {
    "grid": GridSearch,
    "random": RandomSearch,
    "halving-grid": HalvingGridSearch,
    "halving-random": HalvingRandomSearch,
}
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
        form_of((dict, "<subspace>"), (list, "<subspaces>"), (tuple, "<subspaces>")),
        custom_error_type="expected",
        custom_error_message="a mapping of parameters to their values, or a list of such mappings",
    ),
]
