"""When a run ends itself: its time is over, or its money nearly spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from skjob.config.plan import CLOSING_SECONDS, Plan
from skjob.deploy.kubernetes.costs.prices import Cost, money
from skjob.errors import DeadlineError, StartError


@dataclass(frozen=True)
class RunBudget:
    """When a run ends itself: its time is over, or its money will be by the time its cluster is gone.

    `began` is of the monotonic clock; `spent` tells what it has cost by now.
    """

    began: float
    plan: Plan
    spent: Callable[[], Cost | None]

    def reached(self) -> DeadlineError | None:
        """The error that it then ends with."""
        time_given, money_given = self.plan.max_time, self.plan.max_cost
        kept = "the fits it has finished are kept, and the same command goes on from them"
        if time_given is not None and time.monotonic() > self.began + time_given:
            or_limit = ", or what is left to it of `most-time`" if self.plan.rules.limits.time is not None else ""
            return DeadlineError(
                f"the run has reached `--max-time`{or_limit}, {time_given:.0f} s",
                f"give it more, or more workers; {kept}",
            )
        spent = None if money_given is None else self.spent()
        if money_given is not None and spent is not None and spent.lasts(money_given) < CLOSING_SECONDS:
            most = money(money_given, spent.currency)
            return DeadlineError(
                f"the run has cost {spent}, and would cost more than `--max-cost`, {most}, by the time it is removed",
                f"give it more; {kept}",
            )
        return None

    def check(self) -> None:
        """Raises the error, where it is reached."""
        if error := self.reached():
            raise error

    def money_lasts(self, workers: int) -> str:
        """For how long, with the workers that were asked for; nothing where that is not limited, or not known."""
        spent = None if self.plan.max_cost is None else self.spent()
        if spent is None or self.plan.max_cost is None or spent.rate <= 0:
            return ""
        minutes = spent.lasts(self.plan.max_cost) / 60
        long = f"{minutes / 60:.1f} h" if minutes >= 90 else f"{minutes:.0f} min"
        return f"`max-cost`, {money(self.plan.max_cost, spent.currency)}, lasts for {long} with {workers} workers"


@contextmanager
def enforce(limit: RunBudget) -> Iterator[None]:
    """A start that fails when the limit is reached has failed because of it: each of its waits is no longer."""
    try:
        yield
    except StartError as error:
        if reached := limit.reached():
            raise reached from error
        raise
