"""Pods that attack a run from inside the cluster.

Each runs `attack.py`; some also have Dask workers that try to join the run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from skjob.deploy.kubernetes.manifests.pods import PAGES_PORT, SCHEDULER_PORT
from skjob.environment.pod.package_server import PORT as PACKAGE_SERVER_PORT
from support.victim_run import VictimRun

IMAGE = "localhost/skjob:dev"
ATTACK_SECONDS = 20
TIMEOUT = 240.0
JOINING = {"joins without": "tcp", "joins as another": "tls"}

BESIDE, ELSEWHERE, IMPOSTOR = "a pod beside it", "a pod of another namespace", "a pod with the run's labels"
"""Kinds of attackers. The last one passes any NetworkPolicy, as anyone who may create pods in the namespace can."""


@dataclass(frozen=True)
class Intruder:
    """An attacking pod with these labels, and its attempts by name.

    `joins` is the scheduler that its workers try to join, if it has any.
    """

    namespace: str
    name: str
    labels: dict[str, str]
    attempts: dict[str, list[Any]]
    joins: str = ""

    def start(self, core: client.CoreV1Api, certificates: Path) -> None:
        """Create the pod, with all of the forged certificates."""
        files = {f"{file.parent.name}.{file.name}": file.read_text() for file in certificates.glob("*/*")}
        files["attack.py"] = (Path(__file__).parent / "attacker_probe.py").read_text()
        core.create_namespaced_secret(self.namespace, {"metadata": {"name": self.name}, "stringData": files})
        items = [{"key": "attack.py", "path": "attack.py"}]
        items += [{"key": key, "path": key.replace(".", "/", 1)} for key in files if key != "attack.py"]
        containers = [_container("attack", ["/attack/attack.py", json.dumps([*self.attempts.values()])])]
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
        """Delete whatever `start` created."""
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
    """Wait until all containers of an attacker have ended; return the result of each attempt, and its workers' logs."""
    deadline = time.monotonic() + TIMEOUT
    while core.read_namespaced_pod(intruder.name, intruder.namespace).status.phase not in ("Succeeded", "Failed"):
        assert time.monotonic() < deadline, f"the pod `{intruder.name}` did not end"
        time.sleep(0.5)

    def log(container: str) -> str:
        text: str = core.read_namespaced_pod_log(intruder.name, intruder.namespace, container=container)
        return text

    results = dict(zip(intruder.attempts, json.loads(log("attack")), strict=True))
    return results | {what: log(_dns(what)) for what in JOINING if intruder.joins}


@contextmanager
def attacking_pods(core: client.CoreV1Api, victim: VictimRun) -> Iterator[dict[str, Intruder]]:
    """Run an attacking pod beside the run, one in another namespace, and one with the run's own labels."""
    scheduler, package_server = (victim.pod(part)["status"]["podIP"] for part in ("scheduler", "environment"))
    worker_host, worker_port = victim.report["workers"][0].removeprefix("tls://").split(":")
    attempts = {
        "scheduler": ["connect", scheduler, SCHEDULER_PORT],
        "scheduler, no certificate": ["tls", scheduler, SCHEDULER_PORT],
        "scheduler, its own certificate": ["tls", scheduler, SCHEDULER_PORT, "/attack/own"],
        "worker": ["connect", worker_host, worker_port],
        "worker, no certificate": ["tls", worker_host, worker_port],
        "worker, another's certificate": ["tls", worker_host, worker_port, "/attack/another"],
        "package server": ["connect", package_server, PACKAGE_SERVER_PORT],
        "package server, no certificate": ["tls", package_server, PACKAGE_SERVER_PORT],
        "package server, another's certificate": ["tls", package_server, PACKAGE_SERVER_PORT, "/attack/another"],
        "pages": ["get", scheduler, PAGES_PORT, "/status"],
        "retire": ["get", scheduler, PAGES_PORT, "/api/v1/retire_workers"],
    }
    run_labels = {"skjob/run": victim.run_id, "app.kubernetes.io/name": "skjob"}
    address = f"{victim.name}-scheduler.{victim.namespace}:{SCHEDULER_PORT}"
    elsewhere = f"{victim.namespace}-else"
    intruders = {
        BESIDE: Intruder(victim.namespace, "beside", {}, attempts),
        ELSEWHERE: Intruder(elsewhere, "elsewhere", run_labels, attempts),
        IMPOSTOR: Intruder(victim.namespace, "impostor", run_labels, attempts, joins=address),
    }
    core.create_namespace({"metadata": {"name": elsewhere}})
    try:
        for intruder in intruders.values():
            intruder.start(core, victim.certificates)
        yield intruders
    finally:
        core.delete_namespace(elsewhere)
        for intruder in intruders.values():
            intruder.remove(core)
