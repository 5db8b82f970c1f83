"""Test the contents of an image as reported by its own Python, among other output."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from platform import python_version
from typing import Any

import pytest
from clocks import DEADLINE, Clock

from skjob.deploy.kubernetes import image_probe
from skjob.deploy.kubernetes.api import wait
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.api.errors import NotFound
from skjob.deploy.kubernetes.image_probe import Contents, image_contents
from skjob.deploy.kubernetes.inventory import cleanup
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.errors import ForbiddenError, SkjobError, StartError, Unanswered

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def clock(clock_of: Callable[..., Clock]) -> Clock:
    return clock_of(image_probe, cleanup, wait)


class Ran(Api):
    """An API whose only pod has run and written `text`, or whose log raises an error."""

    def __init__(self, text: str | SkjobError) -> None:
        super().__init__(None, Context("c", "team", "https://api"))
        self.text = text

    def create(self, manifest: Manifest, *, strict: bool = False, dry_run: bool = False) -> Manifest:
        return manifest

    def watch(self, kind: str, namespace: str, *, selector: str, seconds: int) -> Iterator[Manifest]:
        status = {"name": "versions", "state": {"terminated": {"exitCode": 0}}}
        yield {"metadata": {"name": "p", "namespace": namespace}, "status": {"containerStatuses": [status]}}

    def log(self, pod: str, namespace: str, *, lines: int = 20, strict: bool = False, **_: Any) -> str:
        if isinstance(self.text, SkjobError):
            assert strict
            raise self.text
        return "".join(self.text.splitlines(keepends=True)[-lines:])

    def get(self, kind: str, name: str, namespace: str = "") -> Manifest:
        raise NotFound(name)

    def delete(self, kind: str, name: str, namespace: str = "", *, uid: str = "", at_once: bool = False) -> bool:
        return False

    def list(self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "") -> list[Manifest]:
        return []


@pytest.mark.parametrize(
    ("before", "after"),
    [("", ""), ("starting\\n", ""), ("starting", ""), ("", "bye"), ("", "a\\nb\\n{}"), ("[1]\\n", "[1]\\n")],
)
def test_our_line_is_found_among_others(before: str, after: str) -> None:
    """As written by a `sitecustomize`, or by whatever runs when Python ends."""
    script = f"import atexit; print('{before}', end=''); atexit.register(print, '{after}')\n{image_probe._SCRIPT}"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=DEADLINE)
    contents = image_contents(Ran(ran.stdout), "busy:1", 10.0)
    assert contents.python == python_version()
    assert contents.distributions["pytest"] == version("pytest")


def test_the_first_of_a_name_counts() -> None:
    text = image_probe._MARK + '{"python": "3.12.4", "distributions": [["A_b", "1"], ["a-b", "2"]]}\n'
    assert image_contents(Ran(text), "twice:1", 10.0) == Contents("3.12.4", {"a-b": "1"})


@pytest.mark.parametrize("text", ["hello\n", "{}\n", "[1]\n", image_probe._MARK + '{"python": "3.1', "a\n" * 200])
def test_an_image_that_does_not_tell(text: str) -> None:
    with pytest.raises(StartError, match="the contents of the image `mute:1` cannot be read") as told:
        image_contents(Ran(text), "mute:1", 10.0)
    assert "mute:1" in told.value.hint
    assert "--image" in told.value.hint
    assert told.value.log.splitlines() == text.splitlines()[-10:]


def test_a_log_that_may_not_be_read_is_told_at_once() -> None:
    with pytest.raises(ForbiddenError, match="cannot get resource"):
        image_contents(Ran(ForbiddenError('User "eve" cannot get resource "pods/log"')), "ours:1", 60.0)


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "the pod of `ours:1` has ended, but its log is empty"), (Unanswered("no kubelet"), "no kubelet")],
)
def test_a_log_that_does_not_come(text: str | SkjobError, why: str) -> None:
    with pytest.raises(Unanswered, match=why):
        image_contents(Ran(text), "ours:1", 60.0)
