"""Install an environment once in a namespace, and serve it to every pod that requests it.

Pods of restricted security cannot share a folder of a node, and twenty workers should not each download from an index.
So one pod installs, with uv, what the image lacks, compiles it, and serves it, one archive for each distribution, to
this run and to later ones with the same requirements. It speaks TLS, and only to those who have its certificate.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

from skjob.environment.index.settings import IndexSettings, unconfigured
from skjob.environment.pod.archives import pack_distributions
from skjob.environment.pod.entrypoint import (
    RUN_FOLDER,
    SERVER_TLS_FOLDER,
    SITE_FOLDER,
    RequirementsError,
    exit_with_error,
)
from skjob.environment.pod.requirements import PodRequirements, installed, missing_pins, python_here, requirements_of
from skjob.utils.tls import CA_FILE, CERTIFICATE_FILE, KEY_FILE

PORT = 8443
UV_CACHE_FOLDER = "uv-cache"
INDEX_FOLDER = "/skjob/index"
TEMP_FOLDER = "/tmp"  # noqa: S108 - the pod's own
BOOTSTRAP_TIMEOUT = 180
INSTALL_TIMEOUT = 1800
CLIENT_TIMEOUT = 600
_MAX_OUTPUT = 1500


def install_packages(
    requirements: PodRequirements, settings: IndexSettings, index: Path, site: Path, scratch: Path
) -> None:
    """Install the pins into `site`.

    Raises:
        RequirementsError: the installation failed; with uv's output.
    """
    if python_here() != requirements.python:
        raise RequirementsError(f"the image has Python {python_here()}, but this environment has {requirements.python}")
    uv = _uv(requirements.uv, settings, index, scratch)
    requirements_file = scratch / "requirements.txt"
    requirements_file.write_text(requirements_of(requirements.pins))
    command = [
        uv, "pip", "install", "--python", sys.executable, "--target", str(site), "--no-deps", "--only-binary", ":all:",
        "--link-mode", "hardlink", "--compile-bytecode", "--requirement", str(requirements_file),
    ]  # fmt: skip
    variables = settings.uv_variables(index) | {
        "UV_CACHE_DIR": str(site.parent / UV_CACHE_FOLDER),
        "UV_NO_PROGRESS": "1",
    }
    _run(command, variables, INSTALL_TIMEOUT, settings)
    missing = missing_pins(requirements.pins, installed([str(site)]))
    if missing:
        raise RequirementsError(
            f"uv installed other versions than {', '.join(f'{name} {v}' for name, v in missing.items())}"
        )


def _uv(version: str, settings: IndexSettings, index: Path, scratch: Path) -> str:
    """Return the image's own uv, or one installed by pip."""
    path = shutil.which("uv")
    if path:
        return path
    requirement = f"uv=={version}" if version else "uv"
    command = [
        sys.executable, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--no-cache-dir",
        "--only-binary", ":all:", "--target", str(scratch / "uv"), requirement,
    ]  # fmt: skip
    _run(command, settings.pip_variables(index), BOOTSTRAP_TIMEOUT, settings)
    return str(scratch / "uv" / "bin" / "uv")


def _run(command: list[str], variables: dict[str, str], timeout: float, settings: IndexSettings) -> None:
    tool = Path(command[0]).name if command[1] != "-m" else command[2]
    try:
        done = subprocess.run(
            command,
            env=unconfigured(os.environ) | variables,
            timeout=timeout,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RequirementsError(f"{tool} did not finish within {timeout:.0f} s") from error
    except OSError as error:
        raise RequirementsError(f"{tool} cannot be run: {error}") from error
    if done.returncode:
        output = " ".join(settings.redact(done.stderr or done.stdout).split())
        raise RequirementsError(f"{tool} cannot install the environment in the cluster: {output[-_MAX_OUTPUT:]}")


class _Server(http.server.ThreadingHTTPServer):
    """One thread for each connection; the handshake runs in it, so that a slow client does not block the others."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, context: ssl.SSLContext, archives: dict[str, Path], port: int) -> None:
        self.context = context
        self.archives = archives
        super().__init__(("", port), _Handler)

    def finish_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        assert isinstance(request, socket.socket)  # noqa: S101 - the other is UDP's
        request.settimeout(CLIENT_TIMEOUT)
        with self.context.wrap_socket(request, server_side=True) as secured:
            _Handler(secured, client_address, self)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients without a certificate and lost connections; the readiness probe causes them too."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        file = self.server.archives.get(self.path.removeprefix("/"))
        if file is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(file.stat().st_size))
        self.end_headers()
        with file.open("rb") as archive:
            shutil.copyfileobj(archive, self.wfile, 2**20)

    def log_message(self, *_: object) -> None:
        """Log no requests: the log is about the installation."""


def make_server(folder: Path, tls: Path, port: int) -> _Server:
    """Return a server of the archives in a folder, to be run by `serve_forever`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tls / CA_FILE))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tls / CERTIFICATE_FILE, tls / KEY_FILE)
    return _Server(context, {file.name: file for file in folder.iterdir()}, port)


def main() -> None:
    """Install, pack, and serve until Kubernetes ends the process."""
    index, site, scratch = Path(INDEX_FOLDER), Path(SITE_FOLDER) / "packages", Path(TEMP_FOLDER)
    requirements = PodRequirements.read(Path(RUN_FOLDER))
    began = time.monotonic()
    try:
        install_packages(requirements, IndexSettings.from_files(index), index, site, scratch)
    except RequirementsError as error:
        exit_with_error(error)
    done = time.monotonic()
    archives = scratch / "archives"
    archives.mkdir(exist_ok=True)
    sizes = pack_distributions(site, archives)
    report = {
        "distributions": len(requirements.pins),
        "bytes": sum(file.stat().st_size for file in site.rglob("*") if file.is_file()),
        "archive_bytes": sum(sizes.values()),
        "install_seconds": round(done - began, 2),
        "pack_seconds": round(time.monotonic() - done, 2),
    }
    for folder in (site, site.parent / UV_CACHE_FOLDER):  # linked to each other
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(report), flush=True)
    make_server(archives, Path(SERVER_TLS_FOLDER), PORT).serve_forever()


if __name__ == "__main__":
    main()
