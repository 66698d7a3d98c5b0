# SPDX-License-Identifier: Apache-2.0
"""Thousands of damaged signatures and keys: we accept none that ssh-keygen refuses.

The mutants are the same in every run.  ssh-keygen verifies every mutant that we accept, and a
sample of those that we refuse, some for each reason.  If it accepts one that we refuse, the reason
must be a rule in which we are stricter on purpose.
"""

import base64
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from breakglass.core.sshkey import parse_key_blob, parse_public_key
from breakglass.core.sshsig import parse_armor, verify_signature
from breakglass.errors import BadSignature, Malformed
from tests.support import openssh, ssh_keys, sshsig_parts
from tests.support.openssh import SshKeygen
from tests.support.ssh_keys import SigningKey, armored
from tests.support.sshsig_parts import Parts, parts

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(bool(openssh.why_not()), reason=openssh.why_not() or "it is there"),
]

NAMESPACE = "breakglass-command-v1"
MESSAGE = b'{"stop":"monitoring/telemetry"}\n'
KEYS: dict[str, SigningKey] = {
    "ed25519": ssh_keys.ed25519("ana"),
    "p256": ssh_keys.ecdsa("ana", 256),
    "p521": ssh_keys.ecdsa("ana", 521),
    "rsa": sshsig_parts.rsa_key(3072),
    "sk-ed25519": ssh_keys.security_key("ana"),
    "sk-ecdsa": sshsig_parts.ecdsa_security_key("ana", flags=5),
}
BLOB_MUTANTS = 700
ARMOR_MUTANTS = 300
KEY_MUTANTS = 1_500
ASKED_PER_REASON = 6
ACCEPTED = ""
# The rules in which we are stricter on purpose; ssh-keygen must refuse everything else too.
STRICTER = (
    "expected base64",  # it skips white space, and does not look at unused bits
    "expected no blank line in a signature block",
    "expected one armored SSH signature",  # it ignores text after the end
    "expected an ASCII signature block",  # it ignores any bytes there
    "expected nothing in the reserved field",
    "expected version 1 of SSHSIG, got 0",
    "expected printable ASCII in a signature",  # a C string may hold its own last NUL
)


def verdict(key: SigningKey, armor: bytes) -> str:
    """Return the message or code with which we refuse an armor, or ACCEPTED."""
    trusted = parse_key_blob(key.blob)
    try:
        verify_signature(parse_armor(armor), trusted, MESSAGE, namespace=NAMESPACE)
    except Malformed as error:
        return error.message
    except BadSignature as error:
        return error.stable_code
    return ACCEPTED


def damaged(raw: bytes, rng: random.Random) -> bytes:
    """Return bytes with one place changed: a bit, a byte, a stretch, or a length."""
    start = rng.randrange(len(raw))
    end = min(len(raw), start + rng.choice((1, 1, 2, 4, 16)))
    piece = rng.choice(
        (
            bytes([raw[start] ^ 1 << rng.randrange(8)]) + raw[start + 1 : end],
            rng.randbytes(end - start),
            b"",
            b"\0" + raw[start:end],
            raw[start:end] * 2,
            raw[start:end][::-1],
            rng.randrange(80).to_bytes(4, "big"),
        )
    )
    return raw[:start] + piece + raw[end:]


def blob_mutants(good: Parts, others: list[Parts], rng: random.Random) -> Iterator[bytes]:
    """Yield armors of damaged blobs, and of blobs with parts of two signatures."""
    for _ in range(BLOB_MUTANTS):
        yield armored(damaged(good.blob, rng))
    for other in others:
        yield good.but(inner=other.inner).armor
        yield good.but(key_blob=other.key_blob).armor
        yield good.but(inner=other.inner, hash_name=other.hash_name).armor
    for version in (0, 2):
        yield good.but(version=version).armor
    for name in (b"sha256", b"sha1", b"SHA512", b"sha512\0", b""):
        yield good.but(hash_name=name).armor
    for reserved in (b"\0", b"hidden"):
        yield good.but(reserved=reserved).armor
    yield good.but(tail=b"\0").armor
    yield good.but(inner=good.inner + b"\0").armor


def armor_mutants(armor: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield damaged armors, and other encodings of the same blob."""
    extras = (b" ", b"\n", b"\r", b"\t", b"=", b"A", b"\0", b"-", b"\n\n", b"\xc3\xa9")
    for _ in range(ARMOR_MUTANTS):
        place = rng.randrange(len(armor) + 1)
        yield armor[:place] + rng.choice(extras) + armor[place + rng.randrange(2) :]
    begin, *body, end = armor.splitlines()
    coded = b"".join(body)
    for columns in (1, 4, 63, 64, 76, 100, len(coded)):
        lines = (coded[place : place + columns] for place in range(0, len(coded), columns))
        yield b"\n".join((begin, *lines, end, b""))
    for place in range(len(body)):
        yield b"\n".join((begin, *body[:place], *body[place + 1 :], end, b""))
        yield b"\n".join((begin, *body[:place], b"", *body[place:], end, b""))
    yield from (armor.replace(b"\n", b"\r\n"), armor + armor, armor + b"x\n", b"x\n" + armor)


@pytest.mark.parametrize("name", KEYS)
def test_we_accept_no_signature_that_ssh_keygen_refuses(tmp_path: Path, name: str) -> None:
    """For every type of key: what we accept is the same blob, and ssh-keygen accepts it too."""
    keygen, rng, key = SshKeygen(tmp_path), random.Random(name), KEYS[name]
    good = parts(key, MESSAGE, namespace=NAMESPACE)
    others = [parts(other, MESSAGE, namespace=NAMESPACE) for other in KEYS.values()]
    others += [
        parts(key, b"another text\n", namespace=NAMESPACE),
        parts(key, MESSAGE, namespace="git"),
        parts(key, MESSAGE, namespace=NAMESPACE, hash_name="sha256"),
    ]
    by_reason: dict[str, list[bytes]] = {}
    mutants = (*blob_mutants(good, others, rng), *armor_mutants(good.armor, rng))
    for armor in dict.fromkeys(mutants):
        by_reason.setdefault(verdict(key, armor), []).append(armor)

    accepted = by_reason.pop(ACCEPTED)
    refused_by_both = 0
    for armor in accepted:
        assert keygen.accepts(key.line, armor, MESSAGE, NAMESPACE)
    # Both hashes of the message are valid, so one other blob is a good signature too.
    assert {parse_armor(armor).blob for armor in accepted} <= {good.blob, others[-1].blob}
    for reason, armors in by_reason.items():
        assert reason.startswith(("expected ", "signature-"))
        for armor in rng.sample(sorted(armors), min(ASKED_PER_REASON, len(armors))):
            if keygen.accepts(key.line, armor, MESSAGE, NAMESPACE):
                assert reason.startswith(STRICTER), reason
            else:
                refused_by_both += 1
    assert sum(map(len, by_reason.values())) > BLOB_MUTANTS
    assert refused_by_both > len(by_reason)


@pytest.mark.parametrize("name", ["ed25519", "p256", "p521", "sk-ed25519", "sk-ecdsa"])
def test_we_accept_no_key_that_ssh_keygen_cannot_read(tmp_path: Path, name: str) -> None:
    """A damaged key that we still accept has the same fingerprint in ssh-keygen."""
    rng, blob = random.Random(name), KEYS[name].blob
    kind = KEYS[name].kind
    lines = {f"{kind} {base64.b64encode(damaged(blob, rng)).decode()}" for _ in range(KEY_MUTANTS)}
    ours = set(readable(sorted(lines), lambda line: parse_public_key(line).fingerprint))

    assert ours <= SshKeygen(tmp_path).fingerprints(sorted(lines))
    if name.endswith("ed25519"):
        assert len(ours) > 10  # one random point in 16 is valid: mutants reach the last rule


def readable(lines: list[str], read: Callable[[str], str]) -> Iterator[str]:
    """Yield the result of `read` for each line that it accepts."""
    for line in lines:
        try:
            yield read(line)
        except Malformed:
            continue
