"""Define the types of values in a job file, with their checks and descriptions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
)
from pydantic_core import CoreSchema, core_schema

from skjob.jobfile.data.files import SUFFIXES as DATA_SUFFIXES

IMPORT_PATH = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+$"

TABLE_SUFFIXES = (".csv", ".parquet", ".json")

MODEL_SUFFIXES = (".joblib",)


class JobModel(BaseModel):
    """A mapping in a job file: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)

    tag: ClassVar[str] = ""
    """The name of this form in pydantic's error locations, if a union has several forms; never a key of a file."""


def form_of(*forms: tuple[type, str]) -> Any:
    """Return a discriminator that chooses a union's form by the type of the value in the file."""

    def choose(value: Any) -> str | None:
        if isinstance(value, JobModel):
            return value.tag
        return next((tag for kind, tag in forms if isinstance(value, kind)), None)

    return choose


@dataclass(frozen=True)
class Expected:
    """Describe the expected value to the user: any validation error inside it becomes this one problem."""

    what: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # pydantic takes the text as a template, in which braces are fields.
        what = self.what.replace("{", "{{").replace("}", "}}")
        return core_schema.custom_error_schema(handler(source), custom_error_type="expected", custom_error_message=what)


def ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the bounds of a distribution. Raise ValueError unless both are finite and the lower comes first."""
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError
    return bounds


def ascending_above_zero(bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the bounds of a logarithmic distribution. Raise ValueError unless they are positive too."""
    if bounds[0] <= 0:
        raise ValueError
    return ascending(bounds)


def _pattern_of(suffixes: tuple[str, ...]) -> str:
    return rf"({'|'.join(suffix.replace('.', '[.]') for suffix in suffixes)})$"


def _listed(suffixes: tuple[str, ...]) -> str:
    return " or ".join(f"`{suffix}`" for suffix in suffixes)


DataPath: TypeAlias = Annotated[
    StrictStr,
    # A folder's name has no suffix or ends with `/`.
    Field(pattern=rf"({_pattern_of(DATA_SUFFIXES)}|/$|(^|/)[^/.]+$)"),
    Expected(f"a path or an address that ends with {_listed(DATA_SUFFIXES)}, or that of a folder"),
]


DataPaths: TypeAlias = Annotated[
    DataPath | Annotated[tuple[DataPath, ...], Field(min_length=1)],
    Expected(f"a path or an address that ends with {_listed(DATA_SUFFIXES)}, or that of a folder, or a list of them"),
]


HeldOut: TypeAlias = Annotated[
    Annotated[StrictFloat, Field(ge=0, lt=1)], Expected("a fraction of the rows such as `0.25`, or `0` for none")
]


ModelPath: TypeAlias = Annotated[
    StrictStr,
    Field(pattern=_pattern_of(MODEL_SUFFIXES)),
    Expected(f"a path that ends with {_listed(MODEL_SUFFIXES)}"),
]


TablePath: TypeAlias = Annotated[
    StrictStr,
    Field(pattern=_pattern_of(TABLE_SUFFIXES)),
    Expected(f"a path that ends with {_listed(TABLE_SUFFIXES)}"),
]


Flag: TypeAlias = Annotated[StrictBool, Expected("`true` or `false`")]


Name: TypeAlias = Annotated[StrictStr, Field(min_length=1), Expected("a name")]


Positive: TypeAlias = Annotated[StrictInt, Field(ge=1), Expected("a whole number of at least 1")]


Seed: TypeAlias = Annotated[
    Annotated[StrictInt, Field(ge=0, lt=2**32)] | None,
    Expected("a whole number from 0 to 4294967295, or `null`"),
]


ImportPath: TypeAlias = Annotated[
    StrictStr, Field(pattern=IMPORT_PATH), Expected("an import path such as `sklearn.svm.SVC`")
]


KeywordArguments: TypeAlias = dict[StrictStr, Any]
