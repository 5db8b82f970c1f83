"""Run a second API server on the cluster's control plane: an empty Kubernetes without controllers and nodes.

It serves tests that would take the tests' cluster away from others, such as those without an operator or with another
version of its custom resources. It is a static pod beside the first API server, with the same certificates, and keeps
its objects under another prefix in the same etcd.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config

from support.namespaces import DEFAULTS
from support.nodes import CONTROL_PLANE, on_node
from support.wait import is_reachable, until

MANIFESTS = "/etc/kubernetes/manifests"
NAME = "kube-apiserver-second"
PORT = 7443
START_SECONDS = 300.0


class SecondApi:
    """A second API server that is starting or running."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ready = threading.Event()
        self._collecting = ExitStack()

    def kubeconfig(self) -> Path:
        """Return its administrator's kubeconfig, with the first one's context, once it answers and has defaults for
        runs."""
        if not self._ready.is_set():
            api = self._collecting.enter_context(config.new_client_from_config(str(self._path)))
            until(lambda: is_reachable(api), "the second API server did not start", START_SECONDS)
            defaults = {"metadata": {"name": "skjob-defaults"}, "data": DEFAULTS}
            client.CoreV1Api(api).create_namespaced_config_map("default", defaults)
            self._collecting.enter_context(_garbage_collected(api))
            self._ready.set()
        return self._path

    def close(self) -> None:
        """Stop collecting garbage."""
        self._collecting.close()


@contextmanager
def second_api(kubeconfig: Path, folder: Path) -> Iterator[SecondApi]:
    """Run a second API server within this block."""
    pod = yaml.safe_load(on_node(CONTROL_PLANE, "cat", f"{MANIFESTS}/kube-apiserver.yaml"))
    address = pod["metadata"]["annotations"]["kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"]
    on_node(CONTROL_PLANE, "sh", "-c", f"cat > {MANIFESTS}/{NAME}.yaml", text=yaml.safe_dump(_second(pod)))
    try:
        path = folder / "second.kubeconfig"
        content = yaml.safe_load(kubeconfig.read_text())
        content["clusters"][0]["cluster"]["server"] = f"https://{address.partition(':')[0]}:{PORT}"
        path.write_text(yaml.safe_dump(content))
        second = SecondApi(path)
        try:
            yield second
        finally:
            second.close()
    finally:
        on_node(CONTROL_PLANE, "rm", "-f", f"{MANIFESTS}/{NAME}.yaml")


def _second(pod: dict[str, Any]) -> dict[str, Any]:
    pod["metadata"] = {"name": NAME, "namespace": "kube-system"}
    [container] = pod["spec"]["containers"]
    # The permissions of the first server's administrator are objects on that server.
    flags = [
        f"--secure-port={PORT}",
        f"--etcd-prefix=/second-{secrets.token_hex(4)}",
        "--authorization-mode=AlwaysAllow",
    ]
    names = tuple(flag.partition("=")[0] for flag in flags)
    container["command"] = [*(flag for flag in container["command"] if not flag.startswith(names)), *flags]
    container["ports"] = [{"name": "probe-port", "containerPort": PORT}]
    container["resources"] = {"requests": {"cpu": "50m"}}
    for probe in ("livenessProbe", "startupProbe"):
        container.pop(probe, None)
    return pod


@contextmanager
def _garbage_collected(api: client.ApiClient) -> Iterator[None]:
    """Delete owned objects with their owner, in place of the garbage collector, which is not running."""
    stopped = threading.Event()
    core, jobs = client.CoreV1Api(api), client.BatchV1Api(api)
    network, custom = client.NetworkingV1Api(api), client.CustomObjectsApi(api)
    daskclusters = ("kubernetes.dask.org", "v1", "default", "daskclusters")

    def collect() -> None:
        existing = {job.metadata.uid for job in jobs.list_namespaced_job("default").items}
        for listed, delete in (
            (core.list_namespaced_secret, core.delete_namespaced_secret),
            (core.list_namespaced_config_map, core.delete_namespaced_config_map),
            (network.list_namespaced_network_policy, network.delete_namespaced_network_policy),
        ):
            for each in listed("default").items:
                owners = each.metadata.owner_references or []
                if owners and not any(owner.uid in existing for owner in owners):
                    delete(each.metadata.name, "default")
        for cluster in custom.list_namespaced_custom_object(*daskclusters)["items"]:
            if cluster["metadata"]["ownerReferences"][0]["uid"] not in existing:
                custom.delete_namespaced_custom_object(*daskclusters, cluster["metadata"]["name"])

    def keep_collecting() -> None:
        while not stopped.wait(0.2):
            with suppress(Exception):  # objects may be gone in the meantime, and kinds may be missing
                collect()

    thread = threading.Thread(target=keep_collecting, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(10)
