"""A real Kubernetes cluster for the tests of this folder: kind, with the project's image and the Dask operator.

`make test` starts the cluster while other tests run; a test of this folder waits for it before its own timeout starts
(cluster_state.py). Plain `pytest` starts it here, once, and leaves it running, so that the next run of the tests can
start at once; `make kind-down` removes it. Tests use a kubeconfig of their own, never the user's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kubernetes import client, config
from support.cluster_state import NONE, READY, START_SECONDS, cluster_state, wait_for_cluster
from support.namespaces import IMAGE, new_namespace
from support.runs import Runs
from support.side_by_side import SCENARIOS_TIMEOUT, ScenarioRunner, has_run, options_of
from support.user_env import user_environment, user_namespace, user_runs, user_runs_in  # noqa: F401 - fixtures
from support.xdist_lanes import turn

from skjob.deploy.kubernetes.api.client import Api, connect_api

ROOT = Path(__file__).parents[2]
CONTEXT = "kind-skjob"
OWN_KUBECONFIG = ROOT / ".kind" / "kubeconfig"
TEST_SECONDS = 600
"""Timeout of a test that sets none: a busy machine may take ten times as long as usual."""


@dataclass(frozen=True)
class KindCluster:
    """How to reach the tests' cluster."""

    kubeconfig: Path
    context: str
    image: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SCENARIOS_TIMEOUT if options_of(item) else TEST_SECONDS))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Make a test of this folder wait for its turn before its timeout starts."""
    if Path(__file__).parent not in item.path.parents or has_run(item):
        return (yield)
    wait_for_cluster()
    with turn(item, OWN_KUBECONFIG.parent / "turn"):
        return (yield)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the cluster if a test of this folder is selected and nothing else starts it."""
    selected = any(Path(__file__).parent in item.path.parents for item in session.items)
    if selected and not session.config.option.collectonly and not cluster_state():
        os.environ["SKJOB_TEST_CLUSTER"] = start_cluster()


def start_cluster() -> str:
    """Start the cluster; return `READY`, or `NONE` followed by the reason."""
    environment = os.environ | {"KUBECONFIG": str(OWN_KUBECONFIG)}
    command = ["make", "-C", str(ROOT), "kind", f"IMAGE={IMAGE}"]
    try:
        done = subprocess.run(
            command, env=environment, timeout=START_SECONDS, stdin=subprocess.DEVNULL, text=True, capture_output=True
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{NONE}`make kind` failed: {error}"
    return READY if done.returncode == 0 else f"{NONE}`make kind` failed:\n{(done.stdout + done.stderr)[-2000:]}"


@pytest.fixture(scope="session")
def kind_cluster(tmp_path_factory: pytest.TempPathFactory) -> KindCluster:
    """The running cluster. Without one, skip the test; in CI, fail it."""
    state = wait_for_cluster()
    if state != READY:
        stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        stop(f"no Kubernetes for this test: {state.removeprefix(NONE)}")
    kubeconfig = tmp_path_factory.mktemp("kind") / "kubeconfig"
    shutil.copy(OWN_KUBECONFIG, kubeconfig)
    return KindCluster(kubeconfig, CONTEXT, IMAGE)


@pytest.fixture(scope="session")
def shared_env(kind_cluster: KindCluster) -> dict[str, str]:
    """Environment variables for `skjob`: the tests' kubeconfig and none of the user's settings. Do not modify it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SKJOB_")}
    return environment | {
        "KUBECONFIG": str(kind_cluster.kubeconfig),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "NO_COLOR": "1",
    }


@pytest.fixture
def kind_env(shared_env: dict[str, str]) -> dict[str, str]:
    """A copy of `shared_env` that the test may modify."""
    return dict(shared_env)


@pytest.fixture(scope="session")
def kind_api(kind_cluster: KindCluster) -> Iterator[client.ApiClient]:
    """The official client for the cluster, with an administrator's permissions."""
    api = config.new_client_from_config(str(kind_cluster.kubeconfig), kind_cluster.context)
    yield api
    api.close()


@pytest.fixture(scope="session")
def scenario_runner(
    kind_api: client.ApiClient, shared_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> ScenarioRunner:
    """Runs the scenarios of tests that run side by side."""
    return ScenarioRunner(kind_api, shared_env, tmp_path_factory)


@pytest.fixture
def namespace(kind_api: client.ApiClient) -> Iterator[str]:
    """A new namespace; the test fails if it leaves objects of a run there."""
    with new_namespace(kind_api) as name:
        yield name


@pytest.fixture
def kind_runs(tmp_path: Path, kind_env: dict[str, str], namespace: str) -> Runs:
    return Runs(tmp_path, kind_env, namespace)


@pytest.fixture
def api(kind_env: dict[str, str], namespace: str, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setenv("KUBECONFIG", kind_env["KUBECONFIG"])
    return connect_api("kind-skjob", namespace)
