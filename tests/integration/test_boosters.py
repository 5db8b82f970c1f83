"""XGBoost and LightGBM trained on a real Dask cluster whose workers are killed during training."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import dask.array
import dask.dataframe
import joblib
import lightgbm
import numpy
import pandas
import psutil
import pytest
import xgboost.dask
from distributed import Client, LocalCluster, WorkerPlugin, get_worker, wait
from forked_workers import forked_workers
from joblib import parallel_config
from local_runs import FinishedRun, LocalRuns, WarmClusters
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GridSearchCV
from waiting import DEADLINE, until

from skjob.boosters import prepare
from skjob.boosters.checkpoint import FileCheckpointStore, training_identity
from skjob.boosters.errors import TrainingLost
from skjob.boosters.lightgbm import train_lightgbm
from skjob.boosters.partitioning import connected_workers, lay_out
from skjob.boosters.scheduler_plugin import as_training_part
from skjob.boosters.tracker import TrackerProcess
from skjob.boosters.training import lost_worker
from skjob.boosters.xgboost import train_xgboost
from skjob.deploy.scaling.scheduler import MIN_HELD_BYTES, abandon_workers, release_workers, take_snapshot
from skjob.errors import ConfigError
from skjob.jobfile.data.placement import Workers
from skjob.jobfile.loader import read_job
from skjob.jobfile.runner import place_data, run_declared
from skjob.utils.dask_client import workers_of

pytestmark = pytest.mark.timeout(240)

ENDLESS = 100_000
"""Number of rounds that takes longer than any test."""

INTERRUPT_TIMEOUT = 0.5
"""Seconds that compiled code has to end before its worker's process is killed."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Three workers of one thread, each with a nanny."""
    with (
        pytest.MonkeyPatch.context() as patch,
        forked_workers(f"from skjob.engine import cancellation; cancellation.INTERRUPT_TIMEOUT = {INTERRUPT_TIMEOUT}"),
        LocalCluster(
            n_workers=3, threads_per_worker=1, memory_limit="1GB", dashboard_address="127.0.0.1:0", host="127.0.0.1"
        ) as cluster,
    ):
        patch.setattr(
            "skjob.engine.cancellation.INTERRUPT_TIMEOUT", INTERRUPT_TIMEOUT
        )  # the scheduler is in this process
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as client:
        prepare(client, 3)
        until(lambda: len(client.nthreads()) == 3 and not _busy(client), "the workers are not free")
        yield client


def _busy(client: Client) -> list[Any]:
    def running(dask_worker: Any = None) -> list[Any]:
        return list(dask_worker.active_threads.values())

    request = client.run(running, on_error="ignore", asynchronous=True)
    try:  # without a timeout, this would wait for half a minute for a worker that is ending
        responses = asyncio.run_coroutine_threadsafe(request, client.loop.asyncio_loop).result(5)
    except TimeoutError:
        return ["a worker that does not answer"]
    return [key for keys in responses.values() for key in keys or ()]


def _parts(dask_scheduler: Any = None) -> list[str]:
    """Return the addresses of workers that take part in a training. Runs on the scheduler."""
    parts = [as_training_part(task) for task in dask_scheduler.tasks.values() if task.state == "processing"]
    return [part.worker for part in parts if part is not None and part.meeting]


def _data(client: Client, parts: int = 6) -> tuple[Any, Any]:
    X = dask.array.random.default_rng(0).random((12_000, 10), chunks=(12_000 // parts, 10)).persist()
    y = (X[:, 0] + X[:, 1] > 1).astype(int).persist()
    wait([X, y])
    return X, y


def _estimator(library: str, rounds: int, **parameters: Any) -> Any:
    if library == "xgboost":
        return xgboost.dask.DaskXGBClassifier(n_estimators=rounds, **parameters)
    return lightgbm.DaskLGBMClassifier(n_estimators=rounds, verbose=-1, **parameters)


class _WorkerKiller:
    """Ends a worker during a training: it pauses the worker after `rounds` rounds, and ends it once `when` is true."""

    def __init__(
        self,
        client: Client,
        folder: Path,
        rounds: int,
        end: Callable[[Client, str, int], None],
        when: Callable[[], Any] = lambda: True,
    ) -> None:
        self._process: int | None = None
        self._name: str | None = None
        arguments = (client, folder / "paused", rounds, end, when)
        self._thread = threading.Thread(target=self._run, args=arguments, daemon=True)
        self._thread.start()

    def _run(
        self,
        client: Client,
        reached: Path,
        rounds: int,
        end: Callable[[Client, str, int], None],
        when: Callable[[], Any],
    ) -> None:
        [address, *_] = sorted(client.nthreads())
        name = str(workers_of(client)[address]["name"])
        self._process = client.run(_pause_training, rounds, reached, workers=[address])[address]
        until(lambda: reached.exists() and when(), "no training reached this round")
        assert len(client.run_on_scheduler(_parts)) == 3, "not all workers take part in the training"
        end(client, name, self._process)
        self._name = name

    def end_process(self) -> None:
        """Kill the process of a worker that was only stopped, so that its nanny restarts it."""
        if self._process is not None:
            os.kill(self._process, signal.SIGKILL)

    def join(self) -> str:
        """Wait until the worker was ended, and return its name."""
        self._thread.join(DEADLINE)
        assert self._name is not None, "no worker was ended"
        return self._name


def _pause_training(rounds: int, reached: Path) -> int:
    """Pause the next training on this worker after `rounds` rounds, for good. Return the worker's process id."""
    done = 0

    def patched(update: Callable[..., Any]) -> Callable[..., Any]:
        def update_or_pause(self: Any, *arguments: Any, **keywords: Any) -> Any:
            nonlocal done
            if done == rounds:
                reached.touch()
                time.sleep(DEADLINE)
            done += 1
            return update(self, *arguments, **keywords)

        return update_or_pause

    for booster in (xgboost.Booster, lightgbm.Booster):
        booster.update = patched(booster.update)
    return os.getpid()


def _kill_process(client: Client, name: str, process: int) -> None:
    os.kill(process, signal.SIGKILL)


def _lose_machine(client: Client, name: str, process: int) -> None:
    """Stop the process, so that its connections stay open, and report the machine as lost."""
    os.kill(process, signal.SIGSTOP)
    client.run_on_scheduler(abandon_workers, [name])


# ---- trainings in scripts


@pytest.mark.filterwarnings("ignore:Parameter n_jobs will be ignored")
@pytest.mark.parametrize("end", [_kill_process, pytest.param(_lose_machine, marks=pytest.mark.slow)])
@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_training_that_loses_a_worker_fails_and_the_next_one_succeeds(
    client: Client, library: str, end: Callable[[Client, str, int], None], tmp_path: Path
) -> None:
    X, y = _data(client)
    killer = _WorkerKiller(client, tmp_path, 5, end)
    try:
        with pytest.raises(TrainingLost) as caught:
            _estimator(library, ENDLESS).fit(X, y)
        assert f"`{library}.dask` cannot continue: worker `{killer.join()}` was lost" in str(caught.value)
        until(lambda: not _busy(client), "the other workers are still training")
    finally:
        if end is _lose_machine:
            killer.end_process()
    fitted = _estimator(library, 5).fit(X, y)
    assert (fitted.predict(X) == y).mean().compute() > 0.8


def test_polling_client_does_not_make_workers_look_lost(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """distributed's client polls the number of workers every two seconds, and here after each request."""
    sync = client.sync

    def sync_and_poll(*arguments: Any, **keywords: Any) -> Any:
        result = sync(*arguments, **keywords)
        sync(client._update_scheduler_info)
        return result

    X, _ = _data(client)
    connected = connected_workers(client)
    monkeypatch.setattr(client, "sync", sync_and_poll)
    assert client.scheduler_info(n_workers=-1)["workers"] == {}, "distributed has fixed it"
    assert (connected_workers(client), len(connected)) == (connected, 3)
    assert lost_worker(connected, client) is None
    monkeypatch.setattr("skjob.boosters.partitioning.PLACEMENT_POLL_INTERVAL", 0.1)
    lay_out(client, [X.map_blocks(_slowly)], connected)


def _slowly(block: Any) -> Any:
    time.sleep(0.5)
    return block


def _trackers(dask_scheduler: Any = None) -> dict[str, int]:
    """Return the process ids of XGBoost's trackers. Runs on the scheduler."""
    running = dask_scheduler.plugins["skjob-trackers"].running
    return {meeting: tracker.process.pid for meeting, tracker in running.items()}


def _waiting(client: Client, workers: Sequence[str]) -> list[str]:
    """Return the address of the tracker for each of these workers that is connected to it."""

    def connected() -> list[tuple[str, int]]:
        connections = psutil.Process().net_connections("tcp")
        return [tuple(one.raddr) for one in connections if one.raddr and one.status == psutil.CONN_ESTABLISHED]

    meetings = [(meeting.rpartition(":")[0], int(meeting.rpartition(":")[2])) for meeting in _meetings(client)]
    connections_of = client.run(connected, workers=list(workers)).values()
    return [f"{host}:{port}" for each in connections_of for host, port in each if (host, port) in meetings]


def _meetings(client: Client) -> set[str]:
    def meetings(dask_scheduler: Any = None) -> set[str]:
        parts = [as_training_part(task) for task in dask_scheduler.tasks.values() if task.state == "processing"]
        return {part.meeting for part in parts if part is not None and part.meeting}

    return client.run_on_scheduler(meetings)  # type: ignore[no-any-return]


def _delay_next_part(when: Path) -> None:
    """Delay the next part on this worker: it connects to the tracker once the file exists."""
    context = xgboost.dask.CommunicatorContext
    enter = context.__enter__

    def enter_late(self: Any) -> Any:
        context.__enter__ = enter
        until(when.exists, "the file is never created")
        return enter(self)

    context.__enter__ = enter_late


def _kill_worker_and_tracker(worker: int, tracker: int) -> None:
    """Kill a waiting worker, then the tracker. Runs on the scheduler, whose event loop notices nothing in between."""
    os.kill(worker, signal.SIGKILL)
    until(lambda: not _alive(worker), "the worker does not die")
    os.kill(tracker, signal.SIGABRT)
    until(lambda: not _alive(tracker), "the tracker does not die")


def _alive(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_scheduler_survives_an_aborted_tracker(
    cluster: LocalCluster, client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """XGBoost's tracker aborts if a worker dies that waits for the last one. The scheduler runs in this process."""
    X, y = _data(client)
    data = xgboost.dask.DaskDMatrix(client, X, y)
    late, victim, other = sorted(client.nthreads())
    name = str(workers_of(client)[victim]["name"])
    worker = client.run(os.getpid)[victim]
    arrive = tmp_path / "arrive"
    client.run(_delay_next_part, arrive, workers=[late])
    aborted: list[int] = []

    def abort() -> None:
        until(lambda: len(client.run_on_scheduler(_parts)) == 3, "no training started")
        until(lambda: len(_waiting(client, [victim, other])) == 2, "the two other workers are not waiting")
        [meeting] = _meetings(client)
        tracker = cluster.scheduler.plugins["skjob-trackers"].running[meeting].process
        client.run_on_scheduler(_kill_worker_and_tracker, worker, tracker.pid)
        arrive.touch()
        aborted.append(tracker.wait(DEADLINE))

    aborting = threading.Thread(target=abort, daemon=True)
    aborting.start()
    with pytest.raises(TrainingLost) as caught:
        xgboost.dask.train(client, {"objective": "binary:logistic"}, data, ENDLESS)
    aborting.join(DEADLINE)
    assert aborted == [-signal.SIGABRT]
    assert f"worker `{name}` was lost" in str(caught.value)
    assert "XGBoost's tracker ended with SIGABRT" in caplog.text
    until(lambda: not _busy(client), "the other workers are still training")
    assert _estimator("xgboost", 5).fit(X, y).get_booster().num_boosted_rounds() == 5
    until(lambda: not client.run_on_scheduler(_trackers), "a tracker is left")


MAGIC = 0xFF99
"""First bytes of each connection between XGBoost's tracker and its workers."""


class _TrackerClient:
    """A client of XGBoost's tracker that behaves like a worker (`src/collective/protocol.h`)."""

    def __init__(self, tracker: TrackerProcess) -> None:
        address = tracker.arguments["dmlc_tracker_uri"], int(tracker.arguments["dmlc_tracker_port"])
        self._connection = socket.create_connection(address, DEADLINE)

    def connect(self) -> None:
        """Connect and wait for the tracker's response: then the tracker waits for the other workers."""
        self._connection.sendall(struct.pack("i", MAGIC))
        assert struct.unpack("i", self._connection.recv(4, socket.MSG_WAITALL)) == (MAGIC,)
        self._send({"world_size": -1, "rank": -1, "task_id": "a part"})
        self._send({"cmd": 1, "port": 1, "error_port": 1})
        [length] = struct.unpack("i", self._connection.recv(4, socket.MSG_WAITALL))
        assert json.loads(self._connection.recv(length, socket.MSG_WAITALL)) == {"world_size": 2}

    def die(self) -> None:
        """Reset the connection, so that the tracker's next message fails."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()

    def _send(self, content: dict[str, Any]) -> None:
        message = json.dumps(content).encode()
        self._connection.sendall(struct.pack("i", len(message)) + message)


def test_xgboost_tracker_aborts_after_a_waiting_worker_dies() -> None:
    """The bug for which trackers have their own process. If it is fixed, see `skjob/boosters/tracker.py`."""
    tracker = TrackerProcess(xgboost.core._LIB._name, 2, [("127.0.0.1", 0)], timeout=0)
    try:
        first = _TrackerClient(tracker)
        first.connect()
        first.die()
        last = _TrackerClient(tracker)
        last.connect()
        until(lambda: tracker.process.poll() is not None, "XGBoost has fixed it")
        last.die()
    finally:
        tracker.end()
    assert tracker.process.returncode == -signal.SIGABRT, "XGBoost has fixed it"


def test_tracker_has_its_own_process_during_training(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It listens at the configured address and forwards output; without the process, XGBoost's own tracker is used."""
    printed = ""

    def has_printed(what: str) -> bool:
        nonlocal printed
        printed += capfd.readouterr().err
        return what in printed

    X, y = _data(client)
    data = xgboost.dask.DaskDMatrix(client, X, y)
    trackers: list[dict[str, int]] = []

    def watch(arrive: Path) -> None:
        until(lambda: len(client.run_on_scheduler(_parts)) == 3, "no training started")
        trackers.append(client.run_on_scheduler(_trackers))
        arrive.touch()

    def train(rounds: int, **settings: Any) -> None:
        arrive = tmp_path / str(rounds)
        client.run(_delay_next_part, arrive, workers=[min(client.nthreads())])
        watching = threading.Thread(target=watch, args=[arrive], daemon=True)
        watching.start()
        xgboost.dask.train(
            client, {"objective": "binary:logistic"}, data, rounds, evals=[(data, "here")], verbose_eval=True,
            coll_cfg=xgboost.collective.Config(**settings),
        )  # fmt: skip
        watching.join(DEADLINE)
        until(lambda: has_printed(f"[{rounds - 1}]\there-logloss"), "the scores are not printed")

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    train(5, tracker_host_ip="127.0.0.1", tracker_port=port)
    [(meeting, process)] = trackers.pop().items()
    assert meeting == f"127.0.0.1:{port}"
    until(lambda: not psutil.pid_exists(process), "the tracker outlives its training")
    until(lambda: not client.run_on_scheduler(_trackers), "a tracker is left")
    monkeypatch.setattr("skjob.boosters.tracker.PROGRAM", Path("none.py"))
    train(4)
    assert trackers == [{}]


def test_tracker_ends_with_its_parent() -> None:
    context = multiprocessing.get_context("forkserver")
    here, there = context.Pipe()
    with forked_workers():
        starter = context.Process(target=_start_tracker, args=[there])
        starter.start()
    there.close()
    with here:
        tracker = here.recv()
        assert _alive(tracker)
        starter.kill()
        starter.join(DEADLINE)
    until(lambda: not _alive(tracker), "the tracker keeps running")


def _start_tracker(connection: Connection) -> None:
    """Start a tracker, send its process id, and wait. Runs in a separate process."""
    tracker = TrackerProcess(xgboost.core._LIB._name, 2, [(None, 0), ("127.0.0.1", 0)], 0)
    connection.send(tracker.process.pid)
    connection.recv()


@pytest.mark.filterwarnings("ignore:Parameter n_jobs will be ignored")
def test_other_parts_end_after_one_fails(client: Client) -> None:
    """LightGBM's other parts would wait for the failed one for ever, and occupy their workers."""
    X, y = _data(client)
    [victim, *_] = sorted(client.nthreads())

    def objective(truth: Any, predicted: Any) -> Any:
        if get_worker().address == victim:
            raise ArithmeticError("not on this worker")
        return predicted - truth, numpy.ones_like(truth)

    with pytest.raises(ArithmeticError, match="not on this worker"):
        lightgbm.DaskLGBMRegressor(n_estimators=ENDLESS, objective=objective, verbose=-1).fit(X, y)
    until(lambda: not _busy(client), "the other workers are still training")
    assert lightgbm.DaskLGBMRegressor(n_estimators=3, verbose=-1).fit(X, y).fitted_


def test_evaluation_sets_and_early_stopping_of_xgboost(client: Client) -> None:
    X, y = _data(client)
    noise = dask.array.random.default_rng(1).random(X.shape[0], chunks=X.chunks[0]) < 0.3
    noisy = dask.array.where(noise, 1 - y, y).persist()
    fitted = _estimator("xgboost", 500, early_stopping_rounds=3, learning_rate=1.0)
    fitted.fit(X[:6000], noisy[:6000], eval_set=[(X[6000:], noisy[6000:])])
    assert len(fitted.evals_result()["validation_0"]["logloss"]) == fitted.best_iteration + 4 < 500


def test_lightgbm_early_stopping_is_rejected(client: Client) -> None:
    X, y = _data(client)
    with pytest.raises(ConfigError, match="early_stopping_round=3"):
        _estimator("lightgbm", 5, early_stopping_round=3).fit(X, y, eval_set=[(X, y)])


def test_workers_are_not_released_during_training(client: Client, tmp_path: Path) -> None:
    X, y = _data(client)
    data = dask.array.random.default_rng(0).random(MIN_HELD_BYTES // 8, chunks=-1).persist()
    wait(data)
    snapshot = client.run_on_scheduler(take_snapshot)
    names = sorted(snapshot.processing)
    assert len(snapshot.holding) >= 1, "no worker holds the data"
    during_training: dict[str, Any] = {}
    arrive = tmp_path / "arrive"
    client.run(_delay_next_part, arrive, workers=[min(client.nthreads())])

    def watch() -> None:
        until(lambda: len(client.run_on_scheduler(_parts)) == 3, "no training started")
        during_training["together"] = client.run_on_scheduler(take_snapshot).together
        during_training["released"] = client.run_on_scheduler(release_workers, names)
        arrive.touch()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    _estimator("xgboost", 20).fit(X, y)
    thread.join(DEADLINE)
    assert during_training == {"together": True, "released": []}
    snapshot = client.run_on_scheduler(take_snapshot)
    assert (snapshot.together, snapshot.all_wanted) == (False, False)
    del data
    until(lambda: not client.run_on_scheduler(take_snapshot).holding, "workers hold data that is not referenced")


# ---- job files and checkpoints


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of Parquet files: six for training, and one for evaluation."""
    folder = tmp_path_factory.mktemp("table")
    random = numpy.random.default_rng(0)
    frame = pandas.DataFrame(random.normal(size=(14_000, 8)), columns=[f"c{number}" for number in range(8)])
    frame["y"] = (frame.c0 * frame.c1 + frame.c2 + random.normal(size=len(frame)) > 0).astype(int)
    for number in range(7):
        frame[number * 2000 : (number + 1) * 2000].to_parquet(folder / f"{number}.parquet")
    return folder


def _declared(table: Path) -> dict[str, Any]:
    frame = dask.dataframe.read_parquet([str(table / f"{number}.parquet") for number in range(6)])
    valid = dask.dataframe.read_parquet([str(table / "6.parquet")])
    return {
        "X": frame.drop(columns="y"),
        "y": frame["y"],
        "eval_set": [(valid.drop(columns="y"), valid["y"])],
        "identity": "the table of this test",
    }


@pytest.mark.parametrize(
    "parameters", [{}, pytest.param({"early_stopping_rounds": 5, "n_estimators": 600}, marks=pytest.mark.slow)]
)
def test_training_resumed_from_a_checkpoint_has_the_same_model(
    client: Client, table: Path, tmp_path: Path, parameters: dict[str, Any]
) -> None:
    settings = {"n_estimators": 25, "max_depth": 5, "learning_rate": 0.5, **parameters}
    estimator = xgboost.XGBClassifier(**settings)
    notices: list[str] = []
    whole = train_xgboost(estimator, **_declared(table), client=client, folder=None, notify=notices.append)
    assert (whole.restarts, whole.resumed_from, notices) == (0, 0, [])
    store = FileCheckpointStore(
        tmp_path, str(training_identity(estimator, "the table of this test", xgboost.__version__))
    )
    assert whole.rounds > 12
    killer = _WorkerKiller(
        client, tmp_path, 12, _kill_process, lambda: (checkpoint := store.load()) and checkpoint.rounds == 10
    )
    resumed = train_xgboost(
        estimator, **_declared(table), client=client, folder=tmp_path, every=5, wait_for_worker=DEADLINE,
        notify=notices.append,
    )  # fmt: skip
    name = killer.join()
    assert resumed.restarts == 1
    assert f"worker `{name}` was lost; continuing from round 10" in notices[0]
    assert resumed.history == whole.history
    assert resumed.rounds == whole.rounds
    dumps = [trained.model.get_booster().get_dump(with_stats=True) for trained in (whole, resumed)]
    assert dumps[0] == dumps[1]
    if "early_stopping_rounds" in parameters:
        assert resumed.model.best_iteration == whole.model.best_iteration == resumed.rounds - 6
    reused = train_xgboost(estimator, **_declared(table), client=client, folder=tmp_path, notify=notices.append)
    assert (reused.resumed_from, reused.rounds, reused.restarts) == (resumed.rounds, resumed.rounds, 0)
    assert "xgboost: reused all" in notices[-1]
    features = pandas.read_parquet(table / "6.parquet").drop(columns="y")
    numpy.testing.assert_array_equal(reused.model.predict_proba(features), whole.model.predict_proba(features))


def test_training_succeeds_without_writable_checkpoints(client: Client, table: Path, tmp_path: Path) -> None:
    estimator = xgboost.XGBClassifier(n_estimators=5)
    identity = str(training_identity(estimator, "the table of this test", xgboost.__version__))
    # A folder in place of the file can be neither read nor replaced.
    (tmp_path / f"training-{identity[:16]}" / f"{identity}.json").mkdir(parents=True)
    notices: list[str] = []
    trained = train_xgboost(
        estimator, **_declared(table), client=client, folder=tmp_path, every=1, notify=notices.append
    )
    assert (trained.rounds, trained.model.get_booster().num_boosted_rounds()) == (5, 5)
    assert [line.rpartition(": [Errno")[0] for line in notices] == [
        "xgboost: cannot read an earlier run's checkpoint",
        "xgboost: cannot keep checkpoints for another run",
    ]


@pytest.mark.filterwarnings("ignore:Parameter n_jobs will be ignored")
def test_lightgbm_training_restarts_after_losing_a_worker(client: Client, table: Path, tmp_path: Path) -> None:
    data = _declared(table)
    data.pop("identity")
    notices: list[str] = []
    killer = _WorkerKiller(client, tmp_path, 5, _kill_process)
    trained = train_lightgbm(
        lightgbm.LGBMClassifier(n_estimators=20, verbose=-1), **data, client=client, wait_for_worker=DEADLINE,
        notify=notices.append,
    )  # fmt: skip
    assert f"worker `{killer.join()}` was lost; restarting" in notices[0]
    assert (trained.restarts, trained.rounds) == (1, 20)
    assert type(trained.model) is lightgbm.LGBMClassifier
    assert len(trained.history["valid_0"]["binary_logloss"]) == 20


def test_labels_that_do_not_start_at_zero_are_rejected(client: Client, table: Path) -> None:
    data = _declared(table)
    data["y"] = data["y"] + 5
    with pytest.raises(ConfigError, match="the labels are 5, 6: XGBoost needs 0, 1, 2"):
        train_xgboost(xgboost.XGBClassifier(n_estimators=3), **data, client=client, folder=None)


def test_different_numbers_of_partitions_are_rejected(client: Client, table: Path) -> None:
    data = _declared(table)
    data["y"] = data["y"].repartition(npartitions=2)
    with pytest.raises(ConfigError, match="different numbers of partitions: 6, 2"):
        train_xgboost(xgboost.XGBClassifier(n_estimators=3), **data, client=client, folder=None)


@pytest.mark.filterwarnings("ignore:Parameter n_jobs will be ignored")
@pytest.mark.parametrize("estimator", ["xgboost.dask.DaskXGBClassifier", "lightgbm.DaskLGBMClassifier"])
def test_job_file_trains_on_data_in_pieces(client: Client, table: Path, tmp_path: Path, estimator: str) -> None:
    """The saved model is one for a single machine."""
    (tmp_path / "job.yaml").write_text(
        f"""
        estimator: {{class: {estimator}, parameters: {{n_estimators: 80}}}}
        data: {{path: "{table}/*.parquet", target: y}}
        outputs: {{model: model.joblib}}
        """
    )
    job = read_job(tmp_path / "job.yaml")
    placed = place_data(job, tmp_path, Workers(3, 10**9), shared_files=True)
    assert placed is not None
    assert placed.pieces
    run_declared(job, tmp_path, placed)
    model = joblib.load(tmp_path / "model.joblib")
    assert type(model).__name__ == estimator.rpartition(".Dask")[2]
    frame = pandas.concat([pandas.read_parquet(path) for path in sorted(table.glob("*.parquet"))])
    assert (model.predict(frame.drop(columns="y").to_numpy()) == frame["y"]).mean() > 0.8


# ---- searches


class _StartTogether(xgboost.callback.TrainingCallback):
    """Starts trainings when four are running."""

    barrier = threading.Barrier(4)

    def before_training(self, model: Any) -> Any:
        self.barrier.wait(DEADLINE)
        return model


class _MaxParallelTasks(WorkerPlugin):
    """Records the maximum number of tasks that a worker ran at the same time."""

    name = "max parallel tasks"

    def setup(self, worker: Any) -> None:
        self.worker = worker
        self.maximum = 0

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        self.maximum = max(self.maximum, len(self.worker.state.executing))


def test_gradient_boosting_in_a_search_uses_all_threads_of_a_worker() -> None:
    """Each fit uses the worker's four threads, so that one runs at a time; with `n_jobs=1`, four run."""
    X, y = make_classification(600, 8, random_state=0)
    with (
        forked_workers(),
        LocalCluster(
            n_workers=1, threads_per_worker=4, dashboard_address="127.0.0.1:0", host="127.0.0.1", memory_limit="2GB"
        ) as cluster,
        Client(cluster) as client,
    ):
        for estimator, parallel in (
            (xgboost.XGBClassifier(n_estimators=20), 1),
            (lightgbm.LGBMClassifier(n_estimators=20, verbose=-1), 1),
            (HistGradientBoostingClassifier(max_iter=20), 1),
            (xgboost.XGBClassifier(n_estimators=20, n_jobs=1, callbacks=[_StartTogether()]), 4),
        ):
            client.register_plugin(_MaxParallelTasks())
            search = GridSearchCV(estimator, {"max_depth": [3, 4]}, cv=4, refit=False)
            with parallel_config(backend="skjob", n_jobs=-1, client=client):
                search.fit(X, y)
            [maximum] = client.run(lambda dask_worker: dask_worker.plugins[_MaxParallelTasks.name].maximum).values()
            assert maximum == parallel, estimator
            assert numpy.isfinite(search.cv_results_["mean_test_score"]).all()


# ---- scripts run by skjob

SCRIPT = f"""
    import os, signal, threading, time
    import dask.array
    from dask.distributed import Client
    from lightgbm import DaskLGBMClassifier
    from xgboost.dask import DaskDMatrix, DaskXGBClassifier, train
    client = Client.current()
    X = dask.array.random.default_rng(0).random((6000, 4), chunks=(500, 4))
    y = (X[:, 0] > 0.5).astype(int)
    matrix = DaskDMatrix(client, X, y)
    print("workers", len(matrix.worker_map))
    trained = train(client, {{"objective": "binary:logistic"}}, matrix, 5, evals=[(matrix, "train")])
    print("rounds", trained["booster"].num_boosted_rounds(), len(trained["history"]["train"]["logloss"]), flush=True)

    def taking_part(name):
        processing = client.processing().items()
        return [address for address, keys in processing if any(str(key).startswith(name) for key in keys)]
    def kill(name):
        while not (workers := taking_part(name)):
            time.sleep(0.2)
        os.kill(client.run(os.getpid, workers=workers[:1])[workers[0]], signal.SIGKILL)
    def train_and_lose_worker(estimator, name):
        threading.Thread(target=kill, args=[name], daemon=True).start()
        estimator(n_estimators={ENDLESS}).fit(X, y)
        print("never")

    try:
        train_and_lose_worker(DaskXGBClassifier, "fn-")
    except Exception as error:
        print(f"{{type(error).__name__}}: {{error}}", flush=True)
    train_and_lose_worker(DaskLGBMClassifier, "_train_part-")
"""
"""The data is lazy, and one of three workers is connected at the start.

`kill` recognizes a library's tasks by their names, because tasks of the first training may still run when the second
one starts.
"""


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory, warm_clusters: WarmClusters) -> FinishedRun:
    """The finished run of the script."""
    return LocalRuns(tmp_path_factory.mktemp("script"), warm_clusters).run(SCRIPT, "--workers", "1:3")


def test_training_in_a_script_scales_up_to_all_workers(finished_run: FinishedRun) -> None:
    assert finished_run.stdout.split("\n")[:2] == ["workers 3", "rounds 5 5"], finished_run.stderr


@pytest.mark.parametrize(("library", "place"), [("xgboost", "stdout"), ("lightgbm", "stderr")])
def test_training_in_a_script_fails_after_its_worker_is_killed(
    finished_run: FinishedRun, library: str, place: str
) -> None:
    """The script catches the first error, and ends with the second."""
    assert finished_run.returncode == 1, finished_run.stderr
    assert "never" not in finished_run.stdout
    assert f"TrainingLost: `{library}.dask` cannot continue: worker `" in getattr(finished_run, place)
