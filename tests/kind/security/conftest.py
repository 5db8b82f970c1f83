"""Attack each claim of docs/explanation/security.md on a real Kubernetes; each attack adds a row to the security table.

Most attacks are on one run, which all files of this folder share. Fixtures collect what must be observed while its
program runs. The fixture `ended`, which lets it end, depends on all of them, so that tests may run in any order.

Not every pod network enforces a NetworkPolicy. The table says whether this one does. TLS protects the run in any case,
as do ports that are not open.
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
    """A namespace for all tests of this folder, which must leave nothing in it."""
    with new_namespace(kind_api) as name:
        yield name


@pytest.fixture(scope="package")
def user(
    kind_api: client.ApiClient,
    shared_env: dict[str, str],
    shared_namespace: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """Environment variables of a user who only has skjob's Role in this namespace."""
    return user_environment(kind_api, shared_env, shared_namespace, tmp_path_factory.mktemp("user"), may_run=True)


@pytest.fixture(scope="package")
def attacked(
    kind_api: client.ApiClient,
    shared_env: dict[str, str],
    shared_namespace: str,
    user: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[VictimRun]:
    """The run that most tests attack."""
    require_resources(kind_api, shared_namespace)
    with attacked_run(user, shared_namespace, shared_env["KUBECONFIG"], tmp_path_factory) as run:
        yield run


def require_resources(kind_api: client.ApiClient, namespace: str) -> None:
    """Create a quota, with which the API rejects containers without requests and limits."""
    hard = {"requests.cpu": "4", "requests.memory": "8Gi", "limits.memory": "8Gi"}
    quota = {"metadata": {"name": "sizes"}, "spec": {"hard": hard}}
    client.CoreV1Api(kind_api).create_namespaced_resource_quota(namespace, quota)


# ---- observations while the run's program is running


@pytest.fixture(scope="package")
def intruders(attacked: VictimRun, kind_api: client.ApiClient) -> Iterator[dict[str, Intruder]]:
    """Pods that attack the run, for half a minute, while the other fixtures observe it."""
    with attacking_pods(client.CoreV1Api(kind_api), attacked) as pods:
        yield pods


@pytest.fixture(scope="package")
def responses_by_certificate(attacked: VictimRun, intruders: dict[str, Intruder]) -> dict[str, str]:
    """The scheduler's response to each forged certificate and to its own, while the pods attack it."""
    folders = FORGED | {"its own": "own"}
    attempts = [
        ["tls", *map(str, attacked.scheduler), str(attacked.certificates / folder) if folder else ""]
        for folder in folders.values()
    ]
    return dict(zip(folders, attacker_probe.attack(attempts), strict=True))


@pytest.fixture(scope="package")
def responses_without_tls(attacked: VictimRun) -> tuple[str, Exception]:
    """The scheduler's response to Dask's handshake without TLS, and the error of a Dask client."""
    return attacker_probe.plain(*attacked.scheduler), connect_without_tls(attacked)


@pytest.fixture(scope="package")
def http_responses(attacked: VictimRun, user: dict[str, str]) -> dict[str, str]:
    """The scheduler's HTTP responses through a user's port-forward, and the workers that it has afterwards."""
    responses = through_port_forward(attacked, user, HEALTH, RETIRE)
    return responses | {"workers": " ".join(connected_workers(attacked))}


@pytest.fixture(scope="package")
def policies(attacked: VictimRun) -> dict[str, Any]:
    """The run's NetworkPolicies, by name."""
    return {each["metadata"]["name"]: each for each in attacked.api.list("NetworkPolicy", attacked.namespace)}


@pytest.fixture(scope="package")
def attacks_from_pods(intruders: dict[str, Intruder], kind_api: client.ApiClient) -> dict[str, dict[str, str]]:
    """The outcome of each attack from a pod, by attacker."""
    core = client.CoreV1Api(kind_api)
    return {who: outcomes(core, intruder) for who, intruder in intruders.items()}


@pytest.fixture(scope="package")
def workers_after_attacks(attacked: VictimRun, attacks_from_pods: dict[str, dict[str, str]]) -> list[str]:
    """The scheduler's workers after the attackers' workers have tried to join."""
    return connected_workers(attacked)


@pytest.fixture(scope="package")
def visible_to_other_users(attacked: VictimRun, kind_api: client.ApiClient) -> dict[str, str]:
    """Everything about the run that users without access to Secrets can see, by place."""
    return visible_to_others(attacked, kind_api)


# ---- after the observations


@pytest.fixture(scope="package")
def ended(
    attacked: VictimRun,
    responses_by_certificate: object,
    responses_without_tls: object,
    http_responses: object,
    policies: object,
    workers_after_attacks: object,
    visible_to_other_users: object,
) -> tuple[list[str], str]:
    """The run's workers and its stderr, after it has ended."""
    return attacked.ended
