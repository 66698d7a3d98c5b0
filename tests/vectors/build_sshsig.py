# SPDX-License-Identifier: Apache-2.0
"""Build the vectors of keys and signatures that every implementation must accept or refuse.

Run from the repository's root: `python -m tests.vectors.build_sshsig [DIRECTORY]`.

Each file has a header of `name: value` lines, an empty line, and then the exact bytes of an armored
signature, or of a public key's line:

    vector:          signature or key
    expect:          accepted; or malformed or refused, and the stable code
    openssh:         what `ssh-keygen -Y verify` says: accepts, refuses, or differs by version;
                     of keys, not asked
    note:            what it tests
    origin:          how it was made
    key:             the trusted key, for a signature
    verify_required: whether the trust asks for user verification
    message:         the signed text, as a JSON string; the namespace is always `NAMESPACE`

ssh-keygen made the files named openssh-*, with keys that no longer exist.  The script does not
write them.
"""

import base64
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support import ssh_keys
from tests.support.ssh_keys import SigningKey, number, text
from tests.support.sshsig_parts import (
    CURVE_ORDER,
    Parts,
    ecdsa_security_key,
    mpint,
    parts,
    rsa_blob,
    rsa_key,
    take_text,
    with_other_s,
)

FOLDER = Path(__file__).parent / "sshsig"
ORIGIN = "tests/vectors/build_sshsig.py"
RECORDED = "openssh-"
NAMESPACE = "breakglass-command-v1"
MESSAGE = b"a text that people approve\n"
_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_Y8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826


@dataclass(frozen=True, kw_only=True)
class Vector:
    """One key or signature; `expect` is "accepted", or the kind of refusal and its code."""

    name: str
    raw: bytes
    note: str
    expect: str
    openssh: str = "not asked"
    origin: str = ORIGIN
    key: str = ""
    verify_required: bool = False

    def render(self) -> bytes:
        """Return the file: the header, an empty line, the bytes."""
        header = {
            "vector": "signature" if self.key else "key",
            "expect": self.expect,
            "openssh": self.openssh,
            "note": self.note,
            "origin": self.origin,
        }
        if self.key:
            header["key"] = self.key
            header["verify_required"] = json.dumps(self.verify_required)
            header["message"] = json.dumps(MESSAGE.decode())
        lines = "".join(f"{name}: {value}\n" for name, value in header.items())
        return lines.encode() + b"\n" + self.raw


def vectors() -> tuple[Vector, ...]:
    """Return every vector, in the order of their names."""
    found = (*_good(), *_refused(), *_refused_numbers(), *_malformed(), *_armors(), *_keys())
    return tuple(sorted((*found, *_weak_keys()), key=lambda one: one.name))


def parse_vector(file: bytes) -> tuple[dict[str, str], bytes]:
    """Return the header and the bytes of a vector file."""
    header, _, raw = file.partition(b"\n\n")
    return dict(line.split(": ", 1) for line in header.decode().splitlines()), raw


def build(folder: Path) -> None:
    """Write every vector into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for vector in vectors():
        (folder / f"{vector.name}.txt").write_bytes(vector.render())


def _signers() -> dict[str, SigningKey]:
    return {
        "ed25519": ssh_keys.ed25519("ana"),
        "p256": ssh_keys.ecdsa("ana", 256),
        "p384": ssh_keys.ecdsa("ana", 384),
        "p521": ssh_keys.ecdsa("ana", 521),
        "rsa-sha2-256": rsa_key(3072, "rsa-sha2-256"),
        "rsa-sha2-512": rsa_key(3072, "rsa-sha2-512"),
        "sk-ed25519": ssh_keys.security_key("ana"),
        "sk-ecdsa": ecdsa_security_key("ana"),
    }


def _parts(key: SigningKey, *, hash_name: str = "sha512") -> Parts:
    return parts(key, MESSAGE, namespace=NAMESPACE, hash_name=hash_name)


def _good() -> Iterator[Vector]:
    def good(name: str, key: SigningKey, armor: bytes, note: str, *, pin: bool = False) -> Vector:
        return Vector(
            name=f"good-{name}",
            raw=armor,
            note=note,
            expect="accepted",
            openssh="accepts",
            key=key.line,
            verify_required=pin,
        )

    signers = _signers()
    for name, key in signers.items():
        for hash_name in ("sha256", "sha512"):
            note = f"a key of type {key.kind}, the text hashed with {hash_name}"
            yield good(f"{name}-{hash_name}", key, _parts(key, hash_name=hash_name).armor, note)
    for name in ("p256", "sk-ecdsa"):
        other = with_other_s(signers[name])
        yield good(
            f"{name}-other-s", other, _parts(other).armor, "(r, n - s): other bytes, one person"
        )
    for make, name in ((ssh_keys.security_key, "ed25519"), (ecdsa_security_key, "ecdsa")):
        pin = make("ana", flags=5)
        yield good(f"sk-{name}-verified", pin, _parts(pin).armor, "touch and PIN", pin=True)
        team = make("ana", application="ssh:team")
        yield good(f"sk-{name}-application", team, _parts(team).armor, "an application of its own")
    key = signers["ed25519"]
    wide = _wrapped(_parts(key).blob, 76)
    yield good("armor-76", key, wide, "lines of 76, as PROTOCOL.sshsig suggests")


def _signature(
    name: str, key: SigningKey, armor: bytes, expect: str, note: str, openssh: str = "refuses"
) -> Vector:
    return Vector(name=name, raw=armor, note=note, expect=expect, openssh=openssh, key=key.line)


def _refused() -> Iterator[Vector]:
    signers = _signers()
    key = signers["ed25519"]
    good = _parts(key)
    stranger = _parts(ssh_keys.ed25519("mallory"))
    sha1 = rsa_key(3072, "ssh-rsa")
    device = signers["sk-ed25519"]
    elsewhere = parts(key, MESSAGE, namespace="git")
    of_text = parts(key, b"another text\n", namespace=NAMESPACE)
    for name, signer, armor, code, note in (
        ("namespace", key, elsewhere.armor, "namespace", "made for git"),
        (
            "namespace-stolen",
            key,
            elsewhere.but(namespace=NAMESPACE.encode()).armor,
            "invalid",
            "made for git, with our namespace put in",
        ),
        ("stranger", key, stranger.armor, "key", "a good signature of another key"),
        (
            "stranger-claims",
            key,
            stranger.but(key_blob=key.blob).armor,
            "invalid",
            "another key's signature with the trusted key put in",
        ),
        ("text", key, of_text.armor, "invalid", "of another text"),
        ("hash-sha1", key, good.but(hash_name=b"sha1").armor, "hash", "a hash that we do not take"),
        ("hash-claims", key, good.but(hash_name=b"sha256").armor, "invalid", "not the signed hash"),
        ("rsa-sha1", sha1, _parts(sha1).armor, "algorithm", "the algorithm ssh-rsa is SHA-1"),
        (
            "sk-plain",
            device,
            good.but(key_blob=device.blob).armor,
            "algorithm",
            "the device's own private key, used outside of it",
        ),
    ):
        yield _signature(f"refused-{name}", signer, armor, f"refused signature-{code}", note)
    yield from _refused_flags()


def _refused_flags() -> Iterator[Vector]:
    for make, name in ((ssh_keys.security_key, "ed25519"), (ecdsa_security_key, "ecdsa")):
        untouched, touched = make("ana", flags=0), make("ana", flags=1)
        yield _signature(
            f"refused-sk-{name}-untouched",
            untouched,
            _parts(untouched).armor,
            "refused signature-presence",
            "flags 0: nobody was there",
            "accepts",
        )
        yield Vector(
            name=f"refused-sk-{name}-no-pin",
            raw=_parts(touched).armor,
            note="flags 1 where the trust asks for verification",
            expect="refused signature-verify-required",
            openssh="accepts",
            key=touched.line,
            verify_required=True,
        )
        lied = _parts(untouched)
        yield _signature(
            f"refused-sk-{name}-flags",
            untouched,
            lied.but(inner=lied.inner[:-5] + b"\5" + number(7)).armor,
            "refused signature-invalid",
            "flags set to 5 by hand",
        )


def _refused_numbers() -> Iterator[Vector]:
    key = ssh_keys.ed25519("ana")
    raw = _parts(key).inner[-64:]
    large = (int.from_bytes(raw[32:], "little") + _ORDER).to_bytes(32, "little")
    bodies: dict[str, tuple[bytes, str, str]] = {
        "s-plus-order": (raw[:32] + large, "S + L, of one signature a second spelling", "differs"),
        "short": (raw[:63], "63 bytes", "refuses"),
        "long": (raw + b"\0", "65 bytes", "refuses"),
        "zeros": (bytes(64), "zeros", "refuses"),
    }
    for name, (body, note, openssh) in bodies.items():
        armor = _parts(key).but(inner=text(b"ssh-ed25519") + text(body)).armor
        expect = "refused signature-invalid"
        yield _signature(f"refused-ed25519-{name}", key, armor, expect, note, openssh)
    curve = ssh_keys.ecdsa("ana")
    kind, rest = take_text(_parts(curve).inner)
    r, after = take_text(take_text(rest)[0])
    s, _ = take_text(after)
    plus = mpint(int.from_bytes(r) + CURVE_ORDER[256])
    for name, body, note in (
        ("zero", mpint(0) + mpint(0), "r and s are 0"),
        ("r-plus-order", plus + text(s), "r + n"),
        ("negative", text(r) + text(b"\xff" + s), "a negative s"),
        ("one-number", text(r), "no s"),
        ("tail", text(r) + text(s) + b"\0", "a byte after s"),
    ):
        armor = _parts(curve).but(inner=text(kind) + text(body)).armor
        yield _signature(f"refused-p256-{name}", curve, armor, "refused signature-invalid", note)


def _malformed() -> Iterator[Vector]:
    key = ssh_keys.ed25519("ana")
    good = _parts(key)
    webauthn = text(b"webauthn-sk-ecdsa-sha2-nistp256@openssh.com") + text(b"") + bytes(5)
    certificate = text(b"ssh-ed25519-cert-v01@openssh.com") + text(b"nonce")
    for name, armor, code, openssh, note in (
        ("version-0", good.but(version=0).armor, "malformed", "accepts", "version 0"),
        ("version-2", good.but(version=2).armor, "malformed", "refuses", "version 2"),
        ("magic", good.but(magic=b"SSHSIH").armor, "malformed", "refuses", "another magic"),
        ("reserved", good.but(reserved=b"x").armor, "malformed", "accepts", "a reserved field"),
        ("no-namespace", good.but(namespace=b"").armor, "malformed", "refuses", "no namespace"),
        (
            "namespace-nul",
            good.but(namespace=NAMESPACE.encode() + b"\0").armor,
            "malformed",
            "accepts",
            "a C string's last NUL",
        ),
        ("tail", good.but(tail=b"\0").armor, "malformed", "refuses", "a byte after the last field"),
        (
            "inner-tail",
            good.but(inner=good.inner + b"\0").armor,
            "malformed",
            "refuses",
            "a byte after the signature",
        ),
        (
            "certificate",
            good.but(key_blob=certificate).armor,
            "certificate",
            "refuses",
            "signed with -cert.pub",
        ),
        (
            "dss",
            good.but(key_blob=text(b"ssh-dss")).armor,
            "unsupported-key",
            "refuses",
            "a type that is gone",
        ),
        (
            "webauthn",
            good.but(inner=webauthn).armor,
            "unsupported-key",
            "refuses",
            "a browser's signature",
        ),
    ):
        yield _signature(f"malformed-{name}", key, armor, f"malformed {code}", note, openssh)


def _wrapped(blob: bytes, columns: int) -> bytes:
    coded = base64.b64encode(blob)
    lines = (coded[place : place + columns] for place in range(0, len(coded), columns))
    ends = b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----"
    return b"\n".join((ends[0], *lines, ends[1], b""))


def _armors() -> Iterator[Vector]:
    key = ssh_keys.ed25519("ana")
    good = _parts(key).armor
    begin, first, rest = good.split(b"\n", 2)
    for name, armor, openssh, note in (
        ("text-after", good + b"approved\n", "accepts", "words that nobody signed"),
        ("text-before", b"approved\n" + good, "refuses", "words that nobody signed"),
        ("twice", good + good, "accepts", "two blocks where one is expected"),
        ("crlf", good.replace(b"\n", b"\r\n"), "differs", "line ends of mail"),
        ("no-last-line-feed", good[:-1], "accepts", "the last line feed is missing"),
        ("blank-line", b"\n".join((begin, first, b"", rest)), "accepts", "a blank line inside"),
        ("blank", b"\n".join((begin, b" " + first, rest)), "accepts", "a blank inside"),
        (
            "no-body",
            good.split(b"\n", 1)[0] + b"\n-----END SSH SIGNATURE-----\n",
            "refuses",
            "none",
        ),
        ("cut", good[: len(good) // 2], "refuses", "the second half is missing"),
        ("padding", good.replace(b"=\n", b"\n"), "refuses", "the padding is missing"),
    ):
        yield _signature(
            f"malformed-armor-{name}", key, armor, "malformed malformed", note, openssh
        )


def _key(name: str, line: bytes, expect: str, note: str) -> Vector:
    return Vector(name=f"key-{name}", raw=line, note=note, expect=expect)


def _line(kind: str, *fields: bytes) -> bytes:
    blob = b"".join(map(text, (kind.encode(), *fields)))
    return f"{kind} {base64.b64encode(blob).decode()}".encode()


def _keys() -> Iterator[Vector]:
    for name, key in _signers().items():
        if name != "rsa-sha2-256":
            yield _key(f"good-{name}", key.line.encode(), "accepted", key.kind)
    kind, encoded = ssh_keys.ed25519("ana").line.encode().split(b" ")
    for name, line, code, note in (
        ("comment", kind + b" " + encoded + b" ana", "malformed", "a comment"),
        ("two-spaces", kind + b"  " + encoded, "malformed", "two spaces"),
        ("line-feed", kind + b" " + encoded + b"\n", "malformed", "a line feed"),
        ("other-type", b"ssh-rsa " + encoded, "malformed", "another type before the blob"),
        ("unknown", _line("ssh-ed448", bytes(57)), "unsupported-key", "a type we do not know"),
        (
            "certificate",
            _line("ssh-ed25519-cert-v01@openssh.com", bytes(32)),
            "certificate",
            "a certificate",
        ),
    ):
        yield _key(name, line, f"malformed {code}", note)


def _weak_keys() -> Iterator[Vector]:
    raw = ssh_keys.ed25519("ana").blob[-32:]
    y = int.from_bytes(raw, "little") % 2**255
    twin = (_P - y | (1 - (raw[31] >> 7)) << 255).to_bytes(32, "little")
    ed25519 = {
        "neutral": (1, "the neutral element: zeros are its signature of everything"),
        "order-2": (_P - 1, "order 2"),
        "order-4": (0, "order 4"),
        "order-8": (_Y8, "order 8"),
        "neutral-longer": (_P + 1, "the neutral element in a second spelling"),
        "off-curve": (2, "no x for this y"),
        "minus-zero": (1 | 1 << 255, "x is 0 and its sign is minus"),
    }
    lines = {name: (_encoded(number), note) for name, (number, note) in ed25519.items()}
    lines["twin"] = (twin, "another key's point plus the one of order 2: the same private key")
    lines["short"] = (raw[:31], "31 bytes")
    for name, (point, note) in lines.items():
        yield _key(f"ed25519-{name}", _line("ssh-ed25519", point), "malformed malformed", note)
    kind, curve = "ecdsa-sha2-nistp256", b"nistp256"
    point = ssh_keys.ecdsa("ana").blob[-65:]
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    compressed = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    numbers = rsa_key(3072).blob
    modulus = int.from_bytes(numbers[-384:])
    for name, line, note in (
        ("p256-compressed", _line(kind, curve, compressed), "a compressed point"),
        (
            "p256-off-curve",
            _line(kind, curve, point[:-1] + bytes([point[-1] ^ 1])),
            "a point off the curve",
        ),
        ("p256-curve", _line(kind, b"nistp384", point), "another curve than the type's"),
        ("p256-tail", _line(kind, curve, point, b""), "a field too many"),
        ("rsa-2048", rsa_key(2048).line.encode(), "2048 bits"),
        ("rsa-exponent-3", _rsa_line(3, modulus), "a small exponent"),
        ("rsa-even", _rsa_line(65_537, modulus - 1), "an even modulus"),
        ("rsa-8193", _rsa_line(65_537, 1 << 8192 | 1), "8193 bits"),
        (
            "rsa-longer",
            _line("ssh-rsa", b"\0\1\0\1", numbers[-385:]),
            "a number with a zero before",
        ),
        (
            "sk-website",
            ssh_keys.security_key("ana", application="https://example.org").line.encode(),
            "a website's application",
        ),
    ):
        yield _key(name, line, "malformed malformed", note)


def _encoded(number: int) -> bytes:
    return number.to_bytes(32, "little")


def _rsa_line(exponent: int, modulus: int) -> bytes:
    return b"ssh-rsa " + base64.b64encode(rsa_blob(exponent, modulus))


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
