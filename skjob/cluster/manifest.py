"""Plan -> the objects of a run: anchor, certificates, what the pods mount, DaskCluster. Pure.

The anchor is a Job without pods. It owns every other object, and its deadline is moved on by the client's heartbeat:
when heartbeats stop, Kubernetes itself ends the Job and collects the whole tree, with no help from skjob or the
operator (batch/v1 `activeDeadlineSeconds` and `ttlSecondsAfterFinished`, garbage collection by ownerReferences).

Pods pass the `restricted` Pod Security Standard: no root, no capabilities, a read-only root file system, no token of a
service account. Nothing listens in them but the TLS port of Dask; its HTTP pages are on the pod's own loopback, which
a port-forward reaches and other pods do not.
"""

from __future__ import annotations

import base64
from typing import Any

from skjob.cluster.certificates import CA_FILE, CERTIFICATE_FILE, KEY_FILE, Certificates
from skjob.cluster.names import COMPONENT_LABEL, RunNames
from skjob.environment.index import CONFIG_FILE
from skjob.environment.installation import PIP_FOLDER, Installation
from skjob.plan import Plan

Manifest = dict[str, Any]

SCHEDULER_PORT = 8786
PAGES_PORT = 8787
USER = 1000

TLS_FOLDER = "/skjob/tls"
RUN_FOLDER = "/skjob/run"
SITE_FOLDER = "/skjob/site"
SCRATCH_FOLDER = "/tmp"  # noqa: S108 - the pod's own
ARCHIVE_FILE = "skjob.zip"
REQUIREMENTS_FILE = "requirements.txt"

SCHEDULER_CPU, SCHEDULER_MEMORY = "50m", 2**30

_NOBODY_EXTRA = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def anchor(names: RunNames, namespace: str, lifetime: float) -> Manifest:
    """The owner of all: lives for `lifetime` seconds, unless it is prolonged."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(names, namespace, "anchor"),
        "spec": {
            "parallelism": 0,
            "activeDeadlineSeconds": round(lifetime),
            "ttlSecondsAfterFinished": 0,
            "template": {
                # Never becomes a pod. It has to be valid, and to pass what an admission rule asks of pods.
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "securityContext": _pod_security(),
                    "containers": [
                        {
                            "name": "none",
                            "image": "none.invalid/none",
                            "securityContext": _NOBODY_EXTRA,
                            "resources": _resources("1m", "1Mi"),
                        }
                    ],
                }
            },
        },
    }


def owned_by(anchor: Manifest, manifest: Manifest) -> Manifest:
    """The same object, which goes when the anchor goes."""
    owner = {
        "apiVersion": anchor["apiVersion"],
        "kind": anchor["kind"],
        "name": anchor["metadata"]["name"],
        "uid": anchor["metadata"]["uid"],
    }
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [owner]}}


def secret(names: RunNames, namespace: str, certificates: Certificates, installation: Installation | None) -> Manifest:
    """The certificates of the cluster, and pip's configuration where there is one."""
    content = {**certificates.files(), **(installation.pip_files if installation else {})}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(names, namespace, "certificates"),
        "type": "Opaque",
        "immutable": True,
        "data": {name: base64.b64encode(value).decode() for name, value in content.items()},
    }


def files(names: RunNames, namespace: str, archive: bytes, installation: Installation | None) -> Manifest:
    """What the pods mount: skjob's own source, and the requirements where they install any."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(names, namespace, "files"),
        "immutable": True,
        "data": {REQUIREMENTS_FILE: installation.requirements} if installation else {},
        "binaryData": {ARCHIVE_FILE: base64.b64encode(archive).decode()},
    }


def dask_cluster(names: RunNames, namespace: str, plan: Plan, installation: Installation | None) -> Manifest:
    """The DaskCluster, from which the operator makes the scheduler, its Service and the workers."""
    service = f"{names.cluster}-scheduler"
    scheduler = _pod(
        names,
        plan,
        installation,
        name="scheduler",
        command=[
            "python", "-m", "distributed.cli.dask_scheduler",
            "--protocol", "tls",
            "--port", str(SCHEDULER_PORT),
            "--dashboard-address", f"127.0.0.1:{PAGES_PORT}",
            "--no-show",
        ],
        # Data that is sent to a worker passes through here: what a worker can hold must fit.
        resources=_resources(SCHEDULER_CPU, str(max(SCHEDULER_MEMORY, plan.size.memory))),
        ports=[{"name": "tcp-comm", "containerPort": SCHEDULER_PORT}],
    )  # fmt: skip
    worker = _pod(
        names,
        plan,
        installation,
        name="worker",
        command=[
            # Without a nanny: the pod restarts a worker that dies, and says in its status why it died.
            "python", "-m", "distributed.cli.dask_worker",
            "--no-nanny",
            "--name", "$(DASK_WORKER_NAME)",
            "--nthreads", str(plan.size.threads),
            "--memory-limit", str(plan.size.memory),
            "--no-dashboard",
            "--dashboard-address", "127.0.0.1:0",
            "--local-directory", SCRATCH_FOLDER,
        ],
        resources=_resources(_cores(plan.size.cpu), str(plan.size.memory)),
        ports=[],
    )  # fmt: skip
    # The operator adds an address of its own, tcp://…, only where there is none.
    worker["containers"][0]["env"].append(
        {"name": "DASK_SCHEDULER_ADDRESS", "value": f"tls://{service}.{namespace}:{SCHEDULER_PORT}"}
    )
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": _metadata(names, namespace, "cluster"),
        "spec": {
            "scheduler": {
                "metadata": {"labels": {COMPONENT_LABEL: "scheduler"}},
                "spec": scheduler,
                "service": {
                    "type": "ClusterIP",
                    "selector": {"dask.org/cluster-name": names.cluster, "dask.org/component": "scheduler"},
                    "ports": [{"name": "tcp-comm", "port": SCHEDULER_PORT, "targetPort": "tcp-comm"}],
                    # Workers that come before the scheduler is ready would back off for seconds.
                    "publishNotReadyAddresses": True,
                },
            },
            "worker": {
                "metadata": {"labels": {COMPONENT_LABEL: "worker"}},
                "replicas": plan.workers.first,
                "spec": worker,
            },
        },
    }


def _metadata(names: RunNames, namespace: str, component: str) -> Manifest:
    return {
        "name": names.cluster,
        "namespace": namespace,
        "labels": names.labels(component),
        "annotations": names.annotations(),
    }


def _pod(
    names: RunNames,
    plan: Plan,
    installation: Installation | None,
    *,
    name: str,
    command: list[str],
    resources: Manifest,
    ports: list[Manifest],
) -> Manifest:
    mounts: list[Manifest] = [
        {"name": "tls", "mountPath": TLS_FOLDER, "readOnly": True},
        {"name": "run", "mountPath": RUN_FOLDER, "readOnly": True},
        {"name": "tmp", "mountPath": SCRATCH_FOLDER},
    ]
    tls_items = [{"key": file, "path": file} for file in (CA_FILE, CERTIFICATE_FILE, KEY_FILE)]
    volumes: list[Manifest] = [
        {"name": "tls", "secret": {"secretName": names.cluster, "items": tls_items, "defaultMode": 0o440}},
        {"name": "run", "configMap": {"name": names.cluster}},
        {"name": "tmp", "emptyDir": {}},
    ]
    python_path = f"{RUN_FOLDER}/{ARCHIVE_FILE}"
    pod: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": _pod_security(),
    }
    if installation is not None:
        python_path = f"{SITE_FOLDER}:{python_path}"
        mounts.append({"name": "site", "mountPath": SITE_FOLDER})
        volumes.append({"name": "site", "emptyDir": {}})
        pod["initContainers"] = [_install(names, plan, installation, mounts, volumes)]
    pod["containers"] = [
        {
            "name": name,
            "image": plan.image,
            "command": command,
            "env": _environment(python_path, plan.retries),
            "ports": ports,
            "resources": resources,
            "securityContext": _NOBODY_EXTRA,
            "volumeMounts": mounts,
        }
    ]
    pod["volumes"] = volumes
    return pod


def _install(
    names: RunNames, plan: Plan, installation: Installation, mounts: list[Manifest], volumes: list[Manifest]
) -> Manifest:
    pip_items = [{"key": file, "path": file} for file in sorted(installation.pip_files)]
    pip_mounts = []
    if pip_items:
        volumes.append(
            {"name": "pip", "secret": {"secretName": names.cluster, "items": pip_items, "defaultMode": 0o440}}
        )
        pip_mounts = [{"name": "pip", "mountPath": PIP_FOLDER, "readOnly": True}]
    return {
        "name": "environment",
        "image": plan.image,
        "command": [
            "python", "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", "--no-input",
            "--only-binary", ":all:", "--target", SITE_FOLDER, "--requirement", f"{RUN_FOLDER}/{REQUIREMENTS_FILE}",
        ],
        "env": [
            {"name": "HOME", "value": SCRATCH_FOLDER},
            {"name": "PIP_CONFIG_FILE", "value": f"{PIP_FOLDER}/{CONFIG_FILE}"},
        ],
        "resources": _resources("100m", "1Gi"),
        "securityContext": _NOBODY_EXTRA,
        "volumeMounts": [*mounts, *pip_mounts],
    }  # fmt: skip


def _environment(python_path: str, retries: int) -> list[Manifest]:
    tls = "DASK_DISTRIBUTED__COMM__TLS"
    variables = {
        "HOME": SCRATCH_FOLDER,  # the root file system is read-only
        "PYTHONPATH": python_path,
        "PYTHONUNBUFFERED": "1",
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
        f"{tls}__CA_FILE": f"{TLS_FOLDER}/{CA_FILE}",
        # Else the scheduler takes copies of shared data away 2 s after a call, and the next call fetches them anew.
        "DASK_DISTRIBUTED__SCHEDULER__ACTIVE_MEMORY_MANAGER__START": "False",
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(retries),
        # `skjob.engine.stop.RESTARTED_VARIABLE`, whose import would slow each start down by joblib's.
        "SKJOB_WORKER_IS_RESTARTED": "1",
        # Every look of the scaling loop would be a line of the scheduler's log.
        "DASK_LOGGING": "{'distributed': 'info', 'distributed.worker': 'warning'}",
    }
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        variables[f"{tls}__{role}__CERT"] = f"{TLS_FOLDER}/{CERTIFICATE_FILE}"
        variables[f"{tls}__{role}__KEY"] = f"{TLS_FOLDER}/{KEY_FILE}"
    for library in ("OMP", "OPENBLAS", "MKL"):
        # A fit has one core: as many threads as the node has cores would fight for it.
        variables[f"{library}_NUM_THREADS"] = "1"
    return [{"name": name, "value": value} for name, value in variables.items()]


def _resources(cpu: str, memory: str) -> Manifest:
    """Memory is limited to what is requested; cores are not limited: what is idle may be used."""
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}


def _cores(cores: float) -> str:
    return f"{round(cores * 1000)}m"


def _pod_security() -> Manifest:
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
