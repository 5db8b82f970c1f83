"""Find out what an image contains, from a pod that runs it, under an anchor that removes it whatever happens."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from skjob.config.namespace_policy import NamespacePolicy
from skjob.config.plan import NO_RULES
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.wait import wait_for_pod
from skjob.deploy.kubernetes.diagnosis.causes import Cause, diagnose
from skjob.deploy.kubernetes.inventory import cleanup
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests.labels import RUN_LABEL, RunNames, new_run_id
from skjob.deploy.kubernetes.manifests.pods import anchor_job, with_team_settings
from skjob.environment.pod.requirements import normalized
from skjob.errors import SkjobError, StartError, Unanswered

_REMOVE_DEADLINE = 20.0

_MARK = "skjob found: "
"""Marks the script's line: an image may print other lines before and after Python runs."""

_LINES, _QUOTED = 100, 10
"""How many last log lines must contain the script's line, and how many are quoted if they do not."""

_SCRIPT = f"""
import importlib.metadata as m, json, platform
found = [(d.metadata["Name"], d.version) for d in m.distributions() if d.metadata["Name"]]
print({_MARK!r} + json.dumps({{"python": platform.python_version(), "distributions": found}}))
"""


@dataclass(frozen=True)
class Contents:
    """Contents of an image: Python's full version, and all distributions' versions by normalized name."""

    python: str
    distributions: Mapping[str, str]


def image_contents(
    api: Api, image: str, timeout: float, rules: NamespacePolicy = NO_RULES, *, check: Callable[[], None] = lambda: None
) -> Contents:
    """Return what a pod of this image finds in itself. `check` is called during the wait, and aborts it by raising.

    Raises:
        StartError: the pod cannot run, or not within `timeout` seconds, or prints something else; the message says why.
        Unanswered, ForbiddenError: its log cannot be read.
    """
    names = RunNames(new_run_id(), "doctor", getpass.getuser(), team=rules.team)
    namespace, selector = api.context.namespace, f"{RUN_LABEL}={names.run_id}"
    causes: list[Cause] = []

    def check_pods() -> None:
        # Events first: a rejection is outdated if its pod exists by now.
        events = api.readable_events(namespace)
        causes[:] = diagnose(api.list("Pod", namespace, selector=selector), events, cluster=names.cluster)
        if causes and causes[0].fatal:
            raise _failed(causes[0])

    with anchored(api, _job(names, namespace, image, timeout, rules)):
        deadline = time.monotonic() + timeout
        contents = wait_for_pod(api, selector, partial(_contents_of, api, image), check_pods, deadline, check=check)
    if contents is None and causes:
        raise _failed(causes[0])
    if contents is None:
        raise StartError(f"no pod of `{image}` ran within {timeout:.0f} s", "give it more time")
    return contents


def _job(names: RunNames, namespace: str, image: str, timeout: float, rules: NamespacePolicy) -> Manifest:
    """Return an anchor with one pod: a Job, because it ends by itself and every user of skjob may create one."""
    job = anchor_job(names, namespace, timeout + 10)
    job["spec"] |= {"parallelism": 1, "backoffLimit": 0, "ttlSecondsAfterFinished": 60}
    job["spec"]["template"]["metadata"] = {"labels": names.labels("doctor")}
    pod = job["spec"]["template"]["spec"]
    pod["terminationGracePeriodSeconds"] = 1
    pod["containers"][0] |= {
        "name": "versions",
        "image": image,
        "command": ["python", "-c", _SCRIPT],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
    }
    job["spec"]["template"] = with_team_settings(job["spec"]["template"], rules)
    return job


def _contents_of(api: Api, image: str, pod: Manifest) -> Contents | None:
    """Return what a finished pod found, None if it has not finished. Raise SkjobError if that cannot be read."""
    for status in pod.get("status", {}).get("containerStatuses") or []:
        if (status.get("state", {}).get("terminated") or {}).get("exitCode") == 0:
            text = api.log(pod["metadata"]["name"], pod["metadata"]["namespace"], lines=_LINES, strict=True)
            if not text:  # its node may not have the log yet, and some never do
                raise Unanswered(
                    f"the pod of `{image}` has ended, but its log is empty",
                    "try again; `skjob run --env none` uses the image as it is",
                )
            return _parsed(image, text)
    return None


def _parsed(image: str, text: str) -> Contents:
    """Parse the contents from the log of a finished pod. Raise StartError if they are not there."""
    _, mark, line = text.rpartition(_MARK)
    try:
        printed = json.loads(line.partition("\n")[0] if mark else "")
    except ValueError as error:
        raise StartError(
            f"the contents of the image `{image}` cannot be read: its `python` prints something else",
            f"`docker run --rm --entrypoint python {image} -c 'print(1)'` shows what; or choose another `--image`",
            "\n".join(text.splitlines()[-_QUOTED:]),
        ) from error
    # The first one of a name counts, as it does for imports.
    distributions = {normalized(name): version for name, version in reversed(printed["distributions"])}
    return Contents(printed["python"], distributions)


def _failed(cause: Cause) -> StartError:
    """Return the error without the name of the probe's pod, which means nothing to the user."""
    return StartError(cause.message.rpartition(" (")[0] or cause.message, cause.hint, cause.log)


@contextmanager
def anchored(api: Api, anchor: Manifest) -> Iterator[Manifest]:
    """Create an anchor, and remove it with all that it owns at the end."""
    metadata = anchor["metadata"]
    try:
        yield api.create(anchor)
    finally:
        # An error here says nothing about the image, and the anchor expires by itself.
        with suppress(SkjobError):
            cleanup.remove(
                api,
                metadata["name"],
                metadata["namespace"],
                run_id=metadata["labels"][RUN_LABEL],
                deadline=_REMOVE_DEADLINE,
            )
