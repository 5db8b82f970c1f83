"""What the API refuses to a run as it begins, as the error that says what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from skjob.cluster.api import Api, NotFound, Rejected
from skjob.cluster.permissions import missing
from skjob.errors import ForbiddenError, StartError


@contextmanager
def refusals_explained(api: Api) -> Iterator[None]:
    """Around the creation of the first objects in the context's namespace: what forbids them, forbids all."""
    namespace = api.context.namespace
    try:
        yield
    except NotFound as error:
        raise StartError(
            f"there is no namespace `{namespace}` in the cluster of context `{api.context.name}`",
            "name one that is there with `--namespace`, or ask for it",
        ) from error
    except Rejected as error:
        raise StartError(error.message, "the cluster's own rules refuse the run: ask who keeps them") from error
    except ForbiddenError as error:
        lacking = ", ".join(f"`{permission}`" for permission in missing(api, namespace))
        raise ForbiddenError(
            f"you may not do in namespace `{namespace}` what a run needs: {lacking or error.message}",
            "`skjob doctor --role` prints the Role that gives it; ask for that",
        ) from error
