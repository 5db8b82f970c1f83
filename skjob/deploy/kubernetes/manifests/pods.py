"""Build what all pods and objects of skjob have in common: owner, metadata, mounts, security, resources."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from skjob.config.environment_variables import GPUS_VARIABLE
from skjob.config.hash_seed import hash_seed
from skjob.config.namespace_policy import NamespacePolicy
from skjob.config.nodes import GPU, Scheduling
from skjob.config.pod_settings import PodSettings
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests.labels import (
    ENVIRONMENT_ANNOTATION,
    RUN_LABEL,
    RunNames,
)
from skjob.environment.pod.entrypoint import RUN_FOLDER
from skjob.utils.tls import CA_FILE, CERTIFICATE_FILE, KEY_FILE

SCHEDULER_PORT = 8786

PAGES_PORT = 8787

USER = 1000

_PAGE_MODULES = ("scheduler.prometheus", "scheduler.info", "scheduler.json", "health", "statics")

PAGES = [f"distributed.http.{page}" for page in _PAGE_MODULES]
"""Pages that the scheduler serves, whatever an image's own settings say.

Not its API, which lets anyone who reaches the port retire workers, nor its proxy to the pages of workers.
"""

TLS_FOLDER = "/skjob/tls"

SCRATCH_FOLDER = "/tmp"  # noqa: S108 - the pod's own

ARCHIVE_FILE = "skjob.zip"

NO_PRIVILEGES = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def anchor_job(
    names: RunNames, namespace: str, lifetime: float, environment: str = "", made_by: Mapping[str, str] | None = None
) -> Manifest:
    """Return the anchor: the owner Job of all of a run's objects, which lives for `lifetime` seconds unless extended.

    It records which environment the run needs, so that later users of its cluster keep that too. `made_by` are
    annotations that identify the skjob whose source the pods have.
    """
    metadata = object_metadata(names, namespace, "anchor")
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
                # Never becomes a pod, but has to be valid and pass the admission rules for pods.
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "securityContext": restricted_security(),
                    "containers": [
                        {
                            "name": "none",
                            "image": "none.invalid/none",
                            "securityContext": NO_PRIVILEGES,
                            "resources": resource_requests("1m", "1Mi"),
                        }
                    ],
                }
            },
        },
    }


def owned_by(anchor: Manifest, manifest: Manifest) -> Manifest:
    """Return an object that is removed with the anchor."""
    owner = {
        "apiVersion": anchor["apiVersion"],
        "kind": anchor["kind"],
        "name": anchor["metadata"]["name"],
        "uid": anchor["metadata"]["uid"],
    }
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [owner]}}


def policy_for(names: RunNames, namespace: str, ingress: Manifest) -> Manifest:
    """Return a policy for all pods of a run. Egress is not limited: data and packages may be anywhere."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": object_metadata(names, namespace, "network"),
        "spec": {**pods_with(RUN_LABEL, names.run_id), "policyTypes": ["Ingress"], "ingress": [ingress]},
    }


def pods_with(label: str, value: str) -> Manifest:
    """Return the selector of pods with this label, for a NetworkPolicy."""
    return {"podSelector": {"matchLabels": {label: value}}}


def placed(pod: Manifest, scheduling: Scheduling) -> Manifest:
    """Return a pod's spec with the scheduling that the platform team wants."""
    placement: Manifest = {}
    if scheduling.node_selector:
        placement["nodeSelector"] = dict(scheduling.node_selector)
    if scheduling.tolerations:
        placement["tolerations"] = [dict(toleration) for toleration in scheduling.tolerations]
    if scheduling.priority_class:
        placement["priorityClassName"] = scheduling.priority_class
    return pod | placement


def with_team_settings(template: Manifest, rules: NamespacePolicy, *, runs_tasks: bool = False) -> Manifest:
    """Return a pod template with the platform team's settings and scheduling.

    Variables, mounts, the service account and preemptible nodes are only for pods that run tasks. The operator gives
    pods the annotations of their DaskCluster: whoever builds one moves those of the template there.
    """
    settings = rules.pods
    metadata = template.get("metadata", {})
    pod = placed(template["spec"], rules.scheduling if runs_tasks else rules.support_scheduling)
    pod = pod | {"containers": [_without_unrequested_gpus(container) for container in pod["containers"]]}
    if settings.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in settings.pull_secrets]
    if runs_tasks:
        pod = _with_mounts(pod, settings)
        if settings.service_account:
            pod["serviceAccountName"] = settings.service_account
    metadata = metadata | {
        "labels": {**settings.labels, **metadata.get("labels", {})},
        "annotations": {**settings.annotations, **metadata.get("annotations", {})},
    }
    return template | {"metadata": metadata, "spec": pod}


def _without_unrequested_gpus(container: Manifest) -> Manifest:
    """Return a container that has no GPUs unless it asks for them, whatever its image says to NVIDIA's runtime."""
    if GPU in container["resources"]["limits"]:
        return container  # Kubernetes says which
    return container | {"env": [*container.get("env", []), {"name": GPUS_VARIABLE, "value": "void"}]}


def _with_mounts(pod: Manifest, settings: PodSettings) -> Manifest:
    """Return a pod's spec whose containers also have the team's variables and mounts.

    A source that is mounted at several paths is one volume: a kubelet may wait forever for a claim's second one.
    """
    sources: list[Mapping[str, Any]] = []
    mounts: list[Manifest] = []
    for each in settings.mounts:
        if each.volume not in sources:
            sources.append(each.volume)
        sub_path = {"subPath": each.sub_path} if each.sub_path else {}
        name = f"team-{sources.index(each.volume)}"
        mounts.append({"name": name, "mountPath": each.path, "readOnly": each.read_only, **sub_path})
    writable = [each.volume for each in settings.mounts if not each.read_only]
    volumes: list[Manifest] = []
    for number, source in enumerate(sources):
        volume = {"name": f"team-{number}", **source}
        if "persistentVolumeClaim" in source and source not in writable:
            # Otherwise its files would be given to the pod's group, one by one, before the pod starts.
            volume["persistentVolumeClaim"] = {**source["persistentVolumeClaim"], "readOnly": True}
        volumes.append(volume)
    folders = ":".join(each.path for each in settings.mounts if not each.read_only)
    containers = [
        container
        | {
            "env": container["env"] + _team_variables(container["env"], settings, folders),
            "volumeMounts": container["volumeMounts"] + mounts,
        }
        for container in pod["containers"]
    ]
    return pod | {"containers": containers, "volumes": pod["volumes"] + volumes}


def _team_variables(present: list[Manifest], settings: PodSettings, folders: str) -> list[Manifest]:
    """Return the team's variables for a container, except those that it has already.

    `folders` are those that tasks may write to (`skjob.engine.fidelity.effects.guard.SHARED_VARIABLE`).
    """
    names = {each["name"] for each in present}
    variables = [each.as_env() for each in settings.variables if each.variable not in names]
    shared = [{"name": "SKJOB_WORKER_SHARED_FOLDERS", "value": folders}] if folders else []
    return variables + shared


def object_metadata(names: RunNames, namespace: str, component: str) -> Manifest:
    """Return the metadata of an object that is named like its cluster."""
    return {
        "name": names.cluster,
        "namespace": namespace,
        "labels": names.labels(component),
        "annotations": names.annotations(),
    }


def pod_mounts(names: RunNames, tls_folder: str) -> tuple[list[Manifest], list[Manifest]]:
    """Return the mounts and volumes of every pod: certificates, files, and the only folder it may write to."""
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


def pod_environment(python_path: str, retries: int) -> list[Manifest]:
    """Return the environment variables of scheduler and worker containers."""
    tls = "DASK_DISTRIBUTED__COMM__TLS"
    variables = {
        "HOME": SCRATCH_FOLDER,  # the root file system is read-only
        "PYTHONPATH": python_path,
        "PYTHONUNBUFFERED": "1",
        **hash_seed(os.environ),  # the program's: else sets of strings have another order in each pod
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
        f"{tls}__CA_FILE": f"{TLS_FOLDER}/{CA_FILE}",
        # Otherwise the scheduler drops copies of shared data 2 s after a call, and the next call fetches them again.
        "DASK_DISTRIBUTED__SCHEDULER__ACTIVE_MEMORY_MANAGER__START": "False",
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(retries),
        "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": str(PAGES),
        # A nanny would set the first: freed memory goes back to the system, which matters as the limit counts it and
        # Dask pauses a worker at 80 % of it. Arrow's own pool and an arena for each thread would hold on to theirs.
        "MALLOC_TRIM_THRESHOLD_": "65536",
        "MALLOC_ARENA_MAX": "2",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        # `skjob.engine.cancellation.RESTARTED_VARIABLE`; importing it would import joblib too and slow down each start.
        "SKJOB_WORKER_IS_RESTARTED": "1",
        # `skjob.engine.fidelity.effects.guard.FOLDER_VARIABLE`, for the same reason.
        "SKJOB_WORKER_FOLDER": f"{SCRATCH_FOLDER}/skjob-work",
        # Otherwise every check of the scaling loop would be a line in the scheduler's log.
        "DASK_LOGGING": "{'distributed': 'info', 'distributed.worker': 'warning'}",
    }
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        variables[f"{tls}__{role}__CERT"] = f"{TLS_FOLDER}/{CERTIFICATE_FILE}"
        variables[f"{tls}__{role}__KEY"] = f"{TLS_FOLDER}/{KEY_FILE}"
    for library in ("OMP", "OPENBLAS", "MKL"):
        # A fit has one core, for which as many threads as the node has cores would compete.
        variables[f"{library}_NUM_THREADS"] = "1"
    return [{"name": name, "value": value} for name, value in variables.items()]


def resource_requests(cpu: str, memory: str, gpus: int = 0) -> Manifest:
    """Return a container's resources. Memory is limited to the request; cores are not, so idle ones can be used."""
    devices = {GPU: str(gpus)} if gpus else {}
    return {"requests": {"cpu": cpu, "memory": memory, **devices}, "limits": {"memory": memory, **devices}}


def format_cores(cores: float) -> str:
    """Return cores as a Kubernetes quantity, such as `500m`."""
    return f"{round(cores * 1000)}m"


def restricted_security() -> Manifest:
    """Return a pod security context that satisfies the `restricted` standard."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
