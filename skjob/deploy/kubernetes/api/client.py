"""The Kubernetes API of one context: connecting, and turning what it refuses into errors a user can act on.

A thin edge over the official client. Objects go in and come out as plain dicts in the API's own spelling, so that
manifests and diagnosis stay pure. Every request has a deadline. One that the API puts off, because it has too much to
do, is made again when the API says; one whose credentials are refused, once more with those of the kubeconfig as it is
then: who logs in again goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, TypeVar

from skjob.deploy.kubernetes.api import kubeconfig
from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.api.errors import NotFound, Raced, Throttled, as_api_exception, map_errors
from skjob.errors import ForbiddenError, SkjobError, Unanswered, Unauthorized, first_line

REQUEST_TIMEOUT = (5.0, 15.0)
"""Seconds to connect, and to wait for an answer."""

THROTTLE_PATIENCE = 60.0
"""Seconds for which a request is made again that the API puts off."""

TOLD_AFTER = 2.0
"""Seconds of being put off that are worth a word."""

_RACES = 5

_NO_LOG = "unable to retrieve container logs for "
"""What the kubelet answers, with 200, where it has removed a container's log (Kubernetes 1.34)."""

DASK_GROUP = "kubernetes.dask.org"

Manifest = dict[str, Any]

Answer = TypeVar("Answer")

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
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "SelfSubjectAccessReview": "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
}


class Api:
    """Requests to one API server. Safe to use from several threads.

    `renew` makes another client, with the credentials that there are now. `told` gets a line where the API puts
    requests off for long.
    """

    def __init__(
        self,
        client: Any,
        context: Context,
        *,
        renew: Callable[[], Any] | None = None,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._renew = renew
        self._told = told
        self._ahead = timedelta(0)
        self.context = context

    def now(self) -> datetime:
        """By the API server's clock, as its last answer told it: ages and deadlines are of that clock, and this
        machine's may be minutes away from it."""
        return datetime.now(UTC) + self._ahead

    def get(self, kind: str, name: str, namespace: str = "") -> Manifest:
        """One object. Raises NotFound."""
        found: Manifest = self._request("GET", f"{_path(kind, namespace)}/{name}")
        return found

    def list(self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "") -> list[Manifest]:
        """All objects that a label selector and a field selector choose; of all namespaces where none is given."""
        query = [("labelSelector", selector)] * bool(selector) + [("fieldSelector", fields)] * bool(fields)
        items: list[Manifest] = self._request("GET", _path(kind, namespace), query=query)["items"]
        return items

    def readable_events(self, namespace: str) -> list[Manifest]:  # type: ignore[valid-type]
        """The events of a namespace; none where they may not be listed."""
        try:
            return self.list("Event", namespace)
        except ForbiddenError:
            return []

    def create(self, manifest: Manifest, *, strict: bool = False, dry_run: bool = False) -> Manifest:
        """Raises Conflict where the name is taken, Rejected where the API would not have it.

        `strict`: also where there is a field in it that the API does not know, which it would leave out in silence.
        """
        query = [("fieldValidation", "Strict")] * strict + [("dryRun", "All")] * dry_run
        namespace = manifest["metadata"].get("namespace", "") if "metadata" in manifest else ""
        for _ in range(_RACES):
            try:
                return self._create(manifest, namespace, query)
            except Raced:
                time.sleep(0.1)
        return self._create(manifest, namespace, query)

    def _create(self, manifest: Manifest, namespace: str, query: Sequence[tuple[str, str]]) -> Manifest:
        path = _path(manifest["kind"], namespace)
        created: Manifest = self._request("POST", path, body=manifest, query=query)
        return created

    def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Server-side apply: creates the object or brings it to this state; what others own in it stays theirs."""
        metadata = manifest["metadata"]
        query = [("fieldManager", "skjob"), ("force", "true")] + [("dryRun", "All")] * dry_run
        applied: Manifest = self._request(
            "PATCH",
            f"{_path(manifest['kind'], metadata.get('namespace', ''))}/{metadata['name']}",
            body=manifest,
            query=query,
            content_type="application/apply-patch+yaml",
        )
        return applied

    def patch(self, kind: str, name: str, namespace: str, patch: Manifest, *, timeout: float | None = None) -> Manifest:
        """JSON merge patch. `timeout` is for those who can't wait as long as others for an answer, in seconds."""
        content_type = "application/merge-patch+json"
        path = f"{_path(kind, namespace)}/{name}"
        patched: Manifest = self._request("PATCH", path, body=patch, content_type=content_type, timeout=timeout)
        return patched

    def delete(self, kind: str, name: str, namespace: str = "", *, uid: str = "", at_once: bool = False) -> bool:
        """Ask for an object's deletion, and that of all it owns. False where it did not exist.

        With `uid`, only of the very object that has it. `at_once` does not wait for the node of a pod to say that it
        has ended. Raises Conflict where another has that name by now.
        """
        body: Manifest = {"propagationPolicy": "Background"}
        if at_once:
            body["gracePeriodSeconds"] = 0
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            self._request("DELETE", f"{_path(kind, namespace)}/{name}", body=body)
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
        """The last lines that a pod wrote; empty where there are none to be had. `timeout` as for `patch`.

        With `strict`, it raises the error where the API does not give them.
        """
        query = [("tailLines", str(lines)), ("previous", str(previous).lower())]
        query += [("container", container)] * bool(container)
        try:
            path = f"{_path('Pod', namespace)}/{pod}/log"
            text: str = self._request("GET", path, query=query, as_text=True, timeout=timeout)
        except SkjobError:
            if strict:
                raise
            return ""
        return "" if text.startswith(_NO_LOG) else text

    def watch(self, kind: str, namespace: str, *, selector: str, seconds: int) -> Iterator[Manifest]:
        """The objects of a kind that are there, then each that is made or changes, as it does, for so many seconds."""
        path = _path(kind, namespace)
        query = [("watch", "true"), ("timeoutSeconds", str(seconds)), ("labelSelector", selector)]
        response = self._accepted(partial(self._opened, path, query, seconds + REQUEST_TIMEOUT[1]), THROTTLE_PATIENCE)
        with map_errors(self.context, f"watch {path}"):
            try:
                for line in response.response:
                    try:
                        event = json.loads(line)
                    except ValueError:  # cut off in the middle of it
                        return
                    if event["type"] in ("ADDED", "MODIFIED"):
                        yield event["object"]
            finally:
                response.response.close()

    def _opened(self, path: str, query: Sequence[tuple[str, str]], timeout: float) -> Any:
        """What the API answers to a watch; what it sees is not read yet."""
        with map_errors(self.context, f"watch {path}"):
            response = self._send("GET", path, query=query, timeout=(REQUEST_TIMEOUT[0], timeout))
            if response.status != 200:
                response.read()
                raise as_api_exception(response)
            return response

    def serves(self, group_version: str) -> bool:
        """Whether the API has this group and version, `kubernetes.dask.org/v1`. Any authenticated user may ask."""
        try:
            self._request("GET", f"/apis/{group_version}")
        except NotFound:
            return False
        return True

    def versions_of(self, group: str) -> tuple[str, ...]:
        """The versions that the API has of a group; none where it does not know it."""
        try:
            found = self._request("GET", f"/apis/{group}")
        except NotFound:
            return ()
        return tuple(str(each["version"]) for each in found["versions"])

    def version(self) -> str:
        """The API server's version, `v1.34.4`."""
        return str(self._request("GET", "/version")["gitVersion"])

    def allowed(
        self, verb: str, resource: str, namespace: str, *, group: str = "", subresource: str = "", name: str = ""
    ) -> bool:
        """Whether this context's user may do this, to all objects or to one (a SelfSubjectAccessReview)."""
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

    def _request(
        self,
        method: str,
        path: str,
        *,
        body: Manifest | None = None,
        query: Sequence[tuple[str, str]] = (),
        content_type: str = "application/json",
        as_text: bool = False,
        timeout: float | None = None,
    ) -> Any:
        answer = partial(self._answer, method, path, body, query, content_type, as_text=as_text, timeout=timeout)
        return self._accepted(answer, THROTTLE_PATIENCE if timeout is None else timeout)

    def _accepted(self, ask: Callable[[], Answer], patience: float) -> Answer:
        """What the API answers to a request that it may put off, for up to so many seconds, or refuse once for its
        credentials."""
        began = time.monotonic()
        renewed = False
        while True:
            try:
                return ask()
            except Throttled as throttled:
                waited = time.monotonic() - began
                if waited + throttled.pause > patience:
                    raise
                if waited + throttled.pause > TOLD_AFTER:
                    self._told(
                        f"the Kubernetes API of context `{self.context.name}` is throttling requests (429); retrying"
                    )
                time.sleep(throttled.pause)
            except Unauthorized:
                if self._renew is None or renewed:
                    raise
                self._client, renewed = self._renew(), True

    def _send(
        self,
        method: str,
        path: str,
        *,
        timeout: tuple[float, float],
        body: Manifest | None = None,
        query: Sequence[tuple[str, str]] = (),
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Any:
        """The response of the client library, whose body is not read yet."""
        return self._client.call_api(
            *self._client.param_serialize(
                method=method,
                resource_path=path,
                query_params=[*query],
                header_params={"Accept": accept, "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
            ),
            _request_timeout=timeout,
        )

    def _answer(
        self,
        method: str,
        path: str,
        body: Manifest | None,
        query: Sequence[tuple[str, str]],
        content_type: str,
        *,
        as_text: bool,
        timeout: float | None,
    ) -> Any:
        with map_errors(self.context, f"{method.lower()} {path}"):
            response = self._send(
                method, path, body=body, query=query, content_type=content_type,
                accept="*/*" if as_text else "application/json",
                timeout=REQUEST_TIMEOUT if timeout is None else (timeout, timeout),
            )  # fmt: skip
            raw = response.read()
            status = response.status
            self._ahead = _ahead(response.headers or {})
            if not 200 <= status <= 299:
                raise as_api_exception(response)
        text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
        if as_text:
            return text
        try:
            return json.loads(text)
        except ValueError as error:
            raise Unanswered(
                f"`{self.context.server}` does not answer as a Kubernetes API does: {first_line(text)[:80]}",
                "a proxy in between may be in the way",
            ) from error


def _path(kind: str, namespace: str) -> str:
    path = _PATHS[kind]
    return path.format(namespace=namespace) if namespace else path.replace("/namespaces/{namespace}", "")


def connect(
    context_name: str | None, namespace: str | None = None, *, told: Callable[[str], None] = lambda _: None
) -> Api:
    """The API of a context: the named one, else the current one, else that of the pod this runs in.

    `told` gets a line where the API puts requests off for long.

    Raises:
        AccessError: there is no kubeconfig, or no such context in it, or it can't be used. No request is made.
    """

    client, context = _connected(context_name, namespace)

    def renew() -> Any:
        # By its name: the current context may be another one by now.
        renewed, found = _connected(None if context.in_cluster else context.name, namespace)
        return renewed if found.server == context.server else client

    return Api(client, context, renew=renew, told=told)


def _connected(context_name: str | None, namespace: str | None) -> tuple[Any, Context]:
    found = kubeconfig.find(context_name)
    context = Context(found.context, namespace or found.namespace, found.configuration.host, found.in_cluster)
    return _client(found.configuration), context


def _ahead(headers: Mapping[str, str]) -> timedelta:
    """How far the API server's clock is ahead of this machine's; nothing where it does not tell."""
    try:
        ahead = parsedate_to_datetime(headers["Date"]) - datetime.now(UTC)
    except (KeyError, TypeError, ValueError):
        return timedelta(0)
    # It tells whole seconds, and its answer took some time.
    return ahead if abs(ahead) > timedelta(seconds=2) else timedelta(0)


def _client(configuration: Any) -> Any:
    from kubernetes import client
    from urllib3.exceptions import ReadTimeoutError
    from urllib3.util import Retry

    class OfABrokenConnection(Retry):
        """Such as one that was kept, and that the other side has closed meanwhile. A request that is not answered in
        time is none, though both are errors of reading to urllib3: made again, it would take twice its time."""

        def increment(self, *request: Any, **more: Any) -> Any:
            if isinstance(error := more.get("error"), ReadTimeoutError):
                raise error
            return super().increment(*request, **more)

    # What the API puts off is made again here, whatever the method.
    configuration.retries = OfABrokenConnection(1, respect_retry_after_header=False)
    return client.ApiClient(configuration)
