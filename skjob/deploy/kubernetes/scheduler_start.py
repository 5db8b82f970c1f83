"""Wait for a cluster's scheduler, and report what keeps it from starting."""

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
"""Seconds for an operator that is not running to create the scheduler's Deployment after all."""

OPERATOR_TIMEOUT = 90.0
"""Seconds for an operator that runs or cannot be inspected: it may be busy, or short of resources."""

_OPERATOR_HINT = "`skjob doctor` says more; run `skjob install` to upgrade it"


class SchedulerStart:
    """Waits for one scheduler to start.

    `problems` returns why pods are not running and raises StartError if they never will. `check` aborts each wait by
    raising.
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
            StartError: it cannot run, or not within the timeout.
            OperatorError: the operator is too old, or does not act.
        """
        begun = time.monotonic()
        problems: list[Problem] = []

        def check_pods() -> None:
            problems[:] = self._problems()
            for problem in problems:
                self._notify(str(problem))
            if time.monotonic() - begun > self._operator_timeout and not problems:
                self._check_operator()

        self._inspect_operator()
        if not self._pods.wait_for_scheduler(check_pods, begun + self._timeout, self._check):
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
        return DEAD_OPERATOR_TIMEOUT if self._operator.problem else OPERATOR_TIMEOUT

    def _inspect_operator(self) -> None:
        """Find out about the operator while the scheduler's pod is being created.

        Only users who may list Deployments in all namespaces get a result. An operator that is not running may be
        about to: it gets its timeout.
        """
        with suppress(SkjobError):
            self._operator = operator_state(self._api)
        if self._operator.too_old:
            raise OperatorError(self._operator.problem, _OPERATOR_HINT)
        if self._operator.problem:
            self._notify(f"{self._operator.problem}; waiting up to {self._operator_timeout:.0f} s")

    def _check_operator(self) -> None:
        try:
            self._api.get("Deployment", f"{self._cluster}-scheduler", self._api.context.namespace)
        except NotFound:
            why = f": {self._operator.problem}" if self._operator.problem else ""
            raise OperatorError(
                f"the Dask operator has not acted on `{self._cluster}` for {self._operator_timeout:.0f} s{why}",
                _OPERATOR_HINT,
            ) from None
