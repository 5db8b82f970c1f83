"""The environment that a run's workers must have, as the setting `env` asks for it.

`auto` is the one that skjob runs in, `none` is the image's own, whatever that is, and anything else is a file of
requirements, in which the distributions that are local here go along all the same.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from skjob.environment.configured import index_settings
from skjob.environment.found import LocalDistribution, find_environment
from skjob.environment.imported import imported_by
from skjob.environment.index import IndexSettings
from skjob.environment.lockfile import read_lock
from skjob.errors import ConfigError
from skjob.plan import JobSpec

AUTO, NONE = "auto", "none"


@dataclass(frozen=True)
class Wanted:
    """Versions of published distributions, by normalized name; local ones, sent from here; where to install from."""

    python: str
    pins: dict[str, str]
    local: tuple[LocalDistribution, ...]
    index: IndexSettings


def wanted_environment(choice: str, job: JobSpec) -> Wanted | None:
    """None for `none`. `job` says what is imported beyond what was installed for its own sake.

    Raises:
        ConfigError: this environment can't be rebuilt elsewhere, or the file can't be used; all reasons at once.
    """
    if choice == NONE:
        return None
    found = find_environment(imported_by(job))
    if found.problems:
        raise ConfigError.collect(
            [*found.problems], "`skjob env` shows what would be sent; `--env none` takes the image as it is"
        )
    index = index_settings(os.environ, Path.cwd())
    pins = found.pins
    if choice != AUTO:
        local = [each.name for each in found.local]
        pins = read_lock(Path(choice), found.python, local=local, engine=found.engine, index=index)
    return Wanted(found.python, pins, found.local, index)
