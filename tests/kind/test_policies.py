"""Requests that bypass skjob, which the cluster's admission policies refuse.

`ATTACKS` has each request with the message of its refusal, `ACCEPTED` has similar requests that the policies allow.
Every request is a dry run.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from support.releases import Release, installed
from support.users import user_environment
from support.wait import until

from skjob.config.namespace_policy import NamespacePolicy
from skjob.config.nodes import Scheduling
from skjob.config.plan import Machine, make_plan
from skjob.config.pod_settings import NO_SIDECAR, parse_pods
from skjob.config.settings import Place, Settings, WorkerRange
from skjob.deploy.kubernetes.manifests.environment import package_server_job
from skjob.deploy.kubernetes.manifests.labels import RunNames
from skjob.deploy.kubernetes.manifests.pods import anchor_job, owned_by, placed
from skjob.deploy.kubernetes.manifests.run import dask_cluster

Manifest = dict[str, Any]

JOBS, CONFIGMAPS, SECRETS, SERVICES = "/apis/batch/v1 jobs", "/api/v1 configmaps", "/api/v1 secrets", "/api/v1 services"
CLUSTERS, GROUPS = "/apis/kubernetes.dask.org/v1 daskclusters", "/apis/kubernetes.dask.org/v1 daskworkergroups"
DEPLOYMENTS, VOLUMES = "/apis/apps/v1 deployments", "/api/v1 persistentvolumeclaims"
NETWORKS = "/apis/networking.k8s.io/v1 networkpolicies"

RUN = "a-run"
GROUP = f"{RUN}-default"
PACKAGE_SERVER = "skjob-environment-0123456789ab"
UID = "00000000-0000-0000-0000-000000000000"
KOPF = "kopf.zalando.org/KopfFinalizerMarker"

CONTAINER: Manifest = {
    "name": "sleeper",
    "image": "localhost/skjob:dev",
    "command": ["sleep", "3600"],
    "ports": [{"name": "tcp-comm", "containerPort": 8786}],
    "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"memory": "32Mi"}},
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}
SELECTOR = {"kubernetes.io/os": "linux", "pool": "batch"}
TOLERATIONS: list[Manifest] = [
    {"key": "batch", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "spot", "value": "yes"},
    {"key": "drained", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},
]
DEFAULT_TOLERATIONS = [
    {"key": f"node.kubernetes.io/{what}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    for what in ("not-ready", "unreachable")
]
LIMITS = {
    "max-workers": 3, "most-workers": 5, "max-cpu": "2", "most-cpu": "1",
    "max-memory": "2Gi", "most-memory": "3Gi", "max-time": "1h", "most-time": "10m",
}  # fmt: skip
"""Each limit under its new and its old name: the stricter applies."""

PLACEMENT = {"priority-class": "batch", "node-selector": SELECTOR, "tolerations": TOLERATIONS}
SCHEDULING = Scheduling(SELECTOR, tuple(TOLERATIONS), "batch")
TOKEN: Manifest = {"audience": "sts.amazonaws.com", "expirationSeconds": 3600}
PODS: Manifest = {
    "labels": {"cost-centre": "42"},
    "annotations": {"example.org/note": "a, b=c"},
    "imagePullSecrets": ["registry"],
    "env": [
        {"name": "HTTPS_PROXY", "value": "http://proxy:3128"},
        {"name": "HUB_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
        {"name": "REGION", "valueFrom": {"configMapKeyRef": {"name": "site", "key": "region"}}},
    ],
    "mounts": [
        {"mountPath": "/mnt/data", "persistentVolumeClaim": {"claimName": "data"}},
        {
            "mountPath": "/mnt/scratch",
            "persistentVolumeClaim": {"claimName": "data"},
            "readOnly": False,
            "subPath": "scratch",
        },
        {"mountPath": "/etc/site", "configMap": {"name": "site"}},
        {"mountPath": "/etc/hub", "secret": {"secretName": "hub"}},
        {"mountPath": "/var/run/secrets/cloud", "serviceAccountToken": TOKEN},
    ],
    "serviceAccountName": "trainer",
}
LABELS: dict[str, str] = PODS["labels"]
ANNOTATIONS: dict[str, str] = PODS["annotations"]
RULES = NamespacePolicy(scheduling=SCHEDULING, pods=parse_pods(yaml.safe_dump(PODS)))
POD: Manifest = {
    "automountServiceAccountToken": False,
    "terminationGracePeriodSeconds": 1,
    "nodeSelector": SELECTOR,
    "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [CONTAINER],
}


def job(name: str = RUN, **spec: Any) -> Manifest:
    """Return the Job that owns a run. None removes a field of its spec."""
    whole = {
        "parallelism": 0,
        "activeDeadlineSeconds": 300,
        "ttlSecondsAfterFinished": 0,
        "template": {
            "metadata": {"labels": {**LABELS}, "annotations": {**ANNOTATIONS}},
            "spec": {**copy.deepcopy(POD), "restartPolicy": "Never"},
        },
    }
    spec = {key: value for key, value in (whole | spec).items() if value is not None}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def owner(name: str = RUN, uid: str = UID, **other: Any) -> Manifest:
    return {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid, **other}


def cluster(name: str = RUN, workers: int = 1, owners: list[Manifest] | None = None, **metadata: Any) -> Manifest:
    """Return the DaskCluster of a run."""
    port = {"name": "tcp-comm", "port": 8786, "targetPort": "tcp-comm"}
    selector = {"dask.org/cluster-name": name, "dask.org/component": "scheduler"}
    own = {"name": name, "ownerReferences": [owner()] if owners is None else owners, "annotations": {**ANNOTATIONS}}
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": own | metadata,
        "spec": {
            "worker": {"replicas": workers, "metadata": {"labels": {**LABELS}}, "spec": copy.deepcopy(POD)},
            "scheduler": {
                "metadata": {"labels": {**LABELS}},
                "spec": copy.deepcopy(POD),
                "service": {"type": "ClusterIP", "selector": selector, "ports": [port]},
            },
        },
    }


def group(
    name: str = "other-default", workers: int = 1, owners: list[Manifest] | None = None, **metadata: Any
) -> Manifest:
    """Return the DaskWorkerGroup of a cluster, as the operator creates it."""
    own = {"name": name, "ownerReferences": owners or [], "annotations": {**ANNOTATIONS}}
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskWorkerGroup",
        "metadata": own | metadata,
        "spec": {
            "cluster": "other",
            "worker": {"replicas": workers, "metadata": {"labels": {**LABELS}}, "spec": copy.deepcopy(POD)},
        },
    }


def network(*peers: Manifest, owners: list[Manifest] | None = None, finalizers: Any = (), **spec: Any) -> Manifest:
    """Return the NetworkPolicy of a run's pods."""
    own = {"podSelector": {"matchLabels": {"skjob/run": "a"}}}
    whole = {**own, "policyTypes": ["Ingress"], "ingress": [{"from": [*peers] or [own]}]}
    owners = [owner()] if owners is None else owners
    metadata = {"name": "own", "ownerReferences": owners, "finalizers": [*finalizers]}
    return {"metadata": metadata, "spec": whole | spec}


def with_worker_pod(manifest: Manifest, **fields: Any) -> Manifest:
    """Set these fields of the workers' pods."""
    manifest["spec"]["worker"]["spec"] |= fields
    return manifest


def with_scheduler_pod(manifest: Manifest, **fields: Any) -> Manifest:
    """Set these fields of the scheduler's pod."""
    manifest["spec"]["scheduler"]["spec"] |= fields
    return manifest


def with_scheduler_resources(manifest: Manifest, **resources: Any) -> Manifest:
    manifest["spec"]["scheduler"]["spec"]["containers"][0]["resources"] |= resources
    return manifest


def with_metadata(manifest: Manifest, part: str, **metadata: Any) -> Manifest:
    """Set the metadata of objects that the operator creates for a part, `worker` or `scheduler`."""
    manifest["spec"][part]["metadata"] = metadata
    return manifest


def with_port(manifest: Manifest, name: str) -> Manifest:
    """Add a port with this name to the scheduler's Service."""
    manifest["spec"]["scheduler"]["service"]["ports"].append({"name": name, "port": 8787})
    return manifest


def with_pod(manifest: Manifest, **fields: Any) -> Manifest:
    """Set these fields of a Job's pod."""
    manifest["spec"]["template"]["spec"] |= fields
    return manifest


def containers_reading(key: str | None, name: str = "else", kind: str = "secretKeyRef") -> list[Manifest]:
    """Return a container with a variable from a key of an object, or with all keys of a Secret if `key` is None."""
    if key is None:
        return [{**container(), "envFrom": [{"secretRef": {"name": name}}]}]
    return [{**container(), "env": [{"name": "TOKEN", "valueFrom": {kind: {"name": name, "key": key}}}]}]


def container(cpu: str = "1m", memory: str = "32Mi", name: str = "sleeper", **limits: str) -> Manifest:
    resources = {"requests": {"cpu": cpu}, "limits": {"memory": memory, **limits}}
    return {**copy.deepcopy(CONTAINER), "name": name, "resources": resources}


def with_mount(volume: Manifest, path: str = "/mnt/x", **mount: Any) -> Manifest:
    """Return the fields of a pod with this volume mounted, read-only unless `mount` says otherwise."""
    mounts = [{"name": "volume", "mountPath": path, "readOnly": True, **mount}]
    return {"volumes": [{"name": "volume", **volume}], "containers": [{**container(), "volumeMounts": mounts}]}


def with_env(*variables: Manifest, **fields: Any) -> Manifest:
    """Return the fields of a pod with these environment variables."""
    return {"containers": [{**container(), "env": [*variables], **fields}]}


def projected(*sources: Manifest) -> Manifest:
    return {"projected": {"sources": [*sources]}}


def token(**fields: Any) -> Manifest:
    """Return a projected token, the team's with these changes. None removes a field."""
    whole = {"path": "token", **TOKEN, **fields}
    return {"serviceAccountToken": {name: value for name, value in whole.items() if value is not None}}


def secret_variable(variable: str, name: str, key: str) -> Manifest:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}


def with_pod_metadata(manifest: Manifest, **metadata: Any) -> Manifest:
    """Set the metadata of a Job's pod."""
    manifest["spec"]["template"]["metadata"] = metadata
    return manifest


def own_objects() -> tuple[Manifest, Manifest]:
    """Return objects that skjob creates under the team's rules: a DaskCluster and the Job of a package server."""
    settings = Settings(workers=WorkerRange(2, 2), worker_cpu=0.2, worker_memory=2**29)
    plan = make_plan(settings, Place.KUBERNETES, "", Machine(2, 2**33), "3.11", RULES)
    names = RunNames("20261123-155901-3f9a1c", "train", "ann", existing="other", team="somebodys")
    anchor = anchor_job(names, "none", 60)
    anchor["metadata"]["uid"] = UID
    package_server = RunNames("20261123-155901-3f9a1d", "environment", "ann", existing=PACKAGE_SERVER)
    cluster, job = (
        dask_cluster(names, "none", plan, None, PACKAGE_SERVER),
        package_server_job(package_server, "none", "i", ["a"], 60, RULES),
    )
    for each in (cluster, job):
        del each["metadata"]["namespace"]
    return owned_by(anchor, cluster), job


@dataclass(frozen=True)
class Attack:
    """A request, and the message of its refusal. `user` is False if users' Role already forbids it."""

    method: str
    where: str
    body: Manifest
    refusal: str
    user: bool = True


def create(where: str, body: Manifest, refusal: str, *, user: bool = True) -> Attack:
    return Attack("POST", where, body, refusal, user)


def change(where: str, body: Manifest, refusal: str, *, user: bool = True) -> Attack:
    return Attack("PATCH", where, body, refusal, user)


def delete(where: str, body: Manifest, refusal: str, *, user: bool = True) -> Attack:
    return Attack("DELETE", where, body, refusal, user)


ORPHANS = {"propagationPolicy": "Orphan"}
SECRET_OF_ACCOUNT = {"metadata": {"name": "stolen", "annotations": {"kubernetes.io/service-account.name": "default"}}}
SERVICE: Manifest = {"metadata": {"name": "door"}, "spec": {"ports": [{"port": 80}]}}
AFFINITY_TERMS = [
    {"labelSelector": {"matchLabels": {"app": "theirs"}}, "namespaceSelector": {}, "topologyKey": "kubernetes.io/os"}
]
AWAY_FROM_OTHERS = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": AFFINITY_TERMS}}
CLOSE_TO_OTHERS = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": AFFINITY_TERMS}}
FINALIZERS = ["example.org/mine"]
OPERATOR_ANNOTATION = "kopf.zalando.org/last-handled-configuration"
OPERATOR_ANNOTATIONS, OWN_LABELS = {OPERATOR_ANNOTATION: "{}"}, {"app.kubernetes.io/component": "worker", **LABELS}
CLAIM_OF_TEAM: Manifest = {"persistentVolumeClaim": {"claimName": "data"}}
FOREIGN_SECRET: Manifest = {"secret": {"secretName": "theirs"}}
OWN_OBJECTS = own_objects()
FOREIGN_ANNOTATIONS = {"iam.amazonaws.com/role": "admin"}
CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}

ATTACKS = {
    # Beyond the limits of a run when it is created,
    "many workers": create(CLUSTERS, cluster(workers=4), "4 workers were asked for, and no run may have more than 3"),
    "many cores": create(CLUSTERS, with_worker_pod(cluster(workers=3), containers=[container("500m")]), "`max-cpu`"),
    "much memory": create(
        CLUSTERS, with_worker_pod(cluster(workers=3), containers=[container(memory="1Gi")]), "`max-memory`"
    ),
    "cores of a sidecar": create(
        CLUSTERS, with_worker_pod(cluster(), containers=[container(), container("1100m", name="sidecar")]), "`max-cpu`"
    ),
    "cores of an init container": create(
        CLUSTERS, with_worker_pod(cluster(), initContainers=[container("1100m", name="first")]), "`max-cpu`"
    ),
    "a negative number of workers": create(CLUSTERS, cluster(workers=-1), "should be a non-negative integer"),
    "a large scheduler": create(
        CLUSTERS,
        with_scheduler_resources(cluster(), requests={"cpu": "1100m"}),
        "scheduler asks for more than one core",
    ),
    "a scheduler with much memory": create(
        CLUSTERS, with_scheduler_resources(cluster(), limits={"memory": "1100Mi"}), "scheduler asks for more memory"
    ),
    # and by changes.
    "more workers": change(f"{CLUSTERS}/{RUN}", {"spec": {"worker": {"replicas": 4}}}, "`max-workers`"),
    "more workers in the group": change(f"{GROUPS}/{GROUP}", {"spec": {"worker": {"replicas": 4}}}, "`max-workers`"),
    "more workers by scale": change(
        f"{CLUSTERS}/{RUN}/scale", {"spec": {"replicas": 2}}, "spec.worker.replicas", user=False
    ),
    "more workers in the group by scale": change(
        f"{GROUPS}/{GROUP}/scale", {"spec": {"replicas": 2}}, "spec.worker.replicas", user=False
    ),
    "other workers": change(
        f"{CLUSTERS}/{RUN}", {"spec": {"worker": {"spec": {"containers": [container("1")]}}}}, "cannot be changed"
    ),
    "another scheduler": change(
        f"{CLUSTERS}/{RUN}", {"spec": {"scheduler": {"spec": {"containers": [container("1")]}}}}, "cannot be changed"
    ),
    "other workers in the group": change(
        f"{GROUPS}/{GROUP}", {"spec": {"worker": {"spec": {"containers": [container("1")]}}}}, "cannot be changed"
    ),
    "the group assigned to another cluster": change(
        f"{GROUPS}/{GROUP}", {"spec": {"cluster": "other"}}, "cannot be changed"
    ),
    "a second group": create(GROUPS, group(f"{RUN}-more"), "a cluster has one group of workers", user=False),
    "a group with an owner of its own": create(
        GROUPS, group(owners=[owner()]), "owned by its DaskCluster and by nothing else", user=False
    ),
    "a group of many cores": create(
        GROUPS, with_worker_pod(group(workers=3), containers=[container("500m")]), "`max-cpu`", user=False
    ),
    "a group of much memory": create(
        GROUPS, with_worker_pod(group(workers=3), containers=[container(memory="1Gi")]), "`max-memory`", user=False
    ),
    "a group without resources": create(
        GROUPS, with_worker_pod(group(), containers=[CONTAINER | {"resources": {}}]), "a limit of memory", user=False
    ),
    "a group with a device": create(
        GROUPS,
        with_worker_pod(group(), containers=[container(**{"amd.com/gpu": "1"})]),
        "nothing else that costs something",
        user=False,
    ),
    "a group with a GPU": create(
        GROUPS,
        with_worker_pod(group(), containers=[container(**{"nvidia.com/gpu": "1"})]),
        "no run may have more than 0 in all (`max-gpus`",
        user=False,
    ),
    "a group that takes long to end": create(
        GROUPS, with_worker_pod(group(), terminationGracePeriodSeconds=3600), "must end within 60 s", user=False
    ),
    "a group with a priority": create(
        GROUPS,
        with_worker_pod(group(), priorityClassName="system-cluster-critical"),
        "platform team's to choose",
        user=False,
    ),
    "a group as another account": create(
        GROUPS, with_worker_pod(group(), serviceAccountName="somebody"), "another service account", user=False
    ),
    # Pods whose costs would not be counted.
    "no limit of memory": create(
        CLUSTERS,
        with_worker_pod(cluster(), containers=[CONTAINER | {"resources": {"requests": {"cpu": "1m"}}}]),
        "must have a limit of memory",
    ),
    "no request of cores": create(
        CLUSTERS,
        with_worker_pod(cluster(), containers=[CONTAINER | {"resources": {"limits": {"memory": "32Mi"}}}]),
        "must have a limit of memory and a request of cpu",
    ),
    "a device": create(
        CLUSTERS,
        with_worker_pod(cluster(), containers=[container(**{"amd.com/gpu": "1"})]),
        "nothing else that costs something",
    ),
    "a GPU": create(
        CLUSTERS,
        with_worker_pod(cluster(), containers=[container(**{"nvidia.com/gpu": "1"})]),
        "no run may have more than 0 in all (`max-gpus`",
    ),
    "pods that take long to end": create(
        CLUSTERS, with_worker_pod(cluster(), terminationGracePeriodSeconds=3600), "must end within 60 s"
    ),
    "a priority": create(
        CLUSTERS,
        with_worker_pod(cluster(), priorityClassName="system-cluster-critical"),
        "the platform team's to choose",
    ),
    "another service account": create(
        CLUSTERS, with_worker_pod(cluster(), serviceAccountName="somebody"), "another service account"
    ),
    "another service account by its old name": create(
        CLUSTERS, with_worker_pod(cluster(), serviceAccount="somebody"), "another service account"
    ),
    # Variables from other objects.
    "a variable from another Secret": create(
        CLUSTERS, with_worker_pod(cluster(), containers=containers_reading("token")), "a variable's value is from"
    ),
    "a scheduler's variable from another Secret": create(
        CLUSTERS, with_scheduler_pod(cluster(), containers=containers_reading("token")), "a variable's value is from"
    ),
    "an init container's variable from another Secret": create(
        CLUSTERS, with_worker_pod(cluster(), initContainers=containers_reading("token")), "a variable's value is from"
    ),
    "all of the run's own Secret as variables": create(
        CLUSTERS, with_worker_pod(cluster(), containers=containers_reading(None, RUN)), "a variable's value is from"
    ),
    "a variable from a ConfigMap": create(
        CLUSTERS,
        with_worker_pod(cluster(), containers=containers_reading("token", RUN, "configMapKeyRef")),
        "a variable's value is from",
    ),
    "a Job's variable from another Secret": create(
        JOBS, with_pod(job("other"), containers=containers_reading("token")), "a variable's value is from"
    ),
    "a group's variable from another Secret": create(
        GROUPS,
        with_worker_pod(group(), containers=containers_reading("token")),
        "a variable's value is from",
        user=False,
    ),
    # Pods on nodes with other prices.
    "any node": create(
        CLUSTERS, with_worker_pod(cluster(), nodeSelector={}), "nodeSelector kubernetes.io/os=linux,pool=batch"
    ),
    "a label less": create(
        CLUSTERS, with_worker_pod(cluster(), nodeSelector={"kubernetes.io/os": "linux"}), "must have the nodeSelector"
    ),
    "other nodes": create(
        CLUSTERS,
        with_worker_pod(cluster(), nodeSelector=SELECTOR | {"kubernetes.io/os": "other"}),
        "must have the nodeSelector",
    ),
    "any node for the scheduler": create(
        CLUSTERS,
        with_scheduler_pod(cluster(), nodeSelector={}),
        "`node-selector`, annotation `skjob/node-selector` of ResourceQuota",
    ),
    "another taint": create(
        CLUSTERS,
        with_worker_pod(cluster(), tolerations=[{"key": "gpu", "operator": "Exists"}]),
        "which taints a pod tolerates",
    ),
    "every taint": create(
        CLUSTERS, with_worker_pod(cluster(), tolerations=[{"operator": "Exists"}]), "which taints a pod tolerates"
    ),
    "more of a taint": create(
        CLUSTERS,
        with_worker_pod(cluster(), tolerations=[{"key": "batch", "operator": "Exists"}]),
        "the platform team's",
    ),
    "a taint with another value": create(
        CLUSTERS,
        with_worker_pod(cluster(), tolerations=[{"key": "spot", "value": "no"}]),
        "which taints a pod tolerates",
    ),
    "a taint for longer": create(
        CLUSTERS,
        with_worker_pod(cluster(), tolerations=[{**TOLERATIONS[2], "tolerationSeconds": 3600}]),
        "which taints a pod tolerates",
    ),
    "a taint for the scheduler": create(
        CLUSTERS, with_scheduler_pod(cluster(), tolerations=[{"operator": "Exists"}]), "which taints a pod tolerates"
    ),
    "a node by name": create(CLUSTERS, with_worker_pod(cluster(), nodeName="dear"), "Kubernetes' to choose"),
    "a runtime that brings tolerations": create(
        CLUSTERS, with_worker_pod(cluster(), runtimeClassName="gpu"), "a pod's runtime class is the platform team's"
    ),
    "a Job with a runtime that brings tolerations": create(
        JOBS, with_pod(job("other"), runtimeClassName="gpu"), "a pod's runtime class is the platform team's"
    ),
    # One such pod would keep pods of all namespaces from all nodes.
    "a pod that keeps others away": create(
        CLUSTERS, with_worker_pod(cluster(), affinity=AWAY_FROM_OTHERS), "must not choose which other pods it is near"
    ),
    "a scheduler that keeps others away": create(
        CLUSTERS,
        with_scheduler_pod(cluster(), affinity=AWAY_FROM_OTHERS),
        "must not choose which other pods it is near",
    ),
    "a Job that keeps others away": create(
        JOBS, with_pod(job("other"), affinity=AWAY_FROM_OTHERS), "must not choose which other pods it is near"
    ),
    "a pod close to others": create(
        CLUSTERS, with_worker_pod(cluster(), affinity=CLOSE_TO_OTHERS), "must not choose which other pods it is near"
    ),
    "a group anywhere": create(
        GROUPS, with_worker_pod(group(), nodeSelector={}), "must have the nodeSelector", user=False
    ),
    "a group with another taint": create(
        GROUPS,
        with_worker_pod(group(), tolerations=[{"operator": "Exists"}]),
        "which taints a pod tolerates",
        user=False,
    ),
    "a Job anywhere": create(
        JOBS, with_pod(job("other", parallelism=1), nodeSelector={}), "must have the nodeSelector"
    ),
    "a Job with another taint": create(
        JOBS,
        with_pod(job("other", parallelism=1), tolerations=[{"operator": "Exists"}]),
        "which taints a pod tolerates",
    ),
    "a Job on a node by name": create(
        JOBS, with_pod(job("other", parallelism=1), nodeName="dear"), "Kubernetes' to choose"
    ),
    "pods added to a Job": change(f"{JOBS}/{RUN}", {"spec": {"parallelism": 1}}, "must have the nodeSelector"),
    # Clusters that outlive their run.
    "no owner": create(CLUSTERS, cluster(owners=[]), "must be owned by a Job"),
    "an owner that is no Job": create(
        CLUSTERS, cluster(owners=[owner(apiVersion="v1", kind="ConfigMap")]), "must be owned by a Job"
    ),
    "a second owner": create(
        CLUSTERS,
        cluster(owners=[owner(), owner(apiVersion="v1", kind="ConfigMap", name="skjob-costs")]),
        "must be owned by a Job and by nothing else",
    ),
    "a second cluster of a run": create(CLUSTERS, cluster("another-run"), "must have the name of the Job"),
    "an environment's Job as the owner": create(
        CLUSTERS, cluster(PACKAGE_SERVER, owners=[owner(PACKAGE_SERVER)]), "may live longer than a run"
    ),
    "owner removed": change(f"{CLUSTERS}/{RUN}", {"metadata": {"ownerReferences": None}}, "cannot be changed"),
    "another owner": change(f"{CLUSTERS}/{RUN}", {"metadata": {"ownerReferences": [owner()]}}, "cannot be changed"),
    "a group without its owner": change(
        f"{GROUPS}/{GROUP}", {"metadata": {"ownerReferences": None}}, "owned by its DaskCluster and by nothing else"
    ),
    "a finalizer from the start": create(CLUSTERS, cluster(finalizers=["example.org/mine"]), "a finalizer would keep"),
    "a finalizer": change(f"{CLUSTERS}/{RUN}", {"metadata": {"finalizers": ["example.org/mine"]}}, "a finalizer would"),
    "a finalizer on the group": change(
        f"{GROUPS}/{GROUP}", {"metadata": {"finalizers": ["example.org/mine"]}}, "a finalizer would keep this"
    ),
    "a finalizer on the Job": change(
        f"{JOBS}/{RUN}", {"metadata": {"finalizers": ["example.org/mine"]}}, "a finalizer would keep this"
    ),
    # The operator removes its finalizer from DaskClusters, but nothing removes it from a Job.
    "the operator's finalizer on the Job": change(
        f"{JOBS}/{RUN}", {"metadata": {"finalizers": [KOPF]}}, "a finalizer would keep this"
    ),
    "a finalizer on the pods of a Job": create(
        JOBS,
        job("other", template={**job()["spec"]["template"], "metadata": {"finalizers": FINALIZERS}}),
        "keep the Job's pod",
    ),
    # Neither the DaskCluster nor its workers can be deleted if the operator cannot read its own annotation.
    "the operator's annotation changed": change(
        f"{CLUSTERS}/{RUN}", {"metadata": {"annotations": {OPERATOR_ANNOTATION: "{"}}}, "are the operator's own"
    ),
    "the operator's annotation removed": change(
        f"{CLUSTERS}/{RUN}", {"metadata": {"annotations": {OPERATOR_ANNOTATION: None}}}, "are the operator's own"
    ),
    "the operator's annotation of the group changed": change(
        f"{GROUPS}/{GROUP}", {"metadata": {"annotations": {OPERATOR_ANNOTATION: "{"}}}, "are the operator's own"
    ),
    "the operator's annotation from the start": create(
        CLUSTERS, cluster(annotations={OPERATOR_ANNOTATION: "{"}), "are the operator's own"
    ),
    # The operator copies these to objects it creates. It regards a group that has them as known, and sets no owner.
    "annotations for the group of workers": create(
        CLUSTERS,
        with_metadata(cluster(), "worker", annotations=OPERATOR_ANNOTATIONS),
        "workers have no annotations of their own",
    ),
    "annotations for the group of workers, later": change(
        f"{CLUSTERS}/{RUN}",
        {"spec": {"worker": {"metadata": {"annotations": OPERATOR_ANNOTATIONS}}}},
        "no annotations of their own",
    ),
    "annotations for the scheduler": create(
        CLUSTERS,
        with_metadata(cluster(), "scheduler", annotations=OPERATOR_ANNOTATIONS),
        "a scheduler has no annotations of its own",
    ),
    "annotations for the workers of the group": change(
        f"{GROUPS}/{GROUP}",
        {"spec": {"worker": {"metadata": {"annotations": OPERATOR_ANNOTATIONS}}}},
        "no annotations of their own",
    ),
    "a group with annotations for its workers": create(
        GROUPS,
        with_metadata(group(), "worker", annotations=OPERATOR_ANNOTATIONS),
        "no annotations of their own",
        user=False,
    ),
    "a group with the operator's annotation": create(
        GROUPS, group(annotations=OPERATOR_ANNOTATIONS), "are the operator's own", user=False
    ),
    "annotations too large for the operator": change(
        f"{CLUSTERS}/{RUN}", {"metadata": {"annotations": {"mine": "x" * 32768}}}, "more than 32 KiB"
    ),
    "labels too large for the operator": change(
        f"{CLUSTERS}/{RUN}",
        {"metadata": {"labels": {f"{n}-{'x' * 59}": "x" * 63 for n in range(300)}}},
        "more than 32 KiB",
    ),
    "a phase too large for the operator": change(
        f"{CLUSTERS}/{RUN}", {"status": {"phase": "x" * 32768}}, "more than 32 KiB"
    ),
    "workers too large for the operator": create(
        CLUSTERS, with_worker_pod(cluster(), containers=[{**container(), "args": ["x" * 32768]}]), "more than 32 KiB"
    ),
    "a group too large for the operator": change(
        f"{GROUPS}/{GROUP}", {"metadata": {"annotations": {"mine": "x" * 32768}}}, "more than 32 KiB"
    ),
    "the operator's finalizer from the start": create(CLUSTERS, cluster(finalizers=[KOPF]), "a finalizer would keep"),
    "the operator's finalizer on the group": change(
        f"{GROUPS}/{GROUP}", {"metadata": {"finalizers": [KOPF]}}, "a finalizer would keep"
    ),
    "orphans of the Job": delete(f"{JOBS}/{RUN}", ORPHANS, "would live on without it"),
    "orphans in the old spelling": delete(f"{JOBS}/{RUN}", {"orphanDependents": True}, "would live on without it"),
    "orphans by the address": delete(f"{JOBS}/{RUN}?propagationPolicy=Orphan", {}, "would live on without it"),
    "orphans of the cluster": delete(f"{CLUSTERS}/{RUN}", ORPHANS, "would live on without it"),
    "orphans of the group": delete(f"{GROUPS}/{GROUP}", ORPHANS, "would live on without it"),
    "orphans of a worker": delete(f"{DEPLOYMENTS}/{RUN}-scheduler", ORPHANS, "would live on without it"),
    # Jobs that outlive their run, or that do the work themselves.
    "no deadline": create(JOBS, job("other", activeDeadlineSeconds=None), "must say for how long it may live"),
    "a late deadline": create(JOBS, job("other", activeDeadlineSeconds=601), "no run may for more than 600 s"),
    "a later deadline": change(f"{JOBS}/{RUN}", {"spec": {"activeDeadlineSeconds": 601}}, "`max-time`"),
    "deadline removed": change(f"{JOBS}/{RUN}", {"spec": {"activeDeadlineSeconds": None}}, "for how long it may"),
    "an environment's Job with a late deadline": create(
        JOBS, job(PACKAGE_SERVER, activeDeadlineSeconds=2592001), "live for 2592001 s"
    ),
    "a Job without a TTL": create(
        JOBS, job("other", ttlSecondsAfterFinished=None), "must go at most 60 s after its end"
    ),
    "a Job with a long TTL": change(f"{JOBS}/{RUN}", {"spec": {"ttlSecondsAfterFinished": 3600}}, "at most 60 s after"),
    "a suspended Job": create(JOBS, job("other", suspend=True), "cannot be suspended"),
    "a Job suspended later": change(f"{JOBS}/{RUN}", {"spec": {"suspend": True}}, "cannot be suspended"),
    "a Job with another controller": create(
        JOBS, job("other", managedBy="example.org/me"), "Kubernetes' own controller"
    ),
    "many pods": create(JOBS, job("other", parallelism=2), "a Job may have one pod"),
    "more pods": change(f"{JOBS}/{RUN}", {"spec": {"parallelism": 2}}, "a Job may have one pod"),
    "a Job with many cores": create(JOBS, with_pod(job("other"), containers=[container("1100m")]), "one core and 1Gi"),
    "a Job with much memory": create(
        JOBS, with_pod(job("other"), containers=[container(memory="1100Mi")]), "one core and 1Gi at most"
    ),
    "a Job without resources": create(
        JOBS, with_pod(job("other"), containers=[CONTAINER | {"resources": {}}]), "must have a limit of memory"
    ),
    "a Job with a device": create(
        JOBS, with_pod(job("other"), containers=[container(**{"nvidia.com/gpu": "1"})]), "nothing else that costs"
    ),
    "a Job with the pod's own resources": create(
        JOBS, with_pod(job("other"), resources={"limits": {"memory": "64Mi"}}), "in its containers"
    ),
    "a Job that takes long to end": create(
        JOBS, with_pod(job("other"), terminationGracePeriodSeconds=3600), "must end within 60 s"
    ),
    "a Job with a priority": create(
        JOBS, with_pod(job("other"), priorityClassName="system-cluster-critical"), "the platform team's to choose"
    ),
    "a Job as another account": create(
        JOBS, with_pod(job("other"), serviceAccountName="somebody"), "another service account"
    ),
    # Pods may only use skjob's objects and the platform team's.
    "a token for the API": create(
        CLUSTERS, with_worker_pod(cluster(), automountServiceAccountToken=True), "no token for the"
    ),
    "a token for the API by default": create(
        CLUSTERS,
        with_worker_pod(cluster(), automountServiceAccountToken=None),
        "automountServiceAccountToken must be false",
    ),
    "a token of the team's account for the API": create(
        CLUSTERS,
        with_scheduler_pod(cluster(), serviceAccountName="trainer", automountServiceAccountToken=True),
        "no token for the Kubernetes API",
    ),
    "a Job with a token for the API": create(
        JOBS, with_pod(job("other"), automountServiceAccountToken=True), "no token for the Kubernetes API"
    ),
    "a projected token for the API": create(
        CLUSTERS,
        with_worker_pod(cluster(), **with_mount(projected(token(audience=None)))),
        "skjob's volumes and the platform",
    ),
    "a projected token for the API by its name": create(
        CLUSTERS,
        with_worker_pod(
            cluster(),
            **with_mount(
                projected(token(audience="https://kubernetes.default.svc.cluster.local")), "/var/run/secrets/cloud"
            ),
        ),
        "`pods.mounts`, annotation `skjob/pods.mounts` of ResourceQuota skjob",
    ),
    "a projected token for a year": create(
        CLUSTERS,
        with_worker_pod(
            cluster(), **with_mount(projected(token(expirationSeconds=31536000)), "/var/run/secrets/cloud")
        ),
        "skjob's volumes and the platform team's",
    ),
    "a projected token beside the team's": create(
        CLUSTERS,
        with_worker_pod(
            cluster(), **with_mount(projected(token(), token(path="api", audience=None)), "/var/run/secrets/cloud")
        ),
        "skjob's volumes and the platform team's",
    ),
    "a projected token elsewhere": create(
        CLUSTERS,
        with_worker_pod(cluster(), **with_mount(projected(token()), "/var/run/secrets/x")),
        "is the team's to choose",
    ),
    "another Secret": create(
        CLUSTERS, with_worker_pod(cluster(), **with_mount(FOREIGN_SECRET)), "skjob's volumes and the platform"
    ),
    "another Secret for the scheduler": create(
        CLUSTERS, with_scheduler_pod(cluster(), **with_mount(FOREIGN_SECRET)), "skjob's volumes and the platform team's"
    ),
    "another Secret for a Job": create(
        JOBS, with_pod(job("other"), **with_mount(FOREIGN_SECRET)), "skjob's volumes and the"
    ),
    "another Secret in a projected volume": create(
        CLUSTERS,
        with_worker_pod(cluster(), **with_mount(projected({"secret": {"name": "theirs"}}))),
        "skjob's volumes and",
    ),
    "another ConfigMap": create(
        CLUSTERS,
        with_worker_pod(cluster(), **with_mount({"configMap": {"name": "theirs"}})),
        "skjob's volumes and the platform",
    ),
    "another claim": create(
        CLUSTERS,
        with_worker_pod(cluster(), **with_mount({"persistentVolumeClaim": {"claimName": "data-2"}}, "/mnt/data")),
        "skjob's volumes and the platform team's",
    ),
    "another claim that nothing mounts": create(
        CLUSTERS,
        with_worker_pod(cluster(), volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "theirs"}}]),
        "skjob's volumes and the platform team's",
    ),
    "a folder of the node": create(
        CLUSTERS,
        with_worker_pod(cluster(), **with_mount({"hostPath": {"path": "/etc"}})),
        "skjob's volumes and the platform",
    ),
    "a volume of one's own": create(
        CLUSTERS,
        with_worker_pod(cluster(), **with_mount({"ephemeral": {"volumeClaimTemplate": {"spec": CLAIM}}})),
        "skjob's volumes and the platform team's",
    ),
    "the team's claim to write to": create(
        CLUSTERS,
        with_worker_pod(cluster(), **with_mount(CLAIM_OF_TEAM, "/mnt/data", readOnly=False)),
        "whether it can be written",
    ),
    "the team's claim to write to from an init container": create(
        CLUSTERS,
        with_worker_pod(
            cluster(),
            **{
                **with_mount(CLAIM_OF_TEAM, "/mnt/data"),
                "initContainers": [
                    {**container(name="first"), "volumeMounts": [{"name": "volume", "mountPath": "/mnt/data"}]}
                ],
            },
        ),
        "whether it can be written to",
    ),
    "all of the team's claim to write to": create(
        CLUSTERS,
        with_worker_pod(cluster(), **with_mount(CLAIM_OF_TEAM, "/mnt/scratch", readOnly=False)),
        "whether it can be written to",
    ),
    "another part of the team's claim": create(
        CLUSTERS,
        with_worker_pod(cluster(), **with_mount(CLAIM_OF_TEAM, "/mnt/scratch", readOnly=False, subPathExpr="$(HOME)")),
        "where a volume of the platform team is mounted",
    ),
    "the team's claim elsewhere": create(
        CLUSTERS,
        with_worker_pod(cluster(), **with_mount(CLAIM_OF_TEAM, "/home")),
        "where a volume of the platform team is mounted",
    ),
    "the team's claim as a device": create(
        CLUSTERS,
        with_worker_pod(
            cluster(),
            volumes=[{"name": "v", **CLAIM_OF_TEAM}],
            containers=[{**container(), "volumeDevices": [{"name": "v", "devicePath": "/dev/x"}]}],
        ),
        "no volume as a device",
    ),
    "a variable of another Secret": create(
        CLUSTERS,
        with_worker_pod(cluster(), **with_env(secret_variable("HUB_TOKEN", "theirs", "token"))),
        "a variable's value is from",
    ),
    "a variable of another key": create(
        CLUSTERS,
        with_worker_pod(cluster(), **with_env(secret_variable("HUB_TOKEN", "hub", "admin"))),
        "a variable's value is from",
    ),
    "a variable of another ConfigMap, for the scheduler": create(
        CLUSTERS,
        with_scheduler_pod(
            cluster(),
            **with_env({"name": "REGION", "valueFrom": {"configMapKeyRef": {"name": "theirs", "key": "region"}}}),
        ),
        "`pods.env`, annotation `skjob/pods.env` of ResourceQuota skjob",
    ),
    "all of a Secret as variables": create(
        CLUSTERS,
        with_worker_pod(cluster(), **with_env(envFrom=[{"secretRef": {"name": "theirs"}}])),
        "a variable's value is from the run's own Secret",
    ),
    "a Job with a variable of another Secret": create(
        JOBS, with_pod(job("other"), **with_env(secret_variable("A", "theirs", "token"))), "a variable's value is from"
    ),
    "another Secret for pulling images": create(
        CLUSTERS,
        with_worker_pod(cluster(), imagePullSecrets=[{"name": "theirs"}]),
        "for pulling images are the platform",
    ),
    "another label": create(
        CLUSTERS,
        with_metadata(cluster(), "worker", labels={**LABELS, "mine": "x"}),
        "labels and the platform team's, and no",
    ),
    "another label for all pods": create(CLUSTERS, cluster(labels={"mine": "x"}), "and no others"),
    "another label, a moment later": change(
        f"{CLUSTERS}/{RUN}", {"metadata": {"labels": {"mine": "x"}}}, "and no others (`pods.labels`"
    ),
    "another label for the workers of the group": change(
        f"{GROUPS}/{GROUP}", {"spec": {"worker": {"metadata": {"labels": {"mine": "x"}}}}}, "and no others"
    ),
    "another value of a label": create(
        CLUSTERS, with_metadata(cluster(), "worker", labels={"cost-centre": "43"}), "and no others (`pods.labels`"
    ),
    "a label less on a pod": create(
        CLUSTERS, with_metadata(cluster(), "scheduler", labels={}), "must have the platform team's labels"
    ),
    "a label less for the workers of the group": change(
        f"{GROUPS}/{GROUP}",
        {"spec": {"worker": {"metadata": {"labels": {"cost-centre": None}}}}},
        "must have the platform team's labels",
    ),
    "a Job with another label": create(
        JOBS, with_pod_metadata(job("other"), labels={**LABELS, "mine": "x"}, annotations=ANNOTATIONS), "and no others"
    ),
    "a Job with a label less": create(
        JOBS,
        with_pod_metadata(job("other", parallelism=1), annotations=ANNOTATIONS),
        "must have the platform team's labels",
    ),
    "another annotation": create(
        CLUSTERS,
        cluster(annotations={**ANNOTATIONS, **FOREIGN_ANNOTATIONS}),
        "annotations and the platform team's, and no others",
    ),
    "another annotation, a moment later": change(
        f"{CLUSTERS}/{RUN}", {"metadata": {"annotations": FOREIGN_ANNOTATIONS}}, "and no others (`pods.annotations`"
    ),
    "another annotation for the group": change(
        f"{GROUPS}/{GROUP}", {"metadata": {"annotations": FOREIGN_ANNOTATIONS}}, "and no others (`pods.annotations`"
    ),
    "an annotation less": create(CLUSTERS, cluster(annotations={}), "must have the platform team's annotations"),
    "an annotation less, a moment later": change(
        f"{CLUSTERS}/{RUN}",
        {"metadata": {"annotations": dict.fromkeys(ANNOTATIONS)}},
        "must have the platform team's annotations",
    ),
    "a Job with another annotation": create(
        JOBS,
        with_pod_metadata(job("other"), labels=LABELS, annotations={**ANNOTATIONS, **FOREIGN_ANNOTATIONS}),
        "and no others",
    ),
    "a group with another Secret": create(
        GROUPS,
        with_worker_pod(group(), **with_mount(FOREIGN_SECRET)),
        "skjob's volumes and the platform team's",
        user=False,
    ),
    "a group with a token for the API": create(
        GROUPS,
        with_worker_pod(group(), automountServiceAccountToken=True),
        "no token for the Kubernetes API",
        user=False,
    ),
    "a group with a variable of another Secret": create(
        GROUPS,
        with_worker_pod(group(), **with_env(secret_variable("A", "theirs", "b"))),
        "a variable's value is from",
        user=False,
    ),
    "a group with another label": create(
        GROUPS, with_metadata(group(), "worker", labels={**LABELS, "mine": "x"}), "and no others", user=False
    ),
    # Objects of the platform team.
    "other limits": change(f"{CONFIGMAPS}/skjob-defaults", {"data": {"limits.max-workers": "99"}}, "is forbidden"),
    "no limits": delete(f"{CONFIGMAPS}/skjob-defaults", {}, "the platform team's"),
    "no costs": delete(f"{CONFIGMAPS}/skjob-costs", {}, "the platform team's to delete"),
    "costs with an owner": change(
        f"{CONFIGMAPS}/skjob-costs", {"metadata": {"ownerReferences": [owner()]}}, "must stay"
    ),
    "costs with a finalizer": change(
        f"{CONFIGMAPS}/skjob-costs", {"metadata": {"finalizers": FINALIZERS}}, "skjob-costs must stay"
    ),
    "immutable costs": change(f"{CONFIGMAPS}/skjob-costs", {"immutable": True}, "stay open"),
    # Access beyond the namespace.
    "an account's token": create(
        SECRETS, {**SECRET_OF_ACCOUNT, "type": "kubernetes.io/service-account-token"}, "cannot be made here"
    ),
    "external IP addresses": create(
        SERVICES, {**SERVICE, "spec": {**SERVICE["spec"], "externalIPs": ["192.0.2.1"]}}, "externalIPs"
    ),
    # The operator unpickles responses from this port, and deletes the objects that they name (both were reproduced).
    "a port that the operator trusts": create(
        CLUSTERS, with_port(cluster(), "http-dashboard"), "the operator would do what a scheduler says"
    ),
    "a port with the Service's name, which the operator trusts": create(
        CLUSTERS, with_port(cluster(), f"{RUN}-scheduler"), "the operator would do what a scheduler says"
    ),
    "a port that the operator trusts, of another Service": create(
        SERVICES,
        {**SERVICE, "spec": {"ports": [{"port": 80, "name": "http-dashboard"}]}},
        "the operator would do what is said",
    ),
    "a port with its Service's name, which the operator trusts": create(
        SERVICES, {**SERVICE, "spec": {"ports": [{"port": 80, "name": "door"}]}}, "the operator would do what is said"
    ),
    "a load balancer": create(
        SERVICES, {**SERVICE, "spec": {**SERVICE["spec"], "type": "LoadBalancer"}}, "exceeded quota"
    ),
    "a port of every node": create(
        SERVICES, {**SERVICE, "spec": {**SERVICE["spec"], "type": "NodePort"}}, "exceeded quota"
    ),
    # Network access, to which TLS would be the only barrier.
    "a policy for all pods of the namespace": create(NETWORKS, network(podSelector={}), "to the pods of a run"),
    "a policy for egress": create(NETWORKS, network(policyTypes=["Egress"]), "and for nothing else"),
    "connections from anywhere": create(NETWORKS, network(ingress=[{}]), "and nobody else"),
    "connections from the whole namespace": create(NETWORKS, network({"podSelector": {}}), "and nobody else"),
    "connections from other namespaces": create(
        NETWORKS, network({"podSelector": {"matchLabels": {"skjob/run": "a"}}, "namespaceSelector": {}}), "nobody else"
    ),
    "connections from outside": create(NETWORKS, network({"ipBlock": {"cidr": "0.0.0.0/0"}}), "and nobody else"),
    "a NetworkPolicy without an owner": create(NETWORKS, network(owners=[]), "must be owned by a Job"),
    "a NetworkPolicy with a second owner": create(
        NETWORKS,
        network(owners=[owner(), owner(apiVersion="v1", kind="ConfigMap", name="skjob-costs")]),
        "owned by a Job and by nothing else",
    ),
    # Finalizers with which the namespace could not be deleted.
    "a NetworkPolicy that cannot be deleted": create(NETWORKS, network(finalizers=FINALIZERS), "keep this for ever"),
    "a Secret that cannot be deleted": create(
        SECRETS, {"metadata": {"name": "own", "finalizers": FINALIZERS}}, "keep this for ever"
    ),
    "a ConfigMap that cannot be deleted": create(
        CONFIGMAPS, {"metadata": {"name": "own", "finalizers": FINALIZERS}}, "keep this for ever"
    ),
    "a Service that cannot be deleted": create(
        SERVICES, {**SERVICE, "metadata": {"name": "door", "finalizers": FINALIZERS}}, "keep this for ever"
    ),
    "a volume": create(VOLUMES, {"metadata": {"name": "disk"}, "spec": CLAIM}, "exceeded quota", user=False),
}
ACCEPTED = {
    "a run": create(JOBS, job("other"), ""),
    "the maximum number of workers": create(CLUSTERS, cluster("other", 3, owners=[owner("other")]), ""),
    "the maximum number of cores": create(
        CLUSTERS, with_worker_pod(cluster("other", 3, owners=[owner("other")]), containers=[container("333m")]), ""
    ),
    "the maximum memory": create(
        CLUSTERS,
        with_worker_pod(cluster("other", 2, owners=[owner("other")]), containers=[container(memory="1Gi")]),
        "",
    ),
    "the team's priority": create(
        CLUSTERS, with_worker_pod(cluster("other", owners=[owner("other")]), priorityClassName="batch"), ""
    ),
    "skjob's placement of pods": create(
        CLUSTERS,
        with_worker_pod(
            with_scheduler_pod(cluster("other", owners=[owner("other")]), **placed({}, SCHEDULING)),
            **placed({}, SCHEDULING),
        ),
        "",
    ),
    "the team's taints": create(
        CLUSTERS, with_worker_pod(cluster("other", owners=[owner("other")]), tolerations=TOLERATIONS), ""
    ),
    "one of the team's taints, with its operator": create(
        CLUSTERS,
        with_worker_pod(
            cluster("other", owners=[owner("other")]), tolerations=[TOLERATIONS[1] | {"operator": "Equal"}]
        ),
        "",
    ),
    "taints that every pod tolerates": create(
        CLUSTERS, with_worker_pod(cluster("other", owners=[owner("other")]), tolerations=DEFAULT_TOLERATIONS), ""
    ),
    "some of the team's nodes": create(
        CLUSTERS, with_worker_pod(cluster("other", owners=[owner("other")]), nodeSelector=SELECTOR | {"zone": "a"}), ""
    ),
    "a Job without pods and without a node selector": create(JOBS, with_pod(job("other"), nodeSelector={}), ""),
    "a Job with the team's placement": create(JOBS, with_pod(job("other", parallelism=1), tolerations=TOLERATIONS), ""),
    "other numbers of workers": change(f"{CLUSTERS}/{RUN}", {"spec": {"worker": {"replicas": 3}}}, ""),
    "other numbers of workers in the group": change(f"{GROUPS}/{GROUP}", {"spec": {"worker": {"replicas": 0}}}, ""),
    "a heartbeat": change(f"{JOBS}/{RUN}", {"spec": {"activeDeadlineSeconds": 600}}, ""),
    "an environment": create(JOBS, job(PACKAGE_SERVER, activeDeadlineSeconds=86400, parallelism=1), ""),
    "labels of workers and scheduler": create(
        CLUSTERS,
        with_metadata(
            with_metadata(cluster("other", owners=[owner("other")]), "worker", labels=OWN_LABELS),
            "scheduler",
            labels=OWN_LABELS,
        ),
        "",
    ),
    "a group": create(GROUPS, with_metadata(group(), "worker", labels=OWN_LABELS), "", user=False),
    "skjob's own annotations": change(
        f"{CLUSTERS}/{RUN}", {"metadata": {"annotations": {"skjob/program": "mine"}}}, ""
    ),
    "skjob's DaskCluster under the team's rules": create(CLUSTERS, OWN_OBJECTS[0], ""),
    "skjob's package server under the team's rules": create(JOBS, OWN_OBJECTS[1], ""),
    "no sidecar": create(
        CLUSTERS,
        with_metadata(
            cluster("other", owners=[owner("other")], annotations={**ANNOTATIONS, **NO_SIDECAR}),
            "worker",
            labels={**LABELS, **NO_SIDECAR},
        ),
        "",
    ),
    "the team's claim with the team's mount": create(
        CLUSTERS,
        with_worker_pod(
            cluster("other", owners=[owner("other")]),
            **with_mount(CLAIM_OF_TEAM, "/mnt/scratch", readOnly=False, subPath="scratch"),
        ),
        "",
    ),
    "the team's token": create(
        CLUSTERS,
        with_worker_pod(
            cluster("other", owners=[owner("other")]),
            **with_mount(projected(token()), "/var/run/secrets/cloud"),
            serviceAccountName="trainer",
        ),
        "",
    ),
    "a user's own variables": create(
        CLUSTERS,
        with_worker_pod(
            cluster("other", owners=[owner("other")]),
            **with_env({"name": "MINE", "value": "x"}, secret_variable("SECRET", "other", "SECRET")),
        ),
        "",
    ),
    "empty volumes": create(
        CLUSTERS,
        with_worker_pod(cluster("other", owners=[owner("other")]), **with_mount({"emptyDir": {}}, readOnly=False)),
        "",
    ),
    "a pod that chooses among the team's nodes": create(
        CLUSTERS,
        with_worker_pod(
            cluster("other", owners=[owner("other")]),
            affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        ),
        "",
    ),
    "a finalizer of the platform team": create(
        CONFIGMAPS, {"metadata": {"name": "own", "finalizers": FINALIZERS}}, "", user=False
    ),
    "a variable from the run's own Secret": create(
        CLUSTERS,
        with_worker_pod(cluster("other", owners=[owner("other")]), containers=containers_reading("TOKEN", "other")),
        "",
    ),
    "a group's variable from the run's own Secret": create(
        GROUPS, with_worker_pod(group(), containers=containers_reading("TOKEN", "other")), "", user=False
    ),
    "a secret": create(SECRETS, {"metadata": {"name": "own"}, "type": "Opaque"}, ""),
    "a service": create(SERVICES, SERVICE, ""),
    "the NetworkPolicy of a run": create(NETWORKS, network(), ""),
    "the NetworkPolicy of a package server": create(
        NETWORKS, network({"podSelector": {"matchLabels": {"app.kubernetes.io/name": "skjob"}}}), ""
    ),
    "another policy of the platform team": create(NETWORKS, network(podSelector={}, ingress=[]), "", user=False),
    "costs": change(f"{CONFIGMAPS}/skjob-costs", {"data": {"a-run": "1.00"}}, ""),
    "the deletion of a worker": delete(f"{DEPLOYMENTS}/{RUN}-scheduler", {"propagationPolicy": "Background"}, ""),
    "the deletion of a run": delete(f"{JOBS}/{RUN}", {"propagationPolicy": "Foreground"}, ""),
    "other limits of the platform team": change(
        f"{CONFIGMAPS}/skjob-defaults", {"data": {"limits.max-workers": "99"}}, "", user=False
    ),
}


def send_request(api: client.ApiClient, namespace: str, attack: Attack, *, dry_run: bool = True) -> tuple[int, str]:
    """Send a request; return the response's status, and its error message or else its content."""
    base, _, rest = attack.where.partition(" ")
    path, _, option = rest.partition("?")
    body: Manifest | None = attack.body
    query = [(name, value) for name, _, value in [option.partition("=")] if option]
    if option:
        body = None  # options of the body would take precedence
    if dry_run and body is not None and attack.method == "DELETE":
        body = body | {"dryRun": ["All"]}
    elif dry_run:
        query.append(("dryRun", "All"))
    request = api.param_serialize(
        method=attack.method,
        resource_path=f"{base}/namespaces/{namespace}/{path}",
        query_params=query,
        header_params={
            "Accept": "application/json",
            "Content-Type": f"application/{'merge-patch+' if attack.method == 'PATCH' else ''}json",
        },
        body=body,
        auth_settings=["BearerToken"],
    )
    response = api.call_api(*request, _request_timeout=30)
    status, answer = response.status, json.loads(response.read())
    return status, answer.get("message", "") if status >= 400 else json.dumps(answer)


@pytest.fixture(scope="module")
def release(kind_cluster: Any, kind_api: client.ApiClient) -> Iterator[Release]:
    environment = {"KUBECONFIG": str(kind_cluster.kubeconfig)}
    with installed(environment, kind_api, placement=PLACEMENT, limits=LIMITS, pods=PODS) as release:
        yield release


@pytest.fixture(scope="module")
def user(
    release: Release, kind_api: client.ApiClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[client.ApiClient]:
    """A client with the permissions of a user of the team, which are only those that the chart grants."""
    folder: Path = tmp_path_factory.mktemp("user")
    environment = user_environment(
        kind_api, release.environment, release.namespace, folder, may_run=False, name="somebody"
    )
    api = config.new_client_from_config(environment["KUBECONFIG"], "kind-skjob")
    with api:
        yield api


@pytest.fixture(scope="module")
def run(release: Release, user: client.ApiClient) -> Iterator[None]:
    """A run with all of its objects, created as skjob and the operator create them."""
    namespace = release.namespace
    # The API takes a moment to apply new policies.
    until(lambda: send_request(user, namespace, ATTACKS["no owner"])[0] == 422, "the policies are not in effect")
    # No client extends the deadline, so it is close to the limit; `a heartbeat` extends it to the limit.
    anchor = job(activeDeadlineSeconds=590)
    status, answer = send_request(user, namespace, create(JOBS, with_pod(anchor, nodeSelector={}), ""), dry_run=False)
    assert status == 201, answer
    uid = json.loads(answer)["metadata"]["uid"]
    status, answer = send_request(
        user, namespace, create(CLUSTERS, cluster(owners=[owner(uid=uid)]), ""), dry_run=False
    )
    assert status == 201, answer

    def is_complete() -> bool:
        status, group = send_request(user, namespace, Attack("GET", f"{GROUPS}/{GROUP}", {}, ""), dry_run=False)
        return (
            status == 200
            and "ownerReferences" in json.loads(group)["metadata"]
            and send_request(user, namespace, Attack("GET", f"{DEPLOYMENTS}/{RUN}-scheduler", {}, ""), dry_run=False)[0]
            == 200
        )

    until(is_complete, "the operator has not created all objects")
    yield
    send_request(user, namespace, delete(f"{JOBS}/{RUN}", {"propagationPolicy": "Background"}, ""), dry_run=False)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.usefixtures("run")
def test_attack_is_refused(name: str, release: Release, user: client.ApiClient, kind_api: client.ApiClient) -> None:
    attack = ATTACKS[name]
    status, message = send_request(user if attack.user else kind_api, release.namespace, attack)
    assert status in (403, 422), message
    assert attack.refusal in message
    if not attack.user:
        # Users are already refused by their Role.
        status, message = send_request(user, release.namespace, attack)
        assert status == 403
        assert "cannot" in message


@pytest.mark.parametrize("name", ACCEPTED)
@pytest.mark.usefixtures("run")
def test_allowed_request_is_accepted(
    name: str, release: Release, user: client.ApiClient, kind_api: client.ApiClient
) -> None:
    request = ACCEPTED[name]
    status, message = send_request(user if request.user else kind_api, release.namespace, request)
    assert status in (200, 201), message


def test_policies_have_no_type_warnings(release: Release, kind_api: client.ApiClient) -> None:
    """The API's type check reports no warnings about their expressions."""
    policies = client.AdmissionregistrationV1Api(kind_api)
    names = [each.metadata.name for each in policies.list_validating_admission_policy().items]
    ours = [name for name in names if name.startswith(f"{release.name}-")]
    assert len(ours) == 10
    for name in ours:

        def is_checked(name: str = name) -> bool:
            policy = policies.read_validating_admission_policy(name)
            return bool(policy.status and policy.status.observed_generation == policy.metadata.generation)

        until(is_checked, f"`{name}` was not checked")
        checked = policies.read_validating_admission_policy(name).status.type_checking
        warnings = (checked.expression_warnings if checked else None) or []
        assert [f"{each.field_ref}: {each.warning}" for each in warnings] == []
