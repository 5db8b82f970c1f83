"""How many fits of a run were found finished, and how many were kept: numbers for the record, and words for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tally:
    """Fits of a run so far: all of a kind that is kept, those that an earlier run had finished, those that this one had
    done already, those kept now, those that an earlier run had finished and that were done again, because they have no
    seed, and how many of those kept now have none."""

    fits: int = 0
    found: int = 0
    repeated: int = 0
    kept: int = 0
    unseeded: int = 0
    kept_unseeded: int = 0

    def lines(self, *, finished: bool = True) -> list[str]:
        """What a user is to know of it, at the end of a run, or where it has stopped."""
        told = []
        done = self.found + self.kept
        if self.kept and not finished:
            resumed = "; with `--resume` also those that have no `random_state`" if self.kept_unseeded else ""
            if done + self.repeated >= self.fits:
                told.append(f"all {done} fits so far are saved; the same command does not repeat them{resumed}")
            else:
                told.append(f"saved {done} fits; run the same command again for the rest{resumed}")
        if self.found:
            told.append(f"reused {self.found} of {self.fits} fits from an earlier run")
        if self.unseeded:
            told.append(
                f"{self.unseeded} fits were finished by an earlier run and done again, because their estimator draws "
                "random numbers and has no `random_state`; `--resume` takes them as they are"
            )
        return told
