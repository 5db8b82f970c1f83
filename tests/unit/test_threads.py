"""A fit's own numerics get their share of the cores, on a worker that nobody has told. A process for each case."""

import json
import os
import subprocess
import sys
from typing import Any

import joblib
import pytest

from skjob.engine.threads import VARIABLES

CODE = """
import json, os, sys
import numpy, threadpoolctl
from types import SimpleNamespace
from skjob.engine.threads import VARIABLES, limit_inner_threads

def worker():
    nanny = "tcp://10.0.0.1:40001" if sys.argv[1] == "nanny" else None
    return SimpleNamespace(nanny=nanny, state=SimpleNamespace(nthreads=int(sys.argv[2])))

def pools():
    return [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]

if sys.argv[1] != "no worker":  # else it is Dask that says so
    sys.modules["distributed"] = SimpleNamespace(get_worker=worker)
before = pools()
limit_inner_threads()
after = pools()
variables = {name: os.environ.get(name) for name in VARIABLES}
if len(sys.argv) > 3:  # the user's own, after the first task
    os.environ.update(dict.fromkeys(VARIABLES, "7"))
    with threadpoolctl.threadpool_limits(1):
        limit_inner_threads()
        assert pools() == [1] * len(pools())
    assert [os.environ[name] for name in VARIABLES] == ["7"] * len(VARIABLES)
print(json.dumps([before, after, variables]))
"""


def _limited(*arguments: str, **environment: str) -> tuple[list[int], list[int], dict[str, Any]]:
    """Threads of numpy's own libraries before and after, and what the environment says after."""
    inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    ended = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stderr == ""
    before, after, variables = json.loads(ended.stdout)
    assert before  # numpy has at least one
    return before, after, variables


@pytest.mark.parametrize("threads", [1, 2, 1000])
def test_a_workers_threads_share_its_cores(threads: int) -> None:
    share = max(1, joblib.cpu_count() // threads)
    before, after, variables = _limited("nanny", str(threads))
    assert after == [share] * len(before)
    assert variables == dict.fromkeys(VARIABLES, str(share))


def test_cores_are_those_that_joblib_counts() -> None:
    """It knows the limits of containers, and what the user allows it."""
    _, after, variables = _limited("nanny", "1", LOKY_MAX_CPU_COUNT="1")
    assert set(after) == {1}
    assert variables == dict.fromkeys(VARIABLES, "1")


@pytest.mark.parametrize("name", VARIABLES)
def test_what_the_environment_says_is_left_alone(name: str) -> None:
    before, after, variables = _limited("nanny", "1000", **{name: "2"})
    assert after == before
    assert variables == {**dict.fromkeys(VARIABLES), name: "2"}


@pytest.mark.parametrize("where", ["no worker", "a worker in this process"])
def test_the_users_own_process_is_left_alone(where: str) -> None:
    """Where there is no worker, or one that is a part of it."""
    before, after, variables = _limited(where, "1000")
    assert after == before
    assert variables == dict.fromkeys(VARIABLES)


def test_it_is_done_once_in_a_process() -> None:
    """What the user's fits change later stays changed."""
    _, after, variables = _limited("nanny", "1000", "again")
    assert set(after) == {1}
    assert variables == dict.fromkeys(VARIABLES, "1")
