"""The environment that a run's workers must have, as the setting `env` asks for it, ready to be sent.

`auto` is the one that skjob runs in, `none` is the image's own, whatever that is, and anything else is a file of
requirements, in which the distributions that are local here go along all the same.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from skjob.config.plan import JobSpec
from skjob.environment.index.discovery import index_settings
from skjob.environment.index.settings import IndexSettings
from skjob.environment.local.imports import imported_by
from skjob.environment.transfer_plan import NONE, shipment
from skjob.errors import EnvironmentFault


@dataclass(frozen=True)
class EnvironmentSpec:
    """Versions of published distributions, by normalized name, and where to install them from.

    `packages` is an archive of those that are local here; empty where there are none.
    """

    python: str
    pins: dict[str, str]
    packages: bytes = field(repr=False)
    index: IndexSettings


def wanted_environment(choice: str, job: JobSpec) -> EnvironmentSpec | None:
    """None for `none`. `job` says what is imported beyond what was installed for its own sake.

    Raises:
        ConfigError: this environment can't be rebuilt elsewhere, or the file can't be used; all reasons at once.
    """
    if choice == NONE:
        return None
    sent = shipment(choice, imported_by(job))
    if sent.problems:
        raise EnvironmentFault.collect(
            [*sent.problems], "`skjob env` shows what would be sent; `--env none` takes the image as it is"
        )
    packages = sent.packed.content if sent.packed.sizes else b""
    return EnvironmentSpec(sent.python, sent.pins, packages, index_settings(os.environ, Path.cwd()))
