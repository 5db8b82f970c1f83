"""A client whose connection breaks: what distributed makes of it, and what a user needs instead.

A network that is away for a while, or a scheduler that starts again, is no reason to end a run: the client tries to
connect for as long as the run waits, and says nothing of it. What was lost, and what is done again, skjob tells itself.
Once it is known that the cluster will not come back, nobody waits for it any longer.
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

GIVEN_UP = "skjob-given-up"
"""Among a client's extensions: why it was closed."""


def set_reconnect_timeout(client: Any, seconds: float) -> None:
    """Let this client try for so long to have its scheduler back, from when it loses it."""
    patch_tls_connector()
    client._timeout = seconds  # that of its first connection, which distributed 2026.8.0 takes for this too
    for name in NOISY_LOGGERS:
        logging.getLogger(name).addFilter(_tells_of_no_connection)


def abandon(client: Any, why: str) -> None:
    """Close a client whose cluster will not come back. From any thread; all that waits for an answer ends soon."""
    client.extensions[GIVEN_UP] = why
    client.loop.add_callback(client.close)  # there it leaves the event loop, on which others may still wait


def why_given_up(client: Any) -> str:
    """What is wrong with its cluster; empty where that is not known."""
    return str(client.extensions.get(GIVEN_UP, ""))


def patch_tls_connector() -> None:
    """A connection that is closed while TLS begins is one more failure to connect, after which a client tries again.

    Tornado raises ValueError for it, or an end of file in the handshake; distributed 2026.8.0 takes the one for a fault
    of its own and the other for a wrong certificate, and gives up. `tests/integration/test_reconnecting.py` fails
    without this as long as that is so.
    """
    from ssl import SSLEOFError

    from distributed.comm.core import FatalCommClosedError
    from distributed.comm.tcp import TLSConnector

    connect = TLSConnector.connect
    if getattr(connect, "mended", False):
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

    connect_or_fail.mended = True  # type: ignore[attr-defined]
    TLSConnector.connect = connect_or_fail


def _tells_of_no_connection(record: logging.LogRecord) -> bool:
    """Whether a line of distributed's log tells of anything but a connection that is broken."""
    error = record.exc_info[1] if record.exc_info else None
    # Whoever is connecting as the client is closed is cancelled.
    return not (
        isinstance(error, OSError | asyncio.CancelledError) or record.getMessage().startswith("Failed to reconnect")
    )
