"""A cluster that this process has opened: from its start to its end, or to the end of the process."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from skjob.config import sources
from skjob.config.environment_variables import SETTINGS as VARIABLES
from skjob.config.parsers import parse_workers
from skjob.config.plan import JobSpec
from skjob.config.settings import Place, WorkerRange
from skjob.deploy.dashboard import Pages, link_form, link_to, pages_at
from skjob.errors import ConfigError, SkjobError, in_a_line
from skjob.interactive.html import card, card_text
from skjob.interactive.lines import LinesView, write
from skjob.interactive.notebook import NotebookView, is_kernel
from skjob.interactive.observer import ClusterObserver, ClusterState, Status, View
from skjob.interactive.output_history import forget_shown
from skjob.run.context import OpenCluster, open_cluster
from skjob.run.run import RunOptions
from skjob.utils import dask_client
from skjob.utils.units import format_size

if TYPE_CHECKING:
    from skjob.engine.checkpoint.fit_counts import FitCounts

Workers = int | str | tuple[int, int]

OF_THE_RUN = "`skjob.cluster()` uses the cluster of this run, with the run's own options"


@dataclass(frozen=True)
class RequestedCluster:
    """A cluster to use by name, and where it is, as far as that is given; without a name, a new one."""

    name: str | None
    context: str | None
    namespace: str | None


class Session:
    """A cluster and what is shown of it. In a program of `skjob run` it is that run's, which is left as it is.

    Forked children of the process close nothing.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        """Take the arguments of `skjob.cluster`, and start nothing."""
        self.state = ClusterState()
        self.shown_as: Callable[[], object | None] = lambda: None
        """Returns the object that shows the cluster, if it is there: IPython is not to keep it alive."""
        self._given = given
        self._owner = os.getpid()
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._is_over = False
        self._is_block = False
        self._opened: OpenCluster | None = None
        self._requested: RequestedCluster | None = None
        self._shell: Any = None
        self._view: View | None = None
        self._observer: ClusterObserver | None = None
        self._counts_before: FitCounts | None = None

    def open(self, *, replaces: bool = False) -> None:
        """Start the cluster, or connect to it, and wait for its first worker.

        One session at a time can use a cluster by its name. With `replaces` this one takes it over from another of this
        process, which is closed; but not from a `with` block, whose rest would run on this machine.

        Raises:
            SkjobError: there is no cluster to use.
        """
        if dask_client.run_client is not None:
            write(OF_THE_RUN)
            self.state.status, self.state.name = Status.READY, "the run's"
            return
        resolved, options = _resolved(self._given)
        self._requested = RequestedCluster(options.cluster, resolved.settings.context, resolved.settings.namespace)
        if replaces:
            self._close_replaced(self._requested)
        self._shell = _find_shell()
        self._view = NotebookView(self.state) if is_kernel(self._shell) else LinesView(self.state)
        observer = self._observer = ClusterObserver(self.state, self._view)
        report = observer.event if self._view.wants_events else None
        try:
            opening = open_cluster(JobSpec(_program()), resolved, options, observer, report)
            opened = self._opened = self._stack.enter_context(opening)
            _register(self)
            observer.is_lost = lambda: opened.monitor.lost is not None
            self._describe(opened)
            observer.workers(opened.connection.workers)
            observer.set_status(Status.READY)
            if self._view.wants_events and opened.plan.place is Place.LOCAL:
                # On Kubernetes other users of this machine could open it: only who asks for it gets a port of it here.
                threading.Thread(target=lambda: self.dashboard_link, name="skjob-dashboard", daemon=True).start()
            self._watch_cells()
        except BaseException:
            self._abandon(observer, self._view)
            raise

    def _close_replaced(self, requested: RequestedCluster) -> None:
        if requested.name is None:
            return
        for other in reversed(_open.copy()):
            if not other._is_block and other._uses(requested):
                other.close_or_report()

    def _uses(self, requested: RequestedCluster) -> bool:
        """Return whether this session has the cluster that is requested: in the same words, or under its full name."""
        if self._opened is None or self._requested is None or self._requested.name != requested.name:
            return False
        api = self._opened.connection.run.target.api
        context, namespace = (api.context.name, api.context.namespace) if api is not None else (None, None)
        return requested.context in (self._requested.context, context) and requested.namespace in (
            self._requested.namespace,
            namespace,
        )

    def _abandon(self, observer: ClusterObserver, view: View) -> None:
        """Close what an error or an interrupt has left half open. It is raised; an error of the closing is written."""
        with self._lock:
            self._is_over = True
        _unregister(self)
        self._unwatch_cells()
        try:
            self._stack.close()
        except Exception as error:
            _write_error(error)
        finally:
            self._opened = None
            observer.set_status(Status.FAILED)
            view.close()

    def _describe(self, opened: OpenCluster) -> None:
        plan, state = opened.plan, self.state
        state.name, state.place = opened.cluster.name, plan.why.removeprefix("running on ")
        state.notes = [note for note in state.notes if note != plan.why]  # the card says so once
        cores = plan.size.cpu if plan.place is Place.KUBERNETES else plan.size.threads
        state.size = format_size(cores, plan.size.memory, plan.size.gpus)

    @property
    def client(self) -> Any:
        """The cluster's Dask client.

        Raises:
            ConfigError: it is closed.
        """
        if self._opened is None:
            if dask_client.run_client is not None:
                return dask_client.run_client
            raise ConfigError("the cluster is closed", "`skjob.Cluster()` starts another one")
        return self._opened.client

    @property
    def dashboard_link(self) -> str:
        """The address of Dask's dashboard; empty if it cannot be opened from here."""
        opened = self._opened
        if opened is None or self.state.status is not Status.READY:
            return ""
        port = opened.cluster.dashboard_port()
        link = ""
        pages = pages_at(port) if port is not None else Pages.WITHOUT_BOKEH
        if pages is Pages.SILENT and self.state.link:
            return self.state.link  # the scheduler is busy: it had a dashboard, and has it again
        if port is not None and pages is Pages.DASHBOARD:
            link = link_to(port, link_form())
        if self._observer is not None and self.state.status is Status.READY:
            self.state.link = link
            self._observer.view.changed()
        return link

    def scale(self, workers: Workers) -> None:
        """Keep so many workers from now on."""
        if self._opened is None:
            if dask_client.run_client is not None:
                raise ConfigError("the cluster is that of this run, whose workers `--workers` chooses")
            raise ConfigError("the cluster is closed: it has no workers", "`skjob.Cluster()` starts another one")
        self._opened.scale(as_range(workers))

    def close(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """End the cluster, or leave one that is used by name. Do nothing if it has ended."""
        with self._lock:
            if self._is_over or self._opened is None or os.getpid() != self._owner:
                return
            self._is_over = True
        assert self._observer is not None  # noqa: S101 - there is one with a cluster
        assert self._view is not None  # noqa: S101
        _unregister(self)
        self._unwatch_cells()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._report_interrupt()
        self._observer.set_status(Status.CLOSING)
        self.state.link = ""
        self._view.refresh()
        try:
            self._stack.__exit__(kind, error, traceback)
        finally:
            self._opened = None
            self._observer.set_status(Status.CLOSED)
            self._view.close()

    def begin_block(self) -> None:
        """Take note that a `with` block has the cluster, which `close` ends: nothing replaces it meanwhile."""
        self._is_block = True

    def close_or_report(self) -> None:
        """Close the cluster where nobody can catch an error: write what is left, and the command that removes it."""
        try:
            self.close()
        except Exception as error:
            _write_error(error)

    def release(self) -> None:
        """Close a cluster that nobody refers to any more, whichever thread has noticed."""
        if threading.current_thread() is threading.main_thread():
            self.close_or_report()
        elif not self._is_over:
            threading.Thread(target=self.close_or_report, name="skjob-release").start()

    def show_card(self) -> None:
        """Show the cluster, from now on as it changes, where that can be shown."""
        if self._view is not None:
            self._view.show_card()
        else:
            print(self.text)

    @property
    def text(self) -> str:
        """The cluster as plain text."""
        return card_text(self.state)

    @property
    def html(self) -> str:
        """The cluster as HTML."""
        return str(card(self.state))

    def close_at_exit(self) -> None:
        """Close it as the process ends: nobody waits for what Kubernetes removes by itself."""
        if self._opened is not None:
            self._opened.hurried = True
        self.close_or_report()

    # ---- cells

    def _watch_cells(self) -> None:
        if self._shell is not None:
            self._begin_cell()
            self._shell.events.register("pre_run_cell", self._begin_cell)
            self._shell.events.register("post_run_cell", self._end_cell)

    def _unwatch_cells(self) -> None:
        if self._shell is not None:
            for name, hook in (("pre_run_cell", self._begin_cell), ("post_run_cell", self._end_cell)):
                with suppress(ValueError):  # the user has reset the shell's events
                    self._shell.events.unregister(name, hook)

    def _begin_cell(self, _info: Any = None) -> None:
        """Called by IPython before each cell."""
        self._counts_before = self._counts()
        if self._view is not None:
            self._view.begin_cell()

    def _end_cell(self, result: Any = None) -> None:
        """Called by IPython after each cell: what it shows is complete when it ends."""
        if self._view is None:
            return
        if isinstance(getattr(result, "error_in_exec", None), KeyboardInterrupt):
            self._report_interrupt()
        self._view.refresh()
        if self._shell is not None and (shown := self.shown_as()) is not None:
            forget_shown(self._shell, shown)

    def _report_interrupt(self) -> None:
        before, now = self._counts_before, self._counts()
        had_fits = now is not None and (before is None or now.fits > before.fits)
        if self._observer is not None and self._view is not None and (had_fits or self._view.cell_has_calls):
            self._observer.notify_again(interrupted(before, now))

    def _counts(self) -> FitCounts | None:
        return self._opened.fit_counts if self._opened is not None else None


_open: list[Session] = []
"""Clusters that are open, in the order in which they were opened."""

_closes_at_exit = False


def _register(session: Session) -> None:
    global _closes_at_exit
    _open.append(session)
    if not _closes_at_exit:
        _closes_at_exit = True
        # `atexit` is too late: by then Python starts no threads any more, which the removal in Kubernetes needs. This
        # is what `concurrent.futures` uses.
        threading._register_atexit(_close_all)  # type: ignore[attr-defined]


def _unregister(session: Session) -> None:
    if session in _open:
        _open.remove(session)


def _close_all() -> None:
    for session in reversed(_open.copy()):
        session.close_at_exit()


def interrupted(before: FitCounts | None, now: FitCounts | None) -> str:
    """Return what an interrupt leaves of the fits of a cell: `before` and `now` count those of the session."""
    if now is None:
        return 'interrupted; no fits are saved: `checkpoint=".skjob/fits"` saves them'
    fits, saved, unseeded = now.fits, now.kept + now.found + now.repeated, now.kept_unseeded
    if before is not None:
        fits -= before.fits
        saved -= before.kept + before.found + before.repeated
        unseeded -= before.kept_unseeded
    again = f"; {unseeded} without `random_state` are done again" if unseeded else ""
    if saved <= unseeded:
        return f"interrupted; no fits are saved{again}"
    return f"interrupted; {saved - unseeded} fits are saved: run it again for the rest{again}"


def _write_error(error: Exception) -> None:
    write(f"error: {error if isinstance(error, SkjobError) else in_a_line(error)}")


def _workers_text(workers: Workers) -> str:
    return f"{workers[0]}:{workers[1]}" if isinstance(workers, tuple) else str(workers)


def as_range(workers: Workers) -> WorkerRange:
    """Return a number of workers, or a range as text or a pair. Raises ConfigError for what is neither."""
    text = _workers_text(workers)
    try:
        return parse_workers(text)
    except ValueError as error:
        raise ConfigError(f"`workers` {error}, not `{text}`") from error


def _resolved(given: Mapping[str, Any]) -> tuple[sources.ResolvedSettings, RunOptions]:
    """Return the settings of all layers for the arguments of `skjob.cluster`, and what is for it alone."""
    values = {name: value for name, value in given.items() if value is not None}
    options = RunOptions(cluster=values.pop("name", None))
    if isinstance(workers := values.get("workers"), tuple):
        values["workers"] = _workers_text(workers)
    flags = sources.arguments({key: value if key in VARIABLES else str(value) for key, value in values.items()})
    return sources.resolve([flags, sources.environment(os.environ), sources.project(Path.cwd())]), options


def _program() -> Path:
    """Return the script that runs; in a notebook or an interactive session, a name in the working directory."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(script) if script else Path.cwd() / "notebook"


def _find_shell() -> Any:
    """Return the shell of IPython that this process runs, if it runs one."""
    loaded = sys.modules.get("IPython")
    return loaded.get_ipython() if loaded is not None and hasattr(loaded, "get_ipython") else None
