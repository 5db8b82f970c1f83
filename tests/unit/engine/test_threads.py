"""A fit's own numerics get their share of the cores, on a worker that nobody has configured."""

import os
from collections.abc import Iterator
from types import SimpleNamespace

import distributed
import joblib
import pytest
import threadpoolctl

from skjob.engine import threads
from skjob.engine.threads import VARIABLES, lightgbm_counts, limit_inner_threads

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As after a worker's start: nothing is limited, and the environment says nothing. Put back after the test."""
    monkeypatch.setattr(threads, "_done", False)
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that monkeypatch puts back what is there, or takes off what the test leaves
        monkeypatch.delenv(name)
    with threadpoolctl.threadpool_limits(joblib.cpu_count()):
        yield


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The worker of Dask's that this process is. With a nanny, it has the process to itself."""
    worker = SimpleNamespace(nanny="tcp://10.0.0.1:40001", state=SimpleNamespace(nthreads=1000))
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    return worker


def pools() -> list[int]:
    """Threads of each of the numeric libraries that are loaded."""
    found = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    assert found  # numpy has at least one
    return found


def variables() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in VARIABLES}


@pytest.mark.parametrize("number", [1, 2, 1000])
def test_a_workers_threads_share_its_cores(worker: SimpleNamespace, number: int) -> None:
    worker.state.nthreads = number
    share = max(1, joblib.cpu_count() // number)
    limit_inner_threads()
    assert set(pools()) == {share}
    assert variables() == dict.fromkeys(VARIABLES, str(share))


def test_cores_are_those_that_joblib_counts(worker: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows the limits of containers, and what the user allows it."""
    worker.state.nthreads = 1
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    limit_inner_threads()
    assert set(pools()) == {1}
    assert variables() == dict.fromkeys(VARIABLES, "1")


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("name", VARIABLES)
def test_what_the_environment_says_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "2")
    before = pools()
    limit_inner_threads()
    assert pools() == before
    assert variables() == {**dict.fromkeys(VARIABLES), name: "2"}


def test_a_process_without_a_worker_is_left_alone() -> None:
    before = pools()
    limit_inner_threads()
    assert pools() == before
    assert variables() == dict.fromkeys(VARIABLES)


def test_the_users_own_process_is_left_alone(worker: SimpleNamespace) -> None:
    """Where the worker is a part of it."""
    worker.nanny = None
    before = pools()
    limit_inner_threads()
    assert pools() == before
    assert variables() == dict.fromkeys(VARIABLES)


@pytest.mark.usefixtures("worker")
def test_it_is_done_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user's fits change later stays changed."""
    limit_inner_threads()
    assert set(pools()) == {1}
    assert variables() == dict.fromkeys(VARIABLES, "1")
    for name in VARIABLES:
        monkeypatch.setenv(name, "7")
    with threadpoolctl.threadpool_limits(2):
        before = pools()
        limit_inner_threads()
        assert pools() == before
    assert variables() == dict.fromkeys(VARIABLES, "7")


def test_lightgbm_counts_the_cores_that_it_is_told() -> None:
    """Its estimators are left as the user has made them: what a search returns says so, to the last bit."""
    import lightgbm

    model = lightgbm.LGBMClassifier()
    machine = model._process_n_jobs(-1)
    with lightgbm_counts(machine + 3):
        assert [model._process_n_jobs(n_jobs) for n_jobs in (None, -1, -2, 5)] == [
            machine + 3,
            machine + 3,
            machine + 2,
            5,
        ]
    assert model._process_n_jobs(-1) == machine
    assert vars(model) == vars(lightgbm.LGBMClassifier())
