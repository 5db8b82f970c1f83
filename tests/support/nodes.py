"""The nodes of the tests' cluster: each is a container of Podman's or Docker's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from kubernetes import client

from support.wait import until

CONTROL_PLANE = "skjob-control-plane"


def on_node(node: str, *command: str, text: str = "") -> str:
    """What a command on the node writes."""
    return _engine(["exec", "-i", node, *command], f"`{' '.join(command)}` failed on the node `{node}`", text)


@contextmanager
def paused(node: str) -> Iterator[None]:
    """All that is on the node stands still for this block."""
    _engine(["pause", node], f"the node `{node}` cannot be stopped")
    try:
        yield
    finally:
        _engine(["unpause", node], f"the node `{node}` cannot be let go on")


def wait_ready(api: client.ApiClient, node: str) -> None:
    """Until Kubernetes has the node back, and sends pods to it."""

    def ready() -> bool:
        found = client.CoreV1Api(api).read_node(node)
        heard = any(each.type == "Ready" and each.status == "True" for each in found.status.conditions)
        return heard and not any(taint.key.startswith("node.kubernetes.io/") for taint in found.spec.taints or ())

    until(ready, f"the node `{node}` did not come back", 120)


def api_server_is_ready() -> bool:
    """Whether the cluster's own says so. It is asked on its node.

    From here, a server that is away is a port whose connections break as TLS begins. Python 3.11 leaves such a socket
    open, and pytest ends the session with an error for it, whenever it is collected.
    """
    ready = ["kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "get", "--raw", "/readyz"]
    done = _run(["exec", CONTROL_PLANE, *ready])
    return done is not None and done.returncode == 0


def _engine(arguments: list[str], what: str, text: str = "") -> str:
    done = _run(arguments, text)
    if done is None or done.returncode:
        pytest.fail(f"{what}: {done.stderr if done else 'there is neither Podman nor Docker'}")
    return done.stdout


def _run(arguments: list[str], text: str = "") -> subprocess.CompletedProcess[str] | None:
    """By Podman or Docker, whichever has the nodes; None where there is neither."""
    done = None
    for engine in ("podman", "docker"):
        with suppress(FileNotFoundError):
            done = subprocess.run([engine, *arguments], input=text, capture_output=True, text=True, timeout=60)
            if done.returncode == 0:
                break
    return done
