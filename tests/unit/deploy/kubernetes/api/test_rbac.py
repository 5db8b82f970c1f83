"""Test the table of a run's permissions, and the Role made from it."""

from __future__ import annotations

from typing import Any

import pytest

from skjob.deploy.kubernetes.api.rbac import RUN_PERMISSIONS, missing, role

pytestmark = pytest.mark.unit


class AnsweringApi:
    """An API that answers access reviews: everything is allowed unless it is denied."""

    def __init__(self, *denied: tuple[str, str]) -> None:
        self.denied = denied
        self.asked: list[tuple[str, str, str, str]] = []

    def allowed(self, verb: str, resource: str, namespace: str, *, group: str = "", subresource: str = "") -> bool:
        self.asked.append((verb, group, resource, subresource))
        assert namespace == "team"
        return (verb, f"{resource}/{subresource}".rstrip("/")) not in self.denied


def test_every_verb_is_asked_for_once() -> None:
    api: Any = AnsweringApi()
    assert missing(api, "team") == []
    assert len(api.asked) == len(set(api.asked)) == sum(len(permission.verbs) for permission in RUN_PERMISSIONS)
    assert ("get", "", "pods", "log") in api.asked
    assert ("create", "batch", "jobs", "") in api.asked


def test_what_is_missing_is_told_verb_by_verb() -> None:
    api: Any = AnsweringApi(("create", "jobs"), ("delete", "jobs"), ("get", "pods/log"))
    assert [str(permission) for permission in missing(api, "team")] == ["create, delete jobs", "get pods/log"]


def test_the_role_grants_the_table() -> None:
    manifest = role("team")
    assert manifest["metadata"]["namespace"] == "team"
    granted = {
        (group, resource, verb)
        for rule in manifest["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if "resourceNames" not in rule
    }
    assert granted == {
        (permission.group, permission.resource, verb) for permission in RUN_PERMISSIONS for verb in permission.verbs
    }


def test_of_what_is_there_already_a_user_may_write_to_the_ledger_alone() -> None:
    [named] = [rule for rule in role("team")["rules"] if "resourceNames" in rule]
    assert named == {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": ["skjob-costs"],
        "verbs": ["patch"],
    }


def test_no_user_needs_what_gives_more_than_a_run() -> None:
    granted = {(permission.resource, verb) for permission in RUN_PERMISSIONS for verb in permission.verbs}
    # Only the operator creates pods, other users' secrets are private, and the platform team's policies stay.
    assert not granted & {("pods", "create"), ("pods/exec", "create"), ("secrets", "list"), ("secrets", "watch")}
    assert not granted & {("networkpolicies", verb) for verb in ("delete", "patch", "update", "deletecollection")}
    assert not any(verb == "*" or resource == "*" for resource, verb in granted)
