"""Pack the settings of a Parallel call into bytes for its tasks, once, and unpack them on a worker."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from skjob.engine.fidelity.settings.snapshot import take_settings
from skjob.engine.fidelity.settings.values import ProgramSettings
from skjob.engine.joblib_calls import JoblibCall
from skjob.engine.transfer.pickling import dumps


@dataclass(frozen=True)
class PackedSettings:
    """Settings as bytes. A message that shows the arguments of a task does not show them."""

    content: bytes = field(repr=False)


class CallSettings:
    """The settings of one Parallel call, taken as it begins, and packed once for all of its tasks."""

    def __init__(self, root: Path | None) -> None:
        self.taken = take_settings(root)
        self._complete: PackedSettings | None = None
        self._reduced: PackedSettings | None = None

    def packed(self, calls: list[JoblibCall]) -> PackedSettings:
        """Return what travels with a task of these calls.

        Raises
        ------
        TypeError
            Something in the settings cannot be sent.
        """
        if all(hasattr(function, "warning_filters") for function, _, _ in calls):
            self._reduced = self._reduced or _pack(self.taken.without_sklearn_own())
            return self._reduced
        self._complete = self._complete or _pack(self.taken)
        return self._complete


def _pack(settings: ProgramSettings) -> PackedSettings:
    try:
        return PackedSettings(dumps(settings))
    except Exception as error:
        raise TypeError(f"the program has a setting that cannot be pickled: {error}") from error


@lru_cache(maxsize=8)
def _unpack(content: bytes) -> ProgramSettings:
    settings: ProgramSettings = pickle.loads(content)  # noqa: S301 - from our own client, over mutual TLS
    return settings


def unpack(packed: PackedSettings | None) -> ProgramSettings:
    """Return the settings in these bytes. The same bytes give the same object."""
    return ProgramSettings() if packed is None else _unpack(packed.content)
