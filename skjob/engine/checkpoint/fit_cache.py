"""Reuse the results of fits from earlier runs, and store each result as soon as its fit is finished.

This stands between a Parallel call and the store: it decides which calls are fits that can be stored, identifies them,
and reports what was reused. A fit that cannot be identified runs as if there were no store. A fit whose estimator draws
random numbers without a seed is stored, and reused only on request. Such fits are numbered in each run if they are the
same otherwise, because they are meant to differ.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from skjob.engine.checkpoint.fit_counts import FitCounts
from skjob.engine.checkpoint.fit_key import FitIdentity, FitKeyBuilder, Unidentifiable
from skjob.engine.checkpoint.store import FilesRead, FitStore
from skjob.engine.joblib_calls import JoblibCall, fit_arguments
from skjob.utils.notify import Notify

WRITERS = 8
"""Threads that write fits to a store behind a network."""

WRITE_TIMEOUT = 60.0
"""Seconds that the end of a Parallel call waits for fits that are being written."""


class FitCache:
    """The fits of one run, in one store. Thread-safe.

    Parameters
    ----------
    address : str
        A folder, or any address that fsspec knows.
    run : str, default=None
        The id of the run, written into the entries; None makes one.
    resume : bool, default=False
        Whether unseeded fits of other runs are reused too.
    notify : callable, default=None
        Reports a line about what was reused or went wrong, each once.
    report_counts : callable, default=None
        Reports the counts at the end of each Parallel call.

    Raises
    ------
    ConfigError
        The address is of an unknown kind, or not writable.
    """

    def __init__(
        self,
        address: str,
        run: str | None = None,
        *,
        resume: bool = False,
        notify: Notify = lambda _: None,
        report_counts: Callable[[FitCounts], None] = lambda _: None,
    ) -> None:
        self.store = FitStore(address, run or secrets.token_hex(8))
        self.run = self.store.run
        self.resume = resume
        self._notify = notify
        self._report_counts = report_counts
        self._lock = threading.Lock()
        self._notified: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._unseeded: Counter[str] = Counter()
        """How often each unseeded fit has come up in this run."""
        self.shown: set[str] = set()
        """Fits of this run that printed, warned or logged: plain Python would show that each time."""
        if self.store.has_older():
            self.notify_once("fits kept by an earlier release are not reused")
        self.writers = ThreadPoolExecutor(WRITERS, "skjob-store") if self.store.remote else None

    @property
    def counts(self) -> FitCounts:
        """How many fits have been reused and stored so far."""
        with self._lock:
            return FitCounts(**self._counts)

    def begin_call(
        self,
        root: Path | None,
        data_key: Callable[[Any], str],
        settings: tuple[Any, ...] = (),
        jobs: tuple[Any, ...] = (),
        *,
        shares_memory: bool = True,
    ) -> CallFitCache:
        """Return the cache for one Parallel call. `data_key` gives the content key of a large array.

        `settings` are those of the program that may change a result, `jobs` what the number of jobs inside the fits
        depends on.
        `shares_memory`: whether plain Python runs the fits in the program's process.
        """
        keys = FitKeyBuilder(root, data_key, {}, settings, jobs, shares_memory=shares_memory)
        return CallFitCache(self, keys)

    def with_number(self, identity: FitIdentity) -> FitIdentity:
        """Return the identity of an unseeded fit with how many of the same this run has had before."""
        with self._lock:
            number = self._unseeded[identity.fit]
            self._unseeded[identity.fit] += 1
        fit = hashlib.blake2b(f"{identity.fit} {number}".encode(), digest_size=20).hexdigest()
        return replace(identity, fit=fit)

    def count(self, *what: str) -> None:
        """Count one more of each."""
        with self._lock:
            self._counts.update(what)

    def notify_once(self, line: str) -> None:
        """Report a line, unless it was reported before."""
        with self._lock:
            new = line not in self._notified
            self._notified.add(line)
        if new:
            self._notify(line)

    def report(self) -> None:
        """Report problems and counts, at the end of a Parallel call that had fits."""
        for problem in self.store.problems:
            self.notify_once(problem)
        self._report_counts(self.counts)

    def close(self) -> None:
        """Report at the end of the run what was reused."""
        for line in self.counts.lines():
            self.notify_once(line)


class CallFitCache:
    """The fits of one Parallel call. The objects that they share do not change within it."""

    def __init__(self, fits: FitCache, identifier: FitKeyBuilder) -> None:
        self._fits = fits
        self._identifier: FitKeyBuilder | None = identifier
        self._writes: list[Future[None]] = []
        self._has_fits = False

    def identify(self, call: JoblibCall) -> FitIdentity | None:
        """Return the identity of a fit; None for a call that is no fit, or a fit that cannot be identified."""
        if self._identifier is None:
            return None
        try:
            identity = self._identifier.identify(call)
        except Exception as error:  # the user's own objects are called
            reason = error if isinstance(error, Unidentifiable) else f"{type(error).__name__}: {error}"
            self._fits.notify_once(f"fits are not stored for later runs: {reason}")
            return None
        if identity is None:
            return None
        self._has_fits = True
        self._fits.count("fits")
        return identity if identity.seeded else self._fits.with_number(identity)

    def find(self, identity: FitIdentity, call: JoblibCall) -> Any:
        """Return the stored result of a fit; None if there is none to reuse."""
        found = self._fits.store.find(identity)
        if found is None:
            return None
        if not all(map(_is_unchanged, found.files)):
            return None
        if found.run == self._fits.run and identity.fit in self._fits.shown:
            return None
        if not identity.seeded and not self._fits.resume:
            self._fits.count("unseeded")
            return None
        self._fits.count("repeated" if found.run == self._fits.run else "found")
        arguments = fit_arguments(call) or {}
        if isinstance(found.result, dict) and arguments.get("return_parameters"):
            return {**found.result, "parameters": arguments["parameters"]}
        return found.result

    def versions(self) -> dict[str, str]:
        """Return the versions that the fits so far must run with, by distribution."""
        return {} if self._identifier is None else self._identifier.versions()

    def store(
        self,
        identity: FitIdentity,
        result: Any,
        seconds: float,
        differs: tuple[str, ...],
        read: FilesRead = (),
        *,
        shown: bool = False,
    ) -> None:
        """Store the result of a fit, unless its worker had other versions than those in its identity.

        `read` are the files that the fit has read: the result is reused while they are unchanged on this machine. If
        one is another here, or has changed since, it is not stored. Those that only workers have cannot be checked.
        `shown`: whether the fit printed, warned or logged; then it is done again if this run has it again.
        """
        if shown:
            self._fits.shown.add(identity.fit)
        read = tuple(file for file in read if os.path.lexists(file[0]))
        changed = next((file[0] for file in read if not _is_unchanged(file)), None)
        versions = self.versions()
        if differs:
            self._fits.notify_once(f"fits are not stored for later runs: workers have {', '.join(differs)}")
        elif changed is not None:
            self._fits.notify_once(f"fits are not stored for later runs: `{changed}` here is not what they read")
        elif self._fits.writers is None:
            self._store(identity, result, seconds, versions, read)
        else:
            self._writes = [write for write in self._writes if not write.done()]
            self._writes.append(self._fits.writers.submit(self._store, identity, result, seconds, versions, read))

    def _store(
        self, identity: FitIdentity, result: Any, seconds: float, versions: Mapping[str, str], read: FilesRead
    ) -> None:
        if self._fits.store.save(identity, result, seconds, versions, read):
            self._fits.count("kept", *["kept_unseeded"] * (not identity.seeded))

    def end(self) -> None:
        """End the call: wait for fits that are being written, and report."""
        self._identifier = None  # it holds the data, whose memory is the caller's to free
        late = wait(self._writes, WRITE_TIMEOUT).not_done
        self._writes = []
        if late:
            self._fits.notify_once(f"{len(late)} finished fits could not be stored within {WRITE_TIMEOUT:.0f} s")
        if self._has_fits:
            self._fits.report()
            self._has_fits = False


def _is_unchanged(file: tuple[str, int, int]) -> bool:
    path, size, changed = file
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return False
    return (found.st_size, found.st_mtime_ns) == (size, changed)
