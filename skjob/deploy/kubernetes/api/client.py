"""The Kubernetes API of one context, in its own kinds and names.

Objects are passed and returned as plain dicts in the API's own spelling, so that manifests and diagnosis stay pure.
`transport` sends requests and retries them; `errors` turns rejections into exceptions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from skjob.deploy.kubernetes.api import kubeconfig
from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.api.errors import NotFound, Raced
from skjob.deploy.kubernetes.api.transport import Transport
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.errors import ForbiddenError, SkjobError, without_secrets
from skjob.utils.notify import Notify

DASK_GROUP = "kubernetes.dask.org"

MAX_RACES = 5
"""How often to retry a creation that conflicts with concurrent changes, of a quota mostly."""

_NO_LOG = "unable to retrieve container logs for "
"""What the kubelet returns, with status 200, if it has removed a container's log (Kubernetes 1.34)."""


_PATHS = {
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "DaskCluster": f"/apis/{DASK_GROUP}/v1/namespaces/{{namespace}}/daskclusters",
    "DaskWorkerGroup": f"/apis/{DASK_GROUP}/v1/namespaces/{{namespace}}/daskworkergroups",
    "Endpoints": "/api/v1/namespaces/{namespace}/endpoints",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "Event": "/api/v1/namespaces/{namespace}/events",
    "Job": "/apis/batch/v1/namespaces/{namespace}/jobs",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
    "Pod": "/api/v1/namespaces/{namespace}/pods",
    "ReplicaSet": "/apis/apps/v1/namespaces/{namespace}/replicasets",
    "Secret": "/api/v1/namespaces/{namespace}/secrets",
    "Service": "/api/v1/namespaces/{namespace}/services",
    "Namespace": "/api/v1/namespaces",
    "Node": "/api/v1/nodes",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "SelfSubjectAccessReview": "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
}


class Api:
    """Sends requests to one API server. Thread-safe.

    `renew` returns a client with the current credentials. `notify` is called if the API throttles requests for long.
    """

    def __init__(
        self,
        client: Any,
        context: Context,
        *,
        renew: Callable[[], Any] | None = None,
        notify: Notify = lambda _: None,
    ) -> None:
        self._transport = Transport(client, context, renew, notify)
        self.context = context

    def now(self) -> datetime:
        """Return the time of the API server's clock.

        Ages and deadlines are measured by that clock, which may differ from this machine's by minutes.
        """
        return self._transport.now()

    def get(self, kind: str, name: str, namespace: str = "") -> Manifest:
        """Return one object. Raise NotFound if it does not exist."""
        item: Manifest = self._transport.request("GET", f"{_path(kind, namespace)}/{name}")
        return item

    def list(self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "") -> list[Manifest]:
        """Return the objects that match a label and a field selector, in all namespaces if none is given."""
        query = [("labelSelector", selector)] * bool(selector) + [("fieldSelector", fields)] * bool(fields)
        items: list[Manifest] = self._transport.request("GET", _path(kind, namespace), query=query)["items"]
        return items

    def readable_events(self, namespace: str) -> list[Manifest]:  # type: ignore[valid-type]
        """Return the events of a namespace; none if the user may not list them."""
        try:
            return self.list("Event", namespace)
        except ForbiddenError:
            return []

    def create(self, manifest: Manifest, *, strict: bool = False, dry_run: bool = False) -> Manifest:
        """Create an object. Raise Conflict if its name is taken, Rejected if the API rejects it.

        With `strict`, the API also rejects fields that it does not know, which it would silently drop.
        """
        query = [("fieldValidation", "Strict")] * strict + [("dryRun", "All")] * dry_run
        namespace = manifest["metadata"].get("namespace", "") if "metadata" in manifest else ""
        for _ in range(MAX_RACES):
            try:
                return self._create(manifest, namespace, query)
            except Raced:
                time.sleep(0.1)
        return self._create(manifest, namespace, query)

    def _create(self, manifest: Manifest, namespace: str, query: Sequence[tuple[str, str]]) -> Manifest:
        path = _path(manifest["kind"], namespace)
        created: Manifest = self._transport.request("POST", path, body=manifest, query=query)
        return created

    def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Create an object or change it to this state by server-side apply; fields owned by others stay as they are."""
        metadata = manifest["metadata"]
        query = [("fieldManager", "skjob"), ("force", "true")] + [("dryRun", "All")] * dry_run
        applied: Manifest = self._transport.request(
            "PATCH",
            f"{_path(manifest['kind'], metadata.get('namespace', ''))}/{metadata['name']}",
            body=manifest,
            query=query,
            content_type="application/apply-patch+yaml",
        )
        return applied

    def patch(self, kind: str, name: str, namespace: str, patch: Manifest, *, timeout: float | None = None) -> Manifest:
        """Change an object by a JSON merge patch. `timeout`, in seconds, is for callers that cannot wait for the
        default one."""
        content_type = "application/merge-patch+json"
        path = f"{_path(kind, namespace)}/{name}"
        patched: Manifest = self._transport.request(
            "PATCH", path, body=patch, content_type=content_type, timeout=timeout
        )
        return patched

    def delete(self, kind: str, name: str, namespace: str = "", *, uid: str = "", at_once: bool = False) -> bool:
        """Request the deletion of an object and all that it owns; return False if it did not exist.

        With `uid`, delete only the object that has it, and raise Conflict if another one has its name by now. With
        `at_once`, do not wait for a pod's node to confirm that it has ended.
        """
        body: Manifest = {"propagationPolicy": "Background"}
        if at_once:
            body["gracePeriodSeconds"] = 0
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            self._transport.request("DELETE", f"{_path(kind, namespace)}/{name}", body=body)
        except NotFound:
            return False
        return True

    def log(
        self,
        pod: str,
        namespace: str,
        *,
        container: str = "",
        lines: int = 20,
        previous: bool = False,
        timeout: float | None = None,
        strict: bool = False,
    ) -> str:
        """Return the last log lines of a pod; empty if they cannot be read. For `timeout` see `patch`.

        With `strict`, raise the error if the API does not return them.
        """
        query = [("tailLines", str(lines)), ("previous", str(previous).lower())]
        query += [("container", container)] * bool(container)
        try:
            path = f"{_path('Pod', namespace)}/{pod}/log"
            text: str = self._transport.request("GET", path, query=query, as_text=True, timeout=timeout)
        except SkjobError:
            if strict:
                raise
            return ""
        return "" if text.startswith(_NO_LOG) else without_secrets(text)  # before it is cut

    def watch(self, kind: str, namespace: str, *, selector: str, seconds: int) -> Iterator[Manifest]:
        """Yield the existing objects of a kind, then each that is created or changes, for `seconds`."""
        query = [("watch", "true"), ("timeoutSeconds", str(seconds)), ("labelSelector", selector)]
        for event in self._transport.watch(_path(kind, namespace), query, seconds):
            if event["type"] in ("ADDED", "MODIFIED"):
                yield event["object"]

    def serves(self, group_version: str) -> bool:
        """Return whether the API serves a group and version, such as `kubernetes.dask.org/v1`. Any user may ask."""
        try:
            self._transport.request("GET", f"/apis/{group_version}")
        except NotFound:
            return False
        return True

    def versions_of(self, group: str) -> tuple[str, ...]:
        """Return the versions of a group that the API serves; none if it does not know the group."""
        try:
            served = self._transport.request("GET", f"/apis/{group}")
        except NotFound:
            return ()
        return tuple(str(each["version"]) for each in served["versions"])

    def version(self) -> str:
        """Return the API server's version, such as `v1.34.4`."""
        return str(self._transport.request("GET", "/version")["gitVersion"])

    def allowed(
        self, verb: str, resource: str, namespace: str, *, group: str = "", subresource: str = "", name: str = ""
    ) -> bool:
        """Return whether this context's user may do this, to all objects or to `name` (a SelfSubjectAccessReview)."""
        attributes = {
            "namespace": namespace,
            "verb": verb,
            "group": group,
            "resource": resource,
            "subresource": subresource,
            "name": name,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        return bool(self.create(review)["status"]["allowed"])


def _path(kind: str, namespace: str) -> str:
    path = _PATHS[kind]
    return path.format(namespace=namespace) if namespace else path.replace("/namespaces/{namespace}", "")


def connect_api(context_name: str | None, namespace: str | None = None, *, notify: Notify = lambda _: None) -> Api:
    """Return the API of the named context, else of the current one, else of the pod that this runs in.

    `notify` is called if the API throttles requests for long.

    Raises:
        AccessError: there is no kubeconfig, or no such context in it, or it cannot be used. No request is made.
    """
    client, context = _connected(context_name, namespace)

    def renew() -> Any:
        # By name: the current context may have changed.
        renewed, current = _connected(None if context.in_cluster else context.name, namespace)
        return renewed if current.server == context.server else client

    return Api(client, context, renew=renew, notify=notify)


def _connected(context_name: str | None, namespace: str | None) -> tuple[Any, Context]:
    found = kubeconfig.find_context(context_name)
    context = Context(found.context, namespace or found.namespace, found.configuration.host, found.in_cluster)
    return _client(found.configuration), context


def _client(configuration: Any) -> Any:
    from kubernetes import client
    from urllib3.exceptions import ReadTimeoutError
    from urllib3.util import Retry

    class BrokenConnectionRetry(Retry):
        """Retry on a broken connection, such as a kept-alive one that the server has closed in the meantime.

        A request that times out is not retried, or it would take twice its time. To urllib3 both are read errors.
        """

        def increment(self, *request: Any, **more: Any) -> Any:
            if isinstance(error := more.get("error"), ReadTimeoutError):
                raise error
            return super().increment(*request, **more)

    # `transport` retries throttled requests, whatever the method.
    configuration.retries = BrokenConnectionRetry(1, respect_retry_after_header=False)
    return client.ApiClient(configuration)
