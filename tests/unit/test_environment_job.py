"""Environments that are kept in a namespace: what they are called, and for which platform they are made."""

from typing import Any

import pytest

from skjob.cluster.environment import _name, platform_of
from skjob.cluster.names import CLUSTER_NAME_MAX


def _node(architecture: str) -> dict[str, Any]:
    return {"status": {"nodeInfo": {"architecture": architecture}}}


@pytest.mark.parametrize(
    ("architectures", "platform"),
    [
        (["amd64", "amd64"], "x86_64-manylinux_2_36"),
        (["arm64"], "aarch64-manylinux_2_36"),
        (["arm64", "amd64"], "x86_64-manylinux_2_36"),
        ([], "x86_64-manylinux_2_36"),
    ],
)
def test_the_platform_is_that_of_the_nodes(architectures: list[str], platform: str) -> None:
    assert platform_of([_node(architecture) for architecture in architectures]) == platform


def test_nodes_that_may_not_be_listed() -> None:
    assert platform_of(None) == "x86_64-manylinux_2_36"


def test_an_environment_is_called_by_all_that_makes_it() -> None:
    name = _name("python:3.11-slim", "3.11", {"a": "1", "b": "2"})
    assert name == _name("python:3.11-slim", "3.11", {"b": "2", "a": "1"})
    others = {
        _name("python:3.12-slim", "3.11", {"a": "1", "b": "2"}),
        _name("python:3.11-slim", "3.12", {"a": "1", "b": "2"}),
        _name("python:3.11-slim", "3.11", {"a": "1", "b": "2.1"}),
        _name("python:3.11-slim", "3.11", {"a": "1"}),
    }
    assert len(others | {name}) == 5
    assert len(name) <= CLUSTER_NAME_MAX
