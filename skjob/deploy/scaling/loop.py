"""Applies the policy: one loop a cluster, in a thread of the parent process.

It is the only place that asks for workers or releases them while a program runs. Releasing is done in the one order
that works with the Dask operator: the scheduler retires the worker by name, which moves its data away and lets no new
task in; then the cluster ends it.

It looks at the scheduler each second. Pods are listed each second only while workers come, and where one is stuck,
every few seconds: a list is a request to the API of a cluster that others use too.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from skjob.config.settings import WorkerRange
from skjob.deploy.base import Cluster, Problem, WorkerCounts
from skjob.deploy.kubernetes.api.errors import Rejected
from skjob.deploy.scaling.policy import (
    Decision,
    Demand,
    Peak,
    Supply,
    Worker,
    decide,
    expected_rest,
    kept_seconds,
    useful_workers,
)
from skjob.deploy.scaling.scheduler import SchedulerSnapshot, give_up, look, release
from skjob.deploy.scaling.task_durations import DurationTracker, mean_length
from skjob.deploy.scaling.worker_startup import StartupEstimate
from skjob.errors import AccessError, ClusterLost, ForbiddenError, SkjobError, StartError, Unanswered, Unauthorized
from skjob.utils.dask_client import wait_while_connected

INTERVAL = 1.0

SELDOM = 3.0
"""Seconds between two looks at the pods when nothing changes."""

ALONE_PATIENCE = 90.0
"""Seconds without any worker, and with none that could start, after which the run ends. Kubernetes itself waits up to
40 before it starts a container again that a fit has ended four times."""

STUCK_SECONDS = 12.0
"""Seconds without any worker after which those that can't start are replaced by new ones."""

LOOK_TIMEOUT = 20.0
RELEASE_TIMEOUT = 30.0
"""Seconds that the scheduler gets to answer, and workers to hand over their data."""

TOLD_AFTER = 3.0
"""Seconds without an answer that are worth a word."""

TELL_EVERY = 10.0
"""Seconds between two lines about the progress."""


@dataclass(frozen=True)
class Progress:
    """Tasks that are done, and those waiting or running."""

    done: int
    to_go: int


class ScalingLoop:
    """Keeps the number of workers at what the policy wants.

    `observe` is called with the counts each time, `progress` now and then, `complain` with what holds a worker back,
    `memory` with the most that each worker has had of it, and `lost` with the error that ends the run, when the cluster
    has not been seen for `patience` seconds. `done_here` tells how many tasks the program has done itself. A worker is
    thought to take `usual_start` seconds to come until one has.
    """

    def __init__(
        self,
        cluster: Cluster,
        client: Any,
        limits: WorkerRange,
        threads: int,
        patience: float,
        *,
        observe: Callable[[WorkerCounts], None],
        progress: Callable[[Progress], None],
        complain: Callable[[str], None],
        lost: Callable[[Exception], None],
        usual_start: float,
        memory: Callable[[dict[str, int]], None] = lambda _: None,
        done_here: Callable[[], int] = lambda: 0,
    ) -> None:
        self._cluster = cluster
        self._client = client
        self._limits = limits
        self._threads = self._at_once = threads
        self._patience = patience
        self._failing_since: float | None = None
        self._observe = observe
        self._progress = progress
        self._told = (0.0, Progress(0, 0))
        self._complain = complain
        self._lost = lost
        self._memory = memory
        self._done_here = done_here
        self._api_failing_since: float | None = None
        self._api_error: SkjobError | None = None
        self._idle_since: dict[str, float] = {}
        self._arrivals = StartupEstimate(usual_start)
        self._lengths = DurationTracker()
        self._peak: Peak | None = None
        self._done_before = 0
        self._idle_at = 0
        self._alone_since: float | None = None
        self._replaced = -math.inf
        self._here: set[str] = set()
        self._one_went = -math.inf
        self._owed = 0
        self._complained: set[str] = set()
        self._running = Seldom(cluster.running)
        self._problems = Seldom(self._look_for_problems)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="skjob-scaling", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait until nothing is under way any more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def unseen_for(self) -> float:
        """Seconds since the scheduler, or the API, was first found not to answer; 0 where all is well."""
        return 0.0 if self._failing_since is None else time.monotonic() - self._failing_since

    def _run(self) -> None:
        with suppress(Exception):  # before the program has begun: what is done by now was an earlier run's
            self._done_before = self._idle_at = _done(self._look())
        while not self._stop.wait(INTERVAL):
            try:
                sight = self._look()
                if self._failing_since is not None:
                    self._cluster.verify_lock(self._client)
                self._tick(sight)
                self._failing_since = self._api_failing_since = self._api_error = None
            except ClusterLost as error:
                self._lost(error)
                return
            except (AccessError, ForbiddenError, Rejected) as error:
                # The scheduler has just answered: the run goes on for as long as it does.
                self._failing_since = None
                self._complain_of_api(error)
            except Exception as error:
                # A connection that breaks is made again; a scheduler that is gone is not.
                self._failing_since = self._failing_since or time.monotonic()
                if self._is_over(error):
                    return

    def _look(self) -> SchedulerSnapshot:
        asked = self._client.run_on_scheduler(look, asynchronous=True)
        sight: SchedulerSnapshot = wait_while_connected(self._client, asked, LOOK_TIMEOUT)
        return sight

    def _complain_of_api(self, error: SkjobError) -> None:
        self._api_error = error
        self._api_failing_since = self._api_failing_since or time.monotonic()
        # What nobody but the user can mend is told at once.
        patience = TOLD_AFTER if isinstance(error, Unanswered) else 0.0
        if time.monotonic() - self._api_failing_since >= patience:
            self._complain(f"{Problem(error.message, error.hint)}: the run goes on while its connection holds")

    def _is_over(self, error: Exception) -> bool:
        """Of a cluster that does not answer, whether it is lost; then that is told."""
        if (problem := self._cluster.lost_reason()) is not None:
            self._lost(ClusterLost(problem.message, problem.hint))
            return True
        if self.unseen_for() > self._patience:
            self._lost(self._api_error or error)
            return True
        if self.unseen_for() >= TOLD_AFTER:
            self._complain(f"the scheduler does not answer: trying again for {self._patience:.0f} s")
            self._complain_of_credentials()
        return False

    def _complain_of_credentials(self) -> None:
        """The way to a scheduler in Kubernetes leads through the API: who is refused there does not find it again."""
        try:
            self._cluster.running()
        except (Unauthorized, ForbiddenError) as error:
            self._api_error = error
            self._complain(str(Problem(error.message, error.hint)))
        except SkjobError:
            pass

    def _tick(self, sight: SchedulerSnapshot) -> None:
        self._memory(sight.peaks)
        self._make_up()
        done = _done(sight)
        tasks = sum(sight.waiting.values()) + sum(map(len, sight.running.values()))
        if done < self._idle_at:  # a scheduler that was started again counts anew
            self._done_before = 0
        self._tell(Progress(done - self._done_before + self._done_here(), tasks))
        if not tasks or done < self._idle_at:
            self._idle_at = done
        now, asked, connected = time.monotonic(), self._cluster.requested(), len(sight.processing)
        coming = self._arrivals.see(now, asked, sight.processing)
        fresh = bool(coming) and min(coming) <= self._arrivals.seconds
        self._observe(WorkerCounts(asked, self._running(now, (asked, connected), often=fresh), connected))
        if sight.quiet:
            self._replace_unreachable(list(sight.quiet))
        if connected:
            self._alone_since = None
        if self._here - set(sight.processing):
            self._one_went = now
        self._here = set(sight.processing)
        # Why one went is known only when its pod has ended, and then another may have come already.
        if coming or now - self._one_went <= 2 * SELDOM:
            alone = not connected
            self._problems(now, alone, often=alone, alone=alone)
        self._at_once = min(self._threads, sight.at_once or self._at_once)
        if self._limits.adaptive:
            supply = Supply(asked, coming, self._arrivals.seconds)
            demand = self._demand(now, sight, supply, done - self._idle_at)
            self._apply(decide(demand, supply, self._limits, self._at_once), sight)

    def _replace_unreachable(self, quiet: list[str]) -> None:
        """Workers whose machine is gone: their tasks go to others, and others come for them."""
        gone = self._cluster.workers_on_lost_nodes(quiet)
        if gone:
            self._complain(f"the machine of {len(gone)} workers does not answer: others do their work")
            self._client.run_on_scheduler(give_up, gone, callback_timeout=RELEASE_TIMEOUT)
            self._owed = self._cluster.requested()
            self._cluster.remove_workers(gone)
            self._make_up()

    def _make_up(self) -> None:
        """Ask for those that were taken away to be replaced; again, where the API was away in between."""
        if self._owed:
            self._cluster.add_workers(self._owed)
            self._owed = 0

    def _demand(self, now: float, sight: SchedulerSnapshot, supply: Supply, finished: int) -> Demand:
        lengths = self._lengths.see(sight.done, sight.running)
        waiting = sum(sight.waiting.values())
        remaining = tuple(
            expected_rest(lengths.get(kind), elapsed) for kind, running in sight.running.items() for elapsed in running
        )
        self._peak = self._peak or Peak(now, supply.requested)
        useful = useful_workers(waiting + len(remaining), self._at_once)
        peak = self._peak.see(now, useful, kept_seconds(supply.seconds, waiting, remaining))
        length = mean_length(sight.waiting, lengths)
        workers = self._workers(now, sight)
        return Demand(waiting, length, remaining, finished, peak, workers, sight.together, sight.all_wanted)

    def _look_for_problems(self, *, alone: bool) -> None:
        """What keeps a worker from running is worth a word; it ends the run where no other worker is left."""
        try:
            for problem in self._cluster.pending_problems():
                self._complain(str(problem))
        except StartError as error:
            now = time.monotonic()
            self._alone_since = (self._alone_since or now) if alone else None
            if self._alone_since is None or now - self._alone_since <= ALONE_PATIENCE:
                self._complain_once(error)
                self._replace_stuck(now)
                return
            self._lost(ClusterLost(f"no worker is left: {error.message}", error.hint, error.log))
            self._stop.set()

    def _complain_once(self, error: StartError) -> None:
        """With its log, which is another one each time."""
        if error.message not in self._complained:
            self._complained.add(error.message)
            self._complain(f"{Problem(error.message, error.hint)}{error.quoted_log}")

    def _replace_stuck(self, now: float) -> None:
        """A container that has ended is started again after a longer while each time; a new one comes at once."""
        if self._alone_since is not None and now - max(self._alone_since, self._replaced) > STUCK_SECONDS:
            self._replaced = now
            self._owed = self._cluster.requested()
            self._cluster.cancel_pending(self._owed, [])
            self._make_up()

    def _tell(self, progress: Progress) -> None:
        at, last = self._told
        if progress != last and time.monotonic() - at > TELL_EVERY:
            self._told = (time.monotonic(), progress)
            self._progress(progress)

    def _workers(self, now: float, sight: SchedulerSnapshot) -> tuple[Worker, ...]:
        idle = [name for name, tasks in sight.processing.items() if tasks == 0 and name not in sight.holding]
        self._idle_since = {name: self._idle_since.get(name, now) for name in idle}
        return tuple(Worker(name, now - self._idle_since.get(name, now)) for name in sight.processing)

    def _apply(self, decision: Decision, sight: SchedulerSnapshot) -> None:
        if decision.total is not None:
            self._cluster.add_workers(decision.total)
            self._arrivals.see(time.monotonic(), self._cluster.requested(), sight.processing)
        if decision.release:
            gone = self._client.run_on_scheduler(release, list(decision.release), callback_timeout=RELEASE_TIMEOUT)
            if gone:
                self._cluster.remove_workers(gone)
        if decision.cancel:
            self._cluster.cancel_pending(decision.cancel, list(sight.processing))


def _done(sight: SchedulerSnapshot) -> int:
    return sum(count for count, _ in sight.done.values())


class Seldom:
    """A look at the cluster that is taken often only while there is something to see."""

    def __init__(self, look_at: Callable[..., Any]) -> None:
        self._look_at = look_at
        self._at = -SELDOM
        self._state: Any = None
        self._seen: Any = None

    def __call__(self, now: float, state: Any, *, often: bool, **how: Any) -> Any:
        """The latest look; a new one if it is due, or if `state` has changed."""
        if often or state != self._state or now - self._at >= SELDOM:
            self._at, self._state = now, state
            self._seen = self._look_at(**how)
        return self._seen
