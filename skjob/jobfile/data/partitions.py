"""Parquet tables as Dask's collections: each part is one task, which reads it on a worker.

`dask.dataframe.read_parquet` is not used, for three reasons. The footers give the length of each part, for which
dask-ml's estimators would otherwise read all data. The plan decides how large a part is. And rows held out are dropped
as they are read, the same ones each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from skjob.jobfile.data.table_size import RowGroup, Table

MAX_CACHED_FOOTERS = 64


class Rows(StrEnum):
    """Which rows of a part to read."""

    ALL = "all"
    LEARN = "learn"
    HELD_OUT = "held out"


@dataclass(frozen=True)
class Part:
    """Some row groups of one file. `number` seeds the draw of the rows held out."""

    url: str
    groups: tuple[int, ...]
    rows: int
    number: int


def parts_of(table: Table, max_rows: int) -> tuple[Part, ...]:
    """Split the table into parts of neighbouring row groups, of at most `max_rows` unless one group has more."""
    grouped: list[list[RowGroup]] = []
    for group in table.groups:
        if not group.rows:
            continue
        last = grouped[-1] if grouped else []
        if last and last[0].url == group.url and sum(each.rows for each in last) + group.rows <= max_rows:
            last.append(group)
        else:
            grouped.append([group])
    return tuple(
        Part(groups[0].url, tuple(group.number for group in groups), sum(group.rows for group in groups), number)
        for number, groups in enumerate(grouped)
    )


def read_part(part: Part, columns: Sequence[str], rows: Rows, holdout: float, seed: int) -> Any:
    """Read columns of a part as a frame. Runs on a worker."""
    import fsspec
    import pyarrow.parquet

    columns = list(columns)
    # Without fsspec's cache, which reads megabytes ahead of each column; pyarrow requests all it needs at once.
    system, path = fsspec.url_to_fs(part.url)
    with system.open(path, "rb", cache_type="none") as stream:
        file = pyarrow.parquet.ParquetFile(stream, metadata=_footer(part.url), pre_buffer=True)
        table = file.read_row_groups(list(part.groups), columns=columns, use_threads=False)
    if rows is not Rows.ALL:
        table = table.filter(_row_mask(part, rows, holdout, seed))
    frame = table.to_pandas(ignore_metadata=True, use_threads=False, self_destruct=True, split_blocks=True)
    return frame[columns]


def read_numbers(part: Part, columns: Sequence[str], rows: Rows, holdout: float, seed: int, dtype: str) -> Any:
    """Read columns of a part as an array of numbers. Runs on a worker."""
    return read_part(part, columns, rows, holdout, seed).to_numpy(dtype=dtype)


def read_column(part: Part, column: str, rows: Rows, holdout: float, seed: int) -> Any:
    """Read one column of a part as an array of its own type. Runs on a worker."""
    return read_part(part, [column], rows, holdout, seed)[column].to_numpy()


@lru_cache(MAX_CACHED_FOOTERS)
def _footer(url: str) -> Any:
    import fsspec
    import pyarrow.parquet

    with fsspec.open(url, "rb") as stream:
        return pyarrow.parquet.read_metadata(stream)


def _row_mask(part: Part, rows: Rows, holdout: float, seed: int) -> Any:
    """Return a mask over the rows of a part: the same for features and target, and on every worker."""
    import numpy

    held_out = numpy.random.default_rng([seed, part.number]).random(part.rows) < holdout
    return held_out if rows is Rows.HELD_OUT else ~held_out


def length(part: Part, rows: Rows, holdout: float, seed: int) -> int:
    """Return how many rows of a part will be read."""
    return part.rows if rows is Rows.ALL else int(_row_mask(part, rows, holdout, seed).sum())


@dataclass(frozen=True)
class Pieces:
    """The rows of one kind of all parts, as Dask's arrays and frames."""

    parts: tuple[Part, ...]
    table: Table
    rows: Rows = Rows.ALL
    holdout: float = 0.0
    seed: int = 0

    def lengths(self) -> tuple[int, ...]:
        """Return the number of rows of each part."""
        return tuple(length(part, self.rows, self.holdout, self.seed) for part in self.parts)

    def dtype(self, columns: Sequence[str]) -> str | None:
        """Return the type of an array of these columns, `float32` if it holds all; None if not all are numbers."""
        chosen = [column for column in self.table.columns if column.name in columns]
        if any(column.kind != "number" for column in chosen):
            return None
        return "float32" if all(column.short_float for column in chosen) else "float64"

    def numbers(self, columns: Sequence[str]) -> Any:
        """Return a Dask array of these columns, which must be numbers."""
        dtype = self.dtype(columns)
        chunks = (self.lengths(), (len(columns),))
        return self._array("numbers", read_numbers, (list(columns),), (dtype,), dtype, chunks)

    def column(self, name: str, dtype: Any) -> Any:
        """Return a Dask array of one column."""
        return self._array("column", read_column, (name,), (), dtype, (self.lengths(),))

    def frame(self, columns: Sequence[str], example: Any) -> Any:
        """Return a Dask frame. `example` has its columns and no rows."""
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
