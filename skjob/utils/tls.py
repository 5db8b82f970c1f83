"""Make the certificates of one cluster before it starts; nobody outside it has them.

Each cluster has a certificate authority of its own, whose key is discarded after signing the one certificate that
client, scheduler and workers share. Whoever presents a certificate that this authority signed belongs to the cluster;
nobody else can even send it a message. Distributed does not check host names, so the certificate names none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

VALID_FOR = timedelta(days=30)
CLOCK_SKEW = timedelta(hours=1)

CA_FILE, CERTIFICATE_FILE, KEY_FILE = "ca.crt", "tls.crt", "tls.key"


@dataclass(frozen=True)
class Certificates:
    """PEM: the authority's certificate, the cluster's certificate, and its private key."""

    ca: bytes
    certificate: bytes
    key: bytes

    def files(self) -> dict[str, bytes]:
        """Return the contents by the file names of a Kubernetes secret of type `kubernetes.io/tls`."""
        return {CA_FILE: self.ca, CERTIFICATE_FILE: self.certificate, KEY_FILE: self.key}

    def valid_until(self) -> datetime:
        """Return when the cluster's certificate expires, in UTC: nobody can connect with it from then on."""
        from cryptography import x509

        return x509.load_pem_x509_certificate(self.certificate).not_valid_after_utc

    def write(self, folder: Path) -> TlsFiles:
        """Write the certificates into `folder`, readable by this user only."""
        for name, content in self.files().items():
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.fchmod(descriptor, 0o600)  # `os.open` sets the mode of a new file only
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
        return TlsFiles.inside(folder)


@dataclass(frozen=True)
class TlsFiles:
    """The files of a cluster's certificates on this machine."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def inside(cls, folder: Path) -> TlsFiles:
        """Return the files in `folder`, by their usual names."""
        return cls(folder / CA_FILE, folder / CERTIFICATE_FILE, folder / KEY_FILE)

    def dask_config(self) -> dict[str, object]:
        """Return the settings with which a Dask client, scheduler or worker uses them."""
        role = {"cert": str(self.certificate), "key": str(self.key)}
        return {
            "distributed.comm.require-encryption": True,
            "distributed.comm.tls.ca-file": str(self.ca),
            "distributed.comm.tls.scheduler": role,
            "distributed.comm.tls.worker": role,
            "distributed.comm.tls.client": role,
        }

    def security(self) -> Any:
        """Return distributed's `Security` with these files."""
        from distributed import Security

        role = {"cert": str(self.certificate), "key": str(self.key)}
        return Security(
            require_encryption=True,
            tls_ca_file=str(self.ca),
            **{f"tls_{who}_{what}": path for who in ("client", "scheduler", "worker") for what, path in role.items()},
        )


def make_certificates(cluster_name: str) -> Certificates:
    """Make a new authority, and one certificate signed by it, valid for 30 days."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.now(UTC)

    def name(common: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])

    def builder(subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey) -> Any:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(now + VALID_FOR)
        )

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    # The two names must differ: OpenSSL takes a certificate that names itself as issuer for self-signed.
    authority, subject = name(f"ca {cluster_name}"), name(cluster_name)
    ca_usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    ca = (
        builder(authority, authority, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(ca_usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    certificate = (
        builder(subject, authority, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usages, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return Certificates(
        ca.public_bytes(pem),
        certificate.public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
