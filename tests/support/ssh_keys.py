# SPDX-License-Identifier: Apache-2.0
"""Keys that sign as OpenSSH does, the same in every run; written apart from the code under test.

The layouts are those of OpenSSH's PROTOCOL.sshsig, PROTOCOL.u2f and RFC 5656.  Nothing here is
secret: a reader of the seed has the key.
"""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

_CURVES: dict[int, tuple[ec.EllipticCurve, hashes.HashAlgorithm]] = {
    256: (ec.SECP256R1(), hashes.SHA256()),
    384: (ec.SECP384R1(), hashes.SHA384()),
    521: (ec.SECP521R1(), hashes.SHA512()),
}


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """A private key: its public blob, and how it signs."""

    kind: str
    blob: bytes
    sign_bytes: Callable[[bytes], bytes] = field(repr=False)
    private: Ed25519PrivateKey | ec.EllipticCurvePrivateKey | None = field(default=None, repr=False)

    @property
    def line(self) -> str:
        """The public key as "type base64"."""
        return f"{self.kind} {base64.b64encode(self.blob).decode()}"

    @property
    def openssh(self) -> bytes:
        """The private key as a file that ssh-keygen reads; security keys have none."""
        if self.private is None:
            raise ValueError("a security key has no file")
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())

    def sign(self, message: bytes, *, namespace: str, hash_name: str = "sha512") -> bytes:
        """Return the armored SSHSIG of this key over `message`."""
        tail = text(b"") + text(hash_name.encode())
        digest = hashlib.new(hash_name, message).digest()
        signed = b"SSHSIG" + text(namespace.encode()) + tail + text(digest)
        blob = b"SSHSIG" + number(1) + text(self.blob) + text(namespace.encode()) + tail
        return armored(blob + text(self.sign_bytes(signed)))


def text(raw: bytes) -> bytes:
    """Return an SSH string."""
    return number(len(raw)) + raw


def number(value: int) -> bytes:
    """Return an SSH uint32."""
    return value.to_bytes(4, "big")


def armored(blob: bytes) -> bytes:
    """Return the armor that ssh-keygen writes around a signature."""
    coded = base64.b64encode(blob)
    lines = [coded[at : at + 70] for at in range(0, len(coded), 70)]
    ends = b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----"
    return b"\n".join((ends[0], *lines, ends[1], b""))


def ed25519(seed: str) -> SigningKey:
    """Return the Ed25519 key of a seed."""
    kind = "ssh-ed25519"
    private = _ed25519(seed)
    return SigningKey(
        kind=kind,
        blob=text(kind.encode()) + text(_raw_public(private)),
        sign_bytes=lambda signed: text(kind.encode()) + text(private.sign(signed)),
        private=private,
    )


def ecdsa(seed: str, bits: int = 256) -> SigningKey:
    """Return the ECDSA key of a seed on the NIST curve of that many bits."""
    kind = f"ecdsa-sha2-nistp{bits}"
    curve, digest = _CURVES[bits]
    scalar = int.from_bytes(hashlib.sha256(seed.encode()).digest(), "big") >> 1
    private = ec.derive_private_key(scalar, curve)
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def sign_bytes(signed: bytes) -> bytes:
        coded = private.sign(signed, ec.ECDSA(digest, deterministic_signing=True))
        numbers = b"".join(_positive(one) for one in utils.decode_dss_signature(coded))
        return text(kind.encode()) + text(numbers)

    return SigningKey(
        kind=kind,
        blob=text(kind.encode()) + text(f"nistp{bits}".encode()) + text(point),
        sign_bytes=sign_bytes,
        private=private,
    )


def security_key(seed: str, *, flags: int = 1, application: str = "ssh:") -> SigningKey:
    """Return an Ed25519 security key; `flags` is 1 for a touch, 5 for touch and PIN, 0 for none."""
    kind = "sk-ssh-ed25519@openssh.com"
    private = _ed25519(seed)
    counter = 7

    def sign_bytes(signed: bytes) -> bytes:
        said = bytes([flags]) + number(counter)
        asserted = hashlib.sha256(application.encode()).digest() + said
        signature = private.sign(asserted + hashlib.sha256(signed).digest())
        return text(kind.encode()) + text(signature) + said

    blob = text(kind.encode()) + text(_raw_public(private)) + text(application.encode())
    return SigningKey(kind=kind, blob=blob, sign_bytes=sign_bytes)


def _ed25519(seed: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed.encode()).digest())


def _raw_public(private: Ed25519PrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _positive(value: int) -> bytes:
    """Return an SSH mpint."""
    return text(value.to_bytes(value.bit_length() // 8 + 1, "big"))
