"""Count the fits of a run that were reused and stored: numbers for the run's record, and lines for the user."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FitCounts:
    """How many fits a run has had so far.

    Attributes
    ----------
    fits : int
        All that can be stored.
    found, repeated : int
        Reused from an earlier run, and from this one.
    kept : int
        Stored now.
    unseeded : int
        Finished by an earlier run and done again, because they have no seed.
    kept_unseeded : int
        Stored now, without a seed.
    """

    fits: int = 0
    found: int = 0
    repeated: int = 0
    kept: int = 0
    unseeded: int = 0
    kept_unseeded: int = 0

    def lines(self, *, finished: bool = True) -> list[str]:
        """Return what to report at the end of a run; `finished` is False if it has stopped early."""
        lines = []
        done = self.found + self.kept
        if self.kept and not finished:
            resumed = "; with `--resume` also those that have no `random_state`" if self.kept_unseeded else ""
            if done + self.repeated >= self.fits:
                lines.append(f"all {done} fits so far are saved; the same command does not repeat them{resumed}")
            else:
                lines.append(f"saved {done} fits; run the same command again for the rest{resumed}")
        if self.found:
            lines.append(f"reused {self.found} of {self.fits} fits from an earlier run")
        if self.unseeded:
            lines.append(
                f"{self.unseeded} fits were finished by an earlier run and done again, because their estimator draws "
                "random numbers and has no `random_state`; `--resume` takes them as they are"
            )
        return lines
