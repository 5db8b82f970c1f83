"""A name that nothing has, and the known one that was probably meant: for job files and for settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches


def did_you_mean(name: object, known: Iterable[object], called: Callable[[str], str] = str) -> str:
    """`; did you mean …?` for a name that is close to a known one, or nothing. `called` is how a message names it."""
    names = [str(each) for each in known]
    inner = [each for each in names if each.endswith(f"__{name}")]
    # Two letters exchanged, or the other case, are nearer than what difflib counts as near.
    letters = sorted(str(name).lower())
    same = [each for each in names if sorted(each.lower()) == letters]
    close = inner or same or get_close_matches(str(name), names, n=1)
    return f"; did you mean `{called(close[0])}`?" if close else ""
