"""A platform team's node pools and GPUs, in a run of one of the team's users, and requests that the cluster refuses.

The pools are the two nodes of the tests' cluster. One of them has a taint with the effect PreferNoSchedule, and two
GPUs that exist only as an extended resource in the node's status.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from support.command import run_command
from support.releases import LIMITS, USER, Release, installed
from support.runs import DEADLINE, Runs
from support.users import user_environment
from support.wait import until

from skjob.config.environment_variables import GPUS_VARIABLE
from skjob.config.namespace_policy import NamespacePolicy, parse_rules
from skjob.config.nodes import GPU
from skjob.config.plan import Machine, make_plan
from skjob.config.settings import Place, Settings, WorkerRange
from skjob.deploy.kubernetes.manifests.environment import package_server_job
from skjob.deploy.kubernetes.manifests.labels import RunNames
from skjob.deploy.kubernetes.manifests.pods import anchor_job, owned_by
from skjob.deploy.kubernetes.manifests.run import dask_cluster

Manifest = dict[str, Any]

LABEL = "skjob-test/pool"
TAINT = "skjob-test/gpu"
PLAIN = {LABEL: "plain", "kubernetes.io/os": "linux"}
TOLERATION = {"key": TAINT, "operator": "Exists", "effect": "PreferNoSchedule"}
POOLS: list[Manifest] = [
    {"name": "plain", "node-selector": PLAIN, "price": {"cpu-hour": 1.0, "gib-hour": 0.0}},
    {
        "name": "gpu",
        "node-selector": {LABEL: "gpu"},
        "tolerations": [TOLERATION],
        "limits": {"max-workers": 2, "max-gpus": 2},
        "price": {"cpu-hour": 1.0, "gib-hour": 0.0, "gpu-hour": 3600.0},
        "spot": True,
    },
]
GROUP, VERSION, CLUSTERS = "kubernetes.dask.org", "v1", "daskclusters"
SCRIPT = """
    import time
    from pathlib import Path
    from joblib import Parallel, delayed

    print("searching", flush=True)
    while not Path("stop").exists():
        Parallel(n_jobs=2)(delayed(time.sleep)(0.2) for _ in range(4))
"""


@dataclass(frozen=True)
class GpuRun:
    """A run in the pool with GPUs: its pods by role, its user, and the refusal of one more worker."""

    release: Release
    nodes: dict[str, str]
    pods: dict[str, client.V1Pod]
    refusal: str
    runs: Runs
    user: dict[str, str]


@contextmanager
def labelled_nodes(core: client.CoreV1Api) -> Iterator[dict[str, str]]:
    """Turn nodes into the pools; yield their names by the pool's name."""
    names = [each.metadata.name for each in core.list_node().items if "control-plane" not in each.metadata.name]
    nodes = dict(zip(("plain", "gpu"), sorted(names), strict=True))
    taint = {"key": TAINT, "effect": "PreferNoSchedule"}
    try:
        for pool, node in nodes.items():
            core.patch_node(node, {"metadata": {"labels": {LABEL: pool}}})
        core.patch_node(nodes["gpu"], {"spec": {"taints": [taint]}})
        core.patch_node_status(nodes["gpu"], {"status": {"capacity": {GPU: "2"}}})
        until(lambda: core.read_node(nodes["gpu"]).status.allocatable.get(GPU) == "2", "the node has no GPUs")
        yield nodes
    finally:
        for node in nodes.values():
            core.patch_node(node, {"metadata": {"labels": {LABEL: None}}})
        core.patch_node(nodes["gpu"], {"spec": {"taints": None}})
        core.patch_node_status(nodes["gpu"], {"status": {"capacity": {GPU: None}, "allocatable": {GPU: None}}})


@pytest.fixture(scope="module")
def gpu_run(
    shared_env: dict[str, str], kind_api: client.ApiClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GpuRun]:
    core = client.CoreV1Api(kind_api)
    with labelled_nodes(core) as nodes, installed(shared_env, kind_api, placement={"node-pools": POOLS}) as release:
        namespace, folder = release.namespace, tmp_path_factory.mktemp("run")
        user = user_environment(kind_api, shared_env, namespace, folder, may_run=False, name=USER)
        runs = Runs(folder, user, namespace)
        with runs.searching("--node-pool", "gpu", "--worker-gpu", "1", script=SCRIPT) as process:
            until(lambda: len(running_pods(core, namespace)) == 3)
            pods = {pod.metadata.labels["dask.org/component"]: pod for pod in running_pods(core, namespace)}
            refusal = refused_scale_up(user, namespace)
            (folder / "stop").touch()
            _, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, err
        yield GpuRun(release, nodes, pods, refusal, runs, user)


def running_pods(core: client.CoreV1Api, namespace: str) -> list[client.V1Pod]:
    pods = core.list_namespaced_pod(namespace, label_selector="dask.org/cluster-name").items
    return [pod for pod in pods if pod.status.phase == "Running"]


def refused_scale_up(user: dict[str, str], namespace: str) -> str:
    """Scale up beyond the pool's limit as this user; return the API's error message."""
    with config.new_client_from_config(user["KUBECONFIG"], "kind-skjob") as api:
        objects = client.CustomObjectsApi(api)
        where = (GROUP, VERSION, namespace, CLUSTERS)
        [cluster] = objects.list_namespaced_custom_object(*where)["items"]
        more = {"spec": {"worker": {"replicas": 3}}}
        with pytest.raises(ApiException) as refused:
            objects.patch_namespaced_custom_object(*where, cluster["metadata"]["name"], more, dry_run="All")
    return str(json.loads(refused.value.body)["message"])


def test_workers_run_in_the_pool_with_gpus(gpu_run: GpuRun) -> None:
    worker = gpu_run.pods["worker"]
    assert worker.spec.node_name == gpu_run.nodes["gpu"]
    assert worker.spec.node_selector == {LABEL: "gpu"}
    assert [(each.key, each.effect) for each in worker.spec.tolerations if each.key == TAINT] == [
        (TAINT, "PreferNoSchedule")
    ]
    [container] = worker.spec.containers
    assert container.resources.limits[GPU] == container.resources.requests[GPU] == "1"
    assert container.command[container.command.index("--nthreads") + 1] == "1"


def test_scheduler_does_not_run_on_spot_nodes(gpu_run: GpuRun) -> None:
    scheduler = gpu_run.pods["scheduler"]
    assert scheduler.spec.node_name == gpu_run.nodes["plain"]
    assert scheduler.spec.node_selector == PLAIN
    assert TAINT not in [each.key for each in scheduler.spec.tolerations]


def test_workers_are_limited_by_the_pool(gpu_run: GpuRun) -> None:
    assert LIMITS["max-workers"] == 3
    assert "3 workers were asked for, and no run may have more than 2 (`max-workers`" in gpu_run.refusal


def test_pool_and_gpu_hours_are_recorded(
    gpu_run: GpuRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(gpu_run.runs.folder)
    shown = run_command(["show"], gpu_run.user, monkeypatch, capsys).stdout
    assert "node pool" in shown
    assert "GPU hours" in shown
    [record] = [json.loads(path.read_text()) for path in gpu_run.runs.folder.glob(".skjob/runs/*/run.json")]
    assert (record["cluster"]["node_pool"], record["cluster"]["worker_gpu"]) == ("gpu", 1)
    hours = record["cost"]["gpu_hours"]
    assert hours > 0
    assert record["cost"]["amount"] == pytest.approx(3600 * hours, rel=0.05)  # the price of CPUs is negligible
    costs = ["costs", "--context", "kind-skjob", "--namespace", gpu_run.release.namespace, "--by", "pool", "--json"]
    report = json.loads(run_command(costs, gpu_run.user, monkeypatch, capsys).stdout)
    [total] = [each for each in report["totals"] if each["name"] == "gpu"]
    assert total["gpu_hours"] == pytest.approx(hours, rel=0.5)


def test_helm_test_passes_with_pools(gpu_run: GpuRun) -> None:
    output = gpu_run.release.helm("test", gpu_run.release.name, "--logs").stdout
    assert "ok: pods on any node are refused" in output
    assert "ok: a DaskCluster is not refused" in output


# ---- requests that bypass skjob, which the cluster refuses


def rules_of(namespace: str, api: client.ApiClient) -> NamespacePolicy:
    data = client.CoreV1Api(api).read_namespaced_config_map("skjob-defaults", namespace).data
    return parse_rules(data, "the release")


def own_cluster(rules: NamespacePolicy, namespace: str, pool: str = "gpu", gpus: int = 1) -> Manifest:
    """Return the DaskCluster that skjob creates for a run in a pool."""
    settings = Settings(workers=WorkerRange(1, 1), worker_cpu=0.1, worker_memory=2**29, worker_gpu=gpus, node_pool=pool)
    plan = make_plan(settings, Place.KUBERNETES, "", Machine(2, 2**33), "3.11", rules)
    names = RunNames("20261123-155901-3f9a1c", "train", "ann", existing="other", team="somebodys")
    anchor = anchor_job(names, namespace, 60)
    anchor["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
    return owned_by(anchor, dask_cluster(names, namespace, plan, None))


def own_package_server(rules: NamespacePolicy, namespace: str) -> Manifest:
    """Return the package server's Job that skjob creates for a run in the pool with GPUs."""
    names = RunNames("20261123-155901-3f9a1d", "environment", "ann", existing="skjob-environment-0123456789ab")
    return package_server_job(names, namespace, "i", [], 60, rules.in_pool("gpu"))


def pod(part: str, **fields: Any) -> Callable[[Manifest], None]:
    """Change these fields of the pod of a part of a DaskCluster."""
    return lambda manifest: manifest["spec"][part]["spec"].update(fields)


def resources(part: str, **kinds: Manifest) -> Callable[[Manifest], None]:
    """Add these limits or requests to the container of a part."""

    def change(manifest: Manifest) -> None:
        [container] = manifest["spec"][part]["spec"]["containers"]
        for kind, amounts in kinds.items():
            container["resources"][kind] |= amounts

    return change


def variable(part: str, **entry: Any) -> Callable[[Manifest], None]:
    """Change the variable by which NVIDIA's runtime gives the container of a part its GPUs."""

    def change(manifest: Manifest) -> None:
        [container] = manifest["spec"][part]["spec"]["containers"]
        env = [each for each in container["env"] if each["name"] != GPUS_VARIABLE]
        container["env"] = [*env, {"name": GPUS_VARIABLE, **entry}]

    return change


def without_gpus(manifest: Manifest) -> None:
    [container] = manifest["spec"]["worker"]["spec"]["containers"]
    for kind in ("limits", "requests"):
        del container["resources"][kind][GPU]


def all_of(*changes: Callable[[Manifest], None]) -> Callable[[Manifest], None]:
    def change(manifest: Manifest) -> None:
        for each in changes:
            each(manifest)

    return change


def replicas(number: int) -> Callable[[Manifest], None]:
    return lambda manifest: manifest["spec"]["worker"].update(replicas=number)


OLD_CLIENT_POD: Manifest = {"nodeSelector": {}, "tolerations": []}
PLAIN_POD: Manifest = {"nodeSelector": PLAIN, "tolerations": []}
NOT_IN_A_POOL = "each pod must be in a node pool, with its whole nodeSelector: plain, gpu"
WORKERS_ALONE = "this node pool takes workers alone (`schedulers`, `spot`"
ITS_OWN_GPUS = "a container has the GPUs that it asks for, and no others"
NOT_ITS_TAINT = "a pod tolerates the taints of its node pool, and no others"
ALL_TAINTS = {"nodeSelector": {LABEL: "gpu"}, "tolerations": [{"operator": "Exists"}]}

ATTACKS: dict[str, tuple[Callable[[Manifest], None], str]] = {
    "an old client": (all_of(pod("worker", **OLD_CLIENT_POD), pod("scheduler", **OLD_CLIENT_POD)), NOT_IN_A_POOL),
    "an old client's scheduler": (pod("scheduler", **OLD_CLIENT_POD), NOT_IN_A_POOL),
    "a pool that is not there": (pod("worker", nodeSelector={LABEL: "other"}, tolerations=[]), NOT_IN_A_POOL),
    "part of a pool's labels": (pod("scheduler", nodeSelector={"kubernetes.io/os": "linux"}), NOT_IN_A_POOL),
    "a pool's taint with another pool's nodes": (
        all_of(without_gpus, pod("worker", nodeSelector=PLAIN, tolerations=[TOLERATION])),
        NOT_ITS_TAINT,
    ),
    "a pool's taint for the scheduler of another": (pod("scheduler", tolerations=[TOLERATION]), NOT_ITS_TAINT),
    "a scheduler on nodes that may be taken away": (
        pod("scheduler", nodeSelector={LABEL: "gpu"}, tolerations=[TOLERATION]),
        WORKERS_ALONE,
    ),
    "every taint": (pod("worker", **ALL_TAINTS), NOT_ITS_TAINT),
    "the taint of the pool, with another effect": (
        pod("worker", tolerations=[TOLERATION | {"effect": "NoExecute"}]),
        NOT_ITS_TAINT,
    ),
    "more workers than in the pool": (replicas(3), "`max-workers`"),
    "more GPUs of a worker": (
        resources("worker", limits={GPU: "3"}, requests={GPU: "3"}),
        "1 workers of 3 GPUs were asked for, and no run may have more than 2 in all (`max-gpus`",
    ),
    "more GPUs of all workers": (
        all_of(replicas(2), resources("worker", limits={GPU: "2"}, requests={GPU: "2"})),
        "2 workers of 2 GPUs were asked for",
    ),
    "more GPUs as a request alone": (resources("worker", requests={GPU: "3"}), "1 workers of 3 GPUs were asked for"),
    "a GPU where the team lets nobody have one": (
        pod("worker", **PLAIN_POD),
        "no run may have more than 0 in all (`max-gpus`",
    ),
    "a GPU of the scheduler": (resources("scheduler", limits={GPU: "1"}), "a scheduler has no GPU"),
    "all GPUs of a node by a variable": (variable("worker", value="all"), ITS_OWN_GPUS),
    "a GPU of a node by a variable of the scheduler": (variable("scheduler", value="0"), ITS_OWN_GPUS),
    "GPUs by a variable of the run's own Secret": (
        variable("worker", valueFrom={"secretKeyRef": {"name": "other", "key": "a"}}),
        ITS_OWN_GPUS,
    ),
    "GPUs by a variable that says nothing": (variable("worker"), ITS_OWN_GPUS),
    "another device": (
        resources("worker", limits={"amd.com/gpu": "1"}, requests={"amd.com/gpu": "1"}),
        "nothing else that costs something",
    ),
}


@pytest.fixture(scope="module")
def user_api(gpu_run: GpuRun) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(gpu_run.user["KUBECONFIG"], "kind-skjob") as api:
        yield api


def refusal(api: client.ApiClient, namespace: str, manifest: Manifest) -> str:
    """Return the API's error message for a manifest, or "" if it accepts it."""
    try:
        if manifest["kind"] == "Job":
            client.BatchV1Api(api).create_namespaced_job(namespace, manifest, dry_run="All")
        else:
            objects = client.CustomObjectsApi(api)
            objects.create_namespaced_custom_object(GROUP, VERSION, namespace, CLUSTERS, manifest, dry_run="All")
    except ApiException as error:
        status = json.loads(error.body)
    else:
        return ""
    assert status["code"] in (403, 422), status
    return str(status["message"])


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_refused(name: str, gpu_run: GpuRun, user_api: client.ApiClient) -> None:
    attack, words = ATTACKS[name]
    namespace = gpu_run.release.namespace
    manifest = copy.deepcopy(own_cluster(rules_of(namespace, user_api), namespace))
    attack(manifest)
    assert words in refusal(user_api, namespace, manifest)


def test_skjobs_own_objects_are_accepted(gpu_run: GpuRun, user_api: client.ApiClient) -> None:
    namespace = gpu_run.release.namespace
    rules = rules_of(namespace, user_api)
    for each in (
        own_cluster(rules, namespace),
        own_cluster(rules, namespace, gpus=2),
        own_cluster(rules, namespace, "plain", gpus=0),
        own_package_server(rules, namespace),
    ):
        assert refusal(user_api, namespace, each) == "", yaml.safe_dump(each)


def test_job_outside_of_pools_or_with_gpus_is_refused(gpu_run: GpuRun, user_api: client.ApiClient) -> None:
    namespace = gpu_run.release.namespace
    package_server = own_package_server(rules_of(namespace, user_api), namespace)
    spec = package_server["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == PLAIN
    [container] = spec["containers"]
    container["resources"]["limits"] |= {GPU: "1"}
    assert "nothing else that costs something" in refusal(user_api, namespace, package_server)
    del container["resources"]["limits"][GPU]
    gpus_variable = [each for each in container["env"] if each["name"] == GPUS_VARIABLE]
    assert gpus_variable == [{"name": GPUS_VARIABLE, "value": "void"}]
    gpus_variable[0]["value"] = "all"
    assert ITS_OWN_GPUS in refusal(user_api, namespace, package_server)
    gpus_variable[0]["value"] = "void"
    spec |= {"nodeSelector": {}}
    assert NOT_IN_A_POOL in refusal(user_api, namespace, package_server)
    spec |= {"nodeSelector": {LABEL: "gpu"}, "tolerations": [TOLERATION]}
    assert WORKERS_ALONE in refusal(user_api, namespace, package_server)


# ---- architectures


@pytest.mark.whole_cluster
def test_pods_run_on_one_architecture_if_nodes_differ(
    kind_runs: Runs, kind_api: client.ApiClient, namespace: str
) -> None:
    """The second architecture is that of a node without a kubelet, which would reset the node's label."""
    core, label, name = client.CoreV1Api(kind_api), "kubernetes.io/arch", "skjob-test-arm64"
    core.create_node({"metadata": {"name": name, "labels": {label: "arm64"}}, "spec": {"unschedulable": True}})
    try:
        core.patch_node_status(
            name, {"status": {"nodeInfo": node_info_of_a_real_node(core) | {"architecture": "arm64"}}}
        )
        with kind_runs.searching(script=SCRIPT) as process:
            until(lambda: len(running_pods(core, namespace)) == 3)
            pods = running_pods(core, namespace)
            (kind_runs.folder / "stop").touch()
            _, err = process.communicate(timeout=DEADLINE)
    finally:
        core.delete_node(name)
    assert process.returncode == 0, err
    assert {pod.spec.node_selector[label] for pod in pods} == {"amd64"}
    assert "nodes have different architectures: pods run on `amd64`; `--arch` chooses another" in err


def node_info_of_a_real_node(core: client.CoreV1Api) -> dict[str, Any]:
    """Return the node info of a real node, as the API has it."""
    info: dict[str, Any] = core.api_client.sanitize_for_serialization(core.list_node().items[0].status.node_info)
    return info
