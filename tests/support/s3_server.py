"""A real S3-speaking server for tests, moto's, in this process.

All servers of a process share their buckets, and have access rules for nobody: any key opens them.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

from support.wait import until

SECRET = "a-secret-access-key"


@contextmanager
def s3_server(host: str) -> Iterator[dict[str, str]]:
    """Serve S3 at an address of this machine; yield the environment variables to access it."""
    import fsspec
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address=host, port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    try:
        yield {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        _close_connections(port)
        server.stop()


def _close_connections(port: int) -> None:
    """Close what s3fs has left open to the server at a port of this machine, and wait for that.

    s3fs waits 0.1 s for a session's end, and not at all in a thread with an event loop of its own, such as Dask's; then
    it leaves the connections to the garbage collector, which warns in a later test (2026.9.0). GONE WHEN
    `S3FileSystem.close_session` does not end before `__aexit__`.
    """
    from fsspec.asyn import get_loop

    transports = [each for each in gc.get_objects() if isinstance(each, asyncio.Transport)]
    left = [each for each in transports if (each.get_extra_info("peername") or ("", 0))[1] == port]
    for transport in left:
        get_loop().call_soon_threadsafe(transport.close)
    sockets = [transport.get_extra_info("socket") for transport in left]
    until(lambda: all(each.fileno() == -1 for each in sockets), "a connection stays open")
