"""The chart on a real Kubernetes: installed, tested, upgraded and uninstalled, with a user's runs in between.

The cluster's own operator serves these releases, except for one with an operator of its own: for that test, the
cluster's operator is stopped, so that no two act on the same objects. `test_policies.py` tests what the limits refuse.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import render
import yaml
from kubernetes import client
from support.command import run_command
from support.operators import denied_requests, no_operator
from support.releases import CHART, DEFAULTS, HOME, LIMITS, TEAM, USER, Release, Result, call, installed, search_path
from support.runs import DEADLINE, Runs
from support.users import is_allowed, user_environment
from support.wait import until

from skjob.config.namespace_policy import parse_rules
from skjob.config.pod_settings import parse_pods

Manifest = dict[str, Any]

# Runs until the file `stop` exists.
ONGOING = """
    import time
    from pathlib import Path
    from joblib import Parallel, delayed
    print("searching", flush=True)
    rounds = 0
    while not Path("stop").exists():
        Parallel()(delayed(time.sleep)(0.2) for _ in range(4))
        rounds += 1
    print("rounds", rounds)
"""
SELECTOR = {"kubernetes.io/os": "linux"}
"""A node selector that all nodes match."""

PLACEMENT = {"node-selector": SELECTOR, "tolerations": [{"key": "batch", "operator": "Exists"}]}
GRACE = 60
LONG = LIMITS | {"max-time": "30m"}
LOWER = {"max-workers": 1, "max-cpu": "50m", "max-memory": "256Mi", "max-time": "15m"}


def runs_of(release: Release, kind_env: dict[str, str], kind_api: client.ApiClient, folder: Path) -> Runs:
    """Return runs of a user of the team, who has only the permissions that the chart grants."""
    user = user_environment(kind_api, kind_env, release.namespace, folder, may_run=False, name=USER)
    return Runs(folder, user, release.namespace)


def running_pods(kind_api: client.ApiClient, namespace: str) -> dict[str, tuple[str, int]]:
    """Return uid and restart count of each running pod of a scheduler or worker."""
    items = client.CoreV1Api(kind_api).list_namespaced_pod(namespace, label_selector="dask.org/cluster-name").items
    return {
        pod.metadata.name: (pod.metadata.uid, sum(each.restart_count for each in pod.status.container_statuses))
        for pod in items
        if pod.status.phase == "Running" and pod.metadata.deletion_timestamp is None
    }


def cluster_names(kind_api: client.ApiClient, namespace: str) -> list[str]:
    """Return the names of the DaskClusters."""
    clusters = client.CustomObjectsApi(kind_api).list_namespaced_custom_object(
        "kubernetes.dask.org", "v1", namespace, "daskclusters"
    )
    return [each["metadata"]["name"] for each in clusters["items"]]


def deadline(kind_api: client.ApiClient, namespace: str) -> int:
    """Return the deadline of the only run."""
    [job] = client.BatchV1Api(kind_api).list_namespaced_job(namespace).items
    return int(job.spec.active_deadline_seconds)


# --- without a release


def pool(name: str, selector: Manifest | None = None, **more: Any) -> Manifest:
    return {"name": name, "node-selector": selector or {"pool": name}, **more}


def team_with_pools(*pools: Manifest, selector: Manifest | None = None, default: str = "") -> Manifest:
    """Return values of a team with these node pools, and optionally a node selector and a default pool."""
    placement = {"node-pools": [*pools]} | ({"node-selector": selector} if selector else {})
    defaults = {"node-pool": default} if default else {}
    return {"teams": [{"name": "a", "namespace": "x", "placement": placement, "defaults": defaults}]}


def test_helm_lint_passes(kind_env: dict[str, str]) -> None:
    call(kind_env, "helm", "lint", "--strict", str(CHART))
    call(kind_env, "helm", "lint", "--strict", str(CHART), "--values", str(render.EXAMPLE / "values.yaml"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"limits": {"max-worker": 3}}, "max-worker"),
        ({"limits": {"max-time": "1d"}}, "/limits/max-time"),
        ({"limits": {"max-cpu": "many"}}, "/limits/max-cpu"),
        # skjob would reject every run of the team.
        ({"defaults": {"grace": "5s"}}, "/defaults/grace"),
        ({"defaults": {"worker-memory": "64Mi"}}, "/defaults/worker-memory"),
        ({"defaults": {"checkpoint": "memory://fits"}}, "/defaults/checkpoint"),
        ({"defaults": {"workers": "10:2"}, "teams": [{"name": "a", "namespace": "x"}]}, "the fewest are more than"),
        ({"teams": [{"name": "a", "namespace": "x", "defaults": {"max-cost": 20}}]}, "no `costs.prices`"),
        ({"teams": [{"name": "a"}]}, "namespace"),
        ({"teams": [{"name": "Data Science", "namespace": "a"}]}, "/teams/0/name"),
        ({"teams": [{"name": "a", "namespace": "x"}, {"name": "b", "namespace": "x"}]}, "a team has one of its own"),
        ({"teams": [{"name": "a", "namespace": "x"}, {"name": "a", "namespace": "y"}]}, "two teams are called `a`"),
        ({"pods": {"labels": {"skjob/run": "a"}}}, "invalid propertyName 'skjob/run'"),
        ({"pods": {"env": [{"name": "DASK_LOGGING", "value": "x"}]}}, "/pods/env/0/name"),
        ({"pods": {"mounts": [{"mountPath": "/tmp/x", "secret": {"secretName": "a"}}]}}, "/pods/mounts/0/mountPath"),
        ({"pods": {"mounts": [{"mountPath": "/x", "hostPath": {"path": "/"}}]}}, "'hostPath' not allowed"),
        (
            {"pods": {"mounts": [{"mountPath": "/x", "secret": {"secretName": "a"}, "readOnly": False}]}},
            "/pods/mounts/0/readOnly",
        ),
        (
            {
                "pods": {
                    "mounts": [{"mountPath": "/x", "serviceAccountToken": {"audience": "https://kubernetes.default"}}]
                }
            },
            "/pods/mounts/0/serviceAccountToken/audience",
        ),
        (
            {
                "pods": {"mounts": [{"mountPath": "/x", "secret": {"secretName": name}} for name in "ab"]},
                "teams": [{"name": "a", "namespace": "x"}],
            },
            "two mounts at `/x`",
        ),
        (
            {
                "pods": {"env": [{"name": "A", "value": value} for value in "ab"]},
                "teams": [{"name": "a", "namespace": "x"}],
            },
            "the variable `A` twice",
        ),
        (
            {"pods": {"annotations": {"a": "x" * 8192}}, "teams": [{"name": "a", "namespace": "x"}]},
            "must have less than 8192",
        ),
        ({"placement": {"node-pools": [{"name": "a", "node-selector": {}}]}}, "/placement/node-pools/0/node-selector"),
        ({"placement": {"node-pools": [{"name": "a"}]}}, "node-selector"),
        (team_with_pools(pool("a"), pool("a")), "two node pools called `a`"),
        (team_with_pools(pool("a"), pool("b", {"zone": "b"})), "may share nodes"),
        (team_with_pools(pool("a", spot=True)), "no node pool for the schedulers of runs in `a`"),
        (
            team_with_pools(
                pool("a", {"pool": "a", "kubernetes.io/arch": "arm64"}, schedulers=False),
                pool("b", {"pool": "b", "kubernetes.io/arch": "amd64"}),
            ),
            "no node pool for the schedulers of runs in `a`",
        ),
        (team_with_pools(pool("a"), selector={"x": "y"}), "beside which `node-selector` and `tolerations` say nothing"),
        (team_with_pools(pool("a"), default="b"), "the default `node-pool` `b`, which is not in"),
        # Without these values, the policies would be off silently.
        ({"policies": None}, "missing property 'policies'"),
        ({"policies": {"enabled": None}}, "missing property 'enabled'"),
        (
            {"teams": [{"name": "a", "namespace": "x"}], "operator": {"namespaces": ["y"]}},
            "nothing would act on its runs",
        ),
    ],
)
def test_invalid_values_are_rejected(kind_env: dict[str, str], values: Manifest, message: str) -> None:
    command = ["helm", "template", "skjob", str(CHART), "--kube-version", "1.30.0", "--values", "-"]
    done = call(kind_env, *command, text=json.dumps(values), succeeds=False)
    assert done.returncode != 0
    assert message in done.stderr


def test_null_values_do_not_open_the_network_policy(kind_env: dict[str, str]) -> None:
    """Helm removes values that are null."""
    optional = ("defaults", "placement", "pods", "limits", "costs", "quota", "limitRange", "networkPolicy")
    values = {"teams": [{"name": "a", "namespace": "x"}], **dict.fromkeys(optional)}
    command = ["helm", "template", "skjob", str(CHART), "--kube-version", "1.30.0", "--values", "-"]
    done = call(kind_env, *command, text=json.dumps(values))
    [network] = [each for each in load_manifests(done.stdout) if each["kind"] == "NetworkPolicy"]
    assert "ingress" not in network["spec"]


def test_team_setting_replaces_the_shared_setting(kind_env: dict[str, str]) -> None:
    """It is not merged with the setting for all teams, and an empty setting removes that."""
    shared_placement = {
        "node-selector": {"pool": "batch", "zone": "a"},
        "tolerations": [{"key": "batch"}],
        "queue": "batch",
    }
    own: dict[str, Manifest] = {
        "same": {},
        "other": {"placement": {"node-selector": {"pool": "gpu"}}, "limits": {"max-workers": 2}},
        "none": {"placement": {"node-selector": {}, "tolerations": []}},
    }
    teams = [{"name": name, "namespace": name, **settings} for name, settings in own.items()]
    values = {"placement": shared_placement, "limits": {"max-workers": 9, "max-cpu": "4"}, "teams": teams}
    command = ["helm", "template", "skjob", str(CHART), "--kube-version", "1.30.0", "--values", "-"]
    rendered = load_manifests(call(kind_env, *command, text=json.dumps(values)).stdout)

    def settings_of(namespace: str) -> tuple[Manifest, Manifest]:
        """Return the team's settings for skjob, and for the cluster's policies."""
        manifests = [each for each in rendered if each["metadata"].get("namespace") == namespace]
        [defaults] = [each["data"] for each in manifests if each["metadata"]["name"] == "skjob-defaults"]
        [quota] = [each["metadata"]["annotations"] for each in manifests if each["kind"] == "ResourceQuota"]
        return defaults, quota

    defaults, quota = settings_of("same")
    assert yaml.safe_load(defaults["node-selector"]) == shared_placement["node-selector"]
    assert (quota["skjob/node-selector"], quota["skjob/tolerations"]) == ("pool=batch,zone=a", "batch:Equal:::")
    assert (defaults["limits.max-workers"], defaults["limits.max-cpu"], defaults["queue"]) == ("9", "4", "batch")

    defaults, quota = settings_of("other")
    assert yaml.safe_load(defaults["node-selector"]) == {"pool": "gpu"}
    assert (quota["skjob/node-selector"], quota["skjob/tolerations"]) == ("pool=gpu", "batch:Equal:::")
    assert (defaults["limits.max-workers"], defaults["limits.max-cpu"], defaults["queue"]) == ("2", "4", "batch")

    defaults, quota = settings_of("none")
    assert {"node-selector", "tolerations"} & set(defaults) == set()
    assert {"skjob/node-selector", "skjob/tolerations"} & set(quota) == set()
    assert defaults["queue"] == "batch"


def test_pod_settings_match_between_skjob_and_policies(kind_env: dict[str, str]) -> None:
    token = {"audience": "sts.example.org", "expirationSeconds": 7200}
    pods = {
        "labels": {"cost-centre": "42"},
        "annotations": {"example.org/a": "x, y=z", "example.org/b": "1"},
        "imagePullSecrets": ["registry", "other"],
        "env": [
            {"name": "PLAIN", "value": "x"},
            {"name": "HUB", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
            {"name": "REGION", "valueFrom": {"configMapKeyRef": {"name": "site", "key": "region"}}},
        ],
        "mounts": [
            {"mountPath": "/a", "persistentVolumeClaim": {"claimName": "data"}},
            {"mountPath": "/b", "persistentVolumeClaim": {"claimName": "data"}, "readOnly": False, "subPath": "b/c"},
            {"mountPath": "/c", "configMap": {"name": "site"}, "readOnly": True},
            {"mountPath": "/d", "secret": {"secretName": "hub"}},
            {"mountPath": "/e", "serviceAccountToken": token},
        ],
        "serviceAccountName": "trainer",
    }
    own: dict[str, Manifest] = {"same": {}, "other": {"pods": {"labels": {"a": "b"}, "env": []}}}
    teams = [{"name": name, "namespace": name, **settings} for name, settings in own.items()]
    command = ["helm", "template", "skjob", str(CHART), "--kube-version", "1.30.0", "--values", "-"]
    rendered = load_manifests(call(kind_env, *command, text=json.dumps({"pods": pods, "teams": teams})).stdout)
    expected = {
        "skjob/pods.labels": "cost-centre=42",
        "skjob/pods.annotations": "example.org/a=x, y=z\nexample.org/b=1",
        "skjob/pods.imagePullSecrets": "registry\nother",
        "skjob/pods.env": "HUB secretKeyRef hub token\nREGION configMapKeyRef site region",
        "skjob/pods.mounts": (
            "persistentVolumeClaim data . /a ro\npersistentVolumeClaim data b/c /b rw\nconfigMap site . /c ro\n"
            "secret hub . /d ro\nserviceAccountToken sts.example.org 7200 . /e ro"
        ),
        "skjob/pods.serviceAccountName": "trainer",
    }
    for namespace in own:
        manifests = [each for each in rendered if each["metadata"].get("namespace") == namespace]
        [defaults] = [each["data"] for each in manifests if each["metadata"]["name"] == "skjob-defaults"]
        [quota] = [each["metadata"]["annotations"] for each in manifests if each["kind"] == "ResourceQuota"]
        # A team's setting replaces the whole setting for all teams.
        settings = pods | own[namespace].get("pods", {})
        assert yaml.safe_load(defaults["pods"]) == settings
        assert parse_rules(defaults, "x").pods == parse_pods(json.dumps(settings))
        if namespace == "same":
            assert quota == expected
        else:
            assert quota == {name: text for name, text in expected.items() if name != "skjob/pods.env"} | {
                "skjob/pods.labels": "a=b"
            }


def test_node_pools_match_between_skjob_and_policies(kind_env: dict[str, str]) -> None:
    tolerations = [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}, {"key": "a", "value": "b"}]
    pools = [
        pool("batch", {"zone": "a", "pool": "batch"}),
        pool("gpu", tolerations=tolerations, limits={"max-workers": 2, "max-gpus": 4, "max-cpu": "500m"}, spot=True),
    ]
    command = ["helm", "template", "skjob", str(CHART), "--kube-version", "1.30.0", "--values", "-"]
    values = team_with_pools(*pools, default="gpu")
    rendered = load_manifests(call(kind_env, *command, text=json.dumps(values)).stdout)
    [quota] = [each["metadata"]["annotations"] for each in rendered if each["kind"] == "ResourceQuota"]
    assert quota == {
        "skjob/node-pools": (
            "batch pool=batch,zone=a - - schedulers\n"
            "gpu pool=gpu gpu:Exists::NoSchedule:,a:Equal:b:: max-cpu=500m,max-gpus=4,max-workers=2 -"
        )
    }
    # `helm test` requests a run in the default pool, with its scheduler in the pool that skjob would choose.
    [check] = [each for each in rendered if each["kind"] == "Pod" and each["metadata"]["name"] == "skjob-test-a"]
    *_, pods_argument, label = check["spec"]["containers"][0]["args"]
    assert label == "pool=gpu"
    assert json.loads(pods_argument)["pool"]["scheduler"] == {"pool": "batch", "zone": "a"}
    [defaults] = [each["data"] for each in rendered if each["kind"] == "ConfigMap" and each.get("data")]
    rules = parse_rules(defaults, "x")
    assert [each.name for each in rules.node_pools] == ["batch", "gpu"]
    gpu = rules.in_pool(defaults["node-pool"])
    assert (gpu.limits.workers, gpu.limits.gpus, gpu.limits.cpu) == (2, 4, 0.5)
    assert gpu.scheduling.tolerations == tuple(tolerations)
    assert gpu.support_scheduling.node_selector == {"zone": "a", "pool": "batch"}


def test_old_limit_names_are_accepted_and_reported(kind_env: dict[str, str]) -> None:
    """They mean the same as the new names; of both, the stricter applies. A default `max-time` stays a default."""
    own: dict[str, Manifest] = {
        "same": {},
        "other": {"limits": {"max-workers": 40, "most-cpu": "2"}},
        "both": {"limits": {"max-time": "10h", "most-time": "9h"}, "defaults": {"max-time": "1h"}},
    }
    teams = [{"name": name, "namespace": name, **settings} for name, settings in own.items()]
    values = {"limits": {"most-workers": 20, "max-cpu": "4", "most-time": "8h"}, "teams": teams}
    command = ["helm", "template", "skjob", str(CHART), "--kube-version", "1.30.0", "--values", "-"]
    rendered = load_manifests(call(kind_env, *command, text=json.dumps(values)).stdout)
    expected = {
        "same": {"max-workers": "20", "max-cpu": "4", "max-time": "8h"},
        "other": {"max-workers": "40", "max-cpu": "2", "max-time": "8h"},
        "both": {"max-workers": "20", "max-cpu": "4", "max-time": "10h", "most-time": "9h"},
    }
    for namespace, limits in expected.items():
        manifests = [each for each in rendered if each["metadata"].get("namespace") == namespace]
        [quota] = [each["metadata"]["annotations"] for each in manifests if each["kind"] == "ResourceQuota"]
        assert quota == {f"skjob/{name}": value for name, value in limits.items()}
        [defaults] = [each["data"] for each in manifests if each["metadata"]["name"] == "skjob-defaults"]
        assert {name: value for name, value in defaults.items() if name.startswith(("limits.", "most-"))} == {
            f"limits.{name}" if name.startswith("max-") else name: value for name, value in limits.items()
        }
        assert defaults.get("max-time") == ("1h" if namespace == "both" else None)
    notes = call(
        kind_env, "helm", "install", "skjob", str(CHART), "--dry-run=client", "--values", "-", text=json.dumps(values)
    ).stdout
    assert "`most-cpu` is now `max-cpu`, `most-time` is now `max-time`, `most-workers` is now `max-workers`" in notes


@pytest.mark.parametrize("served", ["all namespaces", "one namespace"])
def test_api_accepts_every_manifest(kind_env: dict[str, str], namespace: str, served: str) -> None:
    """Every value is set; the server applies the manifests in a dry run."""
    team = {
        "name": TEAM,
        "namespace": namespace,
        "subjects": [{"kind": "Group", "name": TEAM, "apiGroup": "rbac.authorization.k8s.io"}],
        "placement": {
            "node-selector": {"pool": "batch"},
            "tolerations": [{"key": "batch", "operator": "Exists"}],
            "priority-class": "batch",
            "queue": "batch",
        },
        "pods": {"labels": {"cost-centre": "42"}, "annotations": {"note": "a, b=c"}, "serviceAccountName": "trainer"},
        "limitRange": [{"type": "Container", "max": {"memory": "32Gi"}}],
        "networkPolicy": {"denyIngress": True},
    }
    operator = {
        "namespace": namespace,
        "namespaces": [namespace] if served == "one namespace" else [],
        "imagePullSecrets": ["registry"],
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "system", "operator": "Exists"}],
    }
    costs = {"nodes": [{"name": "large", "cpu": 8, "memory": "32Gi", "labels": {"pool": "batch"}}]}
    values = {"operator": operator, "defaults": DEFAULTS, "limits": LIMITS, "costs": costs, "teams": [team]}
    manifests = call(
        kind_env, "helm", "template", "test-dry", str(CHART), "--namespace", namespace, "--no-hooks", "--values", "-",
        text=json.dumps(values),
    ).stdout  # fmt: skip
    output = dry_run(kind_env, manifests)
    for kind in ("customresourcedefinition", "deployment", "validatingadmissionpolicy", "networkpolicy", "limitrange"):
        assert f"{kind}." in output or f"{kind}/" in output


def dry_run(environment: dict[str, str], manifests: str) -> str:
    # Some of the objects exist, and other field managers own their fields.
    apply = ["kubectl", "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--filename", "-"]
    return call(environment, *apply, text=manifests).stdout


# --- k8s/


def test_plain_manifests_match_the_chart(kind_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`make manifests` updates them."""
    monkeypatch.setenv("PATH", search_path())
    assert {path: path.read_text() for path in render.manifests()} == render.manifests()


@pytest.mark.parametrize(
    ("overlay", "others"), [("team-example", ["base"]), ("kind", [])], ids=["team-example", "kind"]
)
def test_overlay_matches_the_chart(
    kind_env: dict[str, str], namespace: str, overlay: str, others: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", search_path())
    folder = render.K8S / "overlays" / overlay
    folders = [*(render.K8S / other for other in others), folder]
    built = "---\n".join(call(kind_env, "kubectl", "kustomize", str(each)).stdout for each in folders)
    built_objects = by_kind_and_name(load_manifests(built))
    definitions = {key for key in built_objects if key[0] == "CustomResourceDefinition"}
    assert len(definitions) == 4
    expected = by_kind_and_name([yaml.safe_load(text) for text in render.template(folder / "values.yaml")])
    assert {key: value for key, value in built_objects.items() if key not in definitions} == expected

    # The example's namespace does not exist.
    dry_run(kind_env, built.replace("namespace: data-science", f"namespace: {namespace}"))


def load_manifests(manifests: str) -> list[Manifest]:
    """Parse manifests, with the loader in C: for the megabyte of CRDs, the one in Python takes ten seconds."""
    return [each for each in yaml.load_all(manifests, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if each]


def by_kind_and_name(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    return {(each["kind"], each["metadata"]["name"]): each for each in manifests}


# --- a release


@pytest.fixture(scope="module")
def release(shared_env: dict[str, str], kind_api: client.ApiClient) -> Iterator[Release]:
    """A release that no test may change."""
    with installed(shared_env, kind_api, placement=PLACEMENT) as release:
        yield release


def test_helm_test_passes(release: Release, kind_api: client.ApiClient) -> None:
    done = release.helm("test", release.name, "--logs")
    checks = [line for line in done.stdout.splitlines() if line.startswith(("ok: ", "not so: "))]
    assert len(checks) >= 10
    assert not [line for line in checks if not line.startswith("ok: ")]
    assert "ok: the operator acts" in checks
    assert "ok: 4 workers are refused" in checks
    assert "ok: pods on any node are refused" in checks
    # The permissions of the test are removed with it.
    by_name = f"metadata.name={release.name}-test-{TEAM}"
    core, rbac = client.CoreV1Api(kind_api), client.RbacAuthorizationV1Api(kind_api)
    assert core.list_namespaced_pod(HOME, field_selector=by_name).items  # kept for its log
    assert not core.list_namespaced_service_account(HOME, field_selector=by_name).items
    assert not rbac.list_namespaced_role_binding(release.namespace, field_selector=by_name).items


def test_helm_test_reports_failures(release: Release, kind_api: client.ApiClient) -> None:
    core = client.CoreV1Api(kind_api)

    def set_team(team: str) -> None:
        core.patch_namespaced_config_map("skjob-defaults", release.namespace, {"data": {"team": team}})

    set_team("others")
    try:
        done = release.helm("test", release.name, "--logs", succeeds=False)
    finally:
        set_team(TEAM)
    assert done.returncode != 0
    assert "not so: users can read the team's defaults" in done.stdout


def test_notes_show_next_steps(release: Release) -> None:
    notes = release.helm("get", "notes", release.name).stdout
    assert f"helm test {release.name} --namespace default" in notes
    assert f"skjob run --namespace {release.namespace} train.py" in notes


def test_doctor_passes_for_a_user(
    release: Release,
    kind_env: dict[str, str],
    kind_api: client.ApiClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    user = user_environment(kind_api, kind_env, release.namespace, tmp_path, may_run=False, name=USER)
    done = run_command(["doctor", "--namespace", release.namespace], user, monkeypatch, capsys)
    assert done.returncode == 0, done.stdout
    assert "operator     answers" in done.stdout
    assert "the same versions as here" in done.stdout


# --- a release during a user's run


@dataclass(frozen=True)
class UpgradedRun:
    """A user's run from start to end, with the changes to its release in the meantime."""

    pods: list[client.V1Pod]
    running: list[dict[str, tuple[str, int]]]
    """Scheduler and workers before and after the upgrade, and after the refused uninstallation."""
    quota: dict[str, str]
    """The ResourceQuota's annotations after the upgrade to lower limits."""
    refused: Result
    refusal: str
    ended: Result
    costs: dict[str, str]
    """The ConfigMap of costs after the uninstallation; the entry `earlier` was written before the upgrade."""
    policies: list[str]
    bindings: list[client.V1RoleBinding]


@pytest.fixture(scope="module")
def upgraded_run(
    shared_env: dict[str, str], kind_api: client.ApiClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[UpgradedRun]:
    """Upgrade a release during a run, fail to uninstall it during the run, and uninstall it afterwards."""
    core, batch = client.CoreV1Api(kind_api), client.BatchV1Api(kind_api)
    with installed(shared_env, kind_api, placement=PLACEMENT, limits=LONG) as release:
        namespace = release.namespace
        runs = runs_of(release, shared_env, kind_api, tmp_path_factory.mktemp("run"))
        core.patch_namespaced_config_map("skjob-costs", namespace, {"data": {"earlier": "1.25"}})
        with runs.searching("--grace", f"{GRACE}s", script=ONGOING) as process:
            until(lambda: len(running_pods(kind_api, namespace)) == 3)
            pods_of_run = core.list_namespaced_pod(namespace).items
            running = [running_pods(kind_api, namespace)]

            release.upgrade(placement=PLACEMENT, limits=LOWER)
            quota = core.read_namespaced_resource_quota("skjob", namespace).metadata.annotations
            last_deadline = deadline(kind_api, namespace)
            running.append(running_pods(kind_api, namespace))

            refused = release.helm("uninstall", release.name, succeeds=False)
            refusal = core.read_namespaced_pod_log(f"{release.name}-uninstall", HOME)
            running.append(running_pods(kind_api, namespace))

            # The deadline is extended twice, so that one heartbeat started after the limits were lowered.
            for _ in range(2):
                until(lambda last=last_deadline: deadline(kind_api, namespace) > last)
                last_deadline = deadline(kind_api, namespace)
            (runs.folder / "stop").touch()
            stdout, stderr = process.communicate(timeout=DEADLINE)
        ended = Result(process.args, process.returncode, stdout, stderr)
        until(lambda: not cluster_names(kind_api, namespace) and not batch.list_namespaced_job(namespace).items)

        release.helm("uninstall", release.name)
        policies = client.AdmissionregistrationV1Api(kind_api).list_validating_admission_policy().items
        yield UpgradedRun(
            pods_of_run, running, quota, refused, refusal, ended,
            costs=core.read_namespaced_config_map("skjob-costs", namespace).data,
            policies=[each.metadata.name for each in policies if each.metadata.name.startswith(release.name)],
            bindings=client.RbacAuthorizationV1Api(kind_api).list_namespaced_role_binding(namespace).items,
        )  # fmt: skip


def test_run_has_the_settings_of_the_chart(upgraded_run: UpgradedRun) -> None:
    assert upgraded_run.ended.returncode == 0, upgraded_run.ended.stderr
    assert upgraded_run.ended.stdout.startswith("rounds ")
    assert "forbidden" not in upgraded_run.ended.stderr
    assert len(upgraded_run.pods) == 3
    for pod in upgraded_run.pods:
        assert pod.metadata.labels.get("skjob/team") == TEAM
        assert pod.spec.node_selector == SELECTOR
        assert "batch" in {each.key for each in pod.spec.tolerations}


def test_upgrade_to_lower_limits_does_not_affect_running_clusters(upgraded_run: UpgradedRun) -> None:
    before, after, _ = upgraded_run.running
    assert upgraded_run.quota["skjob/max-workers"] == "1"
    assert after == before
    assert upgraded_run.ended.returncode == 0, upgraded_run.ended.stderr
    assert "cannot be kept alive" not in upgraded_run.ended.stderr
    assert upgraded_run.costs["earlier"] == "1.25"


def test_uninstall_is_refused_during_a_run(upgraded_run: UpgradedRun) -> None:
    """The run needs the permissions that it would remove."""
    before, _, after = upgraded_run.running
    assert upgraded_run.refused.returncode != 0
    assert re.search(r"namespace \S+: \S+ is not over", upgraded_run.refusal)
    assert after == before
    assert upgraded_run.ended.returncode == 0, upgraded_run.ended.stderr


def test_uninstall_removes_everything_except_costs(upgraded_run: UpgradedRun) -> None:
    assert upgraded_run.policies == []
    assert upgraded_run.bindings == []
    assert upgraded_run.costs["earlier"] == "1.25"


def test_uninstall_without_hooks_removes_nothing_of_a_run(
    kind_env: dict[str, str], kind_api: client.ApiClient, tmp_path: Path
) -> None:
    """The user can no longer extend the deadline, at which the run and all of its objects are removed."""
    with installed(kind_env, kind_api) as release:
        namespace = release.namespace
        with runs_of(release, kind_env, kind_api, tmp_path).searching(script=ONGOING):
            until(lambda: len(running_pods(kind_api, namespace)) == 3)
            before = running_pods(kind_api, namespace)
            release.helm("uninstall", release.name, "--no-hooks")
            user = f"system:serviceaccount:{namespace}:{USER}"
            until(
                lambda: (
                    not is_allowed(kind_api, user, verb="patch", group="batch", resource="jobs", namespace=namespace)
                )
            )
            wait_for_the_garbage_collector(kind_api, namespace)
            assert running_pods(kind_api, namespace) == before
            [run] = cluster_names(kind_api, namespace)
            client.BatchV1Api(kind_api).patch_namespaced_job(run, namespace, {"spec": {"activeDeadlineSeconds": 1}})
            until(lambda: not cluster_names(kind_api, namespace) and not running_pods(kind_api, namespace))


def wait_for_the_garbage_collector(kind_api: client.ApiClient, namespace: str) -> None:
    """Wait until it has deleted a new object whose owner does not exist: by then it has seen all earlier ones."""
    core = client.CoreV1Api(kind_api)
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "nobody", "uid": str(uuid.uuid4())}
    orphan = {"metadata": {"name": "orphan", "ownerReferences": [owner]}}
    core.create_namespaced_config_map(namespace, orphan)
    until(lambda: "orphan" not in {each.metadata.name for each in core.list_namespaced_config_map(namespace).items})


@pytest.mark.whole_cluster
def test_release_with_its_own_operator(
    kind_env: dict[str, str], kind_api: client.ApiClient, kind_cluster: Any, tmp_path: Path
) -> None:
    """It serves only the team's namespace, with permissions only there. Uninstalling it leaves the CRDs."""
    release = Release(kind_env)
    operator_namespace = f"{release.namespace}-operator"
    operator = {"image": kind_cluster.image, "namespace": operator_namespace, "namespaces": [release.namespace]}
    crds = {"enabled": True}
    with installed(kind_env, kind_api, release, operator=operator, crds=crds), no_operator(kind_api):
        runs = runs_of(release, kind_env, kind_api, tmp_path)
        done = runs.run(
            "from joblib import Parallel, delayed; print(sum(Parallel()(delayed(abs)(-n) for n in range(9))))"
        )
        assert (done.returncode, done.stdout) == (0, "36\n"), done.stderr
        assert "ok: the operator acts" in release.helm("test", release.name, "--logs").stdout
        core = client.CoreV1Api(kind_api)
        [pod] = core.list_namespaced_pod(operator_namespace).items
        log = core.read_namespaced_pod_log(pod.metadata.name, operator_namespace)
        until(lambda: not client.BatchV1Api(kind_api).list_namespaced_job(release.namespace).items)
        # Checked before the release is removed, with the operator's permissions.
        assert denied_requests(kind_api, log) == []
    assert operator_namespace not in {
        each.metadata.name for each in core.list_namespace().items if each.status.phase == "Active"
    }
    definitions = client.ApiextensionsV1Api(kind_api).list_custom_resource_definition().items
    ours = [each for each in definitions if each.spec.group == "kubernetes.dask.org"]
    assert len(ours) == 4
    for definition in ours:
        assert definition.metadata.annotations["meta.helm.sh/release-name"] == release.name
        assert definition.metadata.deletion_timestamp is None
