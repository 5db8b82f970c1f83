"""Test how much this machine offers, in a container too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from dask import system
from distributed.system import MEMORY_LIMIT

from skjob.config.plan import make_plan
from skjob.config.settings import Place, Settings, WorkerRange
from skjob.deploy import machine
from skjob.deploy.machine import ThisMachine

pytestmark = pytest.mark.unit


GIB = 2**30
VERSION_2 = {"/proc/self/cgroup": "0::/\n"}
VERSION_1 = {"/proc/self/cgroup": "3:memory:/kubepods/pod1\n2:cpu,cpuacct:/kubepods/pod1\n"}
NO_QUOTA = {"cpu.max": "max 100000\n", "memory.max": "max\n", "memory.high": "max\n", "memory.low": "0\n"}


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str]], None]:
    """Fake a node with 64 cores and 256 GiB, whose `/sys/fs/cgroup` and `/proc/self/cgroup` hold only these files.

    Dask opens them by their fixed paths, so its two modules get an `open` that looks for them in the test's folder.
    """
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr("os.process_cpu_count", lambda: 64, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr(system, "psutil", None)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=256 * GIB))
    monkeypatch.setattr("resource.getrlimit", lambda _: (-1, -1))
    for module in (system, machine._distributed_system()):
        monkeypatch.setattr(module, "open", lambda path: StringIO(Path(f"{tmp_path}{path}").read_text()), raising=False)

    def write(files: Mapping[str, str]) -> None:
        for path, text in files.items():
            file = Path(f"{tmp_path}{path if path.startswith('/') else f'/sys/fs/cgroup/{path}'}")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    return write


@pytest.mark.skipif(sys.platform != "linux", reason="cgroups are Linux's")
@pytest.mark.parametrize(
    ("files", "cores", "memory"),
    [
        ({}, 64, 256 * GIB),
        (VERSION_2 | NO_QUOTA, 64, 256 * GIB),
        (VERSION_2 | NO_QUOTA | {"cpu.max": "200000 100000\n", "memory.max": f"{4 * GIB}\n"}, 2, 4 * GIB),
        (VERSION_2 | NO_QUOTA | {"cpu.max": "150000 100000\n", "memory.high": f"{3 * GIB}\n"}, 2, 3 * GIB),
        (VERSION_2 | {"cpu.max": "6400000 50000\n", "memory.max": f"{512 * GIB}\n"}, 64, 256 * GIB),
        ({"/proc/self/cgroup": "0::/user.slice\n", "user.slice/cpu.max": "300000 100000\n"}, 3, 256 * GIB),
        (
            VERSION_1
            | {
                "cpu,cpuacct/cpu.cfs_quota_us": "400000\n",
                "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "memory/memory.limit_in_bytes": f"{8 * GIB}\n",
            },
            4,
            8 * GIB,
        ),
    ],
)
def test_a_container_has_the_cores_and_memory_of_its_cgroup(
    files: dict[str, str], cores: int, memory: int, cgroup: Callable[[Mapping[str, str]], None]
) -> None:
    cgroup(files)
    here = ThisMachine()
    assert (here.cores, here.memory) == (cores, memory)


@pytest.mark.skipif(sys.platform != "linux", reason="cgroups are Linux's")
def test_a_pod_with_two_cores_gets_two_workers(cgroup: Callable[[Mapping[str, str]], None]) -> None:
    cgroup(VERSION_2 | {"cpu.max": "200000 100000\n", "memory.max": f"{4 * GIB}\n"})
    plan = make_plan(Settings(), Place.LOCAL, "", ThisMachine(), "3.11")
    assert (plan.workers, plan.size.memory) == (WorkerRange(2, 2), 2 * GIB)


def test_memory_is_read_without_importing_distributed() -> None:
    """That takes a second, for which a start on this machine would wait."""
    script = (
        "import sys; from skjob.deploy.machine import ThisMachine; memory = ThisMachine().memory;"
        "print(memory, 'distributed' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [str(MEMORY_LIMIT), "False"]
