"""The Kubernetes API of one context: connecting, and turning what it refuses into errors a user can act on.

A thin edge over the official client. Objects go in and come out as plain dicts in the API's own spelling, so that
manifests and diagnosis stay pure. Every request has a deadline.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skjob.errors import AccessError, ForbiddenError, SkjobError, StartError

REQUEST_TIMEOUT = (5.0, 15.0)
"""Seconds to connect, and to wait for an answer."""

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

DASK_GROUP = "kubernetes.dask.org"

Manifest = dict[str, Any]

_PATHS = {
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "DaskCluster": f"/apis/{DASK_GROUP}/v1/namespaces/{{namespace}}/daskclusters",
    "DaskWorkerGroup": f"/apis/{DASK_GROUP}/v1/namespaces/{{namespace}}/daskworkergroups",
    "Endpoints": "/api/v1/namespaces/{namespace}/endpoints",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "Event": "/api/v1/namespaces/{namespace}/events",
    "Job": "/apis/batch/v1/namespaces/{namespace}/jobs",
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


class Unanswered(AccessError):
    """The API was not reached, or is overloaded: asking again may help."""


class NotFound(SkjobError):
    """The object, or its kind, does not exist. Callers that can go on catch it."""

    exit_code = StartError.exit_code


class Conflict(SkjobError):
    """An object with this name exists, or was changed by somebody else."""

    exit_code = StartError.exit_code


class Rejected(SkjobError):
    """The API understood the object and would not have it: invalid, over quota, or refused by an admission rule."""

    exit_code = StartError.exit_code


@dataclass(frozen=True)
class Context:
    """A context of the kubeconfig, or the service account of the pod that this runs in."""

    name: str
    namespace: str
    server: str
    in_cluster: bool = False


class Api:
    """Requests to one API server. Safe to use from several threads."""

    def __init__(self, client: Any, context: Context) -> None:
        self._client = client
        self.context = context

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

    def create(self, manifest: Manifest) -> Manifest:
        """Raises Conflict where the name is taken, Rejected where the API would not have it."""
        namespace = manifest["metadata"].get("namespace", "") if "metadata" in manifest else ""
        created: Manifest = self._request("POST", _path(manifest["kind"], namespace), body=manifest)
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
        patched: Manifest = self._request("PATCH", path, body=patch, content_type=content_type)
        return patched

    def delete(self, kind: str, name: str, namespace: str = "", *, propagation: str = "Background") -> bool:
        """Ask for an object's deletion, and that of all it owns. False where it did not exist."""
        body = {"propagationPolicy": propagation}
        try:
            self._request("DELETE", f"{_path(kind, namespace)}/{name}", body=body)
        except NotFound:
            return False
        return True

    def log(self, pod: str, namespace: str, *, container: str = "", lines: int = 20, previous: bool = False) -> str:
        """The last lines that a pod wrote; empty where there are none to be had."""
        query = [("tailLines", str(lines)), ("previous", str(previous).lower())]
        query += [("container", container)] * bool(container)
        try:
            text: str = self._request("GET", f"{_path('Pod', namespace)}/{pod}/log", query=query, as_text=True)
        except SkjobError:
            return ""
        return text

    def serves(self, group_version: str) -> bool:
        """Whether the API has this group and version, `kubernetes.dask.org/v1`. Any authenticated user may ask."""
        try:
            self._request("GET", f"/apis/{group_version}")
        except NotFound:
            return False
        return True

    def version(self) -> str:
        """The API server's version, `v1.34.4`."""
        return str(self._request("GET", "/version")["gitVersion"])

    def allowed(self, verb: str, resource: str, namespace: str, *, group: str = "", subresource: str = "") -> bool:
        """Whether this context's user may do this (a SelfSubjectAccessReview)."""
        attributes = {
            "namespace": namespace,
            "verb": verb,
            "group": group,
            "resource": resource,
            "subresource": subresource,
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
        with map_errors(self.context, f"{method.lower()} {path}"):
            response = self._client.call_api(
                *self._client.param_serialize(
                    method=method,
                    resource_path=path,
                    query_params=[*query],
                    header_params={
                        "Accept": "*/*" if as_text else "application/json",
                        "Content-Type": content_type,
                    },
                    body=body,
                    auth_settings=["BearerToken"],
                ),
                _request_timeout=REQUEST_TIMEOUT if timeout is None else (timeout, timeout),
            )
            raw = response.read()
            status = response.status
            if not 200 <= status <= 299:
                from kubernetes.client.exceptions import ApiException

                raise ApiException(http_resp=response)
        text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
        if as_text:
            return text
        try:
            return json.loads(text)
        except ValueError as error:
            raise Unanswered(
                f"`{self.context.server}` does not answer as a Kubernetes API does: {_first_line(text)[:80]}",
                "a proxy in between may be in the way",
            ) from error


def _path(kind: str, namespace: str) -> str:
    path = _PATHS[kind]
    return path.format(namespace=namespace) if namespace else path.replace("/namespaces/{namespace}", "")


def connect(context_name: str | None, namespace: str | None = None) -> Api:
    """The API of a context: the named one, else the current one, else that of the pod this runs in.

    Raises:
        AccessError: there is no kubeconfig, or no such context in it, or it can't be used. No request is made.
    """
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException

    if context_name is None and _in_cluster():
        configuration = client.Configuration()
        config.load_incluster_config(client_configuration=configuration)
        own = _SERVICE_ACCOUNT.joinpath("namespace").read_text().strip()
        context = Context("in-cluster", namespace or own, configuration.host, in_cluster=True)
        return Api(_client(configuration), context)

    try:
        contexts, current = config.list_kube_config_contexts(kubeconfig())
    except ConfigException as error:
        raise AccessError(
            f"there is no usable kubeconfig: {_first_line(error)}",
            "`kubectl config view` shows what there is; `--on local` runs on this machine",
        ) from error
    names = [entry["name"] for entry in contexts]
    chosen = next((entry for entry in contexts if entry["name"] == (context_name or current["name"])), None)
    if chosen is None:
        raise AccessError(
            f"the kubeconfig has no context `{context_name}`",
            f"it has {', '.join(f'`{name}`' for name in names)}",
        )
    configuration = client.Configuration()
    try:
        config.load_kube_config(kubeconfig(), context=chosen["name"], client_configuration=configuration)
    except (ConfigException, OSError, ValueError, KeyError) as error:
        raise AccessError(
            f"the context `{chosen['name']}` can't be used: {_first_line(error)}",
            f"`kubectl --context {chosen['name']} get pods` should work first",
        ) from error
    own = chosen["context"].get("namespace") or "default"
    return Api(_client(configuration), Context(chosen["name"], namespace or own, configuration.host))


def kubeconfig() -> str:
    """Where the kubeconfig is: as it is now, not as it was when the client library was imported."""
    return os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())


@contextmanager
def map_errors(context: Context, action: str) -> Iterator[None]:
    """What the client library raises, as the error that says what to do. `action` is the request, in short."""
    import urllib3.exceptions
    from kubernetes.client.exceptions import ApiException

    try:
        yield
    except ApiException as error:
        raise _refusal(context, action, error) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        cause = getattr(error, "reason", None) or error
        raise Unanswered(
            f"the Kubernetes API of context `{context.name}` at `{context.server}` does not answer:"
            f" {_first_line(cause)}",
            f"`kubectl --context {context.name} version` should work first; `--on local` runs on this machine",
        ) from error


def _refusal(context: Context, action: str, error: Any) -> SkjobError:
    try:
        message = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        message = _first_line(error.reason or error)
    if error.status == 401:
        return AccessError(
            f"the Kubernetes API of context `{context.name}` does not accept its credentials: {message}",
            "log in again, as your platform team's instructions say",
        )
    if error.status == 403 and "is forbidden: User" in message:
        return ForbiddenError(message, "`skjob doctor` lists every permission that a run needs and which are missing")
    kinds = {403: Rejected, 404: NotFound, 409: Conflict, 422: Rejected, 400: Rejected}
    if error.status in kinds:
        return kinds[error.status](message)
    return Unanswered(f"the Kubernetes API answers `{action}` with {error.status}: {message}", "try again later")


def _client(configuration: Any) -> Any:
    from kubernetes import client

    configuration.retries = 1
    return client.ApiClient(configuration)


def _in_cluster() -> bool:
    return _SERVICE_ACCOUNT.joinpath("token").exists() and not os.environ.get("KUBECONFIG")


def _first_line(error: object) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
