"""Find and summarize skjob's objects in a cluster.

Labels decide: an object is skjob's if it is labelled `managed-by: skjob` and carries the label of a run; nothing else
is ever listed. `cleanup.py` removes what is found here.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import NotFound
from skjob.deploy.kubernetes.costs.prices import read_cost, rounded
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests import labels as names
from skjob.errors import ConfigError, ForbiddenError

ANCHOR_KIND = "Job"

RUN_KINDS = (
    ANCHOR_KIND,
    "DaskCluster",
    "DaskWorkerGroup",
    "Deployment",
    "Pod",
    "Service",
    "ConfigMap",
)
"""Kinds of a run's objects that every user of skjob may list."""

DERIVED_KINDS = ("ReplicaSet", "EndpointSlice", "Endpoints", "Secret", "NetworkPolicy")
"""Kinds that go with their owners and that not every user may list; included if that is allowed."""

OVERDUE = 15.0
"""Seconds after its deadline or the request to delete it in which Kubernetes removes a run by itself.

It usually takes two or three. On a node that does not answer, no pod ever ends.
"""

PARALLEL = 6
"""Number of parallel requests."""

_RUN_SELECTOR = f"{names.MANAGED_BY_SKJOB},{names.RUN_LABEL}"


class RunState(StrEnum):
    """The state of a run's cluster."""

    STARTING = "starting"
    """Its scheduler is not running yet."""
    RUNNING = "running"
    KEPT = "kept"
    """`skjob up` or `--keep` has left it running for a while, and no run uses it."""
    IN_USE = "in use"
    """It was kept, and a run uses it."""
    REMOVING = "removing"
    """Its deletion was requested, or its anchor is gone and the rest follows."""
    ABANDONED = "abandoned"
    """Objects without an owner: only `skjob gc` and `skjob down` remove them."""


@dataclass(frozen=True)
class RunningCluster:
    """One run's objects in the cluster. Times are in seconds; `expires_in` is what the next heartbeat would extend.

    `used_by` is the run that uses a kept cluster, as `user@host for program`; empty if none does. `account` is that
    run's entry in the ledger, also if it died and has been paying since. `removing_for` is how long ago the removal was
    requested, None if it was not; `overdue` is how long ago the anchor's deadline passed. `cost` is what it has cost so
    far, None if unknown.
    """

    name: str
    namespace: str
    run_id: str
    user: str
    program: str
    age_seconds: float
    workers: int
    workers_asked: int
    kept_until: datetime | None
    expires_in: float | None
    state: RunState
    used_by: str = ""
    account: str = ""
    removing_for: float | None = None
    overdue: float = 0.0
    cost: float | None = None
    currency: str = ""


def runs(api: Api, namespace: str | None) -> list[RunningCluster]:
    """Return every run that has objects in a namespace, the oldest first; in all namespaces if it is None."""
    objects = _list_all(api, RUN_KINDS, namespace or "", _RUN_SELECTOR)
    return summarize(objects, api.now())


def summarize(objects: Mapping[str, list[Manifest]], now: datetime) -> list[RunningCluster]:
    """Return the runs that these objects, by kind, belong to."""
    by_run: dict[tuple[str, str], list[tuple[str, Manifest]]] = defaultdict(list)
    for kind, manifests in objects.items():
        for manifest in manifests:
            metadata = manifest["metadata"]
            by_run[metadata.get("namespace", ""), metadata["labels"][names.RUN_LABEL]].append((kind, manifest))
    clusters = [_summary(namespace, run_id, items, now) for (namespace, run_id), items in by_run.items()]
    return sorted(clusters, key=lambda run: (-run.age_seconds, run.namespace, run.name))


def _summary(namespace: str, run_id: str, items: list[tuple[str, Manifest]], now: datetime) -> RunningCluster:
    of_kind: dict[str, list[Manifest]] = defaultdict(list)
    for kind, manifest in items:
        of_kind[kind].append(manifest)
    anchor = next(iter(of_kind[ANCHOR_KIND]), None)
    # The operator copies labels and annotations, so any object describes the run; the anchor does it best.
    source = anchor or items[0][1]
    labels, annotations = source["metadata"]["labels"], source["metadata"].get("annotations") or {}
    kept_until = _time(annotations.get(names.KEPT_ANNOTATION))
    use = read_use(annotations.get(names.USE_ANNOTATION))
    used_by = _used_by(use, now)
    remaining = _remaining(anchor, now) if anchor else math.inf
    workers = [pod for pod in of_kind["Pod"] if _component(pod) == "worker"]
    cost = read_cost(annotations.get(names.COST_ANNOTATION)) if anchor else None
    state = _state(anchor, of_kind, kept_until, used_by)
    return RunningCluster(
        name=labels.get(names.INSTANCE_LABEL, source["metadata"]["name"]),
        namespace=namespace,
        run_id=run_id,
        user=names.shown(annotations.get(names.USER_ANNOTATION) or labels.get(names.USER_LABEL, "")),
        program=names.shown(annotations.get(names.PROGRAM_ANNOTATION, "")),
        age_seconds=age(source, now),
        workers=sum(_runs(pod) for pod in workers),
        workers_asked=sum(_component(deployment) == "worker" for deployment in of_kind["Deployment"]),
        kept_until=kept_until,
        expires_in=max(0.0, remaining) if remaining < math.inf else None,
        state=state,
        used_by=used_by,
        account=str(use.get("account", "")),
        # A live run may have terminating pods too: of workers that were released, or whose node is lost.
        removing_for=removing_for(_terminating_owners(anchor, of_kind) or [manifest for _, manifest in items], now)
        if state is RunState.REMOVING
        else None,
        overdue=max(0.0, -remaining),
        cost=None if cost is None else rounded(cost.by(now)),
        currency="" if cost is None else cost.currency,
    )


def read_use(text: str | None) -> Mapping[str, object]:
    """Return what the last run that used a cluster recorded; empty if it has left, or that cannot be read."""
    try:
        use = json.loads(text or "{}")
    except ValueError:
        return {}
    return use if isinstance(use, dict) else {}


def _used_by(use: Mapping[str, object], now: datetime) -> str:
    """Return who uses a kept cluster; empty if nobody has reported that lately."""
    until = _time(str(use.get("until", "")))
    used = f"{use.get('owner')} for `{use.get('program')}`"
    return names.shown(used) if until is not None and until > now else ""


def _state(
    anchor: Manifest | None, of_kind: Mapping[str, list[Manifest]], kept_until: datetime | None, used_by: str
) -> RunState:
    if _terminating_owners(anchor, of_kind):
        return RunState.REMOVING
    if anchor is None:
        # Kubernetes is about to collect objects whose owner is gone.
        orphaned = any(is_orphan(manifest) for manifests in of_kind.values() for manifest in manifests)
        return RunState.ABANDONED if orphaned else RunState.REMOVING
    if kept_until is not None:
        return RunState.IN_USE if used_by else RunState.KEPT
    schedulers = [pod for pod in of_kind.get("Pod", []) if _component(pod) == "scheduler"]
    return RunState.RUNNING if any(_runs(pod) for pod in schedulers) else RunState.STARTING


def _terminating_owners(anchor: Manifest | None, of_kind: Mapping[str, list[Manifest]]) -> list[Manifest]:
    """Return the owners of the rest whose deletion was requested."""
    owners = [*([anchor] if anchor else []), *of_kind.get("DaskCluster", [])]
    return [manifest for manifest in owners if "deletionTimestamp" in manifest["metadata"]]


def is_orphan(manifest: Manifest) -> bool:
    """Return whether an object has no owner and its deletion was not requested."""
    return not manifest["metadata"].get("ownerReferences") and "deletionTimestamp" not in manifest["metadata"]


def _component(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("labels", {}).get("dask.org/component", ""))


def _runs(pod: Manifest) -> bool:
    return pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


def _time(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


def age(manifest: Manifest, now: datetime) -> float:
    """Return the seconds since an object was created."""
    created = _time(manifest["metadata"].get("creationTimestamp")) or now
    return max(0.0, (now - created).total_seconds())


def removing_for(manifests: Iterable[Manifest], now: datetime) -> float | None:
    """Return the seconds since the deletion of the first of these objects was requested."""
    requested = [_time(manifest["metadata"].get("deletionTimestamp")) for manifest in manifests]
    return max(((now - moment).total_seconds() for moment in requested if moment is not None), default=None)


def _remaining(anchor: Manifest, now: datetime) -> float:
    """Return the seconds until the anchor's deadline.

    Kubernetes counts it from when the Job's controller first saw the Job.
    """
    limit = anchor.get("spec", {}).get("activeDeadlineSeconds")
    if limit is None:
        return math.inf
    status = anchor.get("status") or {}
    started = _time(status.get("startTime")) or _time(anchor["metadata"].get("creationTimestamp")) or now
    return float(limit) - (now - started).total_seconds()


def choose(clusters: Sequence[RunningCluster], chosen: Sequence[str] | None, user: str | None) -> list[RunningCluster]:
    """Return the runs with the chosen names; without names, those of a user; without either, all.

    Raises:
        ConfigError: a name is not among them; the hint lists those that are.
    """
    if chosen is None:
        return [run for run in clusters if user is None or run.user == user]
    by_name = {run.name: run for run in clusters}
    unknown = [name for name in dict.fromkeys(chosen) if name not in by_name]
    if unknown:
        existing = ", ".join(f"`{name}`" for name in by_name)
        hint = (
            f"there is {existing}"
            if existing
            else "no cluster exists here; choose another namespace with `--namespace`"
        )
        raise ConfigError.collect([f"there is no cluster `{name}` in this namespace" for name in unknown], hint)
    return [by_name[name] for name in dict.fromkeys(chosen)]


def run_of(api: Api, name: str, namespace: str) -> str:
    """Return the id of the run whose objects carry this name. Raise NotFound if there is none."""
    selector = f"{_RUN_SELECTOR},{names.INSTANCE_LABEL}={name}"
    for manifests in _list_all(api, RUN_KINDS, namespace, selector).values():
        for manifest in manifests:
            return str(manifest["metadata"]["labels"][names.RUN_LABEL])
    raise NotFound(
        f"there is no cluster `{name}` in namespace `{namespace}`",
        f"`skjob ps --namespace {namespace}` lists the clusters there",
    )


def selector_of(run_id: str) -> str:
    return f"{names.MANAGED_BY_SKJOB},{names.RUN_LABEL}={run_id}"


def _list_all(api: Api, kinds: Iterable[str], namespace: str, selector: str) -> dict[str, list[Manifest]]:
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="skjob-list") as pool:
        return list_kinds(pool, api, kinds, namespace, selector)


def list_kinds(
    pool: ThreadPoolExecutor, api: Api, kinds: Iterable[str], namespace: str, selector: str
) -> dict[str, list[Manifest]]:
    futures = {kind: pool.submit(_list, api, kind, namespace, selector) for kind in kinds}
    return {kind: future.result() for kind, future in futures.items()}


def _list(api: Api, kind: str, namespace: str, selector: str) -> list[Manifest]:
    try:
        return api.list(kind, namespace, selector=selector)
    except NotFound:
        return []  # the API does not know the kind: no operator was ever installed
    except ForbiddenError:
        if kind in DERIVED_KINDS:
            return []
        raise
