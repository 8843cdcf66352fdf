"""Certificates of an authority that nobody trusts unless a test says so."""

import datetime as dt
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TODAY = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


@dataclass
class Authority:
    """Issues certificates; its own is in `file`."""

    file: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def server(self, name: str = "127.0.0.1", *, ended: bool = False) -> ssl.SSLContext:
        """A server that shows a certificate for a name or address; ended: of yesterday."""
        key = ec.generate_private_key(ec.SECP256R1())
        start, end = (TODAY - 3 * DAY, TODAY - DAY) if ended else (TODAY - DAY, TODAY + DAY)
        subject = x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
        certificate = (
            _builder("server", self.certificate.subject, key, start, end)
            .add_extension(x509.SubjectAlternativeName([subject]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return _context(self.file.with_name(f"{name}-{ended}.pem"), key, certificate)

    def self_signed(self) -> ssl.SSLContext:
        """A server that shows a certificate nobody has signed for it."""
        return Authority.new(self.file.with_name("self-signed.pem"))._as_server()

    def _as_server(self) -> ssl.SSLContext:
        return _context(self.file.with_name("self-signed-both.pem"), self.key, self.certificate)

    @classmethod
    def new(cls, file: Path) -> "Authority":
        """A new authority, valid for 127.0.0.1 itself too."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority for tests")])
        certificate = (
            _builder("an authority for tests", name, key, TODAY - DAY, TODAY + DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .sign(key, hashes.SHA256())
        )
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return cls(file, key, certificate)


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, start: dt.datetime, end: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _context(file: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> ssl.SSLContext:
    pem = serialization.Encoding.PEM
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(plain + certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context
