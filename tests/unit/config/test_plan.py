"""Plans of runs, from settings and what is known: defaults for what is missing, and a reason for each choice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skjob.config.namespace_policy import Limits, NamespacePolicy
from skjob.config.nodes import Price, Prices
from skjob.config.plan import JobSpec, Machine, Plan, WorkerSize, default_image, make_plan, with_workers, within_time
from skjob.config.settings import Place, Settings, WorkerRange
from skjob.errors import ConfigError

MACHINE = Machine(cores=8, memory=32 * 2**30)


def test_defaults_on_kubernetes() -> None:
    assert make_plan(Settings(), Place.KUBERNETES, "context `kind`", MACHINE, "3.11") == Plan(
        place=Place.KUBERNETES,
        why="running on Kubernetes: context `kind`",
        workers=WorkerRange(1, 4),
        size=WorkerSize(cpu=0.5, memory=2 * 2**30, threads=1),
        image="python:3.11-slim",
        env="auto",
        start_timeout=300.0,
        max_time=None,
        grace=300.0,
        keep_time=14400.0,
        checkpoint=None,
        retries=1,
    )


def test_all_settings_on_kubernetes() -> None:
    settings = Settings(
        on=Place.KUBERNETES,
        context="c",
        namespace="n",
        image="registry.example/team:1",
        env="none",
        workers=WorkerRange(0, 20),
        worker_cpu=4.0,
        worker_memory=2**33,
        start_timeout=20.0,
        max_time=3600.0,
        grace=10.0,
        keep_time=60.0,
        checkpoint=None,
        retries=1,
    )
    plan = make_plan(settings, Place.KUBERNETES, "as requested", MACHINE, "3.12")
    assert plan == Plan(
        place=Place.KUBERNETES,
        why="running on Kubernetes: as requested",
        workers=WorkerRange(0, 20),
        size=WorkerSize(cpu=4.0, memory=2**33, threads=4),
        image="registry.example/team:1",
        env="none",
        start_timeout=20.0,
        max_time=3600.0,
        grace=10.0,
        keep_time=60.0,
        checkpoint=None,
        retries=1,
    )
    assert plan.width == 80


def test_defaults_on_this_machine() -> None:
    plan = make_plan(Settings(), Place.LOCAL, "there is no kubeconfig", MACHINE, "3.11")
    assert plan == Plan(
        place=Place.LOCAL,
        why="running on this machine: there is no kubeconfig",
        workers=WorkerRange(8, 8),
        size=WorkerSize(cpu=0.5, memory=4 * 2**30, threads=1),
        image="python:3.11-slim",
        env="auto",
        start_timeout=300.0,
        max_time=None,
        grace=300.0,
        keep_time=14400.0,
        checkpoint=None,
        retries=1,
    )
    assert plan.width == 8


@pytest.mark.parametrize(
    ("cpu", "threads"), [(0.01, 1), (0.5, 1), (1.0, 1), (1.4, 1), (1.6, 2), (2.0, 2), (2.5, 2), (7.9, 8)]
)
def test_a_pod_runs_as_many_fits_as_it_has_cores(cpu: float, threads: int) -> None:
    plan = make_plan(Settings(worker_cpu=cpu), Place.KUBERNETES, "", MACHINE, "3.11")
    assert plan.size == WorkerSize(cpu, 2 * 2**30, threads)


@pytest.mark.parametrize("cpu", [None, 0.5, 4.0])
def test_a_local_worker_runs_one_fit(cpu: float | None) -> None:
    assert make_plan(Settings(worker_cpu=cpu), Place.LOCAL, "", MACHINE, "3.11").size.threads == 1


@pytest.mark.parametrize(
    ("on", "requested", "workers", "told"),
    [
        (Place.AUTO, WorkerRange(4, 4), WorkerRange(4, 4), ""),
        (Place.AUTO, WorkerRange(1, 8), WorkerRange(1, 8), ""),
        (Place.AUTO, WorkerRange(20, 20), WorkerRange(8, 8), "; 8 workers, one for each core, instead of 20"),
        (Place.AUTO, WorkerRange(2, 20), WorkerRange(2, 8), "; 8 workers, one for each core, instead of 20"),
        (Place.AUTO, WorkerRange(10, 20), WorkerRange(8, 8), "; 8 workers, one for each core, instead of 20"),
        (Place.LOCAL, WorkerRange(20, 20), WorkerRange(20, 20), ""),
    ],
)
def test_more_workers_than_cores_only_if_this_machine_was_requested(
    on: Place, requested: WorkerRange, workers: WorkerRange, told: str
) -> None:
    plan = make_plan(Settings(on=on, workers=requested), Place.LOCAL, "why", MACHINE, "3.11")
    assert (plan.workers, plan.why) == (workers, f"running on this machine: why{told}")
    assert plan.size.memory == MACHINE.memory // workers.maximum


def test_requested_memory_is_planned() -> None:
    for place in (Place.LOCAL, Place.KUBERNETES):
        assert make_plan(Settings(worker_memory=2**28), place, "", MACHINE, "3.11").size.memory == 2**28


def test_default_image() -> None:
    assert default_image("3.13") == "python:3.13-slim"


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("train.py", False),
        ("job.yaml", True),
        ("job.yml", True),
        ("train", False),
        ("yaml", False),
        ("a.yaml.py", False),
    ],
)
def test_a_job_file_is_known_by_its_ending(name: str, declared: bool) -> None:
    assert JobSpec(Path(name)).declared is declared


def test_the_root_is_the_scripts_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "train.py").touch()
    (tmp_path / "link.py").symlink_to(tmp_path / "project" / "train.py")
    monkeypatch.chdir(tmp_path)
    assert JobSpec(Path("project/train.py")).root == tmp_path / "project"
    assert JobSpec(Path("link.py")).root == tmp_path / "project"  # as Python's own sys.path[0]


def _limited(settings: Settings, place: Place = Place.KUBERNETES, **limits: Any) -> Plan:
    rules = NamespacePolicy(limits=Limits(**limits, origin="ConfigMap t/skjob-defaults"))
    return make_plan(settings, place, "as requested", MACHINE, "3.12", rules)


@pytest.mark.parametrize(
    ("limits", "workers", "whose"),
    [
        ({"workers": 3}, WorkerRange(2, 3), "`limits.max-workers`"),
        ({"cpu": 2.0}, WorkerRange(2, 4), "`limits.max-cpu`, 2 cores,"),
        ({"memory": 3 * 2**30}, WorkerRange(1, 1), "`limits.max-memory`, 3 GiB,"),
        ({"workers": 3, "cpu": 1.0, "memory": 2**40}, WorkerRange(2, 2), "`limits.max-cpu`, 1 cores,"),
    ],
)
def test_no_more_workers_than_the_platform_team_allows(
    limits: dict[str, Any], workers: WorkerRange, whose: str
) -> None:
    plan = _limited(Settings(workers=WorkerRange(2, 100)), **limits)
    assert plan.workers == workers
    assert plan.limited == {"workers": f"{workers} workers instead of 2:100: {whose} of ConfigMap t/skjob-defaults"}


def test_what_is_within_the_limits_is_not_told() -> None:
    plan = _limited(Settings(workers=WorkerRange(2, 3), max_time=60.0), workers=3, cpu=1.5, memory=2**40, time=3600.0)
    assert (plan.workers, plan.max_time, plan.limited) == (WorkerRange(2, 3), 60.0, {})


def test_a_tenth_of_a_core_is_a_tenth() -> None:
    assert _limited(Settings(workers=WorkerRange(1, 9), worker_cpu=0.1), cpu=0.3).workers == WorkerRange(1, 3)


def test_no_run_outlives_its_cluster() -> None:
    plan = _limited(Settings(max_time=5000.0, keep_time=9000.0, start_timeout=8000.0), time=3600.0)
    assert (plan.max_time, plan.keep_time, plan.start_timeout) == (3570.0, 3600.0, 3570.0)
    assert plan.limited == {
        "time": "the run may take 3570 s instead of 5000 s: `limits.max-time`, 3600 s, of ConfigMap t/skjob-defaults"
    }
    # Who named no time is not told of one.
    assert _limited(Settings(), time=3600.0).max_time == 3570.0
    assert _limited(Settings(), time=3600.0).limited == {}


def test_a_run_on_a_cluster_that_has_lived_for_a_while() -> None:
    plan = within_time(_limited(Settings(), time=3600.0), lived=3000.0)
    assert (plan.max_time, plan.keep_time, plan.limited["time"]) == (
        570.0,
        600.0,
        "the run may take 570 s instead of 3570 s: `limits.max-time`, 3600 s, of ConfigMap t/skjob-defaults",
    )


def test_workers_of_another_size_are_counted_anew() -> None:
    """Those of a cluster that is there have the size they have; what was cut for the plan's own does not count."""
    plan = _limited(Settings(workers=WorkerRange(100, 100), worker_cpu=2.0), cpu=4.0)
    assert plan.workers == WorkerRange(2, 2)
    plan = with_workers(replace(plan, size=WorkerSize(0.5, 2**30, 1)), WorkerRange(100, 100))
    assert plan.workers == WorkerRange(8, 8)
    assert plan.limited == {
        "workers": "8 workers instead of 100: `limits.max-cpu`, 4 cores, of ConfigMap t/skjob-defaults"
    }
    assert with_workers(plan, WorkerRange(1, 2)).limited == {}


def test_no_worker_larger_than_a_run_may_be_and_no_cost_without_prices() -> None:
    settings = Settings(worker_cpu=4.0, worker_memory=2**33, max_cost=5.0)
    with pytest.raises(ConfigError) as caught:
        _limited(settings, cpu=2.0, memory=2**32)
    assert caught.value.problems == [
        "`max-cost` requires prices, but none are configured in the namespace",
        "a worker of 4 cores is more than a run may have, `limits.max-cpu`, 2, of ConfigMap t/skjob-defaults",
        "a worker of 8 GiB is more than a run may have, `limits.max-memory`, 4 GiB, of ConfigMap t/skjob-defaults",
    ]


def test_the_limits_of_a_cluster_are_not_those_of_this_machine() -> None:
    plan = _limited(Settings(on=Place.LOCAL, workers=WorkerRange(4, 4), max_cost=5.0), Place.LOCAL, workers=2)
    assert plan.workers == WorkerRange(4, 4)
    assert plan.limited == {"cost": "ignoring `max-cost`: local runs are free"}


def test_a_cost_that_ending_alone_would_be_more_than() -> None:
    prices = Prices((Price(40.0, 5.0, {"pool": "dear"}), Price(12.0, 0.0)), "EUR")
    settings = Settings(workers=WorkerRange(2, 9), worker_cpu=0.5, worker_memory=2**30, max_cost=0.09)
    with pytest.raises(ConfigError) as caught:
        make_plan(settings, Place.KUBERNETES, "as requested", MACHINE, "3.12", NamespacePolicy(prices=prices))
    [problem] = caught.value.problems
    assert problem == (
        "`max-cost` 0.09 is spent before anything is done: 2 workers for the 30 s that ending takes cost 0.1 EUR at"
        " least"
    )
    allowed = replace(settings, max_cost=0.11)
    assert (
        make_plan(allowed, Place.KUBERNETES, "as requested", MACHINE, "3.12", NamespacePolicy(prices=prices)).max_cost
        == 0.11
    )
