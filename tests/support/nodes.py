"""The nodes of the tests' cluster, each of which is a Podman or Docker container."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from kubernetes import client

from support.wait import until

CONTROL_PLANE = "skjob-control-plane"


def on_node(node: str, *command: str, text: str = "") -> str:
    """Run a command on a node; return its output."""
    return _engine(["exec", "-i", node, *command], f"`{' '.join(command)}` failed on the node `{node}`", text)


@contextmanager
def paused(node: str) -> Iterator[None]:
    """Pause everything on the node within this block."""
    _engine(["pause", node], f"the node `{node}` cannot be paused")
    try:
        yield
    finally:
        _engine(["unpause", node], f"the node `{node}` cannot be resumed")


def wait_ready(api: client.ApiClient, node: str) -> None:
    """Wait until the node is ready and schedulable again."""

    def ready() -> bool:
        current = client.CoreV1Api(api).read_node(node)
        is_ready = any(each.type == "Ready" and each.status == "True" for each in current.status.conditions)
        return is_ready and not any(taint.key.startswith("node.kubernetes.io/") for taint in current.spec.taints or ())

    until(ready, f"the node `{node}` did not come back", 120)


def api_server_is_ready() -> bool:
    """Return whether the cluster's own API server reports that it is ready, when asked on its node.

    From this machine, an unreachable server is a port whose connections break as TLS begins. Python 3.11 leaves such a
    socket open, and pytest ends the session with an error for it, whenever it is collected.
    """
    ready = ["kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "get", "--raw", "/readyz"]
    done = _run(["exec", CONTROL_PLANE, *ready])
    return done is not None and done.returncode == 0


def _engine(arguments: list[str], what: str, text: str = "") -> str:
    done = _run(arguments, text)
    if done is None or done.returncode:
        pytest.fail(f"{what}: {done.stderr if done else 'neither Podman nor Docker is installed'}")
    return done.stdout


def _run(arguments: list[str], text: str = "") -> subprocess.CompletedProcess[str] | None:
    """Run Podman or Docker, whichever has the nodes; return None if neither is installed."""
    done = None
    for engine in ("podman", "docker"):
        with suppress(FileNotFoundError):
            done = subprocess.run([engine, *arguments], input=text, capture_output=True, text=True, timeout=60)
            if done.returncode == 0:
                break
    return done


def address_for_pods(api: client.ApiClient) -> str:
    """Return the address of this machine in the nodes' network, at which pods reach it."""
    [node, *_] = client.CoreV1Api(api).list_node(_request_timeout=30).items
    [address] = [each.address for each in node.status.addresses if each.type == "InternalIP"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # nothing is sent
        probe.connect((address, 80))
        return str(probe.getsockname()[0])
