"""Keep environments in a namespace: one pod for each set of requirements, which outlives the run that first needed it.

What an image lacks is installed once, by `skjob.environment.pod.package_server`, in a pod of its own; the pods of this
run and of later ones unpack it from there. Its objects have an anchor and labels like those of a run, so that `skjob
ps` and `skjob down` know them, and Kubernetes removes them by itself an hour after their last use. The anchor is the
very Job whose pod keeps the environment: if that pod is evicted or lost, the Job makes another.
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
from skjob.config.nodes import DEFAULT_ARCHITECTURE
from skjob.config.plan import NO_RULES, Plan
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import Conflict, NotFound, Rejected
from skjob.deploy.kubernetes.api.wait import wait_for_pod
from skjob.deploy.kubernetes.costs import ledger
from skjob.deploy.kubernetes.costs.ledger import Entry
from skjob.deploy.kubernetes.costs.prices import Cost, hourly, prices_in, read_cost, rounded
from skjob.deploy.kubernetes.diagnosis.capacity import requests
from skjob.deploy.kubernetes.diagnosis.causes import Cause, diagnose
from skjob.deploy.kubernetes.image_probe import image_contents
from skjob.deploy.kubernetes.inventory import cleanup, runs
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests import run as manifest
from skjob.deploy.kubernetes.manifests.environment import (
    PACKAGE_SERVER_MEMORY,
    package_server_job,
    package_server_policy,
    package_server_service,
)
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
from skjob.utils.notify import Notify
from skjob.utils.tls import make_certificates

LIFETIME = 3600.0
"""Seconds for which an environment is kept after it was last used."""

MAX_LIFETIME = 30 * 24 * 3600.0
"""The age that the chart's policies allow; then another one is made."""

MIN_LIFETIME = 120.0
"""An environment that ends sooner may be gone before its life is extended."""

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_GLIBC = "manylinux_2_36"
"""That of Debian 12, the base of Python's slim images; distributions that need a newer one may not run there."""

_MADE_WITHIN = 30.0
"""Seconds within which all of its objects are created."""

_FORMAT = 3
"""Part of the name: another layout of the archive is another environment."""


@dataclass(frozen=True)
class CachedEnvironment:
    """An environment that pods can have: the name of its objects, what pods need, and how it was made."""

    name: str
    needs: PodRequirements
    made: Mapping[str, object]


def uv_version() -> str:
    """Return the version of uv that is installed here; the package server gets the same, unless its image has one."""
    from importlib.metadata import version

    return version("uv")


def platform_of(nodes: Sequence[Manifest] | None, architecture: str = "") -> str:
    """Return the pods' platform as uv calls it, by the architecture that they have, or that of all nodes.

    It is x86-64 for nodes of several kinds, or that may not be listed.
    """
    machines = {node["status"]["nodeInfo"]["architecture"] for node in nodes or ()}
    only = architecture or (machines.pop() if len(machines) == 1 else DEFAULT_ARCHITECTURE)
    return f"{_MACHINES.get(only, only)}-{_GLIBC}"


def ensure_environment(
    api: Api,
    wanted: EnvironmentSpec,
    image: str,
    platform: str,
    timeout: float,
    notify: Notify,
    rules: NamespacePolicy = NO_RULES,
    *,
    check: Callable[[], None] = lambda: None,
) -> CachedEnvironment:
    """See that the environment can be had in the namespace: nothing to do where the image has it, or it is kept there.

    `check` is called while pods are waited for, and ends that by raising.

    Raises:
        ConfigError: some distribution is not available for the pods' platform; nothing was created.
        StartError: it cannot be made in the cluster, or not within `timeout` seconds; with the pod's own words.
    """
    has = known_contents(image)
    if has is None:
        notify(f"looking into the image `{image}`, once")
        contents = image_contents(api, image, timeout, rules, check=check)
        _check_python(image, contents.python, wanted.python)
        has = dict(contents.distributions)
        remember_image(image, has)
    lacking = missing_pins(wanted.pins, has)
    if not lacking:
        return CachedEnvironment("", PodRequirements(wanted.python, wanted.pins), {"lacking": 0})
    name = _name(image, wanted.python, lacking, wanted.index, rules.architecture)
    needs = PodRequirements(wanted.python, wanted.pins, served_at=f"{name}.{api.context.namespace}:{PORT}")
    began = time.monotonic()
    ours = False
    if _is_cached(api, name):
        keep(api, name)
    else:
        check_pins_available(lacking, wanted.python, platform, wanted.index, cache_folder())
        notify(f"installing {len(lacking)} distributions that the image lacks, once for this set of versions")
        ours = _create(api, name, image, PodRequirements(wanted.python, lacking, uv=uv_version()), wanted.index, rules)
    made = _wait(api, name, began + timeout, timeout, check, ours=ours)
    how = "made" if ours else "kept"
    return CachedEnvironment(name, needs, {"lacking": len(lacking), how: round(time.monotonic() - began, 2), **made})


def _check_python(image: str, there: str, wanted: str) -> None:
    """Raise StartError if the image has another Python. Pods check it too: the name may come to mean another image."""
    if there.split(".")[:2] != wanted.split(".")[:2]:
        raise StartError(
            f"the image `{image}` has Python {there}, and this environment has {wanted}",
            f"choose an image with Python {wanted}, with `--image`, or leave it out for one made to match",
        )


class PodEnvironment:
    """The environment of one cluster's pods: ensured before they exist, and kept while they may need it.

    `name` is that of its objects in the namespace, empty if there are none. `made` says how it was made, for the
    record.
    """

    def __init__(self, api: Api, notify: Notify, name: str = "") -> None:
        self._api = api
        self._notify = notify
        self.name = name
        self.made: dict[str, object] = {}

    def ensure(
        self, wanted: EnvironmentSpec, plan: Plan, nodes: Sequence[Manifest] | None, check: Callable[[], None]
    ) -> PodRequirements:
        """See that the environment is in the image or in the namespace, and return what pods need of it.

        For errors see `ensure_environment`.
        """
        cached = ensure_environment(
            self._api,
            wanted,
            plan.image,
            platform_of(nodes, plan.rules.architecture),
            plan.start_timeout,
            self._notify,
            plan.rules,
            check=check,
        )
        self.name, self.made = cached.name, dict(cached.made)
        return cached.needs

    def keep(self, seconds: float = LIFETIME) -> None:
        """Let it live for so many seconds from now. Raise StartError if it is gone."""
        if self.name:
            keep(self._api, self.name, seconds)

    def keep_alive(self) -> None:
        """Let it live on for workers that start later. If it is gone, they say so."""
        with suppress(SkjobError):
            self.keep()


def keep(api: Api, name: str, seconds: float = LIFETIME) -> None:
    """Let it live for so many seconds from now. Called when a run begins to use it, and while it does.

    Raises:
        StartError: it is gone.
    """
    namespace = api.context.namespace
    try:
        job = api.get("Job", name, namespace)
        now = api.now()
        # Another run may need it for longer.
        limit = max(min(runs.age(job, now) + seconds, MAX_LIFETIME), job["spec"]["activeDeadlineSeconds"])
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
    spending = read_cost(annotations.get(COST_ANNOTATION))
    if spending is None:
        return
    until = now + timedelta(seconds=limit - runs.age(job, now))
    entry = Entry(
        user=annotations.get(USER_ANNOTATION, ""),
        program=annotations.get(PROGRAM_ANNOTATION, ""),
        began=spending.at.isoformat(timespec="seconds"),
        amount=rounded(spending.by(now)),
        currency=spending.currency,
        rate=rounded(spending.rate),
        at=now.isoformat(timespec="seconds"),
        until=until.isoformat(timespec="seconds"),
    )
    with suppress(SkjobError):
        ledger.record(api, metadata["namespace"], metadata["labels"][RUN_LABEL], entry)


def _name(image: str, python: str, lacking: Mapping[str, str], index: IndexSettings, architecture: str = "") -> str:
    """Return a name made from everything it consists of: the same version from another index may be another
    distribution."""
    places = [hashlib.sha256(each.url.encode()).hexdigest() for each in index.indexes]
    parts = [_FORMAT, image, python, sorted(lacking.items()), places, index.find_links, index.no_index]
    if architecture:
        parts.append(architecture)
    return f"skjob-environment-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]}"


def _is_cached(api: Api, name: str) -> bool:
    """Return whether it exists and will for a while. Remove what is left of one."""
    namespace = api.context.namespace
    try:
        job = api.get("Job", name, namespace)
    except NotFound:
        return False
    age = runs.age(job, api.now())
    left = job["spec"]["activeDeadlineSeconds"] - age
    whole = age < _MADE_WITHIN or _has_service(api, name)
    if not _has_failed(job) and left > MIN_LIFETIME and whole and "deletionTimestamp" not in job["metadata"]:
        return True
    with suppress(NotFound):  # it went meanwhile
        cleanup.remove(api, name, namespace)
    return False


def _has_service(api: Api, name: str) -> bool:
    """Return whether the last of its objects exists: without it, whoever made the others was interrupted."""
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
        job = package_server_job(names, namespace, image, [*index.files()], LIFETIME, rules)
        if rules.prices.entries:
            prices = prices_in(rules, rules.scheduling_of_others.node_selector)
            rate = hourly(*requests(job["spec"]["template"]), prices)
            spending = Cost(0.0, rate, datetime.now(UTC), rules.prices.currency)
            job["metadata"]["annotations"][COST_ANNOTATION] = spending.as_json()
        anchor = api.create(job)
    except Conflict:
        return False
    try:
        with suppress(ForbiddenError, Rejected):  # the run reports that for its own policy
            api.create(owned_by(anchor, package_server_policy(names, namespace)))
        for content in (
            manifest.secret(names, namespace, {**make_certificates(name).files(), **index.files()}),
            manifest.files(names, namespace, skjob_archive(), needs),
            package_server_service(names, namespace),
        ):
            api.create(owned_by(anchor, content))
        keep(api, name)
    except BaseException:  # Ctrl-C too: a Job without the rest would be in the way of the next run
        with suppress(SkjobError):
            cleanup.remove(api, name, namespace, run_id=names.run_id, wait=False)
        raise
    return True


def _wait(
    api: Api, name: str, deadline: float, timeout: float, check: Callable[[], None], *, ours: bool
) -> dict[str, object]:
    """Wait until the pod serves, and return what it says of its work. The run that made it removes it on failure."""
    try:
        return _wait_until_ready(api, name, deadline, timeout, check)
    except BaseException:
        if ours:
            with suppress(SkjobError):  # an error of the removal is not what the user has to know
                cleanup.remove(api, name, api.context.namespace, wait=False)
        raise


def _wait_until_ready(
    api: Api, name: str, deadline: float, timeout: float, check: Callable[[], None]
) -> dict[str, object]:
    namespace = api.context.namespace
    selector = f"{INSTANCE_LABEL}={name}"
    causes: list[Cause] = []

    def find(pod: Manifest) -> dict[str, object] | None:
        if any(each["type"] == "Ready" and each["status"] == "True" for each in _conditions(pod)):
            return _made_in(api.log(pod["metadata"]["name"], namespace, lines=1))
        _require_not_ended(api, pod)
        return None

    def look() -> None:
        since = _require_job(api, name)
        events = api.readable_events(namespace)
        pods = api.list("Pod", namespace, selector=selector)
        for pod in pods:  # their own words say more
            _require_not_ended(api, pod)
        causes[:] = diagnose(pods, events, cluster=name, since=since)
        if causes and causes[0].fatal:
            raise StartError(f"the environment cannot be made: {causes[0].message}", causes[0].hint, causes[0].log)

    made = wait_for_pod(api, selector, find, look, deadline, check=check)
    if made is None:
        why = f": {causes[0].message}" if causes else ""
        raise StartError(
            f"the environment was not made within `--start-timeout`, {timeout:.0f} s{why}",
            "give it more time; or `skjob env build` makes an image that has all",
        )
    return made


def _require_job(api: Api, name: str) -> str:
    """Return since when it exists. Raise StartError if it does not, or cannot be made."""
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


def _require_not_ended(api: Api, pod: Manifest) -> None:
    if ended := _why_ended(api, pod):
        raise StartError(ended, "`--env FILE` installs another set, `--image` has another to begin with")


def _why_ended(api: Api, pod: Manifest) -> str:
    """Return why its container has ended by itself, if it has; if its node goes away, the Job makes another pod."""
    for status in pod.get("status", {}).get("containerStatuses") or []:
        ended = status.get("state", {}).get("terminated") or {}
        if ended.get("exitCode") == EX_CONFIG:
            return str(ended.get("message") or "the environment cannot be made")
        if ended.get("reason") == "OOMKilled":
            return f"the pod that makes the environment needs more memory than its limit, {PACKAGE_SERVER_MEMORY}"
        if 0 < ended.get("exitCode", 0) < 128:
            last = api.log(pod["metadata"]["name"], api.context.namespace, lines=1).strip()
            return f"the pod that makes the environment ended with exit code {ended['exitCode']}: {last}"
    return ""


def _conditions(pod: Manifest) -> list[Manifest]:
    return pod.get("status", {}).get("conditions") or []


def _made_in(log: str) -> dict[str, object]:
    try:
        return dict(json.loads(log))
    except ValueError:
        return {}
