"""Install releases of the chart on the tests' cluster, each for one team in a namespace of its own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "skjob"
HOME = "default"
"""Namespace in which Helm stores its releases."""

USER = "somebody"
TEAM = "somebodys"
SECONDS = 300
INSTALL_SECONDS = 1300

DEFAULTS = {"image": "localhost/skjob:dev", "worker-cpu": "100m", "worker-memory": "512Mi", "env": "none"}
LIMITS = {"max-workers": 3, "max-cpu": "1", "max-memory": "2Gi", "max-time": "10m"}

Values = dict[str, Any]
Result = subprocess.CompletedProcess[str]


@cache
def search_path() -> str:
    """Return a search path with kubectl and Helm; build Helm if it is missing."""
    built = subprocess.run(
        [str(ROOT / "tests" / "kind" / "cluster"), "helm"],
        text=True, capture_output=True, timeout=INSTALL_SECONDS, check=False,
    )  # fmt: skip
    path = f"{os.environ['PATH']}{os.pathsep}{Path(built.stdout.strip()).parent}"
    problem = built.stderr if built.returncode else "" if shutil.which("kubectl", path=path) else "no `kubectl`"
    if problem:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(problem)
    return path


def call(environment: dict[str, str], *command: str, succeeds: bool = True, text: str | None = None) -> Result:
    """Run a command of the platform team."""
    done = subprocess.run(
        command, env=os.environ | environment | {"PATH": search_path()}, input=text, text=True, capture_output=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip
    assert not succeeds or done.returncode == 0, done.stdout + done.stderr
    return done


@dataclass(frozen=True)
class Release:
    """A release of the chart, with its team's namespace and its values."""

    environment: dict[str, str]
    name: str = field(default_factory=lambda: f"chart-{secrets.token_hex(4)}")

    @property
    def namespace(self) -> str:
        return f"test-{self.name}"

    def values(self, **more: Any) -> Values:
        """Return the values for a cluster with an operator and its custom resources; `more` replaces parts of them."""
        team = {
            "name": TEAM,
            "namespace": self.namespace,
            "createNamespace": True,
            "subjects": [{"kind": "ServiceAccount", "name": USER, "namespace": self.namespace}],
        }
        values = {"operator": {"enabled": False}, "crds": {"enabled": False}, "defaults": DEFAULTS, "limits": LIMITS}
        return {**values, "teams": [team], **more}

    def upgrade(self, **more: Any) -> Result:
        """Install the release, or upgrade it to other values."""
        # The release takes over existing custom resources if it contains them.
        return self.helm(
            "upgrade", "--install", "--take-ownership", "--wait", "--timeout", "4m", self.name, str(CHART),
            "--values", "-", text=json.dumps(self.values(**more)),
        )  # fmt: skip

    def helm(self, verb: str, *arguments: str, succeeds: bool = True, text: str | None = None) -> Result:
        command = ["helm", verb, *arguments, "--namespace", HOME, "--kube-context", "kind-skjob"]
        return call(self.environment, *command, succeeds=succeeds, text=text)


@contextmanager
def installed(
    environment: dict[str, str], api: client.ApiClient, release: Release | None = None, **values: Any
) -> Iterator[Release]:
    """Install a release; at the end remove it and its namespace, whatever happens."""
    release = release or Release(environment)
    try:
        release.upgrade(**values)
        yield release
    finally:
        release.helm("uninstall", release.name, "--ignore-not-found", "--no-hooks")
        core = client.CoreV1Api(api)
        # Helm leaves the pods of its hooks, for their logs.
        core.delete_collection_namespaced_pod(HOME, label_selector=f"app.kubernetes.io/instance={release.name}")
        if any(each.metadata.name == release.namespace for each in core.list_namespace().items):
            core.delete_namespace(release.namespace, _request_timeout=30)
