"""Test the platform team's pod settings in manifests: all for workers, and for other pods what they need to start."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from skjob.config.environment_variables import GPUS_VARIABLE, MAX_ORDINARY_BYTES, Variables
from skjob.config.namespace_policy import NamespacePolicy
from skjob.config.plan import Machine, Plan, make_plan
from skjob.config.pod_settings import MAX_SIZE, parse_pods, refused_folder, refused_key, refused_variable
from skjob.config.settings import Place, Settings
from skjob.deploy.kubernetes import image_probe
from skjob.deploy.kubernetes.manifests.environment import package_server_job
from skjob.deploy.kubernetes.manifests.labels import RunNames
from skjob.deploy.kubernetes.manifests.run import dask_cluster, secret, variables_of
from skjob.engine.fidelity.effects.guard import SHARED_VARIABLE
from skjob.environment.pod.requirements import PodRequirements

pytestmark = pytest.mark.unit

Manifest = dict[str, Any]

NAMES = RunNames("20261123-155901-3f9a1c", "train", "Ann")
NEEDS = PodRequirements("3.11", {"numpy": "2.4.0"}, served_at="skjob-environment-1.team:8443")
PLAN = make_plan(Settings(), Place.KUBERNETES, "", Machine(2, 2**33), "3.11")
RULES = NamespacePolicy(
    pods=parse_pods(
        """
labels: {cost-centre: "42"}
annotations: {example.org/note: "a, b=c"}
imagePullSecrets: [registry, other]
env:
  - {name: HTTPS_PROXY, value: "http://proxy:3128"}
  - {name: HUB_TOKEN, valueFrom: {secretKeyRef: {name: hub, key: token}}}
mounts:
  - {mountPath: /mnt/data, persistentVolumeClaim: {claimName: data}}
  - {mountPath: /mnt/scratch, persistentVolumeClaim: {claimName: data}, readOnly: false, subPath: scratch}
  - {mountPath: /mnt/models, persistentVolumeClaim: {claimName: models}}
  - {mountPath: /var/run/secrets/cloud, serviceAccountToken: {audience: sts.amazonaws.com}}
serviceAccountName: trainer
"""
    )
)
LABELS = {"cost-centre": "42", "sidecar.istio.io/inject": "false"}
ANNOTATIONS = {"example.org/note": "a, b=c", "sidecar.istio.io/inject": "false"}


def cluster(rules: NamespacePolicy = RULES, plan: Plan = PLAN) -> Manifest:
    return dask_cluster(NAMES, "team", replace(plan, rules=rules), NEEDS, "skjob-environment-0123456789ab")


def jobs(rules: NamespacePolicy = RULES) -> list[Manifest]:
    """Return the pods that are neither scheduler nor worker."""
    keeper = package_server_job(NAMES, "team", "an-image", ["settings.json"], 3600, rules)
    probe = image_probe._job(NAMES, "team", "an-image", 60, rules)
    return [job["spec"]["template"] for job in (keeper, probe)]


def test_workers_have_all_of_it_after_what_they_have_anyway() -> None:
    before, after = cluster(NamespacePolicy())["spec"]["worker"], cluster()["spec"]["worker"]
    [plain], [worker] = before["spec"]["containers"], after["spec"]["containers"]
    assert worker["env"] == [
        *plain["env"],
        {"name": "HTTPS_PROXY", "value": "http://proxy:3128"},
        {"name": "HUB_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
        {"name": SHARED_VARIABLE, "value": "/mnt/scratch"},
    ]
    assert worker["volumeMounts"] == [
        *plain["volumeMounts"],
        {"name": "team-0", "mountPath": "/mnt/data", "readOnly": True},
        {"name": "team-0", "mountPath": "/mnt/scratch", "readOnly": False, "subPath": "scratch"},
        {"name": "team-1", "mountPath": "/mnt/models", "readOnly": True},
        {"name": "team-2", "mountPath": "/var/run/secrets/cloud", "readOnly": True},
    ]
    token = {"audience": "sts.amazonaws.com", "expirationSeconds": 3600, "path": "token"}
    assert after["spec"]["volumes"] == [
        *before["spec"]["volumes"],
        {"name": "team-0", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "team-1", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}},
        {"name": "team-2", "projected": {"sources": [{"serviceAccountToken": token}], "defaultMode": 0o440}},
    ]
    assert after["spec"]["serviceAccountName"] == "trainer"
    # Not the API token, whichever the account.
    assert after["spec"]["automountServiceAccountToken"] is False


def test_a_variable_that_a_user_has_set_stays_the_users() -> None:
    """And a later run on this cluster reads only the user's variables as such."""
    users = Variables({"HTTPS_PROXY": "mine", "MINE": "1"}, {"TOKEN": "sesame"})
    made = dask_cluster(NAMES, "team", replace(PLAN, rules=RULES), NEEDS, variables=users)
    entries = made["spec"]["worker"]["spec"]["containers"][0]["env"]
    names = [each["name"] for each in entries]
    assert len(names) == len(set(names))
    assert {"name": "HTTPS_PROXY", "value": "mine"} in entries
    data = secret(NAMES, "team", {"TOKEN": b"sesame"})["data"]
    assert variables_of(made, data) == users
    assert variables_of(cluster(), data) == Variables()
    # Not even if a user's secret has the same name as one of the team's.
    assert variables_of(cluster(), {"HUB_TOKEN": data["TOKEN"]}) == Variables()


def test_the_operator_can_write_down_what_team_and_user_have_at_most() -> None:
    """A cluster's settings may have 32 KiB, as in the policies (helm/skjob/templates/_policies.tpl)."""
    mounts = [{"mountPath": f"/mnt/data-of-team-{n}", "secret": {"secretName": f"data-of-team-{n}"}} for n in range(20)]
    most: Manifest = {"labels": {"cost-centre": "42"}, "mounts": mounts, "env": [{"name": "A", "value": ""}]}
    most["env"][0]["value"] = "x" * (MAX_SIZE - len(json.dumps(most)))
    rules = NamespacePolicy(pods=parse_pods(json.dumps(most)))
    users = Variables({"B": "x" * (MAX_ORDINARY_BYTES - 1)}, {f"SECRET_{number}": "x" for number in range(20)})
    environment = "skjob-environment-0123456789ab"
    made = dask_cluster(NAMES, "team", replace(PLAN, rules=rules), NEEDS, environment, users)
    assert len(json.dumps([made["spec"], made["metadata"]])) < 32 * 1024


def test_every_pod_has_the_labels_annotations_and_pull_secrets() -> None:
    whole = cluster()
    assert ANNOTATIONS.items() <= whole["metadata"]["annotations"].items()
    assert whole["metadata"]["annotations"]["skjob/program"] == "train"
    for template in (whole["spec"]["scheduler"], whole["spec"]["worker"], *jobs()):
        assert LABELS.items() <= template["metadata"]["labels"].items()
        assert "app.kubernetes.io/component" in template["metadata"]["labels"]
        assert template["spec"]["imagePullSecrets"] == [{"name": "registry"}, {"name": "other"}]
    for template in jobs():
        assert template["metadata"]["annotations"] == ANNOTATIONS
    # The operator copies a DaskCluster's annotations to its pods, and uses those of a part for itself.
    for role in ("scheduler", "worker"):
        assert "annotations" not in whole["spec"][role]["metadata"]


def test_pods_that_run_no_task_have_no_variables_mounts_and_account() -> None:
    scheduler, without = cluster()["spec"]["scheduler"]["spec"], cluster(NamespacePolicy())["spec"]["scheduler"]["spec"]
    assert scheduler.pop("imagePullSecrets")
    assert scheduler == without
    for template, plain in zip(jobs(), jobs(NamespacePolicy()), strict=True):
        assert template["spec"].pop("imagePullSecrets")
        assert template["spec"] == plain["spec"]


def test_what_skjob_has_itself_is_refused_to_the_team() -> None:
    """Collect each variable, path, label and annotation of today's manifests: a new one must be rejected too."""
    whole = cluster(NamespacePolicy())
    templates = [whole["spec"]["scheduler"], whole["spec"]["worker"], *jobs(NamespacePolicy())]
    containers = [each for template in templates for each in template["spec"]["containers"]]
    variables = {each["name"] for container in containers for each in container.get("env", [])}
    assert len(variables) > 20
    assert all({"name": GPUS_VARIABLE, "value": "void"} in container["env"] for container in containers)
    assert [name for name in variables if not refused_variable(name)] == []
    paths = {each["mountPath"] for container in containers for each in container.get("volumeMounts", [])}
    assert {"/skjob/tls", "/skjob/run", "/skjob/site", "/skjob/environment", "/tmp", "/skjob/index"} == paths
    assert [path for path in paths if not refused_folder(path)] == []
    keys = {*whole["metadata"]["labels"], *whole["metadata"]["annotations"]} - {"sidecar.istio.io/inject"}
    assert len(keys) == 7
    assert [key for key in keys if not refused_key(key)] == []
