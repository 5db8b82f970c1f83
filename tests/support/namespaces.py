"""Namespaces for tests, each of which must be left as it was found."""

from __future__ import annotations

import json
import secrets
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

IMAGE = "localhost/skjob:dev"
GONE_SECONDS = 120.0
"""More than a busy cluster takes to collect what is to go, and less than what a run leaves behind lives: its grace is
five minutes."""

LISTS_AT_ONCE = 4

ALL_GROUPS = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
"""What to accept for all groups of resources in one answer (Kubernetes 1.30)."""

DEFAULTS = {"image": IMAGE, "worker-cpu": "100m", "worker-memory": "512Mi", "env": "none"}
"""Tests of anything but the environment take the image as it is: that of the tests is full of tools."""


@contextmanager
def new_namespace(kind_api: client.ApiClient) -> Iterator[str]:
    """One that admits only restricted pods, with the defaults of runs. Nothing of a run may be in it in the end."""
    with unchecked_namespace(kind_api) as name:
        yield name
        left = wait_until_nothing_is_left(kind_api, [name])
    assert not left, are_left(name, left[name])


@contextmanager
def unchecked_namespace(kind_api: client.ApiClient) -> Iterator[str]:
    """The same, of which `wait_until_nothing_is_left` is asked for many at once."""
    core = client.CoreV1Api(kind_api)
    name = f"test-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core.create_namespace({"metadata": {"name": name, "labels": labels}}, _request_timeout=30)
    try:
        core.create_namespaced_config_map(
            name, {"metadata": {"name": "skjob-defaults"}, "data": DEFAULTS}, _request_timeout=30
        )
        yield name
    finally:
        with suppress(ApiException):  # a test may have deleted it
            core.delete_namespace(name, _request_timeout=30)


def are_left(namespace: str, left: list[str]) -> str:
    """What is wrong where objects of runs are."""
    return f"{GONE_SECONDS:.0f} s after the test, skjob's objects are still in `{namespace}`: {', '.join(left)}"


def wait_until_nothing_is_left(api: client.ApiClient, namespaces: Collection[str]) -> dict[str, list[str]]:
    """What is still there of skjob after `GONE_SECONDS`, by namespace; a clean test is through at once."""
    paths = listable_paths(api, only=next(iter(namespaces)) if len(namespaces) == 1 else "")
    deadline = time.monotonic() + GONE_SECONDS
    late = False
    while (left := managed_objects(api, paths, namespaces)) and not late:
        time.sleep(0.5)
        late = time.monotonic() > deadline  # a look takes long: the last one begins after the deadline
    return left


def listable_paths(api: client.ApiClient, only: str = "") -> list[tuple[str, str]]:
    """The kind and path of every namespaced resource that the API can list, custom ones too; events excepted.

    In one namespace, or in all of them.
    """
    paths = []
    for root in ("/api", "/apis"):
        for group in get(api, root, accept=ALL_GROUPS)["items"]:
            preferred = group["versions"][0]
            base = [root, group["metadata"].get("name"), preferred["version"], only and f"namespaces/{only}"]
            for resource in preferred["resources"]:
                kind = resource["responseKind"]["kind"]
                if resource["scope"] == "Namespaced" and "list" in resource["verbs"] and kind != "Event":
                    paths.append((kind, "/".join(filter(None, [*base, resource["resource"]]))))
    return paths


def managed_objects(
    api: client.ApiClient, paths: list[tuple[str, str]], namespaces: Collection[str]
) -> dict[str, list[str]]:
    """skjob's objects in these namespaces, as "Pod `name`"."""
    selector = [("labelSelector", "app.kubernetes.io/managed-by=skjob")]
    found: dict[str, list[str]] = defaultdict(list)
    with ThreadPoolExecutor(LISTS_AT_ONCE) as pool:
        lists = pool.map(lambda path: get(api, path[1], selector)["items"], paths)
        for (kind, _), items in zip(paths, lists, strict=True):
            for metadata in (item["metadata"] for item in items):
                if metadata["namespace"] in namespaces:
                    found[metadata["namespace"]].append(f"{kind} `{metadata['name']}`")
    return found


def get(
    api: client.ApiClient, path: str, query: list[tuple[str, str]] | None = None, accept: str = "application/json"
) -> Any:
    """A GET of the API, as plain data; asked again where the API is too busy to answer."""
    request = api.param_serialize(
        method="GET",
        resource_path=path,
        query_params=query or [],
        header_params={"Accept": accept},
        auth_settings=["BearerToken"],
    )
    for _ in range(5):
        answer = api.call_api(*request, _request_timeout=30)
        content = answer.read()
        if answer.status == HTTPStatus.OK:
            return json.loads(content)
        time.sleep(1)
    raise ApiException(answer.status, content.decode(errors="replace"))
