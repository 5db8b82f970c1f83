"""Apply the scaling policy: one loop per cluster, in a thread of the parent process.

Nothing else requests or releases workers while a program runs. Workers are released in the only order that works with
the Dask operator: first the scheduler retires the worker by name, which moves its data away and sends it no new task;
then the cluster ends it.

The loop queries the scheduler each second. It lists pods each second only while workers start, and every few seconds if
one is stuck: each list is a request to the API of a shared cluster.
"""

from __future__ import annotations

import math
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
    expected_remaining,
    idle_seconds_allowed,
    useful_workers,
)
from skjob.deploy.scaling.scheduler import SchedulerSnapshot, abandon_workers, release_workers, take_snapshot
from skjob.deploy.scaling.task_durations import DurationTracker, mean_length
from skjob.deploy.scaling.worker_startup import StartupEstimate
from skjob.errors import AccessError, ClusterLost, ForbiddenError, SkjobError, StartError, Unanswered, Unauthorized
from skjob.utils.dask_client import wait_while_connected
from skjob.utils.notify import Notify
from skjob.utils.periodic import PeriodicThread

INTERVAL = 1.0

POLL_INTERVAL = 3.0
"""Seconds between two listings of the pods if nothing changes."""

NO_WORKER_TIMEOUT = 90.0
"""Seconds without any worker, and with none that can start, after which the run ends.

Kubernetes itself waits up to 40 s before it restarts a container that a fit has ended four times.
"""

STUCK_TIMEOUT = 12.0
"""Seconds without any worker after which workers that cannot start are replaced."""

_JOIN_TIMEOUT = 10.0
SNAPSHOT_TIMEOUT = 20.0
RELEASE_TIMEOUT = 30.0
"""Seconds for the scheduler to answer, and for workers to hand over their data."""

_NOTICE_DELAY = 3.0
"""Seconds without a response after which the user is informed."""


@dataclass(frozen=True)
class Progress:
    """Number of tasks that are done, that wait or run, and that run."""

    done: int
    to_go: int
    running: int = 0


class ScalingLoop:
    """Keeps the number of workers at what the policy decides.

    A fixed number is left to the cluster, unless `scale` has changed it.

    `observe` is called with the counts each time, `progress` when it has changed, `notify` with what keeps a worker
    from running, `memory` with each worker's peak memory, and `lost` with the error that ends the run, once the cluster
    has been unreachable for `reconnect_timeout` seconds. `done_here` returns how many tasks the program has run itself.
    Until the first worker has joined, one is expected to take `usual_start` seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        client: Any,
        limits: WorkerRange,
        threads: int,
        reconnect_timeout: float,
        *,
        observe: Callable[[WorkerCounts], None],
        progress: Callable[[Progress], None],
        notify: Notify,
        lost: Callable[[Exception], None],
        usual_start: float,
        memory: Callable[[dict[str, int]], None] = lambda _: None,
        done_here: Callable[[], int] = lambda: 0,
    ) -> None:
        self._cluster = cluster
        self._client = client
        self._limits = limits
        self._rescaled = False
        self._threads = self._at_once = threads
        self._reconnect_timeout = reconnect_timeout
        self._failing_since: float | None = None
        self._observe = observe
        self._progress = progress
        self._reported = Progress(0, 0)
        self._notify = notify
        self._lost = lost
        self._memory = memory
        self._done_here = done_here
        self._api_failing_since: float | None = None
        self._api_error: SkjobError | None = None
        self._idle_since: dict[str, float] = {}
        self._startup = StartupEstimate(usual_start)
        self._durations = DurationTracker()
        self._peak: Peak | None = None
        self._done_before = 0
        self._done_when_idle = 0
        self._no_worker_since: float | None = None
        self._replaced_at = -math.inf
        self._connected: set[str] = set()
        self._worker_left = -math.inf
        self._replacements_due = 0
        self._notified: set[str] = set()
        self._running = CachedPoll(cluster.running)
        self._problems = CachedPoll(self._check_problems)
        self._thread = PeriodicThread("skjob-scaling", self._poll, first=self._count_done_before)

    def start(self) -> None:
        """Start the loop's thread."""
        self._thread.start(INTERVAL)

    def stop(self) -> None:
        """End the loop, and wait until its current iteration has finished."""
        self._thread.stop()
        self._thread.join(_JOIN_TIMEOUT)

    def scale(self, limits: WorkerRange) -> None:
        """Keep the number of workers within other limits from now on.

        More workers are requested at the next look, and those beyond the maximum go once they have nothing to do.
        """
        self._limits = limits
        self._rescaled = True

    def unseen_for(self) -> float:
        """Return the seconds since the scheduler or the API stopped answering; 0 while they answer."""
        return 0.0 if self._failing_since is None else time.monotonic() - self._failing_since

    def _count_done_before(self) -> None:
        """Count the tasks that earlier runs have done, before the program starts."""
        with suppress(Exception):
            self._done_before = self._done_when_idle = _done(self._snapshot())

    def _poll(self) -> None:
        try:
            snapshot = self._snapshot()
            if self._failing_since is not None:
                self._cluster.verify_lock(self._client)
            self._tick(snapshot)
            self._failing_since = self._api_failing_since = self._api_error = None
        except ClusterLost as error:
            self._lost(error)
            self._thread.stop()
        except (AccessError, ForbiddenError, Rejected) as error:
            # The scheduler has just answered: the run continues as long as it does.
            self._failing_since = None
            self._report_api_error(error)
        except Exception as error:
            # A broken connection is restored; a scheduler that is gone is not.
            self._failing_since = self._failing_since or time.monotonic()
            if self._is_lost(error):
                self._thread.stop()

    def _snapshot(self) -> SchedulerSnapshot:
        request = self._client.run_on_scheduler(take_snapshot, asynchronous=True)
        snapshot: SchedulerSnapshot = wait_while_connected(self._client, request, SNAPSHOT_TIMEOUT)
        return snapshot

    def _report_api_error(self, error: SkjobError) -> None:
        self._api_error = error
        self._api_failing_since = self._api_failing_since or time.monotonic()
        # Problems that only the user can fix are reported at once.
        delay = _NOTICE_DELAY if isinstance(error, Unanswered) else 0.0
        if time.monotonic() - self._api_failing_since >= delay:
            self._notify(f"{Problem(error.message, error.hint)}: the run continues while its connection holds")

    def _is_lost(self, error: Exception) -> bool:
        """Return whether a cluster that does not answer is lost, and report it if so."""
        if (problem := self._cluster.lost_reason()) is not None:
            self._lost(ClusterLost(problem.message, problem.hint))
            return True
        if self.unseen_for() > self._reconnect_timeout:
            self._lost(self._api_error or error)
            return True
        if self.unseen_for() >= _NOTICE_DELAY:
            self._notify(f"the scheduler does not answer: retrying for {self._reconnect_timeout:.0f} s")
            if (rejected := _rejected_credentials(self._cluster)) is not None:
                self._api_error = rejected
                self._notify(str(Problem(rejected.message, rejected.hint)))
        return False

    def _tick(self, snapshot: SchedulerSnapshot) -> None:
        self._memory(snapshot.peaks)
        self._replace_removed()
        done = _done(snapshot)
        running = sum(map(len, snapshot.running.values()))
        tasks = sum(snapshot.waiting.values()) + running
        if done < self._done_when_idle:  # a restarted scheduler starts counting at zero
            self._done_before = 0
        self._report_progress(Progress(done - self._done_before + self._done_here(), tasks, running))
        if not tasks or done < self._done_when_idle:
            self._done_when_idle = done
        now, requested, connected = time.monotonic(), self._cluster.requested(), len(snapshot.processing)
        pending = self._startup.see(now, requested, snapshot.processing)
        starting = bool(pending) and min(pending) <= self._startup.seconds
        self._observe(WorkerCounts(requested, self._running(now, (requested, connected), often=starting), connected))
        if snapshot.quiet:
            self._replace_on_lost_nodes(list(snapshot.quiet))
        if connected:
            self._no_worker_since = None
        if self._connected - set(snapshot.processing):
            self._worker_left = now
        self._connected = set(snapshot.processing)
        # Why a worker left is known only once its pod has ended, and by then another may have joined.
        if pending or now - self._worker_left <= 2 * POLL_INTERVAL:
            no_worker = not connected
            self._problems(now, no_worker, often=no_worker, no_worker=no_worker)
        self._at_once = min(self._threads, snapshot.at_once or self._at_once)
        if self._limits.adaptive or self._rescaled:
            supply = Supply(requested, pending, self._startup.seconds)
            demand = self._demand(now, snapshot, supply, done - self._done_when_idle)
            self._apply(decide(demand, supply, self._limits, self._at_once), snapshot)

    def _replace_on_lost_nodes(self, quiet: list[str]) -> None:
        """Replace workers whose machine is gone; others take over their tasks."""
        lost = self._cluster.workers_on_lost_nodes(quiet)
        if lost:
            self._notify(f"the node of {len(lost)} workers does not answer: others take over their tasks")
            self._client.run_on_scheduler(abandon_workers, lost, callback_timeout=RELEASE_TIMEOUT)
            self._replacements_due = self._cluster.requested()
            self._cluster.remove_workers(lost)
            self._replace_removed()

    def _replace_removed(self) -> None:
        """Request replacements for removed workers, also those for which the API did not answer before."""
        if self._replacements_due:
            self._cluster.add_workers(self._replacements_due)
            self._replacements_due = 0

    def _demand(self, now: float, snapshot: SchedulerSnapshot, supply: Supply, finished: int) -> Demand:
        durations = self._durations.see(snapshot.done, snapshot.running)
        waiting = sum(snapshot.waiting.values())
        remaining = tuple(
            expected_remaining(durations.get(kind), elapsed)
            for kind, running in snapshot.running.items()
            for elapsed in running
        )
        self._peak = self._peak or Peak(now, supply.requested)
        useful = useful_workers(waiting + len(remaining), self._at_once)
        peak = self._peak.see(now, useful, idle_seconds_allowed(supply.seconds, waiting, remaining))
        length = mean_length(snapshot.waiting, durations)
        workers = self._workers(now, snapshot)
        return Demand(waiting, length, remaining, finished, peak, workers, snapshot.together, snapshot.all_wanted)

    def _check_problems(self, *, no_worker: bool) -> None:
        """Report what keeps workers from running. End the run if no worker is left."""
        try:
            for problem in self._cluster.pending_problems():
                self._notify(str(problem))
        except StartError as error:
            now = time.monotonic()
            self._no_worker_since = (self._no_worker_since or now) if no_worker else None
            if self._no_worker_since is None or now - self._no_worker_since <= NO_WORKER_TIMEOUT:
                self._notify_once(error)
                self._replace_stuck(now)
                return
            self._lost(ClusterLost(f"no worker is left: {error.message}", error.hint, error.log))
            self._thread.stop()

    def _notify_once(self, error: StartError) -> None:
        """Report an error once, with its log, which differs each time."""
        if error.message not in self._notified:
            self._notified.add(error.message)
            self._notify(f"{Problem(error.message, error.hint)}{error.quoted_log}")

    def _replace_stuck(self, now: float) -> None:
        """Replace stuck workers: Kubernetes delays each restart of a container longer, while a new one starts at
        once."""
        if self._no_worker_since is not None and now - max(self._no_worker_since, self._replaced_at) > STUCK_TIMEOUT:
            self._replaced_at = now
            self._replacements_due = self._cluster.requested()
            self._cluster.cancel_pending(self._replacements_due, [])
            self._replace_removed()

    def _report_progress(self, progress: Progress) -> None:
        if progress != self._reported:
            self._reported = progress
            self._progress(progress)

    def _workers(self, now: float, snapshot: SchedulerSnapshot) -> tuple[Worker, ...]:
        idle = [name for name, tasks in snapshot.processing.items() if tasks == 0 and name not in snapshot.holding]
        self._idle_since = {name: self._idle_since.get(name, now) for name in idle}
        return tuple(Worker(name, now - self._idle_since.get(name, now)) for name in snapshot.processing)

    def _apply(self, decision: Decision, snapshot: SchedulerSnapshot) -> None:
        if decision.total is not None:
            self._cluster.add_workers(decision.total)
            self._startup.see(time.monotonic(), self._cluster.requested(), snapshot.processing)
        if decision.release:
            released = self._client.run_on_scheduler(
                release_workers, list(decision.release), callback_timeout=RELEASE_TIMEOUT
            )
            if released:
                self._cluster.remove_workers(released)
        if decision.cancel:
            self._cluster.cancel_pending(decision.cancel, list(snapshot.processing))


def _rejected_credentials(cluster: Cluster) -> SkjobError | None:
    """Return why the API rejects the user's credentials, if it does: it is the way to a scheduler in Kubernetes."""
    try:
        cluster.running()
    except (Unauthorized, ForbiddenError) as error:
        return error
    except SkjobError:
        pass
    return None


def _done(snapshot: SchedulerSnapshot) -> int:
    return sum(count for count, _ in snapshot.done.values())


class CachedPoll:
    """A query of the cluster whose result is reused for `POLL_INTERVAL` seconds while nothing changes."""

    def __init__(self, poll: Callable[..., Any]) -> None:
        self._poll = poll
        self._at = -POLL_INTERVAL
        self._state: Any = None
        self._value: Any = None

    def __call__(self, now: float, state: Any, *, often: bool, **arguments: Any) -> Any:
        """Return the latest result; query again if that is due, or `state` has changed."""
        if often or state != self._state or now - self._at >= POLL_INTERVAL:
            self._at, self._state = now, state
            self._value = self._poll(**arguments)
        return self._value
