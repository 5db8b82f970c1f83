"""The plan of a run, from its settings and what is known. Pure: nothing here queries a machine or a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from skjob.config.namespace_policy import Limits, NamespacePolicy
from skjob.config.settings import Place, Settings, WorkerRange
from skjob.errors import ConfigError
from skjob.utils.units import format_gpus

DEFAULT_WORKERS = WorkerRange(1, 4)
DEFAULT_CPU = 0.5
DEFAULT_MEMORY = 2 * 2**30
NO_CHECKPOINT = "none"

CLOSING_SECONDS = 30.0
"""How long before its cluster's last moment a run ends itself: time for the program to stop, and for what it has
finished to be kept."""

NO_RULES = NamespacePolicy()
MIN_RECONNECT_TIMEOUT = 30.0
"""Seconds without a word from scheduler or API that any run survives; half the grace, where that is longer."""


@dataclass(frozen=True)
class JobSpec:
    """What the user wants to run: a script with its own arguments, a module, or a job file.

    `module` is the name of a module, and `path` its file.
    """

    path: Path
    arguments: tuple[str, ...] = ()
    module: str | None = None

    @property
    def name(self) -> str:
        """The program as the user named it."""
        return str(self.path) if self.module is None else f"-m {self.module}"

    @property
    def stem(self) -> str:
        """The name without folders, packages and suffix."""
        return self.path.stem if self.module is None else self.module.rpartition(".")[2]

    @property
    def declared(self) -> bool:
        """Whether it is a job file."""
        return self.module is None and self.path.suffix in (".yaml", ".yml")

    @property
    def root(self) -> Path:
        """The folder whose modules belong to the program: the first of its import path."""
        return self.path.resolve().parent if self.module is None else Path.cwd()


@dataclass(frozen=True)
class WorkerSize:
    """The size of one worker: cores requested, bytes of memory at most, fits that it runs at once, and GPUs.

    One with GPUs runs one fit at a time, which has all of them.
    """

    cpu: float
    memory: int
    threads: int
    gpus: int = 0


@dataclass(frozen=True)
class Machine:
    """What this machine has for a local run."""

    cores: int
    memory: int


@dataclass(frozen=True)
class Plan:
    """What a run will do. `why` says where it runs and for what reason, in one line for the user.

    `env` is the environment of the pods: the one here, `auto`, the image's own, `none`, or that of a file.

    `checkpoint` is the address of the store of finished fits, None if there is none; `retries` is how often to retry a
    fit whose worker died. `rules` are the platform team's, and `max_cost` is in their currency. `limited` has a line
    for each of `workers` and `time` that these rules have reduced, and for each setting that a local run ignores.
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
    max_cost: float | None = None
    rules: NamespacePolicy = NO_RULES
    limited: Mapping[str, str] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """How many fits can run at once with all workers."""
        return self.workers.maximum * self.size.threads

    @property
    def reconnect_timeout(self) -> float:
        """Seconds for which scheduler and API can be unreachable."""
        return max(MIN_RECONNECT_TIMEOUT, self.grace / 2)


def default_image(python_minor: str) -> str:
    """Return the image that exists for every Python. It has nothing else: the whole environment is installed."""
    return f"python:{python_minor}-slim"


def make_plan(
    settings: Settings,
    place: Place,
    reason: str,
    machine: Machine,
    python_minor: str,
    rules: NamespacePolicy = NO_RULES,
) -> Plan:
    """Fill in what the user left open, within the platform team's limits.

    `place` is where it will run, KUBERNETES or LOCAL, and `reason` says why.

    Raises:
        ConfigError: with everything that the limits do not allow.
    """
    cpu, memory = settings.worker_cpu or DEFAULT_CPU, settings.worker_memory
    if place is Place.LOCAL:
        workers, why = _local_workers(settings, machine, reason)
        size = WorkerSize(cpu, memory or machine.memory // workers.maximum, threads=1)
    else:
        workers, why = settings.workers or DEFAULT_WORKERS, f"running on Kubernetes: {reason}"
        gpus = settings.worker_gpu or 0
        size = WorkerSize(cpu, memory or DEFAULT_MEMORY, threads=1 if gpus else max(1, round(cpu)), gpus=gpus)
        rules = rules_for_run(rules, settings.node_pool, settings.arch)
    plan = Plan(
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
        max_cost=settings.max_cost,
        rules=rules,
    )
    if place is Place.LOCAL:
        return replace(plan, limited=_ignored_here(settings))
    return _checked(plan)


def rules_for_run(rules: NamespacePolicy, name: str | None, arch: str | None) -> NamespacePolicy:
    """Return the rules for a run in the node pool of this name, or the default one, and on an architecture.

    Raises:
        ConfigError: there is no such pool, or it has no such nodes.
    """
    try:
        rules = rules.in_pool(name)
    except KeyError as error:
        names = [f"`{pool.name}`" for pool in rules.node_pools]
        there = f"the namespace has {', '.join(names)}" if names else "the namespace has none"
        hint = (
            "choose one of them" if names else "leave it out, or have `node-pools` put into the namespace's ConfigMap"
        )
        raise ConfigError(f"there is no node pool `{name}`: {there}", hint) from error
    if arch is None:
        return rules
    where = f"node pool `{rules.node_pool.name}`" if rules.node_pool else "the namespace"
    if rules.architecture not in ("", arch):
        raise ConfigError(
            f"`arch` is `{arch}`, and {where} has nodes of `{rules.architecture}`",
            "leave it out, or choose another node pool" if rules.node_pool else "leave it out",
        )
    rules = rules.on_architecture(arch)
    if rules.node_pool and rules.support_pool is None:
        raise ConfigError(f"no node pool takes the scheduler of a run on `{arch}`", "leave `arch` out")
    return rules


def _ignored_here(settings: Settings) -> dict[str, str]:
    """Return a line for each setting that a run on this machine ignores."""
    lines = {}
    if settings.max_cost is not None:
        lines["cost"] = "ignoring `max-cost`: local runs are free"
    if settings.worker_gpu:
        lines["gpu"] = "ignoring `worker-gpu`: on this machine each fit sees the GPUs that the program sees"
    if settings.node_pool is not None:
        lines["pool"] = "ignoring `node-pool`: this machine is in none"
    if settings.arch is not None:
        lines["arch"] = "ignoring `arch`: this machine has its own"
    return lines


def with_workers(plan: Plan, workers: WorkerRange) -> Plan:
    """Return the plan with this many workers, or with as many of them as the limits allow.

    Raises:
        ConfigError: one worker alone is more than a run may have.
    """
    limits = plan.rules.limits
    if problems := _too_large(plan.size, limits):
        raise ConfigError.collect(problems, "ask for smaller workers, or the platform team for a higher limit")
    limited = {what: line for what, line in plan.limited.items() if what != "workers"}
    most = _max_workers(plan.size, limits)
    allowed = workers
    if most is not None and workers.maximum > most[0]:
        allowed = WorkerRange(min(workers.minimum, most[0]), most[0])
        limited["workers"] = f"{allowed} workers instead of {workers}: {most[1]} of {limits.origin}"
    return replace(plan, workers=allowed, limited=limited)


def within_time(plan: Plan, lived: float = 0.0) -> Plan:
    """Return the plan with times that end before the cluster must, which has lived for so many seconds already."""
    limits = plan.rules.limits
    if limits.time is None:
        return plan
    usable = max(limits.time - lived - CLOSING_SECONDS, (limits.time - lived) / 2)
    limited = dict(plan.limited)
    if plan.max_time is not None and plan.max_time > usable:
        whose = f"`limits.max-time`, {limits.time:.0f} s, of {limits.origin}"
        limited["time"] = f"the run may take {usable:.0f} s instead of {plan.max_time:.0f} s: {whose}"
    return replace(
        plan,
        max_time=min(plan.max_time or usable, usable),
        keep_time=min(plan.keep_time, limits.time - lived),
        start_timeout=min(plan.start_timeout, usable),
        limited=limited,
    )


def _checked(plan: Plan) -> Plan:
    """Return the plan within its limits. Raise ConfigError with all problems at once."""
    problems, hints = [], []
    if plan.max_cost is not None and not plan.rules.prices.entries:
        problems.append("`max-cost` requires prices, but none are configured in the namespace")
        hints.append("leave it out, or have `prices` put into the namespace's ConfigMap `skjob-defaults`")
    try:
        plan = within_time(with_workers(plan, plan.workers))
    except ConfigError as error:
        problems += error.problems
        hints.append(error.hint)
    else:
        least = _least_cost(plan)
        if plan.max_cost is not None and plan.max_cost < least:
            noun = "worker" if plan.workers.first == 1 else "workers"
            problems.append(
                f"`max-cost` {plan.max_cost:g} is spent before anything is done: {plan.workers.first} {noun} for the"
                f" {CLOSING_SECONDS:.0f} s that ending takes cost {least:.2g} {plan.rules.prices.currency} at least"
            )
            hints.append("raise it, or ask for fewer or smaller workers")
    if problems:
        raise ConfigError.collect(problems, "; ".join(hints))
    return plan


def _least_cost(plan: Plan) -> float:
    """Return the cost of a run's first workers, on the cheapest nodes, for the time that it takes to end."""
    size, hours = plan.size, CLOSING_SECONDS / 3600
    hourly = (price.hourly(size.cpu, size.memory, size.gpus) for price in plan.rules.prices.entries)
    return plan.workers.first * min(hourly, default=0.0) * hours


def _too_large(size: WorkerSize, limits: Limits) -> list[str]:
    problems = []
    if limits.cpu is not None and size.cpu > limits.cpu:
        problems.append(
            f"a worker of {size.cpu:g} cores is more than a run may have, `limits.max-cpu`, {limits.cpu:g}, of"
            f" {limits.origin}"
        )
    if limits.memory is not None and size.memory > limits.memory:
        problems.append(
            f"a worker of {_gib(size.memory)} is more than a run may have, `limits.max-memory`, {_gib(limits.memory)},"
            f" of {limits.origin}"
        )
    if size.gpus > limits.gpus:
        of = f", of {limits.origin}" if limits.origin else ""
        problems.append(
            f"a worker of {format_gpus(size.gpus)} is more than a run may have, `limits.max-gpus`, {limits.gpus}{of}"
        )
    return problems


def _max_workers(size: WorkerSize, limits: Limits) -> tuple[int, str] | None:
    """Return the most workers of this size, and the limit that says so; None without a limit."""
    candidates = []
    if limits.workers is not None:
        candidates.append((limits.workers, "`limits.max-workers`"))
    if limits.cpu is not None:  # what a manifest can say is whole thousandths of a core
        number = round(limits.cpu * 1000) // round(size.cpu * 1000)
        candidates.append((number, f"`limits.max-cpu`, {limits.cpu:g} cores,"))
    if limits.memory is not None:
        candidates.append((limits.memory // size.memory, f"`limits.max-memory`, {_gib(limits.memory)},"))
    if size.gpus:
        candidates.append((limits.gpus // size.gpus, f"`limits.max-gpus`, {limits.gpus},"))
    return min(candidates, default=None)


def _gib(size: float) -> str:
    return f"{size / 2**30:.3g} GiB"


def _local_workers(settings: Settings, machine: Machine, reason: str) -> tuple[WorkerRange, str]:
    """Return the requested workers if this machine was requested, else no more than it has cores."""
    why = f"running on this machine: {reason}"
    requested = settings.workers
    if requested is None:
        return WorkerRange(machine.cores, machine.cores), why
    if settings.on is Place.LOCAL or requested.maximum <= machine.cores:
        return requested, why
    capped = WorkerRange(min(requested.minimum, machine.cores), machine.cores)
    return capped, f"{why}; {machine.cores} workers, one for each core, instead of {requested.maximum}"
