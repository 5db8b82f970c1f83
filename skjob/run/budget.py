"""When a run ends itself: its time is over, or `max-cost` nearly spent."""

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
    """When a run ends itself: its time is over, or `max-cost` will be spent by the time its cluster is gone.

    `began` is of the monotonic clock; `cost` returns what it has cost by now.
    """

    began: float
    plan: Plan
    cost: Callable[[], Cost | None]

    def reached(self) -> DeadlineError | None:
        """Return the error that the run then ends with."""
        max_time, max_cost = self.plan.max_time, self.plan.max_cost
        kept = "finished fits are kept; run the same command again to resume"
        if max_time is not None and time.monotonic() > self.began + max_time:
            or_limit = ", or what is left of `limits.max-time`" if self.plan.rules.limits.time is not None else ""
            return DeadlineError(
                f"the run has reached `--max-time`{or_limit}, {max_time:.0f} s",
                f"raise it, or use more workers; {kept}",
            )
        cost = None if max_cost is None else self.cost()
        if max_cost is not None and cost is not None and cost.seconds_left(max_cost) < CLOSING_SECONDS:
            limit = money(max_cost, cost.currency)
            return DeadlineError(
                f"the run has cost {cost}, and would cost more than `--max-cost`, {limit}, by the time it is removed",
                f"raise it; {kept}",
            )
        return None

    def check(self) -> None:
        """Raise the error if the limit is reached."""
        if error := self.reached():
            raise error

    def describe_remaining(self, workers: int) -> str:
        """Return how long `max-cost` lasts with the requested workers; empty if it is not set, or costs are unknown."""
        cost = None if self.plan.max_cost is None else self.cost()
        if cost is None or self.plan.max_cost is None or cost.rate <= 0:
            return ""
        minutes = cost.seconds_left(self.plan.max_cost) / 60
        duration = f"{minutes / 60:.1f} h" if minutes >= 90 else f"{minutes:.0f} min"
        return f"`max-cost`, {money(self.plan.max_cost, cost.currency)}, lasts for {duration} with {workers} workers"


@contextmanager
def enforce(limit: RunBudget) -> Iterator[None]:
    """Within the block, a start that fails once the limit is reached fails because of it.

    Each of its waits is no longer than the limit.
    """
    try:
        yield
    except StartError as error:
        if reached := limit.reached():
            raise reached from error
        raise
