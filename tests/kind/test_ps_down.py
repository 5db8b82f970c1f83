"""`skjob ps` and `skjob down` on a real cluster: they list and remove skjob's objects and no others."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from support.command import Result, run_command
from support.daskclusters import sleeping_spec
from support.leftovers import leftovers
from support.users import user_environment
from support.wait import until

from skjob.deploy.kubernetes.api import client as kube
from skjob.deploy.kubernetes.inventory.cleanup import KOPF_FINALIZER, remove
from skjob.deploy.kubernetes.manifests.labels import RunNames, new_run_id
from skjob.deploy.kubernetes.manifests.pods import anchor_job, owned_by

Manifest = dict[str, Any]
Skjob = Callable[..., Result]


@pytest.fixture
def api(kind_env: dict[str, str], namespace: str, monkeypatch: pytest.MonkeyPatch) -> kube.Api:
    """skjob's client for the API, in the test's namespace."""
    monkeypatch.setenv("KUBECONFIG", kind_env["KUBECONFIG"])
    return kube.connect_api(None, namespace)


@pytest.fixture
def skjob(
    kind_env: dict[str, str], namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Skjob:
    """Runs the `skjob` command in the test's namespace."""

    def call(*arguments: str, environment: dict[str, str] | None = None) -> Result:
        return run_command([*arguments, "--namespace", namespace], environment or kind_env, monkeypatch, capsys)

    return call


def start_run(api: kube.Api, program: str = "train.py", user: str | None = None, *, anchored: bool = True) -> RunNames:
    """Create a run's anchor and a ConfigMap that it owns, or without `anchored` only the ConfigMap."""
    names = RunNames(new_run_id(), program, user or getpass.getuser())
    namespace = api.context.namespace
    files = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names.cluster,
            "namespace": namespace,
            "labels": names.labels("files"),
            "annotations": names.annotations(),
        },
    }
    if anchored:
        files = owned_by(api.create(anchor_job(names, namespace, 300)), files)
    api.create(files)
    return names


def start_dask_cluster(api: kube.Api) -> RunNames:
    """Create a run with a DaskCluster whose pods only sleep."""
    names = start_run(api, "dask.py")
    cluster = {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {
            "name": names.cluster,
            "namespace": api.context.namespace,
            "labels": names.labels("cluster"),
            "annotations": names.annotations(),
        },
        "spec": sleeping_spec(names.cluster, workers=2),
    }
    anchor = api.get("Job", names.cluster, api.context.namespace)
    api.create(owned_by(anchor, cluster))
    return names


def list_clusters(skjob: Skjob, *arguments: str) -> dict[str, Manifest]:
    done = skjob("ps", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return {run["name"]: run for run in json.loads(done.stdout)}


def test_empty_namespace_is_not_an_error(skjob: Skjob, namespace: str) -> None:
    done = skjob("ps")
    assert (done.returncode, done.stdout) == (0, "")
    assert f"no clusters in namespace `{namespace}`" in done.stderr
    assert list_clusters(skjob) == {}
    assert skjob("down", "--all").returncode == 0


def test_runs_are_listed_and_removed_by_name(api: kube.Api, skjob: Skjob, namespace: str) -> None:
    names, other = start_run(api, "train model.py", "Ann Lee"), start_run(api)
    clusters = list_clusters(skjob)
    assert set(clusters) == {names.cluster, other.cluster}
    run = clusters[names.cluster]
    assert (run["user"], run["program"], run["state"]) == ("Ann Lee", "train model.py", "starting")
    assert (run["namespace"], run["run_id"]) == (namespace, names.run_id)
    assert 0 <= run["age_seconds"] < 3600
    assert 200 < run["expires_in"] <= 300
    assert set(list_clusters(skjob, "--all-namespaces")) >= {names.cluster, other.cluster}
    lines = skjob("ps").stdout.splitlines()
    assert lines[0].split() == ["NAME", "USER", "PROGRAM", "AGE", "WORKERS", "COST", "STATE", "EXPIRES"]
    assert len(lines) == 3

    done = skjob("down", names.cluster)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"removed `{names.cluster}`" in done.stderr
    assert leftovers(api, names.run_id) == []
    assert set(list_clusters(skjob)) == {other.cluster}
    assert skjob("down", other.cluster).returncode == 0


def test_down_with_an_unknown_name_removes_nothing(api: kube.Api, skjob: Skjob) -> None:
    names = start_run(api)
    done = skjob("down", names.cluster, "nope")
    assert done.returncode == 120
    assert "there is no cluster `nope` in this namespace" in done.stderr
    assert f"hint: there is `{names.cluster}`" in done.stderr
    assert set(list_clusters(skjob)) == {names.cluster}
    assert skjob("down", "--all").returncode == 0


@pytest.mark.parametrize("arguments", [[], ["name", "--all"], ["--everyone"]])
def test_down_requires_names_or_all(skjob: Skjob, arguments: list[str]) -> None:
    done = skjob("down", *arguments)
    assert done.returncode == 120
    assert "`skjob down` takes names or `--all`" in done.stderr


def test_down_all_removes_other_users_runs_only_with_everyone(api: kube.Api, skjob: Skjob) -> None:
    mine, theirs = start_run(api), start_run(api, user="somebody-else")
    assert skjob("down", "--all").returncode == 0
    assert set(list_clusters(skjob)) == {theirs.cluster}
    assert leftovers(api, mine.run_id) == []
    assert skjob("down", "--all", "--everyone").returncode == 0
    assert list_clusters(skjob) == {}


def test_run_without_its_anchor_is_removed(api: kube.Api, skjob: Skjob) -> None:
    names = start_run(api, anchored=False)
    assert list_clusters(skjob)[names.cluster]["state"] == "abandoned"
    assert skjob("down", names.cluster).returncode == 0
    assert leftovers(api, names.run_id) == []


def test_foreign_objects_are_not_removed(
    api: kube.Api, skjob: Skjob, namespace: str, security_row: Callable[..., None]
) -> None:
    names = start_run(api)
    neighbour = {"name": "neighbour", "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "helm"}}
    # One ConfigMap has the label of the run but is not managed by skjob; another has no label.
    neighbour["labels"] |= {"skjob/run": names.run_id}
    api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": neighbour})
    api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a-run", "namespace": namespace}})
    assert skjob("down", "--all", "--everyone").returncode == 0
    existing = {each["metadata"]["name"] for each in api.list("ConfigMap", namespace)}
    # Kubernetes publishes its certificate in each namespace, some time after its creation.
    assert existing - {"kube-root-ca.crt"} == {"neighbour", "a-run", "skjob-defaults"}
    assert skjob("down", "a-run").returncode == 120
    security_row(
        "nothing that skjob did not make is touched",
        "`skjob down --all --everyone` beside objects with a run's name, or with its label alone",
        "only the run is gone",
        "yes",
    )


def test_down_without_waiting_requests_the_removal(api: kube.Api, skjob: Skjob) -> None:
    names = start_run(api)
    done = skjob("down", names.cluster, "--no-wait")
    assert done.returncode == 0
    assert f"requested the removal of `{names.cluster}`" in done.stderr
    until(lambda: leftovers(api, names.run_id) == [])


def test_finalizer_of_a_dead_operator_is_removed(api: kube.Api) -> None:
    names = start_run(api)
    finalizers = {"metadata": {"finalizers": [KOPF_FINALIZER]}}
    api.patch("ConfigMap", names.cluster, api.context.namespace, finalizers)
    remove(api, names.cluster, api.context.namespace)
    assert leftovers(api, names.run_id) == []


def test_down_removes_all_objects_of_a_dask_cluster(api: kube.Api, skjob: Skjob) -> None:
    names = start_dask_cluster(api)

    def is_running() -> bool:
        """Return whether both workers run, and the scheduler, without which the state is `starting`."""
        run = list_clusters(skjob)[names.cluster]
        return bool((run["workers"], run["state"]) == (2, "running"))

    until(is_running, "its pods do not run", 180)
    assert list_clusters(skjob)[names.cluster]["workers_asked"] == 2
    kinds = {item.partition("/")[0] for item in leftovers(api, names.run_id)}
    assert kinds >= {"Job", "ConfigMap", "DaskCluster", "DaskWorkerGroup", "Deployment", "ReplicaSet", "Pod", "Service"}

    assert skjob("down", names.cluster).returncode == 0
    assert leftovers(api, names.run_id) == []


def test_role_has_all_required_permissions(
    api: kube.Api, skjob: Skjob, kind_api: client.ApiClient, kind_env: dict[str, str], namespace: str, tmp_path: Path
) -> None:
    names = start_run(api)
    user = user_environment(kind_api, kind_env, namespace, tmp_path, may_run=True)
    assert names.cluster in skjob("ps", environment=user).stdout
    assert skjob("down", names.cluster, environment=user).returncode == 0
    refused = skjob("ps", "--all-namespaces", environment=user)
    assert refused.returncode == 122
    assert "hint: leave out `--all-namespaces`" in refused.stderr
