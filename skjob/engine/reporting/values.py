"""Format a parameter's value as short text. Pure."""

from __future__ import annotations

import re
import sys
from typing import Any

from skjob.errors import without_secrets

_SCALAR = re.compile(
    r"\bnp\.(?:(?:u?int|float|complex|longdouble|clongdouble|str_|bytes_)\w*\(([^()]*)\)|(True|False)_\b)"
)
"""A NumPy scalar's `repr` within another value."""


def short_text(value: Any, length: int) -> str:
    """Return a value as one line of at most `length` characters. Raise whatever the value's own `repr` raises.

    A number drawn from a distribution is shown like any other, not as `np.float64(606.28)`. Floats have six digits.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        value = value.item()
    if type(value) is float:
        return f"{value:.6g}"
    # Not by numpy's `printoptions`, which other threads of the program would see (before numpy 2.1).
    text = _SCALAR.sub(r"\1\2", " ".join(repr(value).split()))
    text = without_secrets(text)  # before it is cut, or the start of a secret would stay
    return text if len(text) <= length else text[: length - 1] + "…"
