"""Data larger than a worker's memory, on local workers: dask-ml as scripts use it, and job files."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array
import dask.dataframe
import joblib
import numpy
import pandas
import pytest
from distributed import Client, LocalCluster
from forked_workers import forked_workers
from local_runs import LocalRuns
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from support.s3_server import SECRET, s3_server

from skjob.engine.transfer.worker_plugins import register_plugin
from skjob.errors import ConfigError
from skjob.jobfile.data.files import files_of
from skjob.jobfile.data.placement import Workers
from skjob.jobfile.data.table_size import table_of
from skjob.jobfile.loader import read_job
from skjob.jobfile.runner import place_data, run_declared
from skjob.run.program.dask_ml_patches import install_patches
from skjob.run.program.storage_credentials import Credentials, forget, found

pytestmark = [
    pytest.mark.integration,
    # Warnings of dask-ml, which has no newer release, about deprecated functions that it uses.
    pytest.mark.filterwarnings("default"),
]

FEATURES = [f"f{number}" for number in range(6)]
ROWS = 40_000
GROUP = 5_000
"""Rows of a row group, which is the smallest piece."""

MIB = 2**20
TOO_SMALL = 6 * MIB
"""Memory of workers in which the rows do not fit."""


@pytest.fixture(scope="module", autouse=True)
def client() -> Iterator[Client]:
    install_patches()
    with (
        forked_workers(),
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit="700MiB", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files with features, a class `y`, the same as words, and a number `z`."""
    folder = tmp_path_factory.mktemp("data")
    weights = numpy.random.default_rng(7).normal(size=6)
    for number in range(4):
        rng = numpy.random.default_rng(number)
        X = rng.normal(size=(ROWS // 4, 6))
        y = (X @ weights + rng.logistic(size=len(X)) / 2 > 0).astype(int)
        frame = pandas.DataFrame(X, columns=FEATURES).assign(
            y=y, word=numpy.where(y, "yes", "no"), z=X @ weights, colour=rng.choice(["red", "blue"], len(X))
        )
        frame.to_parquet(folder / f"part{number}.parquet", row_group_size=GROUP, index=False)
    return folder


@pytest.fixture
def frame(folder: Path) -> Any:
    return dask.dataframe.read_parquet(f"{folder}/part*.parquet", split_row_groups=1)


@pytest.fixture
def arrays(frame: Any) -> tuple[Any, Any]:
    """Arrays as dask-ml requires them. Without the patches, Dask would fuse different parts of X and y."""
    return frame[FEATURES].to_dask_array(lengths=True), frame["y"].to_dask_array(lengths=True)


# ---- dask-ml, as scripts use it


def test_logistic_regression_matches_scikit_learn(arrays: tuple[Any, Any], folder: Path) -> None:
    from dask_ml.linear_model import LogisticRegression as DaskLogisticRegression

    X, y = arrays
    assert X.numblocks[0] == y.numblocks[0] == ROWS // GROUP
    model = DaskLogisticRegression(solver="lbfgs").fit(X, y)
    whole = _whole(folder)
    expected = LogisticRegression().fit(whole[FEATURES].to_numpy(), whole["y"])
    assert model.coef_ == pytest.approx(expected.coef_[0], rel=0.01)
    assert float(model.score(X, y)) == pytest.approx(expected.score(whole[FEATURES].to_numpy(), whole["y"]), abs=0.002)


def test_linear_regression_score(frame: Any) -> None:
    from dask_ml.linear_model import LinearRegression

    X, z = frame[FEATURES].to_dask_array(lengths=True), frame["z"].to_dask_array(lengths=True)
    assert LinearRegression(solver="lbfgs").fit(X, z).score(X, z) == pytest.approx(1, abs=1e-4)


def test_r2_score_matches_scikit_learn() -> None:
    from dask_ml.metrics import r2_score as dask_r2_score
    from sklearn.metrics import r2_score

    rng = numpy.random.default_rng(0)
    y = rng.normal(size=100)
    for true, predicted in (
        (y, y + rng.normal(size=100)),
        (y, y),
        (numpy.ones(100), y),
        (numpy.ones(100), numpy.ones(100)),
    ):
        pieces = [dask.array.from_array(values, chunks=30) for values in (true, predicted)]
        assert dask_r2_score(*pieces) == pytest.approx(r2_score(true, predicted))


def test_hyperband_finds_a_good_model(arrays: tuple[Any, Any]) -> None:
    from dask_ml.model_selection import HyperbandSearchCV

    X, y = arrays
    search = HyperbandSearchCV(
        SGDClassifier(random_state=0), {"alpha": numpy.logspace(-4, 2, 30)}, max_iter=9, random_state=0
    )
    search.fit(X, y, classes=[0, 1])
    assert search.best_score_ > 0.8
    assert search.score(X, y) > 0.8
    assert max(search.cv_results_["partial_fit_calls"]) > 1


def test_incremental_and_parallel_post_fit(arrays: tuple[Any, Any]) -> None:
    from dask_ml.wrappers import Incremental, ParallelPostFit

    X, y = arrays
    incremental = Incremental(SGDClassifier(random_state=0), random_state=0, scoring="accuracy").fit(
        X, y, classes=[0, 1]
    )
    assert incremental.score(X, y) > 0.8
    post_fit = ParallelPostFit(RandomForestClassifier(10, random_state=0), scoring="accuracy")
    post_fit.fit(*(values[:2000].compute() for values in arrays))
    assert post_fit.score(X, y) > 0.8
    assert post_fit.predict_proba(X).shape == (ROWS, 2)


def test_preprocessing_and_split(frame: Any, arrays: tuple[Any, Any]) -> None:
    from dask_ml.model_selection import train_test_split
    from dask_ml.preprocessing import Categorizer, DummyEncoder, StandardScaler

    X, y = arrays
    scaled = StandardScaler().fit_transform(X)
    assert numpy.abs(scaled.mean(axis=0).compute()).max() < 1e-6
    parts = train_test_split(X, y, test_size=0.25, random_state=0)
    assert [len(part) for part in parts] == [ROWS * 3 // 4, ROWS // 4] * 2
    encoded = DummyEncoder().fit_transform(Categorizer().fit_transform(frame[["colour"]]))
    assert list(encoded.columns) == ["colour_blue", "colour_red"]


# ---- job files


def _job(folder: Path, **sections: Any) -> Path:
    content = {
        "estimator": {"class": "dask_ml.linear_model.LogisticRegression", "parameters": {"solver": "lbfgs"}},
        "data": {"path": "*.parquet", "target": "y", "features": FEATURES},
        "outputs": {"model": "model.joblib"},
    }
    path = folder / "job.yaml"
    path.write_text(json.dumps(content | sections))
    return path


def _run(
    folder: Path,
    memory: int,
    notify: Callable[[str], None] = lambda _: None,
    rounds: str | None = None,
    **sections: Any,
) -> Any:
    """Run a job with the placement for workers with this memory, and return that placement."""
    job = read_job(_job(folder, **sections))
    placed = place_data(job, folder, Workers(2, memory), shared_files=True)
    run_declared(job, folder, placed, notify, rounds)
    return placed


FEW_ROUNDS = {"class": "dask_ml.linear_model.LogisticRegression", "parameters": {"solver": "lbfgs", "max_iter": 5}}
SGD = {"class": "sklearn.linear_model.SGDClassifier", "parameters": {"random_state": 0, "loss": "log_loss"}}
SCALER = {"class": "sklearn.preprocessing.StandardScaler"}


@pytest.mark.parametrize(
    ("estimator", "target", "min_score"),
    [
        (FEW_ROUNDS, "y", 0.8),
        ([{"class": "dask_ml.preprocessing.StandardScaler"}, FEW_ROUNDS], "y", 0.8),
        ({"class": "dask_ml.linear_model.LinearRegression", "parameters": {"solver": "lbfgs"}}, "z", 0.99),
        (SGD, "word", 0.8),
        ([SCALER, SGD], "y", 0.8),
        ({"class": "sklearn.linear_model.SGDRegressor", "parameters": {"random_state": 0}}, "z", 0.99),
        ({"class": "xgboost.XGBClassifier", "parameters": {"n_estimators": 20}}, "y", 0.8),
        ({"class": "lightgbm.LGBMRegressor", "parameters": {"n_estimators": 20, "verbose": -1}}, "z", 0.8),
    ],
)  # fmt: skip
def test_job_trains_on_pieces(
    folder: Path, estimator: Any, target: str, min_score: float, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"path": "*.parquet", "target": target, "features": FEATURES}
    assert _run(folder, TOO_SMALL, estimator=estimator, data=data).pieces
    output = capsys.readouterr().out
    assert _printed(output, "learned from") == pytest.approx(ROWS * 3 / 4, rel=0.02)
    score = _printed(output, "score")
    assert min_score < score <= 1
    model = joblib.load(folder / "model.joblib")
    whole = _whole(folder)
    features = whole[FEATURES].to_numpy(copy=True)  # dask-ml's scaler modifies its input
    assert _score(whole[target].to_numpy(), model.predict(features)) == pytest.approx(score, abs=0.02)


def test_stored_training_is_reused_only_by_the_same_job(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = {"class": "xgboost.XGBRegressor", "parameters": {"n_estimators": 8, "learning_rate": 0.5}}
    messages: list[str] = []

    def score(target: str = "z", features: list[str] = FEATURES, holdout: float = 0.25) -> float:
        data = {"path": "*.parquet", "target": target, "features": features}
        _run(folder, TOO_SMALL, messages.append, str(tmp_path), estimator=estimator, data=data, holdout=holdout)
        return _printed(capsys.readouterr().out, "score")

    first = score()
    assert score("y") < score(features=FEATURES[::-1]) == pytest.approx(first, abs=0.01)
    score(holdout=0.1)
    assert messages == []
    assert score() == first
    assert messages.pop() == "xgboost: reused all 8 rounds from an earlier run"
    monkeypatch.setattr("skjob.jobfile.data.files._state", lambda _: "")
    for _ in range(2):
        score()
        assert "another run cannot resume this training" in messages.pop()
        assert messages == []


def _whole(folder: Path) -> pandas.DataFrame:
    return pandas.concat([pandas.read_parquet(path) for path in sorted(folder.glob("*.parquet"))], ignore_index=True)


def _printed(output: str, name: str) -> float:
    """Return the number after a name at the beginning of a line."""
    [line] = [line for line in output.splitlines() if line.startswith(f"{name} ")]
    return float(line.removeprefix(name).split()[0].strip(","))


def _score(target: Any, predicted: Any) -> float:
    from sklearn.metrics import accuracy_score, r2_score

    return float(r2_score(target, predicted) if target.dtype == float else accuracy_score(target, predicted))


def test_scores_on_pieces_and_on_whole_data_agree(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = []
    for memory in (TOO_SMALL, 2**30):
        placed = _run(folder, memory, estimator=[SCALER, SGD])
        assert placed.pieces == (memory == TOO_SMALL)
        scores.append(_printed(capsys.readouterr().out, "score"))
    # Training on pieces makes one pass, and training on the whole data continues until it converges.
    assert scores[0] == pytest.approx(scores[1], abs=0.05)


def test_job_without_holdout_trains_on_all_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(folder, TOO_SMALL, estimator=SGD, holdout=0)
    assert capsys.readouterr().out.startswith(f"learned from     {ROWS} rows\nmodel ")


def test_fit_on_whole_data_matches_scikit_learn(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sklearn.metrics import f1_score
    from sklearn.model_selection import train_test_split

    _run(folder, 2**30, estimator={"class": "sklearn.linear_model.LogisticRegression"}, scoring=["accuracy", "f1"])
    whole = _whole(folder)
    X, X_held_out, y, y_held_out = train_test_split(whole[FEATURES], whole["y"], test_size=0.25, random_state=0)
    expected = LogisticRegression().fit(X, y)
    output = capsys.readouterr().out
    assert (
        f"score            {expected.score(X_held_out, y_held_out)!r} (accuracy), on {ROWS // 4} rows held out\n"
        in output
    )
    assert f"score            {float(f1_score(y_held_out, expected.predict(X_held_out)))!r} (f1)" in output


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"estimator": {"class": "sklearn.svm.SVC"}}, "`SVC` needs all of it"),
        ({"estimator": SGD, "search": {"kind": "grid"}, "space": {"alpha": [1e-4]}}, "a search needs all of it"),
        ({"data": {"path": "*.parquet", "target": "y", "features": ["colour", "f0"]}, "scoring": "roc_auc"},
         "2 problems:\n  - column `colour` of `*.parquet` does not hold numbers"),
    ],
)  # fmt: skip
def test_jobs_that_need_all_data_are_rejected(folder: Path, sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _run(folder, TOO_SMALL, **sections)
    assert message in caught.value.message


def test_local_files_are_rejected_for_remote_workers(folder: Path) -> None:
    job = read_job(_job(folder))
    with pytest.raises(ConfigError, match="is on this machine, where workers cannot read it"):
        place_data(job, folder, Workers(2, TOO_SMALL), shared_files=False)


@pytest.mark.parametrize(
    ("target", "message"),
    [("gaps", "target column `gaps` of `*.parquet` is empty in 1 rows"), ("three", "takes 0 and 1")],
)
def test_unusable_targets_are_rejected(tmp_path: Path, target: str, message: str) -> None:
    frame = pandas.DataFrame({"f0": numpy.arange(30.0), "gaps": [None, *[1.0] * 29], "three": [0, 1, 2] * 10})
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=10)
    with pytest.raises(ConfigError) as caught:
        _run(tmp_path, TOO_SMALL, data={"path": "*.parquet", "target": target, "features": ["f0"]})
    assert message in caught.value.message


# ---- S3


@pytest.fixture
def bucket(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    import fsspec

    with s3_server("127.0.0.1") as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # kind tests may have used another server
        system = fsspec.filesystem("s3", skip_instance_cache=True)
        name = f"data-{secrets.token_hex(4)}"
        system.mkdir(name)
        system.put(f"{folder}/part[01].parquet", f"{name}/table/")
        yield f"s3://{name}/table"


@pytest.mark.parametrize("address", ["{bucket}/*.parquet", "{bucket}", "{bucket}/part1.parquet"])
def test_job_on_s3(
    client: Client, tmp_path: Path, bucket: str, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"path": address.format(bucket=bucket), "target": "y", "features": FEATURES}
    register_plugin(client, Credentials(found(os.environ)))
    try:
        assert _run(tmp_path, TOO_SMALL, estimator=FEW_ROUNDS, data=data).pieces
    finally:
        forget(client)
    assert _printed(capsys.readouterr().out, "score") > 0.8


def test_run_of_a_job_on_s3(tmp_path: Path, bucket: str, local_runs: LocalRuns) -> None:
    """The plan is reported, workers read the data, and no credentials are shown or recorded."""
    data = {"path": f"{bucket}/*.parquet", "target": "y", "features": FEATURES}
    path = _job(tmp_path, estimator=FEW_ROUNDS, data=data)
    ended = local_runs.run(Path(path.name), "--worker-memory", "700Mi")
    assert ended.returncode == 0, ended.stderr
    assert "stays in pieces of up to" in ended.stderr
    assert _printed(ended.stdout, "score") > 0.8
    [record] = tmp_path.glob(".skjob/runs/*/run.json")
    assert ended.record["data"]["pieces"] is True
    assert len(ended.record["peak_memory"]) == 2
    assert all(50 * MIB < peak < 700 * MIB for peak in ended.record["peak_memory"].values())
    assert SECRET not in record.read_text() + ended.stdout + ended.stderr


def test_missing_address_is_rejected(tmp_path: Path, bucket: str) -> None:
    with pytest.raises(ConfigError, match=r"data.path: `s3://data-.*/nothing/\*.parquet` has no file"):
        read_job(_job(tmp_path, data={"path": f"{bucket}/nothing/*.parquet", "target": "y"}))


def test_size_of_a_table_on_s3_is_read_from_footers(folder: Path, bucket: str) -> None:
    remote, local = (table_of(files_of([address], folder)) for address in (bucket, "part[01].parquet"))
    assert (remote.rows, remote.memory(remote.names)) == (local.rows, local.memory(local.names))
