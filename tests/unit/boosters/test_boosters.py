"""Trainings of XGBoost and LightGBM, as far as no cluster is needed: layout, checkpoints, early stopping, decisions."""

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import lightgbm
import lightgbm.dask
import numpy
import pytest
import xgboost
from dask.task_spec import Task
from lightgbm.dask import _train_part
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skjob.boosters.checkpoint import (
    Checkpoint,
    FileCheckpointStore,
    decode_checkpoint,
    encode_checkpoint,
    extend_history,
    first_rounds,
    training_identity,
)
from skjob.boosters.lightgbm import check_lightgbm
from skjob.boosters.partitioning import split_evenly
from skjob.boosters.patches import patch_libraries, requested_early_stopping
from skjob.boosters.scheduler_plugin import as_training_part
from skjob.boosters.tracker import patch_tracker
from skjob.boosters.xgboost import check_xgboost
from skjob.boosters.xgboost_callbacks import ResumedCallback
from skjob.config.settings import WorkerRange
from skjob.deploy.scaling.policy import Decision, Demand, Supply, Worker, decide
from skjob.engine.threads import takes_whole_worker
from skjob.errors import ConfigError
from skjob.jobfile.data.estimator_support import library_of
from skjob.utils.import_hooks import when_imported


@pytest.mark.parametrize(
    ("path", "library"),
    [
        ("xgboost.XGBClassifier", "xgboost"),
        ("xgboost.sklearn.XGBRanker", "xgboost"),
        ("xgboost.dask.DaskXGBRegressor", "xgboost"),
        ("lightgbm.LGBMClassifier", "lightgbm"),
        ("lightgbm.dask.DaskLGBMRanker", "lightgbm"),
        ("xgboost.XGBRFClassifier", None),
        ("sklearn.linear_model.LogisticRegression", None),
        ("XGBClassifier", None),
    ],
)
def test_which_library_trains_on_several_workers(path: str, library: str | None) -> None:
    assert library_of(path) == library


@pytest.mark.parametrize(("parts", "workers"), [(6, 3), (7, 3), (2, 3), (0, 2), (5, 1), (1000, 7)])
def test_each_partition_has_one_worker_in_order(parts: int, workers: int) -> None:
    chosen = split_evenly(parts, workers)
    assert len(chosen) == workers
    assert [number for block in chosen for number in block] == list(range(parts))
    assert max(map(len, chosen)) - min(map(len, chosen)) <= 1


# ---- parts of a training


def _task(function: Any, restrictions: set[str] | None, *arguments: Any, **keywords: Any) -> Any:
    return SimpleNamespace(
        key="key", worker_restrictions=restrictions, run_spec=Task("key", function, *arguments, **keywords)
    )


def test_a_part_is_known_by_its_library_its_worker_and_what_its_peers_are_given() -> None:
    part = as_training_part(_task(_train_part, {"tcp://a"}, machines="a:1,b:2", params={}))
    assert part is not None
    assert (part.library, part.worker, part.meeting) == ("lightgbm.dask", "tcp://a", "a:1,b:2")


@pytest.mark.parametrize(
    "task",
    [
        _task(_train_part, None, machines="a:1"),
        _task(_train_part, {"tcp://a", "tcp://b"}, machines="a:1"),
        _task(len, {"tcp://a"}, [1]),
        SimpleNamespace(key="data", worker_restrictions={"tcp://a"}, run_spec=None),
    ],
)
def test_what_is_no_part(task: Any) -> None:
    assert as_training_part(task) is None


# ---- early stopping of LightGBM


@pytest.mark.parametrize(
    ("parameters", "callbacks", "asked"),
    [
        ({"early_stopping_round": 5}, (), "`early_stopping_round=5`"),
        ({"early_stopping_rounds": 5}, (), "`early_stopping_rounds=5`"),
        ({"n_iter_no_change": 1}, (), "`n_iter_no_change=1`"),
        ({"early_stopping": 3}, (), "`early_stopping=3`"),
        ({"early_stopping_round": 0}, (), None),
        ({"early_stopping_round": -1}, (), None),
        ({"early_stopping_round": None, "n_estimators": 10}, (), None),
        ({}, (lightgbm.early_stopping(7),), "the callback `early_stopping(7)`"),
        ({}, (lightgbm.log_evaluation(7),), None),
    ],
)
def test_how_early_stopping_is_asked_for(
    parameters: Mapping[str, Any], callbacks: tuple[Any, ...], asked: str | None
) -> None:
    assert requested_early_stopping(parameters, callbacks) == asked


def test_lightgbms_own_aliases_are_known() -> None:
    known = lightgbm.basic._ConfigAliases.get("early_stopping_round")
    assert [name for name in known if requested_early_stopping({name: 3}) is None] == []


@pytest.mark.parametrize("kind", ["DaskLGBMClassifier", "DaskLGBMRegressor", "DaskLGBMRanker"])
def test_a_fit_that_would_hang_is_refused_before_anything_starts(kind: str) -> None:
    """There is no client: it raises before it looks for one."""
    patch_libraries()
    estimator = getattr(lightgbm, kind)(early_stopping_round=10)
    with pytest.raises(ConfigError, match=r"`early_stopping_round=10` at `.*test_boosters.py:\d+`") as caught:
        estimator.fit(None, None)
    assert "xgboost.dask" in caught.value.hint
    with pytest.raises(ConfigError, match=r"the callback `early_stopping\(3\)`"):
        getattr(lightgbm, kind)().fit(None, None, callbacks=[lightgbm.early_stopping(3)])


def test_a_declared_job_is_refused_too() -> None:
    with pytest.raises(ConfigError, match="`n_iter_no_change=3`"):
        check_lightgbm(lightgbm.LGBMClassifier(n_iter_no_change=3))
    check_lightgbm(lightgbm.LGBMClassifier(n_estimators=3))


def test_modules_are_guarded_once() -> None:
    patch_libraries()
    fit = lightgbm.DaskLGBMClassifier.fit
    patch_libraries()
    assert lightgbm.DaskLGBMClassifier.fit is fit
    assert sum(type(finder).__name__ == "_ActingFinder" for finder in sys.meta_path) == 1


def test_a_module_is_acted_on_by_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acted_on.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    seen: list[str] = []

    def first(module: ModuleType) -> None:
        seen.append(f"first {module.__name__}")

    when_imported("acted_on", first)
    when_imported("acted_on", first)
    when_imported("acted_on", lambda _: seen.append("second"))
    assert seen == []
    importlib.import_module("acted_on")
    when_imported("acted_on", lambda _: seen.append("third"))
    assert seen == ["first acted_on", "second", "third"]


def test_another_start_of_trackers_is_left_alone() -> None:
    def start_tracker(workers: int) -> None: ...

    module = ModuleType("xgboost.dask")
    patch_tracker(module)
    module._start_tracker = start_tracker  # type: ignore[attr-defined]
    patch_tracker(module)
    assert module._start_tracker is start_tracker


def test_all_problems_of_an_xgboost_job_at_once() -> None:
    estimator = xgboost.XGBClassifier(early_stopping_rounds=3, n_estimators=0, booster="gblinear")
    with pytest.raises(ConfigError, match="3 problems") as caught:
        check_xgboost(estimator, [])
    for what in ("early_stopping_rounds", "n_estimators=0", "gblinear"):
        assert what in caught.value.message
    check_xgboost(xgboost.XGBClassifier(early_stopping_rounds=3), [(1, 2)])


# ---- checkpoints


def test_a_checkpoint_is_read_as_it_was_written_or_not_at_all(tmp_path: Path) -> None:
    checkpoint = Checkpoint(7, b"\x00booster\xff", {"validation_0": {"logloss": [0.1 + 0.2, 1 / 3]}}, finished=True)
    assert decode_checkpoint(encode_checkpoint(checkpoint)) == checkpoint
    store = FileCheckpointStore(tmp_path / "kept", "0123456789abcdef" * 4)
    assert store.load() is None
    store.save(checkpoint)
    assert store.load() == checkpoint
    content = encode_checkpoint(checkpoint)
    document = json.loads(content)
    for damaged in (
        b"",
        content[:-20],
        content.replace(b"logloss", b"loglose"),
        json.dumps({**document, "format": 99}).encode(),
        json.dumps([]).encode(),
    ):
        assert decode_checkpoint(damaged) is None


def test_a_changed_job_is_another_training() -> None:
    def identity(data: str = "d", library: str = "3.2", **parameters: Any) -> str | None:
        return training_identity(xgboost.XGBClassifier(**parameters), data, library)

    first = identity(max_depth=3)
    assert first == identity(max_depth=3) == identity(max_depth=3, n_jobs=4, verbosity=0)
    others = [identity(max_depth=4), identity("e", max_depth=3), identity(library="3.3", max_depth=3), identity()]
    assert len({first, *others}) == 5
    assert training_identity(xgboost.XGBRegressor(max_depth=3), "d", "3.2") != first


def test_scores_of_a_training_that_goes_on() -> None:
    before = {"a": {"m": [1.0, 2.0], "n": [5.0, 6.0]}}
    after = {"a": {"m": [3.0], "n": [7.0]}}
    whole = extend_history(before, after)
    assert whole == {"a": {"m": [1.0, 2.0, 3.0], "n": [5.0, 6.0, 7.0]}}
    assert first_rounds(whole, 2) == before
    assert extend_history({}, after) == after
    assert extend_history(before, {}) == before


@pytest.mark.parametrize("stopped_at", [1, 7, 12])
def test_early_stopping_counts_the_rounds_before(stopped_at: int) -> None:
    """One training, and one that goes on from a checkpoint, stop after the same round, with the same model."""
    random = numpy.random.default_rng(0)
    X = random.normal(size=(400, 5))
    y = (X[:, 0] + random.normal(size=400) > 0).astype(int)
    train, valid = xgboost.DMatrix(X[:200], y[:200]), xgboost.DMatrix(X[200:], y[200:])
    parameters = {"objective": "binary:logistic", "eta": 0.5, "max_depth": 5, "nthread": 1}

    def trained(rounds: int, callbacks: list[Any], model: Any = None) -> tuple[Any, Any]:
        history: dict[str, Any] = {}
        booster = xgboost.train(
            parameters, train, rounds, evals=[(valid, "v")], evals_result=history, verbose_eval=False,
            callbacks=callbacks, xgb_model=model,
        )  # fmt: skip
        return booster, history

    whole, scores = trained(100, [xgboost.callback.EarlyStopping(rounds=10)])
    assert whole.best_iteration + 10 < 99, "it never stopped early"
    first, seen = trained(stopped_at, [])
    before = Checkpoint(stopped_at, b"", {"v": dict(seen["v"])})
    going_on = ResumedCallback(xgboost.callback.EarlyStopping(rounds=10), before)
    second, rest = trained(100 - stopped_at, [going_on], first)
    assert (second.best_iteration, second.best_score) == (whole.best_iteration, whole.best_score)
    assert second.num_boosted_rounds() == whole.num_boosted_rounds()
    assert extend_history(before.history, rest) == {"v": dict(scores["v"])}
    assert second.get_dump(with_stats=True) == whole.get_dump(with_stats=True)


def test_a_training_that_had_stopped_already_does_no_more_rounds() -> None:
    train = xgboost.DMatrix(numpy.arange(20.0).reshape(-1, 1), numpy.arange(20.0))
    first = xgboost.train({}, train, 4)
    before = Checkpoint(4, b"", {"v": {"rmse": [1.0, 2.0, 3.0, 4.0]}})
    going_on = ResumedCallback(xgboost.callback.EarlyStopping(rounds=3), before)
    second = xgboost.train(
        {}, train, 6, evals=[(train, "v")], callbacks=[going_on], xgb_model=first, verbose_eval=False
    )
    assert second.num_boosted_rounds() == 4


def test_a_schedule_of_learning_rates_goes_on_where_it_was() -> None:
    seen: list[int] = []

    def rate(epoch: int) -> float:
        seen.append(epoch)
        return 0.1

    train = xgboost.DMatrix(numpy.arange(20.0).reshape(-1, 1), numpy.arange(20.0))
    first = xgboost.train({}, train, 4)
    going_on = ResumedCallback(xgboost.callback.LearningRateScheduler(rate), Checkpoint(4, b""))
    xgboost.train({}, train, 3, callbacks=[going_on], xgb_model=first)
    assert seen == [4, 5, 6]


# ---- workers


def _demand(**what: Any) -> Demand:
    idle = tuple(Worker(f"w{number}", 1000.0) for number in range(3))
    return Demand(waiting=0, length=None, remaining=(), finished=0, peak=0, workers=idle, **what)


@pytest.mark.parametrize(
    ("what", "asked", "decision"),
    [
        ({}, 3, Decision(release=("w0", "w1"))),
        ({"together": True}, 3, Decision()),
        ({"all_wanted": True}, 3, Decision(total=8)),
        ({"all_wanted": True}, 8, Decision()),
        ({"all_wanted": True, "together": True}, 3, Decision(total=8)),
    ],
)
def test_who_goes_and_who_is_asked_for_while_workers_do_something_together(
    what: dict[str, bool], asked: int, decision: Decision
) -> None:
    assert decide(_demand(**what), Supply(asked, (), 10.0), WorkerRange(1, 8), 1) == decision


@pytest.mark.parametrize(
    ("estimator", "whole"),
    [
        (HistGradientBoostingClassifier(), True),
        (xgboost.XGBClassifier(), True),
        (xgboost.XGBRegressor(n_jobs=-1), True),
        (xgboost.XGBClassifier(n_jobs=3), True),
        (xgboost.XGBClassifier(n_jobs=1), False),
        (lightgbm.LGBMRanker(), True),
        (lightgbm.LGBMClassifier(n_jobs=1), False),
        (make_pipeline(StandardScaler(), xgboost.XGBClassifier()), True),
        (make_pipeline(StandardScaler(), xgboost.XGBClassifier(n_jobs=1)), False),
        (RandomForestClassifier(n_jobs=-1), False),
        (xgboost.XGBClassifier, False),
        (3, False),
    ],
)
def test_which_estimators_get_a_worker_to_themselves(estimator: Any, whole: bool) -> None:
    assert takes_whole_worker((print, (estimator,), {})) is whole
