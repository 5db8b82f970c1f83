"""Test kubeconfigs that lack something, and the messages about them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from skjob.deploy.kubernetes.api import kubeconfig
from skjob.errors import AccessError

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def outside_of_pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeconfig, "_SERVICE_ACCOUNT", tmp_path / "none")


@pytest.fixture
def in_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home folder, which is empty."""
    account, home = tmp_path / "account", tmp_path / "home"
    account.mkdir()
    home.mkdir()
    for name in ("token", "namespace"):
        (account / name).write_text("team\n")
    monkeypatch.setattr(kubeconfig, "_SERVICE_ACCOUNT", account)
    monkeypatch.setenv("HOME", str(home))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a kubeconfig with the context `lab`, this user, and whatever else is given."""

    def written(user: dict[str, Any] | None = None, **more: Any) -> None:
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": {"server": "https://lab.example.org"}}],
            "users": [{"name": "ann", "user": user or {"token": "t"}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "ann", "namespace": "team"}}],
        }
        (tmp_path / "config").write_text(json.dumps(content | more))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))

    return written


@pytest.mark.parametrize("content", [b"a: [b", b"[1, 2]", b"hello", b"\xff\xfe\x00", None])
def test_a_file_that_is_no_kubeconfig(content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None stands for a folder."""
    file = tmp_path / "config"
    file.mkdir() if content is None else file.write_bytes(content)
    monkeypatch.setenv("KUBECONFIG", str(file))
    with pytest.raises(AccessError, match="there is no usable kubeconfig: "):
        kubeconfig.find_context("kind")


def test_one_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(AccessError, match=f"there is no usable kubeconfig: `{tmp_path}/none` does not exist"):
        kubeconfig.find_context(None)


@pytest.mark.parametrize("current", [None, "", "gone"])
def test_a_context_that_is_named_needs_no_current_one(write: Any, current: str | None) -> None:
    """Some users omit it on purpose."""
    write(**{} if current is None else {"current-context": current})
    found = kubeconfig.find_context("lab")
    assert (found.context, found.namespace, found.configuration.host) == ("lab", "team", "https://lab.example.org")
    with pytest.raises(AccessError) as told:
        kubeconfig.find_context(None)
    what = "its current context, `gone`, is not in it" if current else "it has no current context"
    assert told.value.message == f"there is no usable kubeconfig: {what}"
    assert told.value.hint == "name a context, with `--context`: it has `lab`"


def test_the_current_context(write: Any) -> None:
    write(**{"current-context": "lab"})
    assert kubeconfig.find_context(None).context == "lab"
    with pytest.raises(AccessError, match="the kubeconfig has no context `mars`") as told:
        kubeconfig.find_context("mars")
    assert told.value.hint == "it has `lab`"


def test_one_without_contexts(write: Any) -> None:
    write(contexts=[])
    with pytest.raises(AccessError, match="it has no current context") as told:
        kubeconfig.find_context(None)
    assert told.value.hint == (
        "it has no contexts: ask whoever runs your cluster how to get one; `--on local` runs on this machine"
    )


@pytest.mark.parametrize(
    ("command", "why"), [("no-such-plugin", "No such file or directory: 'no-such-plugin'"), ("false", "returned 1")]
)
def test_a_login_plugin_that_is_missing_or_fails(write: Any, command: str, why: str) -> None:
    version = "client.authentication.k8s.io/v1"
    write({"exec": {"apiVersion": version, "command": command, "interactiveMode": "Never"}})
    handlers = list(logging.getLogger().handlers)
    with pytest.raises(AccessError, match=f"the credentials of the context `lab` cannot be obtained: .*{why}") as told:
        kubeconfig.find_context("lab")
    assert told.value.hint == "log in again: `kubectl --context lab get pods` should work first"
    assert logging.getLogger().handlers == handlers


def test_a_pod_with_a_kubeconfig_means_that(write: Any, in_a_pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As kr8s does, which connects to the scheduler."""
    write(**{"current-context": "lab"})
    monkeypatch.delenv("KUBECONFIG")
    (in_a_pod / ".kube").mkdir()
    (in_a_pod.parent / "config").rename(in_a_pod / ".kube" / "config")
    found = kubeconfig.find_context(None)
    assert (found.context, found.in_cluster) == ("lab", False)


def test_a_pod_without_a_token_is_told_what_it_needs(in_a_pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (in_a_pod.parent / "account" / "token").unlink()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    with pytest.raises(AccessError) as told:
        kubeconfig.find_context(None)
    assert told.value.message == (
        "this pod has no token of a service account, and no kubeconfig: ask for one as skjob's page `Run from a pod`"
        " describes"
    )
    assert "`automountServiceAccountToken: false`" in told.value.hint
    assert "`singleuser.serviceAccountName`" in told.value.hint
    # A context that is named is one of a kubeconfig.
    with pytest.raises(AccessError, match="there is no usable kubeconfig"):
        kubeconfig.find_context("lab")


def test_a_pod_without_one_has_its_service_account(in_a_pod: Path) -> None:
    with pytest.raises(AccessError, match="the service account of this pod cannot be used: ") as told:
        kubeconfig.find_context(None)
    assert f"`{in_a_pod}/.kube/config`" in told.value.hint
