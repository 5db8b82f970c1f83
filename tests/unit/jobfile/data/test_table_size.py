"""Files are found by name, pattern, folder and list; their size in memory is told without loading them."""

from dataclasses import replace
from pathlib import Path

import numpy
import pandas
import pytest

from skjob.errors import ConfigError
from skjob.jobfile.data.files import files_of, is_remote, protocol
from skjob.jobfile.data.out_of_core import FitRequest, data_key
from skjob.jobfile.data.partitions import Part, Pieces, Rows, parts_of, read_part
from skjob.jobfile.data.placement import Placement
from skjob.jobfile.data.table_size import table_of

pytestmark = pytest.mark.unit

ROWS = 5000


@pytest.fixture(scope="module")
def frame() -> pandas.DataFrame:
    rng = numpy.random.default_rng(0)
    words = numpy.array(["a", "quite a long word", "b c"])
    return pandas.DataFrame(
        {
            "long": rng.normal(size=ROWS),
            "short": rng.normal(size=ROWS).astype("float32"),
            "count": rng.integers(0, 9, ROWS).astype("int16"),
            "gaps": pandas.array(rng.integers(0, 9, ROWS), "Int64"),
            "flag": rng.random(ROWS) < 0.5,
            "when": pandas.date_range("2026-01-01", periods=ROWS, freq="min"),
            "word": words[rng.integers(0, 3, ROWS)],
        }
    ).assign(gaps=lambda frame: frame["gaps"].where(frame["count"] > 0))


@pytest.fixture
def folder(frame: pandas.DataFrame, tmp_path: Path) -> Path:
    table = tmp_path / "table"
    table.mkdir()
    for number, part in enumerate((frame[:3000], frame[3000:])):
        part.to_parquet(table / f"part{number}.parquet", row_group_size=700, index=False)
    (table / "_SUCCESS").touch()
    (table / "readme.txt").touch()
    frame.to_csv(tmp_path / "table.csv", index=False)
    frame.to_csv(tmp_path / "table.csv.gz", index=False)
    return tmp_path


@pytest.mark.parametrize(
    "addresses",
    [["table"], ["table/"], ["table/*.parquet"], ["table/part0.parquet", "table/part1.parquet"], ["t*/part?.parquet"],
     ["table", "table/part1.parquet"]],
)  # fmt: skip
def test_files_by_name_pattern_folder_and_list(folder: Path, addresses: list[str]) -> None:
    files = files_of(addresses, folder)
    assert [Path(file.url).name for file in files] == ["part0.parquet", "part1.parquet"]
    assert all(file.size == Path(file.url).stat().st_size and file.state and not file.remote for file in files)


@pytest.mark.parametrize("address", ["*.csv", "{folder}/*.csv", "**/*.csv", "../_work/*.csv"])
def test_hidden_is_only_what_lies_below_the_named_part(tmp_path: Path, address: str) -> None:
    folder = tmp_path / ".cache" / "_work"
    (folder / "_temporary").mkdir(parents=True)
    for name in ("a.csv", "_b.csv", "_temporary/c.csv"):
        (folder / name).write_text("x\n1\n")
    assert [Path(file.url).name for file in files_of([address.format(folder=folder)], folder)] == ["a.csv"]


def test_all_that_is_not_there_is_told_at_once(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(ConfigError) as caught:
        files_of(["nope.csv", "empty", "table/*.csv", "nosuch://x/y.csv", "table"], folder)
    assert [problem.partition(" ")[0] for problem in caught.value.problems] == [
        "`nope.csv`", "`empty`", "`table/*.csv`", "`nosuch://x/y.csv`",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="a mix of CSV and Parquet: a table's files must have the same format"):
        files_of(["table.csv", "table"], folder)


@pytest.mark.parametrize(
    ("address", "remote", "name"),
    [("s3://b/x", True, "s3"), ("x.csv", False, "file"), ("/a/b:c", False, "file"), ("file:///x", False, "file"),
     ("simplecache::s3://b/x", True, "simplecache")],
)  # fmt: skip
def test_what_is_an_address(address: str, remote: bool, name: str) -> None:
    assert (is_remote(address), protocol(address)) == (remote, name)


def test_the_estimate_is_what_pandas_takes(folder: Path) -> None:
    table = table_of(files_of(["table"], folder))
    loaded = pandas.concat([pandas.read_parquet(folder / "table" / f"part{number}.parquet") for number in range(2)])
    assert (table.rows, len(table.groups)) == (ROWS, 8)
    used = loaded.drop(columns="gaps").memory_usage(index=False, deep=True).sum()
    assert table.memory([name for name in table.names if name != "gaps"]) == pytest.approx(used, rel=0.02)
    columns = {column.name: column for column in table.columns}
    assert columns["gaps"].width == 8
    assert columns["gaps"].empty == loaded["gaps"].isna().sum() > 0
    assert {column.name: column.kind for column in table.columns if column.kind != "number"} == {
        "when": "time", "word": "text",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
def test_a_csv_file_by_its_head(folder: Path, name: str) -> None:
    table = table_of(files_of([name], folder))
    used = pandas.read_csv(folder / name).memory_usage(index=False, deep=True).sum()
    assert (table.rows, table.groups) == (ROWS, ())
    assert table.memory(table.names) == pytest.approx(used, rel=0.02)


def test_a_long_csv_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"a": numpy.arange(400_000) % 90 + 10, "b": 0.5})
    frame.to_csv(tmp_path / "long.csv", index=False)
    table = table_of(files_of(["long.csv"], tmp_path))
    assert table.rows == pytest.approx(400_000, rel=0.01)


def test_files_that_do_not_fit_together(folder: Path) -> None:
    pandas.DataFrame({"long": [1.0]}).to_parquet(folder / "table" / "part2.parquet")
    (folder / "table" / "part3.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ConfigError) as caught:
        table_of(files_of(["table"], folder))
    assert ["cannot be read" in problem for problem in caught.value.problems] == [True, False]
    assert "has no column `short`, which" in caught.value.problems[1]


def test_parts_have_whole_row_groups(folder: Path, frame: pandas.DataFrame) -> None:
    table = table_of(files_of(["table"], folder))
    parts = parts_of(table, 1500)
    assert [part.rows for part in parts] == [1400, 1400, 200, 1400, 600]
    read = pandas.concat([read_part(part, ["word", "long"], Rows.ALL, 0.0, 0) for part in parts], ignore_index=True)
    assert read["long"].tolist() == frame["long"].tolist()
    assert read["word"].tolist() == frame["word"].tolist()


def test_rows_are_held_out_once_and_for_all(folder: Path, frame: pandas.DataFrame) -> None:
    parts = parts_of(table_of(files_of(["table"], folder)), 1500)

    def read(rows: Rows, column: str) -> list[float]:
        return [value for part in parts for value in read_part(part, [column], rows, 0.25, 0)[column]]

    learn, held_out = read(Rows.LEARN, "long"), read(Rows.HELD_OUT, "long")
    assert sorted(learn + held_out) == sorted(frame["long"])
    assert len(held_out) == pytest.approx(ROWS / 4, rel=0.1)
    assert held_out == read(Rows.HELD_OUT, "long")
    pieces = Pieces(parts, table_of(files_of(["table"], folder)), Rows.LEARN, 0.25, 0)
    assert sum(pieces.lengths()) == len(learn)
    assert Part(parts[0].url, (0,), 700, 0) != parts[0]


def test_what_a_fit_learns_from_is_known_by_all_that_decides_it(folder: Path) -> None:
    table = table_of(files_of(["table"], folder))
    asked = FitRequest("table", ("long", "short"), "count", holdout=0.25, seed=0, scorers=("r2",))
    placed = Placement(pieces=True, why="", memory=1, piece_rows=1500)
    content = data_key(table, asked, placed)
    assert content is not None
    # Up to 1500 rows and up to 1400 are the same two row groups.
    assert content == data_key(table, replace(asked, scorers=("mse",)), replace(placed, piece_rows=1400))
    first, *others = table.files
    contents = {
        data_key(table, replace(asked, target="gaps"), placed),
        data_key(table, replace(asked, features=("long",)), placed),
        data_key(table, replace(asked, features=("short", "long")), placed),
        data_key(table, replace(asked, holdout=0.1), placed),
        data_key(table, replace(asked, seed=1), placed),
        data_key(table, asked, replace(placed, piece_rows=700)),
        data_key(replace(table, files=(replace(first, state="later"), *others)), asked, placed),
        data_key(replace(table, files=(*others, first)), asked, placed),
    }
    assert len(contents | {content}) == 9
    assert data_key(replace(table, files=(replace(first, state=""), *others)), asked, placed) is None


@pytest.mark.parametrize(
    ("columns", "dtype"),
    [(["short"], "float32"), (["short", "long"], "float64"), (["count"], "float64"), (["word"], None)],
)
def test_the_type_of_an_array(folder: Path, columns: list[str], dtype: str | None) -> None:
    table = table_of(files_of(["table"], folder))
    assert Pieces(parts_of(table, 1500), table).dtype(columns) == dtype
