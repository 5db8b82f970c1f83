"""Availability of pinned packages, checked with the real uv on indexes of these tests, and installation from them."""

import base64
import hashlib
import html
import http.server
import io
import ipaddress
import os
import socket
import ssl
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from uv import find_uv_bin
from waiting import DEADLINE

from skjob.environment.index.availability import ANSWER_TTL, check_pins_available
from skjob.environment.index.discovery import index_settings
from skjob.environment.index.settings import AUTHORITY_FILE, Index, IndexSettings, unconfigured
from skjob.errors import ConfigError, EnvironmentFault

PLATFORM = "x86_64-manylinux_2_36"
USER, PASSWORD = "ann", "s3cr%t/word"
HINT = "`skjob env` shows what would be sent; `--env FILE` installs another set, `--image` starts from another image"

# ------------------------------------------------------------------------------------------------- an index


def _wheel(name: str, version: str, tag: str = "py3-none-any") -> tuple[str, bytes]:
    stem = f"{name}-{version}"
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{stem}.dist-info/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    digests = {path: hashlib.sha256(content.encode()).digest() for path, content in files.items()}
    files[f"{stem}.dist-info/RECORD"] = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')},{len(files[path])}\n"
        for path, digest in digests.items()
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return f"{stem}-{tag}.whl", buffer.getvalue()


def _source(name: str, version: str) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    content = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo(f"{name}-{version}/PKG-INFO")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return f"{name}-{version}.tar.gz", buffer.getvalue()


FILES = dict(
    [
        _wheel("pure", "1.0"),
        _wheel("pure", "2.0"),
        _wheel("native", "1.0", "cp311-cp311-manylinux_2_17_x86_64"),
        _wheel("withdrawn", "1.0"),
        _wheel("patch", "1.0"),
        _wheel("older", "1.0", "cp38-cp38-manylinux_2_17_x86_64"),
        _wheel("newer", "1.0"),
        _wheel("apple", "1.0", "cp311-cp311-macosx_11_0_arm64"),
        _wheel("glibc", "1.0", "cp311-cp311-manylinux_2_40_x86_64"),
        _source("source", "1.0"),
    ]
)
REQUIRES = {"newer": ">=3.13", "patch": ">=3.11.4"}


@dataclass
class PackageIndex:
    """A package index (PEP 503) on this machine. `requests` are the paths of authorized requests."""

    server: http.server.ThreadingHTTPServer
    scheme: str
    credentials: str = ""
    status: int = 0
    fails_next: bool = False
    requests: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}/simple"

    def url_with(self, credentials: str) -> str:
        return f"{self.scheme}://{credentials}@{self.address}/simple"


class _Handler(http.server.BaseHTTPRequestHandler):
    index: PackageIndex

    def do_GET(self) -> None:
        expected = "Basic " + base64.b64encode(self.index.credentials.encode()).decode()
        if self.index.credentials and self.headers.get("Authorization") != expected:
            self._answer(401, b"", {"WWW-Authenticate": "Basic realm=index"})
        elif self.index.status:
            self._answer(self.index.status, b"")
        else:
            self.index.requests.append(self.path)
            if self.index.fails_next:
                self.index.status = 503
            content = self._content(*self.path.strip("/").split("/"))
            self._answer(200 if content else 404, content or b"")

    def _content(self, kind: str, name: str = "", *_: str) -> bytes | None:
        if kind == "files":
            return FILES.get(name)
        files = FILES if kind == "flat" else [file for file in FILES if file.startswith(f"{name}-")]
        links = [
            f'<a href="/files/{file}"{" data-yanked=broken" if name == "withdrawn" else ""}'
            f' data-requires-python="{html.escape(REQUIRES.get(name, ""))}">{file}</a>'
            for file in files
        ]
        return f"<html><body>{''.join(links)}</body></html>".encode() if links else None

    def _answer(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        kind = "text/html" if content.startswith(b"<html>") else "application/octet-stream"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Ignore clients that disconnect or do not trust the certificate, as in some of these tests."""


Start = Callable[..., PackageIndex]


@pytest.fixture
def start_index() -> Iterator[Start]:
    """Starts an index with these `credentials`, this TLS `context`, and this `status` of all responses."""
    servers = []

    def start(credentials: str = "", status: int = 0, context: ssl.SSLContext | None = None) -> PackageIndex:
        handler = type("Handler", (_Handler,), {})
        server = _Server(("127.0.0.1", 0), handler)
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        handler.index = PackageIndex(server, "https" if context else "http", credentials, status)  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        servers.append((server, thread))
        return handler.index  # type: ignore[attr-defined, no-any-return]

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join(DEADLINE)


@dataclass(frozen=True)
class Tls:
    context: ssl.SSLContext
    authority: Path


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """A TLS context for a server at 127.0.0.1, and the certificate authority that signed it."""
    folder = tmp_path_factory.mktemp("tls")
    now = datetime.now(UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def named(common: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])

    def builder(subject: str, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return x509.CertificateBuilder(
            named("a company's authority"), named(subject), public_key, x509.random_serial_number(),
            now - timedelta(hours=1), now + timedelta(days=1),
        )  # fmt: skip

    ca = (
        builder("a company's authority", ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        builder("the index", key.public_key())
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem")
    return Tls(context, folder / "ca.pem")


@pytest.fixture(autouse=True)
def uv_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache for each test, as uv caches by an index's address and ports are reused. Disables retries as well."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")


def _only(url: str) -> IndexSettings:
    return IndexSettings(indexes=(Index(url, default=True),))


def _fault(pins: Mapping[str, str], settings: IndexSettings, deadline: float = 60) -> EnvironmentFault:
    with pytest.raises(EnvironmentFault) as caught:
        check_pins_available(pins, "3.11", PLATFORM, settings, None, deadline)
    assert caught.value.exit_code == 120
    assert caught.value.hint == HINT
    return caught.value


# ------------------------------------------------------------------------------------------------- available packages


def test_available_packages(start_index: Start) -> None:
    pins = {"pure": "1.0", "native": "1.0", "withdrawn": "1.0", "patch": "1.0"}
    check_pins_available(pins, "3.11", PLATFORM, _only(start_index().url), None)


def test_no_pins_need_no_index() -> None:
    check_pins_available({}, "3.11", PLATFORM, _only("http://127.0.0.1:1/simple"), None)


NOT_ON_AN_INDEX = "add its index to the settings of uv or pip, or leave it out"
IS_WITHDRAWN = "it may have been withdrawn, or come from another index: install one that exists"
IS_FOR_ANOTHER_PYTHON = "install a version that has wheels for this Python"
IS_FOR_ANOTHER_SYSTEM = "install a version that has wheels for pods too"
ON_PODS = f"pods run on `{PLATFORM}`"
IS_SOURCE = "install a version that has wheels, or build one and publish it on your own index"


@pytest.mark.parametrize(
    ("pin", "problem", "advice"),
    [
        ("absent==1.0", "no configured index has `absent`", NOT_ON_AN_INDEX),
        ("pure==3.0", "the index has `pure`, but not this version", IS_WITHDRAWN),
        ("older==1.0", "its wheels are for `cp38`, but pods have Python 3.11", IS_FOR_ANOTHER_PYTHON),
        ("newer==1.0", "it is for Python>=3.13, but pods have 3.11", "install a version for this Python"),
        ("apple==1.0", f"its wheels are for `macosx_11_0_arm64`, but {ON_PODS}", IS_FOR_ANOTHER_SYSTEM),
        ("glibc==1.0", f"its wheels are for `manylinux_2_40_x86_64`, but {ON_PODS}", IS_FOR_ANOTHER_SYSTEM),
        ("source==1.0", "the index has only its source, but pods have no compiler", IS_SOURCE),
    ],
)  # fmt: skip
def test_unavailable_package(start_index: Start, pin: str, problem: str, advice: str) -> None:
    name, _, version = pin.partition("==")
    assert _fault({"pure": "1.0", name: version}, _only(start_index().url)).message == f"`{pin}`: {problem}; {advice}"


@pytest.mark.parametrize("columns", ["40", "100"])
def test_message_does_not_depend_on_the_terminal_width(
    start_index: Start, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    message = _fault({"newer": "1.0", "older": "1.0", "pure": "3.0"}, _only(start_index().url)).message
    assert [line.partition(": ")[2].partition(";")[0] for line in message.splitlines()[1:]] == [
        "it is for Python>=3.13, but pods have 3.11",
        "its wheels are for `cp38`, but pods have Python 3.11",
        "the index has `pure`, but not this version",
    ]


def test_invalid_version(start_index: Start) -> None:
    message = _fault({"pure": "1.0", "odd": "one"}, _only(start_index().url)).message
    assert message.startswith("`odd==one`: uv cannot install it: ")


def test_all_unavailable_packages_are_reported_at_once(start_index: Start) -> None:
    bad = {"absent": "1.0", "apple": "1.0", "newer": "1.0", "older": "1.0", "pure": "3.0", "source": "1.0"}
    message = _fault({**bad, "native": "1.0", "patch": "1.0", "withdrawn": "1.0"}, _only(start_index().url)).message
    first, *lines = message.splitlines()
    assert first == "6 problems:"
    assert [line.partition(":")[0] for line in lines] == [f"  - `{name}=={v}`" for name, v in sorted(bad.items())]


def test_package_only_in_a_local_folder(start_index: Start, tmp_path: Path) -> None:
    name, content = _wheel("hand_made", "1.0")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / name).write_bytes(content)
    environ = {"PIP_INDEX_URL": start_index().url, "PIP_FIND_LINKS": str(wheels), "HOME": str(tmp_path)}
    settings = index_settings(environ, tmp_path, [], [])
    assert settings.notes() == [f"`{wheels}` is on this machine only: pods cannot install from it"]
    assert _fault({"hand-made": "1.0"}, settings).message == (
        f"`hand-made==1.0`: it is in `{wheels}`, on this machine only, where pods cannot reach it; "
        "publish it on an index, or put it into an image"
    )


def test_find_links_page(start_index: Start) -> None:
    index = start_index()
    page = f"http://{index.address}/flat"
    check_pins_available({"pure": "1.0"}, "3.11", PLATFORM, IndexSettings(find_links=(page,), no_index=True), None)
    assert index.requests == ["/flat"]


# ------------------------------------------------------------------------------------------------- failing indexes


def _closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize(
    ("credentials", "refused"),
    [
        ("", "access without credentials"),
        ("ann:wr0ng-word", "these credentials"),
        ("a-long-token-of-hers", "these credentials"),
    ],
)
def test_rejected_credentials(start_index: Start, credentials: str, refused: str) -> None:
    index = start_index(f"{USER}:{PASSWORD}")
    error = _fault({"pure": "1.0"}, _only(index.url_with(credentials) if credentials else index.url))
    assert error.message == (
        f"the index `{index.url}` rejects {refused}; pods get those of its address, of netrc, or of "
        "`UV_INDEX_<NAME>_PASSWORD`; keyrings are not sent"
    )
    assert not any(word in str(error) for word in ("wr0ng-word", "a-long-token-of-hers", PASSWORD))


def test_index_responds_forbidden(start_index: Start) -> None:
    index = start_index(status=403)
    message = _fault({"pure": "1.0"}, _only(index.url)).message
    assert message.startswith(f"the index `{index.url}` rejects access without credentials; ")


def test_index_responds_with_a_server_error(start_index: Start) -> None:
    index = start_index(status=503)
    assert _fault({"pure": "1.0"}, _only(index.url_with(f"{USER}:pw-of-ann"))).message == (
        f"the index `{index.url}` answers 503 Service Unavailable; check its address"
    )


def test_untrusted_certificate(start_index: Start, tls: Tls) -> None:
    index = start_index(context=tls.context)
    assert _fault({"pure": "1.0"}, _only(index.url)).message == (
        f"the index `{index.url}` has a certificate that is not trusted; "
        "name the certificate authority with `SSL_CERT_FILE`"
    )


def test_index_refuses_the_connection() -> None:
    url = f"http://127.0.0.1:{_closed_port()}/simple"
    message = _fault({"pure": "1.0"}, _only(url)).message
    assert message == f"the index `{url}` refuses the connection; check that it runs, and its address"


def test_unknown_host() -> None:
    message = _fault({"pure": "1.0"}, _only("https://index.invalid/simple")).message
    assert message == "the index `https://index.invalid/simple` has an unknown host name; fix its address"


def test_index_does_not_respond() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        message = _fault({"pure": "1.0"}, _only(url), deadline=2).message
    assert message == (
        f"the index `{url}` does not answer; check that it runs; a company's network may need `HTTPS_PROXY`"
    )


def test_index_fails_during_the_check(start_index: Start) -> None:
    index = start_index()
    index.fails_next = True
    assert _fault({"absent": "1.0"}, _only(index.url)).message == (
        "1 more could not be checked: the index answers 503 Service Unavailable; check its address"
    )


def test_all_failing_indexes_are_reported_at_once(start_index: Start, tls: Tls) -> None:
    closed = f"http://127.0.0.1:{_closed_port()}/simple"
    private, untrusted, fine = start_index(f"{USER}:{PASSWORD}"), start_index(context=tls.context), start_index()
    indexes = (Index(private.url, "corp"), Index(untrusted.url), Index(fine.url), Index(closed, default=True))
    page = f"http://127.0.0.1:{_closed_port()}/wheels"
    message = _fault({"absent": "1.0"}, IndexSettings(indexes=indexes, find_links=(page,))).message
    reported = [line.split("`")[1] for line in message.splitlines()[1:]]
    assert reported == [private.url, untrusted.url, closed, page]


# ------------------------------------------------------------------------------------------------- the cache


def test_available_packages_are_cached(start_index: Start, tmp_path: Path) -> None:
    index = start_index(f"{USER}:{PASSWORD}")
    settings = _only(index.url_with("ann:s3cr%25t%2Fword"))
    cache = tmp_path / "cache"
    pins = {"pure": "1.0"}
    check_pins_available(pins, "3.11", PLATFORM, settings, cache)
    files = [file for file in cache.rglob("*") if file.is_file()]
    assert [file.read_bytes() for file in files] == [b""]

    index.status = 503
    check_pins_available(pins, "3.11", PLATFORM, settings, cache)
    check_pins_available(pins, "3.11", PLATFORM, _only(index.url_with("ann:changed-since")), cache)
    for other in (
        ({"pure": "2.0"}, "3.11", PLATFORM, settings),
        (pins, "3.12", PLATFORM, settings),
        (pins, "3.11", "aarch64-manylinux_2_36", settings),
        (pins, "3.11", PLATFORM, _only(index.url_with("ann:s3cr%25t%2Fword") + "/")),
    ):
        with pytest.raises(EnvironmentFault, match="503"):
            check_pins_available(*other, cache)

    long_ago = time.time() - ANSWER_TTL - 1
    os.utime(files[0], (long_ago, long_ago))
    with pytest.raises(EnvironmentFault, match="503"):
        check_pins_available(pins, "3.11", PLATFORM, settings, cache)
    index.status = 0
    check_pins_available({"pure": "2.0"}, "3.11", PLATFORM, settings, cache)
    assert not files[0].exists()  # it was expired


def test_unwritable_cache_is_ignored(start_index: Start, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_pins_available({"pure": "1.0"}, "3.11", PLATFORM, _only(start_index().url), tmp_path / "file")


# ------------------------------------------------------------------------------------------------- installation in pods


@pytest.fixture
def private(start_index: Start, tls: Tls) -> PackageIndex:
    """An index that requires credentials, with a certificate of a private authority."""
    return start_index(f"{USER}:{PASSWORD}", context=tls.context)


def _sources(index: PackageIndex, tls: Tls, home: Path) -> dict[str, dict[str, str]]:
    """Return the configurations of uv and pip for this index; write the files that they need."""
    home.mkdir(exist_ok=True)
    (home / "netrc").write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    url = index.url_with("ann:s3cr%25t%2Fword")
    trust = {"HOME": str(home), "SSL_CERT_FILE": str(tls.authority)}
    named = {"UV_INDEX_CORP_USERNAME": USER, "UV_INDEX_CORP_PASSWORD": PASSWORD}
    return {
        "uv, address": {"UV_DEFAULT_INDEX": url, **trust},
        "uv, named": {"UV_DEFAULT_INDEX": f"corp={index.url}", **named, **trust},
        "netrc": {"UV_DEFAULT_INDEX": index.url, "NETRC": str(home / "netrc"), **trust},
        "pip": {"PIP_INDEX_URL": url, "PIP_CERT": str(tls.authority), "HOME": str(home)},
        "folder": {"PIP_INDEX_URL": url, "SSL_CERT_DIR": str(tls.authority.parent), "HOME": str(home)},
    }


@pytest.mark.parametrize("tool", ["uv", "pip"])
@pytest.mark.parametrize("source", ["uv, address", "uv, named", "netrc", "pip", "folder"])
def test_installed_in_a_pod_from_a_private_index(
    private: PackageIndex, tls: Tls, tmp_path: Path, source: str, tool: str
) -> None:
    """Install as pods do: from the Secret's files, without the variables of uv and pip."""
    local_settings = index_settings(_sources(private, tls, tmp_path / "home")[source], tmp_path, [], [])
    check_pins_available({"pure": "1.0"}, "3.11", PLATFORM, local_settings, None)

    mounted = tmp_path / "mounted"
    mounted.mkdir()
    for name, content in local_settings.files().items():
        (mounted / name).write_bytes(content)
    settings = IndexSettings.from_files(mounted)
    assert settings == local_settings
    assert tls.authority.read_bytes() in (mounted / AUTHORITY_FILE).read_bytes()

    target = tmp_path / "target"
    if tool == "uv":
        command = [find_uv_bin(), "pip", "install", "--python", sys.executable, "--no-deps"]
        variables = settings.uv_variables(mounted)
    else:
        command = [sys.executable, "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check"]
        variables = settings.pip_variables(mounted)
    environ = {**unconfigured(os.environ), "HOME": str(tmp_path / "nowhere"), **variables}
    command += ["--target", str(target), "pure==1.0"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, settings.redact(done.stderr)
    assert (target / "pure.py").read_text() == "version = '1.0'\n"


def test_all_indexes_of_pip_are_used_and_only_the_first_of_uv(start_index: Start, tmp_path: Path) -> None:
    """With pip's settings, a pod's uv uses all indexes; with uv's settings, only the first that has a package."""
    one, other = start_index(), start_index()
    environ = {"HOME": str(tmp_path)}
    pip = index_settings(environ | {"PIP_INDEX_URL": one.url, "PIP_EXTRA_INDEX_URL": other.url}, tmp_path, [], [])
    check_pins_available({"pure": "1.0"}, "3.11", PLATFORM, pip, None)
    assert (one.requests, other.requests) == (["/simple/pure/"], ["/simple/pure/"])
    uv = index_settings(environ | {"UV_DEFAULT_INDEX": one.url + "/", "UV_INDEX": other.url + "/"}, tmp_path, [], [])
    check_pins_available({"pure": "1.0"}, "3.11", PLATFORM, uv, None)
    assert (one.requests[1:], other.requests[1:]) == ([], ["/simple/pure/"])


def test_local_variables_and_files_do_not_affect_the_check(
    start_index: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check uses the same settings as pods, whatever the local variables and files are."""
    index = start_index()
    (tmp_path / "uv.toml").write_text("no-index = true\n")
    monkeypatch.chdir(tmp_path)
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{_closed_port()}/")
    check_pins_available({"pure": "1.0"}, "3.11", PLATFORM, _only(index.url), None)
    assert index.requests == ["/simple/pure/"]


def test_environment_fault_is_a_config_error() -> None:
    assert issubclass(EnvironmentFault, ConfigError)
