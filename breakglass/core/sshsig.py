# SPDX-License-Identifier: Apache-2.0
"""Parse and verify SSHSIG, the signatures of `ssh-keygen -Y sign` (OpenSSH PROTOCOL.sshsig).

ssh-keygen accepts, and this module refuses: another version, bytes in the reserved field, base64
that is not canonical, text around the armor, a security key that was not touched.  The key and the
algorithm come from the caller's trusted key, never from the signature; the key in the signature is
only compared.

    signed = "SSHSIG" | namespace | reserved | hash name | H(message)
    blob   = "SSHSIG" | version 1 | public key | namespace | reserved | hash name | signature
"""

import hashlib
from dataclasses import dataclass

from breakglass.core import bounds
from breakglass.core.names import quoted
from breakglass.core.sshkey import (
    KINDS,
    RSA_ALGORITHMS,
    SK_KINDS,
    SshKey,
    decode_base64,
    unsupported,
)
from breakglass.core.wire import WireReader, string
from breakglass.errors import BadSignature, Malformed

_MAGIC = b"SSHSIG"
_BEGIN = "-----BEGIN SSH SIGNATURE-----"
_END = "-----END SSH SIGNATURE-----"
_MIN_LINES = 4  # begin, one line of base64, end, and the empty text after the last line feed
_HASHES = ("sha256", "sha512")
_ALGORITHMS = KINDS | RSA_ALGORITHMS  # with "ssh-rsa": it is parsed, but no key may use it
_USER_PRESENT = 0x01
_USER_VERIFIED = 0x04


@dataclass(frozen=True, slots=True, kw_only=True)
class SshSignature:
    """A parsed signature; `verify_signature` must verify it before any field is trusted.

    Attributes:
        key_blob: the key that the sender claims; only used to find the trusted key.
        flags: a security key's flags, 0x01 for touched and 0x04 for verified; None for other keys.
        counter: a security key's counter; recorded but not checked, because it may always be 0.
        blob: the whole signature, decoded; equal for one signature in two armors.
    """

    key_blob: bytes
    namespace: str
    hash_name: str
    algorithm: str
    raw_signature: bytes
    flags: int | None
    counter: int | None
    blob: bytes


def parse_armor(armor: bytes) -> SshSignature:
    """Return the signature in one armored block; raise `Malformed` for any deviation."""
    if len(armor) > bounds.MAX_ARMOR_BYTES:
        raise Malformed(
            f"expected a signature of at most {bounds.MAX_ARMOR_BYTES} bytes, got {len(armor)}"
        )
    if not armor.isascii():
        raise Malformed("expected an ASCII signature block, got another byte")
    lines = armor.decode("ascii").split("\n")
    if len(lines) < _MIN_LINES or lines[0] != _BEGIN or lines[-2:] != [_END, ""]:
        raise Malformed("expected one armored SSH signature, got something else")
    body = lines[1:-2]
    if not all(body):
        raise Malformed("expected no blank line in a signature block, got one")
    return parse_blob(decode_base64("".join(body)))


def parse_blob(blob: bytes) -> SshSignature:
    """Return the signature in a blob; raise `Malformed` unless the blob is exactly one."""
    reader = WireReader(blob, "a signature")
    if reader.take(len(_MAGIC)) != _MAGIC:
        raise Malformed("expected an SSH signature, got another magic")
    version = reader.number()
    if version != 1:
        raise Malformed(f"expected version 1 of SSHSIG, got {version}")
    key_blob = _key_blob(reader)
    namespace = reader.name()
    if not namespace:
        raise Malformed("expected a namespace, got none")
    if reader.string():
        raise Malformed("expected nothing in the reserved field, got something")
    hash_name = reader.name()
    signature = WireReader(reader.string(), "a signature's inner part")
    reader.finish()
    algorithm = signature.name()
    if algorithm not in _ALGORITHMS:
        raise unsupported(algorithm)
    raw_signature = signature.string()
    flags = counter = None
    if algorithm in SK_KINDS:
        flags, counter = signature.take(1)[0], signature.number()
    signature.finish()
    return SshSignature(
        key_blob=key_blob,
        namespace=namespace,
        hash_name=hash_name,
        algorithm=algorithm,
        raw_signature=raw_signature,
        flags=flags,
        counter=counter,
        blob=blob,
    )


def _key_blob(reader: WireReader) -> bytes:
    """Return the key blob in the signature; raise `Malformed` for an unsupported type."""
    blob = reader.string()
    kind = WireReader(blob, "a signature's key").name()
    if kind not in KINDS:
        raise unsupported(kind)
    return blob


def signed_bytes(namespace: str, hash_name: str, message: bytes) -> bytes:
    """Return the bytes that the key signs for `message`."""
    digest = hashlib.new(hash_name, message).digest()
    parts = (namespace.encode(), b"", hash_name.encode(), digest)
    return _MAGIC + b"".join(string(part) for part in parts)


def verify_signature(
    signature: SshSignature,
    key: SshKey,
    message: bytes,
    *,
    namespace: str,
    verify_required: bool = False,
) -> None:
    """Raise `BadSignature` unless this is `key`'s signature over `message` for `namespace`.

    Args:
        signature: the parsed signature.
        key: the trusted key; it gives the type and the algorithm.
        message: the exact bytes.
        namespace: the required namespace, so that a signature for another purpose never counts.
        verify_required: whether the security key must have checked a PIN or fingerprint.
    """
    if signature.key_blob != key.blob:
        raise _bad("key", f"a signature of {key.fingerprint}", "one of another key")
    if signature.namespace != namespace:
        raise _bad("namespace", f"the namespace {namespace}", quoted(signature.namespace))
    if signature.hash_name not in _HASHES:
        raise _bad("hash", "sha256 or sha512", quoted(signature.hash_name))
    if signature.algorithm not in key.algorithms:
        raise _bad("algorithm", " or ".join(sorted(key.algorithms)), quoted(signature.algorithm))
    if verify_required and not key.is_sk:
        raise _bad("verify-required", "a security key", key.kind)
    signed = signed_bytes(namespace, signature.hash_name, message)
    if not key.is_sk:
        key.verify(signature.algorithm, signature.raw_signature, signed)
        return
    flags = signature.flags or 0
    counter = (signature.counter or 0).to_bytes(4, "big")
    # OpenSSH PROTOCOL.u2f: SHA256(application) | flags | counter | SHA256(message)
    application = hashlib.sha256(key.application.encode()).digest()
    asserted = application + bytes([flags]) + counter + hashlib.sha256(signed).digest()
    key.verify(signature.algorithm, signature.raw_signature, asserted)
    # Check the flags after the signature: only a valid signature proves that they are the key's.
    if not flags & _USER_PRESENT:
        raise _bad("presence", "a touched security key", "a signature without a touch")
    if verify_required and not flags & _USER_VERIFIED:
        raise _bad("verify-required", "a PIN or fingerprint at the security key", "none")


def _bad(what: str, needed: str, have: str) -> BadSignature:
    return BadSignature(f"expected {needed}, got {have}", code=f"signature-{what}")
