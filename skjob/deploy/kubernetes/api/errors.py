"""Turn errors of the Kubernetes API into errors of skjob."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from skjob.deploy.kubernetes.api.context import Context
from skjob.errors import ForbiddenError, SkjobError, StartError, Unanswered, Unauthorized, first_line


class Throttled(Unanswered):
    """The API is overloaded and has not processed the request: it may be sent again.

    `retry_after` is the header of that name, empty if the API sent none.
    """

    def __init__(self, message: str, hint: str, retry_after: str) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class NotFound(SkjobError):
    """The object, or its kind, does not exist. Callers that can do without it catch this."""

    exit_code = StartError.exit_code


class Conflict(SkjobError):
    """An object with this name exists, or somebody else changed it."""

    exit_code = StartError.exit_code


class Raced(Conflict):
    """Somebody else was changing what the request needs, a quota mostly: it may be sent again at once."""


class Rejected(SkjobError):
    """The API understood the object and rejected it: invalid, over quota, or against an admission rule."""

    exit_code = StartError.exit_code


def as_api_exception(response: Any) -> Exception:
    """Return the client library's exception for a response that has been read."""
    from kubernetes.client.exceptions import ApiException

    refused: Exception = ApiException(http_resp=response)
    return refused


@contextmanager
def map_errors(context: Context, action: str) -> Iterator[None]:
    """Turn the client library's exceptions into errors with a hint. `action` describes the request briefly."""
    import urllib3.exceptions
    from kubernetes.client.exceptions import ApiException

    try:
        yield
    except ApiException as error:
        raise _as_error(context, action, error) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        cause = getattr(error, "reason", None) or error
        if context.in_cluster:
            raise Unanswered(
                f"the Kubernetes API at `{context.server}` does not answer this pod: {first_line(cause)}",
                "a NetworkPolicy may block the pod's egress to it: ask for one that allows the API server's addresses"
                " (in JupyterHub's chart, `singleuser.networkPolicy.egress`); `skjob run --on local` runs in this pod",
            ) from error
        raise Unanswered(
            f"the Kubernetes API of context `{context.name}` at `{context.server}` does not answer:"
            f" {first_line(cause)}",
            f"`kubectl --context {context.name} version` should work first;"
            " `skjob run --on local` runs on this machine",
        ) from error


def _as_error(context: Context, action: str, error: Any) -> SkjobError:
    reason = ""
    try:
        status = json.loads(error.body)
        message, reason = status["message"], status.get("reason", "")
    except (TypeError, ValueError, KeyError, AttributeError):
        message = first_line(error.reason or error)
    # Without credentials a user is anonymous. For a path without an object the message begins with "forbidden".
    if error.status == 401 or (error.status == 403 and 'forbidden: User "system:anonymous"' in message):
        return Unauthorized(
            f"the Kubernetes API of context `{context.name}` does not accept its credentials: {message}",
            "log in again, as your platform team's instructions say",
        )
    if error.status == 403 and "forbidden: User" in message:
        return ForbiddenError(message, "`skjob doctor` lists every permission that a run needs and which are missing")
    if error.status == 429:
        return Throttled(
            f"the Kubernetes API of context `{context.name}` is overloaded, and has throttled `{action}` for long:"
            f" {message}",
            "try again later, or ask your platform team what keeps it busy",
            str((error.headers or {}).get("Retry-After", "")),
        )
    if error.status == 409 and action.startswith("post ") and reason == "Conflict":
        return Raced(message)
    kinds = {403: Rejected, 404: NotFound, 409: Conflict, 422: Rejected, 400: Rejected}
    if error.status in kinds:
        return kinds[error.status](message)
    return Unanswered(f"the Kubernetes API answers `{action}` with {error.status}: {message}", "try again later")
