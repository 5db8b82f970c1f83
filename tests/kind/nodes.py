"""The nodes of the tests' cluster: each is a container of Podman's or Docker's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kubernetes import client
from waits import until

CONTROL_PLANE = "skjob-control-plane"


def on_node(node: str, *command: str, text: str = "") -> str:
    """What a command on the node writes."""
    return _engine(["exec", "-i", node, *command], f"`{' '.join(command)}` failed on the node `{node}`", text)


@contextmanager
def paused(node: str) -> Iterator[None]:
    """All that is on the node stands still for this block."""
    _engine(["pause", node], f"the node `{node}` can't be stopped")
    try:
        yield
    finally:
        _engine(["unpause", node], f"the node `{node}` can't be let go on")


def wait_ready(api: client.ApiClient, node: str) -> None:
    """Until Kubernetes has the node back, and sends pods to it."""

    def ready() -> bool:
        found = client.CoreV1Api(api).read_node(node)
        heard = any(each.type == "Ready" and each.status == "True" for each in found.status.conditions)
        return heard and not any(taint.key.startswith("node.kubernetes.io/") for taint in found.spec.taints or ())

    until(ready, f"the node `{node}` did not come back", 120)


def _engine(arguments: list[str], what: str, text: str = "") -> str:
    told = "there is neither Podman nor Docker"
    for engine in ("podman", "docker"):
        try:
            done = subprocess.run([engine, *arguments], input=text, capture_output=True, text=True, timeout=60)
        except FileNotFoundError:
            continue
        if done.returncode == 0:
            return done.stdout
        told = done.stderr
    pytest.fail(f"{what}: {told}")
