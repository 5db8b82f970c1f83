"""Probe the victim run from this machine: what an outsider can do to it, and see of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, rpc
from kubernetes import client

from skjob.deploy.kubernetes.manifests.pods import PAGES_PORT
from skjob.utils.tls import TlsFiles
from support.victim_run import VictimRun

CONNECT_SECONDS = 60
FORWARD_SECONDS = 180
GIVE_UP_SECONDS = 4
"""Timeout for a client that is never let in, however long it tries."""

HEALTH = "GET /health"
RETIRE = "POST /api/v1/retire_workers"


def connected_workers(victim: VictimRun) -> list[str]:
    """Return the names of the scheduler's workers, as a client with the run's own certificate sees them."""
    security = TlsFiles.inside(victim.certificates / "own").security()

    async def identity() -> dict[str, Any]:
        address = f"tls://{':'.join(map(str, victim.scheduler))}"
        async with rpc(address, connection_args=security.get_connection_args("client")) as scheduler:
            info: dict[str, Any] = await asyncio.wait_for(scheduler.identity(n_workers=-1), CONNECT_SECONDS)
            return info

    return [str(worker["name"]) for worker in asyncio.run(identity())["workers"].values()]


def connect_without_tls(victim: VictimRun) -> Exception:
    """Connect a Dask client without TLS; return its error."""
    host, port = victim.scheduler
    with pytest.raises(OSError) as refused:  # noqa: PT011 - whichever, it is not let in
        Client(f"tcp://{host}:{port}", timeout=GIVE_UP_SECONDS).close()
    return refused.value


FORWARDED = """
    import sys
    from kubernetes import client, config
    from kubernetes.stream import portforward
    pod, namespace, port, *requests = sys.argv[1:]
    config.load_kube_config()
    core = client.CoreV1Api()
    for request in requests:
        forward = portforward(core.connect_get_namespaced_pod_portforward, pod, namespace, ports=port)
        connection = forward.socket(int(port))
        connection.settimeout(60)
        head = f"{request} HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: 8\\r\\n\\r\\n"
        connection.sendall(f'{head}{{"n": 2}}'.encode())
        print(connection.recv(200).decode().splitlines()[0])
"""


def through_port_forward(victim: VictimRun, user: dict[str, str], *requests: str) -> dict[str, str]:
    """Return the first line of the scheduler's response to each HTTP request through the API."""
    pod = victim.pod("scheduler")["metadata"]["name"]
    command = [sys.executable, "-c", textwrap.dedent(FORWARDED), pod, victim.namespace, str(PAGES_PORT), *requests]
    done = subprocess.run(command, env=user, capture_output=True, text=True, timeout=FORWARD_SECONDS)
    assert done.returncode == 0, done.stderr
    return dict(zip(requests, done.stdout.splitlines(), strict=True))


def visible_to_others(victim: VictimRun, kind_api: client.ApiClient) -> dict[str, str]:
    """Return everything that users without access to Secrets can see: objects, logs, and process arguments here."""
    return {
        "the API's objects": json.dumps(everything_but_secrets(kind_api, victim.namespace)),
        "logs": "".join(
            victim.api.log(pod["metadata"]["name"], victim.namespace, lines=100_000) for pod in victim.pods
        ),
        "arguments on this machine": arguments_of(victim.process.pid),
    }


def everything_but_secrets(kind_api: client.ApiClient, namespace: str) -> list[Any]:
    """Return every object of the namespace except Secrets, including events."""
    apps, core, batch = client.AppsV1Api(kind_api), client.CoreV1Api(kind_api), client.BatchV1Api(kind_api)
    custom = client.CustomObjectsApi(kind_api)
    lists = [
        core.list_namespaced_pod, core.list_namespaced_config_map, core.list_namespaced_event,
        core.list_namespaced_service, apps.list_namespaced_deployment, apps.list_namespaced_replica_set,
        batch.list_namespaced_job,
    ]  # fmt: skip
    objects = [kind_api.sanitize_for_serialization(each(namespace)) for each in lists]
    group = ("kubernetes.dask.org", "v1", namespace)
    return objects + [
        custom.list_namespaced_custom_object(*group, kind) for kind in ("daskclusters", "daskworkergroups")
    ]


def arguments_of(pid: int) -> str:
    """Return the arguments of a process and of all processes that it has started."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                status = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = (int(status[1]), (folder / "cmdline").read_text())
            except OSError:
                continue
    family, text = {pid}, ""
    for _ in range(4):
        family |= {child for child, (parent, _) in parents.items() if parent in family}
    for member in family & set(parents):
        text += parents[member][1].replace("\0", " ") + "\n"
    return text
