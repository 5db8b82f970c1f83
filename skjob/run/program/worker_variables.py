"""Variables that one run sets on the workers of a cluster that serves one run after the other.

Workers of a run's own cluster start with its variables. Those of a cluster which stood before get them from the
program, over the encrypted connection into the memory of their processes, and lose them when the run ends, or, if it
died, before the next begins.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

from skjob.engine.fidelity.settings.process import write_variables

NAME = "skjob-variables"


class WorkerVariables(WorkerPlugin):  # type: ignore[misc]
    """Sets these variables on each worker, also on those that join later, until it is unregistered."""

    name = NAME

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = dict(variables)
        self._before: dict[str, str | None] = {}

    def setup(self, worker: Any) -> None:
        """Called by each worker as it joins."""
        self._before = {name: os.environ.get(name) for name in self._variables}
        write_variables(dict(self._variables))

    def teardown(self, worker: Any) -> None:
        """Called by each worker when the plugin is replaced or unregistered."""
        write_variables(self._before)
