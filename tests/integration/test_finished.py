"""Finished fits are stored, and reused by later runs.

Each search is run twice with one store, by the backends of two runs; the estimator records each fit in a file.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy
import pytest
from distributed import Client, LocalCluster
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - lets the halving searches be imported
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    cross_val_score,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skjob.engine.backend import SkjobBackend
from skjob.engine.checkpoint.fit_cache import FitCache
from skjob.engine.checkpoint.fit_counts import FitCounts

X, Y = load_iris(return_X_y=True)
FITS = Path("__pycache__") / "fits"
"""File in which fits are recorded, in a cache folder: fits that write other files are not stored."""


class Counted(DecisionTreeClassifier):
    """A tree that records each of its fits."""

    def __init__(
        self,
        folder: str = "",
        max_depth: int | None = None,
        random_state: int | None = 0,
        max_features: int | None = None,
    ):
        super().__init__(max_depth=max_depth, random_state=random_state, max_features=max_features)
        self.folder = folder

    def fit(self, X: Any, y: Any, sample_weight: Any = None, check_input: bool = True) -> Any:
        with (Path(self.folder) / FITS).open("a") as file:
            file.write("x")
        return super().fit(X, y, sample_weight, check_input)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=True, dashboard_address="127.0.0.1:0", host="127.0.0.1",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):  # fmt: skip
        yield client


class Runs:
    """Runs of a search with one store, each like that of another process."""

    def __init__(self, client: Client, folder: Path) -> None:
        self.client = client
        self.folder = folder
        (folder / FITS).parent.mkdir()
        self.messages: list[str] = []

    def run(
        self, work: Callable[[Counted], Any], *, resume: bool = False, **parameters: Any
    ) -> tuple[Any, int, FitCounts]:
        """Return the result, the number of executed fits, and the counts of reused and stored fits."""
        record = self.folder / FITS
        record.write_text("")
        self.messages.clear()
        fits = FitCache(str(self.folder / "store"), resume=resume, notify=self.messages.append)
        with joblib.parallel_config(backend=SkjobBackend(self.client, checkpoint=fits), n_jobs=-1):
            result = work(Counted(str(self.folder), **parameters))
        fits.close()
        return result, len(record.read_text()), fits.counts


@pytest.fixture
def runs(client: Client, tmp_path: Path) -> Runs:
    return Runs(client, tmp_path)


DEPTHS = {"max_depth": [1, 2, 3, 4]}


def _results(search: Any) -> Any:
    search.fit(X, Y)
    return [search.cv_results_[name] for name in ("mean_test_score", "std_test_score", "mean_fit_time")]


WORK: dict[str, tuple[int, Callable[[Counted], Any]]] = {
    "GridSearchCV": (12, lambda tree: _results(GridSearchCV(tree, DEPTHS, cv=3, refit=False))),
    "several scorers": (
        12,
        lambda tree: _results_of_two_scorers(
            GridSearchCV(tree, DEPTHS, cv=3, refit=False, scoring=["accuracy", "f1_macro"])
        ),
    ),
    "RandomizedSearchCV": (
        9,
        lambda tree: _results(RandomizedSearchCV(tree, DEPTHS, n_iter=3, cv=3, random_state=0, refit=False)),
    ),
    "HalvingGridSearchCV": (
        18,
        lambda tree: _results(HalvingGridSearchCV(tree, DEPTHS, cv=3, random_state=0, refit=False)),
    ),
    "HalvingRandomSearchCV": (
        15,
        lambda tree: _results(
            HalvingRandomSearchCV(tree, DEPTHS, n_candidates=4, cv=3, random_state=0, refit=False, factor=4)
        ),
    ),
    "cross_validate": (5, lambda tree: cross_validate(tree, X, Y, return_train_score=True)["test_score"]),
    "cross_val_score": (4, lambda tree: cross_val_score(tree, X, Y, cv=4)),
    "learning_curve": (15, lambda tree: learning_curve(tree, X, Y, shuffle=True, random_state=0)[2]),
    "validation_curve": (
        15,
        lambda tree: validation_curve(tree, X, Y, param_name="max_depth", param_range=[1, 2, 3])[1],
    ),
}


def _results_of_two_scorers(search: Any) -> Any:
    search.fit(X, Y)
    return [search.cv_results_[name] for name in ("mean_test_accuracy", "mean_test_f1_macro")]


@pytest.mark.parametrize("kind", WORK)
def test_second_run_reuses_all_fits(runs: Runs, kind: str) -> None:
    _, work = WORK[kind]
    first, done, counts = runs.run(work)
    assert counts.kept == counts.fits == done > 3
    second, done_again, counts_again = runs.run(work)
    assert done_again == 0
    assert counts_again == FitCounts(fits=counts.fits, found=counts.fits)
    assert runs.messages == [f"reused {done} of {done} fits from an earlier run"]
    for one, other in zip(first, second, strict=True):
        numpy.testing.assert_array_equal(one, other)


def test_only_missing_fits_are_executed(runs: Runs) -> None:
    few = GridSearchCV(None, {"max_depth": [1, 2]}, cv=3, refit=False)
    more = GridSearchCV(None, {"max_depth": [1, 2, 3]}, cv=3, refit=False)
    runs.run(lambda tree: few.set_params(estimator=tree).fit(X, Y))
    search, done, counts = runs.run(lambda tree: more.set_params(estimator=tree).fit(X, Y))
    assert (done, counts) == (3, FitCounts(fits=9, found=6, kept=3))
    expected = [cross_val_score(Counted(str(runs.folder), depth), X, Y, cv=3).mean() for depth in (1, 2, 3)]
    numpy.testing.assert_array_equal(search.cv_results_["mean_test_score"], expected)


def test_unseeded_fits_are_repeated_without_resume(runs: Runs) -> None:
    def work(tree: Counted) -> Any:
        return [cross_val_score(make_pipeline(StandardScaler(), tree), X, Y, cv=4) for _ in range(2)]

    _, done, counts = runs.run(work, random_state=None)
    assert (done, counts) == (8, FitCounts(fits=8, kept=8, kept_unseeded=8))
    _, done, counts = runs.run(work, random_state=None)
    assert (done, counts) == (8, FitCounts(fits=8, kept=8, unseeded=8, kept_unseeded=8))
    [message] = runs.messages
    assert message.startswith("8 fits were finished by an earlier run and done again, because their estimator draws")
    assert message.endswith("has no `random_state`; `--resume` takes them as they are")
    _, done, counts = runs.run(work, random_state=None, resume=True)
    assert (done, counts.found) == (0, 8)


def test_resumed_unseeded_fits_of_one_run_differ(runs: Runs) -> None:
    def work(tree: Counted) -> Any:
        noise = numpy.random.default_rng(0).normal(size=(len(X), 12))  # many splits, all equally bad
        return [cross_val_score(tree.set_params(max_features=1), noise, Y, cv=3).tolist() for _ in range(4)]

    first, _, _ = runs.run(work, random_state=None)
    assert len({str(scores) for scores in first}) > 1
    again, done, _ = runs.run(work, random_state=None, resume=True)
    assert (done, again) == (0, first)


def test_damaged_fit_is_reported_and_repeated(runs: Runs) -> None:
    _, work = WORK["cross_val_score"]
    runs.run(work)
    entry = sorted((runs.folder / "store").glob("*/*.json"))[0]
    entry.write_bytes(entry.read_bytes().replace(b"0.9", b"0.8", 1).replace(b"1.0", b"0.1", 1))
    _, done, counts = runs.run(work)
    assert (done, counts.found, counts.kept) == (1, 3, 1)
    assert any(str(entry) in line and "damaged" in line for line in runs.messages)
    assert runs.run(work)[1] == 0


def test_failed_fit_is_repeated(runs: Runs) -> None:
    def work(tree: Counted) -> Any:
        with pytest.warns(FitFailedWarning, match="3 fits failed out of a total of 6"):
            return GridSearchCV(tree, {"max_depth": [1, -5]}, cv=3, refit=False, error_score=0.0).fit(X, Y)

    _, done, counts = runs.run(work)
    assert (done, counts.kept) == (6, 3)
    _, done, _ = runs.run(work)
    assert done == 3


def test_store_at_an_fsspec_address(client: Client, tmp_path: Path) -> None:
    runs = Runs(client, tmp_path)
    _, work = WORK["GridSearchCV"]
    results = []
    for _ in range(2):
        fits = FitCache("memory://skjob-test/fits")
        with joblib.parallel_config(backend=SkjobBackend(client, checkpoint=fits), n_jobs=-1):
            results.append((work(Counted(str(runs.folder))), fits.counts))
    assert [counts for _, counts in results] == [FitCounts(fits=12, kept=12), FitCounts(fits=12, found=12)]
    numpy.testing.assert_array_equal(results[0][0], results[1][0])
