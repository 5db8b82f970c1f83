"""Each claim of docs/security.md is attacked on a real Kubernetes, and is a row of the table of security.

Most attacks are on one run, which all files of this folder share. `test_secrets` and `test_users`, which by their names
come last, let it end.

Not every pod network enforces a NetworkPolicy. The table says whether this one does; what holds in any case is TLS,
and what does not listen.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attacked import Attacked, attacked_run
from kubernetes import client
from namespaces import new_namespace
from users import user_environment


@pytest.fixture(scope="package")
def shared_namespace(kind_api: client.ApiClient) -> Iterator[str]:
    """One for all tests of the folder, which must leave nothing in it."""
    with new_namespace(kind_api) as name:
        yield name


@pytest.fixture(scope="package")
def user(
    kind_api: client.ApiClient,
    shared_env: dict[str, str],
    shared_namespace: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """The environment of somebody who has the Role that skjob asks for, in this namespace and nowhere else."""
    return user_environment(kind_api, shared_env, shared_namespace, tmp_path_factory.mktemp("user"), may_run=True)


@pytest.fixture(scope="package")
def attacked(
    kind_api: client.ApiClient,
    shared_env: dict[str, str],
    shared_namespace: str,
    user: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Attacked]:
    """One run for most attacks."""
    demand_sizes(kind_api, shared_namespace)
    with attacked_run(user, shared_namespace, shared_env["KUBECONFIG"], tmp_path_factory) as run:
        yield run


def demand_sizes(kind_api: client.ApiClient, namespace: str) -> None:
    """A quota: with it, the API refuses a container that does not say what it needs."""
    hard = {"requests.cpu": "4", "requests.memory": "8Gi", "limits.memory": "8Gi"}
    quota = {"metadata": {"name": "sizes"}, "spec": {"hard": hard}}
    client.CoreV1Api(kind_api).create_namespaced_resource_quota(namespace, quota)
