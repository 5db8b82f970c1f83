"""From what was asked and what is known to what will be done: each gap filled, each reason told."""

from pathlib import Path

import pytest

from skjob.config import Place, Settings, WorkerRange
from skjob.plan import JobSpec, Machine, Plan, WorkerSize, default_image, make_plan

MACHINE = Machine(cores=8, memory=32 * 2**30)


def test_nothing_asked_for_on_kubernetes() -> None:
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


def test_everything_asked_for_on_kubernetes() -> None:
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
    plan = make_plan(settings, Place.KUBERNETES, "as asked", MACHINE, "3.12")
    assert plan == Plan(
        place=Place.KUBERNETES,
        why="running on Kubernetes: as asked",
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


def test_nothing_asked_for_on_this_machine() -> None:
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
    ("on", "asked", "workers", "told"),
    [
        (Place.AUTO, WorkerRange(4, 4), WorkerRange(4, 4), ""),
        (Place.AUTO, WorkerRange(1, 8), WorkerRange(1, 8), ""),
        (Place.AUTO, WorkerRange(20, 20), WorkerRange(8, 8), "; 8 workers, one for each core, instead of 20"),
        (Place.AUTO, WorkerRange(2, 20), WorkerRange(2, 8), "; 8 workers, one for each core, instead of 20"),
        (Place.AUTO, WorkerRange(10, 20), WorkerRange(8, 8), "; 8 workers, one for each core, instead of 20"),
        (Place.LOCAL, WorkerRange(20, 20), WorkerRange(20, 20), ""),
    ],
)
def test_more_workers_than_cores_only_where_this_machine_was_asked_for(
    on: Place, asked: WorkerRange, workers: WorkerRange, told: str
) -> None:
    plan = make_plan(Settings(on=on, workers=asked), Place.LOCAL, "why", MACHINE, "3.11")
    assert (plan.workers, plan.why) == (workers, f"running on this machine: why{told}")
    assert plan.size.memory == MACHINE.memory // workers.maximum


def test_memory_asked_for_is_memory_given() -> None:
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
