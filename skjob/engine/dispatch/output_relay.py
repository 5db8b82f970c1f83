"""Show the program what its tasks printed, logged and warned of, at the moment when their results count."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from distributed import Client

from skjob.engine.fidelity.effects.random_draws import continue_from, describe_draw
from skjob.engine.fidelity.effects.returned_arguments import ArgumentStates
from skjob.engine.fidelity.settings.logs import log_again, write_again
from skjob.engine.fidelity.settings.own_variables import describe_difference
from skjob.engine.remote_traceback import with_source
from skjob.engine.task import Outcome
from skjob.engine.task_warnings import warn_again
from skjob.utils.notify import Notify


class OutputRelay:
    """Passes on what comes with the results of a backend's calls. `notify` reports a line about them."""

    def __init__(self, client: Client, notify: Notify) -> None:
        self._client = client
        self._notify = notify
        self._warned: dict[Any, Any] = {}
        self.caller = threading.current_thread()
        """The thread that made the Parallel call: in plain Python the records would be its own."""

    def show(self, outcomes: list[Outcome], states: Sequence[ArgumentStates] = ()) -> None:
        """Give the program the states of its arguments, and all that these tasks wrote."""
        for changed in states:
            changed.apply()
        again = partial(log_again, complete=with_source, thread=self.caller)
        for outcome in outcomes:
            write_again(outcome.stdout, outcome.stderr, outcome.logged, again, outcome.cuts)
            for warned in outcome.warnings:
                warn_again(warned, self._warned)
            continue_from(outcome.generators)
            for module in outcome.drawn:
                self._notify_once(describe_draw(module))
            for name in outcome.own_variables:
                self._notify_once(describe_difference(name))

    def _notify_once(self, line: str) -> None:
        notified: dict[str, None] = self._client.extensions.setdefault("skjob-notified", {})
        if line not in notified:
            notified[line] = None
            self._notify(line)
