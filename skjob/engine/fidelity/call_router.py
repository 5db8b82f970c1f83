"""Route Parallel calls: to workers, or to the program's own process if they must run there or are too small to send.

`placement.py` has the rules for a single call, `small_calls.py` those for small ones. What is known of a line of the
program is kept with the client, the same for all of its calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import cloudpickle
from distributed import Client
from joblib.parallel import Parallel

from skjob.engine.checkpoint.fit_cache import FitCache
from skjob.engine.fidelity.effects.shared_state import describe_unseen
from skjob.engine.fidelity.job_counts import inner_backend
from skjob.engine.fidelity.local_tasks import COUNTER, LocalTaskCounter
from skjob.engine.fidelity.monkeypatches import LOGGING
from skjob.engine.fidelity.placement import (
    CallSite,
    CallSiteNotes,
    prefers_threads,
    shares_memory,
    shows_progress_itself,
    why_local,
)
from skjob.engine.fidelity.settings.snapshot import take_settings, why_settings_stay
from skjob.engine.fidelity.small_calls import CallKind, Measured, size_class, small_calls_of
from skjob.engine.fidelity.small_run import SmallRun
from skjob.engine.joblib_calls import JoblibCall, fit_arguments, inner_function, label, strip_context
from skjob.engine.reporting.call_events import CallEvents, RunEvents
from skjob.engine.threads import takes_whole_worker
from skjob.engine.transfer.local_code import local_modules
from skjob.engine.transfer.shared_data import shared_data
from skjob.utils.notify import Notify


@dataclass(frozen=True)
class CallRouter:
    """Decides where the calls of one backend run, and reports those that run in the program's own process.

    Its fields are those of the backend of the same names.
    """

    client: Client
    root: Path | None
    wait_for_workers: float
    checkpoint: FitCache | None
    notify: Notify
    notify_at_end: Notify
    nesting_level: int
    events: RunEvents | None = None

    def begin_events(
        self, parallel: Parallel, first: JoblibCall, tasks: int | None, frame: FrameType | None
    ) -> CallEvents | None:
        """Return what reports the events of a call with this first task; None if nobody listens."""
        return self.events.begin_call(parallel, first, tasks, frame) if self.events is not None else None

    def why_local(self, parallel: Parallel, first: JoblibCall, site: CallSite) -> str | None:
        """Return why the call with this first task runs in the program's own process; None if it goes to workers.

        Report it, once for each line of the program.
        """
        known = self._sites.local.get(site)
        if known is not None:
            return known
        threads = prefers_threads(parallel._backend_kwargs)
        why = why_local(first, shares_memory=shares_memory(parallel), threads=threads) or why_settings_stay()
        if why is not None:
            self.note_local(first, site, why)
        return why

    def why_patched(self, first: JoblibCall, site: CallSite) -> str | None:
        """Return that the program has replaced functions of libraries, if it has; then its calls cannot go to workers.

        Report it, once for each line of the program.
        """
        patched = self._patched(first)
        if patched is None:
            return None
        why = f"the program has replaced `{patched}`, which workers have as it is installed"
        self.note_local(first, site, why)
        return why

    def _patched(self, first: JoblibCall) -> str | None:
        """Return the name of a library's function that the program has replaced and that this call may use."""
        find = self._sites.patches.find
        patched = find(self.root)
        if patched is None:
            return None
        other = find(self.root, LOGGING)
        if other is not None:
            return other
        # Only code of the program uses what it has put into `logging`.
        return patched if self._reaches_own_code(first, "__main__") else None

    def small_call(
        self, parallel: Parallel, first: JoblibCall, site: CallSite, tasks: int | None
    ) -> tuple[CallKind, SmallRun | None]:
        """Return the kind of a call, and how to run it here if it is too small to gain from workers."""
        kind = call_kind(first, str(site), tasks)
        known = small_calls_of(self.client)
        seconds = known.local_seconds(kind)
        # joblib itself shows progress and keeps time limits.
        if seconds is None or parallel.verbose or parallel.timeout is not None or shows_progress_itself(parallel):
            return kind, None
        shares = shares_memory(parallel)
        # Code of the script is copied for a task, as for a process. A module is imported: its state would be shared.
        if not shares and self._reaches_own_code(first):
            return kind, None
        nested = inner_backend(parallel.n_jobs, self.nesting_level)
        fits = None
        # A fit that is kept does not tell in its key what the program has replaced in libraries.
        if self.checkpoint is not None and fit_arguments(first) is not None and not self._patched(first):
            data = shared_data(self.client, self.wait_for_workers).begin_call()
            settings = take_settings(self.root).in_key()
            fits = self.checkpoint.begin_call(self.root, data.key, settings, nested.in_key, shares_memory=shares)
        return kind, SmallRun(known, kind, seconds, nested, copies=not shares, fits=fits)

    def _reaches_own_code(self, first: JoblibCall, *script: str) -> bool:
        """Return whether a call reaches a module of the program, among them its `script`."""
        names = [*map(str.encode, script), *(module.__name__.encode() for module in local_modules(self.root))]
        if not names:
            return False
        function, arguments, keywords = strip_context(first)
        if type(function).__module__.partition(".")[0] == "sklearn":
            function = inner_function(function)  # not the filters of warnings around it: these name the script
        try:
            content = cloudpickle.dumps((function, arguments, keywords), protocol=5, buffer_callback=lambda _: None)
        except Exception:  # the program's own objects are called
            return True
        return any(name in content for name in names)

    def note_measured(self, kind: CallKind, first: JoblibCall, measured: Measured | None) -> None:
        """Note what a call took on workers, if all of it ran there.

        A call that uses all cores of a worker is never small: it has them there.
        """
        if measured is not None and not takes_whole_worker(strip_context(first)):
            small_calls_of(self.client).note_call(kind, measured)

    def note_local(self, first: JoblibCall, site: CallSite, why: str) -> None:
        """Note that the calls of this line run here, and report it the first time."""
        if site not in self._sites.local:
            where = f" ({site})" if site.file else ""
            self.notify(f"the parallel call of `{label([first])}`{where} runs in this process: {why}")
        self._sites.local[site] = why

    def count_local(self, number: int) -> None:
        """Count tasks that have run in the program's process."""
        counter: LocalTaskCounter | None = self.client.extensions.get(COUNTER)
        if counter is not None:
            counter.add(number)

    def note_unseen(self, first: JoblibCall, site: CallSite, unseen: Iterable[str]) -> None:
        """Report what tasks may have changed without being seen: at the end of the run, once a line of the program."""
        if unseen and site not in self._sites.unseen_reported:
            self._sites.unseen_reported.add(site)
            self.notify_at_end(describe_unseen(label([first]), str(site) if site.file else "", unseen))

    def note_ahead(self, first: JoblibCall, site: CallSite) -> None:
        """Report that tasks ran ahead of a program that takes their results one by one: at the end of the run, once."""
        if site not in self._sites.ahead_reported:
            self._sites.ahead_reported.add(site)
            where = f" ({site})" if site.file else ""
            self.notify_at_end(
                f"the tasks of `{label([first])}`{where} began before the program took the results before them"
            )

    @property
    def _sites(self) -> CallSiteNotes:
        notes: CallSiteNotes = self.client.extensions.setdefault("skjob-call-sites", CallSiteNotes())
        return notes


def call_kind(first: JoblibCall, line: str, tasks: int | None) -> CallKind:
    """Return what a call has in common with others that take about the same time."""
    function, arguments, keywords = first
    inner = inner_function(function)
    values = [*arguments, *keywords.values()]
    estimator = next((type(value).__qualname__ for value in values if hasattr(type(value), "get_params")), "")
    name = f"{getattr(inner, '__module__', '')}.{getattr(inner, '__qualname__', type(inner).__qualname__)}"
    return CallKind(line, name, estimator, tasks, size_class(sum(map(number_of_items, values))))


def number_of_items(value: Any) -> int:
    """Return how many numbers or objects a value holds, as far as that is cheap to know."""
    size = getattr(value, "size", None)
    if isinstance(size, int):
        return size
    return len(value) if isinstance(value, list | tuple | dict | str) else 0
