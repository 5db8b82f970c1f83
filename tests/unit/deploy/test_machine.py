"""What this machine has to offer, in a container too."""

from __future__ import annotations

import subprocess
import sys

import pytest
from dask import system
from distributed.system import MEMORY_LIMIT

from skjob.config.plan import make_plan
from skjob.config.settings import Place, Settings, WorkerRange
from skjob.deploy import machine
from skjob.deploy.machine import ThisMachine

pytestmark = pytest.mark.unit


def test_a_container_has_the_cores_and_memory_of_its_cgroup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a node with 64 cores, in a pod with two."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(system, "CPU_COUNT", 2)
    monkeypatch.setattr(machine._distributed_system(), "MEMORY_LIMIT", 4 * 2**30)
    plan = make_plan(Settings(), Place.LOCAL, "", ThisMachine(), "3.11")
    assert (plan.workers, plan.size.memory) == (WorkerRange(2, 2), 2 * 2**30)


def test_memory_is_read_without_importing_distributed() -> None:
    """That takes a second, which a start on this machine would wait for."""
    script = (
        "import sys; from skjob.deploy.machine import ThisMachine; memory = ThisMachine().memory;"
        "print(memory, 'distributed' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [str(MEMORY_LIMIT), "False"]
