"""Cache environments in a namespace: one pod per set of requirements, which outlives the run that first needed it.

What an image lacks is installed once, by `skjob.environment.pod.package_server`, in a pod of its own; the pods of this
run and of later ones fetch it from there. Its objects have an anchor and labels like those of a run, so that `skjob ps`
and `skjob down` find them and Kubernetes removes them an hour after their last use. Here the anchor is the Job whose
pod serves the environment: if that pod is evicted or lost, the Job creates another.
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
from skjob.utils.operating_system import linux_machine
from skjob.utils.tls import make_certificates

LIFETIME = 3600.0
"""Seconds for which an environment is kept after it was last used."""

MAX_LIFETIME = 30 * 24 * 3600.0
"""Maximum age in seconds, which the chart's policies allow; after that a new one is made."""

MIN_LIFETIME = 120.0
"""Seconds that an environment must still live to be used: a shorter life may end before it is extended."""

_GLIBC = "manylinux_2_36"
"""The glibc of Debian 12, the base of Python's slim images; distributions that need a newer one may not run there."""

_CREATION_TIMEOUT = 30.0
"""Seconds within which all objects of an environment are created."""

_FORMAT = 3
"""Format of the archive, part of the environment's name; increase it when the layout changes."""


@dataclass(frozen=True)
class CachedEnvironment:
    """An environment that pods can use: the name of its objects, the pods' requirements, and how it was provided."""

    name: str
    requirements: PodRequirements
    details: Mapping[str, object]


def uv_version() -> str:
    """Return the version of uv installed here; the package server gets the same, unless its image has one."""
    from importlib.metadata import version

    return version("uv")


def platform_of(nodes: Sequence[Manifest] | None, architecture: str = "") -> str:
    """Return the pods' platform as uv calls it, from their `architecture` if that is set, else from the nodes.

    It is x86-64 for nodes of several kinds, or nodes that cannot be listed.
    """
    machines = {node["status"]["nodeInfo"]["architecture"] for node in nodes or ()}
    only = architecture or (machines.pop() if len(machines) == 1 else DEFAULT_ARCHITECTURE)
    return f"{linux_machine(only)}-{_GLIBC}"


def ensure_environment(
    api: Api,
    spec: EnvironmentSpec,
    image: str,
    platform: str,
    timeout: float,
    notify: Notify,
    rules: NamespacePolicy = NO_RULES,
    *,
    check: Callable[[], None] = lambda: None,
) -> CachedEnvironment:
    """Make the environment available in the namespace, unless the image has it or it is cached there.

    `check` is called while waiting for pods, and aborts the wait by raising.

    Raises:
        ConfigError: a distribution is not available for the pods' platform; nothing was created.
        StartError: the environment cannot be made in the cluster, or not within `timeout` seconds; quotes the pod's own
            words.
    """
    installed = known_contents(image)
    if installed is None:
        notify(f"inspecting the image `{image}`, once")
        contents = image_contents(api, image, timeout, rules, check=check)
        _check_python(image, contents.python, spec.python)
        installed = dict(contents.distributions)
        remember_image(image, installed)
    missing = missing_pins(spec.pins, installed)
    if not missing:
        return CachedEnvironment("", PodRequirements(spec.python, spec.pins), {"lacking": 0})
    name = _name(image, spec.python, missing, spec.index, rules.architecture)
    requirements = PodRequirements(spec.python, spec.pins, served_at=f"{name}.{api.context.namespace}:{PORT}")
    began = time.monotonic()
    created = False
    if _is_cached(api, name):
        keep(api, name)
    else:
        check_pins_available(missing, spec.python, platform, spec.index, cache_folder())
        notify(f"installing {len(missing)} distributions that the image lacks, once for this set of versions")
        created = _create(api, name, image, PodRequirements(spec.python, missing, uv=uv_version()), spec.index, rules)
    details = _wait(api, name, began + timeout, timeout, check, created=created)
    how = "made" if created else "kept"
    seconds = round(time.monotonic() - began, 2)
    return CachedEnvironment(name, requirements, {"lacking": len(missing), how: seconds, **details})


def _check_python(image: str, actual: str, expected: str) -> None:
    """Raise StartError if the image has another Python. Pods check again: the image's name may be reused."""
    if actual.split(".")[:2] != expected.split(".")[:2]:
        raise StartError(
            f"the image `{image}` has Python {actual}, but this environment has {expected}",
            f"choose an image with Python {expected}, or omit `--image` to get one that matches",
        )


class PodEnvironment:
    """The environment of one cluster's pods: provided before they exist, and kept while they may need it.

    `name` is that of its objects in the namespace, empty if there are none. `details` are how it was provided, for the
    record.
    """

    def __init__(self, api: Api, notify: Notify, name: str = "") -> None:
        self._api = api
        self._notify = notify
        self.name = name
        self.details: dict[str, object] = {}

    def ensure(
        self, spec: EnvironmentSpec, plan: Plan, nodes: Sequence[Manifest] | None, check: Callable[[], None]
    ) -> PodRequirements:
        """Make the environment available to pods, and return their requirements.

        See `ensure_environment` for errors.
        """
        cached = ensure_environment(
            self._api,
            spec,
            plan.image,
            platform_of(nodes, plan.rules.architecture),
            plan.start_timeout,
            self._notify,
            plan.rules,
            check=check,
        )
        self.name, self.details = cached.name, dict(cached.details)
        return cached.requirements

    def keep(self, seconds: float = LIFETIME) -> None:
        """Extend its life to `seconds` from now. Raise StartError if it is gone."""
        if self.name:
            keep(self._api, self.name, seconds)

    def keep_alive(self) -> None:
        """Extend its life for workers that start later. If it is gone, they report it."""
        with suppress(SkjobError):
            self.keep()


def keep(api: Api, name: str, seconds: float = LIFETIME) -> None:
    """Extend the life of an environment to `seconds` from now. Called when a run begins to use it, and while it does.

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
    """Record what its pod costs until its deadline, for the user who had it made. The run reports a missing ledger."""
    metadata = job["metadata"]
    annotations = metadata.get("annotations") or {}
    cost = read_cost(annotations.get(COST_ANNOTATION))
    if cost is None:
        return
    until = now + timedelta(seconds=limit - runs.age(job, now))
    entry = Entry(
        user=annotations.get(USER_ANNOTATION, ""),
        program=annotations.get(PROGRAM_ANNOTATION, ""),
        began=cost.at.isoformat(timespec="seconds"),
        amount=rounded(cost.by(now)),
        currency=cost.currency,
        rate=rounded(cost.rate),
        at=now.isoformat(timespec="seconds"),
        until=until.isoformat(timespec="seconds"),
    )
    with suppress(SkjobError):
        ledger.record(api, metadata["namespace"], metadata["labels"][RUN_LABEL], entry)


def _name(image: str, python: str, missing: Mapping[str, str], index: IndexSettings, architecture: str = "") -> str:
    """Return a name derived from all that defines it: the same version may differ between indexes."""
    places = [hashlib.sha256(each.url.encode()).hexdigest() for each in index.indexes]
    parts = [_FORMAT, image, python, sorted(missing.items()), places, index.find_links, index.no_index]
    if architecture:
        parts.append(architecture)
    return f"skjob-environment-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]}"


def _is_cached(api: Api, name: str) -> bool:
    """Return whether it exists and will for a while. Remove it if it is incomplete, failed or about to end."""
    namespace = api.context.namespace
    try:
        job = api.get("Job", name, namespace)
    except NotFound:
        return False
    age = runs.age(job, api.now())
    seconds_left = job["spec"]["activeDeadlineSeconds"] - age
    complete = age < _CREATION_TIMEOUT or _has_service(api, name)
    if not _has_failed(job) and seconds_left > MIN_LIFETIME and complete and "deletionTimestamp" not in job["metadata"]:
        return True
    with suppress(NotFound):  # it was removed in the meantime
        cleanup.remove(api, name, namespace)
    return False


def _has_service(api: Api, name: str) -> bool:
    """Return whether the last of its objects exists: if not, its creation was interrupted."""
    try:
        api.get("Service", name, api.context.namespace)
    except NotFound:
        return False
    return True


def _has_failed(job: Manifest) -> bool:
    return any(each["status"] == "True" for each in job.get("status", {}).get("conditions") or [])


def _create(
    api: Api, name: str, image: str, requirements: PodRequirements, index: IndexSettings, rules: NamespacePolicy
) -> bool:
    """Create its objects. Return False if another run was faster: it creates the same ones."""
    namespace = api.context.namespace
    names = RunNames(new_run_id(), "environment", getpass.getuser(), existing=name, team=rules.team)
    try:
        job = package_server_job(names, namespace, image, [*index.files()], LIFETIME, rules)
        if rules.prices.entries:
            prices = prices_in(rules, rules.support_scheduling.node_selector)
            rate = hourly(*requests(job["spec"]["template"]), prices)
            cost = Cost(0.0, rate, datetime.now(UTC), rules.prices.currency)
            job["metadata"]["annotations"][COST_ANNOTATION] = cost.as_json()
        anchor = api.create(job)
    except Conflict:
        return False
    try:
        with suppress(ForbiddenError, Rejected):  # the run reports that for its own policy
            api.create(owned_by(anchor, package_server_policy(names, namespace)))
        for content in (
            manifest.secret(names, namespace, {**make_certificates(name).files(), **index.files()}),
            manifest.files(names, namespace, skjob_archive(), requirements),
            package_server_service(names, namespace),
        ):
            api.create(owned_by(anchor, content))
        keep(api, name)
    except BaseException:  # Ctrl-C too: a Job without the rest would block the next run
        with suppress(SkjobError):
            cleanup.remove(api, name, namespace, run_id=names.run_id, wait=False)
        raise
    return True


def _wait(
    api: Api, name: str, deadline: float, timeout: float, check: Callable[[], None], *, created: bool
) -> dict[str, object]:
    """Wait until the pod is ready, and return the details it reports. The run that made it removes it on failure."""
    try:
        return _wait_until_ready(api, name, deadline, timeout, check)
    except BaseException:
        if created:
            with suppress(SkjobError):  # the user needs the first error, not one of the removal
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
            return _details_in(api.log(pod["metadata"]["name"], namespace, lines=1))
        _require_not_ended(api, pod)
        return None

    def check_pods() -> None:
        since = _require_job(api, name)
        events = api.readable_events(namespace)
        pods = api.list("Pod", namespace, selector=selector)
        for pod in pods:  # their own message says more
            _require_not_ended(api, pod)
        causes[:] = diagnose(pods, events, cluster=name, since=since)
        if causes and causes[0].fatal:
            raise StartError(f"the environment cannot be made: {causes[0].message}", causes[0].hint, causes[0].log)

    details = wait_for_pod(api, selector, find, check_pods, deadline, check=check)
    if details is None:
        why = f": {causes[0].message}" if causes else ""
        raise StartError(
            f"the environment was not ready within `--start-timeout`, {timeout:.0f} s{why}",
            "increase it, or build an image that has everything with `skjob env build`",
        )
    return details


def _require_job(api: Api, name: str) -> str:
    """Return when the Job was created. Raise StartError if it does not exist or cannot finish."""
    try:
        job = api.get("Job", name, api.context.namespace)
    except NotFound as error:
        raise StartError(f"the environment `{name}` was removed while it was being made", "run it again") from error
    if _has_failed(job):
        raise StartError(
            f"the pods that make the environment `{name}` keep failing",
            f"`kubectl --namespace {api.context.namespace} describe job {name}` shows more",
        )
    return str(job["metadata"]["creationTimestamp"])


def _require_not_ended(api: Api, pod: Manifest) -> None:
    if ended := _why_ended(api, pod):
        raise StartError(ended, "install other versions with `--env FILE`, or start from another image with `--image`")


def _why_ended(api: Api, pod: Manifest) -> str:
    """Return why its container has failed, if it has; if its node is lost, the Job creates another pod."""
    for status in pod.get("status", {}).get("containerStatuses") or []:
        ended = status.get("state", {}).get("terminated") or {}
        if ended.get("exitCode") == EX_CONFIG:
            return str(ended.get("message") or "the environment cannot be made")
        if ended.get("reason") == "OOMKilled":
            return f"the pod that makes the environment exceeds its memory limit, {PACKAGE_SERVER_MEMORY}"
        if 0 < ended.get("exitCode", 0) < 128:
            last = api.log(pod["metadata"]["name"], api.context.namespace, lines=1).strip()
            return f"the pod that makes the environment ended with exit code {ended['exitCode']}: {last}"
    return ""


def _conditions(pod: Manifest) -> list[Manifest]:
    return pod.get("status", {}).get("conditions") or []


def _details_in(log: str) -> dict[str, object]:
    try:
        return dict(json.loads(log))
    except ValueError:
        return {}
