"""Who gets near: what other pods reach of a run's, and a port-forward."""

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
def test_no_other_pod_connects_where_policies_are_enforced(
    from_pods: dict[str, dict[str, str]], who: str, what: str, security_row: Row
) -> None:
    """A run's policy and the package server's. What is seen decides which it is; the content is the next test's."""
    told = from_pods[who][what]
    enforced = not told.startswith("connected")
    assert not enforced or told.startswith(UNREACHED)
    assert from_pods[IMPOSTOR][what] == "connected"
    behind = told if enforced else f"connected; then {from_pods[who][f'{what}, no certificate']}"
    security_row(
        f"no pod but the run's connects to its {what}"
        if what != "package server"
        else "no pod but skjob's connects to a package server",
        f"TCP from {who}",
        behind,
        "yes" if enforced else "not enforced here",
    )


def test_what_the_policies_say(attacked: VictimRun, policies: dict[str, Any], security_row: Row) -> None:
    found = dict(policies)
    package_server = attacked.pod("environment")["metadata"]["labels"]
    assert set(found) == {attacked.name, package_server["app.kubernetes.io/instance"]}
    run = found.pop(attacked.name)
    own = {"podSelector": {"matchLabels": {"skjob/run": attacked.run_id}}}
    assert run["spec"] == {**own, "policyTypes": ["Ingress"], "ingress": [{"from": [own]}]}
    [environment] = found.values()
    assert environment["spec"]["podSelector"] == {"matchLabels": {"skjob/run": package_server["skjob/run"]}}
    assert environment["spec"]["ingress"] == [
        {
            "from": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "skjob"}}}],
            "ports": [{"protocol": "TCP", "port": PACKAGE_SERVER_PORT}],
        }
    ]
    for policy in (run, environment):
        selector = policy["spec"]["podSelector"]["matchLabels"]
        chosen = [pod for pod in attacked.pods if selector.items() <= pod["metadata"]["labels"].items()]
        assert len(chosen) == (3 if policy is run else 1)
        [owner] = policy["metadata"]["ownerReferences"]
        assert owner["kind"] == "Job"
    security_row(
        "a NetworkPolicy for each run and package server", "what it says, and which pods it is for", "as meant", "–"
    )


@pytest.mark.parametrize("what", ["scheduler", "worker", "package server"])
def test_a_pod_that_gets_near_gets_no_further(
    from_pods: dict[str, dict[str, str]], what: str, security_row: Row
) -> None:
    told = from_pods[IMPOSTOR]
    assert told["scheduler, its own certificate"].startswith(IN)
    for certificate in ("no certificate", "another's certificate"):
        if f"{what}, {certificate}" in told:
            assert told[f"{what}, {certificate}"].startswith("refused: ")
    security_row(
        f"TLS guards the {what} also from pods that pass the policy",
        f"TLS without a certificate from {IMPOSTOR}",
        told[f"{what}, no certificate"],
        "yes",
    )


@pytest.mark.parametrize("what", ["pages", "retire"])
def test_the_schedulers_http_is_reached_from_no_pod(
    from_pods: dict[str, dict[str, str]], what: str, security_row: Row
) -> None:
    told = {who: each[what] for who, each in from_pods.items()}
    assert all(each.startswith(UNREACHED) for each in told.values()), told
    shown = "POST :8787/api/v1/retire_workers" if what == "retire" else "GET :8787/status"
    security_row("no pod reaches the scheduler's HTTP", f"{shown} from any pod", told[IMPOSTOR], "yes")


def test_no_worker_joins_without_the_certificate(
    from_pods: dict[str, dict[str, str]], workers_after: list[str], security_row: Row
) -> None:
    """One that speaks plain TCP, and one with another cluster's certificate, both with the run's labels."""
    for intruder in ("joins without", "joins as another"):
        assert "Registered to" not in from_pods[IMPOSTOR][intruder]
        assert from_pods[IMPOSTOR][intruder].count("Waiting to connect to") > 1
    assert len(workers_after) == 2
    assert not [name for name in workers_after if "intruder" in name]
    security_row(
        "no worker joins without the run's certificate",
        "two Dask workers: tcp, and another cluster's certificate",
        f"refused for {ATTACK_SECONDS} s, then they gave up",
        "yes",
    )


def test_the_port_forward_reaches_pages_and_no_api(over_http: dict[str, str], security_row: Row) -> None:
    """Whoever may forward ports in the namespace sees what the scheduler shows, and can order nothing."""
    assert over_http[HEALTH].startswith("HTTP/1.1 200"), over_http
    assert over_http[RETIRE].startswith("HTTP/1.1 404"), over_http
    assert len(over_http["workers"].split()) == 2
    security_row(
        "the scheduler's HTTP API is off",
        "POST /api/v1/retire_workers through a port-forward",
        "404; both workers stay",
        "yes",
    )
