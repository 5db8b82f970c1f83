"""Test the whole objects of a run, with and without an environment, and what no object may ever contain."""

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from skjob.config.environment_variables import MAX_ORDINARY_BYTES, NO_VARIABLES, Variables
from skjob.config.hash_seed import SEED, hash_seed
from skjob.config.namespace_policy import NamespacePolicy
from skjob.config.nodes import NodePool, Scheduling
from skjob.config.plan import Plan, WorkerSize
from skjob.config.pod_settings import PodSettings, PodVariable
from skjob.config.settings import Place, WorkerRange
from skjob.deploy.kubernetes.manifests.environment import (
    package_server_job,
    package_server_policy,
    package_server_service,
)
from skjob.deploy.kubernetes.manifests.labels import RunNames
from skjob.deploy.kubernetes.manifests.pods import anchor_job, owned_by, pod_environment
from skjob.deploy.kubernetes.manifests.run import (
    dask_cluster,
    files,
    network_policy,
    pool_of,
    secret,
    size_of,
    variables_of,
)
from skjob.engine.cancellation import RESTARTED_VARIABLE
from skjob.engine.fidelity.effects.guard import FOLDER_VARIABLE
from skjob.environment.pod.requirements import PodRequirements
from skjob.utils.tls import Certificates

NAMES = RunNames("20261123-155901-3f9a1c", "train", "Ann")
CERTIFICATES = Certificates(b"the authority", b"the certificate", b"the key")
INDEX_FILES = {"settings.json": b"https://ann:secret@index.example", "authority.pem": b"-authority-"}
NEEDS = PodRequirements("3.11", {"numpy": "2.4.0"}, served_at="skjob-environment-1.team:8443")
RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "fsGroup": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def _plan(*, workers: tuple[int, int] = (2, 6)) -> Plan:
    return Plan(
        place=Place.KUBERNETES,
        why="",
        workers=WorkerRange(*workers),
        size=WorkerSize(cpu=1.5, memory=2**30, threads=2),
        image="registry.example/team:1",
        env="auto",
        start_timeout=300,
        max_time=None,
        grace=300,
        keep_time=0,
        checkpoint=None,
        retries=3,
    )


def _metadata(component: str) -> dict[str, Any]:
    return {
        "name": "skjob-train-3f9a1c",
        "namespace": "team",
        "labels": {
            "app.kubernetes.io/name": "skjob",
            "app.kubernetes.io/instance": "skjob-train-3f9a1c",
            "app.kubernetes.io/managed-by": "skjob",
            "app.kubernetes.io/component": component,
            "skjob/run": "20261123-155901-3f9a1c",
            "skjob/user": "ann",
        },
        "annotations": {"skjob/user": "Ann", "skjob/program": "train"},
    }


def _environment(python_path: str) -> list[dict[str, str]]:
    variables = {
        "HOME": "/tmp",
        "PYTHONPATH": python_path,
        "PYTHONUNBUFFERED": "1",
        **hash_seed(os.environ),
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": "/skjob/tls/ca.crt",
        "DASK_DISTRIBUTED__SCHEDULER__ACTIVE_MEMORY_MANAGER__START": "False",
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "3",
        "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": (
            "['distributed.http.scheduler.prometheus', 'distributed.http.scheduler.info',"
            " 'distributed.http.scheduler.json', 'distributed.http.health', 'distributed.http.statics']"
        ),
        "MALLOC_TRIM_THRESHOLD_": "65536",
        "MALLOC_ARENA_MAX": "2",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        RESTARTED_VARIABLE: "1",
        FOLDER_VARIABLE: "/tmp/skjob-work",
        "DASK_LOGGING": "{'distributed': 'info', 'distributed.worker': 'warning'}",
        "DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__CERT": "/skjob/tls/tls.crt",
        "DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__KEY": "/skjob/tls/tls.key",
        "DASK_DISTRIBUTED__COMM__TLS__WORKER__CERT": "/skjob/tls/tls.crt",
        "DASK_DISTRIBUTED__COMM__TLS__WORKER__KEY": "/skjob/tls/tls.key",
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT": "/skjob/tls/tls.crt",
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY": "/skjob/tls/tls.key",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    return [{"name": name, "value": value} for name, value in variables.items()]


NO_GPUS = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}
MOUNTS: list[dict[str, Any]] = [
    {"name": "tls", "mountPath": "/skjob/tls", "readOnly": True},
    {"name": "run", "mountPath": "/skjob/run", "readOnly": True},
    {"name": "tmp", "mountPath": "/tmp"},
]
VOLUMES: list[dict[str, Any]] = [
    {
        "name": "tls",
        "secret": {
            "secretName": "skjob-train-3f9a1c",
            "items": [{"key": name, "path": name} for name in ("ca.crt", "tls.crt", "tls.key")],
            "defaultMode": 0o440,
        },
    },
    {"name": "run", "configMap": {"name": "skjob-train-3f9a1c"}},
    {"name": "tmp", "emptyDir": {}},
]
POD: dict[str, Any] = {
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "terminationGracePeriodSeconds": 1,
    "securityContext": RESTRICTED,
}
SCHEDULER: dict[str, Any] = {
    "name": "scheduler",
    "image": "registry.example/team:1",
    "command": [
        "python", "-m", "distributed.cli.dask_scheduler", "--protocol", "tls", "--port", "8786",
        "--dashboard-address", "127.0.0.1:8787", "--no-dashboard", "--preload", "skjob.deploy.scheduler_dashboard",
        "--no-show",
    ],
    "env": [*_environment("/skjob/run/skjob.zip"), NO_GPUS],
    "ports": [{"name": "tcp-comm", "containerPort": 8786}],
    "resources": {"requests": {"cpu": "50m", "memory": "1073741824"}, "limits": {"memory": "1073741824"}},
    "securityContext": CONTAINER,
    "volumeMounts": MOUNTS,
}  # fmt: skip
WORKER: dict[str, Any] = {
    "name": "worker",
    "image": "registry.example/team:1",
    "command": [
        "python", "-m", "distributed.cli.dask_worker", "--no-nanny", "--name", "$(DASK_WORKER_NAME)",
        "--nthreads", "2", "--memory-limit", "1073741824", "--no-dashboard", "--dashboard-address", "127.0.0.1:0",
        "--local-directory", "/tmp",
    ],
    "env": [
        *_environment("/skjob/run/skjob.zip"),
        {"name": "DASK_SCHEDULER_ADDRESS", "value": "tls://skjob-train-3f9a1c-scheduler.team:8786"},
        NO_GPUS,
    ],
    "ports": [],
    "resources": {"requests": {"cpu": "1500m", "memory": "1073741824"}, "limits": {"memory": "1073741824"}},
    "securityContext": CONTAINER,
    "volumeMounts": MOUNTS,
}  # fmt: skip


NO_SIDECAR = {"sidecar.istio.io/inject": "false"}


def _dask_cluster(scheduler: dict[str, Any], worker: dict[str, Any]) -> dict[str, Any]:
    metadata = _metadata("cluster")
    metadata["annotations"] |= NO_SIDECAR
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": metadata,
        "spec": {
            "scheduler": {
                "metadata": {"labels": {"app.kubernetes.io/component": "scheduler", **NO_SIDECAR}},
                "spec": scheduler,
                "service": {
                    "type": "ClusterIP",
                    "selector": {"dask.org/cluster-name": "skjob-train-3f9a1c", "dask.org/component": "scheduler"},
                    "ports": [{"name": "tcp-comm", "port": 8786, "targetPort": "tcp-comm"}],
                    "publishNotReadyAddresses": True,
                },
            },
            "worker": {
                "metadata": {"labels": {"app.kubernetes.io/component": "worker", **NO_SIDECAR}},
                "replicas": 2,
                "spec": worker,
            },
        },
    }


def test_the_anchor() -> None:
    assert anchor_job(NAMES, "team", 299.6) == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata("anchor"),
        "spec": {
            "parallelism": 0,
            "activeDeadlineSeconds": 300,
            "ttlSecondsAfterFinished": 0,
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "securityContext": RESTRICTED,
                    "containers": [
                        {
                            "name": "none",
                            "image": "none.invalid/none",
                            "securityContext": CONTAINER,
                            "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"memory": "1Mi"}},
                        }
                    ],
                }
            },
        },
    }


def test_everything_else_goes_when_the_anchor_goes() -> None:
    created = anchor_job(NAMES, "team", 300)
    created["metadata"]["uid"] = "1234"
    before = secret(NAMES, "team", CERTIFICATES.files())
    owned = owned_by(created, before)
    assert owned == {
        **before,
        "metadata": {
            **_metadata("certificates"),
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "skjob-train-3f9a1c", "uid": "1234"}],
        },
    }
    assert before == secret(NAMES, "team", CERTIFICATES.files())  # a new object, not changed in place


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


@pytest.mark.parametrize("more", [{}, INDEX_FILES])
def test_the_secret(more: dict[str, bytes]) -> None:
    assert secret(NAMES, "team", CERTIFICATES.files() | more) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata("certificates"),
        "type": "Opaque",
        "immutable": True,
        "data": {
            "ca.crt": _encoded(b"the authority"),
            "tls.crt": _encoded(b"the certificate"),
            "tls.key": _encoded(b"the key"),
            **{name: _encoded(value) for name, value in more.items()},
        },
    }


@pytest.mark.parametrize(("needs", "data"), [(None, {}), (NEEDS, {"environment.json": NEEDS.as_json()})])
def test_the_files(needs: PodRequirements | None, data: dict[str, str]) -> None:
    assert files(NAMES, "team", b"\x00zip", needs) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata("files"),
        "immutable": True,
        "data": data,
        "binaryData": {"skjob.zip": _encoded(b"\x00zip")},
    }


def test_a_cluster_of_an_image_as_it_is() -> None:
    assert dask_cluster(NAMES, "team", _plan(), None) == _dask_cluster(
        {**POD, "containers": [SCHEDULER], "volumes": VOLUMES},
        {**POD, "containers": [WORKER], "volumes": VOLUMES},
    )


@pytest.mark.parametrize("environment", ["", "skjob-environment-1"])
def test_a_cluster_whose_pods_see_to_their_environment(environment: str) -> None:
    mounts, volumes = [*MOUNTS], [*VOLUMES]
    if environment:
        items = [{"key": name, "path": name} for name in ("ca.crt", "tls.crt", "tls.key")]
        kept = {"secretName": environment, "items": items, "defaultMode": 0o440}
        mounts += [
            {"name": "site", "mountPath": "/skjob/site"},
            {"name": "environment", "mountPath": "/skjob/environment", "readOnly": True},
        ]
        volumes += [{"name": "site", "emptyDir": {}}, {"name": "environment", "secret": kept}]
    variables = _environment("/skjob/site:/skjob/run/skjob.zip")

    def changed(container: dict[str, Any]) -> dict[str, Any]:
        [python, m, *rest] = container["command"]
        more = container["env"][len(variables) :]
        libraries = [{"name": "LD_LIBRARY_PATH", "value": "/skjob/site"}] if environment else []
        command = [python, m, "skjob.environment.pod.entrypoint", *rest]
        return {**container, "command": command, "volumeMounts": mounts, "env": [*variables, *libraries, *more]}

    assert dask_cluster(NAMES, "team", _plan(), NEEDS, environment) == _dask_cluster(
        {**POD, "containers": [changed(SCHEDULER)], "volumes": volumes},
        {**POD, "containers": [changed(WORKER)], "volumes": volumes},
    )


VARIABLES = Variables({"GREETING": "a $(PATH) costs 5$$"}, {"TOKEN": "sesame"})


def test_workers_alone_have_the_variables_of_a_user() -> None:
    more = [
        {"name": "GREETING", "value": "a $$(PATH) costs 5$$$$"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "skjob-train-3f9a1c", "key": "TOKEN"}}},
    ]
    made = dask_cluster(NAMES, "team", _plan(), None, variables=VARIABLES)
    assert made["metadata"]["annotations"].pop("skjob/variables") == "GREETING,TOKEN"
    assert made == _dask_cluster(
        {**POD, "containers": [SCHEDULER], "volumes": VOLUMES},
        {**POD, "containers": [{**WORKER, "env": [*WORKER["env"], *more]}], "volumes": VOLUMES},
    )
    assert "sesame" not in json.dumps(made)


@pytest.mark.parametrize("environment", ["", "skjob-environment-1"])
def test_a_cluster_says_which_variables_users_have_set(environment: str) -> None:
    data = secret(NAMES, "team", {"tls.key": b"key", "TOKEN": b"sesame"})["data"]
    made = dask_cluster(NAMES, "team", _plan(), NEEDS, environment, VARIABLES)
    assert variables_of(made, data) == VARIABLES
    assert variables_of(dask_cluster(NAMES, "team", _plan(), NEEDS, environment), data) == NO_VARIABLES


def test_a_users_variables_replace_the_teams_which_are_not_taken_for_theirs() -> None:
    """The program gets the user's value, not the team's."""
    of_team = PodSettings(variables=(PodVariable("GREETING", "ours"), PodVariable("PROXY", "ours")))
    plan = replace(_plan(), rules=NamespacePolicy(pods=of_team))
    made = dask_cluster(NAMES, "team", plan, None, variables=VARIABLES)
    env = made["spec"]["worker"]["spec"]["containers"][0]["env"]
    assert [entry["value"] for entry in env if entry["name"] == "GREETING"] == ["a $$(PATH) costs 5$$$$"]
    assert [entry["value"] for entry in env if entry["name"] == "PROXY"] == ["ours"]
    assert variables_of(made, {"TOKEN": base64.b64encode(b"sesame").decode()}) == VARIABLES


def test_the_operator_can_write_down_the_most_variables_that_there_may_be() -> None:
    """A cluster's settings may have 32 KiB, as in the policies (helm/skjob/templates/_policies.tpl)."""
    most = Variables({"A": "x" * (MAX_ORDINARY_BYTES - 1)}, {f"SECRET_{number}": "x" for number in range(20)})
    made = dask_cluster(NAMES, "team", _plan(), NEEDS, "skjob-environment-1", most)
    assert len(json.dumps([made["spec"], made["metadata"]])) < 24 * 1024


@pytest.mark.parametrize(("given", "expected"), [("3", "3"), ("random", SEED)])
def test_pods_hash_strings_as_the_program(monkeypatch: pytest.MonkeyPatch, given: str, expected: str) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", given)
    assert {"name": "PYTHONHASHSEED", "value": expected} in pod_environment("", 1)


@pytest.mark.parametrize("index_files", [[], [*INDEX_FILES]])
def test_the_pod_that_keeps_an_environment(index_files: list[str]) -> None:
    job = package_server_job(NAMES, "team", "registry.example/team:1", index_files, 3600)
    tls = {**MOUNTS[0], "mountPath": "/skjob/environment"}
    mounts = [tls, *MOUNTS[1:], {"name": "site", "mountPath": "/skjob/site"}]
    volumes = [*VOLUMES, {"name": "site", "emptyDir": {}}]
    if index_files:
        mounts.append({"name": "index", "mountPath": "/skjob/index", "readOnly": True})
        items = [{"key": name, "path": name} for name in ("authority.pem", "settings.json")]
        index = {"secretName": "skjob-train-3f9a1c", "items": items, "defaultMode": 0o440}
        volumes.append({"name": "index", "secret": index})
    expected = anchor_job(NAMES, "team", 3600)
    expected["spec"] |= {"parallelism": 1, "backoffLimit": 3, "ttlSecondsAfterFinished": 60}
    expected["spec"]["template"] = {
        "metadata": {"labels": _metadata("environment")["labels"] | NO_SIDECAR, "annotations": NO_SIDECAR},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": RESTRICTED,
            "containers": [
                {
                    "name": "environment",
                    "image": "registry.example/team:1",
                    "command": ["python", "-m", "skjob.environment.pod.package_server"],
                    "env": [
                        {"name": "HOME", "value": "/tmp"},
                        {"name": "PYTHONPATH", "value": "/skjob/run/skjob.zip"},
                        {"name": "PYTHONUNBUFFERED", "value": "1"},
                        NO_GPUS,
                    ],
                    "ports": [{"name": "environment", "containerPort": 8443}],
                    "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
                    "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
                    "securityContext": CONTAINER,
                    "volumeMounts": mounts,
                }
            ],
            "volumes": volumes,
        },
    }
    assert job == expected


def test_where_pods_find_it() -> None:
    assert package_server_service(NAMES, "team") == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata("environment"),
        "spec": {
            "type": "ClusterIP",
            "selector": {"app.kubernetes.io/instance": "skjob-train-3f9a1c"},
            "ports": [{"name": "environment", "port": 8443, "targetPort": "environment"}],
        },
    }


OWN_PODS = {"podSelector": {"matchLabels": {"skjob/run": "20261123-155901-3f9a1c"}}}


def _only(ingress: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata("network"),
        "spec": {**OWN_PODS, "policyTypes": ["Ingress"], "ingress": [ingress]},
    }


def test_only_a_runs_own_pods_connect_to_them() -> None:
    assert network_policy(NAMES, "team") == _only({"from": [OWN_PODS]})


def test_only_skjobs_pods_fetch_an_environment() -> None:
    anyones = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "skjob"}}}
    assert package_server_policy(NAMES, "team") == _only(
        {"from": [anyones], "ports": [{"protocol": "TCP", "port": 8443}]}
    )


def test_the_policy_selects_the_pods_it_is_for() -> None:
    """The operator copies a DaskCluster's labels to the pods it creates; a Job's pods have those of its template."""
    cluster = dask_cluster(NAMES, "team", _plan(), None)
    keeper = package_server_job(NAMES, "team", "an-image", [], 3600)
    for policy, pods in ((network_policy, cluster), (package_server_policy, keeper["spec"]["template"])):
        selected = policy(NAMES, "team")["spec"]["podSelector"]["matchLabels"]
        assert selected.items() <= pods["metadata"]["labels"].items()
    [rule] = package_server_policy(NAMES, "team")["spec"]["ingress"]
    assert rule["from"][0]["podSelector"]["matchLabels"].items() <= cluster["metadata"]["labels"].items()


def test_where_the_platform_team_wants_the_pods() -> None:
    toleration = {"key": "batch", "operator": "Exists", "effect": "NoSchedule"}
    scheduling = Scheduling({"pool": "batch"}, (toleration,), "low", "team-queue")
    where = {"nodeSelector": {"pool": "batch"}, "tolerations": [toleration], "priorityClassName": "low"}
    rules = NamespacePolicy(scheduling=scheduling)
    plan = replace(_plan(), rules=rules)
    spec = dask_cluster(NAMES, "team", plan, None)["spec"]
    keeper = package_server_job(NAMES, "team", "an-image", [], 3600, rules)
    for pod in (spec["scheduler"]["spec"], spec["worker"]["spec"], keeper["spec"]["template"]["spec"]):
        assert where.items() <= pod.items()
    # Kueue suspends a Job that has its label, and a suspended anchor has no deadline.
    queue = {"kueue.x-k8s.io/queue-name": "team-queue"}
    assert all(queue.items() <= spec[role]["metadata"]["labels"].items() for role in ("scheduler", "worker"))
    for job in (keeper, anchor_job(NAMES, "team", 300)):
        assert "kueue.x-k8s.io/queue-name" not in str(job)


def test_a_run_in_a_node_pool() -> None:
    """Its workers are on nodes that may be taken away, with GPUs; whatever must not be lost is elsewhere."""
    toleration = {"key": "gpu", "operator": "Exists"}
    pools = (
        NodePool("batch", {"pool": "batch"}),
        NodePool("gpu", {"pool": "gpu"}, (toleration,), spot=True, schedulers=False),
    )
    rules = NamespacePolicy(node_pools=pools).in_pool("gpu").on_architecture("arm64")
    plan = replace(_plan(), rules=rules, size=WorkerSize(2.0, 2**30, 1, gpus=2))
    cluster = dask_cluster(NAMES, "team", plan, None)
    worker, scheduler = (cluster["spec"][role]["spec"] for role in ("worker", "scheduler"))
    assert worker["nodeSelector"] == {"pool": "gpu", "kubernetes.io/arch": "arm64"}
    assert worker["tolerations"] == [toleration]
    keeper = package_server_job(NAMES, "team", "an-image", [], 3600, rules)["spec"]["template"]["spec"]
    for pod in (scheduler, keeper):
        assert pod["nodeSelector"] == {"pool": "batch", "kubernetes.io/arch": "arm64"}
        assert "tolerations" not in pod
    resources = worker["containers"][0]["resources"]
    assert (resources["limits"]["nvidia.com/gpu"], resources["requests"]["nvidia.com/gpu"]) == ("2", "2")
    assert "nvidia.com/gpu" not in str(scheduler)
    # Workers have the GPUs that Kubernetes gives them, and others none, whatever variables their image has.
    assert NO_GPUS["name"] not in str(worker)
    for pod in (scheduler, keeper):
        assert NO_GPUS in pod["containers"][0]["env"]
    assert (size_of(cluster), pool_of(cluster)) == (plan.size, "gpu")
    assert pool_of(dask_cluster(NAMES, "team", _plan(), None)) is None


def test_every_object_of_a_team_says_so() -> None:
    names = replace(NAMES, team="Data Science")
    for each in (
        anchor_job(names, "team", 300),
        secret(names, "team", {}),
        files(names, "team", b"", None),
        network_policy(names, "team"),
        dask_cluster(names, "team", _plan(), None),
        package_server_service(names, "team"),
        package_server_job(names, "team", "an-image", [], 3600),
        package_server_job(names, "team", "an-image", [], 3600)["spec"]["template"],
    ):
        assert each["metadata"]["labels"]["skjob/team"] == "data-science"


@pytest.mark.parametrize(("workers", "replicas"), [((0, 5), 1), ((1, 5), 1), ((3, 5), 3), ((4, 4), 4)])
def test_the_first_workers(workers: tuple[int, int], replicas: int) -> None:
    cluster = dask_cluster(NAMES, "team", _plan(workers=workers), None)
    assert cluster["spec"]["worker"]["replicas"] == replicas


@pytest.mark.parametrize(("worker", "scheduler"), [(2**28, 2**30), (2**30, 2**30), (2**33, 2**33)])
def test_what_fits_a_worker_fits_through_the_scheduler(worker: int, scheduler: int) -> None:
    plan = replace(_plan(), size=WorkerSize(cpu=1, memory=worker, threads=1))
    pod = dask_cluster(NAMES, "team", plan, None)["spec"]["scheduler"]["spec"]
    assert pod["containers"][0]["resources"]["limits"] == {"memory": str(scheduler)}


def _pods() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "anchor", anchor_job(NAMES, "team", 300)["spec"]["template"]["spec"]
    yield "keeper", package_server_job(NAMES, "team", "an-image", [*INDEX_FILES], 3600)["spec"]["template"]["spec"]
    for name, needs, environment in (("image", None, ""), ("complete", NEEDS, ""), ("unpacks", NEEDS, "skjob-env-1")):
        spec = dask_cluster(NAMES, "team", _plan(), needs, environment)["spec"]
        for role in ("scheduler", "worker"):
            yield f"{role}-{name}", spec[role]["spec"]


PODS = dict(_pods())


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_every_pod_passes_the_restricted_standard_and_holds_no_token(pod: dict[str, Any]) -> None:
    """The controls of the Pod Security Standard `restricted`, as far as they apply to a pod."""
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert {kind for volume in pod.get("volumes", []) for kind in volume} <= {"name", "secret", "configMap", "emptyDir"}
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert container["securityContext"] == CONTAINER
        assert container["resources"]["limits"] == {"memory": container["resources"]["requests"]["memory"]}
        assert [port for port in container.get("ports", []) if "hostPort" in port] == []


def test_no_secret_is_anywhere_but_in_the_secret() -> None:
    public = json.dumps(
        [
            anchor_job(NAMES, "team", 300),
            files(NAMES, "team", b"zip", NEEDS),
            dask_cluster(NAMES, "team", _plan(), NEEDS, "skjob-environment-1"),
            package_server_job(NAMES, "team", "an-image", [*INDEX_FILES], 3600),
        ]
    )
    private = [*CERTIFICATES.files().values(), *INDEX_FILES.values(), b"ann:secret"]
    for value in private:
        assert value.decode() not in public
        assert _encoded(value) not in public
