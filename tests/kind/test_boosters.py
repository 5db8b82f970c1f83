"""XGBoost and LightGBM on a real Kubernetes, in the user's environment; worker pods are deleted during training.

One program runs all trainings, one after the other on one cluster: one of each library as a script calls it, and one
with checkpoints. It prints a line while a training is running, and waits until a pod was deleted.
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

pytestmark = pytest.mark.slow  # tests/integration/test_boosters.py covers every way to end a worker

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

    # These two functions run on workers.
    def count(library, pause_at):
        module = importlib.import_module(library)
        update = getattr(module.Booster.update, "counted", module.Booster.update)
        module.rounds = 0
        def counted(self, *arguments, **keywords):
            module.rounds += 1
            while module.rounds == pause_at and not os.path.exists("/tmp/resume"):
                time.sleep(0.1)
            return update(self, *arguments, **keywords)
        counted.counted = update
        module.Booster.update = counted

    def rounds(library):
        return importlib.import_module(library).rounds

    def report_running(library, condition):
        while min(client.run(rounds, library).values()) < 3 or not condition():
            time.sleep(0.1)
        print("training is running", flush=True)

    def start_reporting(library, condition=lambda: True, pause_at=None):
        client.wait_for_workers(2, timeout=400)
        client.run(count, library, pause_at)
        threading.Thread(target=report_running, args=(library, condition), daemon=True).start()

    def print_accuracy(fit):
        print("accuracy", round(float((fit(5).predict(X) == y).mean().compute()), 1), flush=True)

    for fit in (xgboost, lightgbm):
        print_accuracy(fit)
        start_reporting(fit.__name__)
        try:
            fit(1_000_000)
        except RuntimeError as error:
            print(type(error).__name__, error, flush=True)
        print_accuracy(fit)
        print("end", flush=True)

    def train(folder, every):
        estimator = XGBClassifier(n_estimators=ROUNDS, max_depth=4)
        return train_xgboost(estimator, X, y, client=client, folder=folder, every=every)

    def resume():
        while not Path("pod-deleted").exists():
            time.sleep(0.1)
        client.run(Path("/tmp/resume").touch, on_error="ignore")

    threading.Thread(target=resume, daemon=True).start()
    start_reporting("xgboost", lambda: list(Path("checkpoints").rglob("*.json")), pause_at=100)
    trained = train("checkpoints", 20)
    print("rounds", trained.rounds, "restarts", trained.restarts, flush=True)
    print("same", trained.model.get_booster().get_dump() == train(None, 10_000).model.get_booster().get_dump())
    print("end", flush=True)
    raise SystemExit(3)
"""
ROUNDS = 200


@pytest.fixture(scope="module")
def training_output(
    user_runs_in: RunsIn, kind_api: client.ApiClient, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[str]]:
    """Run the program, delete a worker pod during each training, and return the lines printed about each training."""
    runs = user_runs_in(tmp_path_factory.mktemp("trainings"))
    with _start_program(runs, PROGRAM.replace("ROUNDS", str(ROUNDS))) as process:
        assert process.stdout is not None
        errors: list[str] = []
        reader = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
        reader.start()
        lines: dict[str, list[str]] = {}
        for training in (*LIBRARIES, "checkpoints"):
            lines[training] = list(_until("training is running", process))
            assert lines[training][-1:] == ["training is running"], "".join(errors)
            _delete_worker(runs, kind_api)
            if training == "checkpoints":
                (runs.folder / "pod-deleted").touch()
            lines[training] += _until("end", process)
        code = process.wait(DEADLINE)
        reader.join(DEADLINE)
    assert code == 3, "".join(errors)
    return lines


@contextmanager
def _start_program(runs: Runs, script: str) -> Iterator[subprocess.Popen[str]]:
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
    """Yield the lines that the process prints, up to and including this one."""
    for line in process.stdout or ():
        yield line.strip()
        if line.strip() == end:
            return


def _delete_worker(runs: Runs, kind_api: client.ApiClient) -> None:
    core = client.CoreV1Api(kind_api)
    selector = f"dask.org/component=worker,skjob/run={runs.record()['run_id']}"
    pod, *_ = core.list_namespaced_pod(runs.namespace, label_selector=selector).items
    core.delete_namespaced_pod(pod.metadata.name, runs.namespace, grace_period_seconds=0)


@pytest.mark.parametrize("library", LIBRARIES)
def test_training_fails_after_a_worker_pod_is_deleted(training_output: dict[str, list[str]], library: str) -> None:
    """The next training on the same cluster succeeds."""
    lines = training_output[library]
    assert [line for line in lines if line.startswith("accuracy")] == ["accuracy 1.0"] * 2
    [lost] = [line for line in lines if line.startswith("TrainingLost")]
    assert f"`{library}.dask` cannot continue: worker `" in lost


def test_training_with_checkpoints_resumes_after_a_worker_pod_is_deleted(training_output: dict[str, list[str]]) -> None:
    lines = training_output["checkpoints"]
    resumed = re.search(r"was lost; continuing from round (\d+)", lines[1])
    assert resumed is not None, lines
    assert 0 < int(resumed[1]) < ROUNDS
    assert lines[2:] == [f"rounds {ROUNDS} restarts 1", "same True", "end"]
