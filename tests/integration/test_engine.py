"""The engine on a real local cluster: results are the same, each batch is completed, and data is sent once.

Every test must end within its timeout even if a worker dies; joblib's own Dask backend hangs in several of them.
"""

import asyncio
import gc
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import dask
import joblib
import numpy
import pandas
import pytest
from distributed import Client, LocalCluster
from forked_workers import close_cluster, forked_workers
from joblib import Parallel, delayed
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC
from sklearn.utils.parallel import Parallel as SklearnParallel
from sklearn.utils.parallel import delayed as sklearn_delayed
from waiting import DEADLINE, until

from skjob.engine.backend import RemoteTraceback, SkjobBackend, WorkersLost
from skjob.engine.parallel_call import WATCH_INTERVAL
from skjob.engine.transfer.shared_data import MAX_UNWATCHED, MAX_USED_ONCE
from skjob.engine.transfer.task_pickler import MAX_INLINE_BYTES
from skjob.utils.reconnect import set_reconnect_timeout

pytestmark = pytest.mark.usefixtures("send_small_calls_to_workers")


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two workers of one thread each, which nannies restart when they die."""
    settings = {
        "distributed.scheduler.allowed-failures": 1,  # each worker that a task ends takes seconds to restart
        "distributed.scheduler.active-memory-manager.start": False,  # as on skjob's clusters
    }
    with dask.config.set(settings), forked_workers():
        cluster = _cluster(2)
        try:
            yield cluster
        finally:
            close_cluster(cluster)


def _cluster(workers: int) -> LocalCluster:
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        host="127.0.0.1",
        silence_logs=logging.CRITICAL,
    )


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    """A client of the cluster with both workers: the previous test may have ended one."""
    with Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=DEADLINE)
        yield client


@contextmanager
def _engine(client: Client, **arguments: Any) -> Iterator[None]:
    backend = SkjobBackend(client, **{"wait_for_workers": DEADLINE, **arguments})
    with joblib.parallel_config(backend=backend, n_jobs=-1):
        yield


@pytest.fixture
def engine(client: Client) -> Iterator[Client]:
    with _engine(client):
        yield client


def _pids(client: Client) -> set[int]:
    return set(client.run(os.getpid).values())


def _check_usable(client: Client) -> None:
    """Check that the cluster still works, as it must after every failure."""
    assert Parallel()(delayed(abs)(-number) for number in range(5)) == [0, 1, 2, 3, 4]


# ------------------------------------------------------------------------------------------------- results


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    X, y = load_digits(return_X_y=True)
    return X[:600], y[:600]


def test_search_results_match_to_the_last_bit(engine: Client, digits: tuple[Any, Any]) -> None:
    def search(n_jobs: int | None) -> GridSearchCV:
        grid = {"C": [0.1, 1, 10], "gamma": [0.001, 0.01]}
        return GridSearchCV(SVC(), grid, cv=3, n_jobs=n_jobs, return_train_score=True).fit(*digits)

    parallel, serial = search(None), search(1)
    assert parallel.best_params_ == serial.best_params_
    assert parallel.best_score_ == serial.best_score_
    compared = [name for name in serial.cv_results_ if not name.endswith("_time")]
    assert len(compared) > 12
    for name in compared:
        numpy.testing.assert_array_equal(
            parallel.cv_results_[name], serial.cv_results_[name], strict=True, err_msg=name
        )


def test_forest_results_match_to_the_last_bit(engine: Client, digits: tuple[Any, Any]) -> None:
    def forest(n_jobs: int) -> Any:
        return RandomForestClassifier(20, random_state=0, n_jobs=n_jobs).fit(*digits)

    parallel, serial = forest(-1), forest(1)
    numpy.testing.assert_array_equal(parallel.predict_proba(digits[0]), serial.predict_proba(digits[0]), strict=True)
    numpy.testing.assert_array_equal(parallel.feature_importances_, serial.feature_importances_, strict=True)


def _sums(array: Any, as_frame: bool) -> Any:
    return [array.iloc[:, 0].to_numpy().sum() if as_frame else array[:, 0].sum(), array.mean(axis=0)]


@pytest.mark.parametrize("as_frame", [False, True])
def test_numpy_sums_match_to_the_last_bit(engine: Client, as_frame: bool) -> None:
    """numpy adds up in other steps if an array is not aligned, as arrays that Dask receives are not."""
    X = numpy.random.default_rng(0).normal(size=(10_000, 51)) * 1e3
    data = pandas.DataFrame(X) if as_frame else X
    for sums in Parallel()(delayed(_sums)(data, as_frame) for _ in range(4)):
        for left, right in zip(sums, _sums(data, as_frame), strict=True):
            numpy.testing.assert_array_equal(numpy.asarray(left), numpy.asarray(right))


# ------------------------------------------------------------------------------------------------- where calls run


@pytest.mark.parametrize("n_jobs", [None, -1, 2, 7])
def test_calls_with_any_number_of_jobs_run_on_workers(engine: Client, n_jobs: int | None) -> None:
    pids = set(Parallel(n_jobs=n_jobs)(delayed(os.getpid)() for _ in range(40)))
    assert pids <= _pids(engine)


def test_call_with_one_job_runs_in_this_process(engine: Client) -> None:
    assert set(Parallel(n_jobs=1)(delayed(os.getpid)() for _ in range(3))) == {os.getpid()}


def test_zero_jobs_are_rejected(engine: Client) -> None:
    with pytest.raises(ValueError, match="n_jobs == 0 in Parallel has no meaning"):
        Parallel(n_jobs=0)(delayed(abs)(number) for number in range(3))


def _pids_of_nested_call() -> tuple[int, set[int]]:
    inner = Parallel(n_jobs=-1)(delayed(os.getpid)() for _ in range(4))
    return os.getpid(), set(inner)


def test_nested_call_runs_in_its_worker(engine: Client) -> None:
    for pid, inner in Parallel()(delayed(_pids_of_nested_call)() for _ in range(4)):
        assert pid in _pids(engine)
        assert inner == {pid}


def _names_the_backend() -> set[int]:
    with joblib.parallel_config(backend="skjob", n_jobs=-1):
        return set(Parallel()(delayed(os.getpid)() for _ in range(4)))


def test_task_that_selects_the_backend_runs_in_its_worker(engine: Client) -> None:
    """Otherwise it would wait for tasks that wait for its thread."""
    for inner in Parallel()(delayed(_names_the_backend)() for _ in range(4)):
        assert len(inner) == 1
        assert inner <= _pids(engine)


def test_calls_during_dispatch(engine: Client) -> None:
    """The generator of tasks makes Parallel calls itself, on the caller's thread and on that of the callbacks."""
    large = numpy.ones(50_000)

    def tasks() -> Iterator[Any]:
        for number in range(12):
            inner = Parallel()(delayed(abs)(-number) for _ in range(3))
            yield delayed(_sum)(large, sum(inner))

    assert Parallel()(tasks()) == [50_000 + 3 * number for number in range(12)]


def _sum(array: Any, number: float) -> float:
    return float(array.sum()) + number


def test_concurrent_calls_of_threads(client: Client) -> None:
    results: dict[int, Any] = {}

    def work(number: int) -> None:
        with _engine(client):
            data = numpy.full(50_000, float(number))
            results[number] = Parallel()(delayed(_sum)(data, add) for add in range(10))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert results == {number: [50_000 * number + add for add in range(10)] for number in range(4)}


def test_parallel_object_can_be_used_many_times(engine: Client) -> None:
    with Parallel() as parallel:
        for number in range(5):
            assert parallel(delayed(_sum)(numpy.zeros(3), number) for _ in range(3)) == [number] * 3


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_results_as_a_generator(engine: Client, return_as: str) -> None:
    results = Parallel(return_as=return_as)(delayed(abs)(-number) for number in range(20))
    assert sorted(results) == list(range(20))


# ------------------------------------------------------------------------------------------------- errors


class Locked:
    """An object that cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class NotUnpicklable(Exception):
    """An exception that can be pickled but not unpickled."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def _identity(value: Any) -> Any:
    return value


def _return_lock() -> Any:
    return threading.Lock()


def _raise_not_unpicklable() -> NoReturn:
    raise NotUnpicklable("a", "b")


def _raise_key_error() -> NoReturn:
    raise KeyError("deep")


class OnlyKeywords(Exception):
    """An exception that can be pickled, but not created from its `args`."""

    def __init__(self, *, text: str, places: list[int]) -> None:
        super().__init__(text)
        self.places = places


def _raise_only_keywords() -> NoReturn:
    raise OnlyKeywords(text="in two places", places=[3, 4])


def test_exception_with_keyword_arguments_is_raised_unchanged(engine: Client) -> None:
    with pytest.raises(OnlyKeywords, match="in two places") as caught:
        Parallel()(delayed(_raise_only_keywords)() for _ in range(2))
    assert caught.value.places == [3, 4]


class OwnWarning(UserWarning):
    """A warning category of this module."""


def _warn(number: int) -> int:
    warnings.warn(f"number {number % 2}", OwnWarning, stacklevel=1)
    warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
    return number


@pytest.mark.parametrize(("action", "times"), [("always", 6), ("default", 2), ("ignore", 0)])
def test_warnings_of_tasks_are_issued_here(engine: Client, action: Any, times: int) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter(action, OwnWarning)
        SklearnParallel()(sklearn_delayed(_warn)(number) for number in range(6))
    assert Counter((str(each.message), each.category) for each in caught) == Counter(
        {(f"number {odd}", OwnWarning): times // 2 for odd in range(2) if times}
    )
    assert {each.filename for each in caught} <= {__file__}


def test_warning_filter_by_module_applies(engine: Client) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", module=_warn.__module__.replace(".", r"\."))
        SklearnParallel()(sklearn_delayed(_warn)(number) for number in range(2))
    assert [str(each.message) for each in caught if each.category is OwnWarning] == []


def test_warning_turned_into_an_error_ends_the_call(engine: Client) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", OwnWarning)
        with pytest.raises(OwnWarning, match="number 0"):
            SklearnParallel()(sklearn_delayed(_warn)(number) for number in range(0, 6, 2))
    _check_usable(engine)


def test_unknown_argument_of_the_backend_is_rejected(client: Client) -> None:
    with pytest.raises(TypeError, match="widht"), joblib.parallel_config(backend="skjob", widht=8):
        pass


def _exit() -> NoReturn:
    os._exit(3)


def _raise_system_exit() -> NoReturn:
    raise SystemExit(3)


ERRORS: dict[str, tuple[Any, type[BaseException], str]] = {
    # As without skjob: calls that cannot be sent run in joblib's own processes.
    "argument": (delayed(_identity)(Locked()), pickle.PicklingError, "Could not pickle the task"),
    "result": (delayed(_return_lock)(), TypeError, "cannot pickle '_thread.lock' object"),
    "exception": (delayed(_raise_not_unpicklable)(), NotUnpicklable, "a and b"),
    "KeyError": (delayed(_raise_key_error)(), KeyError, "'deep'"),
    "SystemExit": (delayed(_raise_system_exit)(), SystemExit, "3"),
}


def _is_costly(name: str, place: int) -> bool:
    """Return whether a case is slow: results that cannot be sent end joblib's processes, which are then restarted."""
    return name == "result" and place != 15


@pytest.mark.parametrize(
    ("task", "kind", "text", "place"),
    [
        pytest.param(*error, place, id=f"{name}-{place}", marks=[pytest.mark.slow] * _is_costly(name, place))
        for place in (0, 15, 29)
        for name, error in ERRORS.items()
    ],
)
def test_failing_task_ends_the_call_with_its_error(
    engine: Client, task: Any, kind: type[BaseException], text: str, place: int
) -> None:
    tasks = [delayed(abs)(number) for number in range(30)]
    tasks[place] = task
    with pytest.raises(kind) as caught:
        Parallel()(tasks)
    assert text in str(caught.value)
    _check_usable(engine)


def test_exit_status_of_a_task_is_raised(engine: Client) -> None:
    with pytest.raises(SystemExit) as caught:
        Parallel()(delayed(_raise_system_exit)() for _ in range(2))
    assert caught.value.code == 3


class LoadsOnWorkersOnly:
    """An object that cannot be unpickled in the process `here`."""

    def __init__(self, here: int) -> None:
        self.here = here

    def __reduce__(self) -> Any:
        return _load_on_workers_only, (self.here,)


def _load_on_workers_only(here: int) -> LoadsOnWorkersOnly:
    if os.getpid() == here:
        raise ImportError("nothing of the kind is here")
    return LoadsOnWorkersOnly(here)


def test_result_that_cannot_be_unpickled_ends_the_call(engine: Client) -> None:
    with pytest.raises(ImportError, match="nothing of the kind is here"):
        Parallel()(delayed(LoadsOnWorkersOnly)(os.getpid()) for _ in range(3))
    _check_usable(engine)


def test_remote_traceback_is_the_cause(engine: Client) -> None:
    with pytest.raises(KeyError) as caught:
        Parallel()(delayed(_raise_key_error)() for _ in range(3))
    cause = caught.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert 'raise KeyError("deep")' in str(cause)
    assert "in _raise_key_error" in str(cause)


def test_task_that_kills_its_workers_raises_an_error(engine: Client) -> None:
    with pytest.raises(WorkersLost) as caught:
        Parallel()(delayed(_exit)() for _ in range(2))
    assert str(caught.value) == (
        "`exit` ended 2 workers: it needs more memory than they have, or it crashes; give workers more with "
        "`--worker-memory`, or try this fit on its own"
    )
    engine.wait_for_workers(2, timeout=DEADLINE)
    _check_usable(engine)


def _tasks_that_raise(number: int) -> Iterator[Any]:
    for done in range(number):
        yield delayed(abs)(done)
    raise LookupError("the generator itself")


@pytest.mark.parametrize("number", [0, 3, 60])
def test_error_of_the_task_generator_is_raised(engine: Client, number: int) -> None:
    with pytest.raises(LookupError, match="the generator itself"):
        Parallel()(_tasks_that_raise(number))
    _check_usable(engine)


def test_timeout(engine: Client) -> None:
    with pytest.raises(multiprocessing.TimeoutError):
        Parallel(timeout=0.2)(delayed(time.sleep)(2) for _ in range(2))


def _touch(folder: str, number: int) -> None:
    time.sleep(0.2)
    (Path(folder) / str(number)).touch()


def test_other_tasks_are_cancelled_after_an_error(engine: Client, tmp_path: Path) -> None:
    tasks = [delayed(_raise_key_error)(), *(delayed(_touch)(str(tmp_path), number) for number in range(200))]
    with pytest.raises(KeyError):
        Parallel(pre_dispatch="all", batch_size=1)(tasks)
    _check_usable(engine)
    until(lambda: not _scheduler_tasks(engine) and not any(engine.run(_running).values()), "the tasks keep running")
    assert len(list(tmp_path.iterdir())) < 150


def _running(dask_worker: Any) -> list[Any]:
    """Return a worker's running and ready tasks."""
    return [*dask_worker.active_threads.values(), *dask_worker.state.ready]


# ------------------------------------------------------------------------------------------------- lost workers


def _slow(folder: str, number: int) -> int:
    (Path(folder) / f"{os.getpid()}").touch()
    time.sleep(0.4)
    return number


def test_call_continues_after_a_worker_is_killed(engine: Client, tmp_path: Path) -> None:
    def kill() -> None:
        first = until(lambda: next(tmp_path.iterdir(), None), "no task has started")
        os.kill(int(first.name), signal.SIGKILL)
        killed.append(int(first.name))

    killed: list[int] = []
    killer = threading.Thread(target=kill)
    killer.start()
    results = Parallel(pre_dispatch="all", batch_size=1)(delayed(_slow)(str(tmp_path), n) for n in range(12))
    killer.join(DEADLINE)
    assert results == list(range(12))
    assert len({path.name for path in tmp_path.iterdir()} - {str(killed[0])}) >= 1


def _slow_sum(array: Any, folder: str, number: int) -> float:
    (Path(folder) / f"{number}").touch()
    time.sleep(0.3)
    return float(array[number])


def _holders(client: Client) -> list[str]:
    """Return the workers that hold data shared by the engine."""
    return [address for key, who in client.who_has().items() if key.startswith("Shared") for address in who]


def test_call_continues_after_workers_with_shared_data_are_killed(engine: Client, tmp_path: Path) -> None:
    X = numpy.arange(200_000.0)
    pids = engine.run(os.getpid)

    def kill() -> None:
        until(lambda: next(tmp_path.iterdir(), None), "no task has started")
        for address in set(_holders(engine)):
            os.kill(pids[address], signal.SIGKILL)
            killed.append(address)

    killed: list[str] = []
    killer = threading.Thread(target=kill)
    killer.start()
    results = Parallel(pre_dispatch="all", batch_size=1)(delayed(_slow_sum)(X, str(tmp_path), n) for n in range(12))
    killer.join(DEADLINE)
    assert results == [float(number) for number in range(12)]
    assert killed


def test_data_is_sent_again_after_workers_died_between_calls(engine: Client) -> None:
    X = numpy.arange(200_000.0)
    assert Parallel()(delayed(_sum)(X, 0) for _ in range(4)) == [X.sum()] * 4
    for pid in _pids(engine):
        os.kill(pid, signal.SIGKILL)
    assert Parallel()(delayed(_sum)(X, 0) for _ in range(4)) == [X.sum()] * 4


# ------------------------------------------------------------------------------------------------- shared data


def _shared_bytes(client: Client) -> int:
    """Return the size of the engine's data in the cluster, counting each key once."""

    def nbytes(dask_scheduler: Any) -> int:
        return sum(task.nbytes for key, task in dask_scheduler.tasks.items() if str(key).startswith("Shared"))

    return int(client.run_on_scheduler(nbytes))


def _address(array: Any) -> tuple[int, int]:
    return os.getpid(), array.__array_interface__["data"][0]


def test_data_is_sent_once_and_shared_in_memory(engine: Client) -> None:
    X = numpy.random.default_rng(0).random(500_000)
    before = _shared_bytes(engine)
    copies = set()
    for pause in (0, 3, 0):
        time.sleep(pause)
        places = Parallel(batch_size=1)(delayed(_address)(array) for array in (X, X.copy(), X[:], X) for _ in range(5))
        copies |= set(places)
    assert len(copies) == len({pid for pid, _ in copies})  # one copy per worker for all calls
    assert _shared_bytes(engine) - before == X.nbytes


def test_data_changed_between_calls_is_sent_again(engine: Client) -> None:
    X = numpy.ones(100_000)
    assert Parallel()(delayed(_sum)(X, 0) for _ in range(4)) == [100_000.0] * 4
    X *= 2
    assert Parallel()(delayed(_sum)(X, 0) for _ in range(4)) == [200_000.0] * 4


def test_workers_in_this_process_have_a_copy_of_the_data() -> None:
    """Nothing is pickled for workers in this process: without a copy they would see later changes of the caller."""
    with Client(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0", set_as_default=False
    ) as client:
        X = numpy.ones(100_000)
        before = X.copy()
        with _engine(client):
            assert Parallel()(delayed(_sum)(X, 0) for _ in range(2)) == [100_000.0] * 2
            X *= 2
            assert Parallel()(delayed(_sum)(before, 0) for _ in range(2)) == [100_000.0] * 2
            assert Parallel()(delayed(_sum)(X, 0) for _ in range(2)) == [200_000.0] * 2


def _length(rows: Any) -> int:
    return len(rows)


def test_lists_do_not_accumulate_on_workers(engine: Client) -> None:
    before = _shared_bytes(engine)
    rows = [[{"number": number, "place": place} for place in range(8000)] for number in range(40)]
    size = len(pickle.dumps(rows[0], protocol=5))
    assert size > MAX_INLINE_BYTES
    tasks = [delayed(_length)(each) for each in rows for _ in range(2)]
    assert Parallel(batch_size=1)(tasks) == [8000] * 80
    until(lambda: _shared_bytes(engine) - before <= (MAX_UNWATCHED + 1) * size * 1.1, "data accumulates on the workers")


def _write(array: Any) -> None:
    array[0] = 7


def test_tasks_cannot_change_shared_data(engine: Client) -> None:
    X = numpy.zeros(200_000)
    with pytest.raises(ValueError, match="read-only"):
        Parallel()(delayed(_write)(X) for _ in range(2))
    assert X[0] == 0


def _add(data: Any) -> float:
    if isinstance(data, pandas.DataFrame):
        data.iloc[0, 0] += 1
        return float(data.iloc[0, 0])
    values = data if isinstance(data, numpy.ndarray) else data.data
    values[0] += 1
    return float(values[0])


@pytest.mark.parametrize(
    "make", [pandas.DataFrame, sparse.csr_array, numpy.ravel], ids=["frame", "sparse matrix", "small array"]
)
def test_tasks_can_change_their_own_data(engine: Client, make: Callable[[Any], Any]) -> None:
    assert Parallel(batch_size=1)(delayed(_add)(make(numpy.ones((20_000, 1)))) for _ in range(6)) == [2.0] * 6


def test_parts_of_the_data_do_not_accumulate_on_workers(engine: Client) -> None:
    X = numpy.arange(2_000_000.0).reshape(20, -1)
    before = _shared_bytes(engine)
    sums = Parallel(batch_size=1)(delayed(_sum)(part.copy(), 0) for part in X)
    assert sums == [part.sum() for part in X]
    until(lambda: _shared_bytes(engine) - before <= MAX_USED_ONCE * X[0].nbytes, "data accumulates on the workers")


# ------------------------------------------------------------------------------------------------- width


def test_width_above_the_number_of_workers_dispatches_more_tasks(client: Client, tmp_path: Path) -> None:
    """The scaling loop sees the work for workers that are not connected yet."""

    def demand(dask_scheduler: Any) -> int:
        return sum(1 for key in dask_scheduler.tasks if str(key).startswith("slow"))

    demands: list[bool] = []

    def watch() -> None:
        demands.append(until(lambda: int(client.run_on_scheduler(demand)) > 4, "no more tasks are dispatched"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    with _engine(client, width=8):
        assert Parallel(n_jobs=-1)._effective_n_jobs() == 8
        Parallel(batch_size=1)(delayed(_slow)(str(tmp_path), number) for number in range(16))
    watcher.join(DEADLINE)
    assert demands == [True]


def test_width_is_at_least_two(client: Client) -> None:
    """A width of 1 would run in the caller's process."""
    for width, effective in [(None, 2), (1, 2), (5, 5)]:
        with _engine(client, width=width):
            assert Parallel(n_jobs=-1)._effective_n_jobs() == effective
            assert Parallel(n_jobs=1)._effective_n_jobs() == 1


@pytest.mark.parametrize("argument", [3, numpy.ones(50_000)], ids=["small", "shared"])
def test_call_without_workers_raises_an_error(argument: Any) -> None:
    with (
        _cluster(0) as empty,
        Client(empty, set_as_default=False) as client,
        _engine(client, wait_for_workers=1.0),
        pytest.raises(WorkersLost, match=r"no worker .*1 s"),
    ):
        Parallel()(delayed(_identity)(argument) for _ in range(3))


def test_workers_that_connect_later_are_used() -> None:
    with (
        forked_workers(),
        _cluster(0) as cluster_without_workers,
        Client(cluster_without_workers, set_as_default=False) as client,
    ):
        timer = threading.Timer(1, cluster_without_workers.scale, [1])
        timer.start()
        with _engine(client, width=4):
            assert os.getpid() not in set(Parallel()(delayed(os.getpid)() for _ in range(4)))
        timer.join()


def test_lost_scheduler_raises_an_error() -> None:
    with (
        forked_workers(),
        _cluster(1) as closing_cluster,
        Client(closing_cluster, set_as_default=False) as client,
    ):
        set_reconnect_timeout(client, 1.0)

        def close() -> None:
            until(lambda: any(client.run(_running).values()), "no task has started")
            closing_cluster.close()

        closer = threading.Thread(target=close)
        closer.start()
        with _engine(client), pytest.raises(WorkersLost, match="the connection to the scheduler is lost"):
            Parallel()(delayed(time.sleep)(DEADLINE) for _ in range(3))
        closer.join(DEADLINE)


# ------------------------------------------------------------------------------------------------- interrupted calls


@pytest.mark.parametrize("restarts", [True, False])
def test_worker_dies_before_its_result_is_fetched(
    client: Client, cluster: LocalCluster, restarts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client was notified of the result, but has not fetched it yet."""
    gather, killed = client.gather, []

    async def kill_and_gather(remote: Any, asynchronous: bool) -> Any:
        while remote.status == "pending":
            await asyncio.sleep(0.01)
        if not killed:
            killed.extend(cluster.scheduler.workers)
            await client.run(_kill, on_error="return", asynchronous=True)
            while set(killed) & set(cluster.scheduler.workers):
                await asyncio.sleep(0.01)
        return await gather(remote, asynchronous=asynchronous)

    def _kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(client, "gather", kill_and_gather)
    if restarts:
        with _engine(client):
            assert Parallel()(delayed(abs)(-number) for number in range(2)) == [0, 1]
        assert killed
        return
    with (
        _engine(client, wait_for_workers=2.0),
        _no_workers_visible(client),
        pytest.raises(WorkersLost, match="there has been no worker for 2 s"),
    ):
        Parallel()(delayed(abs)(-number) for number in range(4))


@contextmanager
def _no_workers_visible(client: Client) -> Iterator[None]:
    """Let the client see no workers. If they were really away, the cluster would be lost for the next tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "scheduler_info", lambda n_workers: {"n_workers": 0, "workers": {}})
        patch.setattr(client, "gather", lambda remote, asynchronous: asyncio.sleep(3600))
        yield


def test_error_in_the_engine_ends_the_call(engine: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any) -> None:
        raise ZeroDivisionError("a mistake in the engine")

    with monkeypatch.context() as patch:
        patch.setattr("skjob.engine.parallel_call.ParallelCall._watch", fail)
        with pytest.raises(ZeroDivisionError, match="a mistake in the engine") as caught:
            Parallel()(delayed(time.sleep)(3) for _ in range(2))
    assert "in fail" in str(caught.value.__cause__)
    _check_usable(engine)


def test_batches_need_no_round_trips(engine: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []

    def count(name: str) -> None:
        real = getattr(engine, name)
        monkeypatch.setattr(engine, name, lambda *args, **kwargs: (requests.append(name), real(*args, **kwargs))[1])

    for name in ("ncores", "scheduler_info", "nthreads"):
        count(name)
    X = numpy.ones(50_000)
    began = time.monotonic()
    Parallel(batch_size=1)(delayed(_sum)(X, number) for number in range(100))
    assert len(requests) <= 3 + (time.monotonic() - began) / WATCH_INTERVAL


def test_call_continues_after_the_connection_breaks_during_dispatch(engine: Client) -> None:
    X = numpy.ones(50_000)

    def tasks() -> Iterator[Any]:
        for number in range(12):
            if number == 6:
                engine.loop.add_callback(lambda: engine.scheduler_comm.comm.abort())
                time.sleep(0.02)
            yield delayed(_sum)(X + number, 0)

    expected = [50_000.0 * (1 + number) for number in range(12)]
    assert Parallel(batch_size=1, pre_dispatch="all")(tasks()) == expected


def _scheduler_tasks(client: Client) -> list[str]:
    """Return the tasks that the scheduler has for this client, without shared data."""

    def task_keys(dask_scheduler: Any, name: str) -> list[str]:
        keys = [str(task.key) for task in dask_scheduler.clients[name].wants_what]
        return [key for key in keys if not key.startswith("Shared")]

    return list(client.run_on_scheduler(task_keys, name=client.id))


def _has_no_tasks(client: Client) -> bool:
    until(lambda: not _scheduler_tasks(client), "the scheduler still has tasks")
    time.sleep(0.3)
    return not _scheduler_tasks(client)


class CallsWhilePickled:
    """Calls `action` while it is pickled: after the call was told to send it, and before it is sent."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.action = action

    def __reduce__(self) -> Any:
        self.action()
        return CallsWhilePickled, (None,)


def test_no_tasks_are_sent_after_the_call(client: Client) -> None:
    backend = SkjobBackend(client)
    backend.parallel = Parallel()
    results: list[Any] = []
    for end in (lambda: backend.abort_everything(ensure_ready=True), backend.stop_call):
        backend.start_call()
        backend.submit(partial(time.sleep, 30), results.append)
        backend.submit(
            partial(_identity, CallsWhilePickled(end)), results.append
        )  # as if a callback dispatched at this time
        backend.submit(partial(time.sleep, 30), results.append)  # as if another one dispatched later
        assert _has_no_tasks(client)
    backend.stop_call()
    assert results == []


def _interrupt() -> NoReturn:
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["pickling", "sending"])
def test_interrupt_during_dispatch(engine: Client, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    get, sent = engine.get, []

    def get_and_interrupt(*args: Any, **kwargs: Any) -> Any:
        sent.append(get(*args, **kwargs))
        if where == "sending" and len(sent) == 3:
            _interrupt()
        return sent[-1]

    last = CallsWhilePickled(_interrupt) if where == "pickling" else 3
    tasks = [*(delayed(time.sleep)(1) for _ in range(5)), delayed(_identity)(last)]
    with monkeypatch.context() as patch:
        patch.setattr(engine, "get", get_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            Parallel(pre_dispatch="all", batch_size=1)(tasks)
        assert _has_no_tasks(engine)  # although their futures are referenced in `sent`
    _check_usable(engine)


def test_closed_client_is_garbage_collected(cluster: LocalCluster) -> None:
    client = Client(cluster, set_as_default=False)
    with _engine(client):
        Parallel()(delayed(_sum)(numpy.ones(50_000), number) for number in range(4))
    client.close()
    gone = weakref.ref(client)
    del client
    until(lambda: (gc.collect(), gone() is None)[1], "the client is still referenced")


def test_error_without_a_client_has_a_hint() -> None:
    with pytest.raises(
        ValueError, match=r'the joblib backend "skjob" needs a Dask client: use `with skjob.cluster\(\)'
    ):
        SkjobBackend()
