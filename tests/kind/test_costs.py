"""Rules that a platform team sets in a namespace, applied to real runs: pods' placement, limits and costs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from kubernetes import client
from support.runs import DEADLINE
from support.side_by_side import Sandbox, side_by_side
from support.users import user_environment
from support.wait import until

from skjob.deploy.kubernetes.costs.ledger import Entry, read_ledger
from skjob.deploy.kubernetes.inventory.runs import runs
from skjob.deploy.kubernetes.manifests.labels import LEDGER_CONFIGMAP

CPU_HOUR = 8640
"""Two workers of 100m and a scheduler of 50m cost 0.6 EUR/s, so 160 EUR are enough to start on a busy machine."""

RULES = {
    "team": "Data Science",
    "limits.max-workers": "2",
    "node-selector": "{kubernetes.io/os: linux}",
    "tolerations": "[{key: batch, operator: Exists, effect: NoSchedule}]",
    "queue": "team-queue",
    "currency": "EUR",
    "prices": f"[{{labels: {{kubernetes.io/os: linux}}, cpu-hour: {CPU_HOUR}, gib-hour: 0}}, "
    "{cpu-hour: 1, gib-hour: 1}]",
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


@contextmanager
def ruled_namespace(sandbox: Sandbox) -> Iterator[RuledNamespace]:
    """Create a namespace's rules and ledger."""
    core = client.CoreV1Api(sandbox.kind_api)
    core.create_namespaced_config_map(sandbox.namespace, {"metadata": {"name": LEDGER_CONFIGMAP}})
    namespace = RuledNamespace(sandbox)
    namespace.set_rules()
    yield namespace


class RuledNamespace:
    """Runs in a namespace with a platform team's rules."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.runs = sandbox.runs
        self.api = sandbox.api

    def set_rules(self, **more: str) -> None:
        """Write `RULES` to the namespace's ConfigMap, with these additions and changes."""
        data = RULES | {name.replace("_", "-"): value for name, value in more.items()}
        core = client.CoreV1Api(self.sandbox.kind_api)
        core.patch_namespaced_config_map("skjob-defaults", self.sandbox.namespace, {"data": data})

    def objects(self, kind: str) -> list[dict[str, Any]]:
        """Return the objects of a kind that belong to runs."""
        return self.api.list(kind, self.sandbox.namespace, selector="app.kubernetes.io/managed-by=skjob,skjob/run")

    def entry(self, key: str) -> Entry:
        """Return one entry of the ledger."""
        return self.entries()[key]

    def entries(self) -> Mapping[str, Entry]:
        """Return the entries of the ledger."""
        return read_ledger(self.api, self.sandbox.namespace)


rules_test = partial(side_by_side, setup=ruled_namespace)
"""Turns a scenario that takes a `RuledNamespace` into a test."""


@rules_test(waits=True)
def test_run_ends_before_its_budget_is_spent(ruled: RuledNamespace) -> None:
    with ruled.runs.searching("--workers", "5", "--max-cost", "160", "--", "400", script=SLEEPING) as run:
        for kind in ("Job", "ConfigMap", "DaskCluster", "DaskWorkerGroup", "Deployment", "Service", "Pod"):
            objects = ruled.objects(kind)
            assert objects, kind
            assert all(each["metadata"]["labels"]["skjob/team"] == "data-science" for each in objects), kind
        pods = ruled.objects("Pod")
        assert sum(pod["metadata"]["labels"]["dask.org/component"] == "worker" for pod in pods) == 2
        for pod in pods:
            assert pod["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux"}
            assert {"key": "batch", "operator": "Exists", "effect": "NoSchedule"} in pod["spec"]["tolerations"]
            assert pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-queue"
        [anchor] = ruled.objects("Job")
        assert "kueue.x-k8s.io/queue-name" not in anchor["metadata"]["labels"]

        # Poll in this process: starting a command for each poll would take time, which costs.
        until(lambda: (runs(ruled.api, ruled.sandbox.namespace)[0].cost or 0) > 5, "the run costs nothing")
        with ThreadPoolExecutor(2) as pool:  # in parallel, before the budget is spent
            as_table, as_json = pool.map(lambda options: ruled.runs.skjob("ps", *options), [(), ("--json",)])
        heading, row = as_table.stdout.splitlines()
        assert "COST" in heading
        assert " EUR" in row
        [listed] = json.loads(as_json.stdout)
        assert 5 < listed["cost"] < 160
        assert listed["currency"] == "EUR"
        running_entry = ruled.entry(listed["run_id"])
        assert (running_entry.program, running_entry.currency) == ("train", "EUR")
        assert running_entry.until > running_entry.at
        stdout, stderr = run.communicate(timeout=DEADLINE)
    assert run.returncode == 125, stderr
    assert "2 workers instead of 5: `limits.max-workers` of ConfigMap " in stderr
    assert "would cost more than `--max-cost`, 160.00 EUR, by the time it is removed" in stderr
    assert "run the same command again to resume" in stderr
    assert stdout == ""
    [record] = ruled.runs.records()
    assert record["cost"]["currency"] == "EUR"
    assert record["cost"]["most"] == 160
    assert 30 < record["cost"]["amount"] <= 160
    assert f"cost: {record['cost']['amount']:.2f} EUR" in stderr
    ended = ruled.entry(record["run_id"])
    assert (ended.amount, ended.rate, ended.until) == (record["cost"]["amount"], 0, "")

    second = ruled.runs.run(SLEEPING, "--", "10")
    assert (second.returncode, second.stdout) == (0, "searching\n10\n"), second.stderr
    record = ruled.runs.records()[-1]
    assert record["fits"]["found"] == 20
    assert "most" not in record["cost"]

    costs = ruled.runs.skjob("costs")
    assert costs.returncode == 0, costs.stderr
    total = sum(each["cost"]["amount"] for each in ruled.runs.records())
    assert costs.stdout.splitlines()[-1].split() == ["total", "2", f"{total:.2f}", "EUR"]


@rules_test(waits=True)
def test_run_of_a_killed_client_ends_when_its_budget_is_spent(ruled: RuledNamespace) -> None:
    """Kubernetes ends the run when its budget is spent, not `--grace` later. The ledger estimates its cost until then,
    as no client is left to record it; its user may not list nodes."""
    ruled.set_rules(**{"limits.max-time": "8h"})
    sandbox = ruled.sandbox
    sandbox.runs.environment = user_environment(
        sandbox.kind_api, sandbox.runs.environment, sandbox.namespace, sandbox.folder, may_run=True
    )
    doctor = ruled.runs.skjob("doctor", "--skip-image")
    assert doctor.returncode == 0, doctor.stdout
    assert "a run may have 2 workers, 28800 s, as set by ConfigMap " in doctor.stdout
    assert "counted in EUR, and added to the team's totals" in doctor.stdout

    command = ruled.runs.command(SLEEPING, "--max-cost", "100", "--grace", "5m", "--", "200")
    with subprocess.Popen(
        command, cwd=ruled.runs.folder, env=ruled.runs.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        try:
            until(lambda: ruled.entries() and ruled.objects("Pod"), "the run has no entry or no pod")
        finally:
            run.kill()
    [listed] = ruled.objects("DaskCluster")
    key = listed["metadata"]["labels"]["skjob/run"]
    entry = ruled.entry(key)
    assert entry.rate == pytest.approx(0.25 * CPU_HOUR)
    until(lambda: not ruled.objects("Pod"), "its pods were not deleted", 300)
    now = datetime.now(UTC)
    assert now < datetime.fromisoformat(entry.until) + timedelta(seconds=240)  # and not later, with `--grace`
    total = entry.by(now + timedelta(hours=1))
    assert entry.amount + 10 < total < 100
    costs = ruled.runs.skjob("costs", "--by", "program", "--since", "1h")
    assert costs.stdout.splitlines()[1].split() == ["train", "1", f"{entry.by(now):.2f}", "EUR"]
    print(f"killed after {entry.amount:.0f} of 100 EUR; estimated at its deadline: {total:.2f}")


@rules_test
def test_warm_cluster_is_limited_to_the_maximum_number_of_workers(ruled: RuledNamespace) -> None:
    started = ruled.runs.skjob("up", "dev", "--workers", "1:9")
    assert started.returncode == 0, started.stderr
    assert "1:2 workers instead of 1:9: `limits.max-workers` of ConfigMap " in started.stderr
    [idle] = json.loads(ruled.runs.skjob("ps", "--json").stdout)
    ruled.set_rules(**{"limits.max-workers": "1"})
    run = ruled.runs.run("from joblib import Parallel, delayed\nParallel()(delayed(abs)(1) for _ in range(9))",
                        "--cluster", "dev", "--workers", "100")  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "1 workers instead of 100: `limits.max-workers` of ConfigMap " in run.stderr
    [after_use] = json.loads(ruled.runs.skjob("ps", "--json").stdout)
    [record] = ruled.runs.records()
    assert after_use["cost"] > idle["cost"] + record["cost"]["amount"] > 0
    # The run pays for the time of its use, the cluster's owner for the rest.
    cluster, use = ruled.entry(after_use["run_id"]), ruled.entry(record["run_id"])
    assert use.amount == record["cost"]["amount"]
    assert cluster.rate == pytest.approx(0.15 * CPU_HOUR)
    assert cluster.until > cluster.at
    assert ruled.runs.skjob("down", "dev").returncode == 0
    assert ruled.entry(after_use["run_id"]).rate == 0


@rules_test
def test_cached_environment_has_its_own_ledger_entry(ruled: RuledNamespace) -> None:
    ruled.set_rules(prices="[{cpu-hour: 0, gib-hour: 3600}]")
    (ruled.runs.folder / "packages.txt").write_text("humanize==4.12.0\n")
    run = ruled.runs.run("print('ran')", "--env", "packages.txt")
    assert (run.returncode, run.stdout) == (0, "ran\n"), run.stderr
    listed = json.loads(ruled.runs.skjob("ps", "--json").stdout)
    [environment] = [each for each in listed if each["program"] == "environment"]
    entry = ruled.entry(environment["run_id"])
    assert (entry.program, entry.rate) == ("environment", 3600)
    assert environment["cost"] == pytest.approx(environment["age_seconds"], abs=30)
    assert ruled.runs.skjob("down", environment["name"]).returncode == 0
    later = datetime.now(UTC) + timedelta(hours=1)
    assert environment["cost"] < ruled.entry(environment["run_id"]).by(later) < environment["cost"] + DEADLINE


@rules_test
def test_missing_ledger_is_reported_once(ruled: RuledNamespace) -> None:
    ruled.api.delete("ConfigMap", LEDGER_CONFIGMAP, ruled.sandbox.namespace)
    run = ruled.runs.run("print('done')")
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr
    assert run.stderr.count("are not added to the team's totals: namespace") == 1
    costs = ruled.runs.skjob("costs")
    assert costs.returncode == 124
    assert f"create configmap {LEDGER_CONFIGMAP}`" in costs.stderr


@rules_test
def test_max_cost_without_prices_and_oversized_workers_are_rejected(ruled: RuledNamespace) -> None:
    ruled.set_rules(prices="[]", **{"limits.max-cpu": "50m"})
    run = ruled.runs.run("print('never')", "--max-cost", "5")
    assert run.returncode == 120
    assert "`max-cost` requires prices" in run.stderr
    assert "a worker of 0.1 cores is more than a run may have, `limits.max-cpu`, 0.05, of ConfigMap " in run.stderr
    assert run.stdout == ""
