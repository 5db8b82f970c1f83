"""Decide how long and how quietly a client tries to reconnect to its scheduler.

A network outage, or a scheduler that restarts, is no reason to end a run: the client tries to reconnect for as long as
the run waits, without a line in the log; skjob itself reports what was lost and what is retried. Once it is known that
the cluster will not come back, nothing waits for it any longer.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

NOISY_LOGGERS = (
    "distributed.batched",
    "distributed.client",
    "distributed.core",
    "distributed.comm.tcp",
    "distributed.deploy.cluster",
)

CLOSED = "the connection was closed while TLS began"

ABANDONED = "skjob-given-up"
"""Key of the reason in the extensions of a client that was closed for good."""


def set_reconnect_timeout(client: Any, seconds: float) -> None:
    """Let this client try for so many seconds to reconnect after it has lost its scheduler."""
    patch_tls_connector()
    client._timeout = seconds  # its timeout for connecting, which distributed 2026.8.0 uses for reconnecting too
    for name in NOISY_LOGGERS:
        logging.getLogger(name).addFilter(_is_not_about_connection)


def abandon(client: Any, reason: str) -> None:
    """Close a client whose cluster will not come back, from any thread. Everything that waits for it ends soon."""
    client.extensions[ABANDONED] = reason
    client.loop.add_callback(client.close)  # on its own loop, which others may still be waiting on


def abandon_reason(client: Any) -> str:
    """Return why the client was abandoned; empty if it was not."""
    return str(client.extensions.get(ABANDONED, ""))


def patch_tls_connector() -> None:
    """Let a client retry if a connection is closed during the TLS handshake.

    Tornado raises ValueError for it, or an end of file in the handshake; distributed 2026.8.0 takes the former for its
    own fault and the latter for a wrong certificate, and gives up. GONE WHEN `tests/integration/test_reconnecting.py`
    passes without this.
    """
    from ssl import SSLEOFError

    from distributed.comm.core import FatalCommClosedError
    from distributed.comm.tcp import TLSConnector

    connect = TLSConnector.connect
    if getattr(connect, "is_patched", False):
        return

    async def connect_or_fail(self: Any, *args: Any, **options: Any) -> Any:
        try:
            return await connect(self, *args, **options)
        except ValueError as error:
            if "not idle" not in str(error):
                raise
            raise ConnectionResetError(CLOSED) from error
        except FatalCommClosedError as error:
            if not isinstance(error.__cause__, SSLEOFError):
                raise
            raise ConnectionResetError(CLOSED) from error

    connect_or_fail.is_patched = True  # type: ignore[attr-defined]
    TLSConnector.connect = connect_or_fail


def _is_not_about_connection(record: logging.LogRecord) -> bool:
    """Return whether a line of distributed's log is about anything but a broken connection."""
    error = record.exc_info[1] if record.exc_info else None
    # A connection attempt is cancelled when the client is closed.
    return not (
        isinstance(error, OSError | asyncio.CancelledError) or record.getMessage().startswith("Failed to reconnect")
    )
