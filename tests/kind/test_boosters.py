"""XGBoost and LightGBM on a real Kubernetes, in the user's environment; worker pods are deleted in mid-training.

One program, on one cluster, whose trainings follow each other: one of each library as a script calls it, and one with
checkpoints. It says when a training is under way, and waits until it knows that a pod was deleted.
"""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kubernetes import client
from support.runs import DEADLINE, Runs
from support.user_env import RunsIn

pytestmark = pytest.mark.slow  # tests/integration/test_boosters.py ends workers of trainings in every way

LIBRARIES = ("xgboost", "lightgbm")

PROGRAM = """
    import importlib, os, threading, time
    from pathlib import Path
    import dask.array
    from dask.distributed import Client
    from lightgbm import DaskLGBMClassifier
    from skjob.boosters.xgboost import train_xgboost
    from xgboost import XGBClassifier
    from xgboost.dask import DaskXGBClassifier

    client = Client.current()
    X = dask.array.random.default_rng(0).random((6000, 4), chunks=(500, 4))
    y = (X[:, 0] > 0.5).astype(int)

    def xgboost(rounds):
        return DaskXGBClassifier(n_estimators=rounds).fit(X, y, eval_set=[(X, y)])

    def lightgbm(rounds):
        return DaskLGBMClassifier(n_estimators=rounds, verbose=-1).fit(X, y, eval_set=[(X, y)])

    # These two run on workers.
    def count(library, halt):
        module = importlib.import_module(library)
        update = getattr(module.Booster.update, "counted", module.Booster.update)
        module.rounds = 0
        def counted(self, *arguments, **keywords):
            module.rounds += 1
            while module.rounds == halt and not os.path.exists("/tmp/go-on"):
                time.sleep(0.1)
            return update(self, *arguments, **keywords)
        counted.counted = update
        module.Booster.update = counted

    def rounds(library):
        return importlib.import_module(library).rounds

    def tell(library, is_so):
        while min(client.run(rounds, library).values()) < 3 or not is_so():
            time.sleep(0.1)
        print("in mid-training", flush=True)

    def begin(library, is_so=lambda: True, halt=None):
        client.wait_for_workers(2, timeout=400)
        client.run(count, library, halt)
        threading.Thread(target=tell, args=(library, is_so), daemon=True).start()

    def accuracy(fit):
        print("accuracy", round(float((fit(5).predict(X) == y).mean().compute()), 1), flush=True)

    for fit in (xgboost, lightgbm):
        accuracy(fit)
        begin(fit.__name__)
        try:
            fit(1_000_000)
        except RuntimeError as error:
            print(type(error).__name__, error, flush=True)
        accuracy(fit)
        print("over", flush=True)

    def train(folder, every):
        estimator = XGBClassifier(n_estimators=ROUNDS, max_depth=4)
        return train_xgboost(estimator, X, y, client=client, folder=folder, every=every)

    def go_on():
        while not Path("deleted").exists():
            time.sleep(0.1)
        client.run(Path("/tmp/go-on").touch, on_error="ignore")

    threading.Thread(target=go_on, daemon=True).start()
    begin("xgboost", lambda: list(Path("checkpoints").rglob("*.json")), halt=100)
    trained = train("checkpoints", 20)
    print("rounds", trained.rounds, "restarts", trained.restarts, flush=True)
    print("same", trained.model.get_booster().get_dump() == train(None, 10_000).model.get_booster().get_dump())
    print("over", flush=True)
    raise SystemExit(3)
"""
ROUNDS = 200


@pytest.fixture(scope="module")
def told(
    user_runs_in: RunsIn, kind_api: client.ApiClient, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[str]]:
    """What the program has printed of each training; a worker pod is deleted when it says that it is under way."""
    runs = user_runs_in(tmp_path_factory.mktemp("trainings"))
    with _started(runs, PROGRAM.replace("ROUNDS", str(ROUNDS))) as process:
        assert process.stdout is not None
        errors: list[str] = []
        reader = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
        reader.start()
        told: dict[str, list[str]] = {}
        for training in (*LIBRARIES, "checkpoints"):
            told[training] = list(_until("in mid-training", process))
            assert told[training][-1:] == ["in mid-training"], "".join(errors)
            _delete_a_worker(runs, kind_api)
            if training == "checkpoints":
                (runs.folder / "deleted").touch()
            told[training] += _until("over", process)
        code = process.wait(DEADLINE)
        reader.join(DEADLINE)
    assert code == 3, "".join(errors)
    return told


@contextmanager
def _started(runs: Runs, script: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        runs.command(script), cwd=runs.folder, env=runs.environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        limit = threading.Timer(DEADLINE, process.kill)
        limit.start()
        try:
            yield process
        finally:
            limit.cancel()
            process.kill()


def _until(end: str, process: subprocess.Popen[str]) -> Iterator[str]:
    """The lines that it prints, up to this one."""
    for line in process.stdout or ():
        yield line.strip()
        if line.strip() == end:
            return


def _delete_a_worker(runs: Runs, kind_api: client.ApiClient) -> None:
    core = client.CoreV1Api(kind_api)
    its = f"dask.org/component=worker,skjob/run={runs.record()['run_id']}"
    pod, *_ = core.list_namespaced_pod(runs.namespace, label_selector=its).items
    core.delete_namespaced_pod(pod.metadata.name, runs.namespace, grace_period_seconds=0)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_training_in_a_script_whose_worker_pod_is_deleted_ends_with_an_error(
    told: dict[str, list[str]], library: str
) -> None:
    """And the next training, on the same cluster, works."""
    lines = told[library]
    assert [line for line in lines if line.startswith("accuracy")] == ["accuracy 1.0"] * 2
    [lost] = [line for line in lines if line.startswith("TrainingLost")]
    assert f"`{library}.dask` cannot continue: worker `" in lost


def test_a_training_with_checkpoints_goes_on_when_its_worker_pod_is_deleted(told: dict[str, list[str]]) -> None:
    lines = told["checkpoints"]
    went_on = re.search(r"was lost; continuing from round (\d+)", lines[1])
    assert went_on is not None, lines
    assert 0 < int(went_on[1]) < ROUNDS
    assert lines[2:] == [f"rounds {ROUNDS} restarts 1", "same True", "over"]
