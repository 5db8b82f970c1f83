"""Decide whether a job's data is loaded whole or stays in pieces on the workers, and say why. Pure.

Data is loaded whole if it fits, because every estimator accepts whole data: a worker holds the data once, and each fit
makes one copy for the rows of its fold and another to convert a frame to numbers. In pieces, no worker holds more than
a few row groups of the files at a time, and only some estimators can learn from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from skjob.errors import ConfigError
from skjob.jobfile.data.table_size import Table
from skjob.utils.units import format_bytes, whole_gibibytes

COPIES = 3
"""Copies of the data in a worker's memory during a fit on all of it: the data, the fold's rows, their numbers."""

USABLE_SHARE = 0.7
"""Share of a worker's memory: Dask stops giving it tasks at 80 %, and interpreter and libraries take some of that."""

PIECES_AT_ONCE = 48
"""A piece takes at most this fraction (1/n) of a worker's memory for each thread: it is held as a file, a frame, an
array and a transformed array while the next pieces are read."""

PERSISTED_SHARE = 0.3
"""Pieces stay in memory between two passes if they take at most this share of all workers' memory."""


class InputMode(StrEnum):
    """What an estimator can learn from."""

    IN_MEMORY = "whole"
    """A frame or an array in memory."""

    BOTH = "either"
    """Either: it has a `partial_fit`, or its library has a class for Dask's collections."""

    OUT_OF_CORE = "pieces"
    """Dask's collections."""


@dataclass(frozen=True)
class Workers:
    """What the data has to fit into: the maximum number of workers, and the bytes of memory and threads of each."""

    number: int
    memory: int
    threads: int = 1


@dataclass(frozen=True)
class Placement:
    """Where the data goes. `why` explains the choice to the user in one line.

    `memory` is the estimate for the requested columns, in bytes. No piece has more rows than `piece_rows`, which is at
    least the largest row group. Pieces are `kept` in the workers' memory, or read again for each pass.
    """

    pieces: bool
    why: str
    memory: int
    piece_rows: int = 0
    kept: bool = False


def choose_placement(
    table: Table,
    columns: list[str],
    address: str,
    estimator: str,
    learning: InputMode,
    workers: Workers,
    *,
    search: bool,
) -> Placement:
    """Choose where the data goes. `address` and `estimator` are its and the estimator's names in messages.

    Raises:
        ConfigError: it does not fit; with the memory that workers need, and alternatives.
    """
    memory = table.memory(columns)
    size = f"`{address}` takes {format_bytes(memory)} in memory ({table.rows:,} rows, {len(columns)} columns)"
    needed = round(memory * COPIES / USABLE_SHARE)
    fits = needed <= workers.memory
    if learning is not InputMode.OUT_OF_CORE and fits:
        why = f"{size}: loaded whole, as it fits {COPIES} times into a worker with {format_bytes(workers.memory)}"
        return Placement(pieces=False, why=why, memory=memory)
    larger_workers = (
        f"give workers {whole_gibibytes(needed)} (`--worker-memory {whole_gibibytes(needed).replace(' ', '')[:-1]}`)"
    )
    too_large = f"{size}, {format_bytes(needed)} with its copies, but a worker has {format_bytes(workers.memory)}"
    if search:
        if learning is InputMode.OUT_OF_CORE:
            raise ConfigError(
                f"`{estimator}` learns from data in pieces, which a search cannot split into folds",
                "leave out `search` and `space`, or choose an estimator of scikit-learn",
            )
        raise ConfigError(
            f"{too_large}: a search needs all of it on each worker",
            f"{larger_workers}, choose fewer `features`, or leave out `search`",
        )
    if learning is InputMode.IN_MEMORY:
        raise ConfigError(
            f"{too_large}: `{estimator}` needs all of it",
            f"{larger_workers}, or choose an estimator that learns from pieces: those of `dask_ml.linear_model`, those "
            "with a `partial_fit` (`sklearn.linear_model.SGDClassifier`), `xgboost.XGBClassifier`, "
            "`lightgbm.LGBMClassifier`",
        )
    if not table.groups:
        raise ConfigError(
            f"{too_large}: CSV cannot be read in pieces",
            f"write it as Parquet, or {larger_workers}",
        )
    return _in_pieces(table, columns, size, learning, workers, memory)


def _in_pieces(
    table: Table, columns: list[str], size: str, learning: InputMode, workers: Workers, memory: int
) -> Placement:
    piece_memory = workers.memory / workers.threads / PIECES_AT_ONCE
    largest = max(group.rows for group in table.groups)
    row_bytes = table.row_bytes(columns)
    # A group that is a few times too large still passes: the share of a piece leaves room for it.
    if largest * row_bytes > 6 * piece_memory:
        groups = max(1, round(piece_memory / max(1.0, row_bytes)))
        raise ConfigError(
            f"{size}; its largest row group takes {format_bytes(round(largest * row_bytes))}, too much at once for a "
            f"worker with {format_bytes(workers.memory)}",
            f"write it with row groups of {groups:,} rows (`to_parquet(…, row_group_size={groups})`), or give workers "
            f"{whole_gibibytes(round(largest * row_bytes * PIECES_AT_ONCE / 6 * workers.threads))}",
        )
    rows = max(largest, int(piece_memory / max(1.0, row_bytes)))
    persisted = memory <= PERSISTED_SHARE * workers.number * workers.memory
    cause = (
        "the estimator learns from pieces"
        if learning is InputMode.OUT_OF_CORE
        else (f"it does not fit {COPIES} times into a worker with {format_bytes(workers.memory)}")
    )
    storage = "kept in the workers' memory" if persisted else "read again for each pass over it"
    why = f"{size}: stays in pieces of up to {format_bytes(round(rows * row_bytes))}, {storage}, as {cause}"
    return Placement(pieces=True, why=why, memory=memory, piece_rows=rows, kept=persisted)
