"""The event loop that a stand-in for a Dask client has, in a thread of its own as a real one's."""

from __future__ import annotations

import asyncio
import threading
from functools import cache
from types import SimpleNamespace


@cache
def client_loop() -> SimpleNamespace:
    """As `Client.loop`; one for all tests, which ends with them."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return SimpleNamespace(asyncio_loop=loop)
