"""Check everything that a run needs, for `skjob doctor`: one requirement after the other, each with its remedy.

Checks never raise: an error becomes a `Check`, and ends the examination if later checks depend on it. Two checks create
objects for a few seconds, under an anchor that removes them even if skjob is killed. The image check starts a pod that
prints versions. The operator check, if the user may not read the operator's Deployment, creates a DaskCluster that
every operator rejects at once because its name is too long, so that nothing starts.
"""

from __future__ import annotations

import getpass
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version

from skjob.config.namespace_policy import NamespacePolicy
from skjob.config.plan import DEFAULT_CPU, DEFAULT_MEMORY, default_image, rules_for_run
from skjob.config.sources import ResolvedSettings
from skjob.deploy.kubernetes.api.client import Api, connect_api
from skjob.deploy.kubernetes.api.errors import NotFound
from skjob.deploy.kubernetes.api.rbac import RUN_PERMISSIONS, bindings_of, missing
from skjob.deploy.kubernetes.costs import ledger
from skjob.deploy.kubernetes.costs.prices import possible_prices
from skjob.deploy.kubernetes.diagnosis.capacity import best_node
from skjob.deploy.kubernetes.diagnosis.nodes import find_nodes
from skjob.deploy.kubernetes.image_probe import anchored, image_contents
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests.labels import LEDGER_CONFIGMAP, RunNames, new_run_id
from skjob.deploy.kubernetes.manifests.pods import anchor_job, owned_by
from skjob.deploy.kubernetes.namespace_config import read_defaults
from skjob.deploy.kubernetes.operator.manifests import operator_version
from skjob.deploy.kubernetes.operator.state import OperatorState, Presence, operator_state
from skjob.environment.transfer_plan import NONE
from skjob.environment.version_check import MAY_CHANGE_NUMBERS, MUST_AGREE, find_differences
from skjob.errors import (
    INTERNAL_FAULT,
    AccessError,
    ConfigError,
    ForbiddenError,
    OperatorError,
    SkjobError,
    StartError,
)
from skjob.utils.tls import make_certificates
from skjob.utils.units import format_gpus, format_size
from skjob.utils.versions import PYTHON

_COMPARED_PACKAGES = (*MUST_AGREE, *MAY_CHANGE_NUMBERS)
"""Packages whose versions client, scheduler and workers must share, beside Python."""

_OPERATOR_TIMEOUT = 60.0
"""Seconds to wait for an operator: one reacts within a second or two, later if it is busy."""

_POLL = 0.2


class CheckOutcome(StrEnum):
    """The result of a check. A run works in spite of warnings."""

    OK = "ok"
    WARNING = "warn"
    FAILED = "fail"
    SKIPPED = "skip"


@dataclass(frozen=True)
class Check:
    """One requirement of a run. `exit_code` is that of the error with which a run would end."""

    name: str
    outcome: CheckOutcome
    detail: str
    remedy: str = ""
    exit_code: int = 0


@dataclass(frozen=True)
class DoctorReport:
    """All checks, in the order they were made."""

    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        """0 if a run would work, else the exit status for the first requirement that is not met."""
        return next((check.exit_code for check in self.checks if check.outcome is CheckOutcome.FAILED), 0)


@dataclass(frozen=True)
class Versions:
    """Versions of Python and the compared packages on one side; None for a package that is not installed."""

    python: str
    packages: Mapping[str, str | None]


def examine(
    requested: ResolvedSettings, *, check_image: bool, timeout: float, on_check: Callable[[Check], None]
) -> DoctorReport:
    """Check everything that a run with these settings needs. `on_check` receives each check as soon as it is made."""
    checks = []
    for check in _checks(requested, check_image, timeout):
        checks.append(check)
        on_check(check)
    return DoctorReport(tuple(checks))


def _checks(requested: ResolvedSettings, check_image: bool, timeout: float) -> Iterator[Check]:
    local = local_versions()
    yield _local_packages(local)
    yield _tls()

    try:
        api = connect_api(requested.settings.context, requested.settings.namespace)
    except AccessError as error:
        yield _failed("kubeconfig", error)
        return
    context, namespace = api.context, api.context.namespace
    yield _ok("kubeconfig", f"context `{context.name}`, namespace `{namespace}`")
    try:
        yield _ok("api", f"`{context.server}` answers, {api.version()}")
    except ForbiddenError:
        yield _ok("api", f"`{context.server}` answers")
    except SkjobError as error:
        yield _failed("api", error)
        return

    try:
        if (absent := _namespace(api)) is not None:
            yield absent
            return
        try:
            resolved, rules = read_defaults(api, requested)
        except ConfigError as error:
            for problem in error.problems:
                yield Check("settings", CheckOutcome.FAILED, problem, error.hint, error.exit_code)
            return
        yield from _rules(rules)
        settings = resolved.settings
        try:
            rules = rules_for_run(rules, settings.node_pool, settings.arch)
        except ConfigError as error:
            yield _failed("node pool", error)
            return
        if rules.node_pool is not None:
            others = [f"`{pool.name}`" for pool in rules.node_pools if pool != rules.node_pool]
            other_pools = f"; other pools: {', '.join(others)}" if others else ""
            yield _ok("node pool", f"workers run in `{rules.node_pool.name}`{other_pools}")
        yield from _costs(api, rules)
        yield from _account(api, rules)
        permissions = list(_permissions(api))
        yield from permissions
        denied = any(check.outcome is CheckOutcome.FAILED for check in permissions)
        yield from _operator(api, may_try=not denied)
        size = settings.worker_cpu or DEFAULT_CPU, settings.worker_memory or DEFAULT_MEMORY
        yield _nodes(api, rules, *size, settings.worker_gpu or 0)
        installs, may_try = settings.env != NONE, check_image and not denied
        yield _image(api, settings.image, local, timeout, rules, installs=installs, may_try=may_try)
    except SkjobError as error:  # the API became unreachable, or denies what every user may do
        yield _failed("api", error)


# --- this machine


def local_versions() -> Versions:
    """Return the versions on this machine."""
    installed: dict[str, str | None] = {}
    for package in _COMPARED_PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            installed[package] = None
    return Versions(platform.python_version(), installed)


def _local_packages(local: Versions) -> Check:
    absent = [package for package, installed in local.packages.items() if installed is None]
    if absent:
        names = ", ".join(f"`{package}`" for package in absent)
        remedy = f"`pip install {' '.join(absent)}`"
        return Check("packages", CheckOutcome.FAILED, f"{names} is not installed here", remedy, INTERNAL_FAULT)
    listed = ", ".join(f"{package} {installed}" for package, installed in local.packages.items())
    return _ok("packages", f"Python {local.python}, {listed}, dask-kubernetes {operator_version()}")


def _tls() -> Check:
    try:
        make_certificates("doctor")
    except Exception as error:  # a broken OpenSSL may raise anything
        remedy = "`pip install --force-reinstall cryptography`"
        return Check("tls", CheckOutcome.FAILED, f"certificates cannot be made: {error}", remedy, INTERNAL_FAULT)
    return _ok("tls", "certificates can be made")


# --- the cluster


def _namespace(api: Api) -> Check | None:
    name = api.context.namespace
    try:
        api.get("Namespace", name)
    except NotFound:
        remedy = f"`kubectl create namespace {name}`, or choose another with `--namespace`"
        return Check(
            "namespace", CheckOutcome.FAILED, f"namespace `{name}` does not exist", remedy, ConfigError.exit_code
        )
    except ForbiddenError:
        return None  # ordinary users may not look; the check of permissions shows what is denied
    return None


def _rules(rules: NamespacePolicy) -> Iterator[Check]:
    """Report what the platform team allows a run, so that users learn of a limit before they run into it."""
    if limits := str(rules.limits):
        yield _ok("limits", f"a run may have {limits}, as set by {rules.limits.origin}")
    for notice in rules.notices:
        yield Check("limits", CheckOutcome.WARNING, notice, "ask the platform team to rename them")


def _costs(api: Api, rules: NamespacePolicy) -> Iterator[Check]:
    """Check that a run's costs can be added to the team's totals, if prices are known."""
    if not rules.prices.entries:
        return
    if rules.limits.gpus and not any(price.gpu_hour for price in possible_prices(rules)):
        gpus = format_gpus(rules.limits.gpus)
        detail = f"a run may have {gpus}, and no price of its nodes has `gpu-hour`: GPUs cost nothing"
        yield Check("costs", CheckOutcome.WARNING, detail, "ask the platform team for a price of GPUs")
    namespace = api.context.namespace
    try:
        api.get("ConfigMap", LEDGER_CONFIGMAP, namespace)
    except NotFound:
        detail = f"ConfigMap `{LEDGER_CONFIGMAP}` does not exist: the costs of runs are not added up"
        yield Check("costs", CheckOutcome.WARNING, detail, ledger.remedy(namespace))
        return
    if not api.allowed("patch", "configmaps", namespace, name=LEDGER_CONFIGMAP):
        detail = f"not allowed to patch ConfigMap `{LEDGER_CONFIGMAP}`: the costs of runs are not added up"
        yield Check("costs", CheckOutcome.WARNING, detail, "ask for the Role that `skjob doctor --role` prints")
        return
    yield _ok("costs", f"counted in {rules.prices.currency}, and added to the team's totals: `skjob costs`")


def _account(api: Api, rules: NamespacePolicy) -> Iterator[Check]:
    """Check that the workers' service account, if the platform team sets one, has no rights in Kubernetes.

    Workers get no API token for it, but an account without rights is safe whoever obtains one.
    """
    namespace, account = api.context.namespace, rules.pods.service_account
    if not account:
        return
    try:
        bindings = bindings_of(api, account, namespace)
    except ForbiddenError:
        detail = f"not allowed to list RoleBindings: `{account}`, the workers' service account, may have one"
        yield Check("account", CheckOutcome.SKIPPED, detail)
        return
    if bindings:
        detail = f"`{account}`, the workers' service account, has rights in Kubernetes: {', '.join(bindings)}"
        remedy = "ask the platform team to remove it from them, or to set another account in `pods`"
        yield Check("account", CheckOutcome.WARNING, detail, remedy)
        return
    yield _ok("account", f"workers run as `{account}`, which has no rights in Kubernetes")


def _permissions(api: Api) -> Iterator[Check]:
    namespace = api.context.namespace
    denied = missing(api, namespace)
    if not denied:
        verbs = sum(len(permission.verbs) for permission in RUN_PERMISSIONS)
        yield _ok("permissions", f"all {verbs} that a run needs in `{namespace}`")
    for permission in denied:
        group = f"{permission.resource}.{permission.group}" if permission.group else permission.resource
        yield Check(
            "permissions",
            CheckOutcome.WARNING if permission.optional else CheckOutcome.FAILED,
            f"not allowed to {', '.join(permission.verbs)} `{group}` in `{namespace}`: {permission.purpose}",
            "ask for the Role that `skjob doctor --role` prints",
            ForbiddenError.exit_code,
        )


def _operator(api: Api, *, may_try: bool) -> Iterator[Check]:
    state = operator_state(api)
    if not state.custom_resources:
        detail = "the API does not know DaskClusters: the Dask operator is not installed"
        yield Check("operator", CheckOutcome.FAILED, detail, "`skjob install`", OperatorError.exit_code)
        return
    if state.deployment is Presence.PRESENT:
        yield _operator_seen(state)
        return
    if not may_try:
        yield Check("operator", CheckOutcome.SKIPPED, "cannot be checked without the permissions above")
        return
    if _operator_answers(api):
        yield _ok("operator", "answers")
        return
    yield Check(
        "operator",
        CheckOutcome.FAILED,
        f"the API knows DaskClusters, but nothing acts on them within {_OPERATOR_TIMEOUT:.0f} s",
        "`skjob install`, or ask whoever installed it to check its Deployment",
        OperatorError.exit_code,
    )


def _operator_seen(state: OperatorState) -> Check:
    where = f"`{state.namespace}/{state.name}`"
    if not state.ready:
        remedy = (
            f"`kubectl -n {state.namespace} describe deployment {state.name}` shows why;"
            " `skjob install` repairs its own operator"
        )
        return Check("operator", CheckOutcome.FAILED, f"{where} is not running", remedy, OperatorError.exit_code)
    if state.version and _release(state.version) != _release(operator_version()):
        detail = f"{where} runs version {state.version}; this machine has dask-kubernetes {operator_version()}"
        return Check(
            "operator", CheckOutcome.WARNING, detail, "`skjob install` upgrades its own operator to this version"
        )
    return _ok("operator", f"{where} runs, {state.version or 'version unknown'}")


def _operator_answers(api: Api) -> bool:
    """Return whether an operator acts on a DaskCluster, whose name it must reject, so that nothing starts."""
    names = _names()
    with anchored(api, anchor_job(names, api.context.namespace, 60)) as anchor:
        metadata = {
            "name": f"{names.cluster}-asks-whether-an-operator-is-there-to-refuse-this",
            "namespace": api.context.namespace,
            "labels": names.labels("doctor"),
            "annotations": names.annotations(),
        }
        cluster = {
            "apiVersion": "kubernetes.dask.org/v1",
            "kind": "DaskCluster",
            "metadata": metadata,
            "spec": {
                "worker": {"replicas": 0, "spec": {"containers": []}},
                "scheduler": {"spec": {"containers": []}, "service": {"ports": []}},
            },
        }
        api.create(owned_by(anchor, cluster))
        end = time.monotonic() + _OPERATOR_TIMEOUT
        while time.monotonic() < end:
            seen = api.get("DaskCluster", str(metadata["name"]), api.context.namespace)
            if (seen.get("status") or {}).get("phase"):
                return True
            time.sleep(_POLL)
    return False


def _nodes(api: Api, rules: NamespacePolicy, cpu: float, memory: int, gpus: int) -> Check:
    nodes = find_nodes(api, rules)
    if nodes is None:
        return Check("nodes", CheckOutcome.SKIPPED, "cannot be listed, or there are none yet; a run does not need to")
    pods: list[Manifest] = []
    with suppress(SkjobError):  # in a large cluster this may also take too long
        pods = api.list("Pod", fields="status.phase=Running")
    fit = best_node(nodes, cpu, memory, gpus=gpus, pods=pods)
    if not fit.fits:
        options, elsewhere = "`--worker-cpu` and `--worker-memory`", ""
        if gpus:
            options = "`--worker-cpu`, `--worker-memory` and `--worker-gpu`"
            elsewhere = ", or other nodes with `--node-pool`"
        remedy = f"request less than {format_size(cpu, memory, gpus)} with {options}{elsewhere}"
        return Check("nodes", CheckOutcome.WARNING, f"{fit.message}, unless the cluster grows", remedy)
    return _ok("nodes", fit.message)


# --- the image


def _image(
    api: Api,
    image: str | None,
    local: Versions,
    timeout: float,
    rules: NamespacePolicy,
    *,
    installs: bool,
    may_try: bool,
) -> Check:
    """Check the image. With `installs`, a run's pods install what it lacks."""
    if not may_try:
        return Check("image", CheckOutcome.SKIPPED, "not checked")
    # Python's own image has none of the packages: the pods of a run install them.
    chosen = image or default_image(".".join(local.python.split(".")[:2]))
    try:
        contents = image_contents(api, chosen, timeout, rules)
    except SkjobError as error:
        return _failed("image", error)
    installed = contents.distributions
    inside = Versions(contents.python, {package: installed.get(package) for package in _COMPARED_PACKAGES})
    failures, warnings = compare_versions(local, inside, packages=not installs)
    remedy = "choose an image with the versions of this machine: `--image`"
    if failures:
        detail = f"`{chosen}`: {'; '.join(failures + warnings)}"
        return Check("image", CheckOutcome.FAILED, detail, remedy, StartError.exit_code)
    if warnings:
        return Check("image", CheckOutcome.WARNING, f"`{chosen}`: {'; '.join(warnings)}", remedy)
    matches = "a run installs what it lacks" if installs else "the same versions as here"
    return _ok("image", f"`{chosen}` has Python {inside.python}; {matches}")


def compare_versions(local: Versions, inside: Versions, *, packages: bool) -> tuple[list[str], list[str]]:
    """Return what makes an image unusable for this machine, and what may make its numbers differ.

    The rules are those of a run (`skjob.environment.version_check`). Without `packages`, compare only Python: a run
    installs the rest in the versions that it needs.
    """
    here, in_image = _by_name(local, packages=packages), _by_name(inside, packages=packages)
    failures, warnings = (
        [f"it has {_TITLES.get(name, name)} {in_image[name]}, this machine {here[name]}" for name in names]
        for names in find_differences(here, in_image)
    )
    return failures + [f"it has no {name}" for name in here if name not in in_image], warnings


_TITLES = {PYTHON: "Python"}


def _by_name(versions: Versions, *, packages: bool) -> dict[str, str]:
    installed = {name: version for name, version in versions.packages.items() if version is not None}
    return {PYTHON: versions.python, **(installed if packages else {})}


def _release(text: str) -> tuple[str, ...]:
    """Return the first two parts of a version, which decide what is compatible with what."""
    return tuple(text.removeprefix("v").split(".")[:2])


# --- helpers


def _names() -> RunNames:
    return RunNames(new_run_id(), "doctor", getpass.getuser())


def _ok(name: str, detail: str) -> Check:
    return Check(name, CheckOutcome.OK, detail)


def _failed(name: str, error: SkjobError) -> Check:
    return Check(name, CheckOutcome.FAILED, error.message, error.hint, error.exit_code)
