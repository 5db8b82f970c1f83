"""The Dask operator: whether a cluster has one, and putting it there.

What is installed comes from the dask-kubernetes package on this machine, its custom resources as they stand, so that
client and operator speak the same version. The Deployment and its permissions are skjob's own: no verb that the
operator's handlers do not use, a restricted pod, resources on it. Everything goes in by server-side apply, which makes
a second installation a no-op and a newer one an upgrade. An operator that somebody else installed is left as it is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

from skjob.cluster.api import DASK_GROUP, Api, Manifest, NotFound
from skjob.cluster.diagnose import diagnose
from skjob.cluster.names import DEFAULTS_CONFIGMAP, INSTANCE_LABEL, MANAGED_BY_LABEL, NAME_LABEL
from skjob.errors import ConfigError, ForbiddenError, OperatorError

CUSTOM_RESOURCES = f"{DASK_GROUP}/v1"
OPERATOR_NAMESPACE = "dask-operator"
OPERATOR_NAME = "dask-kubernetes-operator"
OPERATOR_SELECTOR = f"{NAME_LABEL}={OPERATOR_NAME}"
OLDEST_OPERATOR = (2023, 8)
"""From then on, workers are Deployments: each can be removed by its name."""

_CHART = Path("dask_kubernetes/operator/deployment/helm/dask-kubernetes-operator")
_POLL = 0.5

Tell = Callable[[str], None]


# --- what there is


class Presence(StrEnum):
    """Whether something is there. Whoever may not look can't know."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class OperatorState:
    """What can be seen of the Dask operator. The fields after `deployment` are empty unless it is PRESENT."""

    custom_resources: bool
    deployment: Presence
    namespace: str = ""
    name: str = ""
    image: str = ""
    version: str = ""
    ready: bool = False
    ours: bool = False

    @property
    def too_old(self) -> bool:
        """Known to make pods in a way that skjob can't work with."""
        return bool(re.match(r"v?\d+\.\d+", self.version)) and _release(self.version) < OLDEST_OPERATOR

    @property
    def trouble(self) -> str:
        """Why it will not act, as far as can be seen; empty where nothing is known against it."""
        where = f"the Dask operator `{self.namespace}/{self.name}`"
        if not self.custom_resources:
            return "the API does not know DaskClusters: there is no Dask operator"
        if self.deployment is Presence.ABSENT:
            return "there is no Deployment of a Dask operator in the cluster"
        if self.deployment is Presence.PRESENT and not self.ready:
            return f"{where} does not run"
        if self.too_old:
            oldest = ".".join(map(str, OLDEST_OPERATOR))
            return f"{where} is of version {self.version}, and skjob needs {oldest} or later"
        return ""


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def has_operator(api: Api) -> bool:
    """Whether the API knows DaskClusters: one request, which every user may make.

    It tells that an operator was installed, not that it acts: that is `operator_state`, which needs more permissions.
    """
    return api.serves(CUSTOM_RESOURCES)


def why_no_operator(api: Api) -> str:
    """In words, where `has_operator` says no."""
    others = api.versions_of(DASK_GROUP)
    if others:
        return f"the cluster of context `{api.context.name}` has DaskClusters of {', '.join(others)}, not of v1"
    return f"the cluster of context `{api.context.name}` has no Dask operator"


def operator_state(api: Api) -> OperatorState:
    """What can be seen of the operator, wherever in the cluster it is."""
    custom_resources = has_operator(api)
    try:
        deployments = api.list("Deployment", selector=OPERATOR_SELECTOR)
    except ForbiddenError:
        return OperatorState(custom_resources, Presence.UNKNOWN)
    if not deployments:
        return OperatorState(custom_resources, Presence.ABSENT)
    # Of several, the one that acts is the one that counts.
    deployment = max(deployments, key=_available)
    metadata = deployment["metadata"]
    image = deployment["spec"]["template"]["spec"]["containers"][0].get("image", "")
    return OperatorState(
        custom_resources,
        Presence.PRESENT,
        namespace=metadata["namespace"],
        name=metadata["name"],
        image=image,
        version=(metadata.get("labels") or {}).get("app.kubernetes.io/version", "") or _tag(image),
        ready=_available(deployment),
        ours=_is_ours(deployment),
    )


def _available(deployment: Manifest) -> bool:
    """Whether the newest version of a Deployment runs."""
    status = deployment.get("status", {})
    return bool(
        status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
        and status.get("updatedReplicas", 0) >= 1
        and status.get("availableReplicas", 0) >= 1
    )


def _is_ours(deployment: Manifest) -> bool:
    return (deployment["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) == "skjob"


def _tag(image: str) -> str:
    """`v1` of `host:5000/name:v1`; empty where there is none."""
    last = image.split("@")[0].rpartition("/")[2]
    return last.partition(":")[2]


# --- what is installed


@dataclass(frozen=True)
class Defaults:
    """What runs in a namespace take unless the user says otherwise; values as the user spells them."""

    namespace: str
    image: str | None = None
    worker_cpu: str | None = None
    worker_memory: str | None = None

    @property
    def data(self) -> dict[str, str]:
        """The ConfigMap's data: only what was given."""
        values = {"image": self.image, "worker-cpu": self.worker_cpu, "worker-memory": self.worker_memory}
        return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True)
class Installed:
    """What `install` did. `foreign` is the operator that was there already and was left alone."""

    operator: OperatorState
    applied: tuple[str, ...]
    foreign: bool


def operator_version() -> str:
    """The version of dask-kubernetes on this machine, which is the operator's too."""
    return version("dask-kubernetes")


def default_operator_image() -> str:
    """The image that the operator's makers publish for this version."""
    return f"ghcr.io/dask/dask-kubernetes-operator:{operator_version()}"


def install_manifests(operator_image: str | None, defaults: Defaults | None) -> list[Manifest]:
    """Everything that `install` applies, in that order; it needs the installed package and no cluster."""
    manifests = operator_manifests(operator_image or default_operator_image(), OPERATOR_NAMESPACE)
    return [*manifests, defaults_manifest(defaults)] if defaults and defaults.data else manifests


def operator_manifests(image: str, namespace: str) -> list[Manifest]:
    """The operator and all that it needs, in an order in which it can be applied."""
    labels = {
        NAME_LABEL: OPERATOR_NAME,
        INSTANCE_LABEL: "skjob",
        MANAGED_BY_LABEL: "skjob",
        "app.kubernetes.io/version": operator_version(),
    }

    def named(api_version: str, kind: str, name: str, **fields: Any) -> Manifest:
        return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "labels": labels}, **fields}

    def namespaced(api_version: str, kind: str, **fields: Any) -> Manifest:
        manifest = named(api_version, kind, OPERATOR_NAME, **fields)
        manifest["metadata"] = {"name": OPERATOR_NAME, "namespace": namespace, "labels": labels}
        return manifest

    rbac = "rbac.authorization.k8s.io"
    home = named("v1", "Namespace", namespace)
    home["metadata"]["labels"] = labels | {"pod-security.kubernetes.io/enforce": "restricted"}
    return [
        home,
        *custom_resource_definitions(),
        namespaced("v1", "ServiceAccount"),
        named(f"{rbac}/v1", "ClusterRole", OPERATOR_NAME, rules=_operator_rules()),
        named(
            f"{rbac}/v1",
            "ClusterRoleBinding",
            OPERATOR_NAME,
            roleRef={"apiGroup": rbac, "kind": "ClusterRole", "name": OPERATOR_NAME},
            subjects=[{"kind": "ServiceAccount", "name": OPERATOR_NAME, "namespace": namespace}],
        ),
        namespaced("apps/v1", "Deployment", spec=_operator_deployment(image, labels)),
    ]


def custom_resource_definitions() -> list[Manifest]:
    """DaskCluster and its kin, from the installed package, which is not imported: that alone takes seconds."""
    return [_load_yaml(path) for path in definition_files()]


def definition_files() -> list[Path]:
    """Where the package has them."""
    folder = Path(str(distribution("dask-kubernetes").locate_file(_CHART / "crds")))
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise OperatorError(
            f"the installed dask-kubernetes {operator_version()} has no custom resources in `{folder}`",
            "reinstall it: `pip install --force-reinstall dask-kubernetes`",
        )
    return files


def _load_yaml(path: Path) -> Manifest:
    import yaml

    # The definitions are a megabyte, for which the loader in pure Python takes ten seconds.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    manifest: Manifest = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - a safe loader
    return manifest


def _operator_rules() -> list[Manifest]:
    """What the operator's handlers and the framework under them use; `tests/kind/test_install.py` holds it to that."""

    def rule(group: str, resources: list[str], verbs: list[str]) -> Manifest:
        return {"apiGroups": [group], "resources": resources, "verbs": verbs}

    watched = ["get", "list", "watch"]
    return [
        rule("apiextensions.k8s.io", ["customresourcedefinitions"], ["list", "watch"]),
        rule("", ["namespaces"], ["list", "watch"]),
        rule(
            DASK_GROUP,
            ["daskclusters", "daskworkergroups", "daskjobs", "daskautoscalers"],
            [*watched, "create", "patch", "delete"],
        ),
        rule(DASK_GROUP, ["daskjobs/status", "daskclusters/scale", "daskworkergroups/scale"], ["get", "patch"]),
        # To be named as an owner that blocks deletion, where the cluster enforces that permission (OpenShift does).
        rule(DASK_GROUP, ["daskclusters/finalizers", "daskworkergroups/finalizers", "daskjobs/finalizers"], ["update"]),
        rule("", ["pods", "services"], [*watched, "create", "patch", "delete"]),
        rule("apps", ["deployments"], [*watched, "create", "patch", "delete"]),
        rule("", ["events"], ["create", "patch"]),
    ]


def _operator_deployment(image: str, labels: dict[str, str]) -> Manifest:
    selector = {NAME_LABEL: OPERATOR_NAME, INSTANCE_LABEL: "skjob"}
    probe = {"httpGet": {"path": "/healthz", "port": "health"}, "timeoutSeconds": 5}
    container = {
        "name": "operator",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["kopf", "run", "-m", "dask_kubernetes.operator.controller"],
        # No peering: there is one operator, and looking for others takes permissions for a kind that is not there.
        "args": ["--liveness=http://0.0.0.0:8080/healthz", "--all-namespaces", "--standalone"],
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 - the only folder that can be written
        "ports": [{"name": "health", "containerPort": 8080}],
        "readinessProbe": probe | {"periodSeconds": 2, "failureThreshold": 30},
        "livenessProbe": probe | {"initialDelaySeconds": 60, "periodSeconds": 20, "failureThreshold": 3},
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }
    return {
        "replicas": 1,
        # Two operators at a time would both answer to every change.
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": selector},
        "template": {
            "metadata": {"labels": labels},
            "spec": {
                "serviceAccountName": OPERATOR_NAME,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 1000,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "terminationGracePeriodSeconds": 10,
                "containers": [container],
                "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
            },
        },
    }


def defaults_manifest(defaults: Defaults) -> Manifest:
    """The ConfigMap that every run in a namespace reads."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": DEFAULTS_CONFIGMAP,
            "namespace": defaults.namespace,
            "labels": {NAME_LABEL: "skjob", MANAGED_BY_LABEL: "skjob"},
        },
        "data": defaults.data,
    }


# --- installing it


def install(
    api: Api, operator_image: str | None, defaults: Defaults | None, *, timeout: float, tell: Tell
) -> Installed:
    """Bring the operator, and the defaults of a namespace, to what is asked for; returns when the operator acts.

    Raises:
        ConfigError: the namespace of the defaults does not exist, or no image is given where the operator has another
            than its makers'.
        OperatorError: the operator does not run within `timeout` seconds, or can't at all.
    """
    if defaults and defaults.data:
        _require_namespace(api, defaults.namespace)
    end = time.monotonic() + timeout
    state = operator_state(api)
    begun = f"{api.now():%Y-%m-%dT%H:%M:%SZ}"
    foreign = state.deployment is Presence.PRESENT and not state.ours
    if operator_image is None:
        check_published(state)
    manifests = install_manifests(operator_image, defaults)
    if foreign:
        tell(f"a Dask operator is there already, `{state.namespace}/{state.name}`, and is left as it is")
        manifests = [manifest for manifest in manifests if manifest["metadata"]["name"] == DEFAULTS_CONFIGMAP]
    applied = []
    for manifest in manifests:
        api.apply(manifest)
        applied.append(_describe(manifest))
        tell(f"applied {applied[-1]}")
    if not foreign:
        definitions = [item["metadata"]["name"] for item in manifests if item["kind"] == "CustomResourceDefinition"]
        _wait_for_custom_resources(api, definitions, end, timeout)
        _wait_for_operator(api, begun, end, timeout)
    elif not state.ready:
        raise OperatorError(
            f"the Dask operator `{state.namespace}/{state.name}`, which skjob did not install, does not run",
            f"`kubectl -n {state.namespace} describe deployment {state.name}` shows why",
        )
    return Installed(operator_state(api), tuple(applied), foreign)


def check_published(state: OperatorState) -> None:
    """Raises ConfigError where skjob's operator has an image of somebody's own: the published one, which it would get
    when none is given, may be out of this cluster's reach."""
    published = default_operator_image()
    if state.ours and state.image.rpartition(":")[0] != published.rpartition(":")[0]:
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
            f"there is no namespace `{namespace}` for the defaults", f"`kubectl create namespace {namespace}` makes it"
        ) from error
    except ForbiddenError:
        return  # who may write into it and may not look at it learns in a moment


def _wait_for_custom_resources(api: Api, waiting: list[str], end: float, timeout: float) -> None:
    while True:
        waiting = [name for name in waiting if not _established(api.get("CustomResourceDefinition", name))]
        if not waiting and has_operator(api):
            return
        if time.monotonic() > end:
            missing = ", ".join(f"`{name}`" for name in waiting) or f"`{CUSTOM_RESOURCES}`"
            raise OperatorError(
                f"the API does not serve {missing} after {timeout:.0f} s",
                "`kubectl describe crd` shows why; `--timeout` waits longer",
            )
        time.sleep(_POLL)


def _established(definition: Manifest) -> bool:
    conditions = definition.get("status", {}).get("conditions") or []
    return any(item["type"] == "Established" and item["status"] == "True" for item in conditions)


def _wait_for_operator(api: Api, begun: str, end: float, timeout: float) -> None:
    while not _available(api.get("Deployment", OPERATOR_NAME, OPERATOR_NAMESPACE)):
        events = api.readable_events(OPERATOR_NAMESPACE)
        pods = api.list("Pod", OPERATOR_NAMESPACE, selector=f"{OPERATOR_SELECTOR},{INSTANCE_LABEL}=skjob")
        over = time.monotonic() > end
        # What was refused before may have been mended; in the end it is why Kubernetes has not tried again.
        since = "" if over else begun
        causes = diagnose(_newest(pods), events, logs=_last_words(api, pods), since=since)
        if causes and (causes[0].fatal or over):
            cause = causes[0]
            raise OperatorError(f"the Dask operator can't run: {cause.message}", cause.hint, cause.log)
        if over:
            raise OperatorError(
                f"the Dask operator does not run after {timeout:.0f} s",
                f"`kubectl -n {OPERATOR_NAMESPACE} get pods` shows how far it is; `--timeout` waits longer",
            )
        time.sleep(_POLL)


def _newest(pods: list[Manifest]) -> list[Manifest]:
    """The pods of the newest version alone: those of an earlier one, whose image was wrong, are on their way out."""
    latest = max((pod["metadata"]["creationTimestamp"] for pod in pods), default="")
    return [pod for pod in pods if pod["metadata"]["creationTimestamp"] == latest]


def _last_words(api: Api, pods: list[Manifest]) -> dict[str, str]:
    ended = [
        pod["metadata"]["name"]
        for pod in pods
        for status in pod.get("status", {}).get("containerStatuses") or []
        if status.get("restartCount") or "terminated" in status.get("state", {})
    ]
    return {name: api.log(name, OPERATOR_NAMESPACE) for name in ended}
