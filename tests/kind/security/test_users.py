"""Permissions that users need: one Role, and runs with less."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from kubernetes import client
from support.command import run_command
from support.leftovers import wait_until_gone
from support.runs import Runs
from support.users import user_environment
from support.victim_run import VictimRun

Row = Callable[..., None]


def test_role_has_all_required_permissions(
    attacked: VictimRun, ended: tuple[list[str], str], security_row: Row
) -> None:
    """A user with that Role completed the run, with an environment of its own, and nothing is left of it."""
    _, errors = ended
    assert "skjob: succeeded" in errors
    assert "not allowed to" not in errors
    wait_until_gone(attacked.api, attacked.run_id)
    security_row("users need one Role in one namespace", "a whole run with it", "succeeded, nothing is left", "yes")


@pytest.fixture
def run_in_shared_namespace(
    shared_namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `skjob` as another user in the shared namespace."""

    def call(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_command([*arguments, "--namespace", shared_namespace], environment, monkeypatch, capsys)

    return call


def missing_permissions(doctor: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the lines of `doctor` about missing permissions."""
    return [line for line in doctor.stdout.splitlines() if "not allowed to " in line and "permissions" in line]


def test_role_without_network_policies_is_sufficient(
    kind_api: client.ApiClient,
    shared_env: dict[str, str],
    shared_namespace: str,
    tmp_path: Path,
    run_in_shared_namespace: Callable[..., subprocess.CompletedProcess[str]],
    security_row: Row,
) -> None:
    """A Role of an earlier release: the run reports the missing permission, and `doctor` warns of it."""
    older = user_environment(
        kind_api, shared_env, shared_namespace, tmp_path, may_run=True, name="older",
        without=[("create", "networkpolicies"), ("list", "networkpolicies")],
    )  # fmt: skip
    done = Runs(tmp_path, older, shared_namespace).run_here("print('done')", "--workers", "1")
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    [line] = [line for line in done.stderr.splitlines() if "NetworkPolic" in line]
    assert line == (
        f"skjob: not allowed to create NetworkPolicies in namespace `{shared_namespace}`: other pods can connect to"
        " this run's pods, and only TLS keeps them out"
    )
    doctor = run_in_shared_namespace(older, "doctor", "--skip-image")
    assert doctor.returncode == 0, doctor.stdout
    [line] = missing_permissions(doctor)
    assert "not allowed to create, list `networkpolicies.networking.k8s.io`" in line
    security_row("an older Role still runs", "one without NetworkPolicies", "the run succeeds, in one line why", "yes")


def test_doctor_lists_exactly_the_missing_verbs(
    kind_api: client.ApiClient,
    shared_env: dict[str, str],
    shared_namespace: str,
    tmp_path: Path,
    run_in_shared_namespace: Callable[..., subprocess.CompletedProcess[str]],
    security_row: Row,
) -> None:
    lesser = user_environment(
        kind_api, shared_env, shared_namespace, tmp_path, may_run=True, name="lesser",
        without=[("delete", "deployments"), ("get", "pods/log")],
    )  # fmt: skip
    doctor = run_in_shared_namespace(lesser, "doctor", "--skip-image")
    assert doctor.returncode == 122
    assert [line.partition("not allowed to ")[2].partition(" in ")[0] for line in missing_permissions(doctor)] == [
        "delete `deployments.apps`",
        "get `pods/log`",
    ]
    security_row(
        "`doctor` says which verb is missing", "a Role without two of its verbs", "named both, no other", "yes"
    )
