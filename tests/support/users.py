"""Create users of the tests' cluster with fewer permissions than its administrator."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client

from skjob.deploy.kubernetes.api.rbac import role
from support.wait import until


def is_allowed(api: client.ApiClient, user: str, **attributes: str) -> bool:
    """Return whether a user has a permission, as the API sees it now."""
    spec = client.V1SubjectAccessReviewSpec(user=user, resource_attributes=client.V1ResourceAttributes(**attributes))
    review = client.AuthorizationV1Api(api).create_subject_access_review(client.V1SubjectAccessReview(spec=spec))
    return bool(review.status.allowed)


def user_environment(
    api: client.ApiClient,
    environment: dict[str, str],
    namespace: str,
    folder: Path,
    *,
    may_run: bool,
    name: str = "",
    without: Collection[tuple[str, str]] = (),
) -> dict[str, str]:
    """Return the environment of a user with the Role that skjob requires in one namespace, or without any permissions.

    `without` are verbs on resources that this Role lacks.
    """
    core, rbac = client.CoreV1Api(api), client.RbacAuthorizationV1Api(api)
    name = name or ("somebody" if may_run else "nobody")
    core.create_namespaced_service_account(namespace, {"metadata": {"name": name}})
    if may_run:
        rules = [
            {**rule, "verbs": [verb for verb in rule["verbs"] if (verb, rule["resources"][0]) not in without]}
            for rule in role(namespace)["rules"]
        ]
        rules = [rule for rule in rules if rule["verbs"]]
        rbac.create_namespaced_role(namespace, {"metadata": {"name": name}, "rules": rules})
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        }
        rbac.create_namespaced_role_binding(namespace, binding)
        # The API's view of the roles may be a moment old.
        user = f"system:serviceaccount:{namespace}:{name}"
        until(
            lambda: is_allowed(api, user, verb="list", resource="pods", namespace=namespace), "the Role grants nothing"
        )
    token = core.create_namespaced_service_account_token(name, namespace, {"spec": {"expirationSeconds": 3600}})
    kubeconfig: dict[str, Any] = yaml.safe_load(Path(environment["KUBECONFIG"]).read_text())
    kubeconfig["users"] = [{"name": name, "user": {"token": token.status.token}}]
    for entry in kubeconfig["contexts"]:
        entry["context"] |= {"user": name, "namespace": namespace}
    path = folder / f"{name}.kubeconfig"
    path.write_text(yaml.safe_dump(kubeconfig))
    return environment | {"KUBECONFIG": str(path)}
