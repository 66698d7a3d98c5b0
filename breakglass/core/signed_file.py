# SPDX-License-Identifier: Apache-2.0
"""A signed file: a document's text, followed by armored SSH signatures over exactly that text.

It is plain ASCII, so it survives chat, mail, paper and a USB stick.  Two files with the same text
merge by the union of their signatures.  Nothing else may be between or after the blocks, because
unsigned text must not be mistaken for signed text.  This module splits a file into its parts and
verifies no signature.
"""

import base64
import hashlib
import re
from dataclasses import dataclass

from breakglass.core import bounds
from breakglass.core.sshsig import parse_armor
from breakglass.errors import Malformed

BEGIN = b"-----BEGIN SSH SIGNATURE-----\n"
END = b"-----END SSH SIGNATURE-----\n"
_BOM = b"\xef\xbb\xbf"
_BLANKS = b" \t"
_PRINTABLE = re.compile(rb"[\x20-\x7e\n]*")
_CODE_BYTES = 10  # 80 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedFile:
    """A document's bytes and the signature blocks after it, in their order."""

    text: bytes
    armors: tuple[bytes, ...]


def parse_signed_file(raw: bytes) -> SignedFile:
    """Return the text and the signature blocks of a file; a text without signatures is allowed.

    Raises:
        Malformed: the file is too large, not printable ASCII, or has too many blocks; a block has
            no end; something other than blocks follows the text (code "trailing-text").
    """
    if len(raw) > bounds.MAX_SIGNED_FILE_BYTES:
        raise Malformed(
            f"expected at most {bounds.MAX_SIGNED_FILE_BYTES} bytes, got {len(raw)}",
            code="too-large",
        )
    if not _PRINTABLE.fullmatch(raw):
        raise Malformed(
            "expected printable ASCII and line feeds, got another byte",
        )
    text, begin, rest = raw.partition(BEGIN)
    if not text.endswith(b"\n"):
        raise Malformed("expected a text that ends with a line feed, got another end")
    armors: list[bytes] = []
    rest = begin + rest
    while rest:
        if not rest.startswith(BEGIN):
            raise Malformed(
                "expected nothing but signature blocks after the text, got something else",
                code="trailing-text",
                hint="delete what is between or after the signature blocks",
            )
        block, end, rest = rest.partition(END)
        if not end:
            raise Malformed("expected the end of a signature block, got none")
        armors.append(block + end)
        if len(armors) > bounds.MAX_SIGNATURES:
            raise Malformed(
                f"expected at most {bounds.MAX_SIGNATURES} signatures, got more", code="too-large"
            )
    return SignedFile(text=text, armors=tuple(armors))


def render_signed_file(file: SignedFile) -> bytes:
    """Return the bytes of a signed file."""
    return file.text + b"".join(file.armors)


def merge_signed_files(one: SignedFile, other: SignedFile) -> SignedFile:
    """Return the text with the signatures of both files, each once, those of `one` first.

    Raises:
        Malformed: the texts differ (code "different-text"), a block is no signature, or the
            result has too many blocks or bytes.
    """
    if one.text != other.text:
        raise Malformed(
            f"expected the same text in both files, got {code(one.text)} and {code(other.text)}",
            code="different-text",
            hint="ask the approvers which text they approved: compare the codes aloud",
        )
    union: dict[bytes, bytes] = {}
    for armor in (*one.armors, *other.armors):
        union.setdefault(parse_armor(armor).blob, armor)
    merged = SignedFile(text=one.text, armors=tuple(union.values()))
    return parse_signed_file(render_signed_file(merged))


def repair(raw: bytes) -> bytes:
    """Return a file without the changes that mail, chat and editors make.

    Line ends become LF.  A byte order mark, blank lines, and blanks at line ends and before the
    first line are removed.  No canonical text or signature contains these, so this cannot damage a
    valid file.  Only for operators' machines: nodes take bytes unchanged.
    """
    lines = raw.removeprefix(_BOM).replace(b"\r", b"\n").split(b"\n")
    kept = [line.rstrip(_BLANKS) for line in lines if line.strip(_BLANKS)]
    return b"\n".join((*kept, b"")).lstrip(_BLANKS)


def digest(text: bytes) -> str:
    """Return the SHA-256 of a text, in hex."""
    return hashlib.sha256(text).hexdigest()


def code(text: bytes) -> str:
    """Return the code that people compare aloud: 80 bits of the SHA-256, in groups of base32."""
    letters = base64.b32encode(hashlib.sha256(text).digest()[:_CODE_BYTES]).decode().lower()
    return "-".join(letters[place : place + 4] for place in range(0, len(letters), 4))
