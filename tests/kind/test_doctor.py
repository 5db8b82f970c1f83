"""`skjob doctor` on a real cluster: all checks pass, and each fails when something is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from support.command import Result, run_command
from support.users import user_environment

Doctor = Callable[..., Result]


@pytest.fixture
def doctor(
    kind_api: client.ApiClient,
    kind_env: dict[str, str],
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Doctor:
    """Runs `skjob doctor` in the test's namespace. It must delete its image probes and not leave that to their TTL."""

    def call(*arguments: str, environment: dict[str, str] | None = None) -> Result:
        options = [] if "--namespace" in arguments else ["--namespace", namespace]
        done = run_command(["doctor", *arguments, *options], environment or kind_env, monkeypatch, capsys)
        probes = client.BatchV1Api(kind_api).list_namespaced_job(namespace).items
        assert all(job.metadata.deletion_timestamp for job in probes), probes
        return done

    return call


def outcomes(done: Result) -> dict[str, str]:
    """Return the outcome of each check; `fail` if any check of that name failed."""
    by_name: dict[str, str] = {}
    for check in json.loads(done.stdout)["checks"]:
        if by_name.get(check["name"]) != "fail":
            by_name[check["name"]] = check["outcome"]
    return by_name


ALL_OK = dict.fromkeys(("packages", "tls", "kubeconfig", "api", "permissions", "operator", "nodes", "image"), "ok")


def test_all_checks_pass(doctor: Doctor, kind_cluster: Any) -> None:
    done = doctor("--json")
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    # The image has the packages of this release; this machine may have newer patch releases.
    assert {**outcomes(done), "image": "ok"} == ALL_OK
    assert kind_cluster.image in done.stdout


def test_each_check_and_each_fix_has_one_line(doctor: Doctor) -> None:
    done = doctor("--image", "none.invalid/none:1")
    assert done.returncode == 124
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ok"] * 7 + ["fail", "→"]
    assert "the image `none.invalid/none:1` cannot be pulled" in lines[-2]
    assert "skjob-doctor" not in done.stdout


def test_missing_image_is_reported_at_once(doctor: Doctor) -> None:
    """If the cause were not detected, the command would wait for longer than a test may take."""
    done = doctor("--image", "localhost/nonesuch:1", "--timeout", "1h", "--json")
    assert done.returncode == 124
    assert outcomes(done) == ALL_OK | {"image": "fail"}


def test_worker_larger_than_any_node_is_a_warning(doctor: Doctor) -> None:
    done = doctor("--worker-cpu", "1000", "--skip-image", "--json")
    assert done.returncode == 0
    assert outcomes(done) == ALL_OK | {"nodes": "warn", "image": "skip"}
    assert "no node can hold a worker of 1000 CPUs; the largest, " in done.stdout


def test_role_has_all_required_permissions(
    doctor: Doctor, kind_api: client.ApiClient, kind_env: dict[str, str], namespace: str, tmp_path: Path
) -> None:
    somebody = user_environment(kind_api, kind_env, namespace, tmp_path, may_run=True)
    done = doctor("--json", environment=somebody)
    assert done.returncode == 0, done.stdout
    assert {**outcomes(done), "image": "ok"} == ALL_OK | {"nodes": "skip"}


def test_missing_permissions_are_listed_by_verb(
    doctor: Doctor, kind_api: client.ApiClient, kind_env: dict[str, str], namespace: str, tmp_path: Path
) -> None:
    nobody = user_environment(kind_api, kind_env, namespace, tmp_path, may_run=False)
    done = doctor(environment=nobody)
    assert done.returncode == 122
    assert f"not allowed to create, get, list, patch, delete `jobs.batch` in `{namespace}`" in done.stdout
    assert f"not allowed to get `pods/log` in `{namespace}`" in done.stdout
    assert "→ ask for the Role that `skjob doctor --role` prints" in done.stdout


def test_missing_namespace(doctor: Doctor) -> None:
    done = doctor("--namespace", "nonesuch")
    assert done.returncode == 120
    assert "namespace `nonesuch` does not exist" in done.stdout


def test_missing_context(doctor: Doctor) -> None:
    done = doctor("--context", "nonesuch", "--json")
    assert done.returncode == 121
    assert outcomes(done) == {"packages": "ok", "tls": "ok", "kubeconfig": "fail"}


def test_missing_kubeconfig(doctor: Doctor, kind_env: dict[str, str]) -> None:
    assert doctor(environment=kind_env | {"KUBECONFIG": "/nonexistent"}).returncode == 121


def test_unreachable_api(doctor: Doctor, kind_env: dict[str, str], tmp_path: Path) -> None:
    kubeconfig = yaml.safe_load(Path(kind_env["KUBECONFIG"]).read_text())
    kubeconfig["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(kubeconfig))
    done = doctor("--json", environment=kind_env | {"KUBECONFIG": str(path)})
    assert done.returncode == 121
    assert outcomes(done)["api"] == "fail"
    assert "Connection refused" in done.stdout


def test_printing_the_role_needs_no_cluster(doctor: Doctor, kind_env: dict[str, str]) -> None:
    done = doctor("--role", "--namespace", "team", environment=kind_env | {"KUBECONFIG": "/nonexistent"})
    assert done.returncode == 0
    assert yaml.safe_load(done.stdout)["metadata"]["namespace"] == "team"
