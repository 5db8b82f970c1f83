"""Permissions of a run in its namespace: one table for the Role that grants them and the check that they are granted.

The table is complete: a request that skjob makes and that is not in it is a bug, found by the tests on a cluster, which
run as a user with this Role and nothing else. Requests that skjob can do without (listing nodes, reading what
Kubernetes derives from a run's objects) are not in it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from skjob.deploy.kubernetes.api.client import DASK_GROUP, Api
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests.labels import LEDGER_CONFIGMAP, MANAGED_BY_LABEL, NAME_LABEL

_PARALLEL = 8

ROLE_NAME = "skjob-user"


@dataclass(frozen=True)
class Permission:
    """Verbs on one kind of object, and what a run needs them for; `optional` if it works without."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    purpose: str
    optional: bool = False

    def __str__(self) -> str:
        return f"{', '.join(self.verbs)} {self.resource}"


RUN_PERMISSIONS = (
    Permission("batch", "jobs", ("create", "get", "list", "patch", "delete"), "the anchor that owns a run's objects"),
    Permission("", "secrets", ("create", "get"), "a run's certificates"),
    Permission("", "configmaps", ("create", "get", "list", "delete"), "the namespace's defaults, and skjob's source"),
    Permission(DASK_GROUP, "daskclusters", ("create", "get", "list", "patch", "delete"), "the Dask cluster"),
    Permission(DASK_GROUP, "daskworkergroups", ("get", "list", "patch", "delete"), "the number of workers"),
    Permission("apps", "deployments", ("get", "list", "delete"), "removing one worker and no other"),
    Permission("", "services", ("create", "get", "list", "delete"), "the addresses of scheduler and environment"),
    Permission("", "pods", ("get", "list", "watch", "delete"), "whether scheduler and workers run"),
    Permission("", "pods/log", ("get",), "what pods wrote before they ended"),
    Permission("", "pods/portforward", ("create", "get"), "reaching the scheduler from this machine"),
    Permission("", "events", ("list",), "why a pod does not run"),
    Permission(
        "networking.k8s.io",
        "networkpolicies",
        ("create", "list"),
        "keeping other pods from connecting to a run's",
        optional=True,
    ),
)
"""Everything that a run, `ps`, `down` and `doctor` need in a namespace."""

LEDGER_PERMISSION = Permission("", "configmaps", ("patch",), "the team's totals of costs", optional=True)
"""Granted for one ConfigMap only, the ledger."""


def missing(api: Api, namespace: str) -> list[Permission]:
    """Return the permissions of the table that this context's user lacks in a namespace, reduced to the missing
    verbs."""
    questions = [(permission, verb) for permission in RUN_PERMISSIONS for verb in permission.verbs]

    def allowed(question: tuple[Permission, str]) -> bool:
        permission, verb = question
        resource, _, subresource = permission.resource.partition("/")
        return api.allowed(verb, resource, namespace, group=permission.group, subresource=subresource)

    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="skjob-access") as pool:
        answers = dict(zip(questions, pool.map(allowed, questions), strict=True))
    denied = (
        replace(permission, verbs=tuple(verb for verb in permission.verbs if not answers[permission, verb]))
        for permission in RUN_PERMISSIONS
    )
    return [permission for permission in denied if permission.verbs]


def bindings_of(api: Api, account: str, namespace: str) -> list[str]:
    """Return the RoleBindings of a namespace and the ClusterRoleBindings that give rights to one of its service
    accounts.

    Raises:
        ForbiddenError: the context's user may not list them.
    """
    return [
        f"{kind} `{each['metadata']['name']}`"
        for kind in ("RoleBinding", "ClusterRoleBinding")
        for each in api.list(kind, namespace if kind == "RoleBinding" else "")
        if any(_includes(subject, account, namespace) for subject in each.get("subjects") or [])
    ]


def _includes(subject: Manifest, account: str, namespace: str) -> bool:
    """Return whether a subject is a service account, or the group of all service accounts of its namespace."""
    kind, name = subject.get("kind"), subject.get("name")
    if kind == "Group":
        return bool(name == f"system:serviceaccounts:{namespace}")
    return (kind, name, subject.get("namespace")) == ("ServiceAccount", account, namespace)


def role(namespace: str, name: str = ROLE_NAME) -> Manifest:
    """Return the Role that grants the table and writing to the ledger, and nothing else."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace, "labels": {NAME_LABEL: "skjob", MANAGED_BY_LABEL: "skjob"}},
        "rules": [*role_rules(), ledger_rule()],
    }


def ledger_rule() -> Manifest:
    """Return the rule that lets a run add its costs."""
    permission = LEDGER_PERMISSION
    return {
        "apiGroups": [permission.group],
        "resources": [permission.resource],
        "resourceNames": [LEDGER_CONFIGMAP],
        "verbs": [*permission.verbs],
    }


def role_rules() -> list[Manifest]:
    """Return the Role's rules, one for each row of the table."""
    return [
        {"apiGroups": [permission.group], "resources": [permission.resource], "verbs": [*permission.verbs]}
        for permission in RUN_PERMISSIONS
    ]
