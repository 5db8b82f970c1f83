"""What is killed while a search runs, and what its user sees of it: each test is a row of the table at the end.

A search of fits that sleep, and note in a file when they begin and end. No fit is lost, those that were not running
when something was killed are not repeated, and the search carries on.
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
from sleeping_fits import ANY, Fits, Note, Sleeper, X, Y, search_of
from waiting import DEADLINE, until

from skjob.engine.backend import SkjobBackend, WorkersLost

pytestmark = pytest.mark.usefixtures("every_call_goes_to_workers")


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
def _meanwhile(action: Callable[[], None]) -> Iterator[None]:
    """Something that happens while the block runs; its own error is the test's."""
    errors: list[BaseException] = []

    def act() -> None:
        try:
            action()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    yield
    thread.join(DEADLINE)
    assert not errors, errors


@dataclass
class Kill:
    """Kills, once several fits have ended and others run; what ran then, and when it was."""

    fits: Fits
    pids: Callable[[], list[int]]
    running: tuple[str, ...] = ()
    at: float = 0.0

    def __call__(self) -> None:
        until(lambda: len(self.fits.ended()) >= 4 and len(self.fits.waiting()) >= 2, "no fits run")
        pids = self.pids()
        self.at = time.time()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.fits.deed.touch()
        lost = [note for note in self.fits.running() if note.pid in pids]
        # A result that has not been fetched yet dies with its worker too.
        for pid in pids:
            lost += [note for note in self.fits.notes() if note.what == "end" and note.pid == pid][-2:]
        self.running = tuple(note.fit for note in lost)


def _carried_on(fits: Fits, at: float) -> float:
    """Seconds from `at` until the next fit that began later has ended."""
    began = {(note.fit, note.pid) for note in fits.notes() if note.what == "begin" and note.at > at}
    ends = [note.at for note in fits.notes() if note.what == "end" and (note.fit, note.pid) in began]
    return min(ends) - at


def _complete(search: GridSearchCV, numbers: int = 8) -> None:
    assert list(search.cv_results_["mean_test_score"]) == [float(number) for number in range(numbers)]


Row = Callable[..., None]


@pytest.mark.parametrize("victims", ["one worker", "all workers"])
def test_workers_killed_in_mid_fit(client: Client, fits: Fits, fault_row: Row, victims: str) -> None:
    pids = list(client.run(os.getpid).values())
    kill = Kill(fits, lambda: pids[:1] if victims == "one worker" else pids)
    with _meanwhile(kill):
        search = _fit(client, search_of(fits, deed="outlast", culprit=ANY))
    _complete(search)
    repeated = {fit for fit, times in fits.begun().items() if times > 1}
    assert repeated <= set(kill.running)
    assert len(fits.ended()) == 16
    seconds = _carried_on(fits, kill.at)
    fault_row(victims, "SIGKILL in mid-fit", "its results", 0, len(repeated), seconds)


@pytest.mark.parametrize("deed", ["exit", "crash", "gobble"])
def test_a_fit_that_ends_every_worker_is_a_failed_fit(client: Client, fits: Fits, fault_row: Row, deed: str) -> None:
    """Its neighbours, which were on the same workers when these died, are not."""
    search = search_of(fits, seconds=0.1, deed=deed, culprit=2, error_score=numpy.nan)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        _fit(client, search)
    expected = [0.0, 1.0, numpy.nan, *(float(number) for number in range(3, 8))]
    numpy.testing.assert_array_equal(search.cv_results_["mean_test_score"], expected)
    [told] = [str(warning.message) for warning in warned if warning.category is FitFailedWarning]
    assert "2 fits failed out of a total of 16" in told
    why = "which ran out of memory; give workers more with `--worker-memory`" if deed == "gobble" else "or it crashes"
    assert f"the fit of `Sleeper` with number=2 on fold 1 of 2 ended 2 workers{',' if deed == 'gobble' else ''}" in told
    assert why in told
    ended = fits.ended()
    assert len(ended) == 14
    repeated = sum(times > 1 for times in ended.values())
    fault_row(f"every worker of a fit ({deed})", "in each try", "FitFailedWarning, nan for that fit", 0, repeated, None)


def test_with_error_score_raise_it_is_an_error_that_names_the_fit(client: Client, fits: Fits, fault_row: Row) -> None:
    with pytest.raises(WorkersLost, match=r"the fit of `Sleeper` with number=1 on fold [12] of 2 ended 2 workers"):
        _fit(client, search_of(fits, numbers=3, seconds=0.1, deed="exit", culprit=1))
    fault_row("every worker of a fit", "error_score='raise'", "WorkersLost, which names the fit", 0, 0, None)


def test_what_runs_is_ended_with_the_call(client: Client, fits: Fits, fault_row: Row) -> None:
    """A fit in Python ends at once, one that is deep in compiled code goes with its worker's process."""
    search = search_of(fits, seconds=DEADLINE)
    pids = set(client.run(os.getpid).values())

    def interrupt() -> None:
        until(lambda: len(fits.running()) == 2, "no fits run")
        os.kill(os.getpid(), signal.SIGINT)

    with _meanwhile(interrupt), pytest.raises(KeyboardInterrupt):
        _fit(client, search)
    began = time.time()
    until(lambda: not any(_alive(pid) for pid in pids), "they run on")  # they sleep in C
    client.wait_for_workers(2, timeout=DEADLINE)
    assert fits.ended() == Counter()
    fault_row(
        "client interrupted (SIGINT)", "in mid-fit", "KeyboardInterrupt; no fit runs on", 0, 0, time.time() - began
    )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_client_killed(cluster: LocalCluster, client: Client, fits: Fits, fault_row: Row) -> None:
    """The second run does what is missing, and what was running; it says how many it found."""
    script = Path(__file__).with_name("interrupted_search.py")
    command = [sys.executable, str(script), cluster.scheduler_address, str(fits.folder)]
    store = fits.folder / "store"

    def kept_fits() -> int:
        return len(list(store.glob("*/*.json")))

    with subprocess.Popen(command) as first:
        try:
            until(lambda: kept_fits() >= 7, "no fits are kept")
        finally:
            first.kill()
    until(lambda: len(client.run_on_scheduler(_clients)) == 1, "the scheduler does not see it go")
    until(lambda: not any(client.run(_tasks).values()), "what its workers were doing does not end")
    kept = kept_fits()
    before = fits.ended()
    second = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert second.stdout == f"{[float(number) for number in range(12)]}\n", second.stderr
    assert f"reused {kept} of 24 fits from an earlier run" in second.stderr
    repeated = {fit for fit, times in fits.ended().items() if times > 1}
    assert len(fits.ended()) == 24
    assert len(repeated) <= sum(before.values()) - kept
    fault_row("the client", "SIGKILL at a third", f"second run: {kept} fits found", 0, len(repeated), None)


def _tasks(dask_worker: Any = None) -> list[str]:
    return list(dask_worker.state.tasks)


def _clients(dask_scheduler: Any = None) -> list[str]:
    return [name for name in dask_scheduler.clients if name != "fire-and-forget"]


@contextmanager
def _cluster_of_processes(folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """A scheduler and two workers, each a process of its own as in pods, and what starts the scheduler again."""
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
        for _ in range(2):  # those that lose their scheduler end; pods would start them again
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
    """Runs in a process of its own: `dask scheduler …`, `dask worker …`."""
    with Path(os.devnull).open("w") as nothing:
        for stream in (1, 2):
            os.dup2(nothing.fileno(), stream)
    dask.config.set({"distributed.scheduler.active-memory-manager.start": False})
    import_module(f"distributed.cli.dask_{command}").main(arguments)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_the_scheduler_killed_and_started_again(fits: Fits, tmp_path: Path, fault_row: Row) -> None:
    large = numpy.arange(20_000.0).reshape(20, 1000)  # is shared, and lost with the scheduler
    at: list[float] = []
    running: list[Note] = []
    with (
        _cluster_of_processes(tmp_path) as (address, restart),
        Client(address, set_as_default=False, timeout=DEADLINE) as client,
    ):
        client.wait_for_workers(2, timeout=DEADLINE)

        def kill() -> None:
            until(lambda: len(fits.ended()) >= 4 and len(fits.waiting()) >= 2, "no fits run")
            running.extend(fits.running())
            at.append(time.time())
            restart()
            fits.deed.touch()

        with (
            _meanwhile(kill),
            joblib.parallel_config(backend=SkjobBackend(client, wait_for_workers=DEADLINE), n_jobs=-1),
        ):
            search = search_of(fits, deed="outlast", culprit=ANY).fit(large, Y)
    _complete(search)
    assert len(fits.ended()) == 16
    repeated = {fit for fit, times in fits.begun().items() if times > 1}
    # Those that ran, and those whose outcome the scheduler had not handed on yet.
    assert len(repeated) <= 2 * len(running)
    seconds = _carried_on(fits, at[0])
    fault_row("the scheduler", "SIGKILL, started again", "its results", 0, len(repeated), seconds)


def test_no_worker_ever_comes(fits: Fits, fault_row: Row) -> None:
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


class Hungry(Sleeper):
    """Says how much memory its fits need."""

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


@pytest.mark.parametrize(("estimator", "together"), [(Sleeper, 2), (Hungry, 1)])
def test_a_worker_takes_no_more_fits_at_once_than_it_has_memory_for(
    worker_of_two_threads: Client, fits: Fits, estimator: type[Sleeper], together: int
) -> None:
    deed = {"deed": "meet", "culprit": ANY} if together == 2 else {}
    sleeper = estimator(folder=str(fits.folder), seconds=0.2, **deed)
    _fit(worker_of_two_threads, GridSearchCV(sleeper, {"number": [0, 1, 2]}, cv=2, refit=False, error_score="raise"))
    assert fits.most_at_once() == together
