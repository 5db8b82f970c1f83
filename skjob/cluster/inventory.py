"""What skjob has in a cluster: finding it, counting it, removing it.

Everything here goes by labels: an object is skjob's when it says `managed-by: skjob` and carries the label of a run,
and nothing else is ever listed as such, changed or deleted. A run is normally removed through its anchor, which owns
the rest; what was left without an owner (by a request that failed half-way, or by an operator that created something
while its cluster was being deleted) is deleted by itself. `ps`, `down` and the teardown of a run share this file.
"""

from __future__ import annotations

import shlex
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from skjob.cluster import names
from skjob.cluster.api import Api, Conflict, Manifest, NotFound
from skjob.errors import AccessError, CleanupFailed, ConfigError, ForbiddenError, SkjobError

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
"""The kinds of a run's objects that anybody who may run skjob may list."""

DERIVED_KINDS = ("ReplicaSet", "EndpointSlice", "Endpoints", "Secret")
"""Kinds that go with their owners and that not everybody may list; counted where that is allowed."""

KOPF_FINALIZER = "kopf.zalando.org/KopfFinalizerMarker"

POLL = 0.2
"""Seconds between two looks at what is left: removal usually takes one or two seconds."""

REMOVE_DEADLINE = 60.0

_PARALLEL = 6
_RUNS_AT_A_TIME = 4
_RUN_SELECTOR = f"{names.MANAGED_BY_SKJOB},{names.RUN_LABEL}"


class RunState(StrEnum):
    """How a run's cluster stands."""

    STARTING = "starting"
    """Its scheduler does not run yet."""
    RUNNING = "running"
    KEPT = "kept"
    """Its run is over and `--keep` leaves it until a certain time."""
    REMOVING = "removing"
    """Its deletion was asked for."""
    ABANDONED = "abandoned"
    """Objects without an anchor: nothing but `skjob down` removes them."""


@dataclass(frozen=True)
class RunningCluster:
    """One run's objects in the cluster. Times in seconds; `expires_in` is what the next heartbeat would prolong."""

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


def runs(api: Api, namespace: str | None) -> list[RunningCluster]:
    """Every run that has objects in a namespace, the oldest first; in all namespaces where it is None."""
    objects = _list_all(api, RUN_KINDS, namespace or "", _RUN_SELECTOR)
    return summarize(objects, datetime.now(UTC))


def summarize(objects: Mapping[str, list[Manifest]], now: datetime) -> list[RunningCluster]:
    """The runs that these objects, by kind, belong to."""
    by_run: dict[tuple[str, str], list[tuple[str, Manifest]]] = defaultdict(list)
    for kind, manifests in objects.items():
        for manifest in manifests:
            metadata = manifest["metadata"]
            by_run[metadata.get("namespace", ""), metadata["labels"][names.RUN_LABEL]].append((kind, manifest))
    found = [_summary(namespace, run_id, items, now) for (namespace, run_id), items in by_run.items()]
    return sorted(found, key=lambda run: (-run.age_seconds, run.namespace, run.name))


def _summary(namespace: str, run_id: str, items: list[tuple[str, Manifest]], now: datetime) -> RunningCluster:
    of_kind: dict[str, list[Manifest]] = defaultdict(list)
    for kind, manifest in items:
        of_kind[kind].append(manifest)
    anchor = next(iter(of_kind[ANCHOR_KIND]), None)
    # The operator copies labels and annotations, so any object can speak for the run; the anchor does it best.
    speaker = anchor or items[0][1]
    labels, annotations = speaker["metadata"]["labels"], speaker["metadata"].get("annotations") or {}
    kept_until = _time(annotations.get(names.KEPT_ANNOTATION))
    workers = [pod for pod in of_kind["Pod"] if _component(pod) == "worker"]
    return RunningCluster(
        name=labels.get(names.INSTANCE_LABEL, speaker["metadata"]["name"]),
        namespace=namespace,
        run_id=run_id,
        user=annotations.get(names.USER_ANNOTATION) or labels.get(names.USER_LABEL, ""),
        program=annotations.get(names.PROGRAM_ANNOTATION, ""),
        age_seconds=age(speaker, now),
        workers=sum(_runs(pod) for pod in workers),
        workers_asked=sum(_component(deployment) == "worker" for deployment in of_kind["Deployment"]),
        kept_until=kept_until,
        expires_in=_expires_in(anchor, now) if anchor else None,
        state=_state(anchor, of_kind, kept_until),
    )


def _state(anchor: Manifest | None, of_kind: Mapping[str, list[Manifest]], kept_until: datetime | None) -> RunState:
    doomed = [*([anchor] if anchor else []), *of_kind.get("DaskCluster", [])]
    if any("deletionTimestamp" in manifest["metadata"] for manifest in doomed):
        return RunState.REMOVING
    if anchor is None:
        return RunState.ABANDONED
    if kept_until is not None:
        return RunState.KEPT
    schedulers = [pod for pod in of_kind.get("Pod", []) if _component(pod) == "scheduler"]
    return RunState.RUNNING if any(_runs(pod) for pod in schedulers) else RunState.STARTING


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
    """Seconds since an object was created."""
    created = _time(manifest["metadata"].get("creationTimestamp")) or now
    return max(0.0, (now - created).total_seconds())


def _expires_in(anchor: Manifest, now: datetime) -> float | None:
    """When the anchor's deadline falls: Kubernetes counts it from when the Job's controller saw it first."""
    limit = anchor.get("spec", {}).get("activeDeadlineSeconds")
    if limit is None:
        return None
    status = anchor.get("status") or {}
    started = _time(status.get("startTime")) or _time(anchor["metadata"].get("creationTimestamp")) or now
    return max(0.0, float(limit) - (now - started).total_seconds())


def leftovers(api: Api, run_id: str, namespace: str) -> list[str]:
    """What is left of a run, as `Pod/name`. Events are not counted: Kubernetes keeps them for an hour."""
    found = _list_all(api, RUN_KINDS + DERIVED_KINDS, namespace, _selector(run_id))
    return _named(found)


def remove(
    api: Api,
    name: str,
    namespace: str,
    *,
    run_id: str | None = None,
    wait: bool = True,
    deadline: float = REMOVE_DEADLINE,
    hurried: Callable[[], bool] = lambda: False,
) -> None:
    """Remove a run's objects; with `wait`, return when none is left, at most `deadline` seconds later.

    Once `hurried` says so, nothing is waited for any more: what was asked for goes on without us.

    An operator that is dead never takes its finalizer off a DaskCluster. When half of the time is over, skjob does,
    on the objects of this run only, so that Kubernetes can finish. Whoever knows the run's id passes it, which saves
    looking for it.

    Raises:
        NotFound: no object of a run of this name is there (not when `run_id` is given).
        CleanupFailed: something is left. The hint is the command that removes it.
    """
    removal = _Removal(api, name, namespace, run_id or run_of(api, name, namespace))
    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="skjob-remove") as pool:
        removal.request(pool, deadline if wait else 0.0, hurried)
        if wait:
            removal.finish(pool, deadline, hurried)


def choose(found: Sequence[RunningCluster], wanted: Sequence[str] | None, user: str | None) -> list[RunningCluster]:
    """The runs with these names, or without names those of a user, or without either all.

    Raises:
        ConfigError: some name is not among them; it lists those that are.
    """
    if wanted is None:
        return [run for run in found if user is None or run.user == user]
    by_name = {run.name: run for run in found}
    unknown = [name for name in dict.fromkeys(wanted) if name not in by_name]
    if unknown:
        there = ", ".join(f"`{name}`" for name in by_name)
        hint = (
            f"there is {there}" if there else "nothing of skjob runs here; `skjob ps --all-namespaces` looks elsewhere"
        )
        raise ConfigError.collect([f"there is no cluster `{name}` in this namespace" for name in unknown], hint)
    return [by_name[name] for name in dict.fromkeys(wanted)]


def remove_runs(
    api: Api, chosen: Sequence[RunningCluster], *, wait: bool = True, deadline: float = REMOVE_DEADLINE
) -> None:
    """Remove several runs at the same time. Raises what went wrong with any of them, after all were tried."""

    def remove_one(run: RunningCluster) -> SkjobError | None:
        try:
            remove(api, run.name, run.namespace, run_id=run.run_id, wait=wait, deadline=deadline)
        except SkjobError as error:
            return error
        return None

    with ThreadPoolExecutor(_RUNS_AT_A_TIME, thread_name_prefix="skjob-down") as pool:
        errors = [error for error in pool.map(remove_one, chosen) if error is not None]
    if len(errors) > 1:
        raise CleanupFailed("\n".join(error.message for error in errors), errors[0].hint) from errors[0]
    if errors:
        raise errors[0]


def run_of(api: Api, name: str, namespace: str) -> str:
    """The id of the run whose objects carry this name. Raises NotFound where there is none."""
    selector = f"{_RUN_SELECTOR},{names.INSTANCE_LABEL}={name}"
    for manifests in _list_all(api, RUN_KINDS, namespace, selector).values():
        for manifest in manifests:
            return str(manifest["metadata"]["labels"][names.RUN_LABEL])
    raise NotFound(
        f"there is no cluster `{name}` in namespace `{namespace}`", "`skjob ps --all-namespaces` lists those there are"
    )


@dataclass(frozen=True)
class _Removal:
    """The removal of one run: asking for it, then watching it to the end."""

    api: Api
    name: str
    namespace: str
    run_id: str

    def request(self, pool: ThreadPoolExecutor, patience: float, hurried: Callable[[], bool]) -> None:
        """Ask for the deletion of what owns the rest; ask again for `patience` seconds where the API is away."""
        end = time.monotonic() + patience
        # The DaskCluster would go with its anchor; asked for by itself it goes a second sooner.
        for future in [pool.submit(self._delete, kind, end, hurried) for kind in (ANCHOR_KIND, "DaskCluster")]:
            future.result()

    def _delete(self, kind: str, end: float, hurried: Callable[[], bool]) -> None:
        while True:
            try:
                self.api.delete(kind, self.name, self.namespace)
            except AccessError as error:
                if time.monotonic() >= end or hurried():
                    raise CleanupFailed(
                        f"`{self.name}` could not be removed: {error.message}", self._command([ANCHOR_KIND])
                    ) from error
                time.sleep(POLL)
            else:
                return

    def finish(self, pool: ThreadPoolExecutor, deadline: float, hurried: Callable[[], bool]) -> None:
        """Look until nothing is left, and help where it doesn't go by itself."""
        everything = RUN_KINDS + DERIVED_KINDS
        started = time.monotonic()
        found: dict[str, list[Manifest]] = {}
        failure: SkjobError | None = None
        released: set[str] = set()
        while not hurried():
            # A kind that was seen empty nearly always stays so: in the end all of them are asked again.
            kinds = tuple(kind for kind, manifests in found.items() if manifests) or everything
            passed = time.monotonic() - started
            try:
                found = self._look(pool, kinds)
                if kinds != everything and not any(found.values()):
                    found = self._look(pool, everything)
            except AccessError as error:
                failure = error
            else:
                if not any(found.values()):
                    return
                failure = None
                self._delete_orphans(pool, found)
                if passed > deadline / 2:
                    self._release(found, released)
            if passed > deadline:
                break
            time.sleep(POLL)
        else:
            return
        kinds_left = [kind for kind, manifests in found.items() if manifests]
        left = ", ".join(f"`{item}`" for item in _named(found)) or "its objects"
        cause = f" ({failure.message})" if failure else ""
        raise CleanupFailed(
            f"{left} of `{self.name}` still there after {deadline:.0f} s{cause}", self._command(kinds_left)
        ) from failure

    def _look(self, pool: ThreadPoolExecutor, kinds: Iterable[str]) -> dict[str, list[Manifest]]:
        return _list_with(pool, self.api, kinds, self.namespace, _selector(self.run_id))

    def _delete_orphans(self, pool: ThreadPoolExecutor, found: Mapping[str, list[Manifest]]) -> None:
        """Delete what nobody owns; the rest goes with its owner."""
        orphans = [
            (kind, manifest["metadata"]["name"])
            for kind, manifests in found.items()
            for manifest in manifests
            if not manifest["metadata"].get("ownerReferences") and "deletionTimestamp" not in manifest["metadata"]
        ]

        def delete(orphan: tuple[str, str]) -> None:
            try:
                self.api.delete(*orphan, self.namespace)
            except (ForbiddenError, AccessError):
                return  # it is seen again in the next look, and named in the end

        list(pool.map(delete, orphans))

    def _release(self, found: Mapping[str, list[Manifest]], released: set[str]) -> None:
        """Take the operator's finalizer off the run's objects whose deletion waits for it."""
        for kind, manifests in found.items():
            for manifest in manifests:
                metadata = manifest["metadata"]
                finalizers = metadata.get("finalizers") or []
                if "deletionTimestamp" not in metadata or KOPF_FINALIZER not in finalizers:
                    continue
                if metadata["uid"] in released:
                    continue
                others = [finalizer for finalizer in finalizers if finalizer != KOPF_FINALIZER]
                # With the version that was seen, so that a finalizer somebody adds meanwhile is not lost.
                patch = {"metadata": {"finalizers": others, "resourceVersion": metadata["resourceVersion"]}}
                try:
                    self.api.patch(kind, metadata["name"], self.namespace, patch)
                except (Conflict, NotFound, ForbiddenError, AccessError):
                    continue
                released.add(metadata["uid"])

    def _command(self, kinds: list[str]) -> str:
        context = [] if self.api.context.in_cluster else ["--context", self.api.context.name]
        resources = ",".join(kind.lower() for kind in kinds or RUN_KINDS)
        words = ["kubectl", *context, "-n", self.namespace, "delete", resources, "-l", _selector(self.run_id)]
        return f"`{shlex.join(words)}` removes it"


def _selector(run_id: str) -> str:
    return f"{names.MANAGED_BY_SKJOB},{names.RUN_LABEL}={run_id}"


def _named(found: Mapping[str, list[Manifest]]) -> list[str]:
    return sorted(f"{kind}/{item['metadata']['name']}" for kind, items in found.items() for item in items)


def _list_all(api: Api, kinds: Iterable[str], namespace: str, selector: str) -> dict[str, list[Manifest]]:
    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="skjob-list") as pool:
        return _list_with(pool, api, kinds, namespace, selector)


def _list_with(
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
