"""Where a run takes place, and on which cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from run_values import a_run

from skjob.config.settings import Place
from skjob.config.sources import Layer, arguments, environment, flags, resolve
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.operator import state
from skjob.errors import AccessError, ConfigError, Unauthorized
from skjob.run.run import RunOptions
from skjob.run.target import create_cluster, resolve_target

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", ["", "..", "a/b", "Anna", "a" * 64])
def test_a_name_that_no_cluster_has_is_asked_of_none(name: str, tmp_path: Path) -> None:
    """`--cluster "$CLUSTER"`, where that is not set."""
    with pytest.raises(ConfigError, match="the name of a cluster must be at most 37 lower-case letters") as refused:
        create_cluster(a_run(folder=tmp_path, options=RunOptions(cluster=name)))
    assert refused.value.message.endswith(f"not `{name}`")


@pytest.mark.parametrize(
    ("layers", "called"),
    [
        ([flags({"on": "local"})], "`--on`"),
        ([arguments({"on": "local"}), environment({"SKJOB_ON": "kubernetes"})], "`on=`"),
        ([flags({}), environment({"SKJOB_ON": "local"})], "`SKJOB_ON`"),
    ],
)
def test_who_wants_this_machine_is_told_by_what_and_has_no_cluster_by_name(
    layers: list[Layer], called: str, tmp_path: Path
) -> None:
    target = resolve_target(resolve(layers), print)
    assert (target.place, target.reason) == (Place.LOCAL, f"{called} is `local`")
    with pytest.raises(ConfigError) as refused:
        create_cluster(a_run(folder=tmp_path, target=target, options=RunOptions(cluster="anna")))
    assert refused.value.message == f"`anna` is on Kubernetes, and {called} is `local`"
    assert refused.value.hint == "leave one of the two out"


def _raising(error: AccessError) -> Callable[[Api], bool]:
    def has_operator(api: Api) -> bool:
        raise error

    return has_operator


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    content = {
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {"server": "https://127.0.0.1:9"}}],
        "users": [{"name": "ann", "user": {"token": "old"}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "ann"}}],
    }  # fmt: skip
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(content))
    monkeypatch.setenv("KUBECONFIG", str(file))
    return file


@pytest.mark.usefixtures("kubeconfig")
def test_whose_credentials_are_not_accepted_gets_no_run_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "has_operator", _raising(Unauthorized("not accepted", "log in again")))
    with pytest.raises(Unauthorized):
        resolve_target(resolve([flags({})]), print)


@pytest.mark.parametrize("command", ["false", "no-such-plugin"])
def test_whose_login_is_expired_gets_none_either(kubeconfig: Path, command: str) -> None:
    """Its plugin fails, or is not installed here."""
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": command, "interactiveMode": "Never"}
    content = json.loads(kubeconfig.read_text())
    content["users"][0]["user"] = {"exec": plugin}
    kubeconfig.write_text(json.dumps(content))
    with pytest.raises(Unauthorized, match="the credentials of the context `lab` cannot be obtained") as told:
        resolve_target(resolve([flags({})]), print)
    assert told.value.hint == "log in again: `kubectl --context lab get pods` should work first"


@pytest.mark.usefixtures("kubeconfig")
def test_what_was_asked_of_a_cluster_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "has_operator", _raising(AccessError("the API does not answer")))
    target = resolve_target(resolve([flags({"namespace": "team", "image": "x:1", "workers": "2"})]), print)
    assert target.place is Place.LOCAL
    assert target.reason == "the API does not answer (ignoring `--namespace` and `--image`, for Kubernetes only)"
    assert resolve_target(resolve([flags({"workers": "2"})]), print).reason == "the API does not answer"


@pytest.mark.usefixtures("kubeconfig")
def test_old_names_of_a_namespaces_limits_are_reported_and_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "has_operator", lambda _: True)
    monkeypatch.setattr(Api, "get", lambda *_: {"data": {"most-workers": "3", "limits.max-workers": "5"}})
    notes: list[str] = []
    target = resolve_target(resolve([flags({})]), notes.append)
    assert target.rules.limits.workers == 3
    assert notes == [
        (
            "ConfigMap default/skjob-defaults has old names of limits, which work for one more release:"
            " `most-workers` is now `limits.max-workers`"
        )
    ]
