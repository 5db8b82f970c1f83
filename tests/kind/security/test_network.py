"""Access to a run's pods from other pods, and by a port-forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.attacker_pods import ATTACK_SECONDS, BESIDE, ELSEWHERE, IMPOSTOR
from support.attacker_probe import IN, UNREACHED
from support.probes import HEALTH, RETIRE
from support.victim_run import VictimRun

from skjob.environment.pod.package_server import PORT as PACKAGE_SERVER_PORT

Row = Callable[..., None]


@pytest.mark.parametrize("who", [BESIDE, ELSEWHERE])
@pytest.mark.parametrize("what", ["scheduler", "worker", "package server"])
def test_other_pods_cannot_connect_if_policies_are_enforced(
    attacks_from_pods: dict[str, dict[str, str]], who: str, what: str, security_row: Row
) -> None:
    """Tests the run's policy and the package server's, and records whether this pod network enforces them."""
    outcome = attacks_from_pods[who][what]
    enforced = not outcome.startswith("connected")
    assert not enforced or outcome.startswith(UNREACHED)
    assert attacks_from_pods[IMPOSTOR][what] == "connected"
    result = outcome if enforced else f"connected; then {attacks_from_pods[who][f'{what}, no certificate']}"
    security_row(
        f"no pod but the run's connects to its {what}"
        if what != "package server"
        else "no pod but skjob's connects to a package server",
        f"TCP from {who}",
        result,
        "yes" if enforced else "not enforced here",
    )


def test_policies_select_the_runs_pods(attacked: VictimRun, policies: dict[str, Any], security_row: Row) -> None:
    remaining = dict(policies)
    package_server = attacked.pod("environment")["metadata"]["labels"]
    assert set(remaining) == {attacked.name, package_server["app.kubernetes.io/instance"]}
    run = remaining.pop(attacked.name)
    own = {"podSelector": {"matchLabels": {"skjob/run": attacked.run_id}}}
    assert run["spec"] == {**own, "policyTypes": ["Ingress"], "ingress": [{"from": [own]}]}
    [environment] = remaining.values()
    assert environment["spec"]["podSelector"] == {"matchLabels": {"skjob/run": package_server["skjob/run"]}}
    assert environment["spec"]["ingress"] == [
        {
            "from": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "skjob"}}}],
            "ports": [{"protocol": "TCP", "port": PACKAGE_SERVER_PORT}],
        }
    ]
    for policy in (run, environment):
        selector = policy["spec"]["podSelector"]["matchLabels"]
        selected = [pod for pod in attacked.pods if selector.items() <= pod["metadata"]["labels"].items()]
        assert len(selected) == (3 if policy is run else 1)
        [owner] = policy["metadata"]["ownerReferences"]
        assert owner["kind"] == "Job"
    security_row(
        "a NetworkPolicy for each run and package server", "what it says, and which pods it is for", "as meant", "–"
    )


@pytest.mark.parametrize("what", ["scheduler", "worker", "package server"])
def test_tls_rejects_pods_that_pass_the_policy(
    attacks_from_pods: dict[str, dict[str, str]], what: str, security_row: Row
) -> None:
    outcomes = attacks_from_pods[IMPOSTOR]
    assert outcomes["scheduler, its own certificate"].startswith(IN)
    for certificate in ("no certificate", "another's certificate"):
        if f"{what}, {certificate}" in outcomes:
            assert outcomes[f"{what}, {certificate}"].startswith("refused: ")
    security_row(
        f"TLS guards the {what} also from pods that pass the policy",
        f"TLS without a certificate from {IMPOSTOR}",
        outcomes[f"{what}, no certificate"],
        "yes",
    )


@pytest.mark.parametrize("what", ["pages", "retire"])
def test_pods_cannot_reach_the_schedulers_http(
    attacks_from_pods: dict[str, dict[str, str]], what: str, security_row: Row
) -> None:
    outcomes = {who: each[what] for who, each in attacks_from_pods.items()}
    assert all(each.startswith(UNREACHED) for each in outcomes.values()), outcomes
    request = "POST :8787/api/v1/retire_workers" if what == "retire" else "GET :8787/status"
    security_row("no pod reaches the scheduler's HTTP", f"{request} from any pod", outcomes[IMPOSTOR], "yes")


def test_workers_without_the_certificate_cannot_join(
    attacks_from_pods: dict[str, dict[str, str]], workers_after_attacks: list[str], security_row: Row
) -> None:
    """One worker uses plain TCP, one another cluster's certificate; both have the run's labels."""
    for intruder in ("joins without", "joins as another"):
        assert "Registered to" not in attacks_from_pods[IMPOSTOR][intruder]
        assert attacks_from_pods[IMPOSTOR][intruder].count("Waiting to connect to") > 1
    assert len(workers_after_attacks) == 2
    assert not [name for name in workers_after_attacks if "intruder" in name]
    security_row(
        "no worker joins without the run's certificate",
        "two Dask workers: tcp, and another cluster's certificate",
        f"refused for {ATTACK_SECONDS} s, then they gave up",
        "yes",
    )


def test_port_forward_reaches_pages_but_no_api(http_responses: dict[str, str], security_row: Row) -> None:
    """Users who may forward ports in the namespace can see the scheduler's pages, but not control it."""
    assert http_responses[HEALTH].startswith("HTTP/1.1 200"), http_responses
    assert http_responses[RETIRE].startswith("HTTP/1.1 404"), http_responses
    assert len(http_responses["workers"].split()) == 2
    security_row(
        "the scheduler's HTTP API is off",
        "POST /api/v1/retire_workers through a port-forward",
        "404; both workers stay",
        "yes",
    )
