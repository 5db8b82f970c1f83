"""Explain why the API rejects the objects of a run that starts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import NotFound, Rejected
from skjob.deploy.kubernetes.api.rbac import missing
from skjob.deploy.kubernetes.diagnosis.rejections import hint_of_refusal
from skjob.errors import ConfigError, ForbiddenError, OperatorError, SkjobError, StartError

_TERMINATING = "because it is being terminated"
_OTHER_DEFINITION = re.compile(r"strict decoding error: (.*)|is invalid: (.*)", re.DOTALL)


def is_terminating(error: SkjobError) -> bool:
    """Return whether the API refuses an object because its namespace is being deleted."""
    return _TERMINATING in error.message


def other_definition(message: str) -> str:
    """Return why the API refuses every DaskCluster of this version; empty if it refuses this one for another reason."""
    found = _OTHER_DEFINITION.search(message)
    return " ".join((found[1] or found[2]).split()) if found else ""


@contextmanager
def explain_rejections(api: Api) -> Iterator[None]:
    """Around the creation of objects in the context's namespace, turn rejections into errors that end the run."""
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
            f"there is no namespace `{namespace}` in the cluster of context `{api.context.name}`",
            "name one that is there with `--namespace`, or ask for it",
        ) from error
    except Rejected as error:
        if is_terminating(error):
            raise StartError(
                f"the namespace `{namespace}` is being deleted",
                "name another with `--namespace`, or wait until it is gone and ask for it anew",
            ) from error
        if "daskcluster" in error.message.lower() and (unlike := other_definition(error.message)):
            raise OperatorError(
                f"the cluster of context `{api.context.name}` has another version of DaskClusters than"
                f" dask-kubernetes here: {unlike}",
                f"`skjob install --context {api.context.name}` upgrades the operator to this version; if somebody"
                " else installed it, ask them",
            ) from error
        hint = hint_of_refusal(error.message) or "the cluster's own rules refuse the run: ask who keeps them"
        raise StartError(error.message, hint) from error
    except ForbiddenError as error:
        lacking = ", ".join(f"`{permission}`" for permission in missing(api, namespace) if not permission.optional)
        raise ForbiddenError(
            f"missing permissions in namespace `{namespace}`: {lacking or error.message}",
            "`skjob doctor --role` prints the Role that gives it; ask for that",
        ) from error
