"""Remove a run's objects from a cluster, for `down`, `gc` and the end of a run.

A run is normally removed through its anchor, which owns the rest. Objects without an owner, left behind by a request
that failed half-way or by an operator that created something while its cluster was being deleted, are deleted one by
one. Only objects with the labels of the run are changed or deleted.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import Conflict, NotFound, Rejected
from skjob.deploy.kubernetes.costs import ledger
from skjob.deploy.kubernetes.inventory.runs import (
    ANCHOR_KIND,
    DERIVED_KINDS,
    OVERDUE,
    PARALLEL,
    RUN_KINDS,
    RunningCluster,
    is_orphan,
    list_kinds,
    removing_for,
    run_of,
    selector_of,
)
from skjob.deploy.kubernetes.manifests import Manifest, labels
from skjob.errors import AccessError, CleanupFailed, ForbiddenError, SkjobError, Unauthorized

KOPF_FINALIZER = "kopf.zalando.org/KopfFinalizerMarker"
"""The operator's finalizer, which serves its timer for idle DaskClusters (dask-kubernetes 2026.3.0).

Removing it skips nothing, and a dead operator would keep a deleted DaskCluster forever.
"""

_POLL_INTERVAL = 0.2
"""Seconds between two checks of what is left: removal usually takes one or two seconds."""

FINALIZER_DELAY = 2.0
"""Seconds in which the operator may still create objects for a cluster that has been deleted."""

CREATION_DEADLINE = 10.0
"""Maximum seconds to wait before a deletion for an operator that is creating the cluster's objects."""

REMOVE_DEADLINE = 60.0

DEFERRED_ERRORS = (Conflict, Rejected, ForbiddenError, AccessError)
"""Errors about one object that must not stop the others: the next check sees it again, and the end reports it."""

_MAX_RELEASE_ATTEMPTS = 5
_PARALLEL_RUNS = 4


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
    """Remove a run's objects; with `wait`, return when none is left, after at most `deadline` seconds.

    Once the API has accepted the requests, the rest is Kubernetes' own garbage collection, since the operator's
    finalizer is removed here. Only what has no owner yet has to be waited for (see `removed_by_owner`). If the API does
    not answer, it is tried again until the deadline, or until `hurried` returns that there is no time to wait.

    Pass `run_id` if it is known, which saves looking it up.

    Raises:
        NotFound: there is no object of a run with this name (not if `run_id` is given).
        CleanupFailed: something is left. The hint is the command that removes it.
    """
    removal = _Removal(api, name, namespace, run_id or run_of(api, name, namespace))
    unfinished = wait and not _creation_has_ended(api, name, namespace, hurried)
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="skjob-remove") as pool:
        removal.request(pool, deadline, hurried)
        if wait:
            removal.finish(pool, deadline, hurried, empty_for=FINALIZER_DELAY if unfinished else 0.0)


def removed_by_owner(api: Api, name: str, namespace: str) -> bool:
    """Return whether everything the operator has made for a cluster has an owner, and is thus removed with its anchor.

    The operator creates a cluster's worker group without an owner and adds it a moment later (dask-kubernetes
    2026.3.0): if the cluster is deleted in between, the group stays. Return False also if that cannot be determined.
    """
    try:
        group = api.get("DaskWorkerGroup", f"{name}-default", namespace)
    except SkjobError:
        return False
    return bool(group["metadata"].get("ownerReferences"))


def _creation_has_ended(api: Api, name: str, namespace: str, hurried: Callable[[], bool]) -> bool:
    """Wait for an operator that is creating a cluster's objects; return whether it creates no more of them.

    The worker group is the last of them. If the cluster is deleted before, a busy operator may create it much later,
    without an owner, and it would stay.
    """
    deadline = time.monotonic() + CREATION_DEADLINE
    while True:
        try:
            cluster = api.get("DaskCluster", name, namespace)
        except SkjobError:
            return True
        if removed_by_owner(api, name, namespace):
            return True
        has_begun = "phase" in cluster.get("status", {})
        if not has_begun or hurried() or time.monotonic() > deadline:
            return False
        time.sleep(_POLL_INTERVAL)


def remove_runs(
    api: Api, chosen: Sequence[RunningCluster], *, wait: bool = True, deadline: float = REMOVE_DEADLINE
) -> None:
    """Remove several runs in parallel. Raise what went wrong with any of them, after all were tried."""

    def remove_one(run: RunningCluster) -> SkjobError | None:
        try:
            remove(api, run.name, run.namespace, run_id=run.run_id, wait=wait, deadline=deadline)
        except SkjobError as error:
            return error
        if run.cost is not None:  # a run that still goes on writes its entry after this
            for key in filter(None, (run.run_id, run.account)):
                ledger.change(api, run.namespace, key, datetime.now(UTC))
        return None

    with ThreadPoolExecutor(_PARALLEL_RUNS, thread_name_prefix="skjob-down") as pool:
        errors = [error for error in pool.map(remove_one, chosen) if error is not None]
    if len(errors) > 1:
        raise CleanupFailed("\n".join(error.message for error in errors), errors[0].hint) from errors[0]
    if errors:
        raise errors[0]


@dataclass(frozen=True)
class _Removal:
    """Removal of one run: requested, then watched until it is complete."""

    api: Api
    name: str
    namespace: str
    run_id: str

    def request(self, pool: ThreadPoolExecutor, timeout: float, hurried: Callable[[], bool]) -> None:
        """Request the deletion of what owns the rest; retry for `timeout` seconds if the API is unreachable."""
        end = time.monotonic() + timeout
        # The DaskCluster would go with its anchor; deleted explicitly it goes a second sooner.
        for future in [pool.submit(self._delete, kind, end, hurried) for kind in (ANCHOR_KIND, "DaskCluster")]:
            future.result()

    def _delete(self, kind: str, end: float, hurried: Callable[[], bool]) -> None:
        while True:
            try:
                self._delete_own(kind)
            except AccessError as error:
                # Waiting does not help with refused credentials.
                if time.monotonic() >= end or hurried() or isinstance(error, Unauthorized):
                    raise CleanupFailed(
                        f"`{self.name}` could not be removed: {error.message}", self._command([ANCHOR_KIND])
                    ) from error
                time.sleep(_POLL_INTERVAL)
            else:
                return

    def _delete_own(self, kind: str) -> None:
        """Delete the object of this name if it belongs to this run; leave somebody else's alone."""
        with suppress(NotFound, Conflict):  # it is gone, or another object has its name by now
            current = self.api.get(kind, self.name, self.namespace)
            if current["metadata"].get("labels", {}).get(labels.RUN_LABEL) == self.run_id:
                self.api.delete(kind, self.name, self.namespace, uid=current["metadata"]["uid"])
                self._release_own(kind)

    def _release_own(self, kind: str) -> None:
        for _ in range(_MAX_RELEASE_ATTEMPTS):
            current = self.api.get(kind, self.name, self.namespace)
            with suppress(Conflict):  # the operator is changing it too: read it again
                self._release(kind, current)
                return

    def finish(
        self, pool: ThreadPoolExecutor, deadline: float, hurried: Callable[[], bool], *, empty_for: float
    ) -> None:
        """Check until nothing has been left for `empty_for` seconds; help along what does not go by itself."""
        everything = RUN_KINDS + DERIVED_KINDS
        started = time.monotonic()
        objects: dict[str, list[Manifest]] = {}
        failure: SkjobError | None = None
        empty_since: float | None = None
        while not hurried():
            # A kind without objects nearly always stays so: all kinds are listed again only at the end.
            kinds = tuple(kind for kind, manifests in objects.items() if manifests) or everything
            elapsed = time.monotonic() - started
            try:
                objects = self._list(pool, kinds)
                if kinds != everything and not any(objects.values()):
                    objects = self._list(pool, everything)
            except AccessError as error:
                failure = error
            else:
                if not any(objects.values()):
                    empty_since = time.monotonic() if empty_since is None else empty_since
                    if time.monotonic() - empty_since >= empty_for or elapsed > deadline:
                        return
                failure = None
                self._delete_orphans(pool, objects)
                self._release_all(objects)
                self._force_delete_pods(objects.get("Pod", []))
            if elapsed > deadline:
                break
            time.sleep(_POLL_INTERVAL)
        else:
            return
        remaining_kinds = [kind for kind, manifests in objects.items() if manifests]
        remaining = ", ".join(f"`{item}`" for item in _named(objects)) or "its objects"
        cause = f" ({failure.message})" if failure else ""
        raise CleanupFailed(
            f"{remaining} of `{self.name}` still exist after {deadline:.0f} s{cause}", self._command(remaining_kinds)
        ) from failure

    def _list(self, pool: ThreadPoolExecutor, kinds: Iterable[str]) -> dict[str, list[Manifest]]:
        return list_kinds(pool, self.api, kinds, self.namespace, selector_of(self.run_id))

    def _delete_orphans(self, pool: ThreadPoolExecutor, objects: Mapping[str, list[Manifest]]) -> None:
        """Delete objects without an owner; the rest goes with its owner."""
        orphans = [
            (kind, manifest["metadata"])
            for kind, manifests in objects.items()
            for manifest in manifests
            if is_orphan(manifest)
        ]

        def delete(orphan: tuple[str, Manifest]) -> None:
            kind, metadata = orphan
            with suppress(*DEFERRED_ERRORS):
                self.api.delete(kind, metadata["name"], self.namespace, uid=metadata["uid"])

        list(pool.map(delete, orphans))

    def _force_delete_pods(self, pods: list[Manifest]) -> None:
        """Delete pods from the API that their node should have ended long ago."""
        now = self.api.now()
        for pod in pods:
            if (removing_for([pod], now) or 0.0) > OVERDUE:
                with suppress(*DEFERRED_ERRORS):
                    metadata = pod["metadata"]
                    self.api.delete("Pod", metadata["name"], self.namespace, uid=metadata["uid"], at_once=True)

    def _release_all(self, objects: Mapping[str, list[Manifest]]) -> None:
        for kind, manifests in objects.items():
            for manifest in manifests:
                with suppress(NotFound, *DEFERRED_ERRORS):
                    self._release(kind, manifest)

    def _release(self, kind: str, manifest: Manifest) -> None:
        """Remove the operator's finalizer from an object of the run whose deletion waits for it."""
        metadata = manifest["metadata"]
        finalizers = metadata.get("finalizers") or []
        if "deletionTimestamp" not in metadata or KOPF_FINALIZER not in finalizers:
            return
        others = [finalizer for finalizer in finalizers if finalizer != KOPF_FINALIZER]
        # With the version that was read, so that a finalizer added concurrently is not lost.
        patch = {"metadata": {"finalizers": others, "resourceVersion": metadata["resourceVersion"]}}
        self.api.patch(kind, metadata["name"], self.namespace, patch)

    def _command(self, kinds: list[str]) -> str:
        context = [] if self.api.context.in_cluster else ["--context", self.api.context.name]
        resources = ",".join(kind.lower() for kind in kinds or RUN_KINDS)
        words = ["kubectl", *context, "-n", self.namespace, "delete", resources, "-l", selector_of(self.run_id)]
        return f"`{shlex.join(words)}` removes it"


def _named(objects: Mapping[str, list[Manifest]]) -> list[str]:
    return sorted(f"{kind}/{item['metadata']['name']}" for kind, items in objects.items() for item in items)
