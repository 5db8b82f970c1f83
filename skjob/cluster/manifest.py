"""Plan -> the objects of a run: anchor, certificates, what the pods mount, DaskCluster. Pure.

The anchor is a Job without pods. It owns every other object, and its deadline is moved on by the client's heartbeat:
when heartbeats stop, Kubernetes itself ends the Job and collects the whole tree, with no help from skjob or the
operator (batch/v1 `activeDeadlineSeconds` and `ttlSecondsAfterFinished`, garbage collection by ownerReferences).

Pods pass the `restricted` Pod Security Standard: no root, no capabilities, a read-only root file system, no token of a
service account. Nothing listens in them but the TLS port of Dask; its HTTP pages are on the pod's own loopback, which
a port-forward reaches and other pods do not. Where the pod network enforces it, nobody else's pods connect at all.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from skjob.cluster.certificates import CA_FILE, CERTIFICATE_FILE, KEY_FILE
from skjob.cluster.names import (
    COMPONENT_LABEL,
    ENVIRONMENT_ANNOTATION,
    INSTANCE_LABEL,
    NAME_LABEL,
    QUEUE_LABEL,
    RUN_LABEL,
    RunNames,
)
from skjob.config import parse_quantity
from skjob.environment.keeper import INDEX_FOLDER, PORT
from skjob.environment.needs import NEEDS_FILE, Needs
from skjob.environment.pod import KEEPER_TLS_FOLDER, RUN_FOLDER, SITE_FOLDER
from skjob.plan import Plan, WorkerSize
from skjob.team import Scheduling

Manifest = dict[str, Any]

SCHEDULER_PORT = 8786
PAGES_PORT = 8787
USER = 1000

_SHOWN = ("scheduler.prometheus", "scheduler.info", "scheduler.json", "health", "statics")
PAGES = [f"distributed.http.{page}" for page in _SHOWN]
"""What the scheduler shows. Not its API, by which whoever reaches the port retires workers, whatever an image's own
settings say; nor the way through it to the pages of others."""

TLS_FOLDER = "/skjob/tls"
SCRATCH_FOLDER = "/tmp"  # noqa: S108 - the pod's own
ARCHIVE_FILE = "skjob.zip"

ANYWHERE = Scheduling()
KEEPER_MEMORY = "1Gi"
SCHEDULER_CPU, SCHEDULER_MEMORY = "50m", 2**30

_NOBODY_EXTRA = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def anchor(
    names: RunNames, namespace: str, lifetime: float, environment: str = "", made_by: Mapping[str, str] | None = None
) -> Manifest:
    """The owner of all: lives for `lifetime` seconds, unless it is prolonged.

    It says which environment the run needs: whoever takes its cluster over, keeps that too. `made_by` are annotations
    that name the skjob whose source the pods have.
    """
    metadata = _metadata(names, namespace, "anchor")
    metadata["annotations"] |= made_by or {}
    if environment:
        metadata["annotations"] |= {ENVIRONMENT_ANNOTATION: environment}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
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


def secret(names: RunNames, namespace: str, content: Mapping[str, bytes]) -> Manifest:
    """Certificates, and whatever else is nobody else's to read."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(names, namespace, "certificates"),
        "type": "Opaque",
        "immutable": True,
        "data": {name: base64.b64encode(value).decode() for name, value in content.items()},
    }


def files(names: RunNames, namespace: str, archive: bytes, needs: Needs | None) -> Manifest:
    """What the pods mount: skjob's own source, and what they need beside it."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(names, namespace, "files"),
        "immutable": True,
        "data": {NEEDS_FILE: needs.as_json()} if needs else {},
        "binaryData": {ARCHIVE_FILE: base64.b64encode(archive).decode()},
    }


def network_policy(names: RunNames, namespace: str) -> Manifest:
    """Who may connect to a run's pods: those of the same run, at any port, because boosters choose theirs.

    The operator asks nothing of a scheduler whose workers skjob removes, and a port-forward comes from the pod's own
    node, which no policy keeps out.
    """
    return _network_policy(names, namespace, {"from": [_pods_with(RUN_LABEL, names.run_id)]})


def keeper_policy(names: RunNames, namespace: str) -> Manifest:
    """Who may fetch an environment: the pods of any run in the namespace, for all of which it is kept."""
    ports = [{"protocol": "TCP", "port": PORT}]
    return _network_policy(names, namespace, {"from": [_pods_with(NAME_LABEL, "skjob")], "ports": ports})


def _network_policy(names: RunNames, namespace: str, ingress: Manifest) -> Manifest:
    """For all pods of a run. What they connect to is not limited: data and packages may be anywhere."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(names, namespace, "network"),
        "spec": {**_pods_with(RUN_LABEL, names.run_id), "policyTypes": ["Ingress"], "ingress": [ingress]},
    }


def _pods_with(label: str, value: str) -> Manifest:
    return {"podSelector": {"matchLabels": {label: value}}}


def placed(pod: Manifest, scheduling: Scheduling) -> Manifest:
    """The spec of a pod that runs where the platform team wants it."""
    where: Manifest = {}
    if scheduling.node_selector:
        where["nodeSelector"] = dict(scheduling.node_selector)
    if scheduling.tolerations:
        where["tolerations"] = [dict(toleration) for toleration in scheduling.tolerations]
    if scheduling.priority_class:
        where["priorityClassName"] = scheduling.priority_class
    return pod | where


def keeper_job(
    names: RunNames,
    namespace: str,
    image: str,
    index_files: Sequence[str],
    lifetime: float,
    scheduling: Scheduling = ANYWHERE,
) -> Manifest:
    """The anchor of an environment, whose one pod makes it and keeps it (`skjob.environment.keeper`)."""
    mounts, volumes = _mounts(names, KEEPER_TLS_FOLDER)
    mounts.append({"name": "site", "mountPath": SITE_FOLDER})
    volumes.append({"name": "site", "emptyDir": {}})
    if index_files:
        items = [{"key": file, "path": file} for file in sorted(index_files)]
        mounts.append({"name": "index", "mountPath": INDEX_FOLDER, "readOnly": True})
        volumes.append({"name": "index", "secret": {"secretName": names.cluster, "items": items, "defaultMode": 0o440}})
    job = anchor(names, namespace, lifetime)
    # A failure stays to be seen for a while; a pod that its node lost is made anew.
    job["spec"] |= {"parallelism": 1, "backoffLimit": 3, "ttlSecondsAfterFinished": 60}
    job["spec"]["template"]["metadata"] = {"labels": names.labels("environment")}
    pod = job["spec"]["template"]["spec"]
    pod |= {"enableServiceLinks": False, "terminationGracePeriodSeconds": 1, "volumes": volumes}
    pod["containers"] = [
        {
            "name": "environment",
            "image": image,
            "command": ["python", "-m", "skjob.environment.keeper"],
            "env": [
                {"name": "HOME", "value": SCRATCH_FOLDER},
                {"name": "PYTHONPATH", "value": f"{RUN_FOLDER}/{ARCHIVE_FILE}"},
                {"name": "PYTHONUNBUFFERED", "value": "1"},
            ],
            "ports": [{"name": "environment", "containerPort": PORT}],
            # It serves when it listens: it listens when all is installed.
            "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
            "resources": _resources("100m", KEEPER_MEMORY),
            "securityContext": _NOBODY_EXTRA,
            "volumeMounts": mounts,
        }
    ]
    job["spec"]["template"]["spec"] = placed(pod, scheduling)
    return job


def keeper_service(names: RunNames, namespace: str) -> Manifest:
    """Where pods find it, whatever pod of the Job it is."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(names, namespace, "environment"),
        "spec": {
            "type": "ClusterIP",
            "selector": {INSTANCE_LABEL: names.cluster},
            "ports": [{"name": "environment", "port": PORT, "targetPort": "environment"}],
        },
    }


def dask_cluster(names: RunNames, namespace: str, plan: Plan, needs: Needs | None, environment: str = "") -> Manifest:
    """The DaskCluster, from which the operator makes the scheduler, its Service and the workers.

    The operator gives all of them the DaskCluster's labels, and the two kinds of pods those of their own.

    With `needs`, each pod sees to them before it becomes Dask; `environment` names the objects that keep what the image
    lacks, where it lacks anything.
    """
    service = f"{names.cluster}-scheduler"
    # Kueue counts pods. The anchor has none, and would be suspended, which stops its clock.
    queue = {QUEUE_LABEL: plan.rules.scheduling.queue} if plan.rules.scheduling.queue else {}
    scheduler = _pod(
        names,
        plan,
        needs,
        environment,
        name="scheduler",
        command=[
            "distributed.cli.dask_scheduler",
            "--protocol", "tls",
            "--port", str(SCHEDULER_PORT),
            "--dashboard-address", f"127.0.0.1:{PAGES_PORT}",
            "--no-show",
        ],
        # Data that is sent to a worker passes through here: what a worker can hold must fit.
        resources=_resources(SCHEDULER_CPU, str(scheduler_memory(plan.size))),
        ports=[{"name": "tcp-comm", "containerPort": SCHEDULER_PORT}],
    )  # fmt: skip
    worker = _pod(
        names,
        plan,
        needs,
        environment,
        name="worker",
        command=[
            # Without a nanny: the pod restarts a worker that dies, and says in its status why it died.
            "distributed.cli.dask_worker",
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
                "metadata": {"labels": {COMPONENT_LABEL: "scheduler"} | queue},
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
                "metadata": {"labels": {COMPONENT_LABEL: "worker"} | queue},
                "replicas": plan.workers.first,
                "spec": worker,
            },
        },
    }


def scheduler_memory(worker: WorkerSize) -> int:
    """In bytes, beside workers of this size."""
    return max(SCHEDULER_MEMORY, worker.memory)


def size_of(cluster: Manifest) -> WorkerSize:
    """The workers' size in a DaskCluster that `dask_cluster` has made."""
    [container] = cluster["spec"]["worker"]["spec"]["containers"]
    requests, command = container["resources"]["requests"], container["command"]
    threads = int(command[command.index("--nthreads") + 1])
    return WorkerSize(parse_quantity(requests["cpu"]), int(parse_quantity(requests["memory"])), threads)


def image_of(cluster: Manifest) -> str:
    """The image of its workers."""
    return str(cluster["spec"]["worker"]["spec"]["containers"][0]["image"])


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
    needs: Needs | None,
    environment: str,
    *,
    name: str,
    command: list[str],
    resources: Manifest,
    ports: list[Manifest],
) -> Manifest:
    mounts, volumes = _mounts(names, TLS_FOLDER)
    python_path = f"{RUN_FOLDER}/{ARCHIVE_FILE}"
    start = ["python", "-m"]
    if needs is not None:
        start.append("skjob.environment.pod")
        python_path = f"{SITE_FOLDER}:{python_path}"
    variables = _environment(python_path, plan.retries)
    if environment:
        # Libraries that wheels expect of the system, and slim images lack (skjob.environment.archives).
        variables.append({"name": "LD_LIBRARY_PATH", "value": SITE_FOLDER})
        items = [{"key": file, "path": file} for file in (CA_FILE, CERTIFICATE_FILE, KEY_FILE)]
        mounts += [
            {"name": "site", "mountPath": SITE_FOLDER},
            {"name": "environment", "mountPath": KEEPER_TLS_FOLDER, "readOnly": True},
        ]
        volumes += [
            {"name": "site", "emptyDir": {}},
            {"name": "environment", "secret": {"secretName": environment, "items": items, "defaultMode": 0o440}},
        ]
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": _pod_security(),
        "containers": [
            {
                "name": name,
                "image": plan.image,
                "command": [*start, *command],
                "env": variables,
                "ports": ports,
                "resources": resources,
                "securityContext": _NOBODY_EXTRA,
                "volumeMounts": mounts,
            }
        ],
        "volumes": volumes,
    }
    return placed(pod, plan.rules.scheduling)


def _mounts(names: RunNames, tls_folder: str) -> tuple[list[Manifest], list[Manifest]]:
    """What every pod has: certificates, files, and the only folder that it may write to."""
    tls_items = [{"key": file, "path": file} for file in (CA_FILE, CERTIFICATE_FILE, KEY_FILE)]
    mounts: list[Manifest] = [
        {"name": "tls", "mountPath": tls_folder, "readOnly": True},
        {"name": "run", "mountPath": RUN_FOLDER, "readOnly": True},
        {"name": "tmp", "mountPath": SCRATCH_FOLDER},
    ]
    volumes: list[Manifest] = [
        {"name": "tls", "secret": {"secretName": names.cluster, "items": tls_items, "defaultMode": 0o440}},
        {"name": "run", "configMap": {"name": names.cluster}},
        {"name": "tmp", "emptyDir": {}},
    ]
    return mounts, volumes


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
        "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": str(PAGES),
        # A nanny would set the first: memory that was given up goes back to the system, which the limit counts, and at
        # 80 % of it Dask gives a worker no more tasks. Arrow's own pool and an arena for each thread would keep theirs.
        "MALLOC_TRIM_THRESHOLD_": "65536",
        "MALLOC_ARENA_MAX": "2",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        # `skjob.engine.stop.RESTARTED_VARIABLE`, whose import would slow each start down by joblib's.
        "SKJOB_WORKER_IS_RESTARTED": "1",
        # `skjob.engine.fidelity.guard.FOLDER_VARIABLE`, for the same reason.
        "SKJOB_WORKER_FOLDER": f"{SCRATCH_FOLDER}/skjob-work",
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
