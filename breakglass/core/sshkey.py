# SPDX-License-Identifier: Apache-2.0
"""Parse SSH public keys under a strict profile, and verify signatures with them.

`cryptography` can load OpenSSH keys, but drops the fields of a security key.  So this module parses
the blob (RFC 4253 section 6.6, RFC 5656 section 3.1, RFC 8709 section 4, OpenSSH PROTOCOL.u2f) and
uses the library for the arithmetic only.  Refused: certificates, DSA, RSA below 3072 bits or with a
small exponent, compressed points, unsound Ed25519 points (`edwards`), FIDO applications that do not
start with `ssh:`, and surplus bytes.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from breakglass.core import bounds
from breakglass.core.edwards import POINT_BYTES, is_sound_point
from breakglass.core.names import quoted
from breakglass.core.wire import WireReader
from breakglass.errors import BadSignature, Malformed

PublicKey: TypeAlias = Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey

ED25519 = "ssh-ed25519"
RSA = "ssh-rsa"
SK_ED25519 = "sk-ssh-ed25519@openssh.com"
SK_ECDSA = "sk-ecdsa-sha2-nistp256@openssh.com"
_CURVES: dict[str, tuple[ec.EllipticCurve, hashes.HashAlgorithm]] = {
    "nistp256": (ec.SECP256R1(), hashes.SHA256()),
    "nistp384": (ec.SECP384R1(), hashes.SHA384()),
    "nistp521": (ec.SECP521R1(), hashes.SHA512()),
}
_ECDSA = {f"ecdsa-sha2-{curve}": curve for curve in _CURVES} | {SK_ECDSA: "nistp256"}
_RSA_HASHES = {"rsa-sha2-256": hashes.SHA256(), "rsa-sha2-512": hashes.SHA512()}
RSA_ALGORITHMS = frozenset(_RSA_HASHES)  # SHA-1's "ssh-rsa" is not among them
SK_KINDS = frozenset({SK_ED25519, SK_ECDSA})
KINDS = frozenset({ED25519, RSA, SK_ED25519, *_ECDSA})
_CERTIFICATE = "-cert-v"
_MIN_RSA_EXPONENT = 65_537
_MAX_RSA_EXPONENT_BITS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SshKey:
    """A public key; only `parse_key_blob` makes one.

    Attributes:
        kind: its type, as in the blob.
        blob: the exact bytes; keys are compared by them.
        material: the raw key without type and application.  A key that is listed under two types
            has one material.
        application: a security key's FIDO application, "" for others.
    """

    kind: str
    blob: bytes
    material: bytes = field(repr=False, compare=False)
    public: PublicKey = field(repr=False, compare=False)
    application: str = field(default="", compare=False)

    @property
    def is_sk(self) -> bool:
        """Whether the private key is in a security key."""
        return self.kind in SK_KINDS

    @property
    def line(self) -> str:
        """The key as "type base64", as in a trust."""
        return f"{self.kind} {base64.b64encode(self.blob).decode()}"

    @property
    def fingerprint(self) -> str:
        """The fingerprint that ssh-keygen prints."""
        return fingerprint(self.blob)

    @property
    def algorithms(self) -> frozenset[str]:
        """The signature algorithms that this key may use; the signature cannot choose others."""
        return RSA_ALGORITHMS if self.kind == RSA else frozenset({self.kind})

    def verify(self, algorithm: str, raw_signature: bytes, message: bytes) -> None:
        """Raise `BadSignature` unless `raw_signature` is this key's over `message`."""
        try:
            self._verify(algorithm, raw_signature, message)
        except (InvalidSignature, Malformed, ValueError) as error:
            raise BadSignature(
                f"expected a valid signature of {self.fingerprint}, got one that does not verify",
                code="signature-invalid",
            ) from error

    def _verify(self, algorithm: str, raw_signature: bytes, message: bytes) -> None:
        public = self.public
        if isinstance(public, Ed25519PublicKey):
            public.verify(raw_signature, message)
        elif isinstance(public, rsa.RSAPublicKey):
            size = (public.key_size + 7) // 8
            # Some SSH agents omit leading zeros; OpenSSH restores them (ssh-rsa.c).
            padded = raw_signature.rjust(size, b"\0")
            public.verify(padded, message, padding.PKCS1v15(), _RSA_HASHES[algorithm])
        else:
            reader = WireReader(raw_signature, "an ECDSA signature")
            r, s = reader.integer(), reader.integer()
            reader.finish()
            digest = _CURVES[_ECDSA[self.kind]][1]
            public.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(digest))


def fingerprint(blob: bytes) -> str:
    """Return the fingerprint of a key blob: "SHA256:" and base64 without padding."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def decode_base64(text: str) -> bytes:
    """Return the bytes of canonical base64 (RFC 4648, section 4); raise `Malformed` for other."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("expected base64, got something else") from error
    if base64.b64encode(raw).decode() != text:
        raise Malformed("expected canonical base64, got another encoding")
    return raw


def parse_public_key(line: str) -> SshKey:
    """Return the key of a line "type base64"; raise `Malformed` for anything else."""
    if len(line) > bounds.MAX_PUBLIC_KEY_BYTES:
        raise Malformed(
            f"expected a key of at most {bounds.MAX_PUBLIC_KEY_BYTES} characters, got more"
        )
    kind, space, encoded = line.partition(" ")
    if not space:
        raise Malformed(f"expected a key as type and base64, got {quoted(line)}")
    key = parse_key_blob(decode_base64(encoded))
    if key.kind != kind:
        raise Malformed(f"expected a key of the type {quoted(kind)}, got {quoted(key.kind)}")
    return key


def parse_public_key_file(text: str) -> tuple[SshKey, str]:
    """Return the key and the comment of a `.pub` file; raise `Malformed` unless it is one key."""
    if "PRIVATE KEY-----" in text:
        raise Malformed("expected a public key, got a private one", hint="give the .pub file")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) != 1:
        raise Malformed(f"expected one public key in the file, got {len(lines)} lines")
    kind, _, rest = lines[0].partition(" ")
    encoded, _, comment = rest.strip().partition(" ")
    return parse_public_key(f"{kind} {encoded}"), comment.strip()


def parse_key_blob(blob: bytes) -> SshKey:
    """Return the key of a blob; raise `Malformed` for a type or value outside the profile."""
    if len(blob) > bounds.MAX_PUBLIC_KEY_BYTES:
        raise Malformed(f"expected a key of at most {bounds.MAX_PUBLIC_KEY_BYTES} bytes, got more")
    reader = WireReader(blob, "a public key")
    kind = reader.name()
    if kind in {ED25519, SK_ED25519}:
        material = reader.string()
        public: PublicKey = _ed25519(material)
    elif kind in _ECDSA:
        material, public = _ecdsa(reader, _ECDSA[kind])
    elif kind == RSA:
        material, public = _rsa(reader)
    else:
        raise unsupported(kind)
    application = _application(reader.name()) if kind in SK_KINDS else ""
    reader.finish()
    return SshKey(kind=kind, blob=blob, material=material, public=public, application=application)


def unsupported(kind: str) -> Malformed:
    """Return the error for a key type that is not supported."""
    if _CERTIFICATE in kind:
        return Malformed(
            f"expected a plain key, got the certificate type {quoted(kind)}",
            code="certificate",
            hint="sign with the plain key file, not with -cert.pub",
        )
    return Malformed(
        f"expected a supported key type, got {quoted(kind)}",
        code="unsupported-key",
        hint=f"use one of {', '.join(sorted(KINDS))}",
    )


def _application(text: str) -> str:
    if not text.startswith("ssh:") or len(text) > bounds.MAX_SSH_APPLICATION_CHARS:
        raise Malformed(f"expected a FIDO application that starts with ssh:, got {quoted(text)}")
    return text


def _ed25519(raw: bytes) -> Ed25519PublicKey:
    if len(raw) != POINT_BYTES:
        raise Malformed(f"expected {POINT_BYTES} bytes of an Ed25519 key, got {len(raw)}")
    if not is_sound_point(raw):
        raise Malformed("expected an Ed25519 key of prime order, got a weak or invalid one")
    return Ed25519PublicKey.from_public_bytes(raw)


def _ecdsa(reader: WireReader, curve: str) -> tuple[bytes, ec.EllipticCurvePublicKey]:
    named = reader.name()
    if named != curve:
        raise Malformed(f"expected the curve {curve}, got {quoted(named)}")
    point = reader.string()
    if point[:1] != b"\x04":
        raise Malformed("expected an uncompressed point, got another form")
    try:
        return point, ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[curve][0], point)
    except ValueError as error:
        raise Malformed(f"expected a point on {curve}, got one that is not") from error


def _rsa(reader: WireReader) -> tuple[bytes, rsa.RSAPublicKey]:
    exponent, modulus = reader.integer(), reader.integer()
    if not bounds.MIN_RSA_BITS <= modulus.bit_length() <= bounds.MAX_RSA_BITS:
        raise Malformed(
            f"expected an RSA key of {bounds.MIN_RSA_BITS} to {bounds.MAX_RSA_BITS} bits,"
            f" got {modulus.bit_length()}"
        )
    if (
        exponent < _MIN_RSA_EXPONENT
        or exponent % 2 == 0
        or exponent.bit_length() > _MAX_RSA_EXPONENT_BITS
    ):
        raise Malformed(
            f"expected an odd RSA exponent of at least {_MIN_RSA_EXPONENT}, got another"
        )
    if modulus % 2 == 0:
        raise Malformed("expected an odd RSA modulus, got an even one")
    public = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    return modulus.to_bytes((modulus.bit_length() + 7) // 8, "big"), public
