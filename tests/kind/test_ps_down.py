"""What skjob has in a real cluster: listed, and removed with nothing else."""

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
    """skjob's own way to the API, in the test's namespace."""
    monkeypatch.setenv("KUBECONFIG", kind_env["KUBECONFIG"])
    return kube.connect_api(None, namespace)


@pytest.fixture
def skjob(
    kind_env: dict[str, str], namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Skjob:
    """The command, in the test's namespace."""

    def call(*arguments: str, environment: dict[str, str] | None = None) -> Result:
        return run_command([*arguments, "--namespace", namespace], environment or kind_env, monkeypatch, capsys)

    return call


def start(api: kube.Api, program: str = "train.py", user: str | None = None, *, anchored: bool = True) -> RunNames:
    """The objects of a run: an anchor and a ConfigMap that it owns; or a ConfigMap that nobody owns."""
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


def start_dask(api: kube.Api) -> RunNames:
    """A whole cluster as the operator makes it, of pods that only sleep."""
    names = start(api, "dask.py")
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


def listed(skjob: Skjob, *arguments: str) -> dict[str, Manifest]:
    done = skjob("ps", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return {run["name"]: run for run in json.loads(done.stdout)}


def test_an_empty_namespace_is_no_error(skjob: Skjob, namespace: str) -> None:
    done = skjob("ps")
    assert (done.returncode, done.stdout) == (0, "")
    assert f"no clusters in namespace `{namespace}`" in done.stderr
    assert listed(skjob) == {}
    assert skjob("down", "--all").returncode == 0


def test_runs_are_listed_and_removed_by_name(api: kube.Api, skjob: Skjob, namespace: str) -> None:
    names, other = start(api, "train model.py", "Ann Lee"), start(api)
    found = listed(skjob)
    assert set(found) == {names.cluster, other.cluster}
    run = found[names.cluster]
    assert (run["user"], run["program"], run["state"]) == ("Ann Lee", "train model.py", "starting")
    assert (run["namespace"], run["run_id"]) == (namespace, names.run_id)
    assert 0 <= run["age_seconds"] < 3600
    assert 200 < run["expires_in"] <= 300
    assert set(listed(skjob, "--all-namespaces")) >= {names.cluster, other.cluster}
    lines = skjob("ps").stdout.splitlines()
    assert lines[0].split() == ["NAME", "USER", "PROGRAM", "AGE", "WORKERS", "COST", "STATE", "EXPIRES"]
    assert len(lines) == 3

    done = skjob("down", names.cluster)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"removed `{names.cluster}`" in done.stderr
    assert leftovers(api, names.run_id) == []
    assert set(listed(skjob)) == {other.cluster}
    assert skjob("down", other.cluster).returncode == 0


def test_an_unknown_name_removes_nothing(api: kube.Api, skjob: Skjob) -> None:
    names = start(api)
    done = skjob("down", names.cluster, "nope")
    assert done.returncode == 120
    assert "there is no cluster `nope` in this namespace" in done.stderr
    assert f"hint: there is `{names.cluster}`" in done.stderr
    assert set(listed(skjob)) == {names.cluster}
    assert skjob("down", "--all").returncode == 0


@pytest.mark.parametrize("arguments", [[], ["name", "--all"], ["--everyone"]])
def test_names_or_all(skjob: Skjob, arguments: list[str]) -> None:
    done = skjob("down", *arguments)
    assert done.returncode == 120
    assert "`skjob down` takes names or `--all`" in done.stderr


def test_all_means_ones_own_and_everyone_all(api: kube.Api, skjob: Skjob) -> None:
    mine, theirs = start(api), start(api, user="somebody-else")
    assert skjob("down", "--all").returncode == 0
    assert set(listed(skjob)) == {theirs.cluster}
    assert leftovers(api, mine.run_id) == []
    assert skjob("down", "--all", "--everyone").returncode == 0
    assert listed(skjob) == {}


def test_what_lost_its_anchor_is_removed_too(api: kube.Api, skjob: Skjob) -> None:
    names = start(api, anchored=False)
    assert listed(skjob)[names.cluster]["state"] == "abandoned"
    assert skjob("down", names.cluster).returncode == 0
    assert leftovers(api, names.run_id) == []


def test_nothing_else_is_touched(
    api: kube.Api, skjob: Skjob, namespace: str, security_row: Callable[..., None]
) -> None:
    names = start(api)
    neighbour = {"name": "neighbour", "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "helm"}}
    # One that says whose run it belongs to and is not skjob's, and one with the name of a run and no label.
    neighbour["labels"] |= {"skjob/run": names.run_id}
    api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": neighbour})
    api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a-run", "namespace": namespace}})
    assert skjob("down", "--all", "--everyone").returncode == 0
    there = {found["metadata"]["name"] for found in api.list("ConfigMap", namespace)}
    # Kubernetes publishes its certificate in each namespace, some time after it is made.
    assert there - {"kube-root-ca.crt"} == {"neighbour", "a-run", "skjob-defaults"}
    assert skjob("down", "a-run").returncode == 120
    security_row(
        "nothing that skjob did not make is touched",
        "`skjob down --all --everyone` beside objects with a run's name, or with its label alone",
        "only the run is gone",
        "yes",
    )


def test_who_does_not_wait_has_asked_all_the_same(api: kube.Api, skjob: Skjob) -> None:
    names = start(api)
    done = skjob("down", names.cluster, "--no-wait")
    assert done.returncode == 0
    assert f"requested the removal of `{names.cluster}`" in done.stderr
    until(lambda: leftovers(api, names.run_id) == [])


def test_an_operator_that_is_dead_holds_nothing_back(api: kube.Api) -> None:
    names = start(api)
    finalizers = {"metadata": {"finalizers": [KOPF_FINALIZER]}}
    api.patch("ConfigMap", names.cluster, api.context.namespace, finalizers)
    remove(api, names.cluster, api.context.namespace)
    assert leftovers(api, names.run_id) == []


def test_a_whole_cluster_goes_with_all_that_the_operator_made(api: kube.Api, skjob: Skjob) -> None:
    names = start_dask(api)

    def runs_whole() -> bool:
        """Both workers, and the scheduler, without which the cluster counts as starting."""
        run = listed(skjob)[names.cluster]
        return bool((run["workers"], run["state"]) == (2, "running"))

    until(runs_whole, "its pods do not run", 180)
    assert listed(skjob)[names.cluster]["workers_asked"] == 2
    kinds = {item.partition("/")[0] for item in leftovers(api, names.run_id)}
    assert kinds >= {"Job", "ConfigMap", "DaskCluster", "DaskWorkerGroup", "Deployment", "ReplicaSet", "Pod", "Service"}

    assert skjob("down", names.cluster).returncode == 0
    assert leftovers(api, names.run_id) == []


def test_the_role_is_enough(
    api: kube.Api, skjob: Skjob, kind_api: client.ApiClient, kind_env: dict[str, str], namespace: str, tmp_path: Path
) -> None:
    names = start(api)
    somebody = user_environment(kind_api, kind_env, namespace, tmp_path, may_run=True)
    assert names.cluster in skjob("ps", environment=somebody).stdout
    assert skjob("down", names.cluster, environment=somebody).returncode == 0
    refused = skjob("ps", "--all-namespaces", environment=somebody)
    assert refused.returncode == 122
    assert "hint: leave out `--all-namespaces`" in refused.stderr
