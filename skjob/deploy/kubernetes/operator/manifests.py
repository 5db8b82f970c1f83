"""Build the objects of the Dask operator and of a namespace's defaults."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

from skjob.deploy.kubernetes.api.client import DASK_GROUP
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests.labels import DEFAULTS_CONFIGMAP, INSTANCE_LABEL, MANAGED_BY_LABEL, NAME_LABEL
from skjob.deploy.kubernetes.operator.state import (
    OPERATOR_NAME,
)
from skjob.errors import OperatorError

OPERATOR_NAMESPACE = "dask-operator"


_CHART = Path("dask_kubernetes/operator/deployment/helm/dask-kubernetes-operator")


@dataclass(frozen=True)
class Defaults:
    """Defaults for runs in a namespace unless the user sets something else; values as the user writes them."""

    namespace: str
    image: str | None = None
    worker_cpu: str | None = None
    worker_memory: str | None = None

    @property
    def data(self) -> dict[str, str]:
        """The ConfigMap's data: only what was given."""
        values = {"image": self.image, "worker-cpu": self.worker_cpu, "worker-memory": self.worker_memory}
        return {key: value for key, value in values.items() if value is not None}


def operator_version() -> str:
    """Return the version of dask-kubernetes on this machine, which is also the operator's."""
    return version("dask-kubernetes")


def default_operator_image() -> str:
    """Return the image that Dask publishes for this version."""
    return f"ghcr.io/dask/dask-kubernetes-operator:{operator_version()}"


def install_manifests(operator_image: str | None, defaults: Defaults | None) -> list[Manifest]:
    """Return everything that `install` applies, in order; needs the installed package but no cluster."""
    manifests = operator_manifests(operator_image or default_operator_image(), OPERATOR_NAMESPACE)
    return [*manifests, defaults_manifest(defaults)] if defaults and defaults.data else manifests


def operator_manifests(image: str, namespace: str) -> list[Manifest]:
    """Return the operator and all that it needs, in an order in which it can be applied."""
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
    namespace_object = named("v1", "Namespace", namespace)
    namespace_object["metadata"]["labels"] = labels | {"pod-security.kubernetes.io/enforce": "restricted"}
    return [
        namespace_object,
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
    """Return DaskCluster and the related definitions from the package, without importing it, which takes seconds."""
    return [_load_yaml(path) for path in definition_files()]


def definition_files() -> list[Path]:
    """Return the package's files that contain the custom resource definitions."""
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
    """Return what the operator's handlers and their framework use, as checked by `tests/kind/test_install.py`."""

    def rule(group: str, resources: list[str], verbs: list[str]) -> Manifest:
        return {"apiGroups": [group], "resources": resources, "verbs": verbs}

    read_verbs = ["get", "list", "watch"]
    return [
        rule("apiextensions.k8s.io", ["customresourcedefinitions"], ["list", "watch"]),
        rule("", ["namespaces"], ["list", "watch"]),
        rule(
            DASK_GROUP,
            ["daskclusters", "daskworkergroups", "daskjobs", "daskautoscalers"],
            [*read_verbs, "create", "patch", "delete"],
        ),
        rule(DASK_GROUP, ["daskjobs/status", "daskclusters/scale", "daskworkergroups/scale"], ["get", "patch"]),
        # Needed to set owners that block deletion, if the cluster enforces that permission (OpenShift does).
        rule(DASK_GROUP, ["daskclusters/finalizers", "daskworkergroups/finalizers", "daskjobs/finalizers"], ["update"]),
        rule("", ["pods", "services"], [*read_verbs, "create", "patch", "delete"]),
        rule("apps", ["deployments"], [*read_verbs, "create", "patch", "delete"]),
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
        # No peering: there is one operator, and looking for others needs permissions for a kind that does not exist.
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
        # Two operators at a time would both react to every change.
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
    """Return the ConfigMap that every run in a namespace reads."""
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
