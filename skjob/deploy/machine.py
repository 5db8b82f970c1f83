"""Find out how many cores and how much memory this machine has, as far as its cgroups let this process use them.

In a container that is less than the node has: a pod with 2 cores on a node with 64 gets 2 workers. Dask reads the
limits, so that skjob and a `LocalCluster` started by the program agree:

- cores, `dask.system.cpu_count`: the smallest of the machine's, those that this process may be scheduled on
  (`sched_getaffinity`), and the CPU quota, rounded up: `cpu.max` of this process's own group (cgroup v2; the group is
  in `/proc/self/cgroup`), or `cpu.cfs_quota_us / cpu.cfs_period_us` (v1).
- memory, `distributed.system.memory_limit`: the smallest of the machine's, `memory.max`, `memory.high` and `memory.low`
  (v2) or `memory.limit_in_bytes` and `memory.soft_limit_in_bytes` (v1), and the limit `RLIMIT_RSS`. These files are
  read from the root of `/sys/fs/cgroup`. In a container that is the container's own group; outside of one, a memory
  limit of this process's group alone, as set by `systemd-run -p MemoryMax=`, is not found.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cached_property
from pathlib import Path
from types import ModuleType

from skjob.config.plan import Machine


class ThisMachine(Machine):
    """This machine, inspected when a value is needed: importing Dask for it takes a third of a second."""

    def __init__(self) -> None:
        """Create it without inspecting anything."""

    @cached_property
    def cores(self) -> int:
        """Cores that this process may use."""
        from dask.system import cpu_count

        return int(cpu_count())

    @cached_property
    def memory(self) -> int:
        """Bytes of memory that this process may use."""
        return int(_distributed_system().memory_limit())


def _distributed_system() -> ModuleType:
    """Return the module `distributed.system`, without importing the whole of distributed.

    That takes a second, and can wait until the cluster's process does the same.
    """
    package = None if "distributed" in sys.modules else importlib.util.find_spec("distributed")
    for folder in (package.submodule_search_locations if package else None) or ():
        spec = importlib.util.spec_from_file_location("distributed.system", Path(folder) / "system.py")
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    return importlib.import_module("distributed.system")
