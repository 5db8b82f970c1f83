"""Who belongs to a cluster: two peers that shake hands in memory, with the certificates they have."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from skjob.utils.tls import CLOCK_SKEW, VALID_FOR, TlsFiles, make_certificates


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return make_certificates("skjob-train-3f9a1c").write(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """Another cluster of the same name: what counts is who signed, not what is written in it."""
    return make_certificates("skjob-train-3f9a1c").write(tmp_path_factory.mktemp("others"))


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> bytes:
    """What arrives of a greeting, each way, after a handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_side=False),
    ]
    waiting = list(ends)
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                continue
    assert not waiting
    ends[1].write(b"hello")
    received = ends[0].read()
    ends[0].write(received)
    # With TLS 1.3 a client hears here, and not in the handshake, that its certificate was refused.
    return ends[1].read()


def _context(files: TlsFiles, role: str) -> ssl.SSLContext:
    """As distributed makes it."""
    security = files.security()
    arguments = security.get_listen_args("scheduler") if role == "scheduler" else security.get_connection_args("client")
    context = arguments["ssl_context"]
    assert isinstance(context, ssl.SSLContext)
    return context


def test_peers_of_one_cluster_talk(ours: TlsFiles) -> None:
    assert _handshake(_context(ours, "scheduler"), _context(ours, "client")) == b"hello"


def test_a_client_of_another_cluster_is_refused(ours: TlsFiles, others: TlsFiles) -> None:
    client = _context(others, "client")
    client.load_verify_locations(ours.ca)  # it would even trust our scheduler
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate verify failed|unknown ca"):
        _handshake(_context(ours, "scheduler"), client)


def test_a_scheduler_of_another_cluster_is_refused(ours: TlsFiles, others: TlsFiles) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        _handshake(_context(others, "scheduler"), _context(ours, "client"))


def test_a_client_without_a_certificate_is_refused(ours: TlsFiles) -> None:
    client = ssl.create_default_context(cafile=str(ours.ca))
    client.check_hostname = False
    with pytest.raises(ssl.SSLError, match=r"(?i)peer did not return a certificate"):
        _handshake(_context(ours, "scheduler"), client)


def test_the_cluster_certificate_signs_nobody_else(ours: TlsFiles) -> None:
    """Who has a worker's key cannot let others in."""
    certificate = x509.load_pem_x509_certificate(ours.certificate.read_bytes())
    authority = x509.load_pem_x509_certificate(ours.ca.read_bytes())
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, 0)
    assert certificate.issuer == authority.subject != certificate.subject


def test_valid_for_a_month_and_for_clocks_that_differ(ours: TlsFiles) -> None:
    now = datetime.now(UTC)
    for file in (ours.ca, ours.certificate):
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        assert certificate.not_valid_before_utc <= now - CLOCK_SKEW + timedelta(minutes=5)
        assert abs(certificate.not_valid_after_utc - now - VALID_FOR) < timedelta(minutes=5)


@pytest.mark.parametrize("name", ["a", "skjob-" + "a" * 57, "x" * 200])
def test_any_name(name: str, tmp_path: Path) -> None:
    files = make_certificates(name).write(tmp_path)
    assert _handshake(_context(files, "scheduler"), _context(files, "client")) == b"hello"


def test_files_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    certificates = make_certificates("c")
    files = certificates.write(tmp_path)
    assert files == TlsFiles(tmp_path / "ca.crt", tmp_path / "tls.crt", tmp_path / "tls.key")
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "ca.crt": 0o600,
        "tls.crt": 0o600,
        "tls.key": 0o600,
    }
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == certificates.files()


def test_a_file_that_others_could_read_does_not_stay_so(tmp_path: Path) -> None:
    old = tmp_path / "tls.key"
    old.write_text("an older and longer file" * 1000)
    old.chmod(0o644)
    certificates = make_certificates("c")
    certificates.write(tmp_path)
    assert (old.stat().st_mode & 0o777, old.read_bytes()) == (0o600, certificates.key)


def test_each_cluster_has_keys_of_its_own() -> None:
    first, second = make_certificates("c"), make_certificates("c")
    assert not set(first.files().values()) & set(second.files().values())


def test_dask_is_told_to_refuse_anything_else() -> None:
    files = TlsFiles.inside(Path("/f"))
    role = {"cert": "/f/tls.crt", "key": "/f/tls.key"}
    assert files.dask_config() == {
        "distributed.comm.require-encryption": True,
        "distributed.comm.tls.ca-file": "/f/ca.crt",
        "distributed.comm.tls.scheduler": role,
        "distributed.comm.tls.worker": role,
        "distributed.comm.tls.client": role,
    }
