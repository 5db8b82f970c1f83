"""Keeps environments in a namespace: one pod for each set of needs, which outlives the run that first needed it.

What an image lacks is installed once, by `skjob.environment.pod.package_server`, in a pod of its own; the pods of this
run and of later ones unpack it from there. Its objects have the same anchor and labels as those of a run, so that
`skjob ps` and `skjob down` know them, and Kubernetes removes them by itself an hour after they were last used. The
anchor is the very Job whose pod keeps the environment: if that is evicted or lost, the Job makes another.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from skjob.config.namespace_policy import NamespacePolicy
from skjob.config.plan import NO_RULES
from skjob.deploy.kubernetes.api.client import Api, Manifest
from skjob.deploy.kubernetes.api.errors import Conflict, NotFound, Rejected
from skjob.deploy.kubernetes.api.wait import wait_for_pod
from skjob.deploy.kubernetes.costs import ledger
from skjob.deploy.kubernetes.costs.ledger import Entry
from skjob.deploy.kubernetes.costs.prices import Cost, hourly, possible_prices, read_spending
from skjob.deploy.kubernetes.diagnosis.capacity import requests
from skjob.deploy.kubernetes.diagnosis.causes import Cause, diagnose
from skjob.deploy.kubernetes.image_probe import image_contents
from skjob.deploy.kubernetes.inventory import cleanup, runs
from skjob.deploy.kubernetes.manifests import run as manifest
from skjob.deploy.kubernetes.manifests.environment import KEEPER_MEMORY, keeper_job, keeper_policy, keeper_service
from skjob.deploy.kubernetes.manifests.labels import (
    COST_ANNOTATION,
    INSTANCE_LABEL,
    PROGRAM_ANNOTATION,
    RUN_LABEL,
    USER_ANNOTATION,
    RunNames,
    kept_annotation,
    new_run_id,
)
from skjob.deploy.kubernetes.manifests.pods import owned_by
from skjob.environment.image_cache import cache_folder, known_contents, remember_image
from skjob.environment.index.availability import check_pins_available
from skjob.environment.index.settings import IndexSettings
from skjob.environment.pod.entrypoint import EX_CONFIG
from skjob.environment.pod.package_server import PORT
from skjob.environment.pod.requirements import PodRequirements, missing_pins
from skjob.environment.skjob_source import skjob_archive
from skjob.environment.spec import EnvironmentSpec
from skjob.errors import ForbiddenError, SkjobError, StartError
from skjob.utils.tls import make_certificates

LIFETIME = 3600.0
"""Seconds for which an environment is kept after it was last used."""

MOST_LIFETIME = 30 * 24 * 3600.0
"""As old as the chart's policies let one become; the next that is needed is made anew."""

LEAST_LIFETIME = 120.0
"""One that ends sooner may be gone before it is prolonged."""

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_GLIBC = "manylinux_2_36"
"""That of Debian 12, on which Python's own slim images stand; what asks for a newer one may not run there."""

_MADE_WITHIN = 30.0
"""Seconds within which whoever makes its objects has made all of them."""

_FORMAT = 3
"""Part of the name: another layout of the archive is another environment."""


@dataclass(frozen=True)
class CachedEnvironment:
    """An environment that pods can have: the name of its objects, what pods need, and how it was made."""

    name: str
    needs: PodRequirements
    made: Mapping[str, object]


def uv_version() -> str:
    """Of the uv that is installed here; the keeper gets the same, unless its image has one of its own."""
    from importlib.metadata import version

    return version("uv")


def platform_of(nodes: Sequence[Manifest] | None) -> str:
    """The pods' platform as uv calls it. Nodes of several kinds, or that may not be listed, are taken for x86-64."""
    machines = {node["status"]["nodeInfo"]["architecture"] for node in nodes or ()}
    only = machines.pop() if len(machines) == 1 else "amd64"
    return f"{_MACHINES.get(only, only)}-{_GLIBC}"


def ensure_environment(
    api: Api,
    wanted: EnvironmentSpec,
    image: str,
    platform: str,
    timeout: float,
    note: Callable[[str], None],
    rules: NamespacePolicy = NO_RULES,
    *,
    check: Callable[[], None] = lambda: None,
) -> CachedEnvironment:
    """See that the environment can be had in the namespace: nothing to do where the image has it, or it is kept there.

    `check` is called while pods are waited for, and ends that by raising.

    Raises:
        ConfigError: some distribution can't be had for the pods' platform; nothing was created.
        StartError: it can't be made in the cluster, or not within `timeout` seconds; with the pod's own words.
    """
    has = known_contents(image)
    if has is None:
        note(f"looking into the image `{image}`, once")
        contents = image_contents(api, image, timeout, rules, check=check)
        _check_python(image, contents.python, wanted.python)
        has = dict(contents.distributions)
        remember_image(image, has)
    lacking = missing_pins(wanted.pins, has)
    if not lacking:
        return CachedEnvironment("", PodRequirements(wanted.python, wanted.pins), {"lacking": 0})
    name = _name(image, wanted.python, lacking, wanted.index)
    needs = PodRequirements(wanted.python, wanted.pins, served_at=f"{name}.{api.context.namespace}:{PORT}")
    began = time.monotonic()
    ours = False
    if _is_kept(api, name):
        keep(api, name)
    else:
        check_pins_available(lacking, wanted.python, platform, wanted.index, cache_folder())
        note(f"installing {len(lacking)} distributions that the image lacks, once for this set of versions")
        ours = _create(api, name, image, PodRequirements(wanted.python, lacking, uv=uv_version()), wanted.index, rules)
    made = _wait(api, name, began + timeout, timeout, check, ours=ours)
    how = "made" if ours else "kept"
    return CachedEnvironment(name, needs, {"lacking": len(lacking), how: round(time.monotonic() - began, 2), **made})


def _check_python(image: str, there: str, wanted: str) -> None:
    """Before anything is made of it. Pods look for themselves too: the name may come to mean another image."""
    if there.split(".")[:2] != wanted.split(".")[:2]:
        raise StartError(
            f"the image `{image}` has Python {there}, and this environment has {wanted}",
            f"choose an image with Python {wanted}, with `--image`, or leave it out for one made to match",
        )


def keep(api: Api, name: str, seconds: float = LIFETIME) -> None:
    """Let it live for so many seconds from now. Called when a run begins to use it, and while it does.

    Raises:
        StartError: it is gone.
    """
    namespace = api.context.namespace
    try:
        job = api.get("Job", name, namespace)
        now = api.now()
        # Somebody may need it for longer.
        limit = max(min(runs.age(job, now) + seconds, MOST_LIFETIME), job["spec"]["activeDeadlineSeconds"])
        annotations = kept_annotation(now + timedelta(seconds=seconds))
        patch = {"metadata": {"annotations": annotations}, "spec": {"activeDeadlineSeconds": round(limit)}}
        api.patch("Job", name, namespace, patch)
        _record_cost(api, job, now, limit)
    except NotFound as error:
        raise StartError(
            f"environment `{name}` has expired", "run it again on a cluster of its own: the environment will be rebuilt"
        ) from error


def _record_cost(api: Api, job: Manifest, now: datetime, limit: float) -> None:
    """Write down what its pod costs until its deadline, in the name of whoever had it made. The run itself says where
    there is no ledger."""
    metadata = job["metadata"]
    annotations = metadata.get("annotations") or {}
    spending = read_spending(annotations.get(COST_ANNOTATION))
    if spending is None:
        return
    until = now + timedelta(seconds=limit - runs.age(job, now))
    entry = Entry(
        user=annotations.get(USER_ANNOTATION, ""),
        program=annotations.get(PROGRAM_ANNOTATION, ""),
        began=spending.at.isoformat(timespec="seconds"),
        amount=round(spending.by(now), 6),
        currency=spending.currency,
        rate=round(spending.rate, 6),
        at=now.isoformat(timespec="seconds"),
        until=until.isoformat(timespec="seconds"),
    )
    with suppress(SkjobError):
        ledger.record(api, metadata["namespace"], metadata["labels"][RUN_LABEL], entry)


def _name(image: str, python: str, lacking: Mapping[str, str], index: IndexSettings) -> str:
    """By all that it is made of: the same version from another index may be another distribution."""
    places = [hashlib.sha256(each.url.encode()).hexdigest() for each in index.indexes]
    content = json.dumps([_FORMAT, image, python, sorted(lacking.items()), places, index.find_links, index.no_index])
    return f"skjob-environment-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _is_kept(api: Api, name: str) -> bool:
    """Whether it is there and will be for a while. What is left of one is removed."""
    namespace = api.context.namespace
    try:
        job = api.get("Job", name, namespace)
    except NotFound:
        return False
    age = runs.age(job, api.now())
    left = job["spec"]["activeDeadlineSeconds"] - age
    whole = age < _MADE_WITHIN or _has_service(api, name)
    if not _has_failed(job) and left > LEAST_LIFETIME and whole and "deletionTimestamp" not in job["metadata"]:
        return True
    with suppress(NotFound):  # it has gone meanwhile
        cleanup.remove(api, name, namespace)
    return False


def _has_service(api: Api, name: str) -> bool:
    """The last of its objects to be made: without it, whoever made the others was cut short."""
    try:
        api.get("Service", name, api.context.namespace)
    except NotFound:
        return False
    return True


def _has_failed(job: Manifest) -> bool:
    return any(each["status"] == "True" for each in job.get("status", {}).get("conditions") or [])


def _create(
    api: Api, name: str, image: str, needs: PodRequirements, index: IndexSettings, rules: NamespacePolicy
) -> bool:
    """Make its objects. False where another run was a moment faster: it makes the same."""
    namespace = api.context.namespace
    names = RunNames(new_run_id(), "environment", getpass.getuser(), existing=name, team=rules.team)
    try:
        job = keeper_job(names, namespace, image, [*index.files()], LIFETIME, rules.scheduling)
        if rules.prices.entries:
            rate = hourly(*requests(job["spec"]["template"]), possible_prices(rules))
            spending = Cost(0.0, rate, datetime.now(UTC), rules.prices.currency)
            job["metadata"]["annotations"][COST_ANNOTATION] = spending.as_json()
        anchor = api.create(job)
    except Conflict:
        return False
    try:
        with suppress(ForbiddenError, Rejected):  # the run says of its own that it can't be made
            api.create(owned_by(anchor, keeper_policy(names, namespace)))
        for content in (
            manifest.secret(names, namespace, {**make_certificates(name).files(), **index.files()}),
            manifest.files(names, namespace, skjob_archive(), needs),
            keeper_service(names, namespace),
        ):
            api.create(owned_by(anchor, content))
        keep(api, name)
    except BaseException:  # Ctrl-C too: a Job without the rest would stand in the way of the next run
        with suppress(SkjobError):
            cleanup.remove(api, name, namespace, run_id=names.run_id, wait=False)
        raise
    return True


def _wait(
    api: Api, name: str, deadline: float, timeout: float, check: Callable[[], None], *, ours: bool
) -> dict[str, object]:
    """Until the pod serves; what it says of its work. One that can't be made is removed by the run that made it."""
    try:
        return _until_it_serves(api, name, deadline, timeout, check)
    except BaseException:
        if ours:
            with suppress(SkjobError):  # what is in the way of that is not what the user has to know
                cleanup.remove(api, name, api.context.namespace, wait=False)
        raise


def _until_it_serves(
    api: Api, name: str, deadline: float, timeout: float, check: Callable[[], None]
) -> dict[str, object]:
    namespace = api.context.namespace
    selector = f"{INSTANCE_LABEL}={name}"
    causes: list[Cause] = []

    def find(pod: Manifest) -> dict[str, object] | None:
        if any(each["type"] == "Ready" and each["status"] == "True" for each in _conditions(pod)):
            return _said(api.log(pod["metadata"]["name"], namespace, lines=1))
        _see_that_it_has_not_ended(api, pod)
        return None

    def look() -> None:
        since = _see_that_it_is_there(api, name)
        events = api.readable_events(namespace)
        pods = api.list("Pod", namespace, selector=selector)
        for pod in pods:  # its own words say more
            _see_that_it_has_not_ended(api, pod)
        causes[:] = diagnose(pods, events, cluster=name, since=since)
        if causes and causes[0].fatal:
            raise StartError(f"the environment can't be made: {causes[0].message}", causes[0].hint, causes[0].log)

    said = wait_for_pod(api, selector, find, look, deadline, check=check)
    if said is None:
        why = f": {causes[0].message}" if causes else ""
        raise StartError(
            f"the environment was not made within `--start-timeout`, {timeout:.0f} s{why}",
            "give it more time; or `skjob env build` makes an image that has all",
        )
    return said


def _see_that_it_is_there(api: Api, name: str) -> str:
    """Since when it is."""
    try:
        job = api.get("Job", name, api.context.namespace)
    except NotFound as error:
        raise StartError(f"the environment `{name}` was removed while it was made", "run it again") from error
    if _has_failed(job):
        raise StartError(
            f"the pods that make the environment `{name}` end again and again",
            f"`kubectl --namespace {api.context.namespace} describe job {name}` shows more",
        )
    return str(job["metadata"]["creationTimestamp"])


def _see_that_it_has_not_ended(api: Api, pod: Manifest) -> None:
    if ended := _ended(api, pod):
        raise StartError(ended, "`--env FILE` installs another set, `--image` has another to begin with")


def _ended(api: Api, pod: Manifest) -> str:
    """Why its container has ended by itself, if it has; one whose node goes away is made anew by the Job."""
    for status in pod.get("status", {}).get("containerStatuses") or []:
        ended = status.get("state", {}).get("terminated") or {}
        if ended.get("exitCode") == EX_CONFIG:
            return str(ended.get("message") or "the environment can't be made")
        if ended.get("reason") == "OOMKilled":
            return f"the pod that makes the environment needs more memory than its limit, {KEEPER_MEMORY}"
        if 0 < ended.get("exitCode", 0) < 128:
            last = api.log(pod["metadata"]["name"], api.context.namespace, lines=1).strip()
            return f"the pod that makes the environment ended with exit code {ended['exitCode']}: {last}"
    return ""


def _conditions(pod: Manifest) -> list[Manifest]:
    return pod.get("status", {}).get("conditions") or []


def _said(log: str) -> dict[str, object]:
    try:
        return dict(json.loads(log))
    except ValueError:
        return {}
