"""Test doctor's checks that need no cluster."""

from __future__ import annotations

import pytest

from skjob.config.namespace_policy import parse_rules
from skjob.config.sources import flags, resolve
from skjob.deploy.kubernetes import doctor
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.doctor import (
    Check,
    CheckOutcome,
    DoctorReport,
    Versions,
    compare_versions,
    examine,
    local_versions,
)
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.errors import ConfigError, ForbiddenError

pytestmark = pytest.mark.unit

PACKAGES = {
    "dask": "2026.8.0",
    "distributed": "2026.8.0",
    "cloudpickle": "3.1.2",
    "scikit-learn": "1.9.1",
    "joblib": "1.6.0",
    "numpy": "2.4.6",
}
HERE = Versions("3.11.7", PACKAGES)


@pytest.mark.parametrize(
    ("python", "changes", "failures", "warnings"),
    [
        ("3.11.7", {}, [], []),
        ("3.11.2", {}, [], []),
        ("3.12.1", {}, ["it has Python 3.12.1, this machine 3.11.7"], []),
        ("3.11.7", {"scikit-learn": None}, ["it has no scikit-learn"], []),
        ("3.11.7", {"distributed": "2026.9.0"}, ["it has distributed 2026.9.0, this machine 2026.8.0"], []),
        ("3.11.7", {"distributed": "2026.8.1"}, ["it has distributed 2026.8.1, this machine 2026.8.0"], []),
        ("3.11.7", {"cloudpickle": "3.0.0"}, ["it has cloudpickle 3.0.0, this machine 3.1.2"], []),
        ("3.11.7", {"numpy": "2.3.0"}, [], ["it has numpy 2.3.0, this machine 2.4.6"]),
    ],
)
def test_what_an_image_must_have_in_common_with_this_machine(
    python: str, changes: dict[str, str | None], failures: list[str], warnings: list[str]
) -> None:
    inside = Versions(python, {**PACKAGES, **changes})
    assert compare_versions(HERE, inside, packages=True) == (failures, warnings)


def test_an_image_that_is_filled_at_the_start_needs_the_right_python_alone() -> None:
    assert compare_versions(HERE, Versions("3.11.2", {}), packages=False) == ([], [])
    assert compare_versions(HERE, Versions("3.10.2", {}), packages=False)[0]


def test_the_local_versions_are_found() -> None:
    assert None not in local_versions().packages.values()


def test_the_exit_status_is_that_of_the_first_thing_that_is_missing() -> None:
    fine = Check("api", CheckOutcome.OK, "answers")
    doubtful = Check("nodes", CheckOutcome.WARNING, "too small", "ask for less")
    forbidden = Check("permissions", CheckOutcome.FAILED, "may not", "ask", 122)
    broken = Check("image", CheckOutcome.FAILED, "not found", "choose", 124)
    assert DoctorReport((fine, doubtful)).exit_code == 0
    assert DoctorReport((fine, forbidden, broken)).exit_code == 122


class _Misled(Api):
    """A cluster whose platform team has written an invalid ConfigMap."""

    def __init__(self) -> None:
        super().__init__(None, Context("c", "team", "https://api"))

    def version(self) -> str:
        return "v1.34.4"

    def get(self, kind: str, name: str, namespace: str = "") -> Manifest:
        return {"data": {"workers": "many", "most-time": "1d"}} if kind == "ConfigMap" else {}


def test_defaults_that_can_not_be_read_are_settings_and_not_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "connect_api", lambda *_: _Misled())
    report = examine(resolve([]), check_image=True, timeout=1, on_check=lambda _: None)
    assert [check.name for check in report.checks] == ["packages", "tls", "kubeconfig", "api", "settings", "settings"]
    assert {check.outcome for check in report.checks[:4]} == {CheckOutcome.OK}
    wrong = report.checks[4:]
    assert {check.outcome for check in wrong} == {CheckOutcome.FAILED}
    assert "`workers` in `ConfigMap team/skjob-defaults` must be a number of workers" in wrong[0].detail
    assert "`most-time` in `ConfigMap team/skjob-defaults` must be a duration" in wrong[1].detail
    assert "ask the platform team to fix the ConfigMap" in wrong[1].remedy
    assert report.exit_code == ConfigError.exit_code


class _Pools(Api):
    """A namespace with two pools, in which nothing is allowed that is looked at later."""

    def __init__(self) -> None:
        super().__init__(None, Context("c", "team", "https://api"))

    def version(self) -> str:
        return "v1.34.4"

    def get(self, kind: str, name: str, namespace: str = "") -> Manifest:
        pools = "[{name: batch, node-selector: {a: b}}, {name: gpu, node-selector: {a: c}}]"
        if kind == "ConfigMap":
            return {"data": {"node-pools": pools}}
        raise ForbiddenError("may not")

    def allowed(self, *_: str, **__: str) -> bool:
        raise ForbiddenError("may not")


@pytest.mark.parametrize(
    ("name", "outcome", "detail"),
    [
        (None, CheckOutcome.OK, "workers run in `batch`; other pools: `gpu`"),
        ("gpu", CheckOutcome.OK, "workers run in `gpu`; other pools: `batch`"),
        ("other", CheckOutcome.FAILED, "there is no node pool `other`: the namespace has `batch`, `gpu`"),
    ],
)
def test_the_node_pool_of_runs(
    name: str | None, outcome: CheckOutcome, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "connect_api", lambda *_: _Pools())
    requested = resolve([flags({"node_pool": name})])
    report = examine(requested, check_image=False, timeout=1.0, on_check=lambda _: None)
    [check] = [each for each in report.checks if each.name == "node pool"]
    assert (check.outcome, check.detail) == (outcome, detail)


@pytest.mark.parametrize(
    ("limits", "price", "warned"),
    [
        ("{max-gpus: 2}", "{cpu-hour: 1, gib-hour: 1}", True),
        ("{max-gpus: 2}", "{cpu-hour: 1, gib-hour: 1, gpu-hour: 2}", False),
        ("{max-workers: 2}", "{cpu-hour: 1, gib-hour: 1}", False),
    ],
)
def test_gpus_without_a_price_are_a_warning(limits: str, price: str, warned: bool) -> None:
    pools = f"[{{name: gpu, node-selector: {{a: b}}, limits: {limits}, price: {price}}}]"
    prices = "[{cpu-hour: 1, gib-hour: 1, gpu-hour: 3}]"
    rules = parse_rules({"node-pools": pools, "prices": prices}, "ConfigMap team/skjob-defaults").in_pool("gpu")
    warning = Check(
        "costs",
        CheckOutcome.WARNING,
        "a run may have 2 GPUs, and no price of its nodes has `gpu-hour`: GPUs cost nothing",
        "ask the platform team for a price of GPUs",
    )
    first = next(iter(doctor._costs(_Priced(), rules)))
    assert (first == warning) is warned


class _Priced(_Pools):
    """A namespace that has a ledger."""

    def get(self, kind: str, name: str, namespace: str = "") -> Manifest:
        return {}

    def allowed(self, *_: str, **__: str) -> bool:
        return True


def test_old_names_of_limits_are_a_warning() -> None:
    limits, renamed = doctor._rules(parse_rules({"most-workers": "3"}, "ConfigMap team/skjob-defaults"))
    assert (limits.outcome, limits.detail) == (
        CheckOutcome.OK,
        "a run may have 3 workers, as set by ConfigMap team/skjob-defaults",
    )
    assert (renamed.outcome, renamed.remedy) == (CheckOutcome.WARNING, "ask the platform team to rename them")
    assert renamed.detail.endswith("`most-workers` is now `limits.max-workers`")


class _NodesAreForbidden(Api):
    """An API that lets nobody list nodes or pods."""

    def __init__(self) -> None:
        super().__init__(None, Context("c", "team", "https://api"))

    def list(self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "") -> list[Manifest]:
        raise ForbiddenError(f"cannot list {kind}")


@pytest.mark.parametrize(
    ("gpus", "remedy"),
    [
        (0, "request less than 8 CPUs and 1 GiB with `--worker-cpu` and `--worker-memory`"),
        (
            2,
            (
                "request less than 8 CPUs and 1 GiB and 2 GPUs with `--worker-cpu`, `--worker-memory` and"
                " `--worker-gpu`, or other nodes with `--node-pool`"
            ),
        ),
    ],
)
def test_the_remedy_for_nodes_that_are_too_small_names_the_options_that_count(gpus: int, remedy: str) -> None:
    rules = parse_rules({"nodes": "[{name: small, cpu: 2, memory: 4Gi, count: 1}]"}, "ConfigMap team/skjob-defaults")
    check = doctor._nodes(_NodesAreForbidden(), rules, 8.0, 2**30, gpus)
    assert (check.outcome, check.remedy) == (CheckOutcome.WARNING, remedy)


class _Bound(Api):
    """A cluster with some bindings; None if the user may not list them."""

    def __init__(self, bindings: dict[str, list[Manifest]] | None) -> None:
        super().__init__(None, Context("c", "team", "https://api"))
        self.bindings = bindings

    def list(self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "") -> list[Manifest]:
        if self.bindings is None:
            raise ForbiddenError("may not list")
        assert namespace == ("team" if kind == "RoleBinding" else "")
        return self.bindings.get(kind, [])


def _binding(called: str, **subject: str) -> Manifest:
    return {"metadata": {"name": called}, "subjects": [{"kind": "User", "name": "ann"}, subject]}


TRAINER = {"kind": "ServiceAccount", "name": "trainer", "namespace": "team"}


@pytest.mark.parametrize(
    ("bindings", "outcome", "detail"),
    [
        ({}, CheckOutcome.OK, "workers run as `trainer`, which has no rights in Kubernetes"),
        (
            {
                "RoleBinding": [
                    _binding("other", **TRAINER | {"name": "other"}),
                    _binding("elsewhere", **TRAINER | {"namespace": "x"}),
                    {"metadata": {"name": "nobody"}},
                ]
            },
            CheckOutcome.OK,
            "workers run as `trainer`, which has no rights in Kubernetes",
        ),
        (
            {
                "RoleBinding": [
                    _binding("a", **TRAINER),
                    _binding("all", kind="Group", name="system:serviceaccounts:team"),
                ],
                "ClusterRoleBinding": [_binding("b", **TRAINER)],
            },
            CheckOutcome.WARNING,
            (
                "`trainer`, the workers' service account, has rights in Kubernetes: RoleBinding `a`, RoleBinding"
                " `all`, ClusterRoleBinding `b`"
            ),
        ),
        (
            None,
            CheckOutcome.SKIPPED,
            "not allowed to list RoleBindings: `trainer`, the workers' service account, may have one",
        ),
    ],
)
def test_rights_of_the_workers_account_are_a_warning(
    bindings: dict[str, list[Manifest]] | None, outcome: CheckOutcome, detail: str
) -> None:
    rules = parse_rules({"pods": "serviceAccountName: trainer"}, "ConfigMap team/skjob-defaults")
    [check] = doctor._account(_Bound(bindings), rules)
    assert (check.outcome, check.detail) == (outcome, detail)
    assert bool(check.remedy) == (outcome is CheckOutcome.WARNING)


def test_an_account_that_the_team_has_not_named_is_not_looked_for() -> None:
    assert list(doctor._account(_Bound(None), parse_rules({}, "ConfigMap team/skjob-defaults"))) == []
