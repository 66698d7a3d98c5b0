# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: the size and root hash of a node's log, signed by the node.

The text is a C2SP tlog-checkpoint: origin, size in decimal, root in base64, one per line.  The
envelope is a C2SP signed note (golang.org/x/mod/sumdb/note): the text, a blank line, and lines of
"— name base64(key id, signature)"; the key id is four bytes of SHA-256 over the name, a line feed,
the algorithm byte and the key.  We sign with Ed25519 (algorithm 0x01), and the key's name is the
log's origin, "breakglass/DOMAIN/CLUSTER/NODE".

Rules: a note has a bounded size and is parsed strictly.  Signatures by unknown keys are ignored, as
the note format requires, so that witnesses can be added later.  One bad signature by the *known*
key refuses the whole note, even beside a good one.  Extension lines are refused: we write none.

The inventory says which key is a node's; this module does not.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from breakglass.core import bounds
from breakglass.core.merkle import HASH_BYTES
from breakglass.core.names import quoted
from breakglass.errors import BadSignature, Malformed

ED25519 = 0x01  # C2SP signed-note, "Signature types"
_ED25519_KEY_BYTES = 32
_KEY_ID_BYTES = 4
_MARK = "\N{EM DASH} "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_NAME = re.compile(r"[^\s+]+")
_ORIGIN = re.compile(r"breakglass(?:/[a-z0-9][a-z0-9._-]{0,62}){2,3}", re.ASCII)
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_HEX_ID = re.compile(r"[0-9a-f]{8}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state of a log: `size` entries with the Merkle root `root`.

    The constructor raises `ValueError` for a negative size or a root that is not 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        _parse_key_name(self.origin)
        if self.size < 0:
            raise ValueError("expected a size from 0 up")
        if len(self.root) != HASH_BYTES:
            raise ValueError("expected a root of 32 bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSignature:
    """One signature line of a note, not verified."""

    claimed_name: str
    claimed_key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A note's text, with its final line feed, and its signature lines, not verified."""

    text: bytes
    signatures: tuple[NoteSignature, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A named Ed25519 public key that verifies notes."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The four bytes that match a signature line to this key; they prove nothing."""
        text = self.name.encode() + b"\n" + bytes([ED25519]) + self.public
        return hashlib.sha256(text).digest()[:_KEY_ID_BYTES]

    @property
    def text(self) -> str:
        """The key as "name+hexid+base64", as `parse_vkey` reads it."""
        encoded = base64.b64encode(bytes([ED25519]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"


class LogSigner:
    """The Ed25519 key with which one log signs its checkpoints.

    Args:
        origin: the log's name, "breakglass/DOMAIN/CLUSTER/NODE".
        seed: the 32 secret bytes of the key (RFC 8032).
    """

    def __init__(self, origin: str, seed: bytes) -> None:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"expected an origin as breakglass/DOMAIN/CLUSTER/NODE, got {quoted(origin)}"
            )
        if len(seed) != _ED25519_KEY_BYTES:
            raise ValueError("expected a seed of 32 bytes")
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self._key = VerifierKey(name=origin, public=self._private.public_key().public_bytes_raw())
        self._key_id = self._key.key_id

    @property
    def origin(self) -> str:
        """The name of the log and of its key."""
        return self._key.name

    @property
    def vkey(self) -> str:
        """The public key as text, for verifiers."""
        return self._key.text

    def sign(self, text: bytes) -> bytes:
        """Return the signed note of `text`, which must end with a line feed."""
        signed = base64.b64encode(self._key_id + self._private.sign(text))
        return text + b"\n" + f"{_MARK}{self.origin} ".encode() + signed + b"\n"


def sign_checkpoint(checkpoint: Checkpoint, signer: LogSigner) -> bytes:
    """Return a checkpoint of the signer's own log as a signed note."""
    if checkpoint.origin != signer.origin:
        raise ValueError("expected a checkpoint of the signer's own log")
    return signer.sign(render_checkpoint(checkpoint))


def render_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Return the three lines of a checkpoint: the bytes that the node signs."""
    root = base64.b64encode(checkpoint.root).decode()
    return f"{checkpoint.origin}\n{checkpoint.size}\n{root}\n".encode()


def parse_checkpoint(text: bytes) -> Checkpoint:
    """Return the checkpoint in a note's text, or raise `Malformed`."""
    try:
        origin, size, encoded, end = _decoded(text).split("\n")
    except ValueError as error:
        raise Malformed("expected three lines: origin, size, root; got another number") from error
    if end:
        raise Malformed("expected a line feed after the root, got none")
    if not _SIZE.fullmatch(size):
        raise Malformed(f"expected a size in decimal, got {quoted(size)}")
    root = _strict_base64(encoded)
    if len(root) != HASH_BYTES:
        raise Malformed(f"expected a root of 32 bytes, got {len(root)}")
    return Checkpoint(origin=_parse_key_name(origin), size=int(size), root=root)


def parse_note(note: bytes) -> Note:
    """Return the text and the signatures of a note, or raise `Malformed`."""
    if len(note) > bounds.MAX_NOTE_BYTES:
        raise Malformed(
            f"expected a note of at most {bounds.MAX_NOTE_BYTES} bytes, got {len(note)}"
        )
    text, blank, tail = _decoded(note).rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise Malformed("expected a text, a blank line and signature lines, got another shape")
    lines = tail[:-1].split("\n")
    if len(lines) > bounds.MAX_NOTE_SIGNATURES:
        raise Malformed(
            f"expected at most {bounds.MAX_NOTE_SIGNATURES} signatures, got {len(lines)}"
        )
    signatures = tuple(_parse_signature_line(line) for line in lines)
    return Note(text=text.encode() + b"\n", signatures=signatures)


def parse_vkey(text: str) -> VerifierKey:
    """Return the key in "name+hexid+base64"; raise `Malformed`, also for a wrong key id."""
    name, _, rest = text.partition("+")
    key_id, plus, encoded = rest.partition("+")
    if not plus or not _HEX_ID.fullmatch(key_id):
        raise Malformed(f"expected a log key as name+hexid+base64, got {quoted(text)}")
    raw = _strict_base64(encoded)
    if len(raw) != 1 + _ED25519_KEY_BYTES or raw[0] != ED25519:
        raise Malformed("expected an Ed25519 log key, got another kind")
    key = VerifierKey(name=_parse_key_name(name), public=raw[1:])
    if key.key_id.hex() != key_id:
        raise Malformed(f"expected the key id {key.key_id.hex()}, got {key_id}")
    return key


def verify_note(note: bytes, key: VerifierKey) -> bytes:
    """Return the text of `note` if `key` signed it.

    Raises:
        Malformed: it is not a note.
        BadSignature: no signature line is by this key, or one in its name does not verify.
    """
    parsed = parse_note(note)
    ours = [
        line.signature
        for line in parsed.signatures
        if (line.claimed_name, line.claimed_key_id) == (key.name, key.key_id)
    ]
    if not ours:
        raise BadSignature(
            f"expected a signature by {quoted(key.name)}, got none", code="note-unsigned"
        )
    public = Ed25519PublicKey.from_public_bytes(key.public)
    for signature in ours:
        try:
            public.verify(signature, parsed.text)
        except InvalidSignature as error:
            raise BadSignature(
                f"expected a signature by {quoted(key.name)} that verifies, got one that does not",
                code="note-invalid",
            ) from error
    return parsed.text


def verify_checkpoint(note: bytes, vkey: str) -> Checkpoint:
    """Return the checkpoint in `note` if the log with the key `vkey` signed it.

    Raises:
        Malformed: the note, the checkpoint in it or the key is not well formed.
        BadSignature: the key did not sign the note, or the checkpoint is another log's.
    """
    key = parse_vkey(vkey)
    checkpoint = parse_checkpoint(verify_note(note, key))
    if checkpoint.origin != key.name:
        raise BadSignature(
            f"expected a checkpoint of {quoted(key.name)}, got one of {quoted(checkpoint.origin)}",
            code="note-origin",
        )
    return checkpoint


def _decoded(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise Malformed("expected UTF-8, got other bytes") from error
    if _CONTROL.search(text):
        raise Malformed("expected no control characters, got one")
    return text


def _parse_key_name(text: str) -> str:
    if not _NAME.fullmatch(text) or len(text) > bounds.MAX_ORIGIN_CHARS:
        raise Malformed(f"expected a name without spaces or '+', got {quoted(text)}")
    return text


def _parse_signature_line(line: str) -> NoteSignature:
    name, space, encoded = line.removeprefix(_MARK).partition(" ")
    if not line.startswith(_MARK) or not space:
        raise Malformed(f"expected a signature line, got {quoted(line)}")
    raw = _strict_base64(encoded)
    if len(raw) <= _KEY_ID_BYTES:
        raise Malformed(f"expected a key id and a signature, got {len(raw)} bytes")
    return NoteSignature(
        claimed_name=_parse_key_name(name),
        claimed_key_id=raw[:_KEY_ID_BYTES],
        signature=raw[_KEY_ID_BYTES:],
    )


def _strict_base64(text: str) -> bytes:
    """Return the decoded bytes; only the canonical encoding is accepted (RFC 4648, 3.5)."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise Malformed(f"expected base64, got {quoted(text)}") from error
    if base64.b64encode(raw).decode() != text:
        raise Malformed(f"expected canonical base64, got {quoted(text)}")
    return raw
