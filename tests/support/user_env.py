"""A user's own environment on a real Kubernetes: a virtual environment with packages, one of them editable.

There is one for all tests that need it, and one namespace, in which its environment is built once and kept. The package
is in a folder beside it, like a user's, and tests may edit it.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uv
from kubernetes import client

from support.runs import Runs

ROOT = Path(__file__).parents[2]
INSTALL_SECONDS = 600
OLDER_PANDAS = "2.3.3"
OTHER_PANDAS = "2.3.2"
"""A version that neither the user nor the image has."""

MORE = ("dask-ml", "lightgbm", "s3fs", "xgboost-cpu")
"""Packages that the tests of boosters and of large data import."""

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "user-features"
version = "1.5"
"""


@dataclass(frozen=True)
class UserEnvironment:
    """The interpreter, and the folder of the editable package that is installed there."""

    python: str
    package: Path

    def write(self, source: str) -> None:
        """Edit the package's only module."""
        (self.package / "user_features" / "__init__.py").write_text(source)


@pytest.fixture(scope="session")
def user_environment(tmp_path_factory: pytest.TempPathFactory) -> UserEnvironment:
    """Create the environment with uv from the development lock, with an older pandas than the image's."""
    folder = tmp_path_factory.mktemp("user")
    package = folder / "features"
    (package / "user_features").mkdir(parents=True)
    (package / "pyproject.toml").write_text(PYPROJECT)
    environment = UserEnvironment(str(folder / "venv" / "bin" / "python"), package)
    environment.write("VALUE = 1\n")
    run_uv("venv", "--quiet", str(folder / "venv"))
    install = ["pip", "install", "--quiet", "--python", environment.python]
    locked = ["--constraint", str(ROOT / "requirements-dev.lock")]
    # A copy: a build inside the repository would leave files there.
    shutil.copytree(ROOT / "skjob", folder / "skjob" / "skjob", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "skjob" / name)
    run_uv(*install, *locked, str(folder / "skjob"), *MORE)
    run_uv(*install, f"pandas=={OLDER_PANDAS}", "--editable", str(package))
    return environment


def run_uv(*arguments: str) -> None:
    """Run uv; fail the test if it fails."""
    done = subprocess.run(
        [uv.find_uv_bin(), *arguments], capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def user_namespace(kind_api: client.ApiClient) -> Iterator[str]:
    """Create a namespace that admits only restricted pods, and keeps the environment from the first test to the
    last."""
    core = client.CoreV1Api(kind_api)
    name = f"test-user-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core.create_namespace({"metadata": {"name": name, "labels": labels}}, _request_timeout=30)
    defaults = {"image": "localhost/skjob:dev", "worker-cpu": "100m", "worker-memory": "512Mi"}
    try:
        core.create_namespaced_config_map(
            name, {"metadata": {"name": "skjob-defaults"}, "data": defaults}, _request_timeout=30
        )
        yield name
    finally:
        core.delete_namespace(name, _request_timeout=30)


RunsIn = Callable[[Path], Runs]


@pytest.fixture(scope="session")
def user_runs_in(
    shared_env: dict[str, str],
    user_namespace: str,
    user_environment: UserEnvironment,
    tmp_path_factory: pytest.TempPathFactory,
) -> RunsIn:
    """Return a factory for runs of the user's own `skjob` in a folder; all share one cache."""
    environment = shared_env | {"XDG_CACHE_HOME": str(tmp_path_factory.getbasetemp() / "cache")}
    return lambda folder: Runs(folder, dict(environment), user_namespace, user_environment.python)


@pytest.fixture
def user_runs(tmp_path: Path, user_runs_in: RunsIn) -> Runs:
    """Return the user's runs in the test's own folder."""
    return user_runs_in(tmp_path)
