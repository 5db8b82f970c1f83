"""Keeps environments in a namespace: one pod for each set of needs, which outlives the run that first needed it.

What an image lacks is installed once, by `skjob.environment.keeper`, in a pod of its own; the pods of this run and of
later ones unpack it from there. Its objects have the same anchor and labels as those of a run, so that `skjob ps` and
`skjob down` know them, and Kubernetes removes them by itself an hour after they were last used. The anchor is the very
Job whose pod keeps the environment: if that is evicted or lost, the Job makes another.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from skjob.cluster import inventory, manifest
from skjob.cluster.api import Api, Conflict, Manifest, NotFound
from skjob.cluster.certificates import make_certificates
from skjob.cluster.diagnose import diagnose
from skjob.cluster.names import INSTANCE_LABEL, KEPT_ANNOTATION, RunNames, new_run_id
from skjob.cluster.probe import image_contents
from skjob.environment.availability import check_available
from skjob.environment.images import cache_folder, known_contents, remember
from skjob.environment.index import IndexSettings
from skjob.environment.keeper import PORT
from skjob.environment.needs import Needs, differing
from skjob.environment.pod import UNFIT
from skjob.environment.source import skjob_archive
from skjob.environment.wanted import Wanted
from skjob.errors import SkjobError, StartError

LIFETIME = 3600.0
"""Seconds for which an environment is kept after it was last used."""

LEAST_LIFETIME = 120.0
"""One that ends sooner may be gone before it is prolonged."""

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_GLIBC = "manylinux_2_36"
"""That of Debian 12, on which Python's own slim images stand; what asks for a newer one may not run there."""

_POLL = 0.2
_DIAGNOSE_EVERY = 1.0
_FORMAT = 2
"""Part of the name: another layout of the archive is another environment."""


@dataclass(frozen=True)
class Kept:
    """An environment that pods can have: the name of its objects, what pods need, and how it was made."""

    name: str
    needs: Needs
    made: Mapping[str, object]


def uv_version() -> str:
    """Of the uv that is installed here; the one in the cluster is the same."""
    from importlib.metadata import version

    return version("uv")


def platform_of(nodes: Sequence[Manifest] | None) -> str:
    """The pods' platform as uv calls it. Nodes of several kinds, or that may not be listed, are taken for x86-64."""
    machines = {node["status"]["nodeInfo"]["architecture"] for node in nodes or ()}
    only = machines.pop() if len(machines) == 1 else "amd64"
    return f"{_MACHINES.get(only, only)}-{_GLIBC}"


def make_ready(
    api: Api, wanted: Wanted, image: str, platform: str, timeout: float, note: Callable[[str], None]
) -> Kept:
    """See that the environment can be had in the namespace: nothing to do where the image has it, or it is kept there.

    Raises:
        ConfigError: some distribution can't be had for the pods' platform; nothing was created.
        StartError: it can't be made in the cluster, or not within `timeout` seconds; with the pod's own words.
    """
    has = known_contents(image)
    if has is None:
        note(f"looking into the image `{image}`, once")
        has = dict(image_contents(api, image, timeout).distributions)
        remember(image, has)
    lacking = differing(wanted.pins, has)
    if not lacking:
        return Kept("", Needs(wanted.python, wanted.pins), {"lacking": 0})
    name = _name(image, wanted.python, lacking)
    needs = Needs(wanted.python, wanted.pins, served_at=f"{name}.{api.context.namespace}:{PORT}")
    began = time.monotonic()
    if _is_kept(api, name):
        keep(api, name)
        how = "kept"
    else:
        check_available(lacking, wanted.python, platform, wanted.index, cache_folder())
        note(f"installing {len(lacking)} distributions that the image lacks, once for this set of versions")
        how = "made"
        _create(api, name, image, Needs(wanted.python, lacking, uv=uv_version()), wanted.index)
    made = _wait(api, name, began + timeout, timeout)
    return Kept(name, needs, {"lacking": len(lacking), how: round(time.monotonic() - began, 2), **made})


def keep(api: Api, name: str) -> None:
    """Let it live for `LIFETIME` seconds from now. Called when a run begins to use it, and while it does."""
    namespace = api.context.namespace
    job = api.get("Job", name, namespace)
    limit = _age(job) + LIFETIME
    until = datetime.now(UTC) + timedelta(seconds=LIFETIME)
    annotation = {KEPT_ANNOTATION: until.isoformat(timespec="seconds")}
    patch = {"metadata": {"annotations": annotation}, "spec": {"activeDeadlineSeconds": round(limit)}}
    api.patch("Job", name, namespace, patch)


def _name(image: str, python: str, lacking: Mapping[str, str]) -> str:
    content = json.dumps([_FORMAT, image, python, sorted(lacking.items())])
    return f"skjob-environment-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _is_kept(api: Api, name: str) -> bool:
    try:
        job = api.get("Job", name, api.context.namespace)
    except NotFound:
        return False
    ended = any(each["status"] == "True" for each in job.get("status", {}).get("conditions") or [])
    left = job["spec"]["activeDeadlineSeconds"] - _age(job)
    if not ended and left > LEAST_LIFETIME and "deletionTimestamp" not in job["metadata"]:
        return True
    inventory.remove(api, name, api.context.namespace)
    return False


def _age(job: Manifest) -> float:
    created = datetime.fromisoformat(job["metadata"]["creationTimestamp"])
    return (datetime.now(UTC) - created).total_seconds()


def _create(api: Api, name: str, image: str, needs: Needs, index: IndexSettings) -> None:
    namespace = api.context.namespace
    names = RunNames(new_run_id(), "environment", getpass.getuser(), existing=name)
    try:
        anchor = api.create(manifest.keeper_job(names, namespace, image, [*index.files()], LIFETIME))
    except Conflict:
        return  # another run was a moment faster: it makes the same
    try:
        for content in (
            manifest.secret(names, namespace, {**make_certificates(name).files(), **index.files()}),
            manifest.files(names, namespace, skjob_archive(), needs),
            manifest.keeper_service(names, namespace),
        ):
            api.create(manifest.owned_by(anchor, content))
        keep(api, name)
    except SkjobError:
        inventory.remove(api, name, namespace, wait=False)
        raise


def _wait(api: Api, name: str, deadline: float, timeout: float) -> dict[str, object]:
    """Until the pod serves; what it says of its work."""
    namespace = api.context.namespace
    looked = 0.0
    problems: list[str] = []
    while True:
        pods = api.list("Pod", namespace, selector=f"{INSTANCE_LABEL}={name}")
        for pod in pods:
            if any(each["type"] == "Ready" and each["status"] == "True" for each in _conditions(pod)):
                return _said(api.log(pod["metadata"]["name"], namespace, lines=1))
            if unfit := _unfit(pod):
                inventory.remove(api, name, namespace, wait=False)
                raise StartError(unfit, "`--env FILE` installs another set, `--image` has another to begin with")
        now = time.monotonic()
        if now - looked > _DIAGNOSE_EVERY:
            looked = now
            causes = diagnose(pods, api.list("Event", namespace), cluster=name)
            problems = [cause.message for cause in causes]
            if causes and causes[0].fatal:
                inventory.remove(api, name, namespace, wait=False)
                raise StartError(f"the environment can't be made: {causes[0].message}", causes[0].hint)
        if now > deadline:
            inventory.remove(api, name, namespace, wait=False)
            why = f": {problems[0]}" if problems else ""
            raise StartError(
                f"the environment was not made within `--start-timeout`, {timeout:.0f} s{why}",
                "give it more time; or `skjob env build` makes an image that has all",
            )
        time.sleep(_POLL)


def _conditions(pod: Manifest) -> list[Manifest]:
    return pod.get("status", {}).get("conditions") or []


def _unfit(pod: Manifest) -> str:
    for status in pod.get("status", {}).get("containerStatuses") or []:
        ended = status.get("state", {}).get("terminated") or {}
        if ended.get("exitCode") == UNFIT:
            return str(ended.get("message") or "the environment can't be made")
    return ""


def _said(log: str) -> dict[str, object]:
    try:
        return dict(json.loads(log))
    except ValueError:
        return {}
