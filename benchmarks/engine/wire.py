"""Counts the bytes that a process really sends and receives over Dask's connections.

Counted where distributed hands frames to the socket and takes them from it, after serialization and compression, so
that no path (scatter, tasks, worker to worker) is left out. `install` is run in the client, on the scheduler and on
every worker.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

_bytes: Counter[str] = Counter()


def install() -> None:
    """Begin to count in this process. Once."""
    from distributed.comm import tcp

    if hasattr(tcp, "skjob_benchmark"):
        return
    tcp.skjob_benchmark = True
    write, read = tcp.TCP.write, tcp.read_bytes_rw

    async def counted_write(self: Any, *arguments: Any, **options: Any) -> int:
        sent = int(await write(self, *arguments, **options))
        _bytes["sent"] += sent
        return sent

    async def counted_read(stream: Any, size: int) -> Any:
        _bytes["received"] += size
        return await read(stream, size)

    tcp.TCP.write, tcp.read_bytes_rw = counted_write, counted_read


def reset() -> None:
    """Begin at zero."""
    _bytes.clear()


def counted() -> dict[str, int]:
    """Bytes sent and received since."""
    return {"sent": _bytes["sent"], "received": _bytes["received"]}
