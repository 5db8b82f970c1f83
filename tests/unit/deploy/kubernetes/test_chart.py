"""Check the chart: its values are described, and what it shares with skjob is equal to skjob's own.

What Helm renders from the chart is in k8s/, and `tests/kind/test_chart.py` compares the two. So no Helm is needed here.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from skjob.config.environment_variables import GPUS_VARIABLE, OWN_NAMES, OWN_PREFIXES, THREAD_PREFIXES
from skjob.config.namespace_policy import parse_rules
from skjob.config.nodes import POOL_KEYS
from skjob.config.parsers import ARCHITECTURES
from skjob.config.pod_schema import (
    Claim,
    ConfigMapVolume,
    KeyOfObject,
    Mount,
    Pods,
    SecretVolume,
    Token,
    ValueFrom,
    Variable,
)
from skjob.config.pod_settings import OWN_FOLDERS, TEAMS_VARIABLES
from skjob.config.rule_values import LIMIT_PARSERS
from skjob.config.sources import LIMITS, TEAM_KEYS, Layer, cluster_defaults, resolve
from skjob.deploy.kubernetes.api.rbac import role_rules
from skjob.deploy.kubernetes.manifests.labels import DEFAULTS_CONFIGMAP, NAME_LABEL, RunNames
from skjob.deploy.kubernetes.operator.manifests import definition_files, operator_manifests, operator_version
from skjob.errors import ConfigError

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[4]
CHART = ROOT / "helm" / "skjob"
EXAMPLE = ROOT / "k8s" / "overlays" / "team-example"

OLD_NAMES = {f"most-{what}": f"max-{what}" for what in ("workers", "cpu", "memory", "time")}

Manifest = dict[str, Any]


def schema() -> Manifest:
    content: Manifest = json.loads((CHART / "values.schema.json").read_text())
    return content


def load_all(path: Path) -> list[Manifest]:
    return [manifest for manifest in yaml.safe_load_all(path.read_text()) if manifest]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    [found] = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def properties(part: Manifest, definitions: Manifest, path: str = "") -> Iterator[tuple[str, Manifest, Manifest]]:
    """Yield the path of every value, its own schema, and the schema with references resolved."""
    for name, said in part.get("properties", {}).items():
        target = definitions[said["$ref"].rpartition("/")[2]] if "$ref" in said else {}
        whole = target | said
        yield f"{path}{name}", said, whole
        yield from properties(whole, definitions, f"{path}{name}.")
        if whole.get("type") == "array":
            yield from properties(whole["items"], definitions, f"{path}{name}[].")


def leaves(values: Manifest, path: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{path}{name}"
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{name}.")


def test_every_value_of_the_schema_says_what_it_is() -> None:
    described = {path: whole.get("description", "") for path, _, whole in properties(schema(), schema()["definitions"])}
    assert [path for path, text in described.items() if not text.endswith(".")] == []
    assert len(described) > 100


def test_no_value_is_taken_that_is_not_in_the_schema() -> None:
    """Otherwise a typo would be a limit that does not hold."""
    definitions = schema()["definitions"]
    lax = [
        path
        for path, _, whole in properties(schema(), definitions)
        if "properties" in whole and whole.get("additionalProperties") is not False
    ]
    # Names of resources, which may be anything.
    assert lax == ["quota", "teams[].quota"]
    assert schema()["additionalProperties"] is False


def test_the_schema_and_the_values_know_the_same() -> None:
    text = (CHART / "values.yaml").read_text()
    known = {path for path, _, _ in properties(schema(), schema()["definitions"])}
    # Names of a resource's amounts are Kubernetes' own.
    given = {path for path in leaves(yaml.safe_load(text)) if not path.startswith("operator.resources.")}
    assert given <= known
    kubernetes = re.compile(r"tolerations\[\]\.|limitRange\[\]\.|subjects\[\]\.|operator\.resources\.|^global$")
    ours = {path for path in known if not kubernetes.search(path) and not path.startswith("teams[].")}
    old = {f"limits.{name}" for name in OLD_NAMES}
    assert old < ours
    missing = [path for path in ours - old if not re.search(rf"(?<![\w-]){re.escape(path.rpartition('.')[2])}:", text)]
    assert missing == []
    assert [name for name in OLD_NAMES if f"`{name}`" not in text] == []


def test_every_setting_of_the_chart_is_one_of_skjobs() -> None:
    definitions = schema()["definitions"]
    defaults = set(definitions["defaults"]["properties"])
    rules = {name for part in ("placement", "costs") for name in definitions[part]["properties"]}
    limits = definitions["limits"]["properties"]
    assert set(limits) == {name.removeprefix("limits.") for name in LIMITS} | set(OLD_NAMES)
    others = {name for names in LIMITS.values() for name in names}
    assert rules | {"team", "pods"} | set(LIMITS) | others == set(TEAM_KEYS)
    for old, name in OLD_NAMES.items():
        assert limits[old]["description"].startswith(f"Deprecated: the old name of `{name}`.")
        assert {key: value for key, value in limits[old].items() if key != "description"} == {
            key: value for key, value in limits[name].items() if key != "description"
        }
    with pytest.raises(ConfigError, match="is not a setting") as caught:
        resolve([Layer({"nonesuch": "1"}, lambda name: name.replace("_", "-"))])
    settings = set(re.findall(r"`([a-z-]+)`", str(caught.value))) - {"nonesuch"}
    # The user chooses where a run takes place, before that ConfigMap is read, and its variables.
    assert settings - defaults == {"on", "context", "namespace", "set-env", "secret-env"}
    assert defaults <= settings


def takes(said: Manifest, value: str | float) -> bool:
    """Return whether the schema accepts a value, as far as this chart's values need it."""
    if "$ref" in said:
        return takes(schema()["definitions"][said["$ref"].rpartition("/")[2]], value)
    if "allOf" in said:
        return all(takes(each, value) for each in said["allOf"])
    if isinstance(value, str):
        unwanted = said.get("not", {}).get("pattern")
        return re.search(said.get("pattern", ""), value) is not None and not (unwanted and re.search(unwanted, value))
    return value >= said.get("minimum", value) and value > said.get("exclusiveMinimum", value - 1)


def client_takes(name: str, value: str | float) -> bool:
    data = {name: str(value)}
    try:
        resolve([cluster_defaults(data, "ConfigMap")])
        parse_rules(data, "ConfigMap")
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize(
    ("part", "name", "right", "wrong"),
    [
        ("defaults", "worker-cpu", ["10m", "500m", "0.01", "0.5", "2.5", 0.01, 2], ["9m", "0", "0m", "0.009", 0.001]),
        (
            "defaults",
            "worker-memory",
            ["128Mi", "0.5Gi", "140M", "2Gi", 2**31],
            ["64Mi", "127Mi", "99M", "0Gi", "1", 9],
        ),
        ("defaults", "workers", ["1", "0:1", "1:10", 1], ["0", "0:0", ":2", "-1", 0]),
        ("defaults", "start-timeout", ["1s", "90s", "5m", "1h30m", "9999h"], ["0s", "0m", "0h0m0s", "100000h", "1d"]),
        ("defaults", "max-time", ["1s", "8h"], ["0s"]),
        ("defaults", "grace", ["10s", "1m", "1h"], ["0s", "9s", "0m"]),
        ("defaults", "keep-time", ["1s", "4h"], ["0s", "999999h"]),
        ("defaults", "checkpoint", ["none", "s3://bucket/fits"], ["memory://fits"]),
        ("defaults", "retries", ["0", "10", 0, 10], ["11", "-1"]),
        ("defaults", "worker-gpu", ["0", "1", "16", 0, 16], ["17", "-1", -1]),
        ("defaults", "max-cost", ["0.5", "0.05", "20", 0.5], ["0", "0.0", "-1", 0]),
        ("limits", "max-workers", [1], [0]),
        ("limits", "max-cpu", ["10m", "40", 40], ["5m", "0", 0]),
        ("limits", "max-memory", ["160Gi", "1", "0.5Ti", 1], ["0", "0Gi", 0]),
        ("limits", "max-gpus", [0, 1], [-1]),
        ("limits", "max-time", ["1s", "8h"], ["0s", "100000h"]),
        ("limits", "most-workers", [1], [0]),
        ("limits", "most-time", ["1s", "8h"], ["0s", "100000h"]),
    ],
)
def test_the_schema_and_skjob_take_the_same_at_the_edges(
    part: str, name: str, right: list[str | float], wrong: list[str | float]
) -> None:
    """A value that the schema accepts and skjob rejects would end every run of the team."""
    said = schema()["definitions"][part]["properties"][name]
    key = f"limits.{name}" if part == "limits" and name.startswith("max-") else name
    for value in right + wrong:
        assert (takes(said, value), client_takes(key, value)) == (value in right, value in right), value


def test_pods_in_the_chart_have_the_fields_that_skjob_reads() -> None:
    pods = schema()["definitions"]["pods"]["properties"]
    env, mounts = pods["env"]["items"]["properties"], pods["mounts"]["items"]["properties"]
    models: list[tuple[Manifest, Any]] = [
        (pods, Pods),
        (env, Variable),
        (env["valueFrom"]["properties"], ValueFrom),
        (schema()["definitions"]["keyOfObject"]["properties"], KeyOfObject),
        (mounts, Mount),
        (mounts["persistentVolumeClaim"]["properties"], Claim),
        (mounts["configMap"]["properties"], ConfigMapVolume),
        (mounts["secret"]["properties"], SecretVolume),
        (mounts["serviceAccountToken"]["properties"], Token),
    ]
    for described, model in models:
        assert set(described) == set(model.model_fields), model


def pods_with(path: str, value: Any) -> str:
    """Return the key `pods` with one value in it, at a path of the schema."""
    variable = {"name": "A", "value": "x"}
    mount = {"mountPath": "/x", "persistentVolumeClaim": {"claimName": "data"}}
    token = {"mountPath": "/x", "serviceAccountToken": {"audience": "a"} | {path.rpartition(".")[2]: value}}
    reference = {
        "name": "A",
        "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"} | {path.rpartition(".")[2]: value}},
    }
    whole: dict[str, Manifest] = {
        "labels.key": {"labels": {value: "x"}},
        "labels.value": {"labels": {"a": value}},
        "annotations.key": {"annotations": {value: "x"}},
        "annotations.value": {"annotations": {"a": value}},
        "imagePullSecrets": {"imagePullSecrets": [value]},
        "env.name": {"env": [variable | {"name": value}]},
        "env.secretKeyRef.name": {"env": [reference]},
        "env.secretKeyRef.key": {"env": [reference]},
        "mounts.mountPath": {"mounts": [mount | {"mountPath": value}]},
        "mounts.subPath": {"mounts": [mount | {"subPath": value}]},
        "mounts.audience": {"mounts": [token]},
        "mounts.expirationSeconds": {"mounts": [token]},
        "serviceAccountName": {"serviceAccountName": value},
    }
    return json.dumps(whole[path])


def described_at(path: str) -> Manifest:
    """Return the schema of that value, without references."""
    definitions = schema()["definitions"]
    pods = definitions["pods"]["properties"]
    mount = pods["mounts"]["items"]["properties"]
    token = mount["serviceAccountToken"]["properties"]
    found: dict[str, Manifest] = {
        "labels.key": pods["labels"]["propertyNames"],
        "labels.value": pods["labels"]["additionalProperties"],
        "annotations.key": pods["annotations"]["propertyNames"],
        "annotations.value": pods["annotations"]["additionalProperties"],
        "imagePullSecrets": pods["imagePullSecrets"]["items"],
        "env.name": pods["env"]["items"]["properties"]["name"],
        "env.secretKeyRef.name": definitions["keyOfObject"]["properties"]["name"],
        "env.secretKeyRef.key": definitions["keyOfObject"]["properties"]["key"],
        "mounts.mountPath": mount["mountPath"],
        "mounts.subPath": mount["subPath"],
        "mounts.audience": token["audience"],
        "mounts.expirationSeconds": token["expirationSeconds"],
        "serviceAccountName": pods["serviceAccountName"],
    }
    return found[path]


@pytest.mark.parametrize(
    ("path", "right", "wrong"),
    [
        (
            "labels.key",
            ["cost-centre", "example.org/a.b", "app.kubernetes.io/part-of", "autoscaler.kubernetes.io/x", "A_b"],
            [
                "a b", "/a", "a/b/c", "-a", "skjob/run", "x.skjob/a", "dask.org/a", "kubernetes.dask.org/a", "k8s.io/a",
                "kubernetes.io/a", "batch.kubernetes.io/a", "kubectl.kubernetes.io/a", "app.kubernetes.io/name",
                "app.kubernetes.io/component", "kueue.x-k8s.io/queue-name", "kopf.zalando.org/a", "job-name", "E.org/a",
            ],
        ),
        ("labels.value", ["", "a", "A.b_c-9", "x" * 63], ["-a", "a b", "a=b", "x" * 64]),
        ("annotations.key", ["example.org/a"], ["skjob/a", "kopf.x"]),
        ("annotations.value", ["", "a, b=c", "é \u2028"], ["a\nb", "a\tb", "\x7f"]),
        ("imagePullSecrets", ["registry", "a.b-c"], ["A", "a_b", "-a", "", "a b"]),
        (
            "env.name",
            ["HTTPS_PROXY", "SSL_CERT_FILE", "a", "_x", "SKJOBS", "OMPX", "HOMES", "NUM_THREADS"],
            [
                "1A", "A-B", "", "SKJOB_A", "DASK_", "KUBERNETES_X", "MALLOC_X", "HOME", "PYTHONPATH", "OMP_X",
                "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "LOKY_MAX_CPU_COUNT", "_NUM_THREADS",
                *sorted(OWN_NAMES - {*TEAMS_VARIABLES}),
                *(f"{prefix}X" for prefix in (*OWN_PREFIXES, *THREAD_PREFIXES)),
            ],
        ),
        ("env.secretKeyRef.name", ["hub"], ["Hub", ""]),
        ("env.secretKeyRef.key", ["token", "A.b_c-9"], ["a b", "", "a/b"]),
        (
            "mounts.mountPath",
            ["/mnt/data", "/skjobs", "/etc/site", "/opt/data", "/var/run/secrets/cloud", "/usr/share/x", "/tmpx"],
            [
                "data", "/", "/a/", "/a//b", "/a/../b", "/..", "/a/.", "/a b", *OWN_FOLDERS,
                *(f"{folder}/x" for folder in OWN_FOLDERS), "/opt", "/var", "/run", "/var/run", "/run/secrets",
                "/var/run/secrets", "/etc", "/usr", "/usr/local",
            ],
        ),
        ("mounts.subPath", ["a", "a/b", "a.b"], ["/a", "../a", "a/", "a/../b", ".", ""]),
        (
            "mounts.audience",
            ["sts.amazonaws.com", "api://AzureADTokenExchange", "https://vault.example.org"],
            [
                "", "a b", "kubernetes", "https://kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
                "https://container.googleapis.com/v1/x", "https://oidc.eks.x", "https://a.hcp.x.azmk8s.io/",
            ],
        ),
        ("mounts.expirationSeconds", [600, 86400], [599, 86401]),
        ("serviceAccountName", ["trainer"], ["Trainer", "a b"]),
    ],
)  # fmt: skip
def test_of_pods_the_schema_and_skjob_take_the_same(path: str, right: list[Any], wrong: list[Any]) -> None:
    said = described_at(path)
    for value in right + wrong:
        by_schema = takes(said, value) and (not isinstance(value, str) or len(value) <= said.get("maxLength", 999))
        by_schema = by_schema and (isinstance(value, str) or value <= said.get("maximum", value))
        assert (by_schema, client_takes("pods", pods_with(path, value))) == (value in right, value in right), value


def test_node_pools_in_the_chart_have_the_fields_that_skjob_reads() -> None:
    definitions = schema()["definitions"]
    pool = definitions["nodePool"]["properties"]
    assert set(pool) == POOL_KEYS
    assert {*pool["limits"]["properties"]} == {*LIMIT_PARSERS} - {"max-time"}
    assert definitions["defaults"]["properties"]["arch"]["enum"] == [*ARCHITECTURES]


def test_the_example_is_what_the_client_reads() -> None:
    data = named(load_all(EXAMPLE / "team.yaml"), "ConfigMap", DEFAULTS_CONFIGMAP)["data"]
    rules = parse_rules(data, "example")
    assert (rules.team, rules.limits.workers, rules.limits.cpu) == ("data-science", 20, 40.0)
    assert (rules.limits.memory, rules.limits.time) == (160 * 2**30, 8 * 3600)
    price = rules.prices.of({})
    assert price is not None
    assert (price.cpu_hour, price.gib_hour, rules.prices.currency) == (0.04, 0.005, "USD")


def test_a_second_team_leaves_the_first_its_policies() -> None:
    """No cluster-wide object has a name that a copy for another team has too."""
    assert yaml.safe_load((EXAMPLE / "kustomization.yaml").read_text())["resources"] == ["team.yaml"]
    text = (EXAMPLE / "team.yaml").read_text()
    first, second = (
        {
            (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
            for each in yaml.safe_load_all(copy)
        }
        for copy in (text, text.replace("data-science", "physics"))
    )
    assert first & second == set()
    assert sum(kind == "ValidatingAdmissionPolicyBinding" for kind, _, _ in first) == 10


def test_what_the_policies_read_is_told_and_named_in_their_refusals() -> None:
    """Users who write manifests by hand have the same in two places."""
    policies = (ROOT / "k8s" / "base" / "policies.yaml").read_text()
    read = set(re.findall(r"'(skjob/[a-zA-Z.-]+)' in variables\.limits", policies))
    limits = set(
        re.findall(r"\['(skjob/max-[a-z]+)', '(skjob/most-[a-z]+)'\]\.filter\(n, n in variables\.limits\)", policies)
    )
    assert limits == {(f"skjob/{name}", f"skjob/{old}") for old, name in OLD_NAMES.items()}
    of_pods = {name for name in read if name.startswith("skjob/pods.")}
    fields = set(schema()["definitions"]["pods"]["properties"])
    assert {name.removeprefix("skjob/pods.") for name in of_pods} == fields == set(Pods.model_fields)
    assert {name.removeprefix("skjob/") for name in read - of_pods} <= set(TEAM_KEYS)
    read |= {name for name, _ in limits}
    assert len(read) == 9 + len(fields)
    told = (ROOT / "k8s" / "README.md").read_text()
    assert [name for name in read if f"`{name}`" not in told] == []
    assert [name for name in read if f"annotation `{name}` of ResourceQuota skjob" not in policies] == []


def test_schedulers_and_jobs_are_in_pools_that_take_them() -> None:
    policies = load_all(ROOT / "k8s" / "base" / "policies.yaml")
    for name, pod in (("clusters", "object.spec.scheduler.spec"), ("jobs", "object.spec.template.spec")):
        rules = named(policies, "ValidatingAdmissionPolicy", f"skjob-{name}")["spec"]["validations"]
        [rule] = [each for each in rules if each.get("message", "").startswith("this node pool takes workers alone")]
        assert f"{pod}.nodeSelector" in rule["expression"]
        assert "size(pool) < 5 || pool[4] == 'schedulers'" in rule["expression"]


@pytest.mark.parametrize("name", ["clusters", "worker-groups", "jobs"])
def test_no_variable_gives_a_pod_gpus_that_it_does_not_ask_for(name: str) -> None:
    policies = load_all(ROOT / "k8s" / "base" / "policies.yaml")
    rules = named(policies, "ValidatingAdmissionPolicy", f"skjob-{name}")["spec"]["validations"]
    [rule] = [each["expression"] for each in rules if GPUS_VARIABLE in each.get("message", "")]
    assert f"e.name != '{GPUS_VARIABLE}' || has(e.value) && e.value == 'void'" in rule


def test_users_may_do_what_a_run_needs_and_add_up_costs() -> None:
    assert json.loads((CHART / "definitions" / "user-rules.json").read_text()) == role_rules()
    ledger = {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": ["skjob-costs"],
        "verbs": ["get", "patch"],
    }
    assert named(load_all(EXAMPLE / "team.yaml"), "Role", "skjob-user")["rules"] == [*role_rules(), ledger]


def test_the_ledger_has_nothing_that_an_upgrade_could_bring_back() -> None:
    ledger = named(load_all(EXAMPLE / "team.yaml"), "ConfigMap", "skjob-costs")
    assert set(ledger) == {"apiVersion", "kind", "metadata"}


def test_who_is_let_in_nowhere_is_kept_out() -> None:
    """Pods of skjob that no policy of their run covers."""
    spec = named(load_all(EXAMPLE / "team.yaml"), "NetworkPolicy", "skjob")["spec"]
    assert spec == {"podSelector": {"matchLabels": {NAME_LABEL: "skjob"}}, "policyTypes": ["Ingress"]}
    assert RunNames("20261126-000000-000000", "train.py", "somebody").labels("worker")[NAME_LABEL] == "skjob"


def test_the_custom_resources_are_the_packages() -> None:
    ours = {path.name: path.read_bytes() for path in (CHART / "definitions").glob("dask*.yaml")}
    assert ours == {path.name: path.read_bytes() for path in definition_files()}
    listed = yaml.safe_load((CHART / "definitions" / "kustomization.yaml").read_text())["resources"]
    assert set(listed) == set(ours)


def test_the_operator_is_that_of_skjob_install() -> None:
    """Except for the labels that name the managing tool."""
    chart = {
        (each["kind"], each["metadata"]["name"]): unlabelled(each)
        for each in load_all(ROOT / "k8s" / "base" / "operator.yaml")
    }
    image = f"ghcr.io/dask/dask-kubernetes-operator:{operator_version()}"
    install = {
        (each["kind"], each["metadata"]["name"]): unlabelled(each)
        for each in operator_manifests(image, "dask-operator")
        if each["kind"] != "CustomResourceDefinition"
    }
    assert chart == install


def unlabelled(manifest: Any) -> Any:
    if isinstance(manifest, list):
        return [unlabelled(each) for each in manifest]
    if not isinstance(manifest, dict):
        return manifest
    mine = ("app.kubernetes.io/managed-by", "app.kubernetes.io/instance")
    return {key: unlabelled(value) for key, value in manifest.items() if key not in mine}


def test_the_versions_are_skjobs_and_the_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (project["version"], project["version"])
    # The operator's labels contain it, and are compared above.
    assert operator_version() in (CHART / "templates" / "_values.tpl").read_text()
    assert yaml.safe_load((CHART / "values.yaml").read_text())["operator"]["image"].endswith(f":{operator_version()}")


def helm_check() -> Any:
    """Import what `helm test` runs as a module."""
    spec = importlib.util.spec_from_file_location("check", CHART / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_helm_test_reads_whom_its_own_token_is_for() -> None:
    payload = base64.urlsafe_b64encode(json.dumps({"aud": ["https://api.example.org", "x"]}).encode()).rstrip(b"=")
    assert helm_check().own_audiences(f"a.{payload.decode()}.b") == ["https://api.example.org", "x"]


def test_helm_test_asks_for_pods_as_the_team_wants_them() -> None:
    check = helm_check()
    pods = {"labels": {"cost-centre": "42"}, "annotations": {"note": "a"}, "audiences": []}
    whole = check.cluster("skjob-test", None, 1, [check.CONTAINER], {"pool": "batch"}, pods)
    assert whole["metadata"]["annotations"] == pods["annotations"]
    for role in ("scheduler", "worker"):
        assert whole["spec"][role]["metadata"]["labels"] == pods["labels"]
        assert whole["spec"][role]["spec"]["automountServiceAccountToken"] is False
        assert whole["spec"][role]["spec"]["nodeSelector"] == {"pool": "batch"}
    # A pool that takes workers alone: the scheduler is where skjob would have it, and both are nowhere to be refused.
    pods["pool"] = {"name": "gpu", "limits": {}, "scheduler": {"pool": "batch"}}
    for selector, of_scheduler in (({"pool": "gpu"}, {"pool": "batch"}), ({}, {})):
        spec = check.cluster("skjob-test", None, 1, [check.CONTAINER], selector, pods)["spec"]
        assert spec["worker"]["spec"]["nodeSelector"] == selector
        assert spec["scheduler"]["spec"]["nodeSelector"] == of_scheduler
