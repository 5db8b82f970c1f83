"""A program's own processes work as in plain Python, and its client still works afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from local_runs import LocalRuns, user_environment
from waiting import DEADLINE, MAX_TIME

PROGRAM = """
import multiprocessing, os, sys, threading
from concurrent.futures import ProcessPoolExecutor

import dask, joblib
from joblib import Parallel, delayed
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score


def evaluate(C):
    scores = cross_val_score(LogisticRegression(C=C, max_iter=300), *load_iris(return_X_y=True), cv=3)
    backend, n_jobs = joblib.parallel.get_active_backend()
    return round(float(scores.mean()), 4), type(backend).__name__, n_jobs, dask.delayed(C).compute()


def search(n_jobs):
    grid = GridSearchCV(LogisticRegression(max_iter=300), {{"C": [0.1, 1.0, 10.0]}}, cv=3, n_jobs=n_jobs)
    grid.fit(*load_iris(return_X_y=True))
    return grid.best_params_, round(float(grid.best_score_), 4)


def fork(act, leave):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        print(act(), flush=True)
        leave(3)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
{children}
    print(search(None))
    print(os.getpid() in Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(4)))
"""

CHILDREN = {
    "fork pool": """
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(evaluate, [0.1, 1.0, 10.0]))
    """,
    "spawn pool": """
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            print(pool.map(evaluate, [0.1, 1.0]))
    """,
    "fork server pool": """
        with multiprocessing.get_context("forkserver").Pool(2) as pool:
            print(pool.map(evaluate, [0.1, 1.0]))
    """,
    "executor": """
        with ProcessPoolExecutor(2) as pool:
            print(list(pool.map(evaluate, [0.1, 1.0, 10.0])))
    """,
    # Searches run one after the other, because joblib's processes would not survive a fork in plain Python.
    "fork after a search, left in both ways": """
        print(search(None))
        print(fork(lambda: evaluate(1.0), os._exit))
        print(fork(lambda: evaluate(1.0), sys.exit))
        with joblib.parallel_config(n_jobs=1):
            print(fork(lambda: search(None), sys.exit))
    """,
    "fork while another thread searches": """
        evaluate(1.0)
        results = []
        searching = threading.Thread(target=lambda: results.extend(search(None) for _ in range(3)))
        searching.start()
        for _ in range(4):
            print(fork(lambda: evaluate(1.0), sys.exit))
        searching.join()
        print(results)
    """,
}


SLOW = {
    "fork server pool",
    "spawn pool",
    "executor",
    "fork while another thread searches",
    "fork after a search, left in both ways",
}


@pytest.mark.parametrize(
    "children", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in CHILDREN]
)
def test_child_processes_work_as_in_plain_python(local_runs: LocalRuns, children: str) -> None:
    program = PROGRAM.format(children=CHILDREN[children].replace("\n    ", "\n"))
    plain = local_runs.python(program)
    assert plain.returncode == 0, plain.stderr
    ended = local_runs.run(program, "--max-time", MAX_TIME)
    assert (ended.returncode, ended.stdout, ended.program_stderr) == (0, plain.stdout, plain.stderr), ended.stderr
    assert ended.record["fits"]["kept"] >= 9  # the parent's fits, on workers


def test_failing_child_does_not_end_the_run(local_runs: LocalRuns) -> None:
    program = """
        import os

        child = os.fork()
        if child == 0:
            raise ValueError("in the child")
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    ended = local_runs.run(program, "--max-time", MAX_TIME)
    assert (ended.returncode, ended.stdout) == (0, "1\n"), ended.stderr
    assert ended.program_stderr.endswith("ValueError: in the child\n")
    assert ended.record["outcome"] == {"status": "succeeded", "exit_code": 0, "cause": None, "cleanup": None}


def test_child_does_not_close_the_cluster_of_its_parent(tmp_path: Path) -> None:
    """A child that leaves the block of `skjob.cluster()` closes and deletes nothing."""
    program = """
        import os, sys

        import joblib
        import skjob
        from joblib import Parallel, delayed

        def pids():
            return set(Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(4)))

        with skjob.cluster(on="local", workers=1, checkpoint="none") as client:
            child = os.fork()
            if child == 0:
                print(type(joblib.parallel.get_active_backend()[0]).__name__, client.status, flush=True)
                sys.exit(3)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            print(pids() == set(client.run(os.getpid).values()))
    """
    (tmp_path / "train.py").write_text("\n".join(line[8:] for line in program.splitlines()))
    ended = subprocess.run(
        [sys.executable, "train.py"], cwd=tmp_path, env=user_environment(tmp_path), capture_output=True,
        text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, "LokyBackend closed\n3\nTrue\n"), ended.stderr
