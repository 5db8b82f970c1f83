"""Count the bytes that a process really sends and receives over Dask's connections.

They are counted where distributed passes frames to the socket and takes them from it, after serialization and
compression, so that no path (scatter, tasks, worker to worker) is left out. `install` runs in the client, on the
scheduler and on every worker.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

_bytes: Counter[str] = Counter()


def install() -> None:
    """Start to count in this process, once."""
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
    """Start again at zero."""
    _bytes.clear()


def counted() -> dict[str, int]:
    """Return the bytes sent and received since the last reset."""
    return {"sent": _bytes["sent"], "received": _bytes["received"]}
