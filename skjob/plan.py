"""From what was asked and what is known to what will be done. Pure: nothing here looks at a machine or a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from skjob.config import Place, Settings, WorkerRange

DEFAULT_WORKERS = WorkerRange(1, 4)
DEFAULT_CPU = 0.5
DEFAULT_MEMORY = 2 * 2**30
NO_CHECKPOINT = "none"


@dataclass(frozen=True)
class JobSpec:
    """What the user wants to run: a script with its own arguments, or a job file."""

    path: Path
    arguments: tuple[str, ...] = ()

    @property
    def declared(self) -> bool:
        """Whether it is a job file."""
        return self.path.suffix in (".yaml", ".yml")

    @property
    def root(self) -> Path:
        """The folder whose modules belong to the program."""
        return self.path.resolve().parent


@dataclass(frozen=True)
class WorkerSize:
    """What one worker gets: cores requested, bytes of memory at most, and fits it runs at once."""

    cpu: float
    memory: int
    threads: int


@dataclass(frozen=True)
class Machine:
    """This machine: what a local run has to work with."""

    cores: int
    memory: int


@dataclass(frozen=True)
class Plan:
    """What a run will do. `why` tells the user where it runs and for what reason, in one line.

    `env` is the environment of the pods: the one here, `auto`, the image's own, `none`, or that of a file.

    `checkpoint` is the address of the store of finished fits, None where none are kept; `retries` is how often a fit is
    tried again whose worker died.
    """

    place: Place
    why: str
    workers: WorkerRange
    size: WorkerSize
    image: str
    env: str
    start_timeout: float
    max_time: float | None
    grace: float
    keep_time: float
    checkpoint: str | None
    retries: int

    @property
    def width(self) -> int:
        """How many fits can run at once when all workers are there."""
        return self.workers.maximum * self.size.threads


def default_image(python_minor: str) -> str:
    """The image that exists for every Python. It has nothing else: all that the environment has is installed."""
    return f"python:{python_minor}-slim"


def make_plan(settings: Settings, place: Place, reason: str, machine: Machine, python_minor: str) -> Plan:
    """Fill in what the user left open.

    `place` is where it will run, KUBERNETES or LOCAL, and `reason` says why.
    """
    cpu, memory = settings.worker_cpu or DEFAULT_CPU, settings.worker_memory
    if place is Place.LOCAL:
        workers, why = _local_workers(settings, machine, reason)
        size = WorkerSize(cpu, memory or machine.memory // workers.maximum, threads=1)
    else:
        workers, why = settings.workers or DEFAULT_WORKERS, f"running on Kubernetes: {reason}"
        size = WorkerSize(cpu, memory or DEFAULT_MEMORY, threads=max(1, round(cpu)))
    return Plan(
        place=place,
        why=why,
        workers=workers,
        size=size,
        image=settings.image or default_image(python_minor),
        env=settings.env,
        start_timeout=min(settings.start_timeout, settings.max_time or settings.start_timeout),
        max_time=settings.max_time,
        grace=settings.grace,
        keep_time=settings.keep_time,
        checkpoint=None if settings.checkpoint == NO_CHECKPOINT else settings.checkpoint,
        retries=settings.retries,
    )


def _local_workers(settings: Settings, machine: Machine, reason: str) -> tuple[WorkerRange, str]:
    """Who asked for this machine gets the workers asked for; who did not gets no more than it has cores."""
    why = f"running on this machine: {reason}"
    asked = settings.workers
    if asked is None:
        return WorkerRange(machine.cores, machine.cores), why
    if settings.on is Place.LOCAL or asked.maximum <= machine.cores:
        return asked, why
    capped = WorkerRange(min(asked.minimum, machine.cores), machine.cores)
    return capped, f"{why}; {machine.cores} workers, one for each core, instead of {asked.maximum}"
