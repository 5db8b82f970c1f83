"""Create namespaces for tests, and check that each is left clean."""

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
"""Maximum seconds for Kubernetes to collect deleted objects.

More than a busy cluster needs, and less than a run's grace of five minutes, for which anything left behind lives.
"""

LISTS_AT_ONCE = 4

ALL_GROUPS = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
"""Accept header to get all resource groups in one response (Kubernetes 1.30)."""

DEFAULTS = {"image": IMAGE, "worker-cpu": "100m", "worker-memory": "512Mi", "env": "none"}
"""Defaults of runs. Only tests of environments install one: the tests' image has everything."""


@contextmanager
def new_namespace(kind_api: client.ApiClient) -> Iterator[str]:
    """Create a namespace that admits only restricted pods, with defaults for runs. Nothing of a run may be left in
    it."""
    with unchecked_namespace(kind_api) as name:
        yield name
        remaining = wait_for_cleanup(kind_api, [name])
    assert not remaining, leftovers_message(name, remaining[name])


@contextmanager
def unchecked_namespace(kind_api: client.ApiClient) -> Iterator[str]:
    """Create such a namespace without the check; call `wait_for_cleanup` for many of them at once."""
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


def leftovers_message(namespace: str, remaining: list[str]) -> str:
    """Return the error message for objects that are left."""
    return f"{GONE_SECONDS:.0f} s after the test, skjob's objects are still in `{namespace}`: {', '.join(remaining)}"


def wait_for_cleanup(api: client.ApiClient, namespaces: Collection[str]) -> dict[str, list[str]]:
    """Return skjob's objects that still exist after `GONE_SECONDS`, by namespace; return at once if there are none."""
    paths = listable_paths(api, only=next(iter(namespaces)) if len(namespaces) == 1 else "")
    deadline = time.monotonic() + GONE_SECONDS
    late = False
    while (remaining := managed_objects(api, paths, namespaces)) and not late:
        time.sleep(0.5)
        late = time.monotonic() > deadline  # a check takes long: the last one starts after the deadline
    return remaining


def listable_paths(api: client.ApiClient, only: str = "") -> list[tuple[str, str]]:
    """Return the kind and path of every namespaced resource that can be listed, including custom ones, except events.

    The paths are for one namespace, or for all of them.
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
    """Return skjob's objects in these namespaces, as "Pod `name`"."""
    selector = [("labelSelector", "app.kubernetes.io/managed-by=skjob")]
    objects: dict[str, list[str]] = defaultdict(list)
    with ThreadPoolExecutor(LISTS_AT_ONCE) as pool:
        lists = pool.map(lambda path: get(api, path[1], selector)["items"], paths)
        for (kind, _), items in zip(paths, lists, strict=True):
            for metadata in (item["metadata"] for item in items):
                if metadata["namespace"] in namespaces:
                    objects[metadata["namespace"]].append(f"{kind} `{metadata['name']}`")
    return objects


def get(
    api: client.ApiClient, path: str, query: list[tuple[str, str]] | None = None, accept: str = "application/json"
) -> Any:
    """Get plain data from the API; retry if it is too busy to answer."""
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
