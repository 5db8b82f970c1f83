"""Install the Dask operator.

It is installed from the dask-kubernetes package on this machine, with its custom resources unchanged, so that client
and operator have the same version. The Deployment and its permissions are skjob's own: only verbs that the operator's
handlers use, a restricted pod with resource limits. Everything is applied server-side, which makes a second
installation a no-op and a newer one an upgrade. An operator that somebody else installed is left as it is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import NotFound
from skjob.deploy.kubernetes.diagnosis.causes import diagnose
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests.labels import DEFAULTS_CONFIGMAP, INSTANCE_LABEL
from skjob.deploy.kubernetes.operator.manifests import (
    OPERATOR_NAMESPACE,
    Defaults,
    default_operator_image,
    install_manifests,
)
from skjob.deploy.kubernetes.operator.state import (
    CUSTOM_RESOURCES,
    OPERATOR_NAME,
    OPERATOR_SELECTOR,
    OperatorState,
    Presence,
    has_operator,
    is_available,
    operator_state,
)
from skjob.errors import ConfigError, ForbiddenError, OperatorError
from skjob.utils.notify import Notify

_POLL = 0.5


@dataclass(frozen=True)
class Installed:
    """Result of `install_operator`. With `foreign`, somebody else's operator existed and was left alone."""

    operator: OperatorState
    applied: tuple[str, ...]
    foreign: bool


def install_operator(
    api: Api, operator_image: str | None, defaults: Defaults | None, *, timeout: float, notify: Notify
) -> Installed:
    """Bring the operator, and a namespace's defaults, to the requested state; return when the operator is running.

    Raises:
        ConfigError: the defaults' namespace does not exist, or no image is given and the operator has another one than
            the published one.
        OperatorError: the operator does not run within `timeout` seconds, or cannot run at all.
    """
    if defaults and defaults.data:
        _require_namespace(api, defaults.namespace)
    end = time.monotonic() + timeout
    state = operator_state(api)
    begun = f"{api.now():%Y-%m-%dT%H:%M:%SZ}"
    foreign = state.deployment is Presence.PRESENT and not state.managed_by_skjob
    if operator_image is None:
        check_published(state)
    manifests = install_manifests(operator_image, defaults)
    if foreign:
        notify(f"a Dask operator already exists, `{state.namespace}/{state.name}`, and is left as it is")
        manifests = [manifest for manifest in manifests if manifest["metadata"]["name"] == DEFAULTS_CONFIGMAP]
    applied = []
    for manifest in manifests:
        api.apply(manifest)
        applied.append(_describe(manifest))
        notify(f"applied {applied[-1]}")
    if not foreign:
        definitions = [item["metadata"]["name"] for item in manifests if item["kind"] == "CustomResourceDefinition"]
        _wait_for_custom_resources(api, definitions, end, timeout)
        _wait_for_operator(api, begun, end, timeout)
    elif not state.ready:
        raise OperatorError(
            f"the Dask operator `{state.namespace}/{state.name}`, which skjob did not install, is not running",
            f"`kubectl -n {state.namespace} describe deployment {state.name}` shows why",
        )
    return Installed(operator_state(api), tuple(applied), foreign)


def check_published(state: OperatorState) -> None:
    """Raise ConfigError if skjob's operator has a custom image.

    Without `--image` it would get the published one, which this cluster may not be able to pull.
    """
    published = default_operator_image()
    if state.managed_by_skjob and state.image.rpartition(":")[0] != published.rpartition(":")[0]:
        raise ConfigError(
            f"the Dask operator has the image `{state.image}`; without `--image` it would get `{published}`",
            f"`--image {state.image}` leaves it as it is, `--image {published}` changes it",
        )


def _describe(manifest: Manifest) -> str:
    metadata = manifest["metadata"]
    place = f" in `{metadata['namespace']}`" if "namespace" in metadata else ""
    return f"{manifest['kind']} `{metadata['name']}`{place}"


def _require_namespace(api: Api, namespace: str) -> None:
    try:
        api.get("Namespace", namespace)
    except NotFound as error:
        raise ConfigError(
            f"namespace `{namespace}` for the defaults does not exist",
            f"`kubectl create namespace {namespace}` creates it",
        ) from error
    except ForbiddenError:
        return  # the user may not read it; writing to it will show whether it exists


def _wait_for_custom_resources(api: Api, pending: list[str], end: float, timeout: float) -> None:
    while True:
        pending = [name for name in pending if not _established(api.get("CustomResourceDefinition", name))]
        if not pending and has_operator(api):
            return
        if time.monotonic() > end:
            missing = ", ".join(f"`{name}`" for name in pending) or f"`{CUSTOM_RESOURCES}`"
            raise OperatorError(
                f"the API does not serve {missing} after {timeout:.0f} s",
                "`kubectl describe crd` shows why; wait longer with `--timeout`",
            )
        time.sleep(_POLL)


def _established(definition: Manifest) -> bool:
    conditions = definition.get("status", {}).get("conditions") or []
    return any(item["type"] == "Established" and item["status"] == "True" for item in conditions)


def _wait_for_operator(api: Api, begun: str, end: float, timeout: float) -> None:
    while not is_available(api.get("Deployment", OPERATOR_NAME, OPERATOR_NAMESPACE)):
        events = api.readable_events(OPERATOR_NAMESPACE)
        pods = api.list("Pod", OPERATOR_NAMESPACE, selector=f"{OPERATOR_SELECTOR},{INSTANCE_LABEL}=skjob")
        timed_out = time.monotonic() > end
        # What was rejected before may have been fixed; at the deadline it is why Kubernetes has not retried.
        since = "" if timed_out else begun
        causes = diagnose(_newest(pods), events, logs=_logs_of_ended(api, pods), since=since)
        if causes and (causes[0].fatal or timed_out):
            cause = causes[0]
            raise OperatorError(f"the Dask operator cannot run: {cause.message}", cause.hint, cause.log)
        if timed_out:
            raise OperatorError(
                f"the Dask operator is not running after {timeout:.0f} s",
                f"`kubectl -n {OPERATOR_NAMESPACE} get pods` shows its progress; wait longer with `--timeout`",
            )
        time.sleep(_POLL)


def _newest(pods: list[Manifest]) -> list[Manifest]:
    """Return the pods of the newest version: earlier ones, whose image was wrong, are being replaced."""
    latest = max((pod["metadata"]["creationTimestamp"] for pod in pods), default="")
    return [pod for pod in pods if pod["metadata"]["creationTimestamp"] == latest]


def _logs_of_ended(api: Api, pods: list[Manifest]) -> dict[str, str]:
    ended = [
        pod["metadata"]["name"]
        for pod in pods
        for status in pod.get("status", {}).get("containerStatuses") or []
        if status.get("restartCount") or "terminated" in status.get("state", {})
    ]
    return {name: api.log(name, OPERATOR_NAMESPACE) for name in ended}
