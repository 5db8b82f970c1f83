"""What somebody who should not gets to see of a run: connections, answered or refused. The standard library only.

The tests import it, and pods that attack run it: `python attack.py '[[kind, host, port, argument], ...]'` prints what
came of each as a list in JSON.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor

SECONDS = 30.0
TRIES = 3
IN = "let in"
UNREACHED = "not reached"
NO_ANSWER = "no answer"


def connect(host: str, port: int) -> str:
    """Whether the port is reached at all."""
    try:
        with socket.create_connection((host, port), SECONDS):
            return "connected"
    except OSError as error:
        return f"{UNREACHED}: {error}"


def plain(host: str, port: int) -> str:
    """Dask's own greeting, without TLS: whether anything comes back that is not TLS saying no."""
    greeting = b"\x00" * 8
    try:
        with socket.create_connection((host, port), SECONDS) as connection:
            connection.settimeout(SECONDS)
            connection.sendall(greeting)
            answer = connection.recv(64)
    except OSError as error:
        return f"refused: {error}"
    # An alert of TLS begins with the number of its record type.
    return f"{IN}: {answer!r}" if answer and answer[0] != 21 else "refused: the connection is closed"


def tls(host: str, port: int, folder: str = "") -> str:
    """TLS with the certificate in a folder, or none; whom it speaks to, an attacker does not mind.

    With TLS 1.3 a client hears only after its own part that its certificate was refused. Who hears nothing of the kind
    is let in: the other side waits for what it has to say. One that has not even done its part of the handshake has
    said nothing yet, and is tried again.
    """
    for _ in range(TRIES):
        told = _tls_once(host, port, folder)
        if not told.startswith(NO_ANSWER):
            break
    return told


def _tls_once(host: str, port: int, folder: str) -> str:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if folder:
        context.load_cert_chain(f"{folder}/tls.crt", f"{folder}/tls.key")
    try:
        connection = socket.create_connection((host, port), SECONDS)
    except OSError as error:
        return f"{UNREACHED}: {error}"
    shaken = False
    try:
        with connection, context.wrap_socket(connection) as secured:
            shaken = True
            answer = secured.recv(64)
    except TimeoutError:
        return f"{IN}: it waits for a message" if shaken else f"{NO_ANSWER}: the handshake does not end"
    except ssl.SSLError as error:
        return f"refused: {error.reason or error}".lower().replace("_", " ")
    except OSError as error:
        return f"refused: {error}"
    return f"{IN}: {answer!r}" if answer else "refused: the connection is closed"


def get(host: str, port: int, path: str) -> str:
    """An HTTP request; of the paths that change something it is a POST."""
    method = "POST" if "/api/" in path else "GET"
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    try:
        connection.request(method, path, body=b'{"n": 2}' if method == "POST" else None)
        return f"answered: {connection.getresponse().status}"
    except OSError as error:
        return f"{UNREACHED}: {error}"
    finally:
        connection.close()


KINDS = {"connect": connect, "plain": plain, "tls": tls, "get": get}


def attack(orders: list[list[str]]) -> list[str]:
    """Several at the same time: one that is not answered holds up no other."""
    with ThreadPoolExecutor(16) as pool:
        tried = [pool.submit(KINDS[kind], host, int(port), *more) for kind, host, port, *more in orders]
    return [each.result() for each in tried]


if __name__ == "__main__":
    print(json.dumps(attack(json.loads(sys.argv[1]))))
