"""Tables in Parquet as Dask's collections: every part is one task, which reads it from where it is on some worker.

Not by `dask.dataframe.read_parquet`: how long each part is is known from the footers, which dask-ml's estimators need
to know and would read all the data for; a part is as large as the plan says; and rows held out are left out as they are
read, the same ones each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from skjob.jobfile.data.table_size import RowGroup, Table

FOOTERS_KEPT = 64


class Rows(StrEnum):
    """Which rows of a part."""

    ALL = "all"
    LEARN = "learn"
    HELD_OUT = "held out"


@dataclass(frozen=True)
class Part:
    """Some row groups of one file. `number` makes the draw of the rows held out."""

    url: str
    groups: tuple[int, ...]
    rows: int
    number: int


def parts_of(table: Table, most_rows: int) -> tuple[Part, ...]:
    """The table in parts of neighbouring row groups, with no more rows than that; one group may have more."""
    gathered: list[list[RowGroup]] = []
    for group in table.groups:
        if not group.rows:
            continue
        last = gathered[-1] if gathered else []
        if last and last[0].url == group.url and sum(each.rows for each in last) + group.rows <= most_rows:
            last.append(group)
        else:
            gathered.append([group])
    return tuple(
        Part(groups[0].url, tuple(group.number for group in groups), sum(group.rows for group in groups), number)
        for number, groups in enumerate(gathered)
    )


def read_part(part: Part, columns: Sequence[str], rows: Rows, holdout: float, seed: int) -> Any:
    """These columns of a part as a frame. Runs on a worker."""
    import fsspec
    import pyarrow.parquet

    columns = list(columns)
    # Without fsspec's own cache, which reads megabytes ahead of each column; pyarrow asks for all it needs at once.
    system, path = fsspec.url_to_fs(part.url)
    with system.open(path, "rb", cache_type="none") as stream:
        file = pyarrow.parquet.ParquetFile(stream, metadata=_footer(part.url), pre_buffer=True)
        table = file.read_row_groups(list(part.groups), columns=columns, use_threads=False)
    if rows is not Rows.ALL:
        table = table.filter(_chosen(part, rows, holdout, seed))
    frame = table.to_pandas(ignore_metadata=True, use_threads=False, self_destruct=True, split_blocks=True)
    return frame[columns]


def read_numbers(part: Part, columns: Sequence[str], rows: Rows, holdout: float, seed: int, dtype: str) -> Any:
    """The same as an array of numbers."""
    return read_part(part, columns, rows, holdout, seed).to_numpy(dtype=dtype)


def read_column(part: Part, column: str, rows: Rows, holdout: float, seed: int) -> Any:
    """One column as an array, of the type it has."""
    return read_part(part, [column], rows, holdout, seed)[column].to_numpy()


@lru_cache(FOOTERS_KEPT)
def _footer(url: str) -> Any:
    import fsspec
    import pyarrow.parquet

    with fsspec.open(url, "rb") as stream:
        return pyarrow.parquet.read_metadata(stream)


def _chosen(part: Part, rows: Rows, holdout: float, seed: int) -> Any:
    """A mask over the rows of a part. The same for features and target, and wherever it is made."""
    import numpy

    held_out = numpy.random.default_rng([seed, part.number]).random(part.rows) < holdout
    return held_out if rows is Rows.HELD_OUT else ~held_out


def length(part: Part, rows: Rows, holdout: float, seed: int) -> int:
    """How many rows there will be."""
    return part.rows if rows is Rows.ALL else int(_chosen(part, rows, holdout, seed).sum())


@dataclass(frozen=True)
class Pieces:
    """The rows of one kind of all parts, as Dask's arrays and frames of them."""

    parts: tuple[Part, ...]
    table: Table
    rows: Rows = Rows.ALL
    holdout: float = 0.0
    seed: int = 0

    def lengths(self) -> tuple[int, ...]:
        """Of each part."""
        return tuple(length(part, self.rows, self.holdout, self.seed) for part in self.parts)

    def dtype(self, columns: Sequence[str]) -> str | None:
        """Of an array of these columns, as short as all of them are; None where not all are numbers."""
        chosen = [column for column in self.table.columns if column.name in columns]
        if any(column.kind != "number" for column in chosen):
            return None
        return "float32" if all(column.short_float for column in chosen) else "float64"

    def numbers(self, columns: Sequence[str]) -> Any:
        """A Dask array of these columns, which are numbers."""
        dtype = self.dtype(columns)
        chunks = (self.lengths(), (len(columns),))
        return self._array("numbers", read_numbers, (list(columns),), (dtype,), dtype, chunks)

    def column(self, name: str, dtype: Any) -> Any:
        """A Dask array of one column."""
        return self._array("column", read_column, (name,), (), dtype, (self.lengths(),))

    def frame(self, columns: Sequence[str], example: Any) -> Any:
        """A Dask frame. `example` has these columns and no rows."""
        from dask.dataframe import from_map

        return from_map(
            read_part, list(self.parts), columns=list(columns), rows=self.rows, holdout=self.holdout, seed=self.seed,
            meta=example, enforce_metadata=False,
        )  # fmt: skip

    def _array(
        self, kind: str, read: Any, before: tuple[Any, ...], after: tuple[Any, ...], dtype: Any, chunks: Any
    ) -> Any:
        import dask.array
        from dask.base import tokenize

        name = f"{kind}-{tokenize(self, before, after)}"
        ends = (0,) * (len(chunks) - 1)
        graph = {
            (name, index, *ends): (read, part, *before, self.rows, self.holdout, self.seed, *after)
            for index, part in enumerate(self.parts)
        }
        return dask.array.Array(graph, name, chunks=chunks, dtype=dtype)
