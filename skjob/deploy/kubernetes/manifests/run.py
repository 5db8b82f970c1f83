"""Build the objects of a run from its plan: anchor, certificates, what the pods mount, DaskCluster. Pure.

The anchor is a Job without pods. It owns every other object, and the client's heartbeats move its deadline: when they
stop, Kubernetes itself ends the Job and collects the whole tree, without help from skjob or the operator (batch/v1
`activeDeadlineSeconds` and `ttlSecondsAfterFinished`, garbage collection by ownerReferences).

Pods pass the `restricted` Pod Security Standard: no root, no capabilities, a read-only root file system, no service
account token. They listen only on Dask's TLS port; its HTTP pages are on the pod's own loopback, which a port-forward
reaches and other pods do not. If the pod network enforces policies, only pods of the same run can connect at all.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

from skjob.config.environment_variables import NO_VARIABLES, Variables, can_be_set
from skjob.config.nodes import GPU
from skjob.config.plan import Plan, WorkerSize
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests.labels import (
    COMPONENT_LABEL,
    POOL_ANNOTATION,
    QUEUE_LABEL,
    RUN_LABEL,
    VARIABLES_ANNOTATION,
    RunNames,
)
from skjob.deploy.kubernetes.manifests.pods import (
    ARCHIVE_FILE,
    NO_PRIVILEGES,
    PAGES_PORT,
    SCHEDULER_PORT,
    SCRATCH_FOLDER,
    TLS_FOLDER,
    format_cores,
    object_metadata,
    pod_environment,
    pod_mounts,
    pods_with,
    policy_for,
    resource_requests,
    restricted_security,
    with_team_settings,
)
from skjob.environment.pod.entrypoint import RUN_FOLDER, SERVER_TLS_FOLDER, SITE_FOLDER
from skjob.environment.pod.requirements import REQUIREMENTS_FILE, PodRequirements
from skjob.utils.tls import CA_FILE, CERTIFICATE_FILE, KEY_FILE
from skjob.utils.units import parse_quantity

SCHEDULER_CPU, SCHEDULER_MEMORY = "50m", 2**30


def secret(names: RunNames, namespace: str, content: Mapping[str, bytes]) -> Manifest:
    """Return a Secret with certificates, secret variables, and whatever else must stay private."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": object_metadata(names, namespace, "certificates"),
        "type": "Opaque",
        "immutable": True,
        "data": {name: base64.b64encode(value).decode() for name, value in content.items()},
    }


def files(names: RunNames, namespace: str, archive: bytes, requirements: PodRequirements | None) -> Manifest:
    """Return the ConfigMap that pods mount: skjob's own source, and their requirements."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": object_metadata(names, namespace, "files"),
        "immutable": True,
        "data": {REQUIREMENTS_FILE: requirements.as_json()} if requirements else {},
        "binaryData": {ARCHIVE_FILE: base64.b64encode(archive).decode()},
    }


def network_policy(names: RunNames, namespace: str) -> Manifest:
    """Return the policy that only lets pods of the same run connect, at any port, because boosters choose theirs.

    The operator does not contact the scheduler, since skjob removes the workers, and a port-forward comes from the
    pod's own node, which no policy keeps out.
    """
    return policy_for(names, namespace, {"from": [pods_with(RUN_LABEL, names.run_id)]})


def dask_cluster(
    names: RunNames,
    namespace: str,
    plan: Plan,
    requirements: PodRequirements | None,
    environment: str = "",
    variables: Variables = NO_VARIABLES,
) -> Manifest:
    """Return the DaskCluster, from which the operator creates the scheduler, its Service and the workers.

    The operator gives all of them the DaskCluster's labels, and the two kinds of pods their own.

    With `requirements`, each pod installs them before it starts Dask; `environment` names the objects that keep what
    the image lacks, if it lacks anything. Workers get `variables`, the secret ones from the run's own Secret. These
    replace the platform team's variables of the same names.
    """
    service = f"{names.cluster}-scheduler"
    # Kueue manages pods. The anchor has none, and would be suspended, which stops its clock.
    queue = {QUEUE_LABEL: plan.rules.scheduling.queue} if plan.rules.scheduling.queue else {}
    scheduler = _pod(
        names,
        plan,
        requirements,
        environment,
        name="scheduler",
        command=[
            "distributed.cli.dask_scheduler",
            "--protocol", "tls",
            "--port", str(SCHEDULER_PORT),
            "--dashboard-address", f"127.0.0.1:{PAGES_PORT}",
            "--no-dashboard",  # until somebody opens it
            "--preload", "skjob.deploy.scheduler_dashboard",
            "--no-show",
        ],
        # Data sent to a worker passes through here: whatever a worker can hold must fit.
        resources=resource_requests(SCHEDULER_CPU, str(scheduler_memory(plan.size))),
        ports=[{"name": "tcp-comm", "containerPort": SCHEDULER_PORT}],
    )  # fmt: skip
    worker = _pod(
        names,
        plan,
        requirements,
        environment,
        name="worker",
        command=[
            # Without a nanny: the pod restarts a worker that dies, and its status shows why.
            "distributed.cli.dask_worker",
            "--no-nanny",
            "--name", "$(DASK_WORKER_NAME)",
            "--nthreads", str(plan.size.threads),
            "--memory-limit", str(plan.size.memory),
            "--no-dashboard",
            "--dashboard-address", "127.0.0.1:0",
            "--local-directory", SCRATCH_FOLDER,
        ],
        resources=resource_requests(format_cores(plan.size.cpu), str(plan.size.memory), plan.size.gpus),
        ports=[],
    )  # fmt: skip
    # The operator adds its own address, tcp://…, only if there is none.
    worker["containers"][0]["env"].append(
        {"name": "DASK_SCHEDULER_ADDRESS", "value": f"tls://{service}.{namespace}:{SCHEDULER_PORT}"}
    )
    schedulers = with_team_settings(
        {"metadata": {"labels": {COMPONENT_LABEL: "scheduler"} | queue}, "spec": scheduler}, plan.rules
    )
    workers = with_team_settings(
        {"metadata": {"labels": {COMPONENT_LABEL: "worker"} | queue}, "spec": worker}, plan.rules, runs_tasks=True
    )
    container = workers["spec"]["containers"][0]
    team_variables = [entry for entry in container["env"] if entry["name"] not in variables.values]
    workers["spec"]["containers"][0] = container | {"env": [*team_variables, *_set_by_user(names, variables)]}
    metadata = object_metadata(names, namespace, "cluster")
    if variables.values:
        metadata["annotations"] |= {VARIABLES_ANNOTATION: ",".join(variables.values)}
    if plan.rules.node_pool is not None:
        metadata["annotations"] |= {POOL_ANNOTATION: plan.rules.node_pool.name}
    # Move the two templates' annotations here: the operator uses those of workers for itself.
    for template in (schedulers, workers):
        metadata["annotations"] = template["metadata"].pop("annotations") | metadata["annotations"]
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": metadata,
        "spec": {
            "scheduler": {
                **schedulers,
                "service": {
                    "type": "ClusterIP",
                    "selector": {"dask.org/cluster-name": names.cluster, "dask.org/component": "scheduler"},
                    "ports": [{"name": "tcp-comm", "port": SCHEDULER_PORT, "targetPort": "tcp-comm"}],
                    # Otherwise workers that start before the scheduler is ready would back off for seconds.
                    "publishNotReadyAddresses": True,
                },
            },
            "worker": {**workers, "replicas": plan.workers.first},
        },
    }


def _set_by_user(names: RunNames, variables: Variables) -> list[Manifest]:
    """Return a container's variables. Kubernetes would expand `$(A)` in values, so `$` is written `$$`."""
    secret_keys = [{"name": names.cluster, "key": name} for name in variables.secret]
    return [
        *({"name": name, "value": value.replace("$", "$$")} for name, value in variables.ordinary.items()),
        *({"name": key["key"], "valueFrom": {"secretKeyRef": key}} for key in secret_keys),
    ]


def variables_of(cluster: Manifest, secret: Mapping[str, str]) -> Variables:
    """Return the variables that users have set, from a DaskCluster made by `dask_cluster` and its Secret's data."""
    [container] = cluster["spec"]["worker"]["spec"]["containers"]
    names = (cluster["metadata"].get("annotations") or {}).get(VARIABLES_ANNOTATION, "").split(",")
    set_by_user = [entry for entry in container["env"] if entry["name"] in names and can_be_set(entry["name"])]
    ordinary = {entry["name"]: entry.get("value", "") for entry in set_by_user if "valueFrom" not in entry}
    hidden = [entry["name"] for entry in set_by_user if "valueFrom" in entry and entry["name"] in secret]
    return Variables(
        {name: value.replace("$$", "$") for name, value in ordinary.items()},
        {name: base64.b64decode(secret[name]).decode(errors="replace") for name in hidden},
    )


def scheduler_memory(worker: WorkerSize) -> int:
    """Return the scheduler's memory in bytes, for workers of this size."""
    return max(SCHEDULER_MEMORY, worker.memory)


def size_of(cluster: Manifest) -> WorkerSize:
    """Return the workers' size in a DaskCluster made by `dask_cluster`."""
    [container] = cluster["spec"]["worker"]["spec"]["containers"]
    requests, command = container["resources"]["requests"], container["command"]
    threads = int(command[command.index("--nthreads") + 1])
    gpus = int(parse_quantity(requests.get(GPU, "0")))
    return WorkerSize(parse_quantity(requests["cpu"]), int(parse_quantity(requests["memory"])), threads, gpus)


def pool_of(cluster: Manifest) -> str | None:
    """Return the node pool of a DaskCluster's workers, None if it has none."""
    name = (cluster["metadata"].get("annotations") or {}).get(POOL_ANNOTATION)
    return None if name is None else str(name)


def image_of(cluster: Manifest) -> str:
    """Return the image of a DaskCluster's workers."""
    return str(cluster["spec"]["worker"]["spec"]["containers"][0]["image"])


def _pod(
    names: RunNames,
    plan: Plan,
    requirements: PodRequirements | None,
    environment: str,
    *,
    name: str,
    command: list[str],
    resources: Manifest,
    ports: list[Manifest],
) -> Manifest:
    mounts, volumes = pod_mounts(names, TLS_FOLDER)
    python_path = f"{RUN_FOLDER}/{ARCHIVE_FILE}"
    start = ["python", "-m"]
    if requirements is not None:
        start.append("skjob.environment.pod.entrypoint")
        python_path = f"{SITE_FOLDER}:{python_path}"
    variables = pod_environment(python_path, plan.retries)
    if environment:
        # Libraries that wheels expect from the system, but slim images lack (skjob.environment.pod.archives).
        variables.append({"name": "LD_LIBRARY_PATH", "value": SITE_FOLDER})
        items = [{"key": file, "path": file} for file in (CA_FILE, CERTIFICATE_FILE, KEY_FILE)]
        mounts += [
            {"name": "site", "mountPath": SITE_FOLDER},
            {"name": "environment", "mountPath": SERVER_TLS_FOLDER, "readOnly": True},
        ]
        volumes += [
            {"name": "site", "emptyDir": {}},
            {"name": "environment", "secret": {"secretName": environment, "items": items, "defaultMode": 0o440}},
        ]
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": restricted_security(),
        "containers": [
            {
                "name": name,
                "image": plan.image,
                "command": [*start, *command],
                "env": variables,
                "ports": ports,
                "resources": resources,
                "securityContext": NO_PRIVILEGES,
                "volumeMounts": mounts,
            }
        ],
        "volumes": volumes,
    }
