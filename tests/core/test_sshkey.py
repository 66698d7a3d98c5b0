# SPDX-License-Identifier: Apache-2.0
"""Public keys: the strict profile, and what it guarantees for a trust."""

import base64
import contextlib
import dataclasses

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from breakglass.core import bounds
from breakglass.core.edwards import is_sound_point
from breakglass.core.sshkey import (
    SshKey,
    decode_base64,
    fingerprint,
    parse_key_blob,
    parse_public_key,
    parse_public_key_file,
)
from breakglass.errors import BadSignature, Malformed
from tests.support import ssh_keys, sshsig_parts
from tests.support.properties import property_test
from tests.support.ssh_keys import SigningKey, text
from tests.support.sshsig_parts import rsa_blob

KEYS = {
    "ed25519": ssh_keys.ed25519("ana"),
    "p256": ssh_keys.ecdsa("ana", 256),
    "p384": ssh_keys.ecdsa("ana", 384),
    "p521": ssh_keys.ecdsa("ana", 521),
    "rsa": sshsig_parts.rsa_key(3072),
    "sk-ed25519": ssh_keys.security_key("ana"),
    "sk-ecdsa": sshsig_parts.ecdsa_security_key("ana"),
}
ED25519 = KEYS["ed25519"]
each_key = pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
P = 2**255 - 19

# The eight points of small order (y, and the sign of x) and their non-canonical encodings, as in
# libsodium's ge25519_has_small_order.
Y8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
SMALL_ORDER = [
    (y | sign << 255).to_bytes(32, "little")
    for y in (0, 1, P - 1, Y8, P - Y8, P, P + 1)
    for sign in (0, 1)
]


def ed25519_blob(raw: bytes) -> bytes:
    """Return an Ed25519 key blob with these bytes as its point."""
    return text(b"ssh-ed25519") + text(raw)


def p256_blob(point: bytes, *, curve: bytes = b"nistp256") -> bytes:
    """Return an ECDSA key blob with this point."""
    return text(b"ecdsa-sha2-nistp256") + text(curve) + text(point)


def refusal(blob: bytes) -> Malformed:
    """Return the error for a key blob."""
    with pytest.raises(Malformed) as caught:
        parse_key_blob(blob)
    return caught.value


def raw_point(key: SigningKey) -> bytes:
    """Return the last field of a key's blob."""
    return key.blob[-32:] if key.kind == "ssh-ed25519" else key.blob[-65:]


@each_key
def test_a_key_is_read_as_it_was_written(key: SigningKey) -> None:
    """Parsing a key's line returns the key, and its `line` is the same text."""
    read = parse_public_key(key.line)

    assert (read.kind, read.blob, read.line) == (key.kind, key.blob, key.line)
    assert read == parse_key_blob(key.blob)
    assert read.fingerprint == fingerprint(key.blob)
    assert read.is_sk == key.kind.startswith("sk-")


@each_key
def test_only_the_key_says_which_algorithms_it_signs_with(key: SigningKey) -> None:
    """A key allows the algorithms of its type: two with SHA-2 for RSA, one for the others."""
    expected = {"rsa-sha2-256", "rsa-sha2-512"} if key.kind == "ssh-rsa" else {key.kind}

    assert parse_key_blob(key.blob).algorithms == expected


def test_a_key_in_a_security_key_is_the_same_material() -> None:
    """One raw key under two types or applications has one `material`."""
    plain = parse_key_blob(ssh_keys.ed25519("ana").blob)
    for application in ("ssh:", "ssh:elsewhere"):
        wrapped = parse_key_blob(ssh_keys.security_key("ana", application=application).blob)
        assert wrapped.material == plain.material
        assert wrapped.application == application
        assert wrapped != plain

    curve = parse_key_blob(p256_blob(raw_point(KEYS["p256"])))
    fields = (b"sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", raw_point(KEYS["p256"]), b"ssh:")
    assert parse_key_blob(b"".join(map(text, fields))).material == curve.material


def test_a_key_shows_no_more_than_what_it_is() -> None:
    """The `repr` of a key has its type and blob, but not the library's object."""
    assert "object at" not in repr(parse_key_blob(ED25519.blob))


# The rules of the profile, one test each.


@pytest.mark.parametrize(
    "kind", ["ssh-dss", "ssh-ed448", "x-unknown", "ssh-mldsa44-ed25519@openssh.com", ""]
)
def test_another_type_is_refused_by_its_name(kind: str) -> None:
    """An unsupported key type has another code than a damaged key."""
    error = refusal(text(kind.encode()) + text(b"something"))

    assert error.stable_code == "unsupported-key"
    assert repr(kind) in error.message
    assert "ssh-ed25519" in error.hint


@pytest.mark.parametrize(
    "kind",
    [
        "ssh-ed25519-cert-v01@openssh.com",
        "ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "rsa-sha2-512-cert-v01@openssh.com",
        "sk-ssh-ed25519-cert-v01@openssh.com",
    ],
)
def test_a_certificate_is_refused_with_what_to_do(kind: str) -> None:
    """A certificate is refused, and the hint asks for the plain key."""
    error = refusal(text(kind.encode()) + text(b"nonce"))

    assert error.stable_code == "certificate"
    assert "certificate" in error.message
    assert "not with -cert.pub" in error.hint


@pytest.mark.parametrize("raw", SMALL_ORDER, ids=bytes.hex)
def test_an_ed25519_key_of_small_order_is_refused(raw: bytes) -> None:
    """An attacker can sign for these fourteen encodings of eight points."""
    assert "prime order" in refusal(ed25519_blob(raw)).message


def test_a_twin_of_an_ed25519_key_is_refused() -> None:
    """A key plus the point of order two would be a second key with the same private key."""
    raw = raw_point(ED25519)
    y = int.from_bytes(raw, "little") % 2**255
    sign = raw[31] >> 7
    # Adding (0, -1) negates both coordinates.
    twin = (P - y | (1 - sign) << 255).to_bytes(32, "little")

    assert parse_key_blob(ed25519_blob(raw)).material == raw
    assert "prime order" in refusal(ed25519_blob(twin)).message


def test_an_ed25519_key_off_the_curve_is_refused() -> None:
    """A y without an x is refused; half of all values of y have none."""
    off = next(y for y in range(2, 9) if not is_sound_point(y.to_bytes(32, "little")))

    refusal(ed25519_blob(off.to_bytes(32, "little")))


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_an_ed25519_key_has_32_bytes(length: int) -> None:
    """A key of another length is refused before any arithmetic."""
    assert "32 bytes" in refusal(ed25519_blob(bytes(length))).message
    assert not is_sound_point(bytes(length))


def test_ed25519_points_are_sound_where_a_key_pair_made_them() -> None:
    """Every generated public key (RFC 8032) is sound, with either sign of x."""
    points = [raw_point(ssh_keys.ed25519(f"person {nth}")) for nth in range(40)]

    assert all(is_sound_point(point) for point in points)
    assert {point[31] >> 7 for point in points} == {0, 1}


def test_only_an_uncompressed_point_on_the_curve_is_a_key() -> None:
    """Other encodings of a point and points off the curve (invalid-curve attack) are refused."""
    point = raw_point(KEYS["p256"])
    compressed = bytes([2 + point[64] % 2]) + point[1:33]
    hybrid = bytes([6 + point[64] % 2]) + point[1:]
    for other in (compressed, hybrid, b"\0", b""):
        assert "uncompressed" in refusal(p256_blob(other)).message
    for other in (point[:-1] + bytes([point[-1] ^ 1]), point[:-1], point + b"\0", b"\x04"):
        assert "a point on nistp256" in refusal(p256_blob(other)).message


def test_the_curve_is_the_one_of_the_type() -> None:
    """The curve's name in the blob must be the one of the key type."""
    error = refusal(p256_blob(raw_point(KEYS["p256"]), curve=b"nistp384"))

    assert "the curve nistp256" in error.message


@pytest.mark.parametrize("bits", [1024, 2048])
def test_a_short_rsa_key_is_refused(bits: int) -> None:
    """RSA below 3072 bits is refused; ssh-keygen would accept it."""
    error = refusal(sshsig_parts.rsa_key(bits).blob)

    assert str(bounds.MIN_RSA_BITS) in error.message
    assert str(bits) in error.message


def test_an_rsa_key_has_sound_numbers() -> None:
    """A too long key, a small, even or huge exponent and an even modulus are refused."""
    modulus = (1 << 3071) + 1

    assert parse_key_blob(rsa_blob(65_537, modulus)).kind == "ssh-rsa"
    assert "8192" in refusal(rsa_blob(65_537, 1 << 8192 | 1)).message
    for exponent in (0, 1, 3, 17, 65_535, 65_538, 1 << 64 | 1):
        assert "exponent" in refusal(rsa_blob(exponent, modulus)).message
    assert "modulus" in refusal(rsa_blob(65_537, 1 << 3071)).message


def test_integers_are_minimal_and_not_negative() -> None:
    """Integers have one encoding, so that one key has one blob."""
    modulus = ((1 << 3071) + 1).to_bytes(384, "big")
    exponent = text(b"\1\0\1")
    good = text(b"ssh-rsa") + exponent + text(b"\0" + modulus)

    assert parse_key_blob(good).blob == good
    assert "negative" in refusal(text(b"ssh-rsa") + exponent + text(modulus)).message
    assert "shortest" in refusal(text(b"ssh-rsa") + exponent + text(b"\0\0" + modulus)).message
    assert "shortest" in refusal(text(b"ssh-rsa") + text(b"\0") + text(b"\0" + modulus)).message


@pytest.mark.parametrize("application", ["", "https://example.org", "SSH:", "ssh", "xssh:"])
def test_a_security_key_is_one_for_ssh(application: str) -> None:
    """A FIDO application without ssh: is refused: such a key signs for web pages."""
    for key in (
        ssh_keys.security_key("ana", application=application),
        sshsig_parts.ecdsa_security_key("ana", application=application),
    ):
        assert "ssh:" in refusal(key.blob).message


def test_an_application_is_short_and_printable() -> None:
    """An application is printable and has a bounded length."""
    longest = "ssh:" + "a" * (bounds.MAX_SSH_APPLICATION_CHARS - 4)
    key = parse_key_blob(ssh_keys.security_key("ana", application=longest).blob)
    assert key.application == longest
    refusal(ssh_keys.security_key("ana", application=longest + "a").blob)
    refusal(ssh_keys.security_key("ana", application="ssh:\n").blob)
    refusal(ssh_keys.security_key("ana", application="ssh:\u00e9").blob)


@each_key
def test_nothing_may_follow_a_key_and_nothing_may_miss(key: SigningKey) -> None:
    """Missing and surplus bytes are refused."""
    for extra in (b"\0", text(b""), text(b"ssh:")):
        assert "the end" in refusal(key.blob + extra).message
    for length in range(0, len(key.blob), 5):
        refusal(key.blob[:length])


def test_a_key_has_a_size() -> None:
    """A line or a blob beyond its bound is refused before it is parsed."""
    refusal(text(b"ssh-rsa") + bytes(bounds.MAX_PUBLIC_KEY_BYTES))
    with pytest.raises(Malformed, match="at most 4096 characters"):
        parse_public_key("ssh-ed25519 " + "A" * bounds.MAX_PUBLIC_KEY_BYTES)


# Lines and files.


def test_a_line_has_one_spelling() -> None:
    """A line is exactly a type, one space and canonical base64."""
    kind, encoded = ED25519.line.split(" ")
    others = {
        "": "type and base64",
        kind: "type and base64",
        f"{kind}\t{encoded}": "type and base64",
        f"{kind}  {encoded}": "base64",
        f" {kind} {encoded}": "base64",
        f"{kind} {encoded} ana": "base64",
        f"{kind} {encoded}\n": "base64",
        f"{kind} {encoded[:-1]}": "base64",
        f"{kind} {encoded}====": "base64",
        f"{kind} {encoded[:40]}\n{encoded[40:]}": "base64",
        f"{kind} {encoded[:-1]}\u0661": "base64",
        f'restrict,command="x" {kind} {encoded}': "base64",
        f"ssh-rsa {encoded}": "the type 'ssh-rsa'",
        f"{kind.upper()} {encoded}": "the type 'SSH-ED25519'",
    }
    for line, message in others.items():
        with pytest.raises(Malformed, match=message):
            parse_public_key(line)


@pytest.mark.parametrize("loose", ["AAB=", "AA=A", "AAA", "A A=", "AA==AA==", "_-8=", "AAA=\n"])
def test_base64_has_one_spelling(loose: str) -> None:
    """Unused bits, inner padding, another alphabet and whitespace are refused."""
    with pytest.raises(Malformed):
        decode_base64(loose)


def test_a_file_may_have_a_comment() -> None:
    """A `.pub` file gives its key and its comment, for `init`."""
    for content, comment in (
        (f"{ED25519.line} ana@bastion  laptop\n", "ana@bastion  laptop"),
        (f"\n  {ED25519.line}\r\n", ""),
    ):
        key, found = parse_public_key_file(content)
        assert (key.blob, found) == (ED25519.blob, comment)


def test_a_file_is_one_public_key() -> None:
    """No key, two keys and a private key are refused; the last with its own message."""
    for content in ("", "\n", f"{ED25519.line}\n{KEYS['p256'].line}\n"):
        with pytest.raises(Malformed, match="one public key"):
            parse_public_key_file(content)
    with pytest.raises(Malformed, match="private") as caught:
        parse_public_key_file(ED25519.openssh.decode())
    assert caught.value.hint == "give the .pub file"


# Verification.


def test_a_key_holds_only_its_own_signatures() -> None:
    """A signature verifies only with its own key, message and algorithm."""
    for one in KEYS.values():
        key = parse_key_blob(one.blob)
        if key.is_sk:
            continue
        whole = one.sign_bytes(b"message")
        algorithm, rest = sshsig_parts.take_text(whole)
        raw, _ = sshsig_parts.take_text(rest)
        key.verify(algorithm.decode(), raw, b"message")
        for wrong, message in ((raw, b"another"), (raw[:-1], b"message"), (b"", b"message")):
            with pytest.raises(BadSignature) as caught:
                key.verify(algorithm.decode(), wrong, message)
            assert caught.value.stable_code == "signature-invalid"


def test_an_rsa_signature_may_lack_its_leading_zeros() -> None:
    """An RSA signature without leading zeros verifies; a longer one does not."""
    one = sshsig_parts.rsa_key(3072)
    key = parse_key_blob(one.blob)

    def raw(nth: int) -> bytes:
        return sshsig_parts.take_text(sshsig_parts.take_text(one.sign_bytes(b"%d" % nth))[1])[0]

    nth = next(nth for nth in range(5_000) if raw(nth)[0] == 0)
    key.verify("rsa-sha2-512", raw(nth), b"%d" % nth)
    key.verify("rsa-sha2-512", raw(nth).lstrip(b"\0"), b"%d" % nth)
    with pytest.raises(BadSignature):
        key.verify("rsa-sha2-512", b"\0" + raw(nth), b"%d" % nth)
    with pytest.raises(BadSignature):
        key.verify("rsa-sha2-256", raw(nth), b"%d" % nth)


# Any input.


@property_test
@given(st.binary(max_size=300))
def test_any_bytes_are_a_key_or_malformed(raw: bytes) -> None:
    """Parsing any blob returns a key with that blob or raises Malformed."""
    with contextlib.suppress(Malformed):
        assert parse_key_blob(raw).blob == raw


@property_test
@given(st.sampled_from(sorted(KEYS)), st.data())
def test_a_damaged_key_is_another_key_or_malformed(name: str, data: st.DataObject) -> None:
    """A blob with one byte changed, removed or added is another key or refused."""
    blob = KEYS[name].blob
    place = data.draw(st.integers(0, len(blob) - 1))
    piece = data.draw(st.binary(max_size=2))
    damaged = blob[:place] + piece + blob[place + data.draw(st.integers(0, 2)) :]
    with contextlib.suppress(Malformed):
        assert parse_key_blob(damaged).blob == damaged


@property_test
@given(st.text(max_size=120))
@example("ssh-ed25519 \ud800")
@example(f"ssh-ed25519 {base64.b64encode(b'x' * 51).decode()}")
def test_any_text_is_a_key_or_malformed(line: str) -> None:
    """Parsing any line or file returns a key or raises Malformed."""
    for parse in (parse_public_key, parse_public_key_file):
        with contextlib.suppress(Malformed):
            parse(line)


def test_a_key_cannot_be_changed() -> None:
    """A key is immutable."""
    key: SshKey = parse_key_blob(ED25519.blob)
    with pytest.raises(dataclasses.FrozenInstanceError):
        key.blob = b""  # type: ignore[misc]
