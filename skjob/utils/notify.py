"""The callback that reports one line to the user."""

from __future__ import annotations

from collections.abc import Callable

Notify = Callable[[str], None]
