# SPDX-License-Identifier: Apache-2.0
"""Signatures made and verified by the installed ssh-keygen, with key files and security keys.

Where breakglass is stricter than ssh-keygen, a test shows that ssh-keygen accepts and we refuse.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from breakglass.core.sshkey import SshKey, parse_public_key, parse_public_key_file
from breakglass.core.sshsig import SshSignature, parse_armor, verify_signature
from breakglass.errors import BadSignature, Malformed
from tests.support import openssh, softsk, ssh_keys
from tests.support.openssh import SshKeygen
from tests.support.ssh_keys import SigningKey, armored
from tests.support.sshsig_parts import (
    Parts,
    ecdsa_security_key,
    parts,
    rsa_file,
    rsa_key,
    take_text,
)

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(bool(openssh.why_not()), reason=openssh.why_not() or "not skipped"),
]
needs_softsk = pytest.mark.skipif(bool(softsk.why_not()), reason=softsk.why_not() or "not skipped")

NAMESPACE = "breakglass-command-v1"
ANOTHER = "breakglass-trust-v1"
MESSAGE = b'{"stop":"monitoring/telemetry"}\n'
HASHES = ["sha256", "sha512"]
FILE_KEYS = [
    ("ed25519",),
    ("ecdsa", "-b", "256"),
    ("ecdsa", "-b", "384"),
    ("ecdsa", "-b", "521"),
    ("rsa", "-b", "3072"),
]
SECURITY_KEYS = ["ed25519-sk", "ecdsa-sk"]

OUR_KEYS: dict[str, SigningKey] = {
    "ed25519": ssh_keys.ed25519("ana"),
    "p256": ssh_keys.ecdsa("ana", 256),
    "p384": ssh_keys.ecdsa("ana", 384),
    "p521": ssh_keys.ecdsa("ana", 521),
    "rsa-256": rsa_key(3072, "rsa-sha2-256"),
    "rsa-512": rsa_key(3072, "rsa-sha2-512"),
    "sk-ed25519-1": ssh_keys.security_key("ana"),
    "sk-ed25519-5": ssh_keys.security_key("ana", flags=5),
    "sk-ed25519-team": ssh_keys.security_key("ana", application="ssh:team"),
    "sk-ecdsa-1": ecdsa_security_key("ana"),
    "sk-ecdsa-5": ecdsa_security_key("ana", flags=5),
}


@pytest.fixture
def keygen(tmp_path: Path) -> SshKeygen:
    """Return ssh-keygen for key files."""
    return SshKeygen(tmp_path)


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the library of the software security key."""
    return softsk.build(tmp_path_factory.mktemp("softsk"))


@pytest.fixture
def with_softsk(tmp_path: Path, provider: Path) -> SshKeygen:
    """Return ssh-keygen with the software security key."""
    return SshKeygen(tmp_path, provider)


def public(private: Path) -> SshKey:
    """Return the key in the `.pub` file of a private key, read as `init` reads it."""
    key, comment = parse_public_key_file(private.with_name(f"{private.name}.pub").read_text())
    assert comment == "a comment"
    return key


def verify(key: SshKey, armor: bytes, *, verify_required: bool = False) -> SshSignature:
    """Verify as a node does, and return the signature."""
    signature = parse_armor(armor)
    verify_signature(signature, key, MESSAGE, namespace=NAMESPACE, verify_required=verify_required)
    return signature


def refusal(key: SshKey, armor: bytes, *, verify_required: bool = False) -> str:
    """Return the stable code of the refusal."""
    with pytest.raises(BadSignature) as caught:
        verify(key, armor, verify_required=verify_required)
    return caught.value.stable_code


@pytest.mark.parametrize("kind", FILE_KEYS, ids="".join)
def test_what_ssh_keygen_signs_we_accept(keygen: SshKeygen, kind: tuple[str, ...]) -> None:
    """With both hashes; our fingerprint and armor equal those of ssh-keygen byte for byte."""
    private = keygen.make(*kind)
    key = public(private)
    assert keygen.fingerprints([key.line]) == {key.fingerprint}
    for hash_name in HASHES:
        armor = keygen.sign(private, MESSAGE, NAMESPACE, "-O", f"hashalg={hash_name}")
        signature = verify(key, armor)
        assert signature.hash_name == hash_name
        assert armored(signature.blob) == armor


@pytest.mark.parametrize("kind", FILE_KEYS, ids="".join)
def test_what_ssh_keygen_signs_for_something_else_we_refuse(
    keygen: SshKeygen, kind: tuple[str, ...]
) -> None:
    """Another namespace, another text, another key, and a plain key where trust needs a PIN."""
    private = keygen.make(*kind)
    key = public(private)
    assert refusal(key, keygen.sign(private, MESSAGE, ANOTHER)) == "signature-namespace"
    assert refusal(key, keygen.sign(private, b"other\n", NAMESPACE)) == "signature-invalid"
    armor = keygen.sign(private, MESSAGE, NAMESPACE)
    assert refusal(key, armor, verify_required=True) == "signature-verify-required"
    assert refusal(public(keygen.make(*kind)), armor) == "signature-key"


@needs_softsk
@pytest.mark.parametrize("kind", SECURITY_KEYS)
def test_a_touched_security_key_is_accepted(with_softsk: SshKeygen, kind: str) -> None:
    """Its flags are 1, which is enough unless trust requires a PIN."""
    private = with_softsk.make(kind)
    key = public(private)
    armor = with_softsk.sign(private, MESSAGE, NAMESPACE)
    signature = verify(key, armor)
    assert (signature.flags, signature.counter, key.application) == (1, 7, "ssh:")
    assert with_softsk.accepts(key.line, armor, MESSAGE, NAMESPACE)
    assert refusal(key, armor, verify_required=True) == "signature-verify-required"


@needs_softsk
@pytest.mark.parametrize("kind", SECURITY_KEYS)
def test_a_pin_is_accepted_where_trust_requires_it(with_softsk: SshKeygen, kind: str) -> None:
    """A key made with `-O verify-required` signs with flags 5."""
    private = with_softsk.make(kind, "-O", "verify-required")
    armor = with_softsk.sign(private, MESSAGE, NAMESPACE)
    assert verify(public(private), armor, verify_required=True).flags == 5
    verify(public(private), armor)


@needs_softsk
@pytest.mark.parametrize("kind", SECURITY_KEYS)
def test_an_untouched_security_key_is_refused(with_softsk: SshKeygen, kind: str) -> None:
    """Malware can use a key of `-O no-touch-required` without a person; ssh-keygen accepts it."""
    private = with_softsk.make(kind, "-O", "no-touch-required")
    armor = with_softsk.sign(private, MESSAGE, NAMESPACE)
    assert parse_armor(armor).flags == 0
    assert with_softsk.accepts(public(private).line, armor, MESSAGE, NAMESPACE)
    assert refusal(public(private), armor) == "signature-presence"


@needs_softsk
def test_another_application_of_a_security_key_is_accepted(with_softsk: SshKeygen) -> None:
    """A person can use `-O application=ssh:team` to keep keys apart."""
    private = with_softsk.make("ed25519-sk", "-O", "application=ssh:team")
    key = public(private)
    assert key.application == "ssh:team"
    verify(key, with_softsk.sign(private, MESSAGE, NAMESPACE))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (ssh_keys.security_key("web", application="https://example.org"), "starts with ssh:"),
        (ecdsa_security_key("web", application="https://example.org"), "starts with ssh:"),
        (rsa_key(2048), "RSA key of 3072 to 8192 bits, got 2048"),
    ],
    ids=["website-ed25519", "website-ecdsa", "rsa-2048"],
)
def test_a_key_that_ssh_keygen_accepts_and_trust_refuses(
    keygen: SshKeygen, key: SigningKey, message: str
) -> None:
    """A website can request signatures of its security key; a short RSA key may be broken."""
    assert keygen.accepts(key.line, key.sign(MESSAGE, namespace=NAMESPACE), MESSAGE, NAMESPACE)
    with pytest.raises(Malformed, match=message):
        parse_public_key(key.line)


def test_a_certificate_is_refused_with_advice(keygen: SshKeygen) -> None:
    """For a key and for a signature of -cert.pub the hint says to use the plain key file."""
    private = keygen.make("ed25519")
    certificate = keygen.certify(private, keygen.make("ed25519"))
    armor = keygen.sign(certificate, MESSAGE, NAMESPACE)
    with pytest.raises(Malformed, match="the certificate type") as of_key:
        parse_public_key_file(certificate.read_text())
    with pytest.raises(Malformed, match="the certificate type") as of_signature:
        parse_armor(armor)
    assert "plain key file" in of_key.value.hint
    assert of_key.value.hint == of_signature.value.hint


@pytest.mark.parametrize("hash_name", HASHES)
@pytest.mark.parametrize("key", OUR_KEYS.values(), ids=OUR_KEYS.keys())
def test_what_our_tests_sign_ssh_keygen_accepts(
    keygen: SshKeygen, key: SigningKey, hash_name: str
) -> None:
    """The signers of the tests make valid OpenSSH signatures, so other tests can rely on them."""
    armor = key.sign(MESSAGE, namespace=NAMESPACE, hash_name=hash_name)
    assert keygen.accepts(key.line, armor, MESSAGE, NAMESPACE)
    assert not keygen.accepts(key.line, armor, MESSAGE + b"x", NAMESPACE)
    assert not keygen.accepts(key.line, armor, MESSAGE, ANOTHER)
    verify(parse_public_key(key.line), armor)


@pytest.mark.parametrize("name", ["ed25519", "p256", "p384", "rsa-512"])
def test_a_private_key_of_ours_signs_in_ssh_keygen(
    keygen: SshKeygen, tmp_path: Path, name: str
) -> None:
    """We accept a signature that ssh-keygen made with a private key of the tests."""
    key = OUR_KEYS[name]
    file = tmp_path / "ours"
    file.touch(mode=0o600)
    file.write_bytes(rsa_file() if key.kind == "ssh-rsa" else key.openssh)
    verify(parse_public_key(key.line), keygen.sign(file, MESSAGE, NAMESPACE))


def test_sha1_is_refused_by_both(keygen: SshKeygen) -> None:
    """The algorithm `ssh-rsa` means SHA-1."""
    key = rsa_key(3072, "ssh-rsa")
    armor = key.sign(MESSAGE, namespace=NAMESPACE)
    assert not keygen.accepts(key.line, armor, MESSAGE, NAMESPACE)
    assert refusal(parse_public_key(key.line), armor) == "signature-algorithm"


@pytest.mark.parametrize(
    ("loose", "message"),
    [
        (lambda good: good.but(reserved=b"hidden").armor, "nothing in the reserved field"),
        (lambda good: good.but(version=0).armor, "version 1 of SSHSIG, got 0"),
        (lambda good: good.armor + b"approved by the boss\n", "one armored SSH signature"),
        (lambda good: good.armor.replace(b"\n", b"\n  ", 2), "expected base64"),
    ],
    ids=["reserved", "version", "text-after", "blanks"],
)
def test_looseness_of_ssh_keygen_is_refused(
    keygen: SshKeygen, loose: Callable[[Parts], bytes], message: str
) -> None:
    """Otherwise one approval could have several encodings, or carry text that is not signed."""
    key = OUR_KEYS["ed25519"]
    armor = loose(parts(key, MESSAGE, namespace=NAMESPACE))
    assert keygen.accepts(key.line, armor, MESSAGE, NAMESPACE)
    with pytest.raises(Malformed, match=message):
        parse_armor(armor)


def longer_scalar(raw: bytes) -> bytes:
    """Write S + L for the S of an Ed25519 signature (RFC 8032, section 5.1.7)."""
    order = 2**252 + 27742317777372353535851937790883648493
    return raw[:32] + (int.from_bytes(raw[32:], "little") + order).to_bytes(32, "little")


def longer_number(raw: bytes) -> bytes:
    """Put zeros before the r of an ECDSA signature."""
    r, rest = take_text(raw)
    return ssh_keys.text(b"\0\0" + r) + rest


@pytest.mark.parametrize(
    ("name", "spell"), [("ed25519", longer_scalar), ("p256", longer_number)], ids=["S+L", "zeros"]
)
def test_another_encoding_of_the_same_numbers_is_refused(
    keygen: SshKeygen, name: str, spell: Callable[[bytes], bytes]
) -> None:
    """OpenSSH 9.2 takes both, so other bytes of one approval can be made without the key."""
    key = OUR_KEYS[name]
    good = parts(key, MESSAGE, namespace=NAMESPACE)
    kind, rest = take_text(good.inner)
    inner = ssh_keys.text(kind) + ssh_keys.text(spell(take_text(rest)[0]))
    armor = good.but(inner=inner).armor
    if openssh.version() == (9, 2):
        assert keygen.accepts(key.line, armor, MESSAGE, NAMESPACE)
    assert refusal(parse_public_key(key.line), armor) == "signature-invalid"


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The reason of a skipped test names what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert openssh.why_not() == "ssh-keygen is not installed"
    assert softsk.why_not().startswith("gcc is not installed")
