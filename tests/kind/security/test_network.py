"""Who gets near: what other pods reach of a run's, and a port-forward."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator

import pytest
from attack import IN, UNREACHED
from attacked import Attacked
from intruders import ATTACK_SECONDS, Intruder, outcomes
from kubernetes import client

from skjob.cluster.manifest import PAGES_PORT, SCHEDULER_PORT
from skjob.environment.keeper import PORT as KEEPER_PORT

Row = Callable[..., None]


@pytest.fixture(scope="module")
def from_pods(attacked: Attacked, kind_api: client.ApiClient) -> Iterator[dict[str, dict[str, str]]]:
    """What came of each attack, of a pod beside the run, one in another namespace, and one with the run's own labels.

    The last gets past any policy, as whoever may create pods in the namespace can.
    """
    core = client.CoreV1Api(kind_api)
    elsewhere = f"{attacked.namespace}-else"
    core.create_namespace({"metadata": {"name": elsewhere}})
    scheduler, keeper = (attacked.pod(part)["status"]["podIP"] for part in ("scheduler", "environment"))
    worker_host, worker_port = attacked.told["workers"][0].removeprefix("tls://").split(":")
    orders = {
        "scheduler": ["connect", scheduler, SCHEDULER_PORT],
        "scheduler, no certificate": ["tls", scheduler, SCHEDULER_PORT],
        "scheduler, its own certificate": ["tls", scheduler, SCHEDULER_PORT, "/attack/own"],
        "worker": ["connect", worker_host, worker_port],
        "worker, no certificate": ["tls", worker_host, worker_port],
        "worker, another's certificate": ["tls", worker_host, worker_port, "/attack/another"],
        "keeper": ["connect", keeper, KEEPER_PORT],
        "keeper, no certificate": ["tls", keeper, KEEPER_PORT],
        "keeper, another's certificate": ["tls", keeper, KEEPER_PORT, "/attack/another"],
        "pages": ["get", scheduler, PAGES_PORT, "/status"],
        "retire": ["get", scheduler, PAGES_PORT, "/api/v1/retire_workers"],
    }
    own = {"skjob/run": attacked.run_id, "app.kubernetes.io/name": "skjob"}
    address = f"{attacked.name}-scheduler.{attacked.namespace}:{SCHEDULER_PORT}"
    intruders = {
        "a pod beside it": Intruder(attacked.namespace, "beside", {}, orders),
        "a pod of another namespace": Intruder(elsewhere, "elsewhere", own, orders),
        "a pod with the run's labels": Intruder(attacked.namespace, "impostor", own, orders, joins=address),
    }
    try:
        for intruder in intruders.values():
            intruder.start(core, attacked.certificates)
        yield {who: outcomes(core, intruder) for who, intruder in intruders.items()}
    finally:
        core.delete_namespace(elsewhere)
        for intruder in intruders.values():
            intruder.remove(core)


STRANGERS = ("a pod beside it", "a pod of another namespace")
IMPOSTOR = "a pod with the run's labels"


@pytest.mark.parametrize("who", STRANGERS)
@pytest.mark.parametrize("what", ["scheduler", "worker", "keeper"])
def test_no_other_pod_connects_where_policies_are_enforced(
    attacked: Attacked, from_pods: dict[str, dict[str, str]], who: str, what: str, security_row: Row
) -> None:
    """A run's policy and the keeper's. What is seen decides which it is; the content is the next test's."""
    told = from_pods[who][what]
    enforced = not told.startswith("connected")
    assert not enforced or told.startswith(UNREACHED)
    assert from_pods[IMPOSTOR][what] == "connected"
    behind = told if enforced else f"connected; then {from_pods[who][f'{what}, no certificate']}"
    security_row(
        f"no pod but the run's connects to its {what}"
        if what != "keeper"
        else "no pod but skjob's connects to a keeper",
        f"TCP from {who}",
        behind,
        "yes" if enforced else "not enforced here",
    )


def test_what_the_policies_say(attacked: Attacked, security_row: Row) -> None:
    found = {each["metadata"]["name"]: each for each in attacked.api.list("NetworkPolicy", attacked.namespace)}
    keeper = attacked.pod("environment")["metadata"]["labels"]
    assert set(found) == {attacked.name, keeper["app.kubernetes.io/instance"]}
    run = found.pop(attacked.name)
    own = {"podSelector": {"matchLabels": {"skjob/run": attacked.run_id}}}
    assert run["spec"] == {**own, "policyTypes": ["Ingress"], "ingress": [{"from": [own]}]}
    [environment] = found.values()
    assert environment["spec"]["podSelector"] == {"matchLabels": {"skjob/run": keeper["skjob/run"]}}
    assert environment["spec"]["ingress"] == [
        {
            "from": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "skjob"}}}],
            "ports": [{"protocol": "TCP", "port": KEEPER_PORT}],
        }
    ]
    for policy in (run, environment):
        selector = policy["spec"]["podSelector"]["matchLabels"]
        chosen = [pod for pod in attacked.pods if selector.items() <= pod["metadata"]["labels"].items()]
        assert len(chosen) == (3 if policy is run else 1)
        [owner] = policy["metadata"]["ownerReferences"]
        assert owner["kind"] == "Job"
    security_row("a NetworkPolicy for each run and keeper", "what it says, and which pods it is for", "as meant", "–")


@pytest.mark.parametrize("what", ["scheduler", "worker", "keeper"])
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
    attacked: Attacked, from_pods: dict[str, dict[str, str]], security_row: Row
) -> None:
    """One that speaks plain TCP, and one with another cluster's certificate, both with the run's labels."""
    workers = connected_workers(attacked)
    for intruder in ("joins without", "joins as another"):
        assert "Registered to" not in from_pods[IMPOSTOR][intruder]
        assert from_pods[IMPOSTOR][intruder].count("Waiting to connect to") > 1
    assert len(workers) == 2
    assert not [name for name in workers if "intruder" in name]
    security_row(
        "no worker joins without the run's certificate",
        "two Dask workers: tcp, and another cluster's certificate",
        f"refused for {ATTACK_SECONDS} s, then they gave up",
        "yes",
    )


def connected_workers(attacked: Attacked) -> list[str]:
    """The names that the scheduler has, asked by a client with the run's own certificate."""
    script = """
        import sys
        from pathlib import Path
        from distributed import Client
        from skjob.answers import workers_of
        from skjob.cluster.certificates import TlsFiles
        with Client(sys.argv[1], security=TlsFiles.inside(Path(sys.argv[2])).security(), timeout=60) as client:
            print(*[worker["name"] for worker in workers_of(client).values()])
    """
    address = "tls://{}:{}".format(*attacked.scheduler)
    asked = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), address, str(attacked.certificates / "own")],
        capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    return asked.stdout.split()


FORWARDED = """
    import sys
    from kubernetes import client, config
    from kubernetes.stream import portforward
    pod, namespace, request = sys.argv[1:]
    config.load_kube_config()
    core = client.CoreV1Api()
    forward = portforward(core.connect_get_namespaced_pod_portforward, pod, namespace, ports="8787")
    connection = forward.socket(8787)
    connection.settimeout(60)
    connection.sendall(f'{request} HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: 8\\r\\n\\r\\n{{"n": 2}}'.encode())
    print(connection.recv(200).decode().splitlines()[0])
"""


def test_the_port_forward_reaches_pages_and_no_api(attacked: Attacked, user: dict[str, str], security_row: Row) -> None:
    """Whoever may forward ports in the namespace sees what the scheduler shows, and can order nothing."""
    pod = attacked.pod("scheduler")["metadata"]["name"]

    def told(request: str) -> str:
        command = [sys.executable, "-c", textwrap.dedent(FORWARDED), pod, attacked.namespace, request]
        done = subprocess.run(command, env=user, capture_output=True, text=True, timeout=150)
        return done.stdout or done.stderr

    healthy = told("GET /health")
    assert healthy.startswith("HTTP/1.1 200"), healthy
    refused = told("POST /api/v1/retire_workers")
    assert refused.startswith("HTTP/1.1 404"), refused
    assert len(connected_workers(attacked)) == 2
    security_row(
        "the scheduler's HTTP API is off",
        "POST /api/v1/retire_workers through a port-forward",
        "404; both workers stay",
        "yes",
    )
