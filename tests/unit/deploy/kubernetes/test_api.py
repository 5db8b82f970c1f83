"""Test responses of the API, and how they are handled: errors in the user's words, and retried requests."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from clocks import DEADLINE

from skjob.deploy.kubernetes.api import transport
from skjob.deploy.kubernetes.api.client import Api, connect_api
from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.api.errors import Conflict, Rejected, Throttled, map_errors
from skjob.errors import ForbiddenError, SkjobError, Unanswered, Unauthorized

pytestmark = pytest.mark.unit

ANCHOR = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a", "namespace": "team"}}
BUSY = (429, {"message": "too many requests", "reason": "TooManyRequests"})
RACE = (409, {"message": "the object has been modified", "reason": "Conflict"})
TAKEN = (409, {"message": 'jobs.batch "a" already exists', "reason": "AlreadyExists"})
UNKNOWN_USER = (401, {"message": "Unauthorized", "reason": "Unauthorized"})
FINE = (200, {"kind": "Job"})

Answer = tuple[int, dict[str, Any]]


class Response:
    """A response as the client library returns it."""

    def __init__(self, status: int, content: dict[str, Any], pause: str) -> None:
        self.status = status
        self.reason = "reason"
        self.data = json.dumps(content).encode()
        self.headers = {"Retry-After": pause}

    def read(self) -> bytes:
        return self.data


class Client:
    """A client that gives these responses in order, and records the requests."""

    def __init__(self, answers: Sequence[Answer], pause: str = "0") -> None:
        self.answers = [Response(*answer, pause) for answer in answers]
        self.asked: list[tuple[str, str]] = []
        self.timeouts: list[tuple[float, float]] = []

    def param_serialize(self, **request: Any) -> tuple[str, str]:
        return request["method"], request["resource_path"]

    def call_api(self, method: str, path: str, _request_timeout: tuple[float, float]) -> Response:
        self.asked.append((method, path))
        self.timeouts.append(_request_timeout)
        return self.answers.pop(0)


CONTEXT = Context("ours", "team", "https://api.example.org")


def asking(*answers: Answer, **more: Any) -> tuple[Api, Client]:
    client = Client(answers)
    return Api(client, CONTEXT, **more), client


def test_whoever_is_put_off_asks_again_whatever_the_method() -> None:
    api, client = asking(BUSY, BUSY, FINE)
    assert api.create(ANCHOR) == {"kind": "Job"}
    assert client.asked == [("POST", "/apis/batch/v1/namespaces/team/jobs")] * 3
    api, client = asking(BUSY, FINE)
    api.patch("Job", "a", "team", {})
    assert [method for method, _ in client.asked] == ["PATCH"] * 2


def test_whoever_is_put_off_for_longer_than_there_is_time_is_told() -> None:
    api = Api(Client([BUSY], pause="5"), CONTEXT)
    with pytest.raises(Throttled, match=r"`ours` is overloaded, .*: too many requests") as raised:
        api.patch("Job", "a", "team", {}, timeout=4)
    assert raised.value.retry_after == "5"


@pytest.mark.parametrize(
    ("retry_after", "pause"),
    [("5", 5.0), ("0", 0.1), ("3600", 10.0), ("", 1.0), ("Mon, 30 Nov 2026 08:00:00 GMT", 1.0)],
)
def test_the_pause_after_a_throttled_request_is_what_the_api_says_within_limits(retry_after: str, pause: float) -> None:
    assert transport._pause(retry_after) == pause


def test_a_patch_has_the_time_that_it_is_given() -> None:
    api, client = asking(FINE)
    api.patch("Job", "a", "team", {}, timeout=3.5)
    assert client.timeouts == [(3.5, 3.5)]


def test_a_quota_that_is_written_by_two_at_a_time_is_no_name_that_is_taken() -> None:
    api, client = asking(RACE, FINE)
    api.create(ANCHOR)
    assert len(client.asked) == 2
    api, client = asking(TAKEN)
    with pytest.raises(Conflict, match="already exists"):
        api.create(ANCHOR)
    api, client = asking(RACE)
    with pytest.raises(Conflict):
        api.delete("Job", "a", "team", uid="another")
    assert len(client.asked) == 1


def test_credentials_that_are_refused_are_read_anew_once() -> None:
    second = Client([FINE])
    api, first = asking(UNKNOWN_USER, renew=lambda: second)
    api.get("Job", "a", "team")
    assert (len(first.asked), len(second.asked)) == (1, 1)
    api, first = asking(UNKNOWN_USER, UNKNOWN_USER, renew=lambda: first)
    with pytest.raises(Unauthorized, match="does not accept its credentials"):
        api.get("Job", "a", "team")
    assert len(first.asked) == 2


def test_a_page_of_a_proxy_is_no_answer() -> None:
    api, client = asking(FINE)
    client.answers[0].data = b"<html>Please log in</html>"
    with pytest.raises(
        Unanswered, match="does not answer as a Kubernetes API does: <html>Please log in</html>"
    ) as told:
        api.get("Job", "a", "team")
    assert "proxy" in told.value.hint


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ('pods is forbidden: User "eve" cannot list resource "pods"', ForbiddenError),
        ('forbidden: User "eve" cannot get path "/apis/kubernetes.dask.org/v1"', ForbiddenError),
        ('forbidden: User "system:anonymous" cannot get path "/apis/kubernetes.dask.org/v1"', Unauthorized),
        ('pods is forbidden: User "system:anonymous" cannot list resource "pods"', Unauthorized),
        ("pods is forbidden: exceeded quota", Rejected),
    ],
)
def test_what_is_forbidden_to_a_user_and_what_is_refused_to_all(message: str, error: type[SkjobError]) -> None:
    api, _ = asking((403, {"message": message}))
    with pytest.raises(error):
        api.list("Pod", "team")


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_the_time_is_that_of_the_api_servers_clock(hours: int) -> None:
    """Ages and deadlines are counted by that clock: by this machine's, `gc` would consider a run overdue."""
    api, client = asking(FINE)
    there = datetime.now(UTC) + timedelta(hours=hours)
    client.answers[0].headers["Date"] = format_datetime(there, usegmt=True)
    api.get("Job", "a", "team")
    assert abs(api.now() - there) < timedelta(seconds=5)


def test_an_api_that_tells_no_time_has_that_of_this_machine() -> None:
    for date in ({}, {"Date": "today"}):
        api, client = asking(FINE)
        client.answers[0].headers |= date
        api.get("Job", "a", "team")
        assert abs(api.now() - datetime.now(UTC)) < timedelta(seconds=5)


class Stream(Response):
    """The response of a watch, read line by line."""

    def __init__(self, *lines: bytes) -> None:
        super().__init__(200, {}, "0")
        self.lines = lines
        self.response = self

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.lines)

    def close(self) -> None:
        """Log nothing."""


ADDED = b'{"type": "ADDED", "object": {"kind": "Pod"}}'


@pytest.mark.parametrize("lines", [(ADDED,), (ADDED, b'{"type": "MODI')])
def test_a_watch_that_is_cut_off_ends(lines: Sequence[bytes]) -> None:
    api, client = asking()
    client.answers = [Stream(*lines)]
    assert list(api.watch("Pod", "team", selector="a=b", seconds=1)) == [{"kind": "Pod"}]


def test_a_watch_reads_credentials_anew_too() -> None:
    second = Client([])
    second.answers = [Stream(ADDED)]
    refused = Stream()
    refused.status, refused.data = 401, json.dumps(UNKNOWN_USER[1]).encode()
    api, first = asking(renew=lambda: second)
    first.answers = [refused]
    assert list(api.watch("Pod", "team", selector="a=b", seconds=1)) == [{"kind": "Pod"}]


def test_a_watch_that_is_put_off_is_opened_again_when_the_api_says(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(transport, "NOTICE_DELAY", 0.0)
    api, client = asking(BUSY, BUSY, notify=told.append)
    client.answers.append(Stream(ADDED))
    assert list(api.watch("Pod", "team", selector="a=b", seconds=1)) == [{"kind": "Pod"}]
    assert client.asked == [("GET", "/api/v1/namespaces/team/pods")] * 3
    assert told == ["the Kubernetes API of context `ours` is throttling requests (429); retrying"] * 2


def test_a_watch_that_is_put_off_for_longer_than_there_is_time_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "THROTTLE_TIMEOUT", 4.0)
    client = Client([BUSY, BUSY], pause="5")
    with pytest.raises(Throttled, match="has throttled `watch /api/v1/namespaces/team/pods` for long"):
        list(Api(client, CONTEXT).watch("Pod", "team", selector="a=b", seconds=1))
    assert len(client.asked) == 1


@contextmanager
def server(serve: Callable[[int], bool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Api]:
    """An API server that answers those requests, numbered from 0, for which `serve` is true; on others it closes the
    connection."""
    asked: list[bytes] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(ConnectionError):  # a client that is gone
                while self._answers():
                    pass

        def _answers(self) -> bool:
            if not (request := self.rfile.readline()):
                return False
            while self.rfile.readline().strip():
                pass
            asked.append(request)
            if not serve(len(asked) - 1):
                return False
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            return True

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True  # a kept-alive connection waits for the next request

    with Server(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        config = {
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{listening.server_address[1]}"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "current-context": "c",
        }
        (tmp_path / "config").write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        try:
            yield connect_api("c")
        finally:
            listening.shutdown()
            thread.join()


def test_a_request_on_a_connection_that_was_closed_meanwhile_is_made_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with server(lambda number: number != 1, monkeypatch, tmp_path) as api:
        assert api.get("Job", "a", "team") == {}
        assert api.get("Job", "a", "team") == {}


def test_a_request_that_is_not_answered_in_time_is_not_made_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    over = threading.Event()

    def serve(number: int) -> bool:
        return number > 0 or over.wait(DEADLINE)

    with server(serve, monkeypatch, tmp_path) as api:
        try:
            assert api.log("a", "team", timeout=0.3) == ""
        finally:
            over.set()


@pytest.mark.parametrize(
    ("written", "log"),
    [(b"KeyError: 'a'\n", "KeyError: 'a'\n"), (b"unable to retrieve container logs for containerd://0f3a", "")],
)
def test_the_log_of_a_container_that_is_gone(written: bytes, log: str) -> None:
    api, client = asking(FINE)
    client.answers[0].data = written
    assert api.log("a", "team") == log


def test_a_log_that_is_not_given_is_none_or_an_error() -> None:
    forbidden = (403, {"message": 'pods "a" is forbidden: User "eve" cannot get resource "pods/log"'})
    api, _ = asking(forbidden, forbidden)
    assert api.log("a", "team") == ""
    with pytest.raises(ForbiddenError):
        api.log("a", "team", strict=True)


def test_an_api_that_a_pod_may_not_connect_to() -> None:
    """As where a NetworkPolicy bars the way: nothing answers, and no context has a name to try."""
    inside = Context("in-cluster", "team", "https://10.96.0.1:443", in_cluster=True)
    with pytest.raises(Unanswered) as told, map_errors(inside, "get /version"):
        raise TimeoutError("timed out")
    assert told.value.message == "the Kubernetes API at `https://10.96.0.1:443` does not answer this pod: timed out"
    assert told.value.hint.startswith("a NetworkPolicy may block the pod's egress to it: ask for one that allows")
    assert "in-cluster" not in str(told.value)
