"""What a task is stopped at, before it happens, and what is only noted."""

from __future__ import annotations

import atexit
import contextlib
import errno
import multiprocessing
import os
import runpy
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import FunctionType
from unittest.mock import MagicMock

import pyarrow.parquet
import pytest
from clocks import DEADLINE
from joblib import Memory

from skjob.engine.fidelity.effects import guard
from skjob.engine.fidelity.effects.guard import (
    FILES_VARIABLE,
    MAX_READ,
    SHARED_VARIABLE,
    TaskRefused,
    ThreadRefused,
    WatchedTask,
    guarded,
    remove_created,
)


@pytest.fixture(autouse=True)
def wrappers_removed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The audit hook stays, and does nothing outside of `guarded`; what stands in for functions goes."""
    for owner, name in (
        (signal, "signal"),
        (signal, "setitimer"),
        (signal, "alarm"),
        (sys, "stdin"),
        (atexit, "register"),
        (multiprocessing.process.BaseProcess, "start"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    monkeypatch.delenv(FILES_VARIABLE, raising=False)
    yield
    guard._wrappers_installed = False


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Of the program, and not below the folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _stopped_at(act: Callable[[], object]) -> WatchedTask:
    with guarded() as watched, contextlib.suppress(TaskRefused):
        act()
    return watched


def _reads_a_line() -> str:
    return sys.stdin.readline()


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: signal.signal(signal.SIGALRM, signal.SIG_DFL), "handler of signals"),
        (lambda: signal.setitimer(signal.ITIMER_REAL, 0), "timer"),
        (lambda: signal.alarm(0), "timer"),
        (lambda: multiprocessing.Process(target=print).start(), "start processes"),
        (lambda: os.fork() or os._exit(0), "fork"),
        (_reads_a_line, "standard input"),
        (lambda: input(), "standard input"),
    ],
)
def test_what_a_worker_cannot_do_is_stopped(act: Callable[[], object], words: str) -> None:
    assert words in _stopped_at(act).refused


@pytest.mark.parametrize(
    "write",
    [
        lambda: Path("scores.txt").write_text("1"),
        lambda: os.close(os.open("scores.txt", os.O_CREAT | os.O_WRONLY)),
        lambda: Path("there.txt").unlink(),
        lambda: Path("there.txt").rename("elsewhere.txt"),
        lambda: sqlite3.connect("scores.db").close(),
    ],
)
def test_a_file_is_not_written(folder: Path, write: Callable[[], object]) -> None:
    (folder / "there.txt").touch()
    watched = _stopped_at(write)
    assert "write files" in watched.refused
    assert sorted(path.name for path in folder.iterdir()) == ["temporary", "there.txt"]


def test_on_the_programs_own_machine_files_are_written_and_noted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FILES_VARIABLE, "1")
    watched = _stopped_at(lambda: Path("scores.txt").write_text("1"))
    assert (watched.refused, watched.effects) == ("", {"wrote files"})
    assert (folder / "scores.txt").read_text() == "1"


def test_in_folders_that_workers_share_files_are_written_and_noted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("shared", "other", "shared-not"):
        (folder / name).mkdir()
    monkeypatch.setenv(SHARED_VARIABLE, f"{folder}/shared:{folder}/other")
    for name in ("shared", "other"):
        watched = _stopped_at(lambda name=name: Path(name, "scores.txt").write_text("1"))
        assert (watched.refused, watched.effects) == ("", {"wrote files"})
        assert (folder / name / "scores.txt").read_text() == "1"
    for path in ("scores.txt", "shared-not/scores.txt", "shared/../scores.txt"):
        assert "write files" in _stopped_at(lambda path=path: Path(path).write_text("1")).refused
        assert not Path(path).exists()
    monkeypatch.setenv(SHARED_VARIABLE, "")
    assert "write files" in _stopped_at(lambda: Path("shared", "more.txt").write_text("1")).refused


def _adds_to_a_file() -> None:
    with Path("notes.txt").open("a") as file:
        file.write("a line\n")


@pytest.mark.parametrize(
    "write",
    [
        _adds_to_a_file,
        lambda: Path("there.txt").write_text("1"),
        lambda: Path("there.txt").unlink(),
        lambda: [Path("new.txt").write_text("1"), Path("new.txt").replace("there.txt")],
        lambda: sqlite3.connect("scores.db").close(),
        lambda: sqlite3.connect("file:scores.db?mode=rw", uri=True).close(),
    ],
)
def test_a_file_that_tasks_share_is_changed_in_the_programs_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[], object]
) -> None:
    """With processes, plain Python has no order either."""
    monkeypatch.setenv(FILES_VARIABLE, "1")
    (folder / "scores.db").touch()
    (folder / "there.txt").write_text("0")
    with guarded(in_order=True) as watched, contextlib.suppress(TaskRefused):
        write()
    assert "change a file that they share" in watched.refused
    assert (folder / "there.txt").read_text() == "0"
    assert _stopped_at(write).refused == ""


def test_a_pool_of_threads_passes_on_that_its_task_is_refused(folder: Path) -> None:
    with guarded() as watched, ThreadPool(2) as pool:
        tasks = pool.map_async(lambda name: Path(name).write_text("1"), ["a.txt", "b.txt"])
        with pytest.raises(ThreadRefused):
            tasks.get(timeout=DEADLINE)
    assert "write files" in watched.refused
    assert list(folder.glob("*.txt")) == []


def _makes_its_own() -> None:
    Path("there").mkdir(exist_ok=True)
    Path("part.txt").write_text("1")
    Path("part.txt").replace("fold-1.txt")
    Path("fold-1.txt").write_text("2")
    in_memory = contextlib.closing(sqlite3.connect(":memory:"))
    with contextlib.closing(sqlite3.connect("file:there.db?mode=ro", uri=True)), in_memory:
        pass


def test_a_task_makes_files_of_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FILES_VARIABLE, "1")
    (folder / "there").mkdir()
    (folder / "there.db").touch()
    with guarded(in_order=True) as watched:
        _makes_its_own()
    assert (watched.refused, watched.effects) == ("", {"wrote files"})


def test_temporary_files_of_the_task_itself_are_its_own(folder: Path) -> None:
    def act() -> None:
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / "sub").mkdir()
            (Path(scratch) / "sub" / "file").write_text("x")
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"x")

    watched = _stopped_at(act)
    assert (watched.refused, watched.effects) == ("", set())


def test_a_temporary_folder_that_the_program_has_made_is_not(folder: Path) -> None:
    """The program reads there what the task has written."""
    made = tempfile.mkdtemp()
    assert "write files" in _stopped_at(lambda: (Path(made) / "fold.txt").write_text("x")).refused


@pytest.mark.parametrize("path", ["/dev/null", "~/.cache/library/file"])
def test_devices_and_caches_belong_to_nobody(path: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    (folder / "home" / ".cache" / "library").mkdir(parents=True)
    watched = _stopped_at(lambda: Path(path).expanduser().write_text("x"))
    assert (watched.refused, watched.effects) == ("", set())


def test_a_cache_of_joblibs_belongs_to_nobody_wherever_it_is(folder: Path) -> None:
    """What it keeps can be computed again; a file that the cached function writes cannot.

    Without it, a pipeline that caches would not go to workers.
    """

    def write(number: int) -> int:
        Path("out").write_text("x")
        return number

    def keep(function: Callable[[int], int]) -> int:
        return int(Memory(folder / "cache", verbose=0).cache(function)(3))

    watched = _stopped_at(lambda: keep(abs))
    assert (watched.refused, watched.effects, watched.missing) == ("", set(), set())
    assert [*(folder / "cache").rglob("output.pkl")]
    assert "write files" in _stopped_at(lambda: keep(write)).refused
    assert not (folder / "out").exists()


def test_a_folder_that_is_only_called_like_a_cache_is_none(folder: Path) -> None:
    (folder / "joblib").mkdir()
    assert "write files" in _stopped_at(lambda: (folder / "joblib" / "model").write_text("x")).refused


def test_what_brings_an_imported_package_to_its_pod_is_not_the_task(folder: Path) -> None:
    def unpack() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
            Path("package.py").write_text("")

    of_module = FunctionType(unpack.__code__, globals() | {"__name__": "skjob.environment.pod.lazy_import"})
    watched = _stopped_at(of_module)
    assert (watched.refused, watched.effects) == ("", set())
    assert (folder / "package.py").exists()


def test_reading_is_nothing(folder: Path) -> None:
    (folder / "data").write_text("1")
    watched = _stopped_at(lambda: (folder / "data").read_text())
    assert (watched.refused, watched.effects) == ("", set())


def test_a_file_that_is_not_on_this_machine_is_noted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def act() -> None:
        with contextlib.suppress(FileNotFoundError):
            Path("data.csv").read_text()
        with contextlib.suppress(FileNotFoundError):
            list(Path("folds").iterdir())

    assert _stopped_at(act).missing == {"data.csv", "folds"}
    monkeypatch.setenv(FILES_VARIABLE, "1")
    assert _stopped_at(act).missing == set()


def test_so_is_one_that_a_library_reads_in_its_own_way() -> None:
    watched = WatchedTask()
    watched.note_error(FileNotFoundError(2, "No such file or directory", "part.parquet"))
    watched.note_error(KeyError("part.parquet"))
    assert watched.missing == {"part.parquet"}
    assert not watched.refused


def test_files_that_compiled_code_writes_are_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow opens its files by itself: Python tells of none of them."""
    monkeypatch.setattr(guard, "_own_folder", str(folder / "work"))
    (folder / "work").mkdir()
    monkeypatch.chdir(folder / "work")
    table = pyarrow.table({"a": [1, 2]})
    found = _stopped_at(lambda: pyarrow.parquet.write_table(table, "fold.parquet"))
    assert found.refused == "its tasks write files, `fold.parquet` first"
    assert found.effects == {"wrote files"}
    assert not list((folder / "work").iterdir())
    assert not _stopped_at(lambda: table.nbytes).refused


def test_a_file_that_compiled_code_cannot_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """In pods only one folder can be written to."""
    error = OSError(errno.EROFS, os.strerror(errno.EROFS), "/home/user/model.json")
    watched = WatchedTask()
    watched.note_error(RuntimeError(f"cannot save: {error}"))
    assert watched.refused == "its tasks write files"
    monkeypatch.setenv(FILES_VARIABLE, "1")
    watched = WatchedTask()
    watched.note_error(error)
    assert not watched.refused  # as plain Python fails there too


def test_connections_and_commands_are_noted() -> None:
    def connect() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
            pass

    assert _stopped_at(connect).effects == {"connected"}
    assert _stopped_at(lambda: subprocess.run(["true"], check=True)).effects >= {"started a process"}


def test_a_handler_of_exceptions_does_not_hide_it() -> None:
    """Not even one of all exceptions: what a task was stopped at is known after it."""

    def act() -> None:
        with contextlib.suppress(BaseException):
            signal.alarm(1)

    assert "timer" in _stopped_at(act).refused


def test_outside_of_a_task_nothing_is_watched(folder: Path) -> None:
    with guarded():
        pass
    (folder / "file").write_text("x")
    assert (folder / "file").read_text() == "x"


def test_functions_for_the_end_of_the_program_are_its_own() -> None:
    with guarded(in_order=True) as watched, contextlib.suppress(TaskRefused):
        atexit.register(print)
    assert "end of the program" in watched.refused


@pytest.mark.parametrize("place", ["site/registers.py", "local/lib/python3/site-packages/registers.py"])
def test_functions_that_a_library_registers_are_not(place: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers need them too: of a package in the user's own folder, or in a folder with the packages of a pod."""
    module = folder / place
    (module.parent / "registers-1.0.dist-info").mkdir(parents=True)
    (module.parent / "registers-1.0.dist-info" / "RECORD").write_text("registers.py,,\n")
    module.write_text("import atexit\natexit.register(print)\n")
    monkeypatch.setattr(atexit, "register", registered := MagicMock())
    with guarded(in_order=True) as watched:
        runpy.run_path(str(module), run_name="registers")
    assert watched.refused == ""
    registered.assert_called_once_with(print)


def test_a_file_that_is_read_is_noted_with_what_tells_a_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FILES_VARIABLE, "1")
    (folder / "scale.txt").write_text("3")
    with guarded() as watched:
        (folder / "scale.txt").read_text()
        Path(os.__file__).read_text()
        Path(tempfile.mkstemp()[1]).read_text()
    found = (folder / "scale.txt").stat()
    assert watched.read == {str(folder / "scale.txt"): (1, found.st_mtime_ns)}
    assert watched.effects == set()


def test_a_task_that_reads_many_files_is_never_stored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_READ", 2)
    for name in "abc":
        (folder / name).write_text("")
    with guarded() as watched:
        for name in "abc":
            (folder / name).read_text()
    assert MAX_READ > len(watched.read) == 2
    assert watched.effects == {"read many files"}


def test_what_a_task_has_created_is_removed_and_what_others_have_stays(folder: Path) -> None:
    (folder / "made" / "inside").mkdir(parents=True)
    (folder / "made" / "mine").write_text("")
    (folder / "made" / "theirs").write_text("")
    remove_created([str(folder / "made"), str(folder / "made" / "inside"), str(folder / "made" / "mine")])
    assert [path.name for path in (folder / "made").iterdir()] == ["theirs"]


def test_a_thread_that_a_task_starts_belongs_to_it() -> None:
    with guarded() as watched:
        thread = threading.Thread(target=lambda: subprocess.run(["true"], check=True))
        thread.start()
        thread.join()
    assert watched.effects == {"started a process"}
