"""Send requests to one Kubernetes API server, each with a deadline.

A request that the API throttles is repeated when the API says so. One whose credentials are refused is repeated once,
with those in the kubeconfig by then: a user who logs in again can continue.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, TypeVar

from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.api.errors import Throttled, as_api_exception, map_errors
from skjob.errors import Unanswered, Unauthorized, first_line
from skjob.utils.notify import Notify

REQUEST_TIMEOUT = (5.0, 15.0)
"""Seconds to connect, and to wait for a response."""

THROTTLE_TIMEOUT = 60.0
"""Seconds for which a throttled request is repeated."""

NOTICE_DELAY = 2.0
"""Seconds of throttling after which it is reported to the user."""

MIN_PAUSE, MAX_PAUSE = 0.1, 10.0
"""Seconds between a throttled request and the next, whatever the API asks for."""

DEFAULT_PAUSE = 1.0
"""Seconds until the next request if the API does not say when to retry."""

JSON = "application/json"

Response = TypeVar("Response")
Query = Sequence[tuple[str, str]]


class Transport:
    """Sends requests through the official client. Thread-safe.

    `renew` returns a client with the current credentials. `notify` is called if the API throttles requests for long.
    """

    def __init__(self, client: Any, context: Context, renew: Callable[[], Any] | None, notify: Notify) -> None:
        self._client = client
        self._context = context
        self._renew = renew
        self._notify = notify
        self._clock_offset = timedelta(0)

    def now(self) -> datetime:
        """Return the time of the API server's clock, according to its last response."""
        return datetime.now(UTC) + self._clock_offset

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Query = (),
        content_type: str = JSON,
        as_text: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """Return the API's response: decoded JSON, or text.

        Raises:
            SkjobError: the API rejects the request or does not answer; see `map_errors`.
        """

        def send() -> Any:
            return self._send(
                method, path, body=body, query=query, content_type=content_type,
                accept="*/*" if as_text else JSON,
                timeout=REQUEST_TIMEOUT if timeout is None else (timeout, timeout),
            )  # fmt: skip

        text = self._retried(
            partial(self._read, send, f"{method.lower()} {path}"), THROTTLE_TIMEOUT if timeout is None else timeout
        )
        return text if as_text else self._decoded(text)

    def watch(self, path: str, query: Query, seconds: float) -> Iterator[dict[str, Any]]:
        """Yield the events of a watch, which the API ends after `seconds`."""
        response = self._retried(partial(self._open_watch, path, query, seconds), THROTTLE_TIMEOUT)
        with map_errors(self._context, f"watch {path}"):
            try:
                for line in response.response:
                    try:
                        event = json.loads(line)
                    except ValueError:  # the last line, cut off
                        return
                    yield event
            finally:
                response.response.close()

    def _retried(self, send: Callable[[], Response], timeout: float) -> Response:
        """Return the response to a request, repeating it for `timeout` seconds if throttled and once if
        unauthorized."""
        began = time.monotonic()
        renewed = False
        while True:
            try:
                return send()
            except Throttled as throttled:
                waited, pause = time.monotonic() - began, _pause(throttled.retry_after)
                if waited + pause > timeout:
                    raise
                if waited + pause > NOTICE_DELAY:
                    self._notify(
                        f"the Kubernetes API of context `{self._context.name}` is throttling requests (429); retrying"
                    )
                time.sleep(pause)
            except Unauthorized:
                if self._renew is None or renewed:
                    raise
                self._client, renewed = self._renew(), True

    def _read(self, send: Callable[[], Any], action: str) -> str:
        with map_errors(self._context, action):
            response = send()
            raw = response.read()
            self._clock_offset = _clock_offset(response.headers or {})
            if not 200 <= response.status <= 299:
                raise as_api_exception(response)
        return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)

    def _decoded(self, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            raise Unanswered(
                f"`{self._context.server}` does not answer as a Kubernetes API does: {first_line(text)[:80]}",
                "a proxy may be in between",
            ) from error

    def _open_watch(self, path: str, query: Query, seconds: float) -> Any:
        """Return the API's response to a watch, with its events still unread."""
        connect_timeout, read_timeout = REQUEST_TIMEOUT
        with map_errors(self._context, f"watch {path}"):
            response = self._send("GET", path, query=query, timeout=(connect_timeout, seconds + read_timeout))
            if response.status != 200:
                response.read()
                raise as_api_exception(response)
            return response

    def _send(
        self,
        method: str,
        path: str,
        *,
        timeout: tuple[float, float],
        body: Mapping[str, Any] | None = None,
        query: Query = (),
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Any:
        """Return the client library's response, with its body still unread."""
        return self._client.call_api(
            *self._client.param_serialize(
                method=method,
                resource_path=path,
                query_params=[*query],
                header_params={"Accept": accept, "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
            ),
            _request_timeout=timeout,
        )


def _pause(retry_after: str) -> float:
    """Return the seconds until a throttled request is repeated, from the header `Retry-After`."""
    try:
        return min(max(float(retry_after or DEFAULT_PAUSE), MIN_PAUSE), MAX_PAUSE)
    except ValueError:  # a date
        return DEFAULT_PAUSE


def _clock_offset(headers: Mapping[str, str]) -> timedelta:
    """Return how far the API server's clock is ahead of this machine's; zero if unknown."""
    try:
        offset = parsedate_to_datetime(headers["Date"]) - datetime.now(UTC)
    except (KeyError, TypeError, ValueError):
        return timedelta(0)
    # The header has whole seconds, and the response took some time.
    return offset if abs(offset) > timedelta(seconds=2) else timedelta(0)
