"""A connection to the API server that can be cut, as if the client's network failed."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import yaml


class FlakyNetwork:
    """Forwards connections to a server; while it is cut, new ones fail and existing ones are closed.

    `refused` counts connections that were attempted while it was cut.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._cut = False
        self.refused = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Close all connections and accept no more."""
        self._cut = True
        for side in list(self._open):
            self._end(side)

    def restore(self) -> None:
        """Let connections through again."""
        self._cut = False

    def close(self) -> None:
        """Stop forwarding for good."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                self._connect(self._listener.accept()[0])

    def _connect(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._server, timeout=10)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        self._open |= {near, far}
        if self._cut:
            self._end(near)
            self._end(far)
            self.refused += 1
            return
        for ends in ((near, far), (far, near)):
            threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(65536):
                target.sendall(content)
        self._end(source)
        self._end(target)

    def _end(self, side: socket.socket) -> None:
        self._open.discard(side)
        with suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)
        side.close()


def make_flaky_network(kubeconfig: Path, folder: Path) -> tuple[FlakyNetwork, Path]:
    """Return a network to a kubeconfig's server, and a kubeconfig that uses it."""
    content = yaml.safe_load(kubeconfig.read_text())
    [cluster] = content["clusters"]
    server = urlsplit(cluster["cluster"]["server"])
    assert server.hostname is not None
    assert server.port is not None
    network = FlakyNetwork(server.hostname, server.port)
    cluster["cluster"] |= {"server": f"https://127.0.0.1:{network.port}", "tls-server-name": server.hostname}
    path = folder / "cut.kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return network, path
