"""Processes killed during a search, and what the user sees of it: each test adds a row to the table of faults.

The search's fits sleep, and record their start and end in a file. No fit may be lost, fits that were not running at the
time of the fault must not be repeated, and the search must continue.
"""

import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import dask
import joblib
import numpy
import pytest
from distributed import Client, LocalCluster
from forked_workers import close_cluster, forked_workers
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV
from sleeping_fits import ANY, FitEvent, Fits, Sleeper, X, Y, search_of
from waiting import DEADLINE, until

from skjob.engine.backend import SkjobBackend, WorkersLost

pytestmark = pytest.mark.usefixtures("send_small_calls_to_workers")


@pytest.fixture
def fits(tmp_path: Path) -> Fits:
    return Fits(tmp_path)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    settings = {
        "distributed.scheduler.allowed-failures": 1,
        "distributed.scheduler.active-memory-manager.start": False,
    }
    with (
        dask.config.set(settings),
        forked_workers("from skjob.engine import cancellation; cancellation.INTERRUPT_TIMEOUT = 0.5"),
    ):
        cluster = LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0", host="127.0.0.1",
            memory_limit="400MiB", silence_logs=logging.CRITICAL,
        )  # fmt: skip
        try:
            yield cluster
        finally:
            close_cluster(cluster)


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=DEADLINE)
        yield client


def _fit(client: Client, search: GridSearchCV) -> GridSearchCV:
    with joblib.parallel_config(backend=SkjobBackend(client, wait_for_workers=DEADLINE), n_jobs=-1):
        return search.fit(X, Y)


@contextmanager
def _in_background(action: Callable[[], None]) -> Iterator[None]:
    """Run an action in a thread during the block, and fail the test if it raises."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join(DEADLINE)
    assert not errors, errors


@dataclass
class Kill:
    """Kills processes once several fits have ended and others run; stores which fits ran, and the time."""

    fits: Fits
    pids: Callable[[], list[int]]
    running: tuple[str, ...] = ()
    at: float = 0.0

    def __call__(self) -> None:
        until(lambda: len(self.fits.ended()) >= 4 and len(self.fits.waiting()) >= 2, "no fits are running")
        pids = self.pids()
        self.at = time.time()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.fits.fault.touch()
        lost = [event for event in self.fits.running() if event.pid in pids]
        # Results that were not fetched are lost with their worker.
        for pid in pids:
            lost += [event for event in self.fits.events() if event.what == "end" and event.pid == pid][-2:]
        self.running = tuple(event.fit for event in lost)


def _seconds_until_next_fit(fits: Fits, at: float) -> float:
    """Return the seconds from `at` until a fit that started later has ended."""
    started = {(event.fit, event.pid) for event in fits.events() if event.what == "start" and event.at > at}
    ends = [event.at for event in fits.events() if event.what == "end" and (event.fit, event.pid) in started]
    return min(ends) - at


def _check_scores(search: GridSearchCV, numbers: int = 8) -> None:
    assert list(search.cv_results_["mean_test_score"]) == [float(number) for number in range(numbers)]


Row = Callable[..., None]


@pytest.mark.parametrize("victims", ["one worker", "all workers"])
def test_search_continues_after_workers_are_killed(client: Client, fits: Fits, fault_row: Row, victims: str) -> None:
    pids = list(client.run(os.getpid).values())
    kill = Kill(fits, lambda: pids[:1] if victims == "one worker" else pids)
    with _in_background(kill):
        search = _fit(client, search_of(fits, action="wait for fault", acting=ANY))
    _check_scores(search)
    repeated = {fit for fit, times in fits.started().items() if times > 1}
    assert repeated <= set(kill.running)
    assert len(fits.ended()) == 16
    seconds = _seconds_until_next_fit(fits, kill.at)
    fault_row(victims, "SIGKILL during fits", "its results", 0, len(repeated), seconds)


@pytest.mark.parametrize("action", ["exit", "crash", "allocate"])
def test_fit_that_kills_its_workers_fails(client: Client, fits: Fits, fault_row: Row, action: str) -> None:
    """Fits that were on the same workers when they died are not marked as failed."""
    search = search_of(fits, seconds=0.1, action=action, acting=2, error_score=numpy.nan)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        _fit(client, search)
    expected = [0.0, 1.0, numpy.nan, *(float(number) for number in range(3, 8))]
    numpy.testing.assert_array_equal(search.cv_results_["mean_test_score"], expected)
    [message] = [str(warning.message) for warning in warned if warning.category is FitFailedWarning]
    assert "2 fits failed out of a total of 16" in message
    why = (
        "which ran out of memory; give workers more with `--worker-memory`" if action == "allocate" else "or it crashes"
    )
    assert (
        f"the fit of `Sleeper` with number=2 on fold 1 of 2 ended 2 workers{',' if action == 'allocate' else ''}"
        in message
    )
    assert why in message
    ended = fits.ended()
    assert len(ended) == 14
    repeated = sum(times > 1 for times in ended.values())
    fault_row(
        f"every worker of a fit ({action})", "in each try", "FitFailedWarning, nan for that fit", 0, repeated, None
    )


def test_error_score_raise_names_the_fit_that_kills_its_workers(client: Client, fits: Fits, fault_row: Row) -> None:
    with pytest.raises(WorkersLost, match=r"the fit of `Sleeper` with number=1 on fold [12] of 2 ended 2 workers"):
        _fit(client, search_of(fits, numbers=3, seconds=0.1, action="exit", acting=1))
    fault_row("every worker of a fit", "error_score='raise'", "WorkersLost, which names the fit", 0, 0, None)


def test_interrupt_ends_running_fits(client: Client, fits: Fits, fault_row: Row) -> None:
    """Fits in Python end at once; fits in compiled code are ended with their worker's process."""
    search = search_of(fits, seconds=DEADLINE)
    pids = set(client.run(os.getpid).values())

    def interrupt() -> None:
        until(lambda: len(fits.running()) == 2, "no fits are running")
        os.kill(os.getpid(), signal.SIGINT)

    with _in_background(interrupt), pytest.raises(KeyboardInterrupt):
        _fit(client, search)
    began = time.time()
    until(lambda: not any(_alive(pid) for pid in pids), "the fits keep running")  # they sleep in C
    client.wait_for_workers(2, timeout=DEADLINE)
    assert fits.ended() == Counter()
    fault_row(
        "client interrupted (SIGINT)", "during fits", "KeyboardInterrupt; no fit runs on", 0, 0, time.time() - began
    )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_second_run_resumes_after_the_client_is_killed(
    cluster: LocalCluster, client: Client, fits: Fits, fault_row: Row
) -> None:
    """The second run repeats only fits that were running or missing, and reports how many it reused."""
    script = Path(__file__).with_name("interrupted_search.py")
    command = [sys.executable, str(script), cluster.scheduler_address, str(fits.folder)]
    store = fits.folder / "store"

    def stored_fits() -> int:
        return len(list(store.glob("*/*.json")))

    with subprocess.Popen(command) as first:
        try:
            until(lambda: stored_fits() >= 7, "no fits are stored")
        finally:
            first.kill()
    until(lambda: len(client.run_on_scheduler(_clients)) == 1, "the scheduler does not notice that the client is gone")
    until(lambda: not any(client.run(_tasks).values()), "the workers' tasks do not end")
    stored = stored_fits()
    before = fits.ended()
    second = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert second.stdout == f"{[float(number) for number in range(12)]}\n", second.stderr
    assert f"reused {stored} of 24 fits from an earlier run" in second.stderr
    repeated = {fit for fit, times in fits.ended().items() if times > 1}
    assert len(fits.ended()) == 24
    assert len(repeated) <= sum(before.values()) - stored
    fault_row("the client", "SIGKILL at a third", f"second run: {stored} fits found", 0, len(repeated), None)


def _tasks(dask_worker: Any = None) -> list[str]:
    return list(dask_worker.state.tasks)


def _clients(dask_scheduler: Any = None) -> list[str]:
    return [name for name in dask_scheduler.clients if name != "fire-and-forget"]


@contextmanager
def _cluster_of_processes(folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Start a scheduler and two workers as separate processes, as in pods.

    Yield the scheduler's address, and a function that restarts it.
    """
    port = _free_port()
    address = f"tcp://127.0.0.1:{port}"
    processes: list[Any] = []

    def start(*command: str) -> Any:
        process = multiprocessing.get_context("forkserver").Process(target=_dask, args=command)
        process.start()
        processes.append(process)
        return process

    def start_scheduler() -> Any:
        return start("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-show")

    def start_worker() -> None:
        options = ["--nthreads", "1", "--no-dashboard", "--local-directory", str(folder), "--no-nanny"]
        start("worker", address, *options)

    def restart() -> None:
        running.kill()
        running.join(DEADLINE)
        start_scheduler()
        for _ in range(2):  # workers end without their scheduler, and their pods would restart them
            start_worker()

    with forked_workers():
        running = start_scheduler()
        try:
            for _ in range(2):
                start_worker()
            yield address, restart
        finally:
            for process in processes:
                process.kill()
            for process in processes:
                process.join(DEADLINE)


def _dask(command: str, *arguments: str) -> None:
    """Run `dask scheduler …` or `dask worker …` in a separate process, without output."""
    with Path(os.devnull).open("w") as nothing:
        for stream in (1, 2):
            os.dup2(nothing.fileno(), stream)
    dask.config.set({"distributed.scheduler.active-memory-manager.start": False})
    import_module(f"distributed.cli.dask_{command}").main(arguments)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_search_continues_after_the_scheduler_restarts(fits: Fits, tmp_path: Path, fault_row: Row) -> None:
    large = numpy.arange(20_000.0).reshape(20, 1000)  # shared data, which is lost with the scheduler
    killed_at: list[float] = []
    running: list[FitEvent] = []
    with (
        _cluster_of_processes(tmp_path) as (address, restart),
        Client(address, set_as_default=False, timeout=DEADLINE) as client,
    ):
        client.wait_for_workers(2, timeout=DEADLINE)

        def kill() -> None:
            until(lambda: len(fits.ended()) >= 4 and len(fits.waiting()) >= 2, "no fits are running")
            running.extend(fits.running())
            killed_at.append(time.time())
            restart()
            fits.fault.touch()

        with (
            _in_background(kill),
            joblib.parallel_config(backend=SkjobBackend(client, wait_for_workers=DEADLINE), n_jobs=-1),
        ):
            search = search_of(fits, action="wait for fault", acting=ANY).fit(large, Y)
    _check_scores(search)
    assert len(fits.ended()) == 16
    repeated = {fit for fit, times in fits.started().items() if times > 1}
    # Fits that were running, and those whose results the scheduler had not forwarded.
    assert len(repeated) <= 2 * len(running)
    seconds = _seconds_until_next_fit(fits, killed_at[0])
    fault_row("the scheduler", "SIGKILL, started again", "its results", 0, len(repeated), seconds)


def test_search_fails_without_workers(fits: Fits, fault_row: Row) -> None:
    with (
        LocalCluster(
            n_workers=0, dashboard_address="127.0.0.1:0", host="127.0.0.1", silence_logs=logging.CRITICAL
        ) as empty,
        Client(empty, set_as_default=False) as client,
        joblib.parallel_config(backend=SkjobBackend(client, wait_for_workers=1.0), n_jobs=-1),
        pytest.raises(WorkersLost, match=r"the fit of `Sleeper` with number=0 on fold 1 of 2 .*no worker.* 1 s"),
    ):
        search_of(fits).fit(X, Y)
    fault_row("every worker", "before the first fit", "WorkersLost after the limit", 0, 0, None)


class MemoryAware(Sleeper):
    """An estimator that declares how much memory its fits need."""

    def memory_needed(self, data_bytes: int) -> int:
        return 150 * 2**20


@pytest.fixture(scope="module")
def worker_of_two_threads() -> Iterator[Client]:
    with (
        forked_workers(),
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=True, dashboard_address="127.0.0.1:0", host="127.0.0.1",
            memory_limit="400MiB", silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):  # fmt: skip
        client.wait_for_workers(1, timeout=DEADLINE)
        yield client


@pytest.mark.parametrize(("estimator", "parallel"), [(Sleeper, 2), (MemoryAware, 1)])
def test_worker_runs_only_fits_that_fit_in_its_memory(
    worker_of_two_threads: Client, fits: Fits, estimator: type[Sleeper], parallel: int
) -> None:
    action = {"action": "overlap", "acting": ANY} if parallel == 2 else {}
    sleeper = estimator(folder=str(fits.folder), seconds=0.2, **action)
    _fit(worker_of_two_threads, GridSearchCV(sleeper, {"number": [0, 1, 2]}, cv=2, refit=False, error_score="raise"))
    assert fits.max_parallel() == parallel
