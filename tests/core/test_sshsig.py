# SPDX-License-Identifier: Apache-2.0
"""SSH signatures under the strict profile: each wrong part is refused with its own code."""

import base64
import contextlib
import dataclasses
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breakglass.core import bounds
from breakglass.core.sshkey import parse_key_blob
from breakglass.core.sshsig import (
    SshSignature,
    parse_armor,
    parse_blob,
    signed_bytes,
    verify_signature,
)
from breakglass.errors import BadSignature, Malformed
from tests.support import ssh_keys, sshsig_parts
from tests.support.properties import property_test
from tests.support.ssh_keys import SigningKey, armored, number, text
from tests.support.sshsig_parts import mpint, parts

MESSAGE = b"stop it\n"
NAMESPACE = "breakglass-command-v1"
KEYS = {
    "ed25519": ssh_keys.ed25519("ana"),
    "p256": ssh_keys.ecdsa("ana", 256),
    "p384": ssh_keys.ecdsa("ana", 384),
    "p521": ssh_keys.ecdsa("ana", 521),
    "rsa-256": sshsig_parts.rsa_key(3072, "rsa-sha2-256"),
    "rsa-512": sshsig_parts.rsa_key(3072, "rsa-sha2-512"),
    "rsa-4096": sshsig_parts.rsa_key(4096),
    "sk-ed25519": ssh_keys.security_key("ana"),
    "sk-ecdsa": sshsig_parts.ecdsa_security_key("ana"),
}
ED25519 = KEYS["ed25519"]
GOOD = {name: parts(key, MESSAGE, namespace=NAMESPACE) for name, key in KEYS.items()}
CODES = frozenset(
    f"signature-{what}"
    for what in (
        "namespace",
        "key",
        "algorithm",
        "hash",
        "presence",
        "verify-required",
        "invalid",
    )
)
TOUCHED, VERIFIED = 0x01, 0x04
each_key = pytest.mark.parametrize("name", KEYS)


class MakesSecurityKey(Protocol):
    """A function that makes one of the two kinds of security keys."""

    def __call__(self, seed: str, *, flags: int = 1, application: str = "ssh:") -> SigningKey:
        """Return the key for a seed."""


each_security_key = pytest.mark.parametrize(
    "make", [ssh_keys.security_key, sshsig_parts.ecdsa_security_key], ids=["ed25519", "ecdsa"]
)


def verify(
    armor: bytes,
    key: SigningKey = ED25519,
    *,
    message: bytes = MESSAGE,
    namespace: str = NAMESPACE,
    verify_required: bool = False,
) -> None:
    """Verify an armored signature with `key` as the trusted key."""
    verify_signature(
        parse_armor(armor),
        parse_key_blob(key.blob),
        message,
        namespace=namespace,
        verify_required=verify_required,
    )


def refusal(armor: bytes, key: SigningKey = ED25519, *, verify_required: bool = False) -> str:
    """Return the code of the error for a well-formed signature."""
    signature = parse_armor(armor)
    with pytest.raises(BadSignature) as caught:
        verify_signature(
            signature,
            parse_key_blob(key.blob),
            MESSAGE,
            namespace=NAMESPACE,
            verify_required=verify_required,
        )
    assert caught.value.message.startswith("expected ")
    return caught.value.stable_code


def malformed(armor: bytes) -> Malformed:
    """Return the error for an armor that is not a signature."""
    with pytest.raises(Malformed) as caught:
        parse_armor(armor)
    return caught.value


# Accepted signatures.


@each_key
@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
def test_a_signature_of_every_type_holds(name: str, hash_name: str) -> None:
    """A signature of every key type verifies, with either hash."""
    verify(parts(KEYS[name], MESSAGE, namespace=NAMESPACE, hash_name=hash_name).armor, KEYS[name])


@each_key
def test_a_signature_tells_what_it_claims(name: str) -> None:
    """A parsed signature has its claims; only a security key's has flags."""
    signature = parse_armor(GOOD[name].armor)

    assert signature.key_blob == KEYS[name].blob
    assert (signature.namespace, signature.hash_name) == (NAMESPACE, "sha512")
    assert signature.blob == GOOD[name].blob
    security_key = name.startswith("sk-")
    assert (signature.flags, signature.counter) == ((1, 7) if security_key else (None, None))


@each_key
def test_the_armor_is_the_one_that_ssh_keygen_writes(name: str) -> None:
    """Armoring the blob again in lines of 70 gives the same armor."""
    armor = GOOD[name].armor

    assert armored(parse_armor(armor).blob) == armor
    assert max(map(len, armor.splitlines())) == 70


@pytest.mark.parametrize("columns", [1, 64, 76, 4_000])
def test_another_width_is_the_same_signature(columns: int) -> None:
    """The line width of the armor is free (PROTOCOL.sshsig); the blob is the same."""
    coded = base64.b64encode(GOOD["ed25519"].blob)
    lines = [coded[place : place + columns] for place in range(0, len(coded), columns)]
    begin, *_, end, last = GOOD["ed25519"].armor.split(b"\n")
    armor = b"\n".join((begin, *lines, end, last))

    verify(armor)
    assert parse_armor(armor) == parse_armor(GOOD["ed25519"].armor)


def test_what_is_signed_is_framed_and_labelled() -> None:
    """The signed bytes follow PROTOCOL.sshsig: magic, namespace, reserved, hash, digest."""
    signed = signed_bytes("ns", "sha256", b"")
    digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

    assert signed[:6] == b"SSHSIG"
    assert signed[6:] == b"".join(map(text, (b"ns", b"", b"sha256", bytes.fromhex(digest))))


# The profile (stricter than `ssh-keygen -Y verify`), one rule each.


@pytest.mark.parametrize("version", [0, 2, 0x01000000])
def test_another_version_is_refused(version: int) -> None:
    """Only version 1 is accepted; ssh-keygen accepts 0 too."""
    assert "version 1" in malformed(GOOD["ed25519"].but(version=version).armor).message


def test_the_reserved_field_is_empty() -> None:
    """A filled reserved field is refused; ssh-keygen ignores it."""
    assert "reserved" in malformed(GOOD["ed25519"].but(reserved=b"\0").armor).message


def test_another_magic_is_refused() -> None:
    """A blob with another magic is refused."""
    assert "magic" in malformed(GOOD["ed25519"].but(magic=b"SSHSIH").armor).message


def test_a_namespace_is_there_and_printable() -> None:
    """An empty or unprintable namespace is refused; ssh-keygen reads it as a C string."""
    assert "a namespace" in malformed(GOOD["ed25519"].but(namespace=b"").armor).message
    for namespace in (b"a\0b", b"a\n", b"\xc3\xa9", b"\xff"):
        assert "printable" in malformed(GOOD["ed25519"].but(namespace=namespace).armor).message


@pytest.mark.parametrize("tail", [b"\0", b"\0\0\0\0", b"SSHSIG"])
def test_nothing_follows_the_last_field(tail: bytes) -> None:
    """Surplus bytes after the signature are refused."""
    assert "the end" in malformed(GOOD["ed25519"].but(tail=tail).armor).message


@each_key
def test_nothing_follows_inside_the_signature(name: str) -> None:
    """Surplus bytes in the inner signature are refused."""
    good = GOOD[name]

    assert "the end" in malformed(good.but(inner=good.inner + b"\0").armor).message


@each_key
def test_a_signature_cut_short_is_refused(name: str) -> None:
    """A signature cut at any byte is malformed."""
    blob = GOOD[name].blob
    for length in range(0, len(blob), 7):
        malformed(armored(blob[:length]))
    for length in range(0, len(GOOD[name].inner), 7):
        malformed(GOOD[name].but(inner=GOOD[name].inner[:length]).armor)


def test_another_namespace_does_not_count() -> None:
    """A signature for a file, git or a trust does not count for a command."""
    for namespace in ("file", "git", "breakglass-trust-v1", NAMESPACE.upper(), NAMESPACE + "x"):
        armor = parts(ED25519, MESSAGE, namespace=namespace).armor
        assert refusal(armor) == "signature-namespace"
        verify(armor, namespace=namespace)


def test_a_namespace_is_signed() -> None:
    """Changing the namespace in a signature breaks it."""
    stolen = parts(ED25519, MESSAGE, namespace="git").but(namespace=NAMESPACE.encode())

    assert refusal(stolen.armor) == "signature-invalid"


@pytest.mark.parametrize("hash_name", [b"sha1", b"md5", b"sha384", b"SHA512", b"sha512 ", b""])
def test_another_hash_is_refused(hash_name: bytes) -> None:
    """Only sha256 and sha512 are accepted, whatever else `hashlib` offers."""
    assert refusal(GOOD["ed25519"].but(hash_name=hash_name).armor) == "signature-hash"


def test_a_hash_is_signed() -> None:
    """Changing the hash name in a signature breaks it."""
    assert refusal(GOOD["ed25519"].but(hash_name=b"sha256").armor) == "signature-invalid"


def test_the_key_is_the_trusted_one() -> None:
    """A valid signature of another key does not count."""
    stranger = ssh_keys.ed25519("mallory")
    armor = parts(stranger, MESSAGE, namespace=NAMESPACE).armor

    verify(armor, stranger)
    assert refusal(armor) == "signature-key"


def test_a_key_put_into_a_strangers_signature_does_not_help() -> None:
    """Another key's signature with the trusted key put into it does not verify."""
    stranger = parts(ssh_keys.ed25519("mallory"), MESSAGE, namespace=NAMESPACE)

    assert refusal(stranger.but(key_blob=ED25519.blob).armor) == "signature-invalid"


@pytest.mark.parametrize("name", [name for name in KEYS if not name.startswith("rsa")])
def test_the_algorithm_is_the_keys(name: str) -> None:
    """An algorithm that the trusted key's type does not allow is refused."""
    for other, good in GOOD.items():
        if other != name:
            claimed = good.but(key_blob=KEYS[name].blob)
            assert refusal(claimed.armor, KEYS[name]) == "signature-algorithm"


def test_rsa_with_sha1_is_refused() -> None:
    """An RSA signature with SHA-1 is well formed but does not count."""
    key = sshsig_parts.rsa_key(3072, "ssh-rsa")

    assert refusal(parts(key, MESSAGE, namespace=NAMESPACE).armor, key) == "signature-algorithm"


def test_a_plain_signature_is_none_of_a_security_key() -> None:
    """A plain signature by a security key's private key does not count: it has no flags."""
    device = ssh_keys.security_key("ana")
    plain = parts(ssh_keys.ed25519("ana"), MESSAGE, namespace=NAMESPACE)

    assert refusal(plain.but(key_blob=device.blob).armor, device) == "signature-algorithm"


@pytest.mark.parametrize(
    "kind",
    ["ssh-ed25519-cert-v01@openssh.com", "sk-ssh-ed25519-cert-v01@openssh.com"],
)
def test_a_certificate_in_a_signature_is_refused_in_clear_words(kind: str) -> None:
    """The hint for a certificate says to use the plain key file."""
    error = malformed(GOOD["ed25519"].but(key_blob=text(kind.encode()) + text(b"nonce")).armor)

    assert error.stable_code == "certificate"
    assert "certificate" in error.message
    assert error.hint == "sign with the plain key file, not with -cert.pub"


@pytest.mark.parametrize("kind", [b"ssh-dss", b"ssh-mldsa44-ed25519@openssh.com", b""])
def test_an_unknown_type_is_refused_by_its_name(kind: bytes) -> None:
    """An unknown type is named in the message, in the key and in the algorithm."""
    for claimed in (
        GOOD["ed25519"].but(key_blob=text(kind) + text(b"something")),
        GOOD["ed25519"].but(inner=text(kind) + text(b"something")),
    ):
        error = malformed(claimed.armor)
        assert error.stable_code == "unsupported-key"
        assert repr(kind.decode()) in error.message


def test_a_webauthn_signature_is_refused() -> None:
    """A WebAuthn signature is refused: a browser signs what a web page asks for."""
    kind = b"webauthn-sk-ecdsa-sha2-nistp256@openssh.com"
    inner = (
        text(kind) + text(b"") + b"\1" + number(7) + text(b"https://x") + text(b"{}") + text(b"")
    )
    claimed = GOOD["sk-ecdsa"].but(inner=inner)

    assert "webauthn" in malformed(claimed.armor).message


def test_a_damaged_key_in_a_signature_is_malformed() -> None:
    """A signature whose key has no type is malformed."""
    for blob in (b"", b"\0\0\0\x0bssh", text(b"ssh-\xff")):
        malformed(GOOD["ed25519"].but(key_blob=blob).armor)


# Security keys.


@each_security_key
def test_a_security_key_that_nobody_touched_is_refused(
    make: MakesSecurityKey,
) -> None:
    """A signature without the presence flag is refused; ssh-keygen accepts it."""
    for flags in (0, VERIFIED, 0xFE):
        key = make("ana", flags=flags)
        armor = parts(key, MESSAGE, namespace=NAMESPACE).armor
        assert refusal(armor, key) == "signature-presence"


@each_security_key
def test_a_pin_is_asked_for_where_the_trust_says_so(make: MakesSecurityKey) -> None:
    """With `verify_required` a touch is not enough; without it more flags are allowed."""
    touched, verified = make("ana", flags=TOUCHED), make("ana", flags=TOUCHED | VERIFIED)
    armors = [parts(key, MESSAGE, namespace=NAMESPACE).armor for key in (touched, verified)]

    verify(armors[0], touched)
    verify(armors[1], touched)
    verify(armors[1], touched, verify_required=True)
    assert refusal(armors[0], touched, verify_required=True) == "signature-verify-required"


@each_security_key
def test_flags_and_counter_are_signed(make: MakesSecurityKey) -> None:
    """Changing the flags or the counter breaks the signature before flags are checked."""
    for flags in (0, TOUCHED):
        good = parts(make("ana", flags=flags), MESSAGE, namespace=NAMESPACE)
        head = good.inner[:-5]
        for said in (bytes([TOUCHED | VERIFIED]) + number(7), bytes([flags]) + number(8)):
            assert refusal(good.but(inner=head + said).armor, make("ana")) == "signature-invalid"


@each_security_key
def test_the_application_is_signed(make: MakesSecurityKey) -> None:
    """The same device key under another application signs other bytes."""
    elsewhere = make("ana", application="ssh:elsewhere")
    good = parts(elsewhere, MESSAGE, namespace=NAMESPACE)

    verify(good.armor, elsewhere)
    assert refusal(good.armor, make("ana")) == "signature-key"
    assert refusal(good.but(key_blob=make("ana").blob).armor, make("ana")) == "signature-invalid"


def test_a_pin_is_never_asked_of_a_plain_key() -> None:
    """`verify_required` with a plain key is refused, not ignored."""
    assert refusal(GOOD["ed25519"].armor, verify_required=True) == "signature-verify-required"


def test_a_security_keys_signature_without_flags_is_refused() -> None:
    """A constructed signature without flags and counter is refused."""
    key = KEYS["sk-ed25519"]
    signature = parse_armor(GOOD["sk-ed25519"].armor)
    bare = dataclasses.replace(signature, flags=None, counter=None)

    with pytest.raises(BadSignature):
        verify_signature(bare, parse_key_blob(key.blob), MESSAGE, namespace=NAMESPACE)


# Verification.


@each_key
def test_another_message_is_not_what_was_signed(name: str) -> None:
    """A message with one byte added, removed or changed does not verify."""
    for message in (b"", MESSAGE[:-1], MESSAGE + b"\n", MESSAGE.upper()):
        with pytest.raises(BadSignature) as caught:
            verify(GOOD[name].armor, KEYS[name], message=message)
        assert caught.value.stable_code == "signature-invalid"


@pytest.mark.parametrize("name", ["p256", "sk-ecdsa"])
def test_the_other_s_is_the_same_persons_signature(name: str) -> None:
    """Anyone can change (r, s) into a valid (r, n - s), so people are counted, not signatures."""
    other = sshsig_parts.with_other_s(KEYS[name])
    armor = parts(other, MESSAGE, namespace=NAMESPACE).armor

    verify(armor, KEYS[name])
    assert parse_armor(armor).blob != parse_armor(GOOD[name].armor).blob


@pytest.mark.parametrize("name", ["p256", "sk-ecdsa"])
def test_ecdsa_numbers_have_one_spelling_and_a_range(name: str) -> None:
    """Non-minimal, negative, zero and too large numbers do not verify."""
    inner = GOOD[name].inner
    kind, rest = sshsig_parts.take_text(inner)
    numbers, said = sshsig_parts.take_text(rest)
    r, after = sshsig_parts.take_text(numbers)
    s, _ = sshsig_parts.take_text(after)
    order = sshsig_parts.CURVE_ORDER[256]
    wrong = [
        text(b"\0" + r) + text(s),
        text(r) + text(b"\0" + s),
        text(r) + text(b"\xff" + s),
        text(r) + text(s) + b"\0",
        text(r),
        b"",
        mpint(0) + text(s),
        text(r) + mpint(0),
        mpint(int.from_bytes(r) + order) + text(s),
        text(r) + mpint(int.from_bytes(s) + order),
        mpint(1 << 20_000) + text(s),
    ]
    for body in wrong:
        claimed = GOOD[name].but(inner=text(kind) + text(body) + said)
        assert refusal(claimed.armor, KEYS[name]) == "signature-invalid"


def test_ed25519_numbers_have_one_spelling() -> None:
    """S + L does not verify, as a strict verifier requires (RFC 8032, section 8.4)."""
    order = 2**252 + 27742317777372353535851937790883648493
    raw = GOOD["ed25519"].inner[-64:]
    s = int.from_bytes(raw[32:], "little") + order
    for body in (raw[:32] + s.to_bytes(32, "little"), raw[:63], raw + b"\0", b"", bytes(64)):
        claimed = GOOD["ed25519"].but(inner=text(b"ssh-ed25519") + text(body))
        assert refusal(claimed.armor) == "signature-invalid"


# The armor.


def lines_of(armor: bytes) -> list[bytes]:
    """Return the lines of an armor."""
    return armor.removesuffix(b"\n").split(b"\n")


def test_an_armor_is_one_block_and_nothing_else() -> None:
    """Text around or inside a block, which ssh-keygen ignores, is refused."""
    good = GOOD["ed25519"].armor
    begin, first, *middle, last, end = lines_of(good)
    loose = {
        "text before": b"hello\n" + good,
        "a blank line before": b"\n" + good,
        "text after": good + b"hello\n",
        "a blank line after": good + b"\n",
        "twice": good + good,
        "no last line feed": good.removesuffix(b"\n"),
        "CRLF": good.replace(b"\n", b"\r\n"),
        "CR": good.replace(b"\n", b"\r"),
        "a byte order mark": b"\xef\xbb\xbf" + good,
        "a blank line inside": b"\n".join((begin, first, b"", *middle, last, end, b"")),
        "a blank inside": b"\n".join(
            (begin, first[:5] + b" " + first[5:], *middle, last, end, b"")
        ),
        "an indented line": b"\n".join((begin, b" " + first, *middle, last, end, b"")),
        "a trailing blank": b"\n".join((begin, first + b" ", *middle, last, end, b"")),
        "a tab": b"\n".join((begin, first + b"\t", *middle, last, end, b"")),
        "no body": b"\n".join((begin, end, b"")),
        "an empty body": b"\n".join((begin, b"", end, b"")),
        "no begin": b"\n".join((first, *middle, last, end, b"")),
        "no end": b"\n".join((begin, first, *middle, last, b"")),
        "the end in a line": b"\n".join((begin, first, *middle, last + end, b"")),
        "a header": b"\n".join((begin, b"Version: 1", first, *middle, last, end, b"")),
        "PGP": good.replace(b"SSH SIGNATURE", b"PGP SIGNATURE"),
        "lower case": good.lower(),
        "nothing": b"",
        "a line feed": b"\n",
        "another byte": good.replace(first[:1], b"\xc3", 1),
        "a NUL": good + b"\0",
    }
    accepted = []
    for what, armor in loose.items():
        with contextlib.suppress(Malformed):
            parse_armor(armor)
            accepted.append(what)

    assert accepted == []


def test_base64_has_one_spelling() -> None:
    """Unused bits, missing or inner padding and another alphabet are refused."""
    for size in range(3):  # the three kinds of padding
        good = parts(ED25519, MESSAGE, namespace="n" * (size + 1)).armor
        begin, *body, end = lines_of(good)
        coded = b"".join(body)
        padding = len(coded) - len(coded.rstrip(b"="))
        others = [coded + b"=", coded[:-1], b"=" + coded, coded[:8] + b"====" + coded[8:]]
        if padding:
            letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
            last = letters.index(coded.rstrip(b"=")[-1:])
            others.append(coded.rstrip(b"=")[:-1] + letters[last + 1 : last + 2] + b"=" * padding)
            others.append(coded.rstrip(b"="))
        parse_armor(b"\n".join((begin, coded, end, b"")))
        for other in others:
            assert "base64" in malformed(b"\n".join((begin, other, end, b""))).message


def test_an_armor_has_a_size() -> None:
    """An armor beyond its bound is not decoded."""
    error = malformed(armored(bytes(bounds.MAX_ARMOR_BYTES)))

    assert str(bounds.MAX_ARMOR_BYTES) in error.message


def test_a_length_that_lies_costs_nothing() -> None:
    """A field with a length of four gigabytes is refused without allocating them."""
    blob = GOOD["ed25519"].blob
    for place in range(10, len(blob) - 4):
        with contextlib.suppress(Malformed):
            parse_blob(blob[:place] + b"\xff\xff\xff\xff" + blob[place + 4 :])


# Any input.


@property_test
@given(st.binary(max_size=400))
def test_any_bytes_are_a_signature_or_malformed(raw: bytes) -> None:
    """Parsing any blob or armor returns a signature or raises Malformed."""
    for parse, given_bytes in ((parse_blob, raw), (parse_armor, raw), (parse_armor, armored(raw))):
        with contextlib.suppress(Malformed):
            assert isinstance(parse(given_bytes), SshSignature)


@property_test
@given(st.sampled_from(sorted(KEYS)), st.data())
def test_a_damaged_signature_never_holds(name: str, data: st.DataObject) -> None:
    """A blob with a changed part is malformed or refused."""
    blob = GOOD[name].blob
    start = data.draw(st.integers(0, len(blob) - 1))
    damaged = blob[:start] + data.draw(st.binary(max_size=6)) + blob[start + 1 :]
    if damaged == blob:
        return
    with pytest.raises((Malformed, BadSignature)) as caught:
        verify(armored(damaged), KEYS[name])
    if isinstance(caught.value, BadSignature):
        assert caught.value.stable_code in CODES
