"""Connect this machine to a scheduler in Kubernetes, through a subclass of KubeCluster.

This is the only file that imports dask-kubernetes. Its KubeCluster is subclassed because the stock one does not work
with current distributed and cannot use TLS. dask-kubernetes 2026.3.0 starts pods with scripts that no longer exist,
writes `tcp://` into every address, spends 19 s looking for a DNS name that only pods can resolve, waits for a
`status.phase` that a race in the operator can leave at Pending forever, and has no deadline if a pod cannot run. The
subclass keeps its place in distributed's Cluster interface, and the operator behind it. GONE WHEN
`KubeCluster(name="x", image=…, security=…)` is ready within seconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests.pods import PAGES_PORT, SCHEDULER_PORT
from skjob.errors import ConfigError, OperatorError, StartError, Unanswered, in_a_line

LISTEN_TIMEOUT = 60.0
"""Seconds within which a scheduler must answer once its container runs."""

CONNECT_POLL_INTERVAL = 0.1

_CONNECT_TIMEOUT, _MAX_CONNECT_TIMEOUT = 2.0, 16.0
"""Seconds for the first attempt to connect to a scheduler, and at most for a later one.

A scheduler that is about to listen is tried again soon, and a busy machine needs seconds for TLS.
"""

MAX_PORTS_TRIED = 20
"""Maximum of some 50,000 local ports to try: if so many in a row are taken, none is free."""


class DaskCluster:
    """The KubeCluster of a run, created once its pods are starting: importing dask-kubernetes takes a second.

    `wait_for_scheduler` waits for the scheduler's pod; `check` raises if waiting is pointless.
    """

    def __init__(
        self,
        cluster: Manifest,
        context: Context,
        security: Any,
        wait_for_scheduler: Callable[[], None],
        check: Callable[[], None],
    ) -> None:
        self.manifest = cluster
        self.context = context
        self.security = security
        self.wait_for_scheduler = wait_for_scheduler
        self.check = check
        self.kube_cluster: Any = None

    @property
    def scheduler_address(self) -> str:
        """Address of the scheduler for this machine."""
        return str(self.kube_cluster.scheduler_address)

    def begin(self) -> None:
        """Connect to the scheduler."""
        _kube_cluster_class()(self)

    def dashboard_port(self) -> int:
        """Return a port of this machine that is forwarded to the scheduler's pages until `end`."""
        return int(self.kube_cluster.sync(self.kube_cluster.forward_pages))

    def end(self) -> None:
        """Close the connection on this side; delete nothing."""
        if self.kube_cluster is not None:
            with suppress(Exception):  # the scheduler may be gone already
                self.kube_cluster.close(timeout=5)


def _is_no_connection_error(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Unhandled exception in client_connected_cb")


async def open_port_forward(forward: Callable[[], Any]) -> Any:
    """Return the first port-forward that gets a port of this machine.

    kr8s (0.20) takes a random port that nobody listens on, but that may already belong to an outgoing connection, and
    its `start` leaves the error in a task that nobody awaits. GONE WHEN `PortForward` binds to port 0.
    """
    for _ in range(MAX_PORTS_TRIED):
        candidate = forward()
        try:
            await candidate.__aenter__()
        except OSError as error:
            refused = error
        else:
            return candidate
    raise StartError(
        f"no port of this machine is free for the connection to the scheduler: {in_a_line(refused)}",
        "close programs that hold many connections, or allow this one to listen on 127.0.0.1",
    ) from refused


async def first_answer(open_rpc: Callable[[float], Any], check: Callable[[], None], name: str) -> Any:
    """Return an RPC to a scheduler that has answered. `open_rpc` opens one with a timeout in seconds."""
    deadline = time.monotonic() + LISTEN_TIMEOUT
    seconds = _CONNECT_TIMEOUT
    while True:
        comm = open_rpc(seconds)
        try:
            await asyncio.wait_for(comm.identity(), timeout=seconds + 3)
        except (OSError, TimeoutError) as error:
            await comm.close_rpc()
            await asyncio.to_thread(check)
            if time.monotonic() > deadline:
                raise StartError(
                    f"the scheduler of `{name}` runs but did not answer within {LISTEN_TIMEOUT:.0f} s: {error}",
                    "`skjob run -v` shows its log",
                ) from error
            seconds = min(seconds * 1.5, _MAX_CONNECT_TIMEOUT)
            await asyncio.sleep(CONNECT_POLL_INTERVAL)
        else:
            comm.timeout = LISTEN_TIMEOUT  # from now on nothing else retries a failed connection
            return comm


async def _end_forward(forward: Any) -> None:
    # Since Python 3.12, closing a server waits for its connections, which the program may still hold.
    with suppress(TimeoutError):
        await asyncio.wait_for(forward.__aexit__(None, None, None), timeout=1)


@asynccontextmanager
async def forwarded_pages(context: Context, name: str) -> AsyncIterator[int]:
    """Within the block, forward a port of this machine, which it yields, to the pages of a cluster's scheduler.

    Raises:
        ConfigError: there is no such cluster, or it has no scheduler any more.
        Unanswered: the API does not answer.
    """
    import httpx
    import kr8s.asyncio
    from kr8s.asyncio.objects import Deployment

    _quiet_logs()
    api = await _connect_kr8s(context, context.namespace)
    try:
        deployment = await Deployment.get(f"{name}-scheduler", namespace=context.namespace, api=api)
        forward = await _forward_port(deployment, PAGES_PORT)
        try:
            yield int(forward.local_port)
        finally:
            await _end_forward(forward)
    except kr8s.NotFoundError as error:
        raise ConfigError(
            f"there is no cluster `{name}` in namespace `{context.namespace}`, or it is being removed",
            f"`skjob ps --namespace {context.namespace}` lists the clusters there",
        ) from error
    except (kr8s.ServerError, kr8s.APITimeoutError, httpx.HTTPError) as error:
        raise Unanswered(f"the Kubernetes API does not return `{name}`: {in_a_line(error)}") from error
    finally:
        await _disconnect_kr8s(api)


def _quiet_logs() -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # While a scheduler restarts, each attempt to connect is an error in kr8s' forwarding (0.20: `PortForward` raises in
    # the callback of a connection), which asyncio logs with its traceback. The connection is retried.
    logging.getLogger("asyncio").addFilter(_is_no_connection_error)


async def _connect_kr8s(context: Context, namespace: str) -> Any:
    import kr8s.asyncio

    return await kr8s.asyncio.api(context=None if context.in_cluster else context.name, namespace=namespace)


async def _disconnect_kr8s(api: Any) -> None:
    """Close the connections of a kr8s API, which belong to this thread and event loop alone.

    kr8s (0.20) leaves them to the garbage collector. GONE WHEN its `Api` can be closed.
    """
    with suppress(Exception):  # also TimeoutError: the process may end without it
        await asyncio.wait_for(api._session.aclose(), timeout=1)


async def _forward_port(deployment: Any, port: int) -> Any:
    """Return a forward of a free port of this machine to a port of a Deployment's pods."""
    from kr8s.asyncio.portforward import PortForward

    return await open_port_forward(lambda: PortForward(deployment, port, local_port="auto"))


def _kube_cluster_class() -> type[Any]:
    import httpx
    import kr8s.asyncio
    from dask_kubernetes.operator import KubeCluster
    from distributed.core import rpc
    from distributed.deploy.cluster import Cluster
    from kr8s.asyncio.objects import Deployment

    _quiet_logs()

    class SkjobKubeCluster(KubeCluster):  # type: ignore[misc]
        """A KubeCluster that connects over TLS, with deadlines. See the module's docstring."""

        def __init__(self, owner: DaskCluster) -> None:
            owner.kube_cluster = self  # before it starts, so that an interrupted start can be closed
            self.security = owner.security
            self._owner = owner
            self._kr8s: Any = None
            self._forward: Any = None
            self._pages: Any = None
            namespace = owner.manifest["metadata"]["namespace"]
            super().__init__(
                custom_cluster_spec=owner.manifest, namespace=namespace, shutdown_on_close=False, quiet=True
            )

        async def _start(self) -> None:
            # kr8s holds its connections weakly, by thread and event loop: keep this one.
            self._kr8s = await _connect_kr8s(self._owner.context, self.namespace)
            await self._connect_cluster()
            try:
                await Cluster._start(self)
            except OSError as error:
                raise StartError(
                    f"the scheduler of `{self.name}` no longer answers: {in_a_line(error)}",
                    "run it again; `skjob doctor` looks for causes in the cluster",
                ) from error

        async def _connect_cluster(self) -> None:
            await asyncio.to_thread(self._owner.wait_for_scheduler)
            # Forward to whichever pod the Deployment has when a connection is made: a restarted scheduler keeps its
            # address.
            deployment = await self._deployment()
            self._forward = await _forward_port(deployment, SCHEDULER_PORT)
            self.scheduler_comm = await self._first_answer(f"tls://127.0.0.1:{self._forward.local_port}")

        async def forward_pages(self) -> int:
            if self._pages is None:
                deployment = await self._deployment()
                self._pages = await _forward_port(deployment, PAGES_PORT)
            return int(self._pages.local_port)

        async def _deployment(self) -> Any:
            deadline = time.monotonic() + LISTEN_TIMEOUT
            name = f"{self.name}-scheduler"
            while True:
                try:
                    return await Deployment.get(name, namespace=self.namespace, api=self._kr8s)
                except kr8s.NotFoundError as error:
                    raise OperatorError(
                        f"the Dask operator made a scheduler without a Deployment for `{self.name}`: it is too old",
                        "run `skjob install` to upgrade it",
                    ) from error
                except (kr8s.ServerError, kr8s.APITimeoutError, httpx.HTTPError) as error:
                    if time.monotonic() > deadline:
                        raise Unanswered(f"the Kubernetes API does not return `{name}`: {in_a_line(error)}") from error
                    await asyncio.sleep(1)

        async def _first_answer(self, address: str) -> Any:
            arguments = self.security.get_connection_args("client")

            def open_rpc(seconds: float) -> Any:
                return rpc(address, connection_args=arguments, timeout=seconds)

            return await first_answer(open_rpc, self._owner.check, self.name)

        def close(self, timeout: float | None = None) -> Any:
            return Cluster.close(self, timeout)

        async def _close(self) -> None:
            await Cluster._close(self)
            for forward in filter(None, (self._pages, self._forward)):
                await _end_forward(forward)
            if self._kr8s is not None:
                await _disconnect_kr8s(self._kr8s)

        @property
        def dashboard_link(self) -> str:
            return f"http://127.0.0.1:{PAGES_PORT}/status"

    return SkjobKubeCluster
