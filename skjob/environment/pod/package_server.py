"""The pod that keeps an environment in a namespace: installs it once, and gives it to every pod that asks.

No folder of a node may be shared by pods of restricted security, and no index should be asked by each of twenty
workers. So one pod installs, with uv, what the image lacks, compiles it, and serves it, an archive a distribution, to
this run and to later ones with the same needs. It speaks TLS, and only to those who have its certificate.
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
from skjob.environment.pod.archives import pack
from skjob.environment.pod.entrypoint import KEEPER_TLS_FOLDER, RUN_FOLDER, SITE_FOLDER, RequirementsError, end_unfit
from skjob.environment.pod.requirements import PodRequirements, installed, missing_pins, python_here, requirements_of
from skjob.utils.tls import CA_FILE, CERTIFICATE_FILE, KEY_FILE

PORT = 8443
CACHE = "uv-cache"
INDEX_FOLDER = "/skjob/index"
SCRATCH_FOLDER = "/tmp"  # noqa: S108 - the pod's own
BOOTSTRAP_TIMEOUT = 180
INSTALL_TIMEOUT = 1800
ANSWER_TIMEOUT = 600
_SAID = 1500


def install(needs: PodRequirements, settings: IndexSettings, index: Path, site: Path, scratch: Path) -> None:
    """Install the pins into `site`.

    Raises:
        Unfit: that can't be done; with what uv says.
    """
    if python_here() != needs.python:
        raise RequirementsError(f"the image has Python {python_here()}, and this environment has {needs.python}")
    uv = _uv(needs.uv, settings, index, scratch)
    requirements = scratch / "requirements.txt"
    requirements.write_text(requirements_of(needs.pins))
    command = [
        uv, "pip", "install", "--python", sys.executable, "--target", str(site), "--no-deps", "--only-binary", ":all:",
        "--link-mode", "hardlink", "--compile-bytecode", "--requirement", str(requirements),
    ]  # fmt: skip
    variables = settings.uv_variables(index) | {"UV_CACHE_DIR": str(site.parent / CACHE), "UV_NO_PROGRESS": "1"}
    _run(command, variables, INSTALL_TIMEOUT, settings)
    lacking = missing_pins(needs.pins, installed([str(site)]))
    if lacking:
        raise RequirementsError(
            f"uv installed other versions than {', '.join(f'{name} {v}' for name, v in lacking.items())}"
        )


def _uv(version: str, settings: IndexSettings, index: Path, scratch: Path) -> str:
    """The image's own uv, or one that pip brings."""
    found = shutil.which("uv")
    if found:
        return found
    wanted = f"uv=={version}" if version else "uv"
    command = [
        sys.executable, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--no-cache-dir",
        "--only-binary", ":all:", "--target", str(scratch / "uv"), wanted,
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
        raise RequirementsError(f"{tool} was not done after {timeout:.0f} s") from error
    except OSError as error:
        raise RequirementsError(f"{tool} can't be run: {error}") from error
    if done.returncode:
        said = " ".join(settings.redact(done.stderr or done.stdout).split())
        raise RequirementsError(f"{tool} can't install the environment in the cluster: {said[-_SAID:]}")


class _Server(http.server.ThreadingHTTPServer):
    """One thread an asker; the handshake is made in it, so that nobody who is slow there holds up the others."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, context: ssl.SSLContext, archives: dict[str, Path], port: int) -> None:
        self.context = context
        self.archives = archives
        super().__init__(("", port), _Handler)

    def finish_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        assert isinstance(request, socket.socket)  # noqa: S101 - the other is UDP's
        request.settimeout(ANSWER_TIMEOUT)
        with self.context.wrap_socket(request, server_side=True) as secured:
            _Handler(secured, client_address, self)

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever has no certificate, or goes away in the middle, is no news; the readiness probe is one of them."""


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
        """Nothing: the log says how the environment was made."""


def serve(folder: Path, tls: Path, port: int) -> _Server:
    """A server of the archives in a folder, to be run by `serve_forever`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tls / CA_FILE))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tls / CERTIFICATE_FILE, tls / KEY_FILE)
    return _Server(context, {file.name: file for file in folder.iterdir()}, port)


def main() -> None:
    """Install, pack, serve until Kubernetes ends it."""
    index, site, scratch = Path(INDEX_FOLDER), Path(SITE_FOLDER) / "packages", Path(SCRATCH_FOLDER)
    needs = PodRequirements.read(Path(RUN_FOLDER))
    began = time.monotonic()
    try:
        install(needs, IndexSettings.from_files(index), index, site, scratch)
    except RequirementsError as unfit:
        end_unfit(unfit)
    done = time.monotonic()
    archives = scratch / "archives"
    archives.mkdir(exist_ok=True)
    sizes = pack(site, archives)
    told = {
        "distributions": len(needs.pins),
        "bytes": sum(file.stat().st_size for file in site.rglob("*") if file.is_file()),
        "archive_bytes": sum(sizes.values()),
        "install_seconds": round(done - began, 2),
        "pack_seconds": round(time.monotonic() - done, 2),
    }
    for folder in (site, site.parent / CACHE):  # linked to each other
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(told), flush=True)
    serve(archives, Path(KEEPER_TLS_FOLDER), PORT).serve_forever()


if __name__ == "__main__":
    main()
