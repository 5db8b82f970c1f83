"""Resolve the environment of a run's workers from the setting `env`, ready to be sent.

`auto` is the environment that skjob runs in, `none` the image's own, and anything else a file of requirements, with
which distributions that are local here are sent too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from skjob.config.plan import JobSpec
from skjob.environment.index.discovery import index_settings
from skjob.environment.index.settings import IndexSettings
from skjob.environment.local.imports import imported_by
from skjob.environment.transfer_plan import NONE, plan_transfer
from skjob.errors import EnvironmentFault


@dataclass(frozen=True)
class EnvironmentSpec:
    """Versions of published distributions, by normalized name, and where to install them from.

    `packages` is an archive of those that are local here; empty if there are none.
    """

    python: str
    pins: dict[str, str]
    packages: bytes = field(repr=False)
    index: IndexSettings


def resolve_environment(choice: str, job: JobSpec) -> EnvironmentSpec | None:
    """Return the environment that `choice` stands for; None for `none`. The imports of `job` count as requested.

    Raises:
        ConfigError: this environment cannot be rebuilt elsewhere, or the file cannot be used; all reasons at once.
    """
    if choice == NONE:
        return None
    plan = plan_transfer(choice, imported_by(job))
    if plan.problems:
        raise EnvironmentFault.collect(
            [*plan.problems], "`skjob env` shows what would be sent; `--env none` uses the image as it is"
        )
    packages = plan.packed.content if plan.packed.sizes else b""
    return EnvironmentSpec(plan.python, plan.pins, packages, index_settings(os.environ, Path.cwd()))
