"""Waiting for what a Dask client was asked, in another thread than its event loop's, and not longer than agreed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


def answer(client: Any, asked: Coroutine[Any, Any, Any], seconds: float) -> Any:
    """The result of a coroutine of the client's. Raises TimeoutError after so many seconds, and what it raises."""
    return asyncio.run_coroutine_threadsafe(asked, client.loop.asyncio_loop).result(seconds)
