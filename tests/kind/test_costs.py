"""What a platform team says in a namespace, in real runs: where pods go, how many there are, and what they cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from runs import DEADLINE, Runs
from users import user_environment
from waits import until

from skjob.cluster.api import Api
from skjob.cluster.inventory import runs
from skjob.cluster.ledger import Entry, read
from skjob.cluster.names import LEDGER_CONFIGMAP

# Two workers of 100m and a scheduler of 50m cost 1 EUR a second.
RULES = {
    "team": "Data Science",
    "most-workers": "2",
    "node-selector": "{kubernetes.io/os: linux}",
    "tolerations": "[{key: batch, operator: Exists, effect: NoSchedule}]",
    "queue": "team-queue",
    "currency": "EUR",
    "prices": "[{labels: {kubernetes.io/os: linux}, cpu-hour: 14400, gib-hour: 0}, {cpu-hour: 1, gib-hour: 1}]",
}
SLEEPING = """
    import sys, time
    import numpy
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.model_selection import GridSearchCV

    class Sleeper(ClassifierMixin, BaseEstimator):
        def __init__(self, number=0):
            self.number = number

        def fit(self, X, y):
            time.sleep(1)
            self.classes_ = numpy.unique(y)
            return self

        def predict(self, X):
            return numpy.zeros(len(X), int)

        def score(self, X, y):
            return float(self.number)

    print("searching", flush=True)
    X, y = numpy.arange(40.0).reshape(20, 2), numpy.arange(20) % 2
    grid = {"number": list(range(int(sys.argv[1])))}
    print(len(GridSearchCV(Sleeper(), grid, cv=2, refit=False).fit(X, y).cv_results_["params"]), flush=True)
"""


@pytest.fixture
def ruled(kind_api: client.ApiClient, namespace: str) -> Callable[..., None]:
    """Puts rules into the namespace's ConfigMap, and makes a ledger."""
    core = client.CoreV1Api(kind_api)
    core.create_namespaced_config_map(namespace, {"metadata": {"name": LEDGER_CONFIGMAP}})

    def rule(**more: str) -> None:
        data = RULES | {name.replace("_", "-"): value for name, value in more.items()}
        core.patch_namespaced_config_map("skjob-defaults", namespace, {"data": data})

    return rule


def of_the_run(api: Api, kind: str) -> list[dict[str, Any]]:
    return api.list(kind, api.context.namespace, selector="app.kubernetes.io/managed-by=skjob,skjob/run")


def one_entry(api: Api, key: str) -> Entry:
    return read(api, api.context.namespace)[key]


def test_a_run_within_its_teams_rules_ends_before_its_money_does(
    kind_runs: Runs, ruled: Callable[..., None], api: Api
) -> None:
    ruled()
    with kind_runs.searching("--workers", "5", "--max-cost", "100", "--", "200", script=SLEEPING) as run:
        for kind in ("Job", "ConfigMap", "DaskCluster", "DaskWorkerGroup", "Deployment", "Service", "Pod"):
            found = of_the_run(api, kind)
            assert found, kind
            assert all(each["metadata"]["labels"]["skjob/team"] == "data-science" for each in found), kind
        pods = of_the_run(api, "Pod")
        assert sum(pod["metadata"]["labels"]["dask.org/component"] == "worker" for pod in pods) == 2
        for pod in pods:
            assert pod["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux"}
            assert {"key": "batch", "operator": "Exists", "effect": "NoSchedule"} in pod["spec"]["tolerations"]
            assert pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-queue"
        [anchor] = of_the_run(api, "Job")
        assert "kueue.x-k8s.io/queue-name" not in anchor["metadata"]["labels"]

        # Each second costs: no command is started for each look.
        until(lambda: (runs(api, kind_runs.namespace)[0].cost or 0) > 5, "it costs nothing")
        seen = kind_runs.skjob("ps")
        heading, row = seen.stdout.splitlines()
        assert "COST" in heading
        assert " EUR" in row
        [listed] = json.loads(kind_runs.skjob("ps", "--json").stdout)
        assert 5 < listed["cost"] < 100
        assert listed["currency"] == "EUR"
        going = one_entry(api, listed["run_id"])
        assert (going.program, going.currency) == ("train", "EUR")
        assert going.until > going.at
        stdout, stderr = run.communicate(timeout=DEADLINE)
    assert run.returncode == 125, stderr
    assert "2 workers instead of 5: `most-workers` of ConfigMap " in stderr
    assert "would cost more than `--max-cost`, 100.00 EUR, by the time it is removed" in stderr
    assert "the same command goes on from them" in stderr
    assert stdout == ""
    [record] = kind_runs.records()
    assert record["cost"]["currency"] == "EUR"
    assert record["cost"]["most"] == 100
    assert 30 < record["cost"]["amount"] <= 100
    assert f"cost: {record['cost']['amount']:.2f} EUR" in stderr
    ended = one_entry(api, record["run_id"])
    assert (ended.amount, ended.rate, ended.until) == (record["cost"]["amount"], 0, "")

    second = kind_runs.run(SLEEPING, "--", "10")
    assert (second.returncode, second.stdout) == (0, "searching\n10\n"), second.stderr
    record = kind_runs.records()[-1]
    assert record["fits"]["found"] == 20
    assert "most" not in record["cost"]

    told = kind_runs.skjob("costs")
    assert told.returncode == 0, told.stderr
    total = sum(each["cost"]["amount"] for each in kind_runs.records())
    assert told.stdout.splitlines()[-1].split() == ["total", "2", f"{total:.2f}", "EUR"]


def test_what_a_run_costs_whose_client_is_killed(
    kind_runs: Runs,
    ruled: Callable[..., None],
    api: Api,
    kind_api: client.ApiClient,
    namespace: str,
    tmp_path: Path,
) -> None:
    """By a user who may not look at nodes: Kubernetes ends it when its money is spent, and not `--grace` later, with
    nobody left to write down what it costs until then."""
    ruled(most_time="8h")
    kind_runs.environment = user_environment(kind_api, kind_runs.environment, namespace, tmp_path, may_run=True)
    doctor = kind_runs.skjob("doctor", "--skip-image")
    assert doctor.returncode == 0, doctor.stdout
    assert "a run may have 2 workers, 28800 s, by ConfigMap " in doctor.stdout
    assert "counted in EUR, and added to the team's totals" in doctor.stdout

    with kind_runs.searching("--max-cost", "100", "--grace", "5m", "--", "200", script=SLEEPING) as run:
        [listed] = of_the_run(api, "DaskCluster")
        key = listed["metadata"]["labels"]["skjob/run"]
        until(lambda: key in read(api, namespace), "it has no entry")
        run.kill()
        run.wait()
    entry = one_entry(api, key)
    assert entry.rate == pytest.approx(0.25 * 14400)
    until(lambda: not of_the_run(api, "Pod"), "its pods did not go", 180)
    now = datetime.now(UTC)
    assert now < datetime.fromisoformat(entry.until) + timedelta(seconds=60)
    total = entry.by(now + timedelta(hours=1))
    assert entry.amount + 10 < total < 100
    told = kind_runs.skjob("costs", "--by", "program", "--since", "1h")
    assert told.stdout.splitlines()[1].split() == ["train", "1", f"{entry.by(now):.2f}", "EUR"]
    print(f"killed after {entry.amount:.0f} of 100 EUR; gone at {total:.2f}, told from its deadline")


def test_no_cluster_has_more_workers_than_a_run_may_have(kind_runs: Runs, ruled: Callable[..., None], api: Api) -> None:
    ruled()
    started = kind_runs.skjob("up", "dev", "--workers", "1:9")
    assert started.returncode == 0, started.stderr
    assert "1:2 workers instead of 1:9: `most-workers` of ConfigMap " in started.stderr
    [idle] = json.loads(kind_runs.skjob("ps", "--json").stdout)
    ruled(most_workers="1")
    run = kind_runs.run("from joblib import Parallel, delayed\nParallel()(delayed(abs)(1) for _ in range(9))",
                        "--cluster", "dev", "--workers", "100")  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "1 workers instead of 100: `most-workers` of ConfigMap " in run.stderr
    [left] = json.loads(kind_runs.skjob("ps", "--json").stdout)
    [record] = kind_runs.records()
    assert left["cost"] > idle["cost"] + record["cost"]["amount"] > 0
    # Whoever uses it pays for that, whoever has left it for the rest: together they pay it all.
    cluster, use = one_entry(api, left["run_id"]), one_entry(api, record["run_id"])
    assert use.amount == record["cost"]["amount"]
    assert cluster.rate == pytest.approx(0.15 * 14400)
    assert cluster.until > cluster.at
    assert kind_runs.skjob("down", "dev").returncode == 0
    assert one_entry(api, left["run_id"]).rate == 0


def test_what_is_kept_for_later_runs_has_an_entry_of_its_own(
    kind_runs: Runs, ruled: Callable[..., None], api: Api
) -> None:
    ruled(prices="[{cpu-hour: 0, gib-hour: 3600}]")
    (kind_runs.folder / "packages.txt").write_text("humanize==4.12.0\n")
    run = kind_runs.run("print('ran')", "--env", "packages.txt")
    assert (run.returncode, run.stdout) == (0, "ran\n"), run.stderr
    listed = json.loads(kind_runs.skjob("ps", "--json").stdout)
    [kept] = [each for each in listed if each["program"] == "environment"]
    entry = one_entry(api, kept["run_id"])
    assert (entry.program, entry.rate) == ("environment", 3600)
    assert kept["cost"] == pytest.approx(kept["age_seconds"], abs=5)
    assert kind_runs.skjob("down", kept["name"]).returncode == 0
    later = datetime.now(UTC) + timedelta(hours=1)
    assert kept["cost"] < one_entry(api, kept["run_id"]).by(later) < kept["cost"] + 60


def test_a_namespace_without_a_ledger_says_so_once(kind_runs: Runs, ruled: Callable[..., None], api: Api) -> None:
    ruled()
    api.delete("ConfigMap", LEDGER_CONFIGMAP, api.context.namespace)
    run = kind_runs.run("print('done')")
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr
    assert run.stderr.count("is not added to the team's totals: namespace") == 1
    told = kind_runs.skjob("costs")
    assert told.returncode == 124
    assert f"create configmap {LEDGER_CONFIGMAP}`" in told.stderr


def test_a_cost_without_prices_and_a_worker_too_large_are_refused_at_once(
    kind_runs: Runs, ruled: Callable[..., None]
) -> None:
    ruled(prices="[]", most_cpu="50m")
    run = kind_runs.run("print('never')", "--max-cost", "5")
    assert run.returncode == 120
    assert "`max-cost` needs prices" in run.stderr
    assert "a worker of 0.1 cores is more than a run may have, `most-cpu`, 0.05, of ConfigMap " in run.stderr
    assert run.stdout == ""
