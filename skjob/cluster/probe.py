"""What an image has in it: asked of a pod that runs it, under an anchor that removes it whatever happens."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from skjob.cluster import inventory, manifest
from skjob.cluster.api import Api, Manifest
from skjob.cluster.diagnose import Cause, diagnose
from skjob.cluster.names import RUN_LABEL, RunNames, new_run_id
from skjob.environment.needs import normalized
from skjob.errors import SkjobError, StartError

_REMOVE_DEADLINE = 20.0
_POLL = 0.2

_SCRIPT = """
import importlib.metadata as m, json, platform
found = [(d.metadata["Name"], d.version) for d in m.distributions() if d.metadata["Name"]]
print(json.dumps({"python": platform.python_version(), "distributions": found}))
"""


@dataclass(frozen=True)
class Contents:
    """Python's version, with its last digit, and the versions of all distributions by normalized name."""

    python: str
    distributions: Mapping[str, str]


def image_contents(api: Api, image: str, timeout: float) -> Contents:
    """What a pod of this image finds in itself.

    Raises:
        StartError: the pod can't run, or does not within `timeout` seconds; the message says why.
    """
    names = RunNames(new_run_id(), "doctor", getpass.getuser())
    with anchored(api, _job(names, api.context.namespace, image, timeout)):
        end = time.monotonic() + timeout
        while True:
            # Events first: a rejection whose pod exists by now is no news.
            events = api.list("Event", api.context.namespace)
            pods = api.list("Pod", api.context.namespace, selector=f"{RUN_LABEL}={names.run_id}")
            if (contents := _said(api, pods)) is not None:
                return contents
            causes = diagnose(pods, events, cluster=names.cluster)
            over = time.monotonic() > end
            if causes and (causes[0].fatal or over):
                raise StartError(_without_pod(causes[0]), causes[0].hint)
            if over:
                raise StartError(f"no pod of `{image}` ran within {timeout:.0f} s", "give it more time")
            time.sleep(_POLL)


def _job(names: RunNames, namespace: str, image: str, timeout: float) -> Manifest:
    """An anchor with one pod. A Job, because it ends by itself and whoever may run skjob may create one."""
    job = manifest.anchor(names, namespace, timeout + 10)
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
    return job


def _said(api: Api, pods: Sequence[Manifest]) -> Contents | None:
    for pod in pods:
        for status in pod.get("status", {}).get("containerStatuses") or []:
            if (status.get("state", {}).get("terminated") or {}).get("exitCode") == 0:
                text = api.log(pod["metadata"]["name"], pod["metadata"]["namespace"], lines=1)
                if text:
                    said = json.loads(text)
                    # The first of a name counts, as it does for import.
                    found = {normalized(name): version for name, version in reversed(said["distributions"])}
                    return Contents(said["python"], found)
    return None


def _without_pod(cause: Cause) -> str:
    """The pod is the probe's own: its name tells the user nothing."""
    return cause.message.rpartition(" (")[0] or cause.message


@contextmanager
def anchored(api: Api, anchor: Manifest) -> Iterator[Manifest]:
    """An anchor, and at the end nothing of what it owns."""
    metadata = anchor["metadata"]
    try:
        yield api.create(anchor)
    finally:
        # What stands in the way of the removal is no finding about the image; the anchor ends by itself.
        with suppress(SkjobError):
            inventory.remove(
                api,
                metadata["name"],
                metadata["namespace"],
                run_id=metadata["labels"][RUN_LABEL],
                deadline=_REMOVE_DEADLINE,
            )
