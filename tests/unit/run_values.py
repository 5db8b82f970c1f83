"""A run as a value, for tests of what takes one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from skjob.config.plan import JobSpec, Machine, make_plan
from skjob.config.settings import Place, Settings
from skjob.config.sources import ResolvedSettings
from skjob.run.observer import NoteObserver
from skjob.run.run import Run
from skjob.run.target import RunTarget


def ignore(_: object) -> None:
    """Take a line, and do nothing with it."""


DEFAULTS = Settings()


def a_run(
    notify: Callable[[str], None] = ignore, settings: Settings = DEFAULTS, folder: Path = Path(), **fields: Any
) -> Run:
    """A run of `train.py` in a folder, on Kubernetes unless its fields say otherwise; its notes go to `notify`."""
    target = fields.pop("target", None) or RunTarget(Place.KUBERNETES, "", ResolvedSettings(settings))
    plan = fields.pop("plan", None) or make_plan(settings, target.place, "", Machine(2, 2**33), "3.11")
    return Run(JobSpec(folder / "train.py"), "run", target, plan, folder, NoteObserver(notify), **fields)
