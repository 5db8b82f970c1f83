"""Whatever has `n_jobs`: the same bits on workers as by plain joblib, alone and inside a search.

All of scikit-learn's public estimators and functions that have it, imbalanced-learn's, and the boosters' classes; with
`n_jobs` not given, 2 and -1. Compared is all that came of it: see bits.py. Plain joblib does each twice; what differs
between the two is left out, and `LEFT_OUT` has the causes. Numerics compute with one thread, here and there. Every call
goes to workers that may, however small it is.

`make test-all` has all of it, `make test` the fixed part that `IN_EACH_TEST` names.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

import joblib
import pytest
import threadpoolctl
from bits import Bits, bits, differences
from distributed import Client
from every_estimator import DISPLAYS, ESTIMATORS, FUNCTIONS, IMBALANCED, Use, uses, with_jobs
from forked_workers import two_forked_workers
from joblib.externals.loky import get_reusable_executor
from waiting import DEADLINE

from skjob.engine.backend import SkjobBackend

pytestmark = pytest.mark.usefixtures("every_call_goes_to_workers")

WIDTH = 5
"""As of a cluster that may have five threads."""

LEFT_OUT = (
    ("", r"(fit|score|refit)_times?_?(?=$|'|<|\[)", "the seconds that something took"),
    ("", r"_tree<state>\[(7|8|9|10)\]$", "how often a search tree was asked, which its threads count without a lock"),
    (
        "(ExtraTrees|(Balanced)?RandomForest|IsolationForest)",
        r"\['(predict(_proba)?|decision_function|score_samples)'\]$|^\[2\]$|_score_?('\])?$",
        "a forest adds up what its trees say in the order in which its threads get there",
    ),
    ("LGBM", r"<num_threads>$", "LightGBM writes into a model how many cores it has counted: those of a worker there"),
)
"""What differs between two runs: a pattern of the use, one of the way to the value, and the cause."""

IN_EACH_TEST = {
    "BaggingClassifier-in_a_search",
    "BalancedRandomForestClassifier-alone",
    "CalibratedClassifierCV-alone",
    "ColumnTransformer-in_a_search",
    "DictionaryLearning-alone",
    "KernelPCA-alone",
    "LGBMRegressor-in_a_search",
    "LatentDirichletAllocation-in_a_search",
    "MDS-alone",
    "RFECV-alone",
    "RandomForestClassifier-in_a_search",
    "SMOTETomek-in_a_search",
    "SequentialFeatureSelector-alone",
    "StackingClassifier-alone",
    "TheilSenRegressor-in_a_search",
    "XGBClassifier-in_a_search",
    "cross_validate-alone",
    "learning_curve-in_a_search",
    "pairwise_distances-alone",
    "permutation_importance-alone",
    "smacof-alone",
}

USES = [
    pytest.param(name, use, id=name, marks=[] if name in IN_EACH_TEST else pytest.mark.slow) for name, use in uses()
]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two workers."""
    with two_forked_workers() as client:
        yield client
    get_reusable_executor().shutdown(wait=True)


@pytest.fixture(scope="module")
def backend(client: Client) -> SkjobBackend:
    return SkjobBackend(client, width=WIDTH, wait_for_workers=DEADLINE)


@pytest.fixture(autouse=True)
def one_inner_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In this process, and in the processes that joblib starts."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    with threadpoolctl.threadpool_limits(1), warnings.catch_warnings(action="ignore"):
        yield


def test_each_has_its_use() -> None:
    public = with_jobs()
    assert public["estimators"] == set(ESTIMATORS)
    assert public["functions"] == set(FUNCTIONS)
    assert public["others"] == DISPLAYS
    assert public["imbalanced"] == set(IMBALANCED)
    assert {name for name, _ in uses()} >= IN_EACH_TEST


@pytest.mark.parametrize("n_jobs", [None, 2, -1])
@pytest.mark.parametrize(("name", "use"), USES)
def test_the_same_bits_on_workers(name: str, use: Use, n_jobs: int | None, backend: SkjobBackend) -> None:
    plain, again = bits(use(n_jobs)), bits(use(n_jobs))
    if told := _told(name, plain, again):  # seen once in hundreds of runs, with LatentDirichletAllocation in processes
        pytest.skip(f"plain joblib gives two results: {told[0]}")
    with joblib.parallel_config(backend=backend):
        ours = bits(use(n_jobs))
    told = _told(name, plain, ours)
    assert not told, "plain joblib and workers differ:\n" + "\n".join(told)


def _told(name: str, one: Bits, other: Bits) -> list[str]:
    """Return a line for each difference that is not left out."""
    return [
        f"{way}: {one.get(way, 'missing')!r:.200} != {other.get(way, 'missing')!r:.200}"
        for way in differences(one, other)
        if not any(re.match(names, name) and re.search(ways, way) for names, ways, _ in LEFT_OUT)
    ]
