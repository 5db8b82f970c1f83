"""What a user may set, as values: where a run goes, with how many workers, of what size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Place(StrEnum):
    """Where a run can take place."""

    AUTO = "auto"
    KUBERNETES = "kubernetes"
    LOCAL = "local"


@dataclass(frozen=True)
class WorkerRange:
    """How many workers: never fewer than `minimum` while the program runs, never more than `maximum`."""

    minimum: int
    maximum: int

    @property
    def adaptive(self) -> bool:
        """Whether the number can change while the program runs."""
        return self.minimum != self.maximum

    @property
    def first(self) -> int:
        """How many to start with: a program has one worker to begin on, even if it can have none later."""
        return max(self.minimum, 1)

    def __str__(self) -> str:
        return f"{self.minimum}:{self.maximum}" if self.adaptive else str(self.maximum)


@dataclass(frozen=True)
class Settings:
    """What a user, a project and a platform team requested.

    Units: `worker_cpu` in cores, `worker_memory` in bytes, times in seconds, `max_cost` in the currency of prices. None
    means: the plan decides. `arch` is as in the label `kubernetes.io/arch` of nodes. A variable of `set_env` whose
    value is None has the value that it has in the user's environment, and so has each of `secret_env`.
    """

    on: Place = Place.AUTO
    context: str | None = None
    namespace: str | None = None
    image: str | None = None
    arch: str | None = None
    env: str = "auto"
    set_env: Mapping[str, str | None] = field(default_factory=dict)
    secret_env: tuple[str, ...] = ()
    workers: WorkerRange | None = None
    worker_cpu: float | None = None
    worker_memory: int | None = None
    worker_gpu: int | None = None
    node_pool: str | None = None
    start_timeout: float = 300.0
    max_time: float | None = None
    max_cost: float | None = None
    grace: float = 300.0
    keep_time: float = 4 * 3600.0
    checkpoint: str | None = None
    retries: int = 1
