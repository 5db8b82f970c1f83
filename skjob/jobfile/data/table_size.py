"""Estimate how large data is in memory without loading it: from Parquet's footers, or the head of a CSV file.

The estimate is for a pandas frame with the requested columns. Parquet's footer has the number of rows and their types;
numbers and times take the size of their type in pandas (a whole number with gaps becomes a float of 8 bytes). Text is
measured in the first row group and extrapolated to all rows. A CSV file is extrapolated from its first mebibyte.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from skjob.errors import ConfigError, in_a_line
from skjob.jobfile.data.files import File

MAX_CONCURRENT_FOOTERS = 16
MAX_CACHED_TABLES = 8
SAMPLE_BYTES = 2**20
"""Bytes of a CSV file that are read to estimate its size."""

OBJECT_BYTES = 64
"""Approximate bytes of a value in a column of Python objects."""


@dataclass(frozen=True)
class Column:
    """A column as pandas will hold it: `number`, `time`, `text` or `other`, and its bytes for each row."""

    name: str
    kind: str
    width: float
    empty: int | None = None
    """How many rows have no value, if that is known."""
    short_float: bool = False
    """Whether it holds floats of at most 4 bytes."""


@dataclass(frozen=True)
class RowGroup:
    """The smallest part of a Parquet file that can be read: its file, its number in it, its rows."""

    url: str
    number: int
    rows: int


@dataclass(frozen=True)
class Table:
    """What is known about a table in files. `groups` are the parts it can be read in; CSV has none."""

    files: tuple[File, ...]
    columns: tuple[Column, ...]
    rows: int
    groups: tuple[RowGroup, ...]

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]

    @property
    def file_bytes(self) -> int:
        """The size of the files, compressed as they are."""
        return sum(file.size for file in self.files)

    def row_bytes(self, names: Sequence[str]) -> float:
        """Return the bytes of one row of these columns in memory."""
        return sum(column.width for column in self.columns if column.name in names)

    def memory(self, names: Sequence[str]) -> int:
        """Return the bytes of these columns in memory."""
        return round(self.rows * self.row_bytes(names))


@lru_cache(MAX_CACHED_TABLES)
def table_of(files: tuple[File, ...]) -> Table:
    """Read each footer, or the head of the first CSV file.

    Raises:
        ConfigError: files cannot be read, or have other columns than the first; all such files are named.
    """
    return _parquet(files) if files[0].parquet else _csv(files)


# ---- Parquet


@dataclass(frozen=True)
class _Footer:
    schema: Any
    groups: tuple[RowGroup, ...]
    empty: dict[str, int | None]


def _parquet(files: Sequence[File]) -> Table:
    import pyarrow.types

    with ThreadPoolExecutor(MAX_CONCURRENT_FOOTERS) as pool:
        footers = list(pool.map(_footer, files))
    problems = [footer for footer in footers if isinstance(footer, str)]
    read = [footer for footer in footers if isinstance(footer, _Footer)]
    names = read[0].schema.names if read else []
    for file, footer in zip(files, footers, strict=True):
        if isinstance(footer, _Footer) and (missing := [name for name in names if name not in footer.schema.names]):
            problems.append(f"`{file.url}` has no column `{missing[0]}`, which `{read[0].groups[0].url}` has")
    if problems:
        raise ConfigError.collect(problems)
    groups = tuple(group for footer in read for group in footer.groups)
    rows = sum(group.rows for group in groups)
    empty = {name: _sum_known(footer.empty.get(name) for footer in read) for name in names}
    texts = _text_widths(read, [field.name for field in read[0].schema if _kind(field.type) == "text"])
    columns = tuple(
        Column(
            field.name,
            _kind(field.type),
            texts.get(field.name) or _width(field.type, gaps=empty[field.name] != 0),
            empty[field.name],
            pyarrow.types.is_floating(field.type) and field.type.bit_width <= 32,
        )
        for field in read[0].schema
    )
    return Table(tuple(files), columns, rows, groups)


def _footer(file: File) -> _Footer | str:
    """Return the content of one file's footer, or why it cannot be read."""
    import fsspec
    import pyarrow.parquet

    try:
        with fsspec.open(file.url, "rb") as stream:
            metadata = pyarrow.parquet.read_metadata(stream)
            # Arrow's schema has pandas' metadata, which names the columns that are an index.
            schema = metadata.schema.to_arrow_schema()
    except Exception as error:
        return f"`{file.url}` cannot be read: {in_a_line(error)}"
    groups = tuple(
        RowGroup(file.url, number, metadata.row_group(number).num_rows) for number in range(metadata.num_row_groups)
    )
    empty: dict[str, int | None] = {}
    for index in range(metadata.num_columns):
        parts = [metadata.row_group(number).column(index) for number in range(metadata.num_row_groups)]
        known = [part.statistics for part in parts]
        path = metadata.schema.column(index).path
        empty[path] = _sum_known(
            each.null_count if each is not None and each.has_null_count else None for each in known
        )
    schema = pyarrow.schema([field for field in schema if field.name not in _index_columns(schema)])
    return _Footer(schema, groups, empty)


def _index_columns(schema: Any) -> list[str]:
    """Return the columns that pandas reads back as the index."""
    import json

    about = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
    return [name for name in about.get("index_columns", ()) if isinstance(name, str)]


def _sum_known(parts: Any) -> int | None:
    parts = list(parts)
    return None if None in parts else sum(parts)


def _kind(kind: Any) -> str:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return "number"
    if types.is_temporal(kind):
        return "time"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    return "other"


def _width(kind: Any, *, gaps: bool) -> float:
    """Return the bytes for each row in pandas."""
    from pyarrow import types

    if types.is_floating(kind):
        return float(kind.bit_width // 8)
    if types.is_integer(kind) or types.is_boolean(kind):
        size = max(1, kind.bit_width // 8)
        # With gaps, pandas converts whole numbers to floats, and truth values to objects.
        return (8.0 if types.is_integer(kind) else 8.0 + OBJECT_BYTES) if gaps else float(size)
    return 8.0 if types.is_temporal(kind) else 8.0 + OBJECT_BYTES


def _text_widths(footers: Sequence[_Footer], names: list[str]) -> dict[str, float]:
    """Return the bytes for each row of these columns in pandas, measured in the first row group."""
    first = next((group for footer in footers for group in footer.groups if group.rows), None)
    if not names or first is None:
        return {}
    import fsspec
    import pyarrow.parquet

    with fsspec.open(first.url, "rb") as stream:
        read = pyarrow.parquet.ParquetFile(stream).read_row_group(first.number, columns=names)
    # before version 3, pandas has a Python object for each text
    return {name: read.column(name).to_pandas().memory_usage(index=False, deep=True) / first.rows for name in names}


# ---- CSV


def _csv(files: Sequence[File]) -> Table:
    import pandas

    first = files[0]
    try:
        head, consumed = _head(first)
        frame = pandas.read_csv(io.BytesIO(head))
    except Exception as error:
        raise ConfigError(f"`{first.url}` cannot be read: {in_a_line(error)}") from error
    total = sum(file.size for file in files)
    rows = round(len(frame) * total / max(1, consumed)) if len(files) > 1 or total > consumed else len(frame)
    used = frame.memory_usage(index=False, deep=True)
    columns = tuple(
        Column(str(name), _kind_in_pandas(values), float(used.iloc[index]) / max(1, len(frame)))
        for index, (name, values) in enumerate(frame.items())
    )
    return Table(tuple(files), columns, rows, ())


def _head(file: File) -> tuple[bytes, int]:
    """Return the first whole lines of a CSV file, and how many bytes of the file they take."""
    import fsspec

    with fsspec.open(file.url, "rb") as stream:
        zipped = file.url.endswith(".gz")
        content = (gzip.GzipFile(fileobj=stream) if zipped else stream).read(SAMPLE_BYTES)
        consumed = min(stream.tell(), file.size) if zipped else len(content)
    if len(content) < SAMPLE_BYTES:
        return content, file.size
    size = content[: content.rfind(b"\n") + 1] or content
    return size, max(1, round(consumed * len(size) / len(content)))


def _kind_in_pandas(values: Any) -> str:
    from pandas.api import types

    if types.is_numeric_dtype(values.dtype):
        return "number"
    return "text" if types.is_string_dtype(values.dtype) else "other"
