"""Write a parameter's value as short text. Pure."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import Any

from skjob.errors import without_secrets


def short_text(value: Any, length: int) -> str:
    """Return a value as one line of at most `length` characters; raises what the value's own `repr` raises.

    A number drawn from a distribution reads like any other, not as `np.float64(606.28)`. Floats have six digits.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        value = value.item()
    if type(value) is float:
        return f"{value:.6g}"
    with numpy.printoptions(legacy="1.25") if numpy is not None else nullcontext():
        text = without_secrets(" ".join(repr(value).split()))  # of one that is cut, the start would stay
    return text if len(text) <= length else text[: length - 1] + "…"
