"""Measure when something became visible in the Kubernetes API, and when a run reported it to its user."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kubernetes import client, watch

from support.runs import DEADLINE
from support.wait import until

Object = dict[str, Any]


class ApiTimeline:
    """Records the pods and events of a namespace, with the time at which the API sent each state."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        core = client.CoreV1Api(api)
        self._states: list[tuple[float, Object]] = []
        self._closed = threading.Event()
        self._watches = [watch.Watch(), watch.Watch()]
        self._threads = [
            threading.Thread(target=self._follow, args=(each, lists, namespace), daemon=True)
            for each, lists in zip(self._watches, (core.list_namespaced_pod, core.list_namespaced_event), strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def _follow(self, watching: watch.Watch, lists: Callable[..., Any], namespace: str) -> None:
        while not self._closed.is_set():
            with suppress(Exception):  # the namespace may be deleted, or the API be unreachable for a moment
                for change in watching.stream(lists, namespace, timeout_seconds=int(DEADLINE)):
                    self._states.append((time.monotonic(), change["raw_object"]))
            self._closed.wait(1)

    def first_seen(self, matches: Callable[[Object], bool]) -> float:
        """Return when the API sent the first matching state. Wait for it: the run may receive it before this watch."""
        times = until(
            lambda: [at for at, state in list(self._states) if matches(state)],
            "the API sent no matching state",
        )
        return min(times)

    def close(self) -> None:
        self._closed.set()
        for each in self._watches:
            each.stop()


def waiting(*reasons: str) -> Callable[[Object], bool]:
    """Match states in which a container waits for one of these reasons."""

    def matches(state: Object) -> bool:
        return any(
            (status.get("state", {}).get("waiting") or {}).get("reason") in reasons for status in _containers(state)
        )

    return matches


def ended(reason: str = "Error") -> Callable[[Object], bool]:
    """Match states in which a container has ended for this reason."""

    def matches(state: Object) -> bool:
        return any(
            (status.get(when, {}).get("terminated") or {}).get("reason") == reason
            for status in _containers(state)
            for when in ("state", "lastState")
        )

    return matches


def event(reason: str, words: str = "") -> Callable[[Object], bool]:
    """Match events with this reason and these words."""
    return lambda state: state.get("reason") == reason and words in (state.get("message") or "")


def running_worker(state: Object) -> bool:
    """Match states in which a worker's container is running."""
    labels = state.get("metadata", {}).get("labels") or {}
    return labels.get("dask.org/component") == "worker" and any(
        status.get("state", {}).get("running") for status in _containers(state)
    )


def terminating(state: Object) -> bool:
    """Match states in which a pod is terminating."""
    return "deletionTimestamp" in state["metadata"] and "containers" in state.get("spec", {})


def unscheduled(state: Object) -> bool:
    """Match states in which a pod is unschedulable."""
    conditions = state.get("status", {}).get("conditions") or []
    return any(each["type"] == "PodScheduled" and each["status"] == "False" for each in conditions)


def _containers(state: Object) -> list[Object]:
    return state.get("status", {}).get("containerStatuses") or [] if state.get("kind") != "Event" else []


class TimedRun:
    """A run, with the time of each line that it writes to stderr."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.began = time.monotonic()
        self.lines: list[tuple[float, str]] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append((time.monotonic(), line.rstrip("\n")))

    def wait(self) -> int:
        """Wait until the run has ended; return its exit status."""
        code = self.process.wait(DEADLINE)
        self._reading.join(DEADLINE)
        return code

    def until(self, words: str, seconds: float = 180.0) -> None:
        """Wait for a line with these words."""
        deadline = time.monotonic() + seconds
        while not any(words in line for _, line in list(self.lines)):
            assert time.monotonic() < deadline, f"`{words}` was not reported: {self.text}"
            assert self.process.poll() is None or words in self.text, self.text
            time.sleep(0.05)

    def line(self, words: str) -> tuple[float, str]:
        """Return the first line with these words, and its time."""
        matching = [(at, line) for at, line in self.lines if words in line]
        assert matching, f"`{words}` was not reported: {self.text}"
        return matching[0]

    @property
    def text(self) -> str:
        """Everything that it has written to stderr so far."""
        return "\n".join(line for _, line in list(self.lines))


@contextmanager
def timed_run(command: list[str], **options: Any) -> Iterator[TimedRun]:
    """Start a run; kill it at the end if it is still running."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options
    ) as process:
        try:
            yield TimedRun(process)
        finally:
            process.kill()
