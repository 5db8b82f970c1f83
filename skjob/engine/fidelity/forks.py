"""Separate forked children of a program from the cluster: each is a process as in plain Python.

A child has its parent's memory, but none of its threads. Its copy of the Dask client has no event loop, so that any
request waits forever; its locks may be held by threads that do not exist; and its exit would close what belongs to the
parent. So, in the child, joblib's defaults are plain joblib's again, Dask's clients are closed and forgotten, and the
locks of Dask and skjob are released. Processes that are spawned, or come from a fork server, do not have this memory.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from skjob.utils import dask_client
from skjob.utils.operating_system import detach_selector

LOCKS = {
    "cloudpickle.cloudpickle": "_DYNAMIC_CLASS_TRACKER_LOCK",
    "dask.config": "config_lock",
    "dask.threaded": "pools_lock",
    "dask.tokenize": "tokenize_lock",
    "distributed._async_taskgroup": "_LoopBoundMixin._global_lock",
    "distributed.gc": "_gc_diagnosis_lock",
    "distributed.profile": "lock",
    "distributed.threadpoolexecutor": "threads_lock",
    "distributed.utils": "LoopRunner._lock",
    "distributed.worker": "_cache_lock",
}
"""Locks that a thread of the client or of the engine may hold, by module. Those of all modules of skjob are released
too. Only the program's own threads take joblib's locks, as in plain Python."""

_LOCK_TYPES = (type(threading.Lock()), type(threading.RLock()))

_child_actions: list[Callable[[], None]] = []
"""What a child does, in reverse order."""

_kept_alive: list[Any] = []
"""In a child: what belongs to the parent, referenced so that it is not finalized here."""

_installed = False


@dataclass(frozen=True)
class JoblibDefaults:
    """The defaults of joblib's calls in this thread: its backends, the default one, and the values of the innermost
    `parallel_config`."""

    backends: dict[str, Any]
    default: str
    config: dict[str, Any]

    @classmethod
    def now(cls) -> JoblibDefaults:
        """Return the current defaults."""
        from joblib import parallel

        config = getattr(parallel._backend, "config", parallel.default_parallel_config)
        return cls(dict(parallel.BACKENDS), parallel.DEFAULT_BACKEND, dict(config))


def run_in_children(action: Callable[[], None]) -> Callable[[], None]:
    """Call `action` in each child that this process forks from now on. Return a function that ends that.

    Actions run in reverse order, before any code of the program runs in the child.
    """
    global _installed
    if not _installed:
        _installed = True
        os.register_at_fork(after_in_child=_begin_child)
    _child_actions.append(action)
    return lambda: _child_actions.remove(action) if action in _child_actions else None


def separate_children(plain: JoblibDefaults) -> Callable[[], None]:
    """Make each child that this process forks from now on one of plain Python. Return a function that ends that.

    `plain` are joblib's defaults from before skjob's backend became one, which just happened in this thread.
    """
    from joblib import parallel

    ours = JoblibDefaults.now()
    config = getattr(parallel._backend, "config", None)  # a child may return to it from one of the program's

    def separate() -> None:
        dask_client.run_client = None
        _restore_joblib(plain, ours, config)
        _forget_clients()

    if sys.version_info >= (3, 12):
        ignore_threads_of_skjob()
    return run_in_children(separate)


def ignore_threads_of_skjob() -> None:
    """Ignore Python's warning of a fork in a process with threads (3.12 on): they are those of skjob and Dask."""
    warnings.filterwarnings("ignore", r"This process \(pid=\d+\) is multi-threaded, use of", DeprecationWarning)


@contextmanager
def closed_by_owner_only(stack: Any) -> Iterator[None]:
    """Let only the process that entered the block close `stack`, an ExitStack, and none of its children.

    A child that leaves the block, for example by `sys.exit`, would end the parent's cluster.
    """
    owner = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != owner:
            _kept_alive.append(stack.pop_all())


# ---- in the child


def _begin_child() -> None:
    if not _child_actions:
        return
    _release_locks()
    _release_imports()
    with ExitStack() as actions:  # all of them, even if one raises; then Python reports it
        actions.callback(_child_actions.clear)
        for action in _child_actions:
            actions.callback(action)


def _release_locks() -> None:
    modules: list[tuple[str, Any]] = list(sys.modules.items())
    for name, module in modules:
        if name in LOCKS:
            lock = module
            for part in LOCKS[name].split("."):
                lock = getattr(lock, part, None)
            _release(lock)
        elif name.startswith("skjob."):
            for value in list(vars(module).values()):
                _release(value)


def _release(lock: Any) -> None:
    """Release a lock in place, whoever holds it: functions refer to it too."""
    if isinstance(lock, _LOCK_TYPES):
        lock._at_fork_reinit()  # type: ignore[union-attr]  # what the standard library's own modules use


def _release_imports() -> None:
    """Let this thread import what another one, which does not exist here, was importing: what skjob unpickles, say."""
    locks: dict[str, Any] = getattr(sys.modules["_frozen_importlib"], "_module_locks", {})
    for name, reference in list(locks.items()):
        lock = reference()
        if lock is None or lock.owner in (None, threading.get_ident()):
            continue
        del locks[name]
        if getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False):
            del sys.modules[name]


def _restore_joblib(plain: JoblibDefaults, ours: JoblibDefaults, config: dict[str, Any] | None) -> None:
    """Restore what skjob changed in joblib, and leave what the program changed."""
    from joblib import parallel

    for name, backend in ours.backends.items():
        if parallel.BACKENDS.get(name) is backend and plain.backends.get(name) is not backend:
            if name in plain.backends:
                parallel.BACKENDS[name] = plain.backends[name]
            else:
                del parallel.BACKENDS[name]
    if ours.default == parallel.DEFAULT_BACKEND:
        parallel.DEFAULT_BACKEND = plain.default
    for values in (config, getattr(parallel._backend, "config", None)):
        if values is None or values is parallel.default_parallel_config:
            continue
        for name, value in list(values.items()):
            if value is ours.config.get(name) and value is not plain.config.get(name):
                values[name] = plain.config[name]
        if type(values["backend"]).__module__.startswith("skjob."):
            values["backend"] = parallel.default_parallel_config["backend"]


def _forget_clients() -> None:
    """Close Dask's clients and clusters without sending anything: their connections are the parent's."""
    import dask
    from distributed import client, utils
    from distributed.deploy.spec import SpecCluster
    from joblib._parallel_backends import FallbackToBackend, SequentialBackend

    clients, clusters = list(client.Client._instances), list(SpecCluster._instances)
    _kept_alive.extend([*clients, *clusters, *utils.LoopRunner._all_loops])
    for each in clients:
        _release(each._refcount_lock)
        each.status = "closed"
        with suppress(Exception):  # one that is connecting does not have all of them
            _detach_connections(each)
    for loop in list(utils.LoopRunner._all_loops):
        with suppress(Exception):
            _detach_loop(loop.asyncio_loop)
    client.Client._instances.clear()
    client._global_clients.clear()
    client._current_client.set(None)
    SpecCluster._instances.clear()
    utils.LoopRunner._all_loops.clear()
    utils._offload_executor = type(utils._offload_executor)(max_workers=1, thread_name_prefix="Dask-Offload")
    if dask.config.get("scheduler", None) == "dask.distributed":
        dask.config.config.pop("scheduler")

    backend = sys.modules.get("skjob.engine.backend")
    if backend is not None:  # a `with` block of the program may still restore one of the parent's
        configure = backend.SkjobBackend.configure

        def configure_here(self: Any, *args: Any, **keywords: Any) -> Any:
            if any(self.client is each for each in clients):
                raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
            return configure(self, *args, **keywords)

        backend.SkjobBackend.configure = configure_here


def _detach_connections(client: Any) -> None:
    """Close the copies of a client's connections: the scheduler must notice when the parent ends."""
    comms = [comm for pool in (client.rpc.available, client.rpc.occupied) for each in pool.values() for comm in each]
    if client.scheduler_comm is not None:
        comms.append(client.scheduler_comm.comm)
    for comm in comms:
        _close_in_place(comm.stream.socket.fileno())


def _detach_loop(loop: Any) -> None:
    """Replace what an event loop waits on, which the parent shares: finalizing it here must not change that."""
    _close_in_place(loop._csock.fileno())
    _close_in_place(loop._ssock.fileno())
    detach_selector(loop._selector._selector)


def _close_in_place(descriptor: int) -> None:
    """Let a descriptor refer to nothing, rather than to some file that this process opens next."""
    if descriptor < 0:
        return
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(nothing, descriptor, inheritable=False)
    finally:
        os.close(nothing)
