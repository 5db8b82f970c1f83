"""Build the objects that keep an environment in a namespace."""

from __future__ import annotations

from collections.abc import Sequence

from skjob.config.namespace_policy import NamespacePolicy
from skjob.config.plan import NO_RULES
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests.labels import (
    INSTANCE_LABEL,
    NAME_LABEL,
    RunNames,
)
from skjob.deploy.kubernetes.manifests.pods import (
    ARCHIVE_FILE,
    NO_PRIVILEGES,
    SCRATCH_FOLDER,
    anchor_job,
    object_metadata,
    pod_mounts,
    pods_with,
    policy_for,
    resource_requests,
    with_team_settings,
)
from skjob.environment.pod.entrypoint import RUN_FOLDER, SERVER_TLS_FOLDER, SITE_FOLDER
from skjob.environment.pod.package_server import INDEX_FOLDER, PORT

PACKAGE_SERVER_MEMORY = "1Gi"


def package_server_policy(names: RunNames, namespace: str) -> Manifest:
    """Return the policy that lets the pods of every run in the namespace fetch an environment: it is kept for all."""
    ports = [{"protocol": "TCP", "port": PORT}]
    return policy_for(names, namespace, {"from": [pods_with(NAME_LABEL, "skjob")], "ports": ports})


def package_server_job(
    names: RunNames,
    namespace: str,
    image: str,
    index_files: Sequence[str],
    lifetime: float,
    rules: NamespacePolicy = NO_RULES,
) -> Manifest:
    """Return an environment's anchor, whose one pod makes and serves it (`skjob.environment.pod.package_server`)."""
    mounts, volumes = pod_mounts(names, SERVER_TLS_FOLDER)
    mounts.append({"name": "site", "mountPath": SITE_FOLDER})
    volumes.append({"name": "site", "emptyDir": {}})
    if index_files:
        items = [{"key": file, "path": file} for file in sorted(index_files)]
        mounts.append({"name": "index", "mountPath": INDEX_FOLDER, "readOnly": True})
        volumes.append({"name": "index", "secret": {"secretName": names.cluster, "items": items, "defaultMode": 0o440}})
    job = anchor_job(names, namespace, lifetime)
    # A failure stays visible for a while; a pod on a lost node is replaced.
    job["spec"] |= {"parallelism": 1, "backoffLimit": 3, "ttlSecondsAfterFinished": 60}
    job["spec"]["template"]["metadata"] = {"labels": names.labels("environment")}
    pod = job["spec"]["template"]["spec"]
    pod |= {"enableServiceLinks": False, "terminationGracePeriodSeconds": 1, "volumes": volumes}
    pod["containers"] = [
        {
            "name": "environment",
            "image": image,
            "command": ["python", "-m", "skjob.environment.pod.package_server"],
            "env": [
                {"name": "HOME", "value": SCRATCH_FOLDER},
                {"name": "PYTHONPATH", "value": f"{RUN_FOLDER}/{ARCHIVE_FILE}"},
                {"name": "PYTHONUNBUFFERED", "value": "1"},
            ],
            "ports": [{"name": "environment", "containerPort": PORT}],
            # It listens once everything is installed.
            "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
            "resources": resource_requests("100m", PACKAGE_SERVER_MEMORY),
            "securityContext": NO_PRIVILEGES,
            "volumeMounts": mounts,
        }
    ]
    job["spec"]["template"] = with_team_settings(job["spec"]["template"], rules)
    return job


def package_server_service(names: RunNames, namespace: str) -> Manifest:
    """Return the Service by which pods find it, whichever pod of the Job that is."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": object_metadata(names, namespace, "environment"),
        "spec": {
            "type": "ClusterIP",
            "selector": {INSTANCE_LABEL: names.cluster},
            "ports": [{"name": "environment", "port": PORT, "targetPort": "environment"}],
        },
    }
