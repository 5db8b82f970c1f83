"""The settings of a program that its tasks must find on workers, as values that travel."""

from __future__ import annotations

import decimal
import os
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from skjob.engine.fidelity.settings.logs import LogLevels
from skjob.engine.fidelity.settings.process import NO_SETTINGS, ProcessSettings

NUMPY_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
"""numpy's own reactions to errors."""

SHOWN_ONLY = ("display.", "plotting.", "styler.")
"""Options of pandas that change what a frame looks like, and no result."""

_TOKEN = uuid4().hex


def process_token() -> str:
    """Return what identifies this process among all that exchange settings."""
    return f"{_TOKEN}-{os.getpid()}"


@dataclass(frozen=True)
class DecimalContext:
    """A context of `decimal`, without the flags that calculations have raised in it."""

    precision: int
    rounding: str
    smallest: int
    largest: int
    capitals: int
    clamp: int
    traps: frozenset[str]

    @classmethod
    def of(cls, context: decimal.Context) -> DecimalContext:
        """Return what a context is set to."""
        traps = frozenset(kind.__name__ for kind, trapped in context.traps.items() if trapped)
        return cls(
            context.prec, context.rounding, context.Emin, context.Emax, context.capitals, context.clamp, traps
        )  # fmt: skip

    def make(self) -> decimal.Context:
        """Return a context with these settings."""
        traps = [kind for kind in decimal.Context().traps if kind.__name__ in self.traps]
        return decimal.Context(
            self.precision, self.rounding, self.smallest, self.largest, self.capitals, self.clamp, [], traps
        )  # fmt: skip


@dataclass(frozen=True)
class ProgramSettings:
    """The settings of one Parallel call: first those of a thread, then those of its process.

    Parameters
    ----------
    numpy_errors, numpy_printing, sklearn, decimals
        What differs from the defaults of `numpy.seterr`, `numpy.set_printoptions`, `sklearn.set_config` and `decimal`.
    levels : LogLevels
        Which records of loggers the program makes.
    process : ProcessSettings
        What belongs to the whole process.
    own_variables : tuple
        Variables that the program's code reads and of which each worker has its own, with a digest of the value here.
    seeded : frozenset
        The modules whose global generator the program has seeded, of `numpy.random` and `random`.
    asks_caches : bool
        Whether the program asks how often the caches of functions were used.
    taken_in : str
        Identifies the process, in which its own settings need not be applied.
    joins : bool
        Whether the call was made on a worker, by a task with the same settings.
    """

    numpy_errors: tuple[tuple[str, str], ...] = ()
    numpy_printing: tuple[tuple[str, Any], ...] = ()
    sklearn: tuple[tuple[str, Any], ...] = ()
    decimals: DecimalContext | None = None
    levels: LogLevels = field(default_factory=LogLevels)
    process: ProcessSettings = NO_SETTINGS
    own_variables: tuple[tuple[str, str], ...] = ()
    seeded: frozenset[str] = frozenset()
    asks_caches: bool = False
    taken_in: str = field(default="", compare=False)
    joins: bool = False

    def without_sklearn_own(self) -> ProgramSettings:
        """Return the settings without those that scikit-learn's own `Parallel` sends with each task.

        Filters that make errors of warnings stay. scikit-learn sets them around each task, and takes them away from the
        tasks in other threads as one ends (scikit-learn 1.9: `warnings.catch_warnings` is the process's).
        """
        filters = self.process.filters
        if filters is not None and not any(each.action == "error" for each in filters):
            filters = None
        if not self.sklearn and filters is self.process.filters:
            return self
        return replace(self, sklearn=(), process=replace(self.process, filters=filters))

    def in_key(self) -> tuple[Any, ...]:
        """Return what may change the result of a fit, for the key of a stored one.

        Variables are in the key beside the code that reads them; scikit-learn's configuration travels with the fit.
        """
        process = self.process
        options = tuple(each for each in process.pandas_options if not each[0].startswith(SHOWN_ONLY))
        raising = tuple(each for each in self.numpy_errors if each[1] == "raise")
        decimals = None if self.decimals is None else tuple(vars(self.decimals).values())
        parts = (raising, decimals, process.locales, process.recursion_limit, process.integer_digits, options)
        return parts if any(parts) else ()
