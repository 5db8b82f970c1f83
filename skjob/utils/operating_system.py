"""What differs between operating systems, in one place: what only Linux has, and what macOS has instead.

skjob's own machine is a user's, with Linux or macOS; scheduler and workers on Kubernetes run Linux. No other module
reads the kernel's files or asks which system this is (tests/unit/test_portability.py). Each function says what it
returns where there is no answer.
"""

from __future__ import annotations

import os
import platform
import select
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from skjob.errors import ConfigError

ON_LINUX = sys.platform == "linux"
ON_MACOS = sys.platform == "darwin"

_MACHINES = {"arm64": "aarch64", "amd64": "x86_64"}


def check_supported(system: str = sys.platform) -> None:
    """Raise ConfigError on a system that skjob does not run on: Windows has neither its signals nor its processes."""
    if system in ("win32", "cygwin"):
        raise ConfigError(
            "skjob needs Linux or macOS, and this is Windows",
            "use it in WSL2 (`wsl --install`), with a Python that is installed there",
        )


def machine() -> str:
    """Return the kind of processor as Linux calls it, `x86_64` or `aarch64`; macOS says `arm64`."""
    return linux_machine(platform.machine())


def linux_machine(name: str) -> str:
    """Return a processor's architecture as Linux calls it: `x86_64` for `amd64`, `aarch64` for `arm64`."""
    return _MACHINES.get(name.lower(), name)


def processor() -> str:
    """Return the model of the processor; macOS tells only its kind."""
    lines = []
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def variables_at_start() -> dict[bytes, bytes] | None:
    """Return the environment that this process was started with; None if the system does not keep it."""
    try:
        entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return dict(entry.split(b"=", 1) for entry in entries if b"=" in entry)


def peak_memory() -> int:
    """Return the most memory that this process has used, in bytes."""
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if ON_MACOS else most * 1024  # Linux counts kibibytes


def children() -> list[int]:
    """Return the processes that this one has started; none on macOS."""
    processes = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    return [process for process in processes if _state_and_parent(process)[1] == str(os.getpid())]


def written_bytes(process: int) -> int:
    """Return how much a process has written; 0 if it has ended, belongs to somebody else, and on macOS."""
    with suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{process}/io").read_text().partition("wchar:")[2].split()[0])
    return 0


def is_waiting(process: int) -> bool:
    """Return whether a process waits for something, rather than for a core; True if it has ended, and on macOS."""
    return _state_and_parent(process)[0] != "R"


def _state_and_parent(process: int) -> tuple[str, str]:
    """Return a process's state, such as `R`, and its parent's number; empty if it has ended, and on macOS."""
    with suppress(OSError, ValueError):
        state, parent, *_ = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return state, parent
    return "", ""


def close_descriptors(but: Iterable[int]) -> None:
    """Close all files of this process but these. Linux alone."""
    kept = set(but)
    for entry in list(Path("/proc/self/fd").iterdir()):
        if int(entry.name) not in kept:
            with suppress(OSError):
                os.close(int(entry.name))


def thread_names() -> set[str]:
    """Return the names of this process's threads beside the main one, those of libraries too. Linux alone."""
    threads = Path("/proc/self/task").iterdir()
    return {(thread / "comm").read_text().strip() for thread in threads if int(thread.name) != os.getpid()}


def detach_selector(selector: Any) -> None:
    """Give a forked child an epoll of its own in the place of its parent's. macOS lets no child inherit a kqueue."""
    if hasattr(select, "epoll") and isinstance(selector, select.epoll):
        with select.epoll() as own:
            os.dup2(own.fileno(), selector.fileno(), inheritable=False)
