"""The variables that a user sets for a program: read from their environment, and set in the program's process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from skjob.config.environment_variables import CREDENTIAL_FILES, NO_VARIABLES, Variables
from skjob.config.sources import ResolvedSettings
from skjob.errors import ConfigError, hide


@dataclass(frozen=True)
class ProgramVariables:
    """What the process of a program has to know of its variables.

    `inherited` are those that a cluster which stood before has in its workers: the program must have them too. `sent`
    are the names of those that the workers of such a cluster get from the program, for this run. `given` are the names
    of all that somebody has set, and `secret` those whose values must not be seen.
    """

    inherited: Mapping[str, str] = field(default_factory=dict, repr=False)
    sent: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    secret: tuple[str, ...] = ()

    @classmethod
    def of(cls, own: Variables, reused: Variables | None) -> ProgramVariables:
        """Return what follows from a run's own variables, and from those of the cluster that it reuses, if it does."""
        whole = own.over(reused or NO_VARIABLES)
        inherited = {name: value for name, value in whole.values.items() if name not in own.values}
        sent = tuple(own.in_pods().values) if reused is not None else ()
        return cls(inherited, sent, tuple(whole.values), tuple(whole.secret))


def variables_of(requested: ResolvedSettings) -> Variables:
    """Return the variables that a user sets, with their values, and hide the secret ones from now on.

    Raises:
        ConfigError: with every variable that cannot be passed on.
    """
    variables = requested.variables(os.environ)
    hide(variables.secret.values())
    lost = [name for name in CREDENTIAL_FILES if (path := variables.values.get(name)) and not _is_readable(path)]
    if lost:
        names = ", ".join(f"`{name}`" for name in lost)
        raise ConfigError(f"the file that {names} names cannot be read", "give the path of a file on this machine")
    return variables


def _is_readable(path: str) -> bool:
    return Path(path).is_file() and os.access(path, os.R_OK)


@contextmanager
def applied(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of this process within the block; after it they are what they were before."""
    from skjob.engine.fidelity.settings.process import write_variables

    before = {name: os.environ.get(name) for name in values}
    write_variables(values)
    try:
        yield
    finally:
        write_variables(before)
