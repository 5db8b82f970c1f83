"""The Dask operator of the tests' cluster: what it is not allowed to do, and running tests without it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from kubernetes import client

from support.users import is_allowed
from support.wait import until

OPERATOR = ("dask-kubernetes-operator", "dask-operator")

_DENIED = re.compile(
    r'User "(?P<user>[^"]+)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r' (?:at the cluster scope|in the namespace "(?P<namespace>[^"]+)")'
)


def denied_requests(kind_api: client.ApiClient, log: str) -> list[str]:
    """Return the lines of an operator's log in which it was denied a permission that it lacks.

    An API server that has just started denies requests until it has read the roles, and grants them a moment later.
    """
    return [line for line in log.splitlines() if "forbidden: User" in line and not _granted(kind_api, line)]


def _granted(kind_api: client.ApiClient, line: str) -> bool:
    denied = _DENIED.search(line)
    if denied is None:
        return False
    resource, _, subresource = denied["resource"].partition("/")
    return is_allowed(
        kind_api,
        denied["user"],
        verb=denied["verb"],
        group=denied["group"],
        resource=resource,
        subresource=subresource,
        namespace=denied["namespace"] or "",
    )


@contextmanager
def no_operator(kind_api: client.ApiClient, *, wait: bool = True) -> Iterator[None]:
    """Remove the operator within this block; with `wait`, the block starts only once it is gone."""
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
