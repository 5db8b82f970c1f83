"""A real Kubernetes for the tests of this folder: kind, with the project's image and the Dask operator on it.

The cluster is started once, before the first test and outside every test's time limit: making the node image can take
minutes. `make test` has started it already and says so in SKJOB_TEST_CLUSTER. Without it (plain `pytest`) it is
started here and stays, so that the next run begins at once; `make kind-down` removes it.
Tests see only a kubeconfig of their own, never the user's.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config
from runs import Runs
from user_env import user_environment, user_namespace, user_runs  # noqa: F401 - fixtures

from skjob.cluster.api import Api, connect

ROOT = Path(__file__).parents[2]
CONTEXT = "kind-skjob"
IMAGE = "localhost/skjob:dev"
OWN_KUBECONFIG = ROOT / ".kind" / "kubeconfig"
START_SECONDS = 45 * 60
GONE_SECONDS = 10.0

DEFAULTS = {"image": IMAGE, "worker-cpu": "100m", "worker-memory": "512Mi", "env": "none"}
"""Tests of anything but the environment take the image as it is: that of the tests is full of tools."""


@dataclass(frozen=True)
class KindCluster:
    """How to reach the cluster of the tests."""

    kubeconfig: Path
    context: str
    image: str


why_there_is_none = pytest.StashKey[str | None]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the cluster when a test of this folder was chosen."""
    chosen = any(Path(__file__).parent in item.path.parents for item in session.items)
    if chosen and not session.config.option.collectonly:
        session.config.stash[why_there_is_none] = start_cluster()


def start_cluster() -> str | None:
    """None when the cluster is there, else why not."""
    state = os.environ.get("SKJOB_TEST_CLUSTER", "")
    if state.startswith("none: "):
        return state.removeprefix("none: ")
    if state == "ready":
        return None
    environment = os.environ | {"KUBECONFIG": str(OWN_KUBECONFIG)}
    command = ["make", "-C", str(ROOT), "kind", f"IMAGE={IMAGE}"]
    try:
        done = subprocess.run(
            command, env=environment, timeout=START_SECONDS, stdin=subprocess.DEVNULL, text=True, capture_output=True
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"`make kind` did not end well: {error}"
    return None if done.returncode == 0 else f"`make kind` failed:\n{(done.stdout + done.stderr)[-2000:]}"


@pytest.fixture(scope="session")
def kind_cluster(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> KindCluster:
    """The running cluster. Without one the test is skipped; in CI it fails."""
    problem = pytestconfig.stash.get(why_there_is_none, None)
    if problem is not None:
        stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        stop(f"no Kubernetes for this test: {problem}")
    kubeconfig = tmp_path_factory.mktemp("kind") / "kubeconfig"
    shutil.copy(OWN_KUBECONFIG, kubeconfig)
    return KindCluster(kubeconfig, CONTEXT, IMAGE)


@pytest.fixture
def kind_env(kind_cluster: KindCluster) -> dict[str, str]:
    """The environment to run `skjob` in: the tests' kubeconfig, and no setting of the user's."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SKJOB_")}
    return environment | {
        "KUBECONFIG": str(kind_cluster.kubeconfig),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "NO_COLOR": "1",
    }


@pytest.fixture(scope="session")
def kind_api(kind_cluster: KindCluster) -> Iterator[client.ApiClient]:
    """The official client on the cluster, with an administrator's rights."""
    api = config.new_client_from_config(str(kind_cluster.kubeconfig), kind_cluster.context)
    yield api
    api.close()


@pytest.fixture
def namespace(kind_api: client.ApiClient) -> Iterator[str]:
    """A new namespace that admits only restricted pods, with the defaults of runs. A test must leave nothing in it."""
    core = client.CoreV1Api(kind_api)
    name = f"test-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core.create_namespace({"metadata": {"name": name, "labels": labels}}, _request_timeout=30)
    try:
        core.create_namespaced_config_map(
            name, {"metadata": {"name": "skjob-defaults"}, "data": DEFAULTS}, _request_timeout=30
        )
        yield name
        left = wait_until_nothing_is_left(kind_api, name)
    finally:
        core.delete_namespace(name, _request_timeout=30)
    assert not left, f"{GONE_SECONDS:.0f} s after the test, skjob's objects are still in `{name}`: {', '.join(left)}"


@pytest.fixture
def kind_runs(tmp_path: Path, kind_env: dict[str, str], namespace: str) -> Runs:
    return Runs(tmp_path, kind_env, namespace)


@pytest.fixture
def api(kind_env: dict[str, str], namespace: str, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setenv("KUBECONFIG", kind_env["KUBECONFIG"])
    return connect("kind-skjob", namespace)


def wait_until_nothing_is_left(api: client.ApiClient, namespace: str) -> list[str]:
    """What is still there of skjob after `GONE_SECONDS`; asked for at once, so that a clean test ends at once."""
    paths = listable_paths(api, namespace)
    deadline = time.monotonic() + GONE_SECONDS
    while left := managed_objects(api, paths):
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    return left


def listable_paths(api: client.ApiClient, namespace: str) -> list[tuple[str, str]]:
    """The kind and path of every namespaced resource that the API can list, custom ones too; events excepted."""
    groups = get(api, "/apis")["groups"]
    bases = ["/api/v1"] + [f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups]
    paths = []
    for base in bases:
        for resource in get(api, base)["resources"]:
            if resource["namespaced"] and "list" in resource["verbs"] and resource["kind"] != "Event":
                paths.append((resource["kind"], f"{base}/namespaces/{namespace}/{resource['name']}"))
    return paths


def managed_objects(api: client.ApiClient, paths: list[tuple[str, str]]) -> list[str]:
    selector = [("labelSelector", "app.kubernetes.io/managed-by=skjob")]
    return [
        f"{kind} `{item['metadata']['name']}`" for kind, path in paths for item in get(api, path, selector)["items"]
    ]


def get(api: client.ApiClient, path: str, query: list[tuple[str, str]] | None = None) -> Any:
    """A GET of the API, as plain data."""
    request = api.param_serialize(
        method="GET",
        resource_path=path,
        query_params=query or [],
        header_params={"Accept": "application/json"},
        auth_settings=["BearerToken"],
    )
    return json.loads(api.call_api(*request, _request_timeout=30).read())
