"""Wait for a cluster's scheduler, and say what keeps it from starting."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from skjob.deploy.base import Problem
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import NotFound
from skjob.deploy.kubernetes.diagnosis.pods import Pods
from skjob.deploy.kubernetes.operator.state import OperatorState, Presence, operator_state
from skjob.errors import OperatorError, SkjobError, StartError, Unanswered
from skjob.utils.notify import Notify

DEAD_OPERATOR_TIMEOUT = 20.0
"""Seconds that an operator which does not run has to create the scheduler's Deployment after all."""

OPERATOR_TIMEOUT = 40.0
"""Seconds for an operator that runs or cannot be looked at: it may be busy, or short of resources."""

_OPERATOR_HINT = "`skjob doctor` says more; run `skjob install` to upgrade it"


class SchedulerStart:
    """The start of one scheduler.

    `problems` returns why pods do not run and raises StartError if they never will. `check` ends each wait by raising.
    """

    def __init__(
        self,
        api: Api,
        cluster: str,
        pods: Pods,
        timeout: float,
        problems: Callable[[], list[Problem]],
        check: Callable[[], None],
        notify: Notify,
    ) -> None:
        self._api = api
        self._cluster = cluster
        self._pods = pods
        self._timeout = timeout
        self._problems = problems
        self._check = check
        self._notify = notify
        self._operator = OperatorState(custom_resources=True, deployment=Presence.UNKNOWN)

    def wait(self) -> None:
        """Wait until the scheduler's container runs.

        Raises:
            StartError: it cannot run, or does not within the timeout.
            OperatorError: the operator is too old, or does not act.
        """
        begun = time.monotonic()
        problems: list[Problem] = []

        def look() -> None:
            problems[:] = self._problems()
            for problem in problems:
                self._notify(str(problem))
            if time.monotonic() - begun > self._operator_timeout and not problems:
                self._check_operator()

        self._look_at_operator()
        if not self._pods.wait_for_scheduler(look, begun + self._timeout, self._check):
            why = f": {problems[0].message}" if problems else ""
            hint = (problems[0].hint if problems else "") or "`skjob doctor` looks for causes in the cluster"
            raise StartError(f"the scheduler did not start within `--start-timeout`, {self._timeout:.0f} s{why}", hint)

    def check_running(self) -> None:
        """Raise StartError if the scheduler, which runs but does not answer yet, never will."""
        self._check()
        with suppress(Unanswered):
            for problem in self._problems():
                self._notify(str(problem))

    @property
    def _operator_timeout(self) -> float:
        return DEAD_OPERATOR_TIMEOUT if self._operator.trouble else OPERATOR_TIMEOUT

    def _look_at_operator(self) -> None:
        """Find out about the operator while the scheduler's pod is on its way.

        Only users who may list Deployments everywhere learn anything. An operator that does not run may be about to:
        it has its timeout.
        """
        with suppress(SkjobError):
            self._operator = operator_state(self._api)
        if self._operator.too_old:
            raise OperatorError(self._operator.trouble, _OPERATOR_HINT)
        if self._operator.trouble:
            self._notify(f"{self._operator.trouble}; waiting for it for {self._operator_timeout:.0f} s")

    def _check_operator(self) -> None:
        try:
            self._api.get("Deployment", f"{self._cluster}-scheduler", self._api.context.namespace)
        except NotFound:
            why = f": {self._operator.trouble}" if self._operator.trouble else ""
            raise OperatorError(
                f"the Dask operator has not acted on `{self._cluster}` for {self._operator_timeout:.0f} s{why}",
                _OPERATOR_HINT,
            ) from None
