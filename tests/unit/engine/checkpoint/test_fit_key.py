"""What is the same fit: scikit-learn's own calls, as joblib gets them, here and in the next process."""

from __future__ import annotations

import copy
import dataclasses
import enum
import functools
import importlib
import inspect
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import scipy.stats
import sklearn
from clocks import DEADLINE
from joblib import parallel_config, register_parallel_backend
from joblib._parallel_backends import ThreadingBackend
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.datasets import make_classification
from sklearn.decomposition import LatentDirichletAllocation
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, StackingClassifier
from sklearn.feature_selection import SelectKBest, mutual_info_classif
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, fbeta_score, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    RandomizedSearchCV,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from skjob.engine.checkpoint import module_hashing
from skjob.engine.checkpoint.fit_key import FitIdentity, FitKeyBuilder
from skjob.engine.checkpoint.hashing import Hasher
from skjob.engine.checkpoint.randomness import NO_EFFECT, unseeded
from skjob.engine.checkpoint.walk import Unidentifiable
from skjob.engine.transfer.code_origin import Origins
from skjob.engine.transfer.task_pickler import content_key

X, Y = make_classification(n_samples=60, n_features=5, random_state=0)


def identities(run: Any, root: Any = None, settings: tuple[Any, ...] = (), jobs: tuple[Any, ...] = ()) -> list[Any]:
    """The identities of the calls that `run` gives to joblib, made before each is run. None: not kept."""
    identifier = FitKeyBuilder(root, content_key, {}, settings, jobs)
    found = []

    class Recording(ThreadingBackend):
        def submit(self, func: Any, callback: Any = None) -> Any:
            """Run it at once: in threads, scikit-learn's fits change each other's filters of warnings."""
            found.extend(identifier.identify(item) for item in func.items)
            done: Future[Any] = Future()
            done.set_result(func())
            done.add_done_callback(callback)
            return done

        def retrieve_result_callback(self, done: Any) -> Any:
            return done.result()

    register_parallel_backend("recording", Recording)
    with parallel_config(backend="recording", n_jobs=2):
        run()
    return sorted(found, key=lambda identity: identity.fit if identity else "")


def fits(run: Callable[[], Any]) -> list[FitIdentity]:
    found = identities(run)
    assert all(found)
    assert found
    return found


def fit_digests(run: Callable[[], Any]) -> list[str]:
    return [identity.fit for identity in fits(run)]


def first(estimator: Any, X: Any = X, y: Any = Y, **arguments: Any) -> FitIdentity:
    """A fit of cross_validate, always the same of the two."""
    return fits(lambda: cross_validate(estimator, X, y, cv=2, **arguments))[0]


def digest(value: Any) -> bytes:
    return Hasher(Origins(None, {}), content_key).digest(value).value


# Searches


def grid_search(**arguments: Any) -> Any:
    chosen = {"param_grid": {"C": [0.1, 1.0], "kernel": ["rbf", "linear"]}, "cv": 3, **arguments}
    return GridSearchCV(SVC(), **chosen).fit(X, Y)


def test_each_fit_of_a_search_has_its_own_identity_and_all_share_their_data() -> None:
    found = fits(grid_search)
    assert len(found) == len({identity.fit for identity in found}) == 12
    assert len({identity.data for identity in found}) == 1
    assert all(identity.seeded for identity in found)


def test_a_second_search_has_the_same_identities() -> None:
    assert fits(grid_search) == fits(grid_search)


def _fits_twice(number: Any) -> Any:
    class Searching(LogisticRegression):
        """Of the program's own, with an estimator in its fit that asks for jobs."""

        def fit(self, X: Any, y: Any) -> Any:
            number(n_jobs=2)
            return super().fit(X, y)

    return Searching()


@pytest.mark.parametrize(
    ("estimator", "grid", "depends"),
    [
        (LatentDirichletAllocation(random_state=0), {}, False),
        (LatentDirichletAllocation(random_state=0, n_jobs=1), {}, False),
        (LatentDirichletAllocation(random_state=0, n_jobs=2), {}, True),
        (make_pipeline(LatentDirichletAllocation(random_state=0, n_jobs=-1)), {}, True),
        (LatentDirichletAllocation(random_state=0), {"n_jobs": [2]}, True),
        (make_pipeline(LatentDirichletAllocation(random_state=0)), {"latentdirichletallocation__n_jobs": [2]}, True),
        (RandomForestClassifier(n_estimators=2, random_state=0, n_jobs=2), {}, False),  # for any number the same
        (_fits_twice(dict), {}, True),
    ],
)
def test_what_plain_pythons_number_of_jobs_depends_on_counts_where_it_is_asked(
    estimator: Any, grid: dict[str, Any], depends: bool
) -> None:
    def search() -> Any:
        return GridSearchCV(estimator, grid, cv=2, scoring=lambda *_: 0.0).fit(abs(X), Y)

    here, there = ({*identities(search, jobs=jobs)} for jobs in (("DEFAULT", 2), ("THREADS", 2)))
    assert len(here) > 1  # of the fits; what they call themselves has none
    assert (here != there) == depends


def test_a_larger_grid_has_those_of_the_smaller() -> None:
    larger = fit_digests(lambda: grid_search(param_grid={"C": [0.1, 1.0, 10.0], "kernel": ["rbf", "linear"]}))
    assert len(set(larger) & set(fit_digests(grid_search))) == 12


def test_what_talks_about_progress_is_no_part() -> None:
    assert fit_digests(lambda: grid_search(verbose=3)) == fit_digests(grid_search)


@pytest.mark.parametrize(
    "changed",
    [
        {"return_train_score": True},
        {"error_score": 0.0},
        {"scoring": "f1"},
        {"scoring": ["accuracy", "f1"], "refit": False},
        {"cv": StratifiedKFold(3, shuffle=True, random_state=0)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_way_to_fit_or_score_is_another_fit(changed: dict[str, Any]) -> None:
    assert not set(fit_digests(lambda: grid_search(**changed))) & set(fit_digests(grid_search))


@pytest.mark.parametrize(
    ("run", "number"),
    [
        (lambda: cross_val_score(SVC(), X, Y, cv=3), 3),
        (lambda: cross_validate(SVC(), X, Y, cv=3, scoring=["accuracy", "f1"]), 3),
        (lambda: learning_curve(SVC(), X, Y, cv=3, train_sizes=[20, 40]), 6),
        (lambda: learning_curve(GaussianNB(), X, Y, cv=3, exploit_incremental_learning=True), 3),
        (lambda: validation_curve(SVC(), X, Y, cv=3, param_name="C", param_range=[1, 2]), 6),
        (lambda: RandomizedSearchCV(SVC(), {"C": scipy.stats.uniform()}, n_iter=2, cv=3, random_state=0).fit(X, Y), 6),
    ],
    ids=["cross_val_score", "cross_validate", "learning_curve", "incremental", "validation_curve", "randomized"],
)
def test_all_that_fit_and_score_are_kept(run: Callable[[], Any], number: int) -> None:
    found = fits(run)
    assert len({identity.fit for identity in found}) == number
    assert all(identity.seeded for identity in found)
    assert fits(run) == found


def test_halving_searches_are_kept() -> None:
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401
    from sklearn.model_selection import HalvingGridSearchCV

    def run() -> None:
        HalvingGridSearchCV(SVC(), {"C": [1, 2, 3]}, cv=2, random_state=0, min_resources=20).fit(X, Y)

    assert fits(run) == fits(run)
    assert len(set(fit_digests(run))) == len(fits(run)) >= 8


def test_other_calls_are_not_kept() -> None:
    assert set(identities(lambda: RandomForestClassifier(n_estimators=3).fit(X, Y))) == {None}


def test_a_fit_that_returns_its_estimator_is_not_kept() -> None:
    assert set(identities(lambda: cross_validate(SVC(), X, Y, return_estimator=True))) == {None}


def test_settings_of_scikit_learn_that_matter_are_a_part() -> None:
    plain = first(SVC())
    with sklearn.config_context(display="text", print_changed_only=False):
        assert first(SVC()) == plain
    with sklearn.config_context(transform_output="pandas"):
        assert first(SVC()) != plain


def test_settings_of_the_process_are_a_part() -> None:
    plain, raising = (identities(grid_search, settings=settings) for settings in ((), (("divide", "raise"),)))
    assert plain == identities(grid_search)
    assert not set(plain) & set(raising)


def scaled_by_a_variable(X: Any) -> Any:
    return X * float(os.environ.get("MYPROJECT_SCALE", "0"))


def scaled_by_any_variable(X: Any, name: str = "MYPROJECT_SCALE") -> Any:
    return X * float(os.environ[name])


def written_below_home(X: Any) -> Any:
    return X * len(os.environ["HOME"])


def test_variables_that_code_reads_are_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MYPROJECT_SCALE", raising=False)
    found = [digest(scaled_by_a_variable)]
    for value in ("1", "2"):
        monkeypatch.setenv("MYPROJECT_SCALE", value)
        found.append(digest(scaled_by_a_variable))
    monkeypatch.setenv("MYPROJECT_OTHER", "3")
    assert found[-1] == digest(scaled_by_a_variable)
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (scaled_by_any_variable, "a use of `os.environ` by a name made at run time"),
        (written_below_home, "a use of the variable `HOME`, of which workers have their own,"),
    ],
)
def test_variables_that_cannot_be_known_make_a_fit_unidentifiable(function: Any, reason: str) -> None:
    with pytest.raises(Unidentifiable) as raised:
        digest(function)
    assert str(raised.value) == f"{reason} in function `{function.__name__}`"


def test_not_even_a_digest_is_made_of_a_secret_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPROJECT_SCALE", "1")
    digest(scaled_by_a_variable)
    monkeypatch.setattr(module_hashing, "SECRET_NAMES", {"MYPROJECT_SCALE"})
    with pytest.raises(Unidentifiable, match="the secret variable `MYPROJECT_SCALE`, of which no trace is kept, in"):
        digest(scaled_by_a_variable)


def test_sample_weights_are_a_part() -> None:
    weights = np.linspace(0, 1, 60)
    weighted = first(SVC(), params={"sample_weight": weights})
    assert weighted == first(SVC(), params={"sample_weight": weights.copy()})
    assert len({weighted.fit, first(SVC()).fit, first(SVC(), params={"sample_weight": weights * 2}).fit}) == 3


def test_versions_where_the_fits_run_are_a_part() -> None:
    item = (sklearn.model_selection._validation._fit_and_score, (SVC(), X, Y), {
        "scorer": make_scorer(accuracy_score), "train": np.arange(30), "test": np.arange(30, 60), "verbose": 0,
        "parameters": None, "fit_params": None, "score_params": None,
    })  # fmt: skip
    here = FitKeyBuilder(None, content_key, {}).identify(item)
    assert here == FitKeyBuilder(None, content_key, {"scikit-learn": sklearn.__version__}).identify(item)
    assert here != FitKeyBuilder(None, content_key, {"scikit-learn": "1.6.0"}).identify(item)


# Data


def test_data_changed_in_place_is_other_data() -> None:
    mine = X.copy()
    before = first(SVC(), mine)
    assert before == first(SVC(), X)
    mine[0, 0] += 1e-12
    assert before.data != first(SVC(), mine).data


@pytest.mark.parametrize(
    "make",
    [
        lambda: X.tolist(),
        lambda: pd.DataFrame(X),
        lambda: pd.DataFrame(X).astype("float32"),
        lambda: scipy.sparse.csr_matrix(X),
        lambda: scipy.sparse.csc_array(X),
        lambda: np.tile(X, (1, 400)),
        lambda: pd.DataFrame(np.tile(X, (1, 400))),
        lambda: scipy.sparse.csr_matrix(np.tile(X, (1, 400))),
    ],
    ids=["list", "frame", "frame32", "csr", "csc", "large array", "large frame", "large csr"],
)
def test_data_of_any_kind_is_known_by_content(make: Callable[[], Any]) -> None:
    data = make()
    found = fits(lambda: cross_validate(SVC(), data, Y, cv=2))
    assert found == fits(lambda: cross_validate(SVC(), data, Y, cv=2)), "use of the data has changed what it is"
    assert found[0] == first(SVC(), make())
    assert found[0].data != first(SVC(), X).data


PAIRS: list[tuple[Any, Any]] = [
    (1, True),
    (1, 1.0),
    (0.0, -0.0),
    (None, False),
    ("1", 1),
    ("a", b"a"),
    ([1, 2], (1, 2)),
    ([1, [2]], [[1], 2]),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ({1, 2}, frozenset({1, 2})),
    (1.0, np.float64(1.0)),
    (np.float32(1), np.float64(1)),
    (np.zeros(3), np.zeros(3, "float32")),
    (np.zeros(3), -np.zeros(3)),
    (np.zeros((2, 3)), np.zeros((3, 2))),
    (np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3))),
    (np.array(["a", "b"]), np.array(["a", "b"], object)),
    (np.array([1, None]), np.array([True, None])),
    (pd.Series([1, 2]), pd.Series([1, 2], index=[1, 2])),
    (pd.Series(["a", "b"]), pd.Series(["a", "b"], dtype="category")),
    (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})),
    (scipy.sparse.eye(3, format="csr"), scipy.sparse.eye(3, format="csc")),
    (np.random.RandomState(0), np.random.RandomState(1)),
    (np.random.default_rng(0), np.random.default_rng(1)),
    (np.add, np.subtract),
    (np.dtype("f4"), np.dtype("f8")),
    (np.dtype([("a", "f4")]), np.dtype([("b", "f4")])),
    (functools.partial(fbeta_score, beta=1), functools.partial(fbeta_score, beta=2)),
    (make_scorer(fbeta_score, beta=1), make_scorer(fbeta_score, beta=2)),
    (scipy.stats.uniform(0, 1), scipy.stats.uniform(0, 2)),
    (scipy.stats.uniform(0, 1), scipy.stats.norm(0, 1)),
    (len, sum),
    ("a".upper, "b".upper),
    (str.upper, str.lower),
    (slice(1), slice(2)),
    (ShuffleSplit(2, random_state=0), ShuffleSplit(2, random_state=1)),
    (Pipeline([("a", SVC())]), Pipeline([("b", SVC())])),
    (SVC(C=1), SVC(C=1.0)),
    (ColumnTransformer([("a", StandardScaler(), [0])]), ColumnTransformer([("a", StandardScaler(), [1])])),
]


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=[f"{number}" for number in range(len(PAIRS))])
def test_what_differs_has_different_digests(one: Any, other: Any) -> None:
    assert digest(one) != digest(other)


def made_twice() -> list[tuple[Any, Any]]:
    class Colour(enum.Enum):
        RED = 1

    @dataclasses.dataclass
    class Point:
        x: int = 0
        tags: frozenset[str] = frozenset({"a", "b"})

    def make() -> list[Any]:
        loop: list[Any] = [1]
        loop.append(loop)
        return [
            loop, {"a": loop}, Colour.RED, Point(2), np.random.RandomState(3), np.random.default_rng(3),
            pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": pd.Categorical(["u", "v"])}),
            pd.date_range("2020-01-01", periods=3), scipy.sparse.random(5, 5, 0.5, rng=0), scipy.stats.loguniform(1, 2),
            make_scorer(accuracy_score), RandomForestClassifier(random_state=0), FunctionTransformer(np.log1p),
            SVC().fit, np.array([("a", 1)], [("name", "U1"), ("n", "i4")]), np.ma.array([1, 2], mask=[0, 1]),
            StackingClassifier([("svc", SVC()), ("tree", DecisionTreeClassifier(random_state=0))]),
            RandomForestClassifier(n_estimators=2, random_state=0).fit(X, Y), lambda value: value + 1,
        ]  # fmt: skip

    return list(zip(make(), make(), strict=True))


@pytest.mark.parametrize(("one", "other"), made_twice(), ids=lambda value: type(value).__name__)
def test_what_is_made_alike_has_the_same_digest(one: Any, other: Any) -> None:
    assert one is not other or isinstance(one, enum.Enum)
    assert digest(one) == digest(other) == digest(one)


def test_a_loop_is_not_what_it_loops_over() -> None:
    one: list[Any] = []
    one.append([one])
    other: list[Any] = []
    other.append([[]])
    assert digest(one) != digest(other)


@dataclasses.dataclass
class Holder:
    held: Any


@pytest.mark.parametrize(
    ("thing", "named"),
    [
        (threading.Lock(), "`_thread.lock` in `held` of"),
        ((each for each in ()), "`generator` in `held` of"),
        (lambda: eval("1"), "a use of `eval` in"),  # noqa: S307
        (lambda: importlib.import_module("json"), "a use of `importlib` in"),
    ],
    ids=["lock", "generator", "eval", "importlib"],
)
def test_what_has_no_content_to_tell_is_named(thing: Any, named: str) -> None:
    with pytest.raises(Unidentifiable, match=named):
        digest(Holder(thing))


def test_an_open_file_has_no_content_to_tell(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(Unidentifiable, match="TextIOWrapper"):
        digest({"log": file})


def test_a_fit_that_cannot_be_identified_says_why() -> None:
    estimator = SVC()
    estimator.kernel = Holder(threading.Lock())
    item = (sklearn.model_selection._validation._fit_and_score, (estimator, X, Y), {
        "scorer": accuracy_score, "train": [0], "test": [1], "verbose": 0, "parameters": {}, "fit_params": None,
        "score_params": None,
    })  # fmt: skip
    with pytest.raises(Unidentifiable, match="lock"):
        FitKeyBuilder(None, content_key, {}).identify(item)


# Randomness


@pytest.mark.parametrize(
    ("estimator", "parameters", "expected"),
    [
        (RandomForestClassifier(), {}, True),
        (RandomForestClassifier(random_state=0), {}, False),
        (RandomForestClassifier(random_state=np.random.RandomState(0)), {}, False),
        (RandomForestClassifier(random_state=np.random.mtrand._rand), {}, True),
        (RandomForestClassifier(), {"random_state": 1}, False),
        (RandomForestClassifier(random_state=0), {"random_state": None}, True),
        (SVC(), {}, False),
        (SVC(), {"probability": True}, True),
        (SVC(probability=True), {"probability": False}, False),
        (LogisticRegression(), {}, False),
        (LogisticRegression(), {"solver": "saga"}, True),
        (LogisticRegression(solver="saga"), {"solver": "lbfgs"}, False),
        (Ridge(), {}, False),
        (LinearSVC(), {}, True),
        (LinearSVC(dual=False), {}, False),
        (make_pipeline(StandardScaler(), SVC()), {}, False),
        (make_pipeline(StandardScaler(), RandomForestClassifier()), {}, True),
        (make_pipeline(RandomForestClassifier()), {"randomforestclassifier__random_state": 0}, False),
        (make_pipeline(RandomForestClassifier()), {"randomforestclassifier": SVC()}, False),
        (make_pipeline(SVC()), {"svc": RandomForestClassifier()}, True),
        (make_pipeline(SVC()), {"steps": [("a", RandomForestClassifier())]}, True),
        (ColumnTransformer([("a", RandomForestClassifier(), [0])]), {}, True),
        (ColumnTransformer([("a", RandomForestClassifier(), [0])]), {"a__random_state": 0}, False),
        (BaggingClassifier(DecisionTreeClassifier(), random_state=0), {}, False),
        (BaggingClassifier(make_pipeline(DecisionTreeClassifier()), random_state=0), {}, False),
        (BaggingClassifier(DecisionTreeClassifier(random_state=0)), {}, True),
        (StackingClassifier([("a", SVC())], cv=KFold(3)), {}, False),
        (StackingClassifier([("a", SVC())], cv=KFold(3, shuffle=True)), {}, True),
        (StackingClassifier([("a", DecisionTreeClassifier())]), {"a__random_state": 0}, False),
        (SelectKBest(mutual_info_classif), {}, True),
        (SelectKBest(functools.partial(mutual_info_classif, random_state=0)), {}, False),
        (GridSearchCV(SVC(), {"C": [1]}), {}, False),
        (RandomizedSearchCV(SVC(), {"C": scipy.stats.uniform()}), {}, True),
        (RandomizedSearchCV(SVC(), {"C": scipy.stats.uniform()}, random_state=0), {}, False),
    ],
)
def test_a_random_state_of_none_that_matters_makes_a_fit_unseeded(
    estimator: Any, parameters: dict[str, Any], expected: bool
) -> None:
    assert unseeded(estimator, parameters) is expected


def test_an_unknown_estimator_without_a_seed_is_unseeded() -> None:
    class Mine(BaseEstimator):
        def __init__(self, random_state: Any = None) -> None:
            self.random_state = random_state

    assert unseeded(Mine())
    assert not unseeded(Mine(0))
    assert unseeded(type("SVC", (SVC,), {})()), "what scikit-learn says is of its own class alone"


def test_the_table_is_of_estimators_that_there_are() -> None:
    from sklearn.utils import all_estimators

    names = {name for name, _ in all_estimators()} | {
        name for name in dir(sklearn.model_selection) if name.endswith("Fold")
    }
    assert set(NO_EFFECT) <= names


def draws_from_the_global_generator(data: Any) -> Any:
    return data + np.random.rand()


def draws_from_no_seed(data: Any) -> Any:
    return data + np.random.default_rng().normal()


def draws_from_a_seed(data: Any) -> Any:
    return data + np.random.default_rng(0).normal()


def fits_a_forest(data: Any) -> Any:
    return RandomForestClassifier(n_estimators=2).fit(data, Y[: len(data)]).predict(data)[:, None]


def fits_a_seeded_forest(data: Any) -> Any:
    return RandomForestClassifier(n_estimators=2, random_state=0).fit(data, Y[: len(data)]).predict(data)[:, None]


@pytest.mark.parametrize(
    ("function", "seeded"),
    [
        (draws_from_the_global_generator, False),
        (draws_from_no_seed, False),
        (draws_from_a_seed, True),
        (fits_a_forest, False),
        (fits_a_seeded_forest, True),
    ],
)
def test_code_that_draws_random_numbers_without_a_seed_is_unseeded(function: Any, seeded: bool) -> None:
    assert first(make_pipeline(FunctionTransformer(function), SVC())).seeded is seeded


# Local code, in the next process

SCRIPT = """
import sys
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import make_classification
from sklearn.decomposition import LatentDirichletAllocation
from sklearn.metrics import make_scorer
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
import helpers
from package import deep

FACTOR = 2.0
WORDS = {"alpha", "beta", "gamma", "delta", "epsilon"}
LOADED = None

def helper(data):
    return data * FACTOR

def unused(data):
    return data

class Scaled(TransformerMixin, BaseEstimator):
    names = {"one", "two", "three", "four", "five"}

    def __init__(self, by=1.0):
        self.by = by

    def fit(self, X, y=None):
        assert "six" not in self.names and "alpha" in WORDS
        return self

    def transform(self, X):
        from late import late
        return late(deep(helpers.scale(helper(X) * self.by)))

def close(y_true, y_predicted):
    return float(np.mean(np.abs(y_true - y_predicted) < 0.5))

X, y = make_classification(n_samples=60, n_features=5, random_state=0)
model = make_pipeline(Scaled(), FunctionTransformer(lambda data: data + 1), SVC())
found = identities(lambda: cross_validate(model, X, y, cv=2, scoring=make_scorer(close)), ROOT)
"""

FILES = {
    "script.py": SCRIPT,
    "helpers.py": "import numpy as np\nLIMIT = 1.5\ndef scale(data):\n    return inner(np.clip(data, -LIMIT, LIMIT))\n"
    "def inner(data):\n    return data / 2\ndef other():\n    return 1\n",
    "package/__init__.py": "from .part import deep\n",
    "package/part.py": "def deep(data):\n    return data - 1\n",
    "late.py": "from later import later\ndef late(data):\n    return later(data)\n",
    "later.py": "def later(data):\n    return data\n",
}

ELSEWHERE = [
    ("script.py", "def unused(data):\n    return data", "# a comment\n\ndef unused(data):\n    return data + 1"),
    ("script.py", "X, y = make", "print('begin', file=sys.stderr)\nX, y = make"),
    ("helpers.py", "return 1", "return 2  # not reached"),
    ("helpers.py", "LIMIT = 1.5", "# a comment\n\n\nLIMIT = 1.5"),
    ("later.py", "def later", "# a comment\ndef later"),
]
REACHED = [
    ("script.py", "return data * FACTOR", "return data / FACTOR"),
    ("script.py", "FACTOR = 2.0", "FACTOR = 3.0"),
    ("script.py", "lambda data: data + 1", "lambda data: data + 2"),
    ("script.py", '"one", "two"', '"one", "zwei"'),
    ("script.py", '"alpha", "beta"', '"alpha", "be"'),
    ("script.py", "< 0.5", "<= 0.5"),
    ("script.py", "by=1.0):", "by=1.5):"),
    ("helpers.py", "return data / 2", "return data / 4"),
    ("helpers.py", "LIMIT = 1.5", "LIMIT = 2.5"),
    ("package/part.py", "return data - 1", "return data - 2"),
    ("late.py", "return later(data)", "return later(data) + 1"),
    ("later.py", "return data", "return data + 1"),
]
UNEDITED = ("", "", "")
"""Edits are a file, what is in it and what takes its place."""

ALL_FOLDERS = """
import json, runpy, sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from joblib import parallel_config, register_parallel_backend
from joblib._parallel_backends import ThreadingBackend
from skjob.engine.transfer.task_pickler import content_key
from skjob.engine.checkpoint.fit_key import FitKeyBuilder

{identities}

everything = []
for folder in json.load(sys.stdin):
    sys.path.insert(0, folder)
    given = {{"identities": identities, "ROOT": Path(folder)}}
    found = runpy.run_path(folder + "/script.py", given, run_name="__main__")["found"]
    everything.append([[each.data, each.fit, each.seeded] for each in found])
    sys.path.remove(folder)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(folder):
            del sys.modules[name]
json.dump(everything, sys.stdout)
"""
"""The fits of the script in each of the folders on stdin, run one after the other, each with modules of its own."""

Edit = tuple[str, str, str]


def write_files(folder: Path, edit: Edit) -> str:
    """The folder of the script, with this edit."""
    edited, old, new = edit
    assert old in FILES.get(edited, "")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content.replace(old, new) if name == edited else content)
    return str(folder)


@pytest.fixture(scope="session")
def scripts_fits(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[Edit, Any]]:
    """For a seed: data, fit and seededness of the script's fits after each edit."""
    edits = [UNEDITED, *ELSEWHERE, *REACHED]
    folder = tmp_path_factory.mktemp("scripts")
    folders = [write_files(folder / str(number), edit) for number, edit in enumerate(edits)]
    code = ALL_FOLDERS.format(identities=inspect.getsource(identities))

    @functools.cache
    def found(seed: str) -> dict[Edit, Any]:
        done = subprocess.run(
            [sys.executable, "-c", code], input=json.dumps(folders), capture_output=True, text=True, check=False,
            timeout=DEADLINE, env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return dict(zip(edits, json.loads(done.stdout), strict=True))

    return found


@pytest.fixture
def after(scripts_fits: Any) -> dict[Edit, Any]:
    """The fits after each edit, all in one process."""
    return scripts_fits("0")


def test_code_of_the_script_is_the_same_in_the_next_process(scripts_fits: Any, after: Any) -> None:
    """And with another seed of hashes."""
    assert scripts_fits("42") == after
    assert len(after[UNEDITED]) == 2
    assert all(seeded for _, _, seeded in after[UNEDITED])


@pytest.mark.parametrize("edit", ELSEWHERE, ids="-".join)
def test_an_edit_elsewhere_changes_nothing(after: Any, edit: Edit) -> None:
    assert after[edit] == after[UNEDITED]


@pytest.mark.parametrize("edit", REACHED, ids="-".join)
def test_an_edit_of_what_is_reached_is_another_fit(after: Any, edit: Edit) -> None:
    assert not {fit for _, fit, _ in after[edit]} & {fit for _, fit, _ in after[UNEDITED]}
    assert after[edit][0][0] == after[UNEDITED][0][0], "the data is the same"


# Local code, in this process


class Base(BaseEstimator, TransformerMixin):
    def fit(self, X: Any, y: Any = None) -> Base:
        return self

    def transform(self, X: Any) -> Any:
        return self.twice(X)

    def twice(self, X: Any) -> Any:
        return X * 2


def test_a_method_of_a_base_class_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    class Derived(Base):
        pass

    before = first(make_pipeline(Derived(), SVC()))
    assert before == first(make_pipeline(Derived(), SVC()))
    monkeypatch.setattr(Base, "twice", lambda self, X: X * 3)
    assert before != first(make_pipeline(Derived(), SVC()))


def test_functions_that_call_each_other_are_the_same_from_either_side() -> None:
    def make() -> tuple[Any, Any]:
        def even(n: int) -> bool:
            return n == 0 or odd(n - 1)

        def odd(n: int) -> bool:
            return n != 0 and even(n - 1)

        return even, odd

    (even, odd), (other_even, other_odd) = make(), make()
    contents = Hasher(Origins(None, {}), content_key)
    assert [contents.digest(even), contents.digest(odd)] == [digest_of(other_even), digest_of(other_odd)]
    assert digest(even) != digest(odd)


def digest_of(value: Any) -> Any:
    return Hasher(Origins(None, {}), content_key).digest(value)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_in_which_code_is_met_does_not_matter(order: tuple[int, ...]) -> None:
    class Node:
        def make(self) -> Any:
            return Node(), helper()

    def helper() -> Any:
        return Node

    values = [Node, helper, Node().make]
    contents = Hasher(Origins(None, {}), content_key)
    found = {number: contents.digest(values[number]) for number in order}
    assert [found[number] for number in range(3)] == [digest_of(value) for value in values]


def test_a_closure_is_a_part_of_its_function() -> None:
    def adding(number: float) -> Callable[[float], float]:
        return lambda value: value + number

    assert digest(adding(1)) == digest(adding(1))
    assert digest(adding(1)) != digest(adding(2))


def test_a_module_that_changed_on_disk_after_its_import_is_other_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers would import what is in the file now."""
    file = tmp_path / "changing_module.py"
    file.write_text("def work(data):\n    return data\n")
    monkeypatch.syspath_prepend(tmp_path)
    import changing_module  # type: ignore[import-not-found]

    def uses_it(data: Any) -> Any:
        return changing_module.work(data)

    before = digest(uses_it)
    file.write_text("# a comment\ndef work(data):\n    return data\n")
    assert digest(uses_it) == before
    file.write_text("def work(data):\n    return data + 1\n")
    assert digest(uses_it) != before


def test_a_class_is_the_same_after_its_objects_were_copied() -> None:
    """`copyreg` notes something in each class that it has met."""

    class Met:
        pass

    contents = Hasher(Origins(None, {}), content_key)
    before = contents.digest(Met)
    copy.copy(Met())
    assert "__slotnames__" in vars(Met)
    assert Hasher(Origins(None, {}), content_key).digest(Met) == before


def _score(estimator: Any, X: Any, y: Any) -> float:
    return 1.0


@pytest.mark.parametrize(("scoring", "differ"), [(_score, True), ("accuracy", False)])
def test_whether_changes_of_memory_count_is_in_the_key_of_fits_with_code_of_the_program(
    scoring: Any, differ: bool
) -> None:
    """In processes they are lost: such a fit must not be found where the program would see its change."""
    keys = [FitKeyBuilder(None, content_key, {}, shares_memory=shares) for shares in (True, False)]
    found: list[Any] = []

    class Recording(ThreadingBackend):
        def submit(self, func: Any, callback: Any = None) -> Any:
            found.append([key.identify(func.items[0]).fit for key in keys])
            return super().submit(func, callback)

    register_parallel_backend("recording", Recording)
    with parallel_config(backend="recording", n_jobs=2):
        cross_validate(LogisticRegression(), X, Y, cv=2, scoring=scoring)
    assert [one != other for one, other in found] == [differ] * 2
