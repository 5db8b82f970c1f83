"""XGBoost and LightGBM on a real Kubernetes, in the user's environment; a worker pod is deleted in mid-training."""

from __future__ import annotations

import re
import subprocess
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from kubernetes import client
from runs import DEADLINE, Runs

DATA = """
    import threading, time
    from pathlib import Path
    import dask.array
    from dask.distributed import Client
    client = Client.current()
    X = dask.array.random.default_rng(0).random((6000, 4), chunks=(500, 4))
    y = (X[:, 0] > 0.5).astype(int)
"""

TELL = """
    def parts():
        keys = [str(key) for keys in client.processing().values() for key in keys]
        return [key for key in keys if key.startswith(("fn-", "_train_part-"))]

    def tell():
        while len(parts()) < 2:
            time.sleep(0.2)
        time.sleep(3)
        print("in mid-training", flush=True)
"""

IN_A_SCRIPT = {
    "xgboost.dask": """
    from xgboost.dask import DaskXGBClassifier
    def fit(rounds): return DaskXGBClassifier(n_estimators=rounds).fit(X, y, eval_set=[(X, y)])
""",
    "lightgbm.dask": """
    from lightgbm import DaskLGBMClassifier
    def fit(rounds): return DaskLGBMClassifier(n_estimators=rounds, verbose=-1).fit(X, y, eval_set=[(X, y)])
""",
}

ENDLESS = """
    print("accuracy", round(float((fit(5).predict(X) == y).mean().compute()), 1), flush=True)
    threading.Thread(target=tell, daemon=True).start()
    try:
        fit(1_000_000)
    except RuntimeError as error:
        print(type(error).__name__, error, flush=True)
    print("accuracy", round(float((fit(5).predict(X) == y).mean().compute()), 1), flush=True)
    raise SystemExit(3)
"""

GOES_ON = """
    from skjob.boosters.xgboost import train_xgboost
    from xgboost import XGBClassifier
    def train(folder, every):
        estimator = XGBClassifier(n_estimators=3000, max_depth=4)
        return train_xgboost(estimator, X, y, client=client, folder=folder, every=every)

    def tell():
        while not list(Path("checkpoints").rglob("*.json")):
            time.sleep(0.1)
        print("in mid-training", flush=True)

    threading.Thread(target=tell, daemon=True).start()
    trained = train("checkpoints", 20)
    print("rounds", trained.rounds, "restarts", trained.restarts, flush=True)
    print("same", trained.model.get_booster().get_dump() == train(None, 10_000).model.get_booster().get_dump())
"""


@dataclass(frozen=True)
class _Ended:
    code: int
    lines: list[str]
    errors: str
    seconds: float


@contextmanager
def _started(runs: Runs, script: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        runs.command(textwrap.dedent(script)), cwd=runs.folder, env=runs.environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def _with_a_pod_deleted(runs: Runs, kind_api: client.ApiClient, namespace: str, script: str) -> _Ended:
    """Run it, delete a worker pod when it says that it is in mid-training, and wait for its end."""
    with _started(runs, script) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        errors: list[str] = []
        reader = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
        reader.start()
        limit = threading.Timer(DEADLINE, process.kill)
        limit.start()
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if line.startswith("in mid-training"):
                break
        assert lines[-1:] == ["in mid-training"], "".join(errors)
        core = client.CoreV1Api(kind_api)
        its = f"dask.org/component=worker,skjob/run={runs.record()['run_id']}"  # the last test's may still be there
        pods = core.list_namespaced_pod(namespace, label_selector=its).items
        core.delete_namespaced_pod(pods[0].metadata.name, namespace, grace_period_seconds=0)
        at = time.monotonic()
        first = process.stdout.readline()
        seconds = time.monotonic() - at
        lines += [first.strip(), *(line.strip() for line in process.stdout)]
        code = process.wait(DEADLINE)
        limit.cancel()
        reader.join(DEADLINE)
    return _Ended(code, lines, "".join(errors), seconds)


@pytest.mark.parametrize("library", list(IN_A_SCRIPT))
def test_a_training_in_a_script_whose_worker_pod_is_deleted_ends_with_an_error(
    user_runs: Runs, kind_api: client.ApiClient, user_namespace: str, library: str
) -> None:
    """And the next training, on the same cluster, works."""
    ended = _with_a_pod_deleted(user_runs, kind_api, user_namespace, DATA + TELL + IN_A_SCRIPT[library] + ENDLESS)
    print(f"{library}: told after {ended.seconds:.1f} s: {ended.lines[-2:]}")
    assert ended.code == 3, ended.errors
    assert [line for line in ended.lines if line.startswith("accuracy")] == ["accuracy 1.0"] * 2
    [told] = [line for line in ended.lines if line.startswith("TrainingLost")]
    assert f"`{library}` can't go on: worker `" in told


def test_a_training_with_checkpoints_goes_on_when_its_worker_pod_is_deleted(
    user_runs: Runs, kind_api: client.ApiClient, user_namespace: str
) -> None:
    ended = _with_a_pod_deleted(user_runs, kind_api, user_namespace, DATA + GOES_ON)
    print(f"goes on: told after {ended.seconds:.1f} s: {ended.lines[-3:]}")
    assert ended.code == 0, ended.errors
    went_on = re.search(r"went away; goes on from round (\d+)", ended.lines[1])
    assert went_on is not None, ended.lines
    assert 0 < int(went_on[1]) < 3000
    assert ended.lines[2:] == ["rounds 3000 restarts 1", "same True"]
