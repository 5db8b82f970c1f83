"""Pods that attack a run from inside the cluster: each with `attack.py`, and some also with Dask workers that try to
join it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

IMAGE = "localhost/skjob:dev"
ATTACK_SECONDS = 20
PATIENCE = 240.0
JOINING = {"joins without": "tcp", "joins as another": "tls"}


@dataclass(frozen=True)
class Intruder:
    """A pod with these labels, and its orders by what they are after.

    `joins` is the scheduler that its workers want, where it has some.
    """

    namespace: str
    name: str
    labels: dict[str, str]
    orders: dict[str, list[Any]]
    joins: str = ""

    def start(self, core: client.CoreV1Api, certificates: Path) -> None:
        """Create it, with all certificates that there are."""
        files = {f"{file.parent.name}.{file.name}": file.read_text() for file in certificates.glob("*/*")}
        files["attack.py"] = (Path(__file__).parent / "attack.py").read_text()
        core.create_namespaced_secret(self.namespace, {"metadata": {"name": self.name}, "stringData": files})
        items = [{"key": "attack.py", "path": "attack.py"}]
        items += [{"key": key, "path": key.replace(".", "/", 1)} for key in files if key != "attack.py"]
        containers = [_container("attack", ["/attack/attack.py", json.dumps([*self.orders.values()])])]
        if self.joins:
            containers += [_container(_dns(what), _worker(self.joins, protocol)) for what, protocol in JOINING.items()]
        spec = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": containers,
            "volumes": [{"name": "attack", "secret": {"secretName": self.name, "items": items}}],
        }
        pod = {"metadata": {"name": self.name, "labels": self.labels}, "spec": spec}
        core.create_namespaced_pod(self.namespace, pod)

    def remove(self, core: client.CoreV1Api) -> None:
        """Delete what `start` created, as far as it came."""
        for delete in (core.delete_namespaced_pod, core.delete_namespaced_secret):
            try:
                delete(self.name, self.namespace)
            except ApiException as error:
                if error.status != 404:
                    raise


def _dns(what: str) -> str:
    return what.replace(" ", "-")


def _worker(scheduler: str, protocol: str) -> list[str]:
    command = [
        "-m", "distributed.cli.dask_worker", f"{protocol}://{scheduler}", "--name", f"intruder-{protocol}",
        "--no-nanny", "--no-dashboard", "--death-timeout", str(ATTACK_SECONDS), "--local-directory", "/tmp",
    ]  # fmt: skip
    folder = "/attack/another"
    tls = ["--tls-ca-file", f"{folder}/ca.crt", "--tls-cert", f"{folder}/tls.crt", "--tls-key", f"{folder}/tls.key"]
    return command + (tls if protocol == "tls" else [])


def _container(name: str, arguments: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "image": IMAGE,
        "command": ["python", *arguments],
        "env": [{"name": "HOME", "value": "/tmp"}],
        "resources": {"requests": {"cpu": "20m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "attack", "mountPath": "/attack"}],
    }


def outcomes(core: client.CoreV1Api, intruder: Intruder) -> dict[str, str]:
    """What came of each order, and what its workers logged, when all of its containers have ended."""
    deadline = time.monotonic() + PATIENCE
    while core.read_namespaced_pod(intruder.name, intruder.namespace).status.phase not in ("Succeeded", "Failed"):
        assert time.monotonic() < deadline, f"the pod `{intruder.name}` did not end"
        time.sleep(0.5)

    def log(container: str) -> str:
        text: str = core.read_namespaced_pod_log(intruder.name, intruder.namespace, container=container)
        return text

    told = dict(zip(intruder.orders, json.loads(log("attack")), strict=True))
    return told | {what: log(_dns(what)) for what in JOINING if intruder.joins}
