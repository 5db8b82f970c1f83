"""skjob's own machine has Linux or macOS: what only Linux has is in one module, and Windows gets one message."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import skjob
from skjob.cli.app import main
from skjob.errors import ConfigError
from skjob.utils import operating_system

pytestmark = pytest.mark.unit

PACKAGE = Path(skjob.__file__).parent
ALLOWED = Path(operating_system.__file__)

KERNEL_FOLDERS = ("/proc", "/sys", "/dev/shm", "/run/systemd")
NOT_OPENED = {
    "config/pod_settings.py": "where a team mounts nothing in pods",
    "engine/fidelity/effects/paths.py": "what a task may open without an effect",
}
"""Modules with such a path as a value, which they compare others with."""

LINUX_ALONE = {
    "os": {
        "sched_getaffinity", "sched_setaffinity", "sched_setscheduler", "memfd_create", "eventfd", "eventfd_read",
        "eventfd_write", "pidfd_open", "setns", "unshare", "splice", "copy_file_range", "posix_fadvise",
        "posix_fallocate", "fdatasync", "pipe2", "getrandom", "getxattr", "setxattr", "listxattr", "removexattr",
        "getresuid", "setresuid", "O_DIRECT", "O_PATH", "O_TMPFILE", "O_NOATIME", "accept4", "timerfd_create",
    },
    "select": {"epoll", "EPOLLIN", "EPOLLOUT", "EPOLLET"},
    "signal": {
        "pidfd_send_signal", "sigwaitinfo", "sigtimedwait", "SIGRTMIN", "SIGRTMAX", "SIGPWR", "SIGSTKFLT", "SIGPOLL",
        "SIGCLD",
    },
    "socket": {
        "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG", "SOCK_CLOEXEC", "SOCK_NONBLOCK", "SO_PEERCRED",
        "SO_BINDTODEVICE", "SO_MARK", "TCP_KEEPIDLE", "TCP_USER_TIMEOUT", "TCP_QUICKACK", "TCP_CORK",
    },
    "fcntl": {
        "F_ADD_SEALS", "F_GET_SEALS", "F_SETPIPE_SZ", "F_GETPIPE_SZ", "F_NOTIFY", "F_SETLEASE", "F_OFD_SETLK",
    },
    "resource": {"prlimit", "RLIMIT_RTPRIO", "RLIMIT_RTTIME", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE", "RUSAGE_THREAD"},
    "time": {"CLOCK_BOOTTIME", "CLOCK_TAI"},
    "mmap": {"MAP_POPULATE", "MADV_DONTFORK"},
    "sys": {"platform"},
    "platform": {"system", "processor", "machine", "libc_ver", "freedesktop_os_release"},
}  # fmt: skip
"""What macOS has not, and questions for the system's name, which lead to a second place of such differences."""

ELSEWHERE_TOO = {
    ("boosters/tracker_process.py", "ctypes.CDLL"): "XGBoost's library, which each of its wheels has",
}


def _modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != ALLOWED]


def _documentation(tree: ast.AST) -> set[int]:
    """The strings that stand for themselves: docstrings, and those below a constant."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def _found(source: str, module: str = "") -> list[str]:
    tree = ast.parse(source)
    names = {
        (alias.asname or alias.name): alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    documentation, found = _documentation(tree), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            of = names.get(node.value.id, "")
            if node.attr in LINUX_ALONE.get(of, ()):
                found.append(f"{of}.{node.attr}")
            if of == "ctypes" and node.attr in ("CDLL", "PyDLL", "cdll"):
                found.append(f"ctypes.{node.attr}")
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{a.name}" for a in node.names if a.name in LINUX_ALONE.get(node.module or "", ())]
        elif isinstance(node, ast.Constant) and id(node) not in documentation and module not in NOT_OPENED:
            found += [node.value] if str(node.value).startswith(KERNEL_FOLDERS) else []
    return [each for each in found if (module, each) not in ELSEWHERE_TOO]


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_one_module_alone_has_what_only_linux_has(path: Path) -> None:
    assert _found(path.read_text(), str(path.relative_to(PACKAGE))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.sched_getaffinity(0)",
        "import os as o\no.memfd_create('x')",
        "from select import epoll",
        "import select\nselect.epoll()",
        "from pathlib import Path\nPath('/proc/self/fd')",
        "f'/proc/{1}/io'",
        "import ctypes\nctypes.CDLL('libc.so.6').prctl(1)",
        "import sys\nsys.platform == 'linux'",
        "import platform\nplatform.system()",
    ],
)
def test_the_search_finds(source: str) -> None:
    assert _found(source)


def test_every_exception_is_one() -> None:
    for module in {*NOT_OPENED, *(module for module, _ in ELSEWHERE_TOO)}:
        assert _found((PACKAGE / module).read_text()), module


def test_windows_gets_one_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("skjob.cli.app.check_supported", lambda: operating_system.check_supported("win32"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == ConfigError.exit_code
    assert capsys.readouterr().err == (
        "error: skjob needs Linux or macOS, and this is Windows\n\n"
        "hint: use it in WSL2 (`wsl --install`), with a Python that is installed there\n"
    )


def test_windows_gets_it_in_python_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "skjob.utils.operating_system.check_supported", lambda: (_ for _ in ()).throw(ConfigError("no Windows"))
    )
    with pytest.raises(ConfigError, match="no Windows"), skjob.cluster():
        pass


@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_linux_and_macos_are_supported(system: str) -> None:
    operating_system.check_supported(system)


def test_without_the_kernels_files_there_are_honest_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on macOS, which has no /proc."""
    monkeypatch.setattr(operating_system, "Path", lambda path: tmp_path / path.lstrip("/"))
    assert operating_system.children() == []
    assert operating_system.written_bytes(1) == 0
    assert operating_system.variables_at_start() is None
    assert operating_system.processor()


def test_the_most_memory_is_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    here = operating_system.peak_memory()
    assert 2**23 < here < 2**40
    monkeypatch.setattr(operating_system, "ON_MACOS", sys.platform != "darwin")
    assert here / 1200 < operating_system.peak_memory() < here * 1200
    assert operating_system.peak_memory() != here


@pytest.mark.parametrize(
    ("told", "machine"), [("arm64", "aarch64"), ("aarch64", "aarch64"), ("x86_64", "x86_64"), ("AMD64", "x86_64")]
)
def test_a_processor_is_called_as_by_linux(told: str, machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: told)
    assert operating_system.machine() == machine
