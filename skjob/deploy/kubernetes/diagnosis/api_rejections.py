"""Explain why the API rejects the objects of a starting run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import NotFound, Rejected
from skjob.deploy.kubernetes.api.rbac import missing
from skjob.deploy.kubernetes.diagnosis.rejections import hint_for_rejection
from skjob.errors import ConfigError, ForbiddenError, OperatorError, SkjobError, StartError

_TERMINATING = "because it is being terminated"
_OTHER_DEFINITION = re.compile(r"strict decoding error: (.*)|is invalid: (.*)", re.DOTALL)


def is_terminating(error: SkjobError) -> bool:
    """Return whether the API rejects an object because its namespace is being deleted."""
    return _TERMINATING in error.message


def other_definition(message: str) -> str:
    """Return why the API rejects every DaskCluster of this version; empty if it rejects this one for another reason."""
    match = _OTHER_DEFINITION.search(message)
    return " ".join((match[1] or match[2]).split()) if match else ""


@contextmanager
def explain_rejections(api: Api) -> Iterator[None]:
    """Turn rejections of objects in the context's namespace into errors that end the run."""
    namespace = api.context.namespace
    try:
        yield
    except NotFound as error:
        if "namespaces " not in error.message:
            raise OperatorError(
                f"the cluster of context `{api.context.name}` no longer knows DaskClusters",
                f"`skjob install --context {api.context.name}` restores them",
            ) from error
        raise ConfigError(
            f"namespace `{namespace}` does not exist in the cluster of context `{api.context.name}`",
            "choose an existing one with `--namespace`, or ask for it to be created",
        ) from error
    except Rejected as error:
        if is_terminating(error):
            raise StartError(
                f"the namespace `{namespace}` is being deleted",
                "choose another with `--namespace`, or wait until it is gone and ask for a new one",
            ) from error
        if "daskcluster" in error.message.lower() and (difference := other_definition(error.message)):
            raise OperatorError(
                f"the cluster of context `{api.context.name}` has another version of DaskClusters than"
                f" dask-kubernetes here: {difference}",
                f"`skjob install --context {api.context.name}` upgrades the operator to this version; if somebody"
                " else installed it, ask them",
            ) from error
        hint = hint_for_rejection(error.message) or "a rule of this cluster rejects the run: ask your platform team"
        raise StartError(error.message, hint) from error
    except ForbiddenError as error:
        missing_permissions = ", ".join(
            f"`{permission}`" for permission in missing(api, namespace) if not permission.optional
        )
        raise ForbiddenError(
            f"missing permissions in namespace `{namespace}`: {missing_permissions or error.message}",
            "ask for the Role that `skjob doctor --role` prints",
        ) from error
