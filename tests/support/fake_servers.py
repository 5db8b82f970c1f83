"""Fake servers in the cluster: a registry that rejects pulls, and admission webhooks. Uses only the standard library.

`python fake_servers.py REGISTRY_PORT WEBHOOK_PORT CERTIFICATE KEY` runs in a pod on each node. The registry has no
images: `private/…` is denied, everything else is not found. A webhook's path selects what it does.
"""

from __future__ import annotations

import base64
import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MISSING_CA_FILE = {"name": "DASK_DISTRIBUTED__COMM__TLS__CA_FILE", "value": "/nonexistent/ca.crt"}

DELAY_SECONDS = 15.0

PATCHES: dict[str, list[dict[str, Any]]] = {
    "/loosen": [{"op": "add", "path": "/spec/hostNetwork", "value": True}],
    "/break": [{"op": "add", "path": "/spec/containers/0/env/-", "value": MISSING_CA_FILE}],
}


class JsonHandler(BaseHTTPRequestHandler):
    """A request handler that logs nothing."""

    def answer(self, status: int, content: dict[str, Any], **headers: str) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class Registry(JsonHandler):
    """A registry after the OCI distribution specification."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if "/private/" in self.path:
            denied = {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}
            self.answer(401, denied, WWW_Authenticate='Basic realm="private"')
        else:
            self.answer(404, {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]})


class Webhook(JsonHandler):
    """An admission webhook: `/refuse` rejects, `/delay` is slow, other paths change the object."""

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self.path.partition("?")[0]
        if path == "/delay":
            time.sleep(DELAY_SECONDS)
        response: dict[str, Any] = {"uid": review["request"]["uid"], "allowed": path != "/refuse"}
        if path in PATCHES:
            patch = base64.b64encode(json.dumps(PATCHES[path]).encode()).decode()
            response |= {"patchType": "JSONPatch", "patch": patch}
        else:
            response["status"] = {"message": "pods of this team need an owner"}
        self.answer(200, {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})


def main() -> None:
    """Serve until the pod ends."""
    registry_port, webhook_port, certificate, key = sys.argv[1:]
    registry = ThreadingHTTPServer(("127.0.0.1", int(registry_port)), Registry)
    webhook = ThreadingHTTPServer(("", int(webhook_port)), Webhook)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    webhook.socket = context.wrap_socket(webhook.socket, server_side=True)
    threading.Thread(target=registry.serve_forever, daemon=True).start()
    webhook.serve_forever()


if __name__ == "__main__":
    main()
