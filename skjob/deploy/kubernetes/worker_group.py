"""Request and remove the workers of a cluster on Kubernetes.

The Dask operator makes a Deployment for each worker of a DaskWorkerGroup and, when the number is reduced, chooses
itself which to remove. So delete a worker's Deployment first, and reduce the number afterwards.
"""

from __future__ import annotations

from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import Rejected
from skjob.utils.notify import Notify


class WorkerGroup:
    """The DaskWorkerGroup of a cluster. `requested` is how many workers were requested."""

    def __init__(self, api: Api, cluster: str, requested: int, notify: Notify) -> None:
        self._api = api
        self._namespace = api.context.namespace
        self._name = f"{cluster}-default"
        self._notify = notify
        self.requested = requested
        self._lowering = False

    def add(self, total: int) -> None:
        """Request workers until there are `total`."""
        target = max(self.requested, total)
        try:
            if self._lowering:  # the operator reacts to changes: it must see the lower number first
                self._lower()
            self._set_replicas(target)
        except Rejected as error:  # limits were lowered: the run goes on with the workers it has
            self._notify(f"there will be no more than {self.requested} workers: {error.message}")
        else:
            self.requested = target  # set last: if the request fails, the next one must still raise the number

    def remove(self, names: list[str]) -> None:
        """Delete these workers' Deployments, then reduce the number, so that the operator has nothing left to
        remove."""
        self._lowering = True
        for name in names:
            # A worker started by somebody else may be named like a Deployment that is not ours.
            if name.startswith(f"{self._name}-worker-"):
                self._api.delete("Deployment", name, self._namespace)
                self.requested -= 1
        self._lower()

    def cancel_pending(self, maximum: int, connected: list[str]) -> None:
        """Remove up to `maximum` workers that are neither connected nor running."""
        _, pending = self._ready_and_pending()
        names = [name for name in pending if name not in connected][:maximum]
        if names:
            self.remove(names)

    def shrink(self, number: int) -> None:
        """Reduce the workers to `number`, starting with those that are not running."""
        surplus = self.requested - number
        if surplus > 0:
            ready, pending = self._ready_and_pending()
            self.remove([*pending, *ready][:surplus])

    def _ready_and_pending(self) -> tuple[list[str], list[str]]:
        """Return the names of the workers whose pod runs, and of the others."""
        ready: list[str] = []
        pending: list[str] = []
        selector = f"dask.org/workergroup-name={self._name}"
        for deployment in self._api.list("Deployment", self._namespace, selector=selector):
            runs = deployment.get("status", {}).get("readyReplicas")
            (ready if runs else pending).append(deployment["metadata"]["name"])
        return ready, pending

    def _lower(self) -> None:
        self._set_replicas(self.requested)
        self._lowering = False

    def _set_replicas(self, number: int) -> None:
        patch = {"spec": {"worker": {"replicas": number}}}
        self._api.patch("DaskWorkerGroup", self._name, self._namespace, patch)
