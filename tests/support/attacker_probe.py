"""Probe what an outsider can reach of a run: connections, accepted or refused. Uses only the standard library.

Tests import it, and attacking pods run it: `python attack.py '[[kind, host, port, argument], ...]'` prints the result
of each attempt as a JSON list.
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
    """Try to reach the port at all."""
    try:
        with socket.create_connection((host, port), SECONDS):
            return "connected"
    except OSError as error:
        return f"{UNREACHED}: {error}"


def plain(host: str, port: int) -> str:
    """Send Dask's greeting without TLS, and check whether anything other than a TLS rejection comes back."""
    greeting = b"\x00" * 8
    try:
        with socket.create_connection((host, port), SECONDS) as connection:
            connection.settimeout(SECONDS)
            connection.sendall(greeting)
            answer = connection.recv(64)
    except OSError as error:
        return f"refused: {error}"
    # A TLS alert begins with the number of its record type.
    return f"{IN}: {answer!r}" if answer and answer[0] != 21 else "refused: the connection is closed"


def tls(host: str, port: int, folder: str = "") -> str:
    """Connect by TLS with the certificate in a folder, or without one. The server is not verified: attackers do not
    care.

    With TLS 1.3 a client learns that its certificate was rejected only after its own part of the handshake. A client
    that is not rejected is let in: the server waits for its message. A server that has not even finished its part of
    the handshake has not decided yet, and is tried again.
    """
    for _ in range(TRIES):
        result = _tls_once(host, port, folder)
        if not result.startswith(NO_ANSWER):
            break
    return result


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
    handshake_done = False
    try:
        with connection, context.wrap_socket(connection) as secured:
            handshake_done = True
            answer = secured.recv(64)
    except TimeoutError:
        return f"{IN}: it waits for a message" if handshake_done else f"{NO_ANSWER}: the handshake does not end"
    except ssl.SSLError as error:
        return f"refused: {error.reason or error}".lower().replace("_", " ")
    except OSError as error:
        return f"refused: {error}"
    return f"{IN}: {answer!r}" if answer else "refused: the connection is closed"


def get(host: str, port: int, path: str) -> str:
    """Send an HTTP request; a POST for paths that change something."""
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


def attack(attempts: list[list[str]]) -> list[str]:
    """Make several attempts in parallel, so that one without an answer does not delay the others."""
    with ThreadPoolExecutor(16) as pool:
        futures = [pool.submit(KINDS[kind], host, int(port), *more) for kind, host, port, *more in attempts]
    return [each.result() for each in futures]


if __name__ == "__main__":
    print(json.dumps(attack(json.loads(sys.argv[1]))))
