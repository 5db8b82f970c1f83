"""Forge certificates that are similar to a run's own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from skjob.utils.tls import make_certificates

FORGED = {
    "no certificate": "",
    "that of another cluster": "another",
    "one of another authority of the same name": "namesake",
    "an expired one that its authority signed": "expired",
    "a self-signed one of the same name": "self-made",
}


def forge(folder: Path, secret: dict[str, bytes], authority_key: bytes) -> None:
    """Write forged certificates, one per folder, and the run's own."""
    authority = x509.load_pem_x509_certificate(secret["ca.crt"])
    genuine = x509.load_pem_x509_certificate(secret["tls.crt"])
    key = serialization.load_pem_private_key(authority_key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == authority.public_key()
    hour, other = timedelta(hours=1), ec.generate_private_key(ec.SECP256R1())
    _write(folder / "namesake", authority.subject, genuine.subject, other, hour)
    _write(folder / "expired", authority.subject, genuine.subject, key, -hour)
    _write(folder / "self-made", genuine.subject, genuine.subject, None, hour)
    for name, files in (("own", secret), ("another", make_certificates("another").files())):
        folder.joinpath(name).mkdir()
        for file, content in files.items():
            folder.joinpath(name, file).write_bytes(content)


def _write(
    folder: Path, issuer: x509.Name, subject: x509.Name, signer: ec.EllipticCurvePrivateKey | None, valid: timedelta
) -> None:
    folder.mkdir()
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + valid)
        .sign(signer or key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "tls.crt").write_bytes(certificate.public_bytes(pem))
    content = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "tls.key").write_bytes(content)
