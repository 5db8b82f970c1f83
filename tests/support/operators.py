"""The Dask operator of the tests' cluster: what it may not do, and where it is taken away for a while."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from kubernetes import client

from support.users import may
from support.wait import until

OPERATOR = ("dask-kubernetes-operator", "dask-operator")

_REFUSAL = re.compile(
    r'User "(?P<user>[^"]+)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r' (?:at the cluster scope|in the namespace "(?P<namespace>[^"]+)")'
)


def refusals(kind_api: client.ApiClient, log: str) -> list[str]:
    """The lines of an operator's log in which it is refused for want of a right.

    An API server that has just started refuses what it has not read the roles for, and grants it a moment later.
    """
    return [line for line in log.splitlines() if "forbidden: User" in line and not _granted(kind_api, line)]


def _granted(kind_api: client.ApiClient, line: str) -> bool:
    told = _REFUSAL.search(line)
    if told is None:
        return False
    resource, _, subresource = told["resource"].partition("/")
    return may(
        kind_api,
        told["user"],
        verb=told["verb"],
        group=told["group"],
        resource=resource,
        subresource=subresource,
        namespace=told["namespace"] or "",
    )


@contextmanager
def no_operator(kind_api: client.ApiClient, *, wait: bool = True) -> Iterator[None]:
    """It is gone when the block begins, or with no `wait` about to go, and back when it is over."""
    apps, core = client.AppsV1Api(kind_api), client.CoreV1Api(kind_api)
    apps.patch_namespaced_deployment_scale(*OPERATOR, {"spec": {"replicas": 0}})
    try:
        if wait:
            until(lambda: not core.list_namespaced_pod(OPERATOR[1]).items, "the operator did not end", 120)
        yield
    finally:
        apps.patch_namespaced_deployment_scale(*OPERATOR, {"spec": {"replicas": 1}})
        until(
            lambda: apps.read_namespaced_deployment(*OPERATOR).status.ready_replicas,
            "the operator did not come back",
            180,
        )
