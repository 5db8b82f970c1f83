"""The chart on a real Kubernetes: installed, tested, upgraded and uninstalled, with a user's runs in between.

The cluster's own operator serves these releases too, but for one that brings its own: for that moment the cluster's is
taken away, so that no two act on one thing. What the limits refuse is in `test_policies.py`.
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

# Until it is told that it is enough.
ONGOING = """
    import time
    from pathlib import Path
    from joblib import Parallel, delayed
    print("searching", flush=True)
    rounds = 0
    while not Path("enough").exists():
        Parallel()(delayed(time.sleep)(0.2) for _ in range(4))
        rounds += 1
    print("rounds", rounds)
"""
SELECTOR = {"kubernetes.io/os": "linux"}
"""Where all pods may be."""

PLACEMENT = {"node-selector": SELECTOR, "tolerations": [{"key": "batch", "operator": "Exists"}]}
GRACE = 60
LONG = LIMITS | {"max-time": "30m"}
LOWER = {"max-workers": 1, "max-cpu": "50m", "max-memory": "256Mi", "max-time": "15m"}


def runs_of(release: Release, kind_env: dict[str, str], kind_api: client.ApiClient, folder: Path) -> Runs:
    """Runs of somebody of the team, who has what the chart gives and nothing else."""
    user = user_environment(kind_api, kind_env, release.namespace, folder, may_run=False, name=USER)
    return Runs(folder, user, release.namespace)


def pods(kind_api: client.ApiClient, namespace: str) -> dict[str, tuple[str, int]]:
    """Scheduler and workers that run: their uids, and how often they were started again."""
    found = client.CoreV1Api(kind_api).list_namespaced_pod(namespace, label_selector="dask.org/cluster-name").items
    return {
        pod.metadata.name: (pod.metadata.uid, sum(each.restart_count for each in pod.status.container_statuses))
        for pod in found
        if pod.status.phase == "Running" and pod.metadata.deletion_timestamp is None
    }


def names(kind_api: client.ApiClient, namespace: str) -> list[str]:
    """Of the clusters that there are."""
    found = client.CustomObjectsApi(kind_api).list_namespaced_custom_object(
        "kubernetes.dask.org", "v1", namespace, "daskclusters"
    )
    return [each["metadata"]["name"] for each in found["items"]]


def deadline(kind_api: client.ApiClient, namespace: str) -> int:
    """That of the only run."""
    [job] = client.BatchV1Api(kind_api).list_namespaced_job(namespace).items
    return int(job.spec.active_deadline_seconds)


# --- without a release


def pool(name: str, selector: Manifest | None = None, **more: Any) -> Manifest:
    return {"name": name, "node-selector": selector or {"pool": name}, **more}


def team_with_pools(*pools: Manifest, selector: Manifest | None = None, default: str = "") -> Manifest:
    """Values with a team that has these node pools, and maybe a selector and a default beside them."""
    placement = {"node-pools": [*pools]} | ({"node-selector": selector} if selector else {})
    defaults = {"node-pool": default} if default else {}
    return {"teams": [{"name": "a", "namespace": "x", "placement": placement, "defaults": defaults}]}


def test_the_chart_is_well_formed(kind_env: dict[str, str]) -> None:
    call(kind_env, "helm", "lint", "--strict", str(CHART))
    call(kind_env, "helm", "lint", "--strict", str(CHART), "--values", str(render.EXAMPLE / "values.yaml"))


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"limits": {"max-worker": 3}}, "max-worker"),
        ({"limits": {"max-time": "1d"}}, "/limits/max-time"),
        ({"limits": {"max-cpu": "many"}}, "/limits/max-cpu"),
        # With these, every run of the team would be refused.
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
        # What is not there would be off, and nobody told.
        ({"policies": None}, "missing property 'policies'"),
        ({"policies": {"enabled": None}}, "missing property 'enabled'"),
        (
            {"teams": [{"name": "a", "namespace": "x"}], "operator": {"namespaces": ["y"]}},
            "nothing would act on its runs",
        ),
    ],
)
def test_a_wrong_value_is_told(kind_env: dict[str, str], values: Manifest, complaint: str) -> None:
    command = ["helm", "template", "skjob", str(CHART), "--kube-version", "1.30.0", "--values", "-"]
    done = call(kind_env, *command, text=json.dumps(values), succeeds=False)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_values_that_are_taken_away_let_nobody_in(kind_env: dict[str, str]) -> None:
    """Helm leaves out what is null."""
    optional = ("defaults", "placement", "pods", "limits", "costs", "quota", "limitRange", "networkPolicy")
    values = {"teams": [{"name": "a", "namespace": "x"}], **dict.fromkeys(optional)}
    command = ["helm", "template", "skjob", str(CHART), "--kube-version", "1.30.0", "--values", "-"]
    done = call(kind_env, *command, text=json.dumps(values))
    [network] = [each for each in loaded(done.stdout) if each["kind"] == "NetworkPolicy"]
    assert "ingress" not in network["spec"]


def test_a_team_has_each_setting_of_its_own_whole(kind_env: dict[str, str]) -> None:
    """Nothing of a setting for all is mixed into it; an empty one is none."""
    everybodys = {"node-selector": {"pool": "batch", "zone": "a"}, "tolerations": [{"key": "batch"}], "queue": "batch"}
    own: dict[str, Manifest] = {
        "same": {},
        "other": {"placement": {"node-selector": {"pool": "gpu"}}, "limits": {"max-workers": 2}},
        "none": {"placement": {"node-selector": {}, "tolerations": []}},
    }
    teams = [{"name": name, "namespace": name, **settings} for name, settings in own.items()]
    values = {"placement": everybodys, "limits": {"max-workers": 9, "max-cpu": "4"}, "teams": teams}
    command = ["helm", "template", "skjob", str(CHART), "--kube-version", "1.30.0", "--values", "-"]
    made = loaded(call(kind_env, *command, text=json.dumps(values)).stdout)

    def told(namespace: str) -> tuple[Manifest, Manifest]:
        """To skjob, and to the cluster."""
        its = [each for each in made if each["metadata"].get("namespace") == namespace]
        [defaults] = [each["data"] for each in its if each["metadata"]["name"] == "skjob-defaults"]
        [quota] = [each["metadata"]["annotations"] for each in its if each["kind"] == "ResourceQuota"]
        return defaults, quota

    defaults, quota = told("same")
    assert yaml.safe_load(defaults["node-selector"]) == everybodys["node-selector"]
    assert (quota["skjob/node-selector"], quota["skjob/tolerations"]) == ("pool=batch,zone=a", "batch:Equal:::")
    assert (defaults["limits.max-workers"], defaults["limits.max-cpu"], defaults["queue"]) == ("9", "4", "batch")

    defaults, quota = told("other")
    assert yaml.safe_load(defaults["node-selector"]) == {"pool": "gpu"}
    assert (quota["skjob/node-selector"], quota["skjob/tolerations"]) == ("pool=gpu", "batch:Equal:::")
    assert (defaults["limits.max-workers"], defaults["limits.max-cpu"], defaults["queue"]) == ("2", "4", "batch")

    defaults, quota = told("none")
    assert {"node-selector", "tolerations"} & set(defaults) == set()
    assert {"skjob/node-selector", "skjob/tolerations"} & set(quota) == set()
    assert defaults["queue"] == "batch"


def test_what_pods_have_is_the_same_for_skjob_and_the_policies(kind_env: dict[str, str]) -> None:
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
    made = loaded(call(kind_env, *command, text=json.dumps({"pods": pods, "teams": teams})).stdout)
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
        its = [each for each in made if each["metadata"].get("namespace") == namespace]
        [defaults] = [each["data"] for each in its if each["metadata"]["name"] == "skjob-defaults"]
        [quota] = [each["metadata"]["annotations"] for each in its if each["kind"] == "ResourceQuota"]
        # A setting of a team's own replaces that of all, whole.
        settings = pods | own[namespace].get("pods", {})
        assert yaml.safe_load(defaults["pods"]) == settings
        assert parse_rules(defaults, "x").pods == parse_pods(json.dumps(settings))
        if namespace == "same":
            assert quota == expected
        else:
            assert quota == {name: text for name, text in expected.items() if name != "skjob/pods.env"} | {
                "skjob/pods.labels": "a=b"
            }


def test_node_pools_are_the_same_for_skjob_and_the_policies(kind_env: dict[str, str]) -> None:
    tolerations = [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}, {"key": "a", "value": "b"}]
    pools = [
        pool("batch", {"zone": "a", "pool": "batch"}),
        pool("gpu", tolerations=tolerations, limits={"max-workers": 2, "max-gpus": 4, "max-cpu": "500m"}, spot=True),
    ]
    command = ["helm", "template", "skjob", str(CHART), "--kube-version", "1.30.0", "--values", "-"]
    values = team_with_pools(*pools, default="gpu")
    made = loaded(call(kind_env, *command, text=json.dumps(values)).stdout)
    [quota] = [each["metadata"]["annotations"] for each in made if each["kind"] == "ResourceQuota"]
    assert quota == {
        "skjob/node-pools": (
            "batch pool=batch,zone=a - - schedulers\n"
            "gpu pool=gpu gpu:Exists::NoSchedule:,a:Equal:b:: max-cpu=500m,max-gpus=4,max-workers=2 -"
        )
    }
    # `helm test` asks for a run in the default pool with its scheduler where skjob would have it.
    [check] = [each for each in made if each["kind"] == "Pod" and each["metadata"]["name"] == "skjob-test-a"]
    *_, of_pods, label = check["spec"]["containers"][0]["args"]
    assert label == "pool=gpu"
    assert json.loads(of_pods)["pool"]["scheduler"] == {"pool": "batch", "zone": "a"}
    [defaults] = [each["data"] for each in made if each["kind"] == "ConfigMap" and each.get("data")]
    rules = parse_rules(defaults, "x")
    assert [each.name for each in rules.node_pools] == ["batch", "gpu"]
    gpu = rules.in_pool(defaults["node-pool"])
    assert (gpu.limits.workers, gpu.limits.gpus, gpu.limits.cpu) == (2, 4, 0.5)
    assert gpu.scheduling.tolerations == tuple(tolerations)
    assert gpu.support_scheduling.node_selector == {"zone": "a", "pool": "batch"}


def test_old_names_of_limits_are_taken_and_reported(kind_env: dict[str, str]) -> None:
    """As their new names; of both, the strictest counts. A default `max-time` stays a default."""
    own: dict[str, Manifest] = {
        "same": {},
        "other": {"limits": {"max-workers": 40, "most-cpu": "2"}},
        "both": {"limits": {"max-time": "10h", "most-time": "9h"}, "defaults": {"max-time": "1h"}},
    }
    teams = [{"name": name, "namespace": name, **settings} for name, settings in own.items()]
    values = {"limits": {"most-workers": 20, "max-cpu": "4", "most-time": "8h"}, "teams": teams}
    command = ["helm", "template", "skjob", str(CHART), "--kube-version", "1.30.0", "--values", "-"]
    made = loaded(call(kind_env, *command, text=json.dumps(values)).stdout)
    expected = {
        "same": {"max-workers": "20", "max-cpu": "4", "max-time": "8h"},
        "other": {"max-workers": "40", "max-cpu": "2", "max-time": "8h"},
        "both": {"max-workers": "20", "max-cpu": "4", "max-time": "10h", "most-time": "9h"},
    }
    for namespace, limits in expected.items():
        its = [each for each in made if each["metadata"].get("namespace") == namespace]
        [quota] = [each["metadata"]["annotations"] for each in its if each["kind"] == "ResourceQuota"]
        assert quota == {f"skjob/{name}": value for name, value in limits.items()}
        [defaults] = [each["data"] for each in its if each["metadata"]["name"] == "skjob-defaults"]
        assert {name: value for name, value in defaults.items() if name.startswith(("limits.", "most-"))} == {
            f"limits.{name}" if name.startswith("max-") else name: value for name, value in limits.items()
        }
        assert defaults.get("max-time") == ("1h" if namespace == "both" else None)
    notes = call(
        kind_env, "helm", "install", "skjob", str(CHART), "--dry-run=client", "--values", "-", text=json.dumps(values)
    ).stdout
    assert "`most-cpu` is now `max-cpu`, `most-time` is now `max-time`, `most-workers` is now `max-workers`" in notes


@pytest.mark.parametrize("served", ["all namespaces", "one namespace"])
def test_the_api_takes_every_manifest(kind_env: dict[str, str], namespace: str, served: str) -> None:
    """With all that there is to set, in a dry run on the server."""
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
    rendered = call(
        kind_env, "helm", "template", "test-dry", str(CHART), "--namespace", namespace, "--no-hooks", "--values", "-",
        text=json.dumps(values),
    ).stdout  # fmt: skip
    done = dry_run(kind_env, rendered)
    for kind in ("customresourcedefinition", "deployment", "validatingadmissionpolicy", "networkpolicy", "limitrange"):
        assert f"{kind}." in done or f"{kind}/" in done


def dry_run(environment: dict[str, str], manifests: str) -> str:
    # The cluster has some of it already, applied by others.
    apply = ["kubectl", "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--filename", "-"]
    return call(environment, *apply, text=manifests).stdout


# --- k8s/


def test_the_plain_manifests_are_those_of_the_chart(kind_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`make manifests` brings them up to date."""
    monkeypatch.setenv("PATH", search_path())
    assert {path: path.read_text() for path in render.manifests()} == render.manifests()


@pytest.mark.parametrize(
    ("overlay", "others"), [("team-example", ["base"]), ("kind", [])], ids=["team-example", "kind"]
)
def test_an_overlay_is_what_the_chart_makes_of_its_values(
    kind_env: dict[str, str], namespace: str, overlay: str, others: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", search_path())
    folder = render.K8S / "overlays" / overlay
    folders = [*(render.K8S / other for other in others), folder]
    built = "---\n".join(call(kind_env, "kubectl", "kustomize", str(each)).stdout for each in folders)
    found = keyed(loaded(built))
    definitions = {key for key in found if key[0] == "CustomResourceDefinition"}
    assert len(definitions) == 4
    wanted = keyed([yaml.safe_load(text) for text in render.template(folder / "values.yaml")])
    assert {key: value for key, value in found.items() if key not in definitions} == wanted

    # The namespace of the example is not there.
    dry_run(kind_env, built.replace("namespace: data-science", f"namespace: {namespace}"))


def loaded(manifests: str) -> list[Manifest]:
    """Each of them. The definitions are a megabyte, for which the loader in pure Python takes ten seconds."""
    return [each for each in yaml.load_all(manifests, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if each]


def keyed(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    return {(each["kind"], each["metadata"]["name"]): each for each in manifests}


# --- a release


@pytest.fixture(scope="module")
def release(shared_env: dict[str, str], kind_api: client.ApiClient) -> Iterator[Release]:
    """One that every test leaves as it was."""
    with installed(shared_env, kind_api, placement=PLACEMENT) as found:
        yield found


def test_a_release_tests_itself(release: Release, kind_api: client.ApiClient) -> None:
    done = release.helm("test", release.name, "--logs")
    told = [line for line in done.stdout.splitlines() if line.startswith(("ok: ", "not so: "))]
    assert len(told) >= 10
    assert not [line for line in told if not line.startswith("ok: ")]
    assert "ok: the operator acts" in told
    assert "ok: 4 workers are refused" in told
    assert "ok: pods on any node are refused" in told
    # Nobody keeps the rights that the test was given.
    given = f"metadata.name={release.name}-test-{TEAM}"
    core, rbac = client.CoreV1Api(kind_api), client.RbacAuthorizationV1Api(kind_api)
    assert core.list_namespaced_pod(HOME, field_selector=given).items  # it stays, for its log
    assert not core.list_namespaced_service_account(HOME, field_selector=given).items
    assert not rbac.list_namespaced_role_binding(release.namespace, field_selector=given).items


def test_what_a_release_finds_wrong_is_told(release: Release, kind_api: client.ApiClient) -> None:
    core = client.CoreV1Api(kind_api)

    def say(team: str) -> None:
        core.patch_namespaced_config_map("skjob-defaults", release.namespace, {"data": {"team": team}})

    say("others")
    try:
        done = release.helm("test", release.name, "--logs", succeeds=False)
    finally:
        say(TEAM)
    assert done.returncode != 0
    assert "not so: users can read the team's defaults" in done.stdout


def test_what_is_next_is_told(release: Release) -> None:
    notes = release.helm("get", "notes", release.name).stdout
    assert f"helm test {release.name} --namespace default" in notes
    assert f"skjob run --namespace {release.namespace} train.py" in notes


def test_a_user_is_told_by_doctor_that_all_is_there(
    release: Release,
    kind_env: dict[str, str],
    kind_api: client.ApiClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    user = user_environment(kind_api, kind_env, release.namespace, tmp_path, may_run=False, name=USER)
    found = run_command(["doctor", "--namespace", release.namespace], user, monkeypatch, capsys)
    assert found.returncode == 0, found.stdout
    assert "operator     answers" in found.stdout
    assert "the same versions as here" in found.stdout


# --- a release, while a user's run is on


@dataclass(frozen=True)
class Seen:
    """A user's run from start to end, and what was done to its release meanwhile."""

    pods: list[client.V1Pod]
    running: list[dict[str, tuple[str, int]]]
    """Scheduler and workers: at first, after the upgrade, and after the refused uninstallation."""
    quota: dict[str, str]
    """What the upgrade to lower limits made of it."""
    refused: Result
    refusal: str
    ended: Result
    costs: dict[str, str]
    """What was written down of them before the upgrade and what is there after the uninstallation."""
    policies: list[str]
    bindings: list[client.V1RoleBinding]


@pytest.fixture(scope="module")
def seen(
    shared_env: dict[str, str], kind_api: client.ApiClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Seen]:
    """One run, under a release that is upgraded, cannot be uninstalled while it is on, and is uninstalled after it."""
    core, batch = client.CoreV1Api(kind_api), client.BatchV1Api(kind_api)
    with installed(shared_env, kind_api, placement=PLACEMENT, limits=LONG) as release:
        space = release.namespace
        runs = runs_of(release, shared_env, kind_api, tmp_path_factory.mktemp("run"))
        core.patch_namespaced_config_map("skjob-costs", space, {"data": {"earlier": "1.25"}})
        with runs.searching("--grace", f"{GRACE}s", script=ONGOING) as process:
            until(lambda: len(pods(kind_api, space)) == 3)
            made = core.list_namespaced_pod(space).items
            running = [pods(kind_api, space)]

            release.upgrade(placement=PLACEMENT, limits=LOWER)
            quota = core.read_namespaced_resource_quota("skjob", space).metadata.annotations
            known = deadline(kind_api, space)
            running.append(pods(kind_api, space))

            refused = release.helm("uninstall", release.name, succeeds=False)
            refusal = core.read_namespaced_pod_log(f"{release.name}-uninstall", HOME)
            running.append(pods(kind_api, space))

            # It goes on living: twice, so that one heartbeat began when the limits were lower.
            for _ in range(2):
                until(lambda known=known: deadline(kind_api, space) > known)
                known = deadline(kind_api, space)
            (runs.folder / "enough").touch()
            written, told = process.communicate(timeout=DEADLINE)
        ended = Result(process.args, process.returncode, written, told)
        until(lambda: not names(kind_api, space) and not batch.list_namespaced_job(space).items)

        release.helm("uninstall", release.name)
        policies = client.AdmissionregistrationV1Api(kind_api).list_validating_admission_policy().items
        yield Seen(
            made, running, quota, refused, refusal, ended,
            costs=core.read_namespaced_config_map("skjob-costs", space).data,
            policies=[each.metadata.name for each in policies if each.metadata.name.startswith(release.name)],
            bindings=client.RbacAuthorizationV1Api(kind_api).list_namespaced_role_binding(space).items,
        )  # fmt: skip


def test_a_user_runs_with_what_the_chart_gives(seen: Seen) -> None:
    assert seen.ended.returncode == 0, seen.ended.stderr
    assert seen.ended.stdout.startswith("rounds ")
    assert "forbidden" not in seen.ended.stderr
    assert len(seen.pods) == 3
    for pod in seen.pods:
        assert pod.metadata.labels.get("skjob/team") == TEAM
        assert pod.spec.node_selector == SELECTOR
        assert "batch" in {each.key for each in pod.spec.tolerations}


def test_an_upgrade_to_lower_limits_leaves_what_runs_alone(seen: Seen) -> None:
    before, after, _ = seen.running
    assert seen.quota["skjob/max-workers"] == "1"
    assert after == before
    assert seen.ended.returncode == 0, seen.ended.stderr
    assert "cannot be kept alive" not in seen.ended.stderr
    assert seen.costs["earlier"] == "1.25"


def test_there_is_no_uninstallation_while_something_runs(seen: Seen) -> None:
    """It would take the rights away that the run needs."""
    before, _, after = seen.running
    assert seen.refused.returncode != 0
    assert re.search(r"namespace \S+: \S+ is not over", seen.refusal)
    assert after == before
    assert seen.ended.returncode == 0, seen.ended.stderr


def test_an_uninstallation_removes_all_but_what_was_spent(seen: Seen) -> None:
    assert seen.policies == []
    assert seen.bindings == []
    assert seen.costs["earlier"] == "1.25"


def test_an_uninstallation_that_does_not_ask_removes_nothing_of_a_run(
    kind_env: dict[str, str], kind_api: client.ApiClient, tmp_path: Path
) -> None:
    """The user cannot prolong its life any more: it ends when its deadline has come, and all of it."""
    with installed(kind_env, kind_api) as release:
        space = release.namespace
        with runs_of(release, kind_env, kind_api, tmp_path).searching(script=ONGOING):
            until(lambda: len(pods(kind_api, space)) == 3)
            before = pods(kind_api, space)
            release.helm("uninstall", release.name, "--no-hooks")
            user = f"system:serviceaccount:{space}:{USER}"
            until(lambda: not is_allowed(kind_api, user, verb="patch", group="batch", resource="jobs", namespace=space))
            wait_for_the_garbage_collector(kind_api, space)
            assert pods(kind_api, space) == before
            [run] = names(kind_api, space)
            client.BatchV1Api(kind_api).patch_namespaced_job(run, space, {"spec": {"activeDeadlineSeconds": 1}})
            until(lambda: not names(kind_api, space) and not pods(kind_api, space))


def wait_for_the_garbage_collector(kind_api: client.ApiClient, namespace: str) -> None:
    """Until it has taken what is made here without an owner: what it would take of the rest, is gone by then."""
    core = client.CoreV1Api(kind_api)
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "nobody", "uid": str(uuid.uuid4())}
    orphan = {"metadata": {"name": "orphan", "ownerReferences": [owner]}}
    core.create_namespaced_config_map(namespace, orphan)
    until(lambda: "orphan" not in {each.metadata.name for each in core.list_namespaced_config_map(namespace).items})


@pytest.mark.whole_cluster
def test_a_release_with_an_operator_of_its_own(
    kind_env: dict[str, str], kind_api: client.ApiClient, kind_cluster: Any, tmp_path: Path
) -> None:
    """It serves the team's namespace, with rights in that alone. The custom resources come with it, and stay."""
    release = Release(kind_env)
    home = f"{release.namespace}-operator"
    operator = {"image": kind_cluster.image, "namespace": home, "namespaces": [release.namespace]}
    crds = {"enabled": True}
    with installed(kind_env, kind_api, release, operator=operator, crds=crds), no_operator(kind_api):
        runs = runs_of(release, kind_env, kind_api, tmp_path)
        done = runs.run(
            "from joblib import Parallel, delayed; print(sum(Parallel()(delayed(abs)(-n) for n in range(9))))"
        )
        assert (done.returncode, done.stdout) == (0, "36\n"), done.stderr
        assert "ok: the operator acts" in release.helm("test", release.name, "--logs").stdout
        core = client.CoreV1Api(kind_api)
        [pod] = core.list_namespaced_pod(home).items
        log = core.read_namespaced_pod_log(pod.metadata.name, home)
        until(lambda: not client.BatchV1Api(kind_api).list_namespaced_job(release.namespace).items)
        # The operator asks for permissions that exist, and these are removed with the release.
        assert denied_requests(kind_api, log) == []
    assert home not in {each.metadata.name for each in core.list_namespace().items if each.status.phase == "Active"}
    definitions = client.ApiextensionsV1Api(kind_api).list_custom_resource_definition().items
    ours = [each for each in definitions if each.spec.group == "kubernetes.dask.org"]
    assert len(ours) == 4
    for definition in ours:
        assert definition.metadata.annotations["meta.helm.sh/release-name"] == release.name
        assert definition.metadata.deletion_timestamp is None
