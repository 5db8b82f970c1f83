"""Whether a job's data is loaded whole or stays in pieces on the workers, and why. Pure.

Whole is what every estimator takes, so it is chosen where it fits: a worker holds the data once, a fit makes a copy
for the rows of its fold, and one more as it turns a frame into numbers. In pieces no worker ever has more than a few
row groups of the files, and only some estimators can learn like that.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from skjob.errors import ConfigError
from skjob.jobfile.data.table_size import Table
from skjob.utils.units import format_bytes, whole_gibibytes

COPIES = 3
"""How many times the data is in a worker's memory while a fit runs on all of it: once, the fold's rows, its numbers."""

USABLE = 0.7
"""Of a worker's memory: Dask stops giving a worker tasks at 80 %, and interpreter and libraries have some of that."""

PIECES_AT_ONCE = 48
"""A piece is at most this part of a worker's memory for each of its threads: it is there as file, as frame, as array,
and changed, while the next ones are on their way."""

KEPT = 0.3
"""Pieces stay in memory between two passes over them where they take no more than this part of all workers'."""


class InputMode(StrEnum):
    """From what an estimator can learn."""

    IN_MEMORY = "whole"
    """A frame or an array in memory."""

    BOTH = "either"
    """The same, or piece by piece: it has a `partial_fit`, or a sister class for Dask's collections."""

    OUT_OF_CORE = "pieces"
    """Dask's collections."""


@dataclass(frozen=True)
class Workers:
    """What the data has to fit into: how many workers there may be, and bytes of memory and threads of each."""

    number: int
    memory: int
    threads: int = 1


@dataclass(frozen=True)
class Placement:
    """Where the data will be. `why` tells the user in one line.

    `memory` is the estimate for the columns asked for, in bytes. In pieces, none has more rows than `piece_rows`, which
    is no less than the largest row group has; and they are `kept` in the workers' memory, or read again for each pass.
    """

    pieces: bool
    why: str
    memory: int
    piece_rows: int = 0
    kept: bool = False


def place(
    table: Table,
    columns: list[str],
    address: str,
    estimator: str,
    learning: InputMode,
    workers: Workers,
    *,
    search: bool,
) -> Placement:
    """Decide. `address` is how the user called the data, `estimator` how the estimator is called.

    Raises:
        ConfigError: it fits in no way; with the memory that workers need, and what can be done instead.
    """
    memory = table.memory(columns)
    size = f"`{address}` takes {format_bytes(memory)} in memory ({table.rows:,} rows, {len(columns)} columns)"
    needed = round(memory * COPIES / USABLE)
    fits = needed <= workers.memory
    if learning is not InputMode.OUT_OF_CORE and fits:
        why = f"{size}: loaded whole, as a worker of {format_bytes(workers.memory)} has room for it {COPIES} times"
        return Placement(pieces=False, why=why, memory=memory)
    larger = (
        f"give workers {whole_gibibytes(needed)} (`--worker-memory {whole_gibibytes(needed).replace(' ', '')[:-1]}`)"
    )
    too_large = f"{size}, with its copies {format_bytes(needed)}, and a worker has {format_bytes(workers.memory)}"
    if search:
        if learning is InputMode.OUT_OF_CORE:
            raise ConfigError(
                f"`{estimator}` learns from data in pieces, which a search can't cut into folds",
                "leave out `search` and `space`, or choose an estimator of scikit-learn",
            )
        raise ConfigError(
            f"{too_large}: a search needs it whole on each worker",
            f"{larger}, choose fewer `features`, or leave out `search`",
        )
    if learning is InputMode.IN_MEMORY:
        raise ConfigError(
            f"{too_large}: `{estimator}` needs it whole",
            f"{larger}, or choose an estimator that learns from pieces: those of `dask_ml.linear_model`, those with a "
            "`partial_fit` (`sklearn.linear_model.SGDClassifier`), `xgboost.XGBClassifier`, `lightgbm.LGBMClassifier`",
        )
    if not table.groups:
        raise ConfigError(
            f"{too_large}: it would have to stay in pieces, and CSV has none", f"write it as Parquet, or {larger}"
        )
    return _in_pieces(table, columns, size, learning, workers, memory)


def _in_pieces(
    table: Table, columns: list[str], size: str, learning: InputMode, workers: Workers, memory: int
) -> Placement:
    most = workers.memory / workers.threads / PIECES_AT_ONCE
    largest = max(group.rows for group in table.groups)
    row_bytes = table.row_bytes(columns)
    # A group that is a few times too large still passes through: that is what the part that a piece may have is for.
    if largest * row_bytes > 6 * most:
        groups = max(1, round(most / max(1.0, row_bytes)))
        raise ConfigError(
            f"{size}; its largest row group takes {format_bytes(round(largest * row_bytes))}, too much at a time for a "
            f"worker of {format_bytes(workers.memory)}",
            f"write it with row groups of {groups:,} rows (`to_parquet(…, row_group_size={groups})`), or give workers "
            f"{whole_gibibytes(round(largest * row_bytes * PIECES_AT_ONCE / 6 * workers.threads))}",
        )
    rows = max(largest, int(most / max(1.0, row_bytes)))
    kept = memory <= KEPT * workers.number * workers.memory
    cause = (
        "the estimator learns from pieces"
        if learning is InputMode.OUT_OF_CORE
        else (f"a worker of {format_bytes(workers.memory)} has no room for it {COPIES} times")
    )
    stays = "kept in the workers' memory" if kept else "read anew for each pass over it"
    why = f"{size}: stays in pieces of up to {format_bytes(round(rows * row_bytes))}, {stays}, as {cause}"
    return Placement(pieces=True, why=why, memory=memory, piece_rows=rows, kept=kept)
