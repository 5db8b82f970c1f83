"""What a forked child puts back, and what it leaves alone."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

import joblib
import pytest
from joblib import parallel
from joblib._parallel_backends import LokyBackend, SequentialBackend, ThreadingBackend

from skjob.engine.fidelity import forks
from skjob.engine.fidelity.forks import JoblibDefaults, closed_by_owner_only, ignore_threads_of_skjob


class EngineBackend(SequentialBackend):  # type: ignore[misc]
    """As far as joblib's defaults are concerned, skjob's."""

    __module__ = "skjob.engine.backend"


@pytest.fixture(autouse=True)
def joblib_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(parallel, "BACKENDS", dict(parallel.BACKENDS))
    monkeypatch.setattr(parallel, "DEFAULT_BACKEND", "loky")
    before = getattr(parallel._backend, "config", None)
    yield
    if before is None:
        vars(parallel._backend).pop("config", None)
    else:
        parallel._backend.config = before


def install() -> tuple[JoblibDefaults, JoblibDefaults, dict[str, Any]]:
    """What skjob does in the program's process; and joblib's defaults before and after."""
    plain = JoblibDefaults.now()
    joblib.parallel_config(backend=EngineBackend(), n_jobs=-1)
    joblib.register_parallel_backend("skjob", EngineBackend, make_default=True)
    joblib.register_parallel_backend("dask", EngineBackend)
    return plain, JoblibDefaults.now(), parallel._backend.config


def test_a_child_has_the_defaults_of_plain_joblib() -> None:
    plain, ours, config = install()
    assert type(parallel.get_active_backend()[0]) is EngineBackend
    forks._restore_joblib(plain, ours, config)
    assert JoblibDefaults.now() == plain
    assert type(parallel.get_active_backend()[0]) is LokyBackend
    assert joblib.effective_n_jobs(None) == 1


def test_what_the_program_has_set_stays() -> None:
    plain, ours, config = install()
    joblib.register_parallel_backend("theirs", ThreadingBackend, make_default=True)
    with joblib.parallel_config(n_jobs=3, verbose=5):
        forks._restore_joblib(plain, ours, config)
        backend, n_jobs = parallel.get_active_backend()
        assert (type(backend), n_jobs) == (ThreadingBackend, 3)
        assert parallel._backend.config["verbose"] == 5
    # The block that the fork was in ends in the child too.
    assert parallel.get_active_backend()[1] is None
    assert parallel.BACKENDS["theirs"] is ThreadingBackend


def test_a_backend_that_the_program_has_chosen_stays_unless_it_is_of_skjob() -> None:
    plain, ours, config = install()
    with joblib.parallel_config("threading", n_jobs=2):
        forks._restore_joblib(plain, ours, config)
        assert type(parallel.get_active_backend()[0]) is ThreadingBackend
    plain, ours, config = install()
    with joblib.parallel_config("dask", n_jobs=2):
        forks._restore_joblib(plain, ours, config)
        backend, n_jobs = parallel.get_active_backend()
        assert (type(backend), n_jobs) == (LokyBackend, 2)


def test_locks_are_released_whoever_holds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("skjob.of_a_test")
    module.lock, module.again, module.other = threading.Lock(), threading.RLock(), "no lock"
    monkeypatch.setitem(forks.sys.modules, module.__name__, module)
    module.lock.acquire()
    holding = threading.Thread(target=module.again.acquire)
    holding.start()
    holding.join()
    forks._release_locks()
    assert module.lock.acquire(blocking=False)
    assert module.again.acquire(blocking=False)


def test_the_locks_of_other_packages_are_where_they_are_said_to_be() -> None:
    for name, path in forks.LOCKS.items():
        lock: Any = import_module(name)
        for part in path.split("."):
            lock = getattr(lock, part)
        assert isinstance(lock, forks._LOCK_TYPES), name


def test_what_another_thread_was_importing_is_imported_again(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("half_imported")
    module.__spec__ = SimpleNamespace(_initializing=True)
    mine, theirs = SimpleNamespace(owner=threading.get_ident()), SimpleNamespace(owner=-1)
    locks = {"mine": lambda: mine, module.__name__: lambda: theirs, "gone": lambda: None}
    monkeypatch.setattr(forks.sys.modules["_frozen_importlib"], "_module_locks", locks)
    monkeypatch.setitem(forks.sys.modules, module.__name__, module)
    forks._release_imports()
    assert set(locks) == {"mine", "gone"}
    assert module.__name__ not in forks.sys.modules


def test_only_the_process_that_entered_a_block_closes_its_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    with ExitStack() as stack, closed_by_owner_only(stack):
        stack.callback(closed.append, "by the parent")
    assert closed == ["by the parent"]
    kept: list[Any] = []
    monkeypatch.setattr(forks, "_kept_alive", kept)
    parent = os.getpid()
    with ExitStack() as stack, closed_by_owner_only(stack):
        stack.callback(closed.append, "by a child")
        monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    assert closed == ["by the parent"]
    assert len(kept) == 1


def test_pythons_warning_of_threads_at_a_fork_is_not_the_programs() -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        ignore_threads_of_skjob()
        text = "This process (pid=7) is multi-threaded, use of fork() may lead to deadlocks in the child."
        warnings.warn(text, DeprecationWarning, stacklevel=1)
        warnings.warn("another", DeprecationWarning, stacklevel=1)
    assert [str(each.message) for each in shown] == ["another"]
