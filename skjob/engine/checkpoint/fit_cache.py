"""Fits that were finished before: found instead of done again, and kept the moment they are done.

Between a Parallel call and the store: which calls are fits of a kind that is kept, under which identity, and what is
told of it. What can't be identified is done as if there were no store. A fit whose estimator draws random numbers
without a seed is kept, and found again only where that was asked for. Of such fits that are the same otherwise, the
first is known as the first of its run, the second as the second: they are meant to differ.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from skjob.engine.checkpoint.counts import Tally
from skjob.engine.checkpoint.fit_key import FitIdentity, FitKeyBuilder, Unidentifiable
from skjob.engine.checkpoint.store import FitStore
from skjob.engine.joblib_calls import JoblibCall, fit_arguments

WRITERS = 8
"""Fits that are on their way to a store behind a network at a time."""

WRITE_TIMEOUT = 60.0
"""Seconds that the end of a Parallel call waits for the last of them."""


class FitCache:
    """The fits of one run, in one store. Thread-safe.

    Parameters
    ----------
    address : str
        A folder, or any address that fsspec knows.
    run : str, default=None
        The id of the run, written into the entries; None makes one.
    resume : bool, default=False
        Whether unseeded fits of other runs are found too.
    tell : callable, default=None
        Takes a line about what was found or went wrong, each once.
    counted : callable, default=None
        Takes the tally at the end of each Parallel call.

    Raises
    ------
    ConfigError
        There is no such kind of address, or no writing to it.
    """

    def __init__(
        self,
        address: str,
        run: str | None = None,
        *,
        resume: bool = False,
        tell: Callable[[str], None] = lambda _: None,
        counted: Callable[[Tally], None] = lambda _: None,
    ) -> None:
        self.store = FitStore(address, run or secrets.token_hex(8))
        self.run = self.store.run
        self.resume = resume
        self._tell = tell
        self._counted = counted
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        if self.store.has_older():
            self.say("fits kept by an earlier release are not reused")
        self.writers = ThreadPoolExecutor(WRITERS, "skjob-keep") if self.store.remote else None

    @property
    def tally(self) -> Tally:
        """What has been found and kept so far."""
        with self._lock:
            return Tally(**self._counts)

    def begin_call(
        self,
        root: Path | None,
        data_key: Callable[[Any], str],
        settings: tuple[Any, ...] = (),
        jobs: tuple[Any, ...] = (),
    ) -> CallFitCache:
        """The fits of one Parallel call. `data_key` gives the content key of a large array.

        `settings` are those of the program that may change a result, `jobs` what the number of jobs inside the fits
        depends on.
        """
        return CallFitCache(self, FitKeyBuilder(root, data_key, {}, settings, jobs))

    def numbered(self, identity: FitIdentity) -> FitIdentity:
        """An unseeded fit, with how many of the same this run has had before."""
        with self._lock:
            number = self._before[identity.fit]
            self._before[identity.fit] += 1
        fit = hashlib.blake2b(f"{identity.fit} {number}".encode(), digest_size=20).hexdigest()
        return replace(identity, fit=fit)

    def count(self, *what: str) -> None:
        """One more of each."""
        with self._lock:
            self._counts.update(what)

    def say(self, line: str) -> None:
        """Tell it, unless it was told before."""
        with self._lock:
            new = line not in self._told
            self._told.add(line)
        if new:
            self._tell(line)

    def report(self) -> None:
        """Called at the end of a Parallel call that had fits."""
        for problem in self.store.problems:
            self.say(problem)
        self._counted(self.tally)

    def close(self) -> None:
        """The run is over: tell what was found."""
        for line in self.tally.lines():
            self.say(line)


class CallFitCache:
    """The fits of one Parallel call, in which the objects that they share do not change."""

    def __init__(self, fits: FitCache, identifier: FitKeyBuilder) -> None:
        self._fits = fits
        self._identifier: FitKeyBuilder | None = identifier
        self._writing: list[Any] = []
        self._any = False

    def identify(self, call: JoblibCall) -> FitIdentity | None:
        """What a call is known by; None where it is no fit, or none that can be told from others."""
        if self._identifier is None:
            return None
        try:
            identity = self._identifier.identify(call)
        except Exception as error:  # the user's own objects are asked
            reason = error if isinstance(error, Unidentifiable) else f"{type(error).__name__}: {error}"
            self._fits.say(f"fits are not kept for another run: {reason}")
            return None
        if identity is None:
            return None
        self._any = True
        self._fits.count("fits")
        return identity if identity.seeded else self._fits.numbered(identity)

    def find(self, identity: FitIdentity, call: JoblibCall) -> Any:
        """The result of this fit, finished before; None where there is none."""
        found = self._fits.store.find(identity)
        if found is None:
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
        """What the fits so far are to run with, by distribution."""
        return {} if self._identifier is None else self._identifier.versions()

    def keep(self, identity: FitIdentity, result: Any, seconds: float, differs: tuple[str, ...]) -> None:
        """Keep the result of a fit, unless its worker had other versions than those that are part of its identity."""
        versions = self.versions()
        if differs:
            self._fits.say(f"fits are not kept for another run: workers have {', '.join(differs)}")
        elif self._fits.writers is None:
            self._keep(identity, result, seconds, versions)
        else:
            self._writing = [write for write in self._writing if not write.done()]
            self._writing.append(self._fits.writers.submit(self._keep, identity, result, seconds, versions))

    def _keep(self, identity: FitIdentity, result: Any, seconds: float, versions: Mapping[str, str]) -> None:
        if self._fits.store.keep(identity, result, seconds, versions):
            self._fits.count("kept", *["kept_unseeded"] * (not identity.seeded))

    def end(self) -> None:
        """The Parallel call is over: what is being written is waited for, and what happened is told."""
        self._identifier = None  # it holds the data, whose memory is the caller's to give back
        late = wait(self._writing, WRITE_TIMEOUT).not_done
        self._writing = []
        if late:
            self._fits.say(f"{len(late)} finished fits could not be kept within {WRITE_TIMEOUT:.0f} s")
        if self._any:
            self._fits.report()
            self._any = False
