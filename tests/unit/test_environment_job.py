"""Environments that are kept in a namespace: what they are called, and for which platform they are made."""

from typing import Any

import pytest

from skjob.cluster.environment import _name, platform_of
from skjob.cluster.names import CLUSTER_NAME_MAX
from skjob.environment.index import Index, IndexSettings


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
    nowhere, elsewhere = IndexSettings(), IndexSettings(indexes=(Index("https://index.example/simple"),))
    name = _name("python:3.11-slim", "3.11", {"a": "1", "b": "2"}, nowhere)
    assert name == _name("python:3.11-slim", "3.11", {"b": "2", "a": "1"}, nowhere)
    others = {
        _name("python:3.12-slim", "3.11", {"a": "1", "b": "2"}, nowhere),
        _name("python:3.11-slim", "3.12", {"a": "1", "b": "2"}, nowhere),
        _name("python:3.11-slim", "3.11", {"a": "1", "b": "2.1"}, nowhere),
        _name("python:3.11-slim", "3.11", {"a": "1"}, nowhere),
        _name("python:3.11-slim", "3.11", {"a": "1", "b": "2"}, elsewhere),
    }
    assert len(others | {name}) == 6
    assert len(name) <= CLUSTER_NAME_MAX
