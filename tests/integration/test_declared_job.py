"""Job files, run by the command on a local cluster, and in this process to test their outputs."""

import json
from pathlib import Path
from typing import Any

import joblib
import numpy
import pandas
import pytest
from local_runs import LocalRuns
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from skjob.errors import ConfigError
from skjob.jobfile.loader import read_job
from skjob.jobfile.runner import run_declared
from skjob.jobfile.schema import DeclaredJob

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).parents[2] / "examples" / "declared_job" / "job.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files of the iris data: four measurements, the species, and a garden as a group."""
    X, y = load_iris(return_X_y=True)
    frame = pandas.DataFrame(X, columns=["a", "b", "c", "d"])
    frame["species"] = numpy.array(["setosa", "versicolor", "virginica"])[y]
    frame["garden"] = [row % 5 for row in range(len(frame))]
    frame.to_csv(tmp_path / "iris.csv", index=False)
    frame.to_parquet(tmp_path / "iris.parquet", index=False)
    return tmp_path


def _run(folder: Path, **sections: Any) -> None:
    content = {
        "estimator": {"class": "sklearn.svm.SVC"},
        "search": {"kind": "grid"},
        "space": {"C": [1, 10], "gamma": ["scale", 0.1]},
        "data": {"path": "iris.csv", "target": "species", "features": ["d", "a"]},
        "cv": 3,
        "outputs": {"model": "best.joblib", "table": "results.csv"},
    }
    # JSON is valid YAML, so the file passes through all checks.
    (folder / "job.yaml").write_text(json.dumps(content | sections))
    with joblib.parallel_config("threading", n_jobs=2):
        run_declared(read_job(folder / "job.yaml"), folder)


def test_invalid_job_file_is_rejected_before_the_start(tmp_path: Path, local_runs: LocalRuns) -> None:
    invalid = EXAMPLE.read_text().replace("kind: random", "kind: gird").replace("accuracy", "acuracy")
    (tmp_path / "job.yaml").write_text(invalid)
    ended = local_runs.run(Path("job.yaml"))
    assert ended.returncode == ConfigError.exit_code
    assert "2 problems" in ended.stderr
    assert (ended.stdout, ended.record) == ("", {})
    assert not (tmp_path / "results.csv").exists()


def test_results_match_scikit_learn(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(folder)
    frame = pandas.read_csv(folder / "iris.csv")
    expected = GridSearchCV(SVC(), {"C": [1, 10], "gamma": ["scale", 0.1]}, cv=3)
    expected.fit(frame[["d", "a"]], frame["species"].to_numpy())
    table = pandas.read_csv(folder / "results.csv")
    for column in ("split0_test_score", "split2_test_score", "mean_test_score", "std_test_score"):
        assert table[column].tolist() == expected.cv_results_[column].tolist()
    assert "params" not in table
    model = joblib.load(folder / "best.joblib")
    assert model.get_params() == expected.best_estimator_.get_params()
    assert list(model.feature_names_in_) == ["d", "a"]
    assert f"best score       {float(expected.best_score_)!r}\n" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["csv", "parquet", "json"])
def test_result_tables(folder: Path, suffix: str) -> None:
    space = [{"C": [1, 10], "gamma": ["scale", 0.1]}, {"kernel": ["linear"]}]
    data = {"path": "iris.parquet", "target": "species"}
    _run(folder, space=space, data=data | {"features": ["a"]}, outputs={"table": f"table.{suffix}"})
    read = {"csv": pandas.read_csv, "parquet": pandas.read_parquet, "json": pandas.read_json}[suffix]
    table = read(folder / f"table.{suffix}")
    assert len(table) == 5
    assert table["param_gamma"].isna().tolist() == [False] * 4 + [True]
    assert table["param_gamma"].astype(str).tolist()[:2] == ["scale", "0.1"]
    assert table["rank_test_score"].min() == 1
    assert [path.name for path in folder.iterdir() if path.name.endswith(".part")] == []


@pytest.mark.parametrize(
    "search",
    [
        {"kind": "random", "n_iter": 3},
        {"kind": "halving-grid", "min_resources": 40},
        {"kind": "halving-random", "min_resources": 40, "n_candidates": 4, "factor": 2},
    ],
)
def test_kinds_of_searches(folder: Path, search: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    space = {"C": [1, 5, 10]} if search["kind"] == "halving-grid" else {"C": {"loguniform": [0.1, 10]}}
    _run(folder, search=search, space=space)
    assert "best score       0." in capsys.readouterr().out
    assert (folder / "best.joblib").exists()


def test_several_scorers_and_groups(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(
        folder,
        search={"kind": "grid", "refit": "f1_macro"},
        scoring=["accuracy", "f1_macro"],
        data={"path": "iris.csv", "target": "species", "groups": "garden"},
        cv={"class": "sklearn.model_selection.GroupKFold", "parameters": {"n_splits": 5}},
    )
    assert "(f1_macro)" in capsys.readouterr().out
    model = joblib.load(folder / "best.joblib")
    assert list(model.feature_names_in_) == ["a", "b", "c", "d"]
    assert "mean_test_accuracy" in pandas.read_csv(folder / "results.csv")


def test_no_model_is_saved_without_refit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(
        folder,
        search={"kind": "grid", "refit": False},
        scoring=["accuracy", "f1_macro"],
        outputs={"table": "results.csv"},
    )
    assert "best score       none: several scorers" in capsys.readouterr().out


def test_estimator_in_the_folder_of_the_job_file(folder: Path) -> None:
    (folder / "my_models.py").write_text("from sklearn.svm import SVC\nclass Mine(SVC):\n    pass\n")
    _run(folder, estimator={"class": "my_models.Mine"}, outputs={"table": "results.csv"})
    assert (folder / "results.csv").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,y\n1,\n2,1\n", "target column `y` of `data.csv` is empty in 1 row"),
        ("a,y\n", "`data.csv` has no rows"),
        ("a,y\n1,2\n3,4,5\n", "`data.csv` cannot be read: Error tokenizing data"),
    ],
)
def test_unusable_data_is_rejected(folder: Path, content: str, message: str) -> None:
    (folder / "data.csv").write_text(content)
    with pytest.raises(ConfigError) as caught:
        _run(folder, data={"path": "data.csv", "target": "y"})
    assert message in caught.value.message


def test_invalid_parameters_of_a_loader_are_rejected(folder: Path) -> None:
    with pytest.raises(ConfigError, match="data set `load_digits` cannot be loaded: The 'n_class' parameter"):
        _run(folder, data={"loader": "load_digits", "parameters": {"n_class": 50}})


def test_output_folder_removed_during_the_search(folder: Path) -> None:
    job = DeclaredJob.model_validate(
        {
            "estimator": {"class": "sklearn.svm.SVC"},
            "search": {"kind": "grid"},
            "space": {"C": [1]},
            "data": {"loader": "load_iris"},
            "outputs": {"table": "gone/results.csv"},
        }
    )
    with pytest.raises(ConfigError, match="cannot be written: no such file or directory"):
        run_declared(job, folder)


def test_errors_of_estimators_are_raised_unchanged(folder: Path) -> None:
    (folder / "data.csv").write_text("a,y\nred,0\nblue,1\nred,0\nblue,1\nred,0\nblue,1\n")
    with pytest.raises(ValueError, match="could not convert string to float"):
        _run(folder, data={"path": "data.csv", "target": "y"}, search={"kind": "grid", "error_score": "raise"})
