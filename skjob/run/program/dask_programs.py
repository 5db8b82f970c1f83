"""Give a program that is on Dask already the run's cluster where it asks Dask for a cluster of its own.

Such a program starts with `Client(n_workers=4)` or `LocalCluster(…)`, which would start workers on this machine beside
those of the run. In the process of a program of `skjob run` both give the run's cluster, and a line says so. What the
program closes is its own client; the run's cluster stays for whatever comes next, and ends with the run. joblib's
backend "dask" is skjob's engine on that cluster: joblib's own reads its width once and hangs if a worker is lost.

Other clusters are left alone: those with an address, and those that share the memory of this process
(`processes=False`), whose tasks may change what the program sees.

Dask's classes are changed in place, so that every way to import them gives the same ones, and `isinstance` holds.
"""

from __future__ import annotations

import atexit
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from typing import Any

from dask import config
from distributed import Client, LocalCluster, Nanny, Security
from distributed.core import rpc
from distributed.deploy.adaptive import Adaptive
from distributed.deploy.cluster import Cluster
from distributed.deploy.spec import SpecCluster
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.utils import NoOpAwaitable, import_term
from joblib._dask import DaskDistributedBackend
from joblib._parallel_backends import SequentialBackend

from skjob.engine.backend import SkjobBackend, in_a_task
from skjob.engine.transfer.worker_plugins import register_plugin
from skjob.utils import dask_client
from skjob.utils.notify import Notify

SECURITY_LOADER = "distributed.client.security-loader"
"""Dask's setting that names the function which has the certificates for an address."""

SIZES = "`--workers`, `--worker-cpu` and `--worker-memory`"

OPTIONS = inspect.signature(LocalCluster.__init__)

BY_CLIENT = frozenset({"loop", "asynchronous"})
"""What a `Client` without options of its own hands to the cluster that it starts."""


@dataclass(frozen=True)
class RunCluster:
    """The run's cluster, as its program can use it.

    `workers` is how many there always are, `start_timeout` for how many seconds they are waited for. `notify` takes a
    line for the user.
    """

    address: str
    security: Security
    workers: int
    start_timeout: float
    notify: Notify


_run: RunCluster | None = None
"""None in every process but that of a program of `skjob run`."""

_notified: set[str] = set()
_settings: dict[str, Any] = {}
"""Dask's settings as the user has them, of those that are changed here."""


class RunClient(Client):  # type: ignore[misc]
    """The run's own client, which the program finds as `Client.current()`: the engine needs it to the end."""

    def close(self, timeout: Any = None) -> Any:
        """Do nothing: `end` closes it."""
        return NoOpAwaitable() if self.asynchronous else None

    def shutdown(self) -> Any:
        """Do nothing: the cluster is the run's."""
        return self.close()

    def wait_for_workers(self, n_workers: int, timeout: Any = None) -> Any:
        """Wait for as many as the run has."""
        return super().wait_for_workers(*_awaited(n_workers, timeout))

    def end(self) -> None:
        """Close it."""
        with suppress(TimeoutError, RuntimeError, OSError):
            super().close(timeout=2)


def use_run_cluster(run: RunCluster) -> None:
    """Let the program's clients and clusters be those of the run from now on."""
    global _run
    if _run is None:
        LocalCluster.__new__ = _new_cluster
        Client.__init__ = _with_certificates(Client.__init__)
        Client._shutdown = _shutdown_of(Client._shutdown)
    _run = run
    # No certificates here: they would be for clusters of other addresses too.
    changed = {"scheduler-address": None, SECURITY_LOADER: f"{__name__}.{security_for.__name__}"}
    _settings.update({name: config.get(name, None) for name in changed})
    config.set(changed)


def leave_run_cluster() -> None:
    """Make Dask plain Dask again. A forked child of the program calls it."""
    global _run
    _run = None
    config.set(_settings)
    _notified.clear()


def close_at_exit(client: RunClient) -> None:
    """Close the run's client when the program has ended, after what the program itself does then."""
    atexit.register(client.end)


def security_for(info: Mapping[str, Any]) -> Any:
    """Return the certificates for an address: those of the run, or what the user's own settings have for it."""
    if _run is not None and info["address"].rstrip("/") == _run.address:
        return _run.security
    loader = _settings.get(SECURITY_LOADER)
    return import_term(loader)(info) if loader else None


def is_of_run(client: Any) -> bool:
    """Return whether this client's cluster is the run's."""
    return _run is not None and getattr(client.scheduler, "address", None) == _run.address


# ---- clusters


def _new_cluster(cls: type, *arguments: Any, **options: Any) -> Any:
    """Replace `LocalCluster.__new__`. Subclasses are left alone."""
    if _run is None or cls is not LocalCluster:
        return object.__new__(cls)
    try:
        given = OPTIONS.bind(None, *arguments, **options).arguments
    except TypeError:  # which `__init__` raises too
        return object.__new__(cls)
    given = {name: value for name, value in given.items() if name not in ("self", "worker_kwargs")} | given.get(
        "worker_kwargs", {}
    )
    made = "Client" if given.keys() >= BY_CLIENT else "LocalCluster"
    if _shares_memory(given):
        _notify_once(
            "processes",
            f"`{_call(made, given)}` shares the memory of this process: its own tasks run here; "
            "joblib's backend `dask` has the workers of this run",
        )
        return object.__new__(cls)
    if made == "LocalCluster" or given.keys() - BY_CLIENT:
        _notify_once("cluster", f"`{_call(made, given)}` is the cluster of this run; {SIZES} say how large it is")
    if given.get("resources"):
        register_plugin(dask_client.run_client, Resources(given["resources"]))
    return object.__new__(_StandIn)


def _shares_memory(given: Mapping[str, Any]) -> bool:
    """Return whether the workers of such a cluster would be threads of this process, by Dask's own rules."""
    if str(given.get("protocol") or "").startswith("inproc"):
        return True
    processes, kind = given.get("processes"), given.get("worker_class")
    if processes is None:
        return kind is not None and not (isinstance(kind, type) and issubclass(kind, Nanny))
    return not processes


def _call(name: str, given: Mapping[str, Any]) -> str:
    """Return what the program has written, or nearly so."""
    simple = (bool, int, float, str, type(None))
    options = [
        f"{option}={value!r}" if isinstance(value, simple) else f"{option}=…"
        for option, value in given.items()
        if option not in BY_CLIENT
    ]
    return f"{name}({', '.join(options)})"


class Resources(WorkerPlugin):  # type: ignore[misc]
    """Gives each worker the resources that a program asks for: tasks that need them would wait without end."""

    name = "skjob-resources"

    def __init__(self, resources: Mapping[str, float]) -> None:
        self.resources = dict(resources)

    async def setup(self, worker: Any) -> None:
        """Called by each worker as it joins."""
        await worker.set_resources(**self.resources)


class _StandIn(LocalCluster):  # type: ignore[misc]
    """The run's cluster, as `LocalCluster(…)` gives it. It neither starts nor ends nor changes it."""

    _name = "LocalCluster"
    _supports_scaling = True
    shutdown_on_close = True  # as Dask calls it: that its connection is closed when the program ends

    def __init__(self, *arguments: Any, **options: Any) -> None:
        assert _run is not None  # noqa: S101 - only `_new_cluster` makes one
        given = OPTIONS.bind(self, *arguments, **options).arguments
        asynchronous = bool(given.get("asynchronous"))
        Cluster.__init__(self, asynchronous=asynchronous, loop=given.get("loop"), name=given.get("name"))
        self.security = _run.security
        self.scheduler: Any = None
        SpecCluster._instances.add(self)
        if not self.called_from_running_loop:
            self._loop_runner.start()
            self.sync(self._start)

    async def _start(self) -> None:
        assert _run is not None  # noqa: S101
        self.scheduler = self.scheduler_comm = rpc(
            _run.address, connection_args=self.security.get_connection_args("client")
        )
        named = dict(self._cluster_info)
        await Cluster._start(self)
        self._cluster_info.update(named)

    async def _sync_cluster_info(self) -> None:
        """Do nothing: the scheduler has the description that its starter gave it."""

    def __await__(self) -> Any:
        async def started() -> _StandIn:
            if not self.scheduler_comm:
                await self._start()
            return self

        return started().__await__()

    async def __aenter__(self) -> _StandIn:
        await self
        return self

    async def _close(self) -> None:
        await Cluster._close(self)

    def _update_worker_status(self, op: str, msg: Any) -> None:
        Cluster._update_worker_status(self, op, msg)

    @property
    def workers(self) -> dict[Any, Any]:
        """Return what is known of the workers, by their names."""
        return {worker["name"]: worker for worker in self.scheduler_info["workers"].values()}

    @property
    def worker_spec(self) -> dict[Any, Any]:
        """Return the workers that there are: nothing here can start one."""
        return self.workers

    @property
    def plan(self) -> set[Any]:
        """Return the names of the workers that there are."""
        return set(self.workers)

    requested = plan

    def scale(self, n: int = 0, memory: Any = None, cores: Any = None) -> Any:
        """Report that the run has its own workers."""
        _notify_once("scale", f"`scale` changes nothing: {SIZES} say how large the cluster of this run is")
        return NoOpAwaitable() if self.asynchronous else None

    scale_up = scale

    async def scale_down(self, workers: Any) -> None:
        """Report that the run has its own workers."""
        self.scale()

    def adapt(self, *_: Any, minimum: int = 0, maximum: float = float("inf"), **__: Any) -> Adaptive:
        """Report how the run's workers come and go. What is returned does nothing."""
        _notify_once("adapt", "`adapt` changes nothing: `--workers 1:10` lets the workers of this run come and go")
        self._adaptive = Adaptive(self, minimum=minimum, maximum=maximum, interval=0)
        return self._adaptive

    def wait_for_workers(self, n_workers: int, timeout: Any = None) -> Any:
        """Wait for as many as the run has."""
        return super().wait_for_workers(*_awaited(n_workers, timeout))


def _awaited(number: int, timeout: Any) -> tuple[int, Any]:
    """Return how many workers to wait for, and how long: the wait for those that the run never has would not end."""
    assert _run is not None  # noqa: S101
    if isinstance(number, int) and number > _run.workers:
        _notify_once(
            "wait", f"`wait_for_workers({number})` waits for {_run.workers}: `--workers` says how many this run has"
        )
        number = _run.workers
    return number, _run.start_timeout if timeout is None else timeout


def _with_certificates(initialize: Callable[..., None]) -> Callable[..., None]:
    parameters = inspect.signature(initialize)

    @wraps(initialize)
    def initialize_with_certificates(self: Any, *arguments: Any, **options: Any) -> None:
        """Give a client that asks for a cluster of its own what it needs to connect to the run's."""
        with suppress(TypeError):  # Dask raises it too
            given = parameters.bind(self, *arguments, **options)
            values = given.arguments
            own = values.get("address") is None and values.get("scheduler_file") is None
            if _run is not None and own and not _shares_memory(values.get("kwargs", {})):
                values["security"] = _run.security
                arguments, options = given.args[1:], given.kwargs
        initialize(self, *arguments, **options)

    return initialize_with_certificates


def _shutdown_of(shutdown: Callable[[Any], Any]) -> Callable[[Any], Any]:
    async def close_or_shutdown(self: Any) -> None:
        """Shut a cluster down, or close this client of the run's."""
        if not is_of_run(self):
            await shutdown(self)
            return
        cluster = self.cluster
        await self._close(fast=True)
        if cluster is not None:
            await cluster._close()

    return close_or_shutdown


# ---- joblib


class DaskBackend(SkjobBackend):
    """The engine, if a program asks joblib for the backend "dask", whose default is all the workers."""

    default_n_jobs = -1


def dask_backend(engine: Mapping[str, Any]) -> Callable[..., Any]:
    """Return what joblib makes its backend "dask" with: the engine with these arguments on the run's cluster.

    A cluster that the program names, or that its latest client is of, has joblib's own backend.
    """

    def make(
        scheduler_host: str | None = None,
        scatter: Any = None,
        client: Any = None,
        loop: Any = None,
        wait_for_workers_timeout: float = 10,
        **options: Any,
    ) -> Any:
        if in_a_task():
            return SequentialBackend()
        if scatter is not None and not isinstance(scatter, list | tuple):
            raise TypeError(f"scatter must be a list/tuple, got `{type(scatter).__name__}`")
        if _is_other(scheduler_host, client):
            return DaskDistributedBackend(scheduler_host, scatter, client, loop, wait_for_workers_timeout, **options)
        known = ("nesting_level", "inner_max_num_threads")
        own: dict[str, Any] = {name: options.pop(name) for name in known if name in options}
        if options:
            names = ", ".join(f"`{name}`" for name in sorted(options))
            _notify_once("options", f"joblib's backend `dask` ignores {names} in this run")
        return DaskBackend(**{**engine, **own})

    return make


def _is_other(scheduler_host: str | None, client: Any) -> bool:
    if client is not None:
        return not is_of_run(client)
    if scheduler_host is not None:
        return _run is None or scheduler_host.rstrip("/") != _run.address
    return any(not is_of_run(current) and not _is_here(current) for current in _current())


def _current() -> Iterator[Any]:
    with suppress(ValueError):
        yield Client.current()


def _is_here(client: Any) -> bool:
    """Return whether its tasks run in this process: the program's calls of joblib need not."""
    return str(getattr(client.scheduler, "address", "")).startswith("inproc://")


def _notify_once(subject: str, line: str) -> None:
    """Notify the user, once for each subject."""
    if _run is not None and subject not in _notified:
        _notified.add(subject)
        _run.notify(line)
