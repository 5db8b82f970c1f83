"""Calls that would give other results on workers run in the program's process, which is reported once."""

from __future__ import annotations

import copy
import itertools
import math
import os
import pickle
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy
import pytest
from distributed import Client
from forked_workers import two_forked_workers
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier, StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from waiting import DEADLINE

from skjob.engine.backend import SkjobBackend
from skjob.engine.fidelity.local_tasks import COUNTER, LocalTaskCounter

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with two_forked_workers() as client:
        yield client


@pytest.fixture
def messages(client: Client) -> Iterator[list[str]]:
    """skjob's messages about calls, which run on the cluster. The modules of the tests count as the program's own."""
    messages: list[str] = []
    for extension in ("skjob-call-sites", "skjob-small-calls"):
        client.extensions.pop(extension, None)
    backend = SkjobBackend(client, width=2, root=HERE, wait_for_workers=DEADLINE, notify=messages.append)
    with joblib.parallel_config(backend=backend):
        yield messages


def _process() -> int:
    return os.getpid()


# ------------------------------------------------------------------------------------------------- shared objects


@pytest.mark.parametrize("n_jobs", [None, 2, -1])
def test_call_without_side_effects_runs_on_workers(messages: list[str], client: Client, n_jobs: int | None) -> None:
    processes = set(Parallel(n_jobs=n_jobs)(delayed(_process)() for _ in range(20)))
    assert processes <= set(client.run(os.getpid).values())
    assert messages == []


def test_list_filled_by_tasks_is_changed(messages: list[str]) -> None:
    collected: list[int] = []

    def collect(number: int) -> int:
        collected.append(number)
        return 2 * number

    assert Parallel()(delayed(collect)(number) for number in range(50)) == [2 * number for number in range(50)]
    assert collected == list(range(50))
    [line] = messages
    assert "`collect` (test_fidelity.py:" in line
    assert line.endswith("runs in this process: its tasks change `collected`")


def test_list_filled_by_a_scorer_is_changed(messages: list[str]) -> None:
    rows: list[int] = []

    def scorer(model: Any, X: Any, y: Any) -> float:
        rows.append(len(X))
        return float(model.score(X, y))

    cross_val_score(DummyClassifier(), *load_iris(return_X_y=True), cv=5, scoring=scorer)
    assert rows == [30] * 5
    assert len(messages) == 1


def test_change_by_a_later_task(messages: list[str]) -> None:
    """Earlier tasks run on workers and count; this task and later ones run in this process, once."""
    collected: list[int] = []

    def collect(number: int) -> int:
        if number >= 30:
            collected.append(number)
        return os.getpid() if number < 10 else number

    results = Parallel(batch_size=1)(delayed(collect)(number) for number in range(60))
    assert os.getpid() not in results[:10]
    assert results[10:] == list(range(10, 60))
    assert collected == list(range(30, 60))
    assert len(messages) == 1


def test_tasks_see_changes_of_earlier_tasks(messages: list[str]) -> None:
    """A task that fails only on workers is not an error."""
    sums: dict[int, int] = {}

    def chain(number: int) -> int:
        sums[number] = sums[number - 1] + number if number else 0
        return sums[number]

    assert Parallel()(delayed(chain)(number) for number in range(20)) == [n * (n + 1) // 2 for n in range(20)]
    assert len(sums) == 20


def test_later_call_of_the_same_line_runs_in_this_process_at_once(messages: list[str], client: Client) -> None:
    collected: list[int] = []

    def collect(number: int) -> int:
        collected.append(number)
        return os.getpid()

    for _ in range(3):
        processes = set(Parallel()(delayed(collect)(number) for number in range(10)))
        assert processes == {os.getpid()}
    assert len(collected) == 30
    assert len(messages) == 1


def test_changes_in_processes_are_lost(messages: list[str]) -> None:
    """With `n_jobs`, changes are lost in plain Python as well."""
    collected: list[int] = []
    Parallel(n_jobs=2)(delayed(collected.append)(number) for number in range(10))

    def collect(number: int) -> None:
        collected.append(number)

    Parallel(n_jobs=2)(delayed(collect)(number) for number in range(10))
    assert collected == []
    assert messages == []


def test_argument_filled_by_tasks_is_changed(messages: list[str]) -> None:
    collected: list[int] = []

    def fill(target: list[int], number: int) -> None:
        target.append(number)

    Parallel()(delayed(fill)(collected, number) for number in range(10))
    assert collected == list(range(10))


def test_object_changed_and_returned_by_a_task_is_the_programs_own(messages: list[str]) -> None:
    """As in plain Python, where `fit` changes the model itself."""
    X, y = load_iris(return_X_y=True)
    models = [LogisticRegression(C=c, max_iter=300) for c in (0.1, 1.0)]
    fitted = Parallel()(delayed(model.fit)(X, y) for model in models)
    assert [id(model) for model in fitted] == [id(model) for model in models]
    assert [model.C for model in models] == [0.1, 1.0]
    assert all(numpy.array_equal(m.coef_, LogisticRegression(C=m.C, max_iter=300).fit(X, y).coef_) for m in models)
    scaler = StandardScaler()
    FeatureUnion([("scaled", scaler), ("double", FunctionTransformer(double))]).fit(X)
    assert scaler.n_samples_seen_ == len(X)
    assert messages == []


def test_object_changed_by_a_task_is_changed(messages: list[str]) -> None:
    X, y = load_iris(return_X_y=True)
    models = [DummyClassifier() for _ in range(3)]
    Parallel()(delayed(_score)(model, X, y) for model in models)
    assert all(model.classes_.tolist() == [0, 1, 2] for model in models)
    assert "its tasks change `argument 1`" in messages[0]


def test_changed_object_without_other_references_is_ignored(messages: list[str]) -> None:
    X, y = load_iris(return_X_y=True)
    scores = Parallel()(delayed(_score)(DummyClassifier(), X, y) for _ in range(3))
    assert len(set(scores)) == 1
    assert messages == []


def _score(model: Any, X: Any, y: Any) -> float:
    return float(model.fit(X, y).score(X, y))


def test_results_as_a_generator(messages: list[str]) -> None:
    collected: list[int] = []

    def collect(number: int) -> int:
        if number >= 5:
            collected.append(number)
        return number

    results = Parallel(return_as="generator")(delayed(collect)(number) for number in range(40))
    assert list(results) == list(range(40))
    assert collected == list(range(5, 40))


def test_local_tasks_are_read_one_at_a_time(messages: list[str]) -> None:
    """As in plain Python: a task may decide whether there is another one."""
    left = [3]

    def tasks() -> Iterator[Any]:
        while left[0]:
            yield delayed(take)(left)

    def take(left: list[int]) -> int:
        left[0] -= 1
        return left[0]

    with joblib.parallel_config(prefer="threads"):
        assert Parallel()(tasks()) == [2, 1, 0]


def test_error_of_a_local_task_is_raised(messages: list[str]) -> None:
    collected: list[int] = []

    def collect(number: int) -> None:
        collected.append(number)
        if number == 3:
            raise KeyError(number)

    with pytest.raises(KeyError):
        Parallel()(delayed(collect)(number) for number in range(10))
    assert collected == [0, 1, 2, 3]


def test_output_of_tasks_is_printed_once(messages: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    collected: list[int] = []

    def collect(number: int) -> None:
        print("task", number, flush=True)
        if number >= 8:
            collected.append(number)

    Parallel(batch_size=1)(delayed(collect)(number) for number in range(20))
    assert capfd.readouterr().out.splitlines() == [f"task {number}" for number in range(20)]


def test_shared_random_generator(messages: list[str]) -> None:
    def draw(generator: Any) -> float:
        return float(generator.random())

    expected = [float(x) for x in numpy.random.default_rng(0).random(5)]
    generator = numpy.random.default_rng(0)
    assert Parallel()(delayed(draw)(generator) for _ in range(5)) == expected
    assert "share a random generator" in messages[0]


# ------------------------------------------------------------------------------------------------- threads, files, maps


def test_calls_that_prefer_threads_run_in_threads(messages: list[str]) -> None:
    out = numpy.zeros(6)
    names = set()

    def work(number: int) -> None:
        out[number] = number
        names.add(threading.current_thread().name)

    Parallel(n_jobs=3, prefer="threads")(delayed(work)(number) for number in range(6))
    assert out.tolist() == [0, 1, 2, 3, 4, 5]
    assert "MainThread" not in names
    assert "it asks for threads" in messages[0]


def test_threads_of_scikit_learn_run_on_workers(messages: list[str], client: Client) -> None:
    X, y = load_iris(return_X_y=True)
    expected = RandomForestClassifier(10, random_state=0, n_jobs=1).fit(X, y)
    forest = RandomForestClassifier(10, random_state=0).fit(X, y)
    assert [tree.tree_.node_count for tree in forest] == [tree.tree_.node_count for tree in expected]
    assert messages == []


@pytest.mark.parametrize("rows", [10, 200_000])
def test_writable_memory_map(messages: list[str], tmp_path: Path, rows: int) -> None:
    sums = numpy.memmap(tmp_path / "sums", dtype="f8", shape=(rows,), mode="w+")

    def add_up(into: Any, number: int) -> None:
        into[number] = number

    Parallel(n_jobs=2)(delayed(add_up)(sums, number) for number in range(10))
    assert float(sums.sum()) == 45.0
    assert "share a writable memory map" in messages[0]


# -------------------------------------------------------------------------------- objects that cannot be pickled


def test_argument_that_cannot_be_pickled(messages: list[str]) -> None:
    lock = threading.Lock()

    def locked(number: int) -> bool:
        with lock:
            return lock.locked()

    assert Parallel()(delayed(locked)(number) for number in range(5)) == [True] * 5
    assert "cannot be sent to workers: `locked → lock` is a _thread.lock, which cannot be pickled" in messages[0]


def test_result_that_cannot_be_pickled(messages: list[str]) -> None:
    def make(number: int) -> Any:
        return threading.Lock() if number == 4 else number

    results = Parallel()(delayed(make)(number) for number in range(8))
    assert results[:4] + results[5:] == [0, 1, 2, 3, 5, 6, 7]
    assert type(results[4]) is type(threading.Lock())
    assert "its results cannot be sent back" in messages[0]


def test_generator_argument(messages: list[str]) -> None:
    def total(numbers: Iterator[int]) -> int:
        return sum(numbers)

    assert Parallel()(delayed(total)(iter(range(n) if n < 0 else (i for i in range(n)))) for n in (2, 3)) == [1, 3]
    assert "a generator is among its arguments" in messages[0]


# ------------------------------------------------------------------------------------------------- small calls


def test_small_calls_run_in_this_process_after_the_first(
    messages: list[str], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skjob.engine.fidelity.small_run.MAX_OVERRUN", math.inf)  # the machine may be busy
    monkeypatch.setattr("skjob.engine.fidelity.small_calls.SENDING_SECONDS", math.inf)
    workers = set(client.run(os.getpid).values())
    processes = [Parallel()(delayed(_process)() for _ in range(2)) for _ in range(3)]
    assert set(processes[0]) <= workers
    assert processes[1:] == [[os.getpid()] * 2] * 2
    assert messages == []


def test_long_calls_run_on_workers(messages: list[str], client: Client) -> None:

    def slow(number: int) -> int:
        import time

        time.sleep(0.2)
        return os.getpid()

    for _ in range(2):
        assert os.getpid() not in Parallel()(delayed(slow)(number) for number in range(3))


# ------------------------------------------------------------------------------------------------- results


def double(X: Any) -> Any:
    return 2 * numpy.asarray(X)


class Halving(ClassifierMixin, BaseEstimator):
    """A classifier that is defined in the program."""

    def __init__(self, scale: Any = double) -> None:
        self.scale = scale

    def fit(self, X: Any, y: Any) -> Halving:
        self.model_ = LogisticRegression(max_iter=500).fit(self.scale(X), y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X: Any) -> Any:
        return self.model_.predict(self.scale(X))


def _save_and_load(model: Any, folder: Path) -> Any:
    """Save and load a model in each of the usual ways; return the loaded one."""
    assert pickle.loads(pickle.dumps(model)) is not None  # noqa: S301
    assert copy.deepcopy(model) is not None
    joblib.dump(model, folder / "model")
    return joblib.load(folder / "model")


def test_fitted_models_can_be_saved(messages: list[str], tmp_path: Path) -> None:
    X, y = load_iris(return_X_y=True)
    columns = ColumnTransformer([("own", FunctionTransformer(double), [0, 1]), ("rest", StandardScaler(), [2, 3])])
    columns.fit(X)
    assert columns.named_transformers_["own"].func is double
    assert numpy.array_equal(_save_and_load(columns, tmp_path).transform(X), columns.transform(X))
    search = GridSearchCV(make_pipeline(FunctionTransformer(double), Halving()), {"halving__scale": [double]}, cv=2)
    search.fit(X, y)
    assert type(search.best_estimator_[-1]) is Halving
    assert numpy.array_equal(_save_and_load(search, tmp_path).predict(X), search.predict(X))
    stack = StackingClassifier([("own", Halving()), ("dummy", DummyClassifier())], cv=2).fit(X, y)
    assert type(stack.estimators_[0]) is Halving
    assert numpy.array_equal(_save_and_load(stack, tmp_path).predict(X), stack.predict(X))


def test_returned_estimators_are_of_the_programs_class(messages: list[str], tmp_path: Path) -> None:
    result = cross_validate(Halving(), *load_iris(return_X_y=True), cv=3, return_estimator=True)
    assert {type(model) for model in result["estimator"]} == {Halving}
    assert all(model.scale is double for model in result["estimator"])
    _save_and_load(result["estimator"], tmp_path)
    assert messages == []


def test_warnings_are_issued_once_and_in_order(messages: list[str]) -> None:
    def warn(number: int) -> int:
        warnings.warn(f"task {number}", UserWarning, stacklevel=1)
        return number

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Parallel(batch_size=1)(delayed(warn)(number) for number in range(5))
    assert [str(each.message) for each in caught] == [f"task {number}" for number in range(5)]


# ------------------------------------------------------------------------------------------------- messages


TABLE = {number: "x" * 1000 + str(number) for number in range(2000)}


def _looks_up(number: int) -> int:
    return len(TABLE[number])


@pytest.mark.parametrize("return_as", ["list", "generator"])
def test_object_too_large_to_compare_is_reported_once_per_line(
    messages: list[str], client: Client, return_as: str
) -> None:
    client.extensions.pop("skjob-call-sites", None)
    for _ in range(2):
        results = [*Parallel(return_as=return_as)(delayed(_looks_up)(number) for number in range(3))]
        assert results == [1001] * 3
    [line] = [each for each in messages if "too large to compare" in each]
    assert line.startswith("the tasks of `looks_up` (test_fidelity.py:")
    assert line.endswith(") use `TABLE` (too large to compare): a change of it by a task is not seen")


def test_local_tasks_are_counted(messages: list[str], client: Client, monkeypatch: Any) -> None:
    seconds = itertools.count()
    counts: list[int] = []
    monkeypatch.setitem(client.extensions, COUNTER, LocalTaskCounter(counts.append, lambda: float(next(seconds))))
    Parallel(n_jobs=2, prefer="threads")(delayed(_process)() for _ in range(20))
    assert counts == sorted(set(counts))
    assert counts[-1] == 20
    assert [*Parallel(n_jobs=2, prefer="threads", return_as="generator")(delayed(_process)() for _ in range(5))]
    assert counts[-1] == 25
