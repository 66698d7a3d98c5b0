# SPDX-License-Identifier: Apache-2.0
"""SSH signatures and keys taken apart, so that a test can put one wrong part among right ones.

Beside `ssh_keys` it has the keys that few tests need: RSA, ECDSA security keys, certificates.
"""

import dataclasses
import functools
import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.support.ssh_keys import SigningKey, armored, number, text

CURVE_ORDER = {
    256: int("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16),
}
# How far the primes are from where their names hash to; found once, so that no test searches.
_PRIMES = {1024: (898, 74), 2048: (46, 148), 3072: (1604, 264), 4096: (1422, 282)}
_RSA_HASHES: dict[str, hashes.HashAlgorithm] = {
    "ssh-rsa": hashes.SHA1(),  # noqa: S303 - what we must refuse
    "rsa-sha2-256": hashes.SHA256(),
    "rsa-sha2-512": hashes.SHA512(),
}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A signature before it is one blob.

    Attributes:
        inner: the algorithm, the signature, and a security key's flags and counter.
        tail: what follows the last field.
    """

    key_blob: bytes
    namespace: bytes
    hash_name: bytes
    inner: bytes
    magic: bytes = b"SSHSIG"
    version: int = 1
    reserved: bytes = b""
    tail: bytes = b""

    @property
    def blob(self) -> bytes:
        """The signature as bytes."""
        fields = (self.key_blob, self.namespace, self.reserved, self.hash_name, self.inner)
        return self.magic + number(self.version) + b"".join(map(text, fields)) + self.tail

    @property
    def armor(self) -> bytes:
        """The signature as ssh-keygen writes it."""
        return armored(self.blob)

    def but(self, **changes: object) -> "Parts":
        """Return the same with other parts."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def parts(
    key: SigningKey, message: bytes, *, namespace: str = "ns", hash_name: str = "sha512"
) -> Parts:
    """Return the parts of a good signature."""
    digest = hashlib.new(hash_name, message).digest()
    fields = (namespace.encode(), b"", hash_name.encode(), digest)
    return Parts(
        key_blob=key.blob,
        namespace=namespace.encode(),
        hash_name=hash_name.encode(),
        inner=key.sign_bytes(b"SSHSIG" + b"".join(map(text, fields))),
    )


def mpint(value: int) -> bytes:
    """Return an SSH mpint that is not negative, in its shortest form."""
    return text(value.to_bytes(value.bit_length() // 8 + 1, "big") if value else b"")


@functools.cache
def _rsa_private(bits: int) -> rsa.RSAPrivateKey:
    p, q = (
        _rsa_start(f"rsa {bits} {name}", bits // 2) + offset
        for name, offset in zip("pq", _PRIMES[bits], strict=True)
    )
    exponent = 65_537
    private = pow(exponent, -1, (p - 1) * (q - 1))
    return rsa.RSAPrivateNumbers(
        p=p,
        q=q,
        d=private,
        dmp1=rsa.rsa_crt_dmp1(private, p),
        dmq1=rsa.rsa_crt_dmq1(private, q),
        iqmp=rsa.rsa_crt_iqmp(p, q),
        public_numbers=rsa.RSAPublicNumbers(exponent, p * q),
    ).private_key()


def _rsa_start(name: str, bits: int) -> int:
    raw = hashlib.shake_256(name.encode()).digest(bits // 8)
    return int.from_bytes(raw, "big") | 3 << (bits - 2) | 1


def rsa_blob(exponent: int, modulus: int) -> bytes:
    """Return the blob of an RSA key of any numbers."""
    return text(b"ssh-rsa") + mpint(exponent) + mpint(modulus)


def rsa_key(bits: int = 3072, algorithm: str = "rsa-sha2-512") -> SigningKey:
    """Return the one RSA key of that size, signing with that algorithm."""
    private = _rsa_private(bits)
    numbers = private.public_key().public_numbers()

    def sign_bytes(signed: bytes) -> bytes:
        signature = private.sign(signed, padding.PKCS1v15(), _RSA_HASHES[algorithm])
        return text(algorithm.encode()) + text(signature)

    return SigningKey(kind="ssh-rsa", blob=rsa_blob(numbers.e, numbers.n), sign_bytes=sign_bytes)


def rsa_file(bits: int = 3072) -> bytes:
    """Return the private file of `rsa_key`, as ssh-keygen reads it."""
    return _rsa_private(bits).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def ecdsa_security_key(seed: str, *, flags: int = 1, application: str = "ssh:") -> SigningKey:
    """Return an ECDSA security key; `flags` as those of `ssh_keys.security_key`."""
    kind = "sk-ecdsa-sha2-nistp256@openssh.com"
    scalar = int.from_bytes(hashlib.sha256(seed.encode()).digest(), "big") >> 1
    private = ec.derive_private_key(scalar, ec.SECP256R1())
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    said = bytes([flags]) + number(7)

    def sign_bytes(signed: bytes) -> bytes:
        asserted = hashlib.sha256(application.encode()).digest() + said
        asserted += hashlib.sha256(signed).digest()
        coded = private.sign(asserted, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        numbers = b"".join(map(mpint, utils.decode_dss_signature(coded)))
        return text(kind.encode()) + text(numbers) + said

    fields = (kind.encode(), b"nistp256", point, application.encode())
    return SigningKey(kind=kind, blob=b"".join(map(text, fields)), sign_bytes=sign_bytes)


def with_other_s(key: SigningKey, bits: int = 256) -> SigningKey:
    """Return an ECDSA key that signs (r, n - s) in place of (r, s): as good, and other bytes."""

    def sign_bytes(signed: bytes) -> bytes:
        whole = key.sign_bytes(signed)
        kind, rest = take_text(whole)
        numbers, flags = take_text(rest)
        r, s = map(int.from_bytes, (take_text(numbers)[0], take_text(take_text(numbers)[1])[0]))
        return text(kind) + text(mpint(r) + mpint(CURVE_ORDER[bits] - s)) + flags

    return dataclasses.replace(key, sign_bytes=sign_bytes)


def take_text(raw: bytes) -> tuple[bytes, bytes]:
    """Return the SSH string at the front, and what follows it."""
    end = 4 + int.from_bytes(raw[:4], "big")
    return raw[4:end], raw[end:]
