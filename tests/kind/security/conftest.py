"""Each claim of docs/explanation/security.md is attacked on a real Kubernetes, and is a row of the table of security.

Most attacks are on one run, which all files of this folder share. What needs it in the middle of its program is looked
at by a fixture, and `ended`, which lets it end, comes after all of them: so the tests may run in any order.

Not every pod network enforces a NetworkPolicy. The table says whether this one does; what holds in any case is TLS,
and what does not listen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client
from support import attacker_probe
from support.attacker_pods import Intruder, attacking_pods, outcomes
from support.forged_certificates import FORGED
from support.namespaces import new_namespace
from support.probes import (
    HEALTH,
    RETIRE,
    connect_without_tls,
    connected_workers,
    through_port_forward,
    visible_to_others,
)
from support.users import user_environment
from support.victim_run import VictimRun, attacked_run


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
) -> Iterator[VictimRun]:
    """One run for most attacks."""
    demand_sizes(kind_api, shared_namespace)
    with attacked_run(user, shared_namespace, shared_env["KUBECONFIG"], tmp_path_factory) as run:
        yield run


def demand_sizes(kind_api: client.ApiClient, namespace: str) -> None:
    """A quota: with it, the API refuses a container that does not say what it needs."""
    hard = {"requests.cpu": "4", "requests.memory": "8Gi", "limits.memory": "8Gi"}
    quota = {"metadata": {"name": "sizes"}, "spec": {"hard": hard}}
    client.CoreV1Api(kind_api).create_namespaced_resource_quota(namespace, quota)


# ---- what is looked at while the run is in the middle of its program


@pytest.fixture(scope="package")
def intruders(attacked: VictimRun, kind_api: client.ApiClient) -> Iterator[dict[str, Intruder]]:
    """Pods that attack it: they take half a minute, in which the rest goes on."""
    with attacking_pods(client.CoreV1Api(kind_api), attacked) as pods:
        yield pods


@pytest.fixture(scope="package")
def by_certificate(attacked: VictimRun, intruders: dict[str, Intruder]) -> dict[str, str]:
    """What the scheduler answered to each forged certificate, and to its own. Meanwhile, the pods attack it."""
    folders = FORGED | {"its own": "own"}
    orders = [
        ["tls", *map(str, attacked.scheduler), str(attacked.certificates / folder) if folder else ""]
        for folder in folders.values()
    ]
    return dict(zip(folders, attacker_probe.attack(orders), strict=True))


@pytest.fixture(scope="package")
def in_plain_text(attacked: VictimRun) -> tuple[str, Exception]:
    """What the scheduler answered to Dask's greeting, and what a Dask client heard."""
    return attacker_probe.plain(*attacked.scheduler), connect_without_tls(attacked)


@pytest.fixture(scope="package")
def over_http(attacked: VictimRun, user: dict[str, str]) -> dict[str, str]:
    """What the scheduler's HTTP answered to a user who forwards its port; and the workers that it had then."""
    told = through_port_forward(attacked, user, HEALTH, RETIRE)
    return told | {"workers": " ".join(connected_workers(attacked))}


@pytest.fixture(scope="package")
def policies(attacked: VictimRun) -> dict[str, Any]:
    """Its NetworkPolicies, by name."""
    return {each["metadata"]["name"]: each for each in attacked.api.list("NetworkPolicy", attacked.namespace)}


@pytest.fixture(scope="package")
def from_pods(intruders: dict[str, Intruder], kind_api: client.ApiClient) -> dict[str, dict[str, str]]:
    """What came of each attack of the pods."""
    core = client.CoreV1Api(kind_api)
    return {who: outcomes(core, intruder) for who, intruder in intruders.items()}


@pytest.fixture(scope="package")
def workers_after(attacked: VictimRun, from_pods: dict[str, dict[str, str]]) -> list[str]:
    """The workers that the scheduler has when all of them have tried to join."""
    return connected_workers(attacked)


@pytest.fixture(scope="package")
def visible(attacked: VictimRun, kind_api: client.ApiClient) -> dict[str, str]:
    """What whoever may not read Secrets gets to see of it, by place."""
    return visible_to_others(attacked, kind_api)


# ---- and then


@pytest.fixture(scope="package")
def ended(
    attacked: VictimRun,
    by_certificate: object,
    in_plain_text: object,
    over_http: object,
    policies: object,
    workers_after: object,
    visible: object,
) -> tuple[list[str], str]:
    """Its workers and what it wrote to stderr, when it has ended."""
    return attacked.ended
