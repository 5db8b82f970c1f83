"""The callback that takes lines for the user."""

from __future__ import annotations

from collections.abc import Callable

Notify = Callable[[str], None]
"""Take one line about what goes on and show it to the user."""
