"""What the process of a program needs to know: which program, which cluster, how long to wait."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from skjob.run.program.variables import ProgramVariables

INTERRUPT_GRACE = 10.0
"""Seconds a program has to end after a signal before it is killed."""


@dataclass(frozen=True)
class ProgramSpec:
    """What the parent sends to the program's process once the cluster is there. `folder` has the certificates, and
    `record` is where the events of the run go, beside its record.

    `module` is the name of a program that runs as a module, and `root` the folder whose modules belong to it. `width`
    is how many tasks can run at once when all workers are there, `workers` how many there always are.
    `packages` is a file with the distributions that only this machine has; `placement` says where the data of a
    declared job goes. `reconnect_timeout` is the number of seconds that the scheduler
    may be away. `variables` are those that the user has set.
    """

    path: str
    module: str | None
    root: str
    arguments: tuple[str, ...]
    declared: bool
    folder: str
    record: str
    address: str
    width: int
    workers: int
    wait_for_workers: float
    reconnect_timeout: float
    run: str
    checkpoint: str | None
    resume: bool
    packages: str | None
    placement: dict[str, Any] | None = None
    variables: ProgramVariables = field(default_factory=ProgramVariables)
