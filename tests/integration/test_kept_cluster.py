"""`skjob.Cluster`, which stays open until it is closed: several clusters, scaling, and every way to end."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from local_runs import user_environment
from waiting import DEADLINE, wait_until_gone

pytestmark = pytest.mark.integration

TWO_CLUSTERS = """
    import os, time
    from contextlib import suppress
    import joblib, skjob, skjob.errors
    from joblib import Parallel, delayed

    def worker():
        time.sleep(0.2)  # very short calls would run in the program's process
        return os.getpid()

    def workers_used():
        used = set(Parallel(n_jobs=2)(delayed(worker)() for _ in range(4)))
        return [name for name, each in (("first", first), ("second", second))
                if each.status == "ready" and used <= set(each.client.run(os.getpid).values())]

    def until(number, cluster):
        deadline = time.monotonic() + 60
        while len(cluster.client.ncores()) != number and time.monotonic() < deadline:
            time.sleep(0.1)
        return len(cluster.client.ncores())

    first = skjob.Cluster(1, on="local", checkpoint="none", set_env={"MY_LEVEL": "1"})
    second = skjob.Cluster(1, on="local", checkpoint="none", set_env={"MY_LEVEL": "2"})
    print(os.environ["MY_LEVEL"], workers_used())
    second.scale("3:3")
    print(until(3, second))
    second.scale(1)
    print(until(1, second))
    first.close()
    first.close()
    print(first.status, os.environ["MY_LEVEL"], workers_used())
    print(repr(second).splitlines()[0].replace(second.name, "NAME"))
    second.close()
    print(os.environ.get("MY_LEVEL"), type(joblib.parallel.get_active_backend()[0]).__name__)
    with suppress(skjob.errors.ConfigError):
        first.client
        print("it still has a client")
"""

REPLACED = """
    import skjob
    cluster = skjob.Cluster(1, on="local", checkpoint="none")
    before = cluster._session
    cluster = skjob.Cluster(1, on="local", checkpoint="none")
    print(before.state.status.value, cluster.status)
"""

WAITING = """
    import time
    import skjob
    cluster = skjob.Cluster(1, on="local", checkpoint="none")
    print("open", flush=True)
    time.sleep(600)
"""

INTERRUPTED = """
    import time
    import skjob
    from sklearn.datasets import load_iris
    from sklearn.model_selection import cross_val_score
    from sklearn.svm import SVC

    class Slow(SVC):
        def fit(self, X, y):
            time.sleep(0.2 if self.C == 1 else 600)
            return super().fit(X, y)

    X, y = load_iris(return_X_y=True)
    with skjob.cluster(2, on="local", checkpoint="fits"):
        cross_val_score(Slow(random_state=0), X, y, cv=4)
        print("half", flush=True)
        cross_val_score(Slow(C=2, random_state=0), X, y, cv=4)
"""


def _environment(folder: Path) -> dict[str, str]:
    (folder / "scratch").mkdir()
    return user_environment(folder) | {"TMPDIR": str(folder / "scratch")}


def _command(folder: Path, program: str) -> list[str]:
    (folder / "train.py").write_text(textwrap.dedent(program))
    return [sys.executable, "train.py"]


def _run(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(folder, program), cwd=folder, env=_environment(folder), capture_output=True, text=True,
        timeout=DEADLINE,
    )  # fmt: skip


@pytest.mark.slow
def test_first_of_two_clusters_can_be_closed_first(tmp_path: Path) -> None:
    ended = _run(tmp_path, TWO_CLUSTERS)
    assert ended.stdout.splitlines() == [
        "2 ['second']",
        "3",
        "1",
        "closed 2 ['second']",
        "skjob cluster NAME: ready",
        "None LokyBackend",
    ], ended.stderr
    assert wait_until_gone(tmp_path) == []


def test_replaced_cluster_and_last_cluster_are_closed(tmp_path: Path) -> None:
    ended = _run(tmp_path, REPLACED)
    assert (ended.returncode, ended.stdout) == (0, "closed ready\n"), ended.stderr
    assert "Error" not in ended.stderr
    assert wait_until_gone(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_after_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        _command(tmp_path, WAITING), cwd=tmp_path, env=_environment(tmp_path), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        assert program.stdout.readline() == "open\n"
        program.send_signal(number)
        _, stderr = program.communicate(timeout=DEADLINE)
    assert program.returncode == -number, stderr
    assert wait_until_gone(tmp_path) == []


def test_interrupted_block_reports_stored_fits(tmp_path: Path) -> None:
    with subprocess.Popen(
        _command(tmp_path, INTERRUPTED), cwd=tmp_path, env=_environment(tmp_path), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        assert program.stdout.readline() == "half\n"
        program.send_signal(signal.SIGINT)
        _, stderr = program.communicate(timeout=DEADLINE)
    saved = re.findall(r"skjob: interrupted; (\d+) fits are saved: run it again for the rest\n", stderr)
    assert saved == ["4"], stderr
