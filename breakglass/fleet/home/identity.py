# SPDX-License-Identifier: Apache-2.0
"""TLS identities: an offline CA, and the certificates that it issues to nodes and couriers.

Rules:

- TLS encrypts, and identifies the courier and the node; it gives no authority (P2).
- Keys are P-256, because gRPC's TLS does not handshake with Ed25519 certificates.
- Leaf certificates have critical KeyUsage digitalSignature and CA:FALSE.  Without both, the owner
  of a leaf's key could issue a certificate that a peer pinned to that leaf would accept.
- An expired date must never lock people out.  Certificates are valid from 1970, because a node that
  lost its clock starts there and must still be able to tell its time, and for ten years ahead.  A
  courier is revoked by removing it from the trust, a node by removing it from the inventory.
- Names end in .invalid, which no resolver ever answers (RFC 6761).
"""

import hashlib
import ipaddress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from breakglass.errors import ConfigInvalid

VALID_FROM = datetime(1970, 1, 1, tzinfo=UTC)
VALID_FOR = timedelta(days=3_653)
DNS_SUFFIX = "breakglass.invalid"
MAX_COMMON_NAME_CHARS = 64  # RFC 5280, appendix A.1: ub-common-name


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsIdentity:
    """A private key and its certificate, both in PEM."""

    key: bytes = field(repr=False)
    certificate: bytes


def make_ca(domain: str, *, now: datetime) -> TlsIdentity:
    """Return a new CA for a domain; it can sign leaf certificates but no further CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"breakglass CA {domain}")
    certificate = (
        _builder(name, name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _identity(key, certificate)


def make_courier(ca: TlsIdentity, name: str, *, now: datetime) -> TlsIdentity:
    """Return a new TLS client identity."""
    return _leaf(ca, f"courier {name}", (), ExtendedKeyUsageOID.CLIENT_AUTH, now)


def make_node(ca: TlsIdentity, *, node: str, cluster: str, ip: str, now: datetime) -> TlsIdentity:
    """Return a new TLS server identity for a node, for its `server_name` and its IP address."""
    names = (
        x509.DNSName(server_name(node=node, cluster=cluster)),
        x509.IPAddress(ipaddress.ip_address(ip)),
    )
    return _leaf(ca, f"node {node}", names, ExtendedKeyUsageOID.SERVER_AUTH, now)


def server_name(*, node: str, cluster: str) -> str:
    """Return the name that a client requires in a node's certificate, whatever its address is."""
    return f"{node}.{cluster}.{DNS_SUFFIX}"


def spki_sha256(certificate: bytes) -> str:
    """Return the SHA-256 of a certificate's public key (SPKI), by which a trust lists a courier.

    Raises:
        ConfigInvalid: the bytes are not a certificate in PEM.
    """
    try:
        public_key = x509.load_pem_x509_certificate(certificate).public_key()
    except ValueError as error:
        raise ConfigInvalid("expected a certificate in PEM, got something else") from error
    spki = public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).hexdigest()


def _leaf(
    ca: TlsIdentity,
    name: str,
    alternatives: tuple[x509.GeneralName, ...],
    purpose: x509.ObjectIdentifier,
    now: datetime,
) -> TlsIdentity:
    ca_key = serialization.load_pem_private_key(ca.key, password=None)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise ConfigInvalid("expected the CA's P-256 key, got another kind of key")
    ca_certificate = x509.load_pem_x509_certificate(ca.certificate)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(_name(name), ca_certificate.subject, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return _identity(key, builder.sign(ca_key, hashes.SHA256()))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:MAX_COMMON_NAME_CHARS])])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(VALID_FROM)
        .not_valid_after(now + VALID_FOR)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _identity(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> TlsIdentity:
    return TlsIdentity(
        key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
    )
