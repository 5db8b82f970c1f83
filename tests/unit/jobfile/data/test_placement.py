"""Where data goes: by its size, the workers' memory and what the estimator can learn from; and what is said of it."""

import pytest

from skjob.errors import ConfigError
from skjob.jobfile.data.files import File
from skjob.jobfile.data.placement import COPIES, USABLE_SHARE, InputMode, Placement, Workers, choose_placement
from skjob.jobfile.data.table_size import Column, RowGroup, Table

pytestmark = pytest.mark.unit

GIB = 2**30
COLUMNS = ["a", "b", "y"]


def _table(memory: float, group_rows: int = 1000, parquet: bool = True) -> Table:
    """Three columns of 8 bytes that take so much memory."""
    rows = round(memory / 24)
    kind = "parquet" if parquet else "csv"
    groups = tuple(
        RowGroup("s3://b/t.parquet", number, min(group_rows, rows - start))
        for number, start in enumerate(range(0, rows, group_rows))
    )
    columns = tuple(Column(name, "number", 8.0) for name in COLUMNS)
    return Table((File(f"s3://b/t.{kind}", 10, ""),), columns, rows, groups if parquet else ())


def _place(table: Table, learning: InputMode, workers: Workers, search: bool = False) -> Placement:
    return choose_placement(table, COLUMNS, "s3://b/t", "Model", learning, workers, search=search)


@pytest.mark.parametrize("learning", [InputMode.IN_MEMORY, InputMode.BOTH])
@pytest.mark.parametrize("search", [True, False])
def test_what_fits_is_loaded_whole(learning: InputMode, search: bool) -> None:
    table = _table(10 * 2**20)
    placed = _place(table, learning, Workers(2, GIB), search)
    assert (placed.pieces, placed.memory) == (False, table.rows * 24)
    assert placed.why == (
        f"`s3://b/t` takes 10 MiB in memory ({table.rows:,} rows, 3 columns): loaded whole, as it fits 3 times "
        "into a worker with 1 GiB"
    )


def test_the_largest_that_fits() -> None:
    most = GIB * USABLE_SHARE / COPIES
    assert not _place(_table(most - 48, 10**6), InputMode.BOTH, Workers(1, GIB)).pieces
    assert _place(_table(most + 48, 10_000), InputMode.BOTH, Workers(1, GIB)).pieces


def test_a_model_of_dask_learns_from_pieces_however_small() -> None:
    placed = _place(_table(2**20), InputMode.OUT_OF_CORE, Workers(2, GIB))
    assert placed.pieces
    assert placed.kept
    assert placed.why.endswith("kept in the workers' memory, as the estimator learns from pieces")


def test_pieces_that_do_not_fit_together_are_read_anew() -> None:
    placed = _place(_table(4 * GIB, 10_000), InputMode.BOTH, Workers(3, GIB))
    assert (placed.pieces, placed.kept) == (True, False)
    assert "read again for each pass over it" in placed.why
    assert _place(_table(4 * GIB, 10_000), InputMode.BOTH, Workers(20, GIB)).kept


def test_a_piece_is_small_beside_a_worker_and_its_threads() -> None:
    one = _place(_table(GIB, 10_000), InputMode.OUT_OF_CORE, Workers(1, GIB, threads=1))
    four = _place(_table(GIB, 10_000), InputMode.OUT_OF_CORE, Workers(1, GIB, threads=4))
    assert one.piece_rows * 24 < GIB / 40
    assert four.piece_rows == pytest.approx(one.piece_rows / 4, rel=0.01)


@pytest.mark.parametrize(
    ("table", "learning", "search", "said", "hint"),
    [
        (_table(GIB), InputMode.IN_MEMORY, False,
         "4.3 GiB with its copies, but a worker has 1 GiB: `Model` needs all of it",
         "give workers 5 GiB (`--worker-memory 5Gi`), or choose an estimator that learns from pieces: "),
        (_table(GIB), InputMode.BOTH, True, "a search needs all of it on each worker",
         "give workers 5 GiB (`--worker-memory 5Gi`), choose fewer `features`, or leave out `search`"),
        (_table(GIB), InputMode.OUT_OF_CORE, True,
         "`Model` learns from data in pieces, which a search cannot split into folds",
         "leave out `search` and `space`"),
        (_table(GIB, parquet=False), InputMode.BOTH, False, "CSV cannot be read in pieces",
         "write it as Parquet, or give workers 5 GiB"),
        (_table(GIB, 10_000_000), InputMode.BOTH, False, "its largest row group takes 229 MiB, too much at once",
         "write it with row groups of 932,068 rows"),
    ],
)  # fmt: skip
def test_what_fits_in_no_way(table: Table, learning: InputMode, search: bool, said: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _place(table, learning, Workers(2, GIB), search)
    assert said in caught.value.message
    assert caught.value.hint.startswith(hint)
