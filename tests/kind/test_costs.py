"""What a platform team says in a namespace, in real runs: where pods go, how many there are, and what they cost."""

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
from support.side_by_side import Stage, side_by_side
from support.users import user_environment
from support.wait import until

from skjob.deploy.kubernetes.costs.ledger import Entry, read_ledger
from skjob.deploy.kubernetes.inventory.runs import runs
from skjob.deploy.kubernetes.manifests.labels import LEDGER_CONFIGMAP

CPU_HOUR = 8640
"""Two workers of 100m and a scheduler of 50m cost 0.6 EUR a second: 160 EUR last for a start on a busy machine."""

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
def ruled(stage: Stage) -> Iterator[Ruled]:
    """A namespace with rules and a ledger."""
    core = client.CoreV1Api(stage.kind_api)
    core.create_namespaced_config_map(stage.namespace, {"metadata": {"name": LEDGER_CONFIGMAP}})
    namespace = Ruled(stage)
    namespace.rule()
    yield namespace


class Ruled:
    """Runs in a namespace whose platform team has rules."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.runs = stage.runs
        self.api = stage.api

    def rule(self, **more: str) -> None:
        """Put rules into the namespace's ConfigMap: `RULES`, and some more or others."""
        data = RULES | {name.replace("_", "-"): value for name, value in more.items()}
        core = client.CoreV1Api(self.stage.kind_api)
        core.patch_namespaced_config_map("skjob-defaults", self.stage.namespace, {"data": data})

    def of_the_run(self, kind: str) -> list[dict[str, Any]]:
        """The objects of a kind that belong to runs."""
        return self.api.list(kind, self.stage.namespace, selector="app.kubernetes.io/managed-by=skjob,skjob/run")

    def entry(self, key: str) -> Entry:
        """One entry of the ledger."""
        return self.entries()[key]

    def entries(self) -> Mapping[str, Entry]:
        """The ledger."""
        return read_ledger(self.api, self.stage.namespace)


within_rules = partial(side_by_side, stage=ruled)
"""Makes a test of a scenario that takes `Ruled`."""


@within_rules(waits=True)
def test_a_run_within_its_teams_rules_ends_before_its_money_does(ruled: Ruled) -> None:
    with ruled.runs.searching("--workers", "5", "--max-cost", "160", "--", "400", script=SLEEPING) as run:
        for kind in ("Job", "ConfigMap", "DaskCluster", "DaskWorkerGroup", "Deployment", "Service", "Pod"):
            found = ruled.of_the_run(kind)
            assert found, kind
            assert all(each["metadata"]["labels"]["skjob/team"] == "data-science" for each in found), kind
        pods = ruled.of_the_run("Pod")
        assert sum(pod["metadata"]["labels"]["dask.org/component"] == "worker" for pod in pods) == 2
        for pod in pods:
            assert pod["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux"}
            assert {"key": "batch", "operator": "Exists", "effect": "NoSchedule"} in pod["spec"]["tolerations"]
            assert pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-queue"
        [anchor] = ruled.of_the_run("Job")
        assert "kueue.x-k8s.io/queue-name" not in anchor["metadata"]["labels"]

        # Each second costs: no command is started for each look.
        until(lambda: (runs(ruled.api, ruled.stage.namespace)[0].cost or 0) > 5, "it costs nothing")
        with ThreadPoolExecutor(2) as pool:  # at the same time: the money does not last for ever
            seen, as_json = pool.map(lambda options: ruled.runs.skjob("ps", *options), [(), ("--json",)])
        heading, row = seen.stdout.splitlines()
        assert "COST" in heading
        assert " EUR" in row
        [listed] = json.loads(as_json.stdout)
        assert 5 < listed["cost"] < 160
        assert listed["currency"] == "EUR"
        going = ruled.entry(listed["run_id"])
        assert (going.program, going.currency) == ("train", "EUR")
        assert going.until > going.at
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

    told = ruled.runs.skjob("costs")
    assert told.returncode == 0, told.stderr
    total = sum(each["cost"]["amount"] for each in ruled.runs.records())
    assert told.stdout.splitlines()[-1].split() == ["total", "2", f"{total:.2f}", "EUR"]


@within_rules(waits=True)
def test_what_a_run_costs_whose_client_is_killed(ruled: Ruled) -> None:
    """By a user who may not look at nodes: Kubernetes ends it when its money is spent, and not `--grace` later, with
    nobody left to write down what it costs until then."""
    ruled.rule(**{"limits.max-time": "8h"})
    stage = ruled.stage
    stage.runs.environment = user_environment(
        stage.kind_api, stage.runs.environment, stage.namespace, stage.folder, may_run=True
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
            until(lambda: ruled.entries() and ruled.of_the_run("Pod"), "it has no entry and no pod")
        finally:
            run.kill()
    [listed] = ruled.of_the_run("DaskCluster")
    key = listed["metadata"]["labels"]["skjob/run"]
    entry = ruled.entry(key)
    assert entry.rate == pytest.approx(0.25 * CPU_HOUR)
    until(lambda: not ruled.of_the_run("Pod"), "its pods did not go", 300)
    now = datetime.now(UTC)
    assert now < datetime.fromisoformat(entry.until) + timedelta(seconds=60)
    total = entry.by(now + timedelta(hours=1))
    assert entry.amount + 10 < total < 100
    told = ruled.runs.skjob("costs", "--by", "program", "--since", "1h")
    assert told.stdout.splitlines()[1].split() == ["train", "1", f"{entry.by(now):.2f}", "EUR"]
    print(f"killed after {entry.amount:.0f} of 100 EUR; gone at {total:.2f}, told from its deadline")


@within_rules
def test_no_cluster_has_more_workers_than_a_run_may_have(ruled: Ruled) -> None:
    started = ruled.runs.skjob("up", "dev", "--workers", "1:9")
    assert started.returncode == 0, started.stderr
    assert "1:2 workers instead of 1:9: `limits.max-workers` of ConfigMap " in started.stderr
    [idle] = json.loads(ruled.runs.skjob("ps", "--json").stdout)
    ruled.rule(**{"limits.max-workers": "1"})
    run = ruled.runs.run("from joblib import Parallel, delayed\nParallel()(delayed(abs)(1) for _ in range(9))",
                        "--cluster", "dev", "--workers", "100")  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "1 workers instead of 100: `limits.max-workers` of ConfigMap " in run.stderr
    [left] = json.loads(ruled.runs.skjob("ps", "--json").stdout)
    [record] = ruled.runs.records()
    assert left["cost"] > idle["cost"] + record["cost"]["amount"] > 0
    # Whoever uses it pays for that, whoever has left it for the rest: together they pay it all.
    cluster, use = ruled.entry(left["run_id"]), ruled.entry(record["run_id"])
    assert use.amount == record["cost"]["amount"]
    assert cluster.rate == pytest.approx(0.15 * CPU_HOUR)
    assert cluster.until > cluster.at
    assert ruled.runs.skjob("down", "dev").returncode == 0
    assert ruled.entry(left["run_id"]).rate == 0


@within_rules
def test_what_is_kept_for_later_runs_has_an_entry_of_its_own(ruled: Ruled) -> None:
    ruled.rule(prices="[{cpu-hour: 0, gib-hour: 3600}]")
    (ruled.runs.folder / "packages.txt").write_text("humanize==4.12.0\n")
    run = ruled.runs.run("print('ran')", "--env", "packages.txt")
    assert (run.returncode, run.stdout) == (0, "ran\n"), run.stderr
    listed = json.loads(ruled.runs.skjob("ps", "--json").stdout)
    [kept] = [each for each in listed if each["program"] == "environment"]
    entry = ruled.entry(kept["run_id"])
    assert (entry.program, entry.rate) == ("environment", 3600)
    assert kept["cost"] == pytest.approx(kept["age_seconds"], abs=5)
    assert ruled.runs.skjob("down", kept["name"]).returncode == 0
    later = datetime.now(UTC) + timedelta(hours=1)
    assert kept["cost"] < ruled.entry(kept["run_id"]).by(later) < kept["cost"] + 60


@within_rules
def test_a_namespace_without_a_ledger_says_so_once(ruled: Ruled) -> None:
    ruled.api.delete("ConfigMap", LEDGER_CONFIGMAP, ruled.stage.namespace)
    run = ruled.runs.run("print('done')")
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr
    assert run.stderr.count("are not added to the team's totals: namespace") == 1
    told = ruled.runs.skjob("costs")
    assert told.returncode == 124
    assert f"create configmap {LEDGER_CONFIGMAP}`" in told.stderr


@within_rules
def test_a_cost_without_prices_and_a_worker_too_large_are_refused_at_once(ruled: Ruled) -> None:
    ruled.rule(prices="[]", **{"limits.max-cpu": "50m"})
    run = ruled.runs.run("print('never')", "--max-cost", "5")
    assert run.returncode == 120
    assert "`max-cost` requires prices" in run.stderr
    assert "a worker of 0.1 cores is more than a run may have, `limits.max-cpu`, 0.05, of ConfigMap " in run.stderr
    assert run.stdout == ""
