"""The type of callbacks that report a line to the user."""

from collections.abc import Callable

Notify = Callable[[str], None]
