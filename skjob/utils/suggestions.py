"""Suggest the known name that was probably meant by an unknown one, in job files and settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches


def did_you_mean(name: object, known: Iterable[object], display_name: Callable[[str], str] = str) -> str:
    """Return `; did you mean …?` for a name close to a known one, or nothing. `display_name` formats the known one."""
    names = [str(each) for each in known]
    inner = [each for each in names if each.endswith(f"__{name}")]
    # Swapped letters, or another case, are closer than difflib's close matches.
    letters = sorted(str(name).lower())
    same = [each for each in names if sorted(each.lower()) == letters]
    matches = inner or same or get_close_matches(str(name), names, n=1)
    return f"; did you mean `{display_name(matches[0])}`?" if matches else ""
