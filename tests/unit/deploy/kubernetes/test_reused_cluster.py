"""Test a kept cluster as the next run finds it, and leaves it."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from run_values import a_run

from skjob import errors
from skjob.config.environment_variables import Variables
from skjob.config.namespace_policy import Limits, NamespacePolicy
from skjob.config.nodes import NodePool, Price, Prices
from skjob.config.plan import NO_RULES, Machine, Plan, WorkerSize, make_plan
from skjob.config.settings import Place, Settings, WorkerRange
from skjob.config.sources import Layer, arguments, flags, resolve
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.api.errors import NotFound
from skjob.deploy.kubernetes.compatibility import this_skjob
from skjob.deploy.kubernetes.costs.ledger import Entry, read_entries
from skjob.deploy.kubernetes.costs.meter import BillingKey
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests import run as manifest
from skjob.deploy.kubernetes.manifests.labels import IDLE_ANNOTATION, USE_ANNOTATION, WORKERS_ANNOTATION, RunNames
from skjob.deploy.kubernetes.manifests.pods import anchor_job
from skjob.deploy.kubernetes.reused_cluster import ReusedCluster
from skjob.deploy.kubernetes.run_lock import new_lock
from skjob.errors import ClusterLost, ConfigError, StartError, Unanswered
from skjob.run.run import RunOptions
from skjob.run.target import RunTarget, create_cluster
from skjob.utils.tls import VALID_FOR, make_certificates

pytestmark = pytest.mark.unit

NAMES = RunNames("20261126-120000-aaaaaa", "skjob up", "ann", existing="dev")


def _plan(workers: WorkerRange) -> Plan:
    settings = Settings(workers=workers)
    return make_plan(settings, Place.KUBERNETES, "", Machine(2, 2**33), "3.11")


class _Left(Api):
    """Return the objects of a cluster with the range 1:20, and so many workers by now."""

    def __init__(self, workers: int, *, lists: bool = True) -> None:
        super().__init__(None, Context("c", "team", "https://api"))
        self.lists = lists
        anchor = anchor_job(NAMES, "team", 600, made_by=this_skjob().annotations())
        anchor["metadata"]["annotations"] |= {WORKERS_ANNOTATION: "1:20", IDLE_ANNOTATION: "600"}
        files = make_certificates("dev").files()
        self.objects: dict[str, Manifest] = {
            "Secret": {"data": {name: base64.b64encode(content).decode() for name, content in files.items()}},
            "DaskCluster": manifest.dask_cluster(NAMES, "team", _plan(WorkerRange(1, 20)), None),
            "DaskWorkerGroup": {"spec": {"worker": {"replicas": workers}}},
            "Job": anchor,
            "ConfigMap": {"data": {}},
        }
        self.deadlines: list[int] = []
        self.replicas: list[int] = []
        self.deleted: list[str] = []

    def get(self, kind: str, name: str, namespace: str = "") -> Manifest:
        if kind not in self.objects:
            raise NotFound(f"there is no {kind} {name}")
        return self.objects[kind]

    def create(self, manifest: Manifest, *, strict: bool = False, dry_run: bool = False) -> Manifest:
        assert dry_run
        return manifest

    def list(self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "") -> list[Any]:
        if not self.lists:
            raise Unanswered("the API does not answer")
        if kind == "Pod":
            return []
        assert kind == "Deployment"
        return [{"metadata": {"name": f"dev-default-worker-{number}"}} for number in range(20)]

    def patch(self, kind: str, name: str, namespace: str, patch: Manifest, *, timeout: float | None = None) -> Manifest:
        if kind == "Job" and "spec" in patch:
            self.deadlines.append(patch["spec"]["activeDeadlineSeconds"])
        elif kind == "DaskWorkerGroup":
            self.replicas.append(patch["spec"]["worker"]["replicas"])
        elif kind == "Job" and kind in self.objects:
            metadata = self.objects[kind]["metadata"]
            metadata["annotations"] = metadata["annotations"] | patch["metadata"]["annotations"]
        elif kind == "ConfigMap":
            self.objects[kind]["data"] |= patch["data"]
        return {}

    def delete(self, kind: str, name: str, namespace: str = "", *, uid: str = "", at_once: bool = False) -> bool:
        self.deleted.append(name)
        return True


def _used(api: Api, folder: Path, monkeypatch: pytest.MonkeyPatch, rules: NamespacePolicy = NO_RULES) -> ReusedCluster:
    """Use the cluster for a run, without a connection to its scheduler."""
    account = BillingKey("20261126-130000-bbbbbb", "bob", "train")
    plan = replace(_plan(WorkerRange(1, 20)), rules=rules.in_pool(None))
    kept = ReusedCluster(api, "dev", plan, rules, folder, lambda _: None, account)
    monkeypatch.setattr(kept, "_connect", lambda _: None)
    kept.start()
    kept.use(new_lock("train.py"))
    return kept


def test_what_is_asked_in_vain_of_a_cluster_that_is_there_is_told(tmp_path: Path) -> None:
    def told(given: Layer, *, keep: bool = False) -> list[str]:
        notes: list[str] = []
        private = tmp_path / str(len(list(tmp_path.iterdir())))
        private.mkdir()
        target = RunTarget(Place.KUBERNETES, "", resolve([given]), api=_Left(1))
        options = RunOptions(keep=keep, cluster="dev")
        create_cluster(a_run(notes.append, folder=private, target=target, plan=target.plan(), options=options))
        return notes

    assert told(flags({"workers": "2", "max_time": "1h"})) == []
    assert told(flags({"worker_memory": "16Gi"})) == [
        "ignoring `--worker-memory`: cluster `dev` keeps what it was started with"
    ]
    assert told(flags({"grace": "1m", "image": "x:1"}), keep=True) == [
        "ignoring `--image`, `--grace` and `--keep`: cluster `dev` keeps what it was started with"
    ]
    assert told(arguments({"worker_cpu": "2"})) == [
        "ignoring `worker_cpu=`: cluster `dev` keeps what it was started with"
    ]


def test_a_run_has_the_variables_of_its_cluster_and_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's own variables are sent to the workers, which start with the cluster's."""
    monkeypatch.setattr(errors, "_hidden", [])
    api, notes = _Left(1), list[str]()
    theirs = Variables({"LEVEL": "1", "GREETING": "$5"}, {"TOKEN": "sesame", "OTHER": "cucumber"})
    api.objects["DaskCluster"] = manifest.dask_cluster(NAMES, "team", _plan(WorkerRange(1, 1)), None, variables=theirs)
    api.objects["Secret"]["data"] |= {"TOKEN": _encoded("sesame"), "OTHER": _encoded("cucumber")}
    own = Variables({"LEVEL": "2", "GOOGLE_APPLICATION_CREDENTIALS": "key.json"}, {"OTHER": "open it"})
    run = a_run(
        notes.append,
        folder=tmp_path,
        target=RunTarget(Place.KUBERNETES, "", resolve([flags({})]), api=api),
        options=RunOptions(cluster="dev"),
        variables=own,
    )
    found = create_cluster(run).variables
    assert found.inherited == {"GREETING": "$5", "TOKEN": "sesame"}
    assert found.sent == ("LEVEL", "OTHER")
    assert set(found.given) == {"LEVEL", "GREETING", "GOOGLE_APPLICATION_CREDENTIALS", "TOKEN", "OTHER"}
    assert set(found.secret) == {"TOKEN", "OTHER"}
    assert "sesame" not in f"{found} {run}"
    assert notes == ["cluster `dev` sets `GREETING` and `TOKEN` for every run on it"]
    assert errors.without_secrets("it is sesame") == "it is ****"


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_a_cluster_of_another_skjob_is_refused_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = _Left(1)
    api.objects["Job"]["metadata"]["annotations"]["skjob/source"] = "another"
    with pytest.raises(StartError, match="`dev` was started by another build of skjob"):
        _used(api, tmp_path, monkeypatch)
    assert api.deadlines == []


def test_workers_of_a_run_that_was_killed_go_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = _Left(20)
    kept = _used(api, tmp_path, monkeypatch)
    assert (kept.requested(), kept.workers) == (20, WorkerRange(1, 20))
    kept.close()
    assert len(api.deleted) == 19
    assert api.replicas == [1]


def test_workers_that_can_not_be_listed_do_not_shorten_its_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = _Left(20, lists=False)
    kept = _used(api, tmp_path, monkeypatch)
    api.deadlines.clear()
    kept.close()
    assert api.deadlines == [600]


def test_a_run_that_died_on_it_pays_until_the_next_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api, now = _Left(1), datetime.now(UTC)
    last, later = now - timedelta(hours=1), now + timedelta(hours=3)
    died = Entry("eve", "old", last.isoformat(), 1.0, "EUR", 2.0, last.isoformat(), later.isoformat())
    api.objects["ConfigMap"]["data"]["died"] = died.as_json()
    api.objects["Job"]["metadata"]["annotations"][USE_ANNOTATION] = json.dumps({"account": "died"})
    rules = NamespacePolicy(prices=Prices((Price(1.0, 0.0),), "EUR"))
    _used(api, tmp_path, monkeypatch, rules).close()
    ended = read_entries(api.objects["ConfigMap"]["data"])["died"]
    assert ended.by(later) == pytest.approx(3.0, abs=0.05)


def test_a_run_on_it_is_in_the_node_pool_that_it_was_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With that pool's limits, whatever pool the run would be in on a cluster of its own; and its GPUs are counted."""
    pools = (
        NodePool("batch", {"pool": "batch"}),
        NodePool("gpu", {"pool": "gpu"}, limits={"workers": 3, "gpus": 4}, price=None),
    )
    rules = NamespacePolicy(limits=Limits(workers=9), prices=Prices((Price(1.0, 0.0),)), node_pools=pools)
    api = _Left(1)
    started = replace(_plan(WorkerRange(1, 2)), rules=rules.in_pool("gpu"), size=WorkerSize(1.0, 2**30, 1, gpus=2))
    api.objects["DaskCluster"] = manifest.dask_cluster(NAMES, "team", started, None)
    api.objects["ConfigMap"]["data"][NAMES.run_id] = Entry(
        "ann", "dev", datetime.now(UTC).isoformat(), 1.0, "USD"
    ).as_json()
    used = _used(api, tmp_path, monkeypatch, rules)
    plan = used.planned(WorkerRange(1, 20))
    assert plan.rules.node_pool == pools[1]
    assert (plan.workers, plan.size.gpus) == (WorkerRange(1, 2), 2)
    used.close()
    entries = read_entries(api.objects["ConfigMap"]["data"])
    assert (entries[NAMES.run_id].gpus, entries["20261126-130000-bbbbbb"].pool) == (2, "gpu")
    # A pool that the team has taken away: the cluster goes on, within the limits of the namespace.
    api.objects["DaskCluster"]["metadata"]["annotations"]["skjob/node-pool"] = "gone"
    gone = _used(api, tmp_path, monkeypatch, replace(rules, limits=Limits(workers=9, gpus=6)))
    assert gone.planned(WorkerRange(1, 20)).workers == WorkerRange(1, 3)
    gone.close()


@pytest.mark.parametrize("pool", [None, "gone"])
def test_a_cluster_in_no_pool_is_not_in_the_default_one(
    pool: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One from before there were pools, or in a pool that is gone, costs as much as it may on any of their nodes."""
    cheap, dear = Price(1.0, 0.0, {"pool": "batch"}), Price(5.0, 0.0, {"pool": "large"})
    batch = NodePool("batch", {"pool": "batch"}, limits={"workers": 1}, price=cheap)
    rules = NamespacePolicy(
        limits=Limits(workers=9), prices=Prices((cheap, dear)), node_pools=(batch, NodePool("large", {"pool": "large"}))
    )
    api = _Left(1)
    if pool is not None:
        api.objects["DaskCluster"]["metadata"]["annotations"]["skjob/node-pool"] = pool
    used = _used(api, tmp_path, monkeypatch, rules)
    plan = used.planned(WorkerRange(1, 20))
    assert (plan.rules.node_pool, plan.rules.limits.workers, plan.workers) == (None, 9, WorkerRange(1, 9))
    cost = used._costs.cost()
    assert cost is not None
    assert cost.rate == pytest.approx(5.0 * (plan.size.cpu + 0.05))
    used.close()
    assert read_entries(api.objects["ConfigMap"]["data"])["20261126-130000-bbbbbb"].pool == ""


class _Client:
    """A client of a scheduler that another run has locked, or none."""

    id = "Client-1"
    held: dict[str, str] | None = None

    def run_on_scheduler(self, *_: Any, **__: Any) -> dict[str, str] | None:
        return self.held


def test_who_was_cut_off_and_finds_another_run_on_it_leaves_it_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, client = _Left(20), _Client()
    kept = _used(api, tmp_path, monkeypatch)
    kept.verify_lock(client)
    client.held = {"owner": "eve@host", "program": "other.py", "since": "2026-11-26 12:00 UTC"}
    with pytest.raises(
        ClusterLost, match=r"`dev` is in use by eve@host for `other\.py`.* while this run was disconnected"
    ):
        kept.verify_lock(client)
    api.deadlines.clear()
    kept.close()
    assert (api.deleted, api.replicas, api.deadlines) == ([], [], [])


def test_a_worker_that_somebody_else_let_join_takes_no_deployment_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = _Left(20)
    kept = _used(api, tmp_path, monkeypatch)
    kept.remove_workers(["api", "dev-default-worker-3"])
    assert (api.deleted, api.replicas) == (["dev-default-worker-3"], [19])


def test_nothing_begins_on_a_cluster_whose_certificates_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = _Left(1)
    monkeypatch.setattr(api, "now", lambda: datetime.now(UTC) + VALID_FOR - timedelta(hours=1))
    with pytest.raises(StartError, match=r"the certificates of `dev` expire on .* UTC: 30 days after it was started"):
        _used(api, tmp_path, monkeypatch)
    assert api.deadlines == []


@pytest.mark.parametrize(
    "there",
    [
        {"Secret", "Job", "DaskWorkerGroup"},
        {"DaskCluster", "Job", "DaskWorkerGroup"},
        {"Secret"},  # somebody else's, with that name: `kubectl create secret generic dev`
    ],
)
def test_a_cluster_that_is_not_there(tmp_path: Path, there: set[str]) -> None:
    """It is looked up in its namespace: a user who may use one may not be allowed to list all of them."""
    api = _Left(1)
    api.objects = {kind: {"metadata": {}} if there == {"Secret"} else api.objects[kind] for kind in there}
    with pytest.raises(ConfigError, match="there is no cluster `dev` in namespace `team`") as refused:
        ReusedCluster(
            api, "dev", _plan(WorkerRange(1, 1)), NO_RULES, tmp_path, lambda _: None, BillingKey("r", "bob", "train")
        )
    assert refused.value.hint == "`skjob ps --namespace team` lists the clusters there"


def test_a_last_beat_does_not_say_that_what_is_left_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = _Left(1)
    kept = _used(api, tmp_path, monkeypatch)
    assert api.objects["Job"]["metadata"]["annotations"][USE_ANNOTATION]
    monkeypatch.setattr(kept._heartbeat, "join", kept._on_beat)
    kept.close()
    assert api.objects["Job"]["metadata"]["annotations"][USE_ANNOTATION] is None


def test_annotations_that_somebody_has_changed_are_told_together(tmp_path: Path) -> None:
    api = _Left(1)
    api.objects["Job"]["metadata"]["annotations"] |= {WORKERS_ANNOTATION: "all", IDLE_ANNOTATION: "nan"}
    with pytest.raises(ConfigError) as caught:
        ReusedCluster(
            api, "dev", _plan(WorkerRange(1, 1)), NO_RULES, tmp_path, lambda _: None, BillingKey("r", "bob", "train")
        )
    where = "of Job `dev` in namespace `team` must be"
    assert caught.value.problems == [
        f"the annotation `skjob/workers` {where} a number of workers, `4`, or a range, `1:20`, not `all`",
        f"the annotation `skjob/idle-timeout` {where} a duration such as `90s`, `5m` or `1h30m`, not `nan`",
    ]


def test_one_that_was_removed_lived_for_its_idle_timeout_and_not_for_the_runs_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = _Left(1)
    kept = _used(api, tmp_path, monkeypatch)
    del api.objects["Job"]
    gone = kept.lost_reason()
    kept.close()
    assert gone is not None
    assert "after 600 s without a heartbeat" in gone.message
