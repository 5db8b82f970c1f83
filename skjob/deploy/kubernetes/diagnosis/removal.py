"""Find out whether a cluster was removed, and by what."""

from __future__ import annotations

from skjob.deploy.base import Problem
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import NotFound
from skjob.deploy.kubernetes.diagnosis.api_rejections import is_terminating
from skjob.errors import SkjobError


def removal_reason(api: Api, cluster: str, ending: str, timeout: float) -> Problem | None:
    """Return why a cluster is gone for good; None if it exists, or if that cannot be found out.

    `ending` is why its heartbeats stopped moving its deadline, empty if they did not. `timeout` is how many seconds it
    lives without a heartbeat.
    """
    namespace = api.context.namespace
    try:
        anchor = api.get("Job", cluster, namespace)
    except NotFound:
        anchor = None
    except SkjobError:
        return None
    # When a namespace is deleted, its pods go first, and the anchor stays until they are gone.
    if _is_namespace_terminating(api, namespace):
        return Problem(
            f"the namespace `{namespace}` is being deleted",
            "run it again in another with `--namespace`; finished fits are reused",
        )
    if anchor is not None and "deletionTimestamp" not in anchor["metadata"]:
        return None
    if ending:
        return Problem(
            f"`{cluster}` has ended: {ending}", "raise that limit and run it again; finished fits are reused"
        )
    return Problem(
        f"`{cluster}` was removed, by a user or after {timeout:.0f} s without a heartbeat",
        "run it again; finished fits are reused",
    )


def _is_namespace_terminating(api: Api, namespace: str) -> bool:
    """Return whether creating an object fails because of it: users may try that, but may not read the namespace."""
    probe = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"generateName": "skjob-", "namespace": namespace},
    }
    try:
        api.create(probe, dry_run=True)
    except NotFound:
        return True
    except SkjobError as error:
        return is_terminating(error)
    return False
