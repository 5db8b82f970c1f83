"""The user's environment on a real Kubernetes: what they have installed, at their versions, with their own packages.

One namespace keeps it from the first test to the last; the image has an older pandas and none of the user's packages.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from kubernetes import client
from runs import DEADLINE, Runs
from user_env import OLDER_PANDAS, UserEnvironment

LOOKING = """
    import json
    from joblib import Parallel, delayed
    import beside
    import user_features

    def look(_):
        import importlib.metadata, socket
        import pandas
        return pandas.__version__, user_features.VALUE, importlib.metadata.version("user-features"), beside.word()

    print(json.dumps(sorted(set(Parallel()(delayed(look)(n) for n in range(8))))))
"""


@pytest.fixture
def looking(user_runs: Runs, user_environment: UserEnvironment) -> Runs:
    user_environment.write("VALUE = 1\n")
    (user_runs.folder / "beside.py").write_text("def word(): return 'beside'\n")
    return user_runs


def _seen(ended: subprocess.CompletedProcess[str]) -> list[object]:
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)  # type: ignore[no-any-return]


def test_the_whole_environment_and_a_package_that_is_edited(
    looking: Runs, user_environment: UserEnvironment, kind_env: dict[str, str]
) -> None:
    """An unchanged script, an editable package, an older pandas, a module beside it; then edited, on a warm cluster."""
    first = looking.run(LOOKING, "--keep")
    assert _seen(first) == [[OLDER_PANDAS, 1, "1.5", "beside"]]
    [name] = re.findall(r"`skjob run --cluster (\S+)`", first.stderr)
    try:
        user_environment.write("VALUE = 'edited'\n")
        (looking.folder / "beside.py").write_text("def word(): return 'edited too'\n")
        second = looking.run(LOOKING, "--cluster", name)
        assert _seen(second) == [[OLDER_PANDAS, "edited", "1.5", "edited too"]]
        assert "leave the cluster" in second.stderr
    finally:
        down = [looking.python, "-m", "skjob", "down", name, "--context", "kind-skjob"]
        done = subprocess.run(
            [*down, "--namespace", looking.namespace], env=kind_env, capture_output=True, text=True, timeout=DEADLINE
        )
    assert done.returncode == 0, done.stderr


def test_what_is_kept_is_used_by_later_runs(looking: Runs, kind_api: client.ApiClient) -> None:
    """Another script, another cluster; the pod that keeps the environment is the same."""

    def keepers() -> list[str]:
        selector = "app.kubernetes.io/component=environment"
        pods = client.CoreV1Api(kind_api).list_namespaced_pod(looking.namespace, label_selector=selector)
        return [pod.metadata.uid for pod in pods.items]

    _seen(looking.run(LOOKING))
    before = keepers()
    assert len(before) == 1
    again = looking.run(LOOKING.replace("range(8)", "range(6)"))
    _seen(again)
    assert keepers() == before
    assert "installing" not in again.stderr
    environment = sorted((looking.folder / ".skjob" / "runs").glob("*/run.json"))[-1]
    assert "kept" in json.loads(environment.read_text())["cluster"]["environment"]


def test_a_cluster_with_another_environment_is_refused(looking: Runs, kind_env: dict[str, str], tmp_path: Path) -> None:
    first = looking.run("print('kept')", "--keep", "--workers", "1", "--env", "none")
    assert first.returncode == 0, first.stderr
    [name] = re.findall(r"`skjob run --cluster (\S+)`", first.stderr)
    try:
        second = looking.run(LOOKING, "--cluster", name)
        assert second.returncode == 124
        assert re.search(rf"the cluster `{name}` has another environment: .*pandas {OLDER_PANDAS} here", second.stderr)
        assert second.stdout == ""
    finally:
        down = [looking.python, "-m", "skjob", "down", name, "--context", "kind-skjob"]
        subprocess.run([*down, "--namespace", looking.namespace], env=kind_env, check=True, timeout=DEADLINE)
