# SPDX-License-Identifier: Apache-2.0
"""Checkpoints are C2SP signed notes by one key, and receipts prove entries under them."""

import base64
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breakglass.core.checkpoint import (
    Checkpoint,
    LogSigner,
    parse_checkpoint,
    parse_note,
    parse_vkey,
    sign_checkpoint,
    verify_checkpoint,
    verify_note,
)
from breakglass.core.merkle import Tree, leaf_hash
from breakglass.core.receipt import Receipt, verify_receipt
from breakglass.errors import BadProof, BadSignature, Malformed

ORIGIN = "breakglass/example/prod-a/n1"
SIGNER = LogSigner(ORIGIN, bytes(range(32)))
OTHER = LogSigner("breakglass/example/prod-a/n2", bytes(32))
ENTRIES = (b"one", b"two", b"three")
TREE = Tree(leaf_hash(one) for one in ENTRIES)
CHECKPOINT = Checkpoint(origin=ORIGIN, size=3, root=TREE.root())
NOTE = sign_checkpoint(CHECKPOINT, SIGNER)

# The example of Go's golang.org/x/mod/sumdb/note package documentation.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n\n"
    "\N{EM DASH} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfq"
    "dngotpRZb6KE6RyyBwJnAM=\n"
)


def test_a_checkpoint_verifies_under_its_own_key_only() -> None:
    """A checkpoint does not verify with another node's key or as another log's."""
    assert verify_checkpoint(NOTE, SIGNER.vkey) == CHECKPOINT
    assert NOTE.startswith(ORIGIN.encode() + b"\n3\n")
    with pytest.raises(BadSignature, match="got none") as caught:
        verify_checkpoint(NOTE, OTHER.vkey)
    assert caught.value.stable_code == "note-unsigned"


def test_a_note_of_another_tool_verifies() -> None:
    """The example note of Go's package verifies, and a changed one does not."""
    key = parse_vkey(GO_VKEY)
    assert verify_note(GO_NOTE.encode(), key).startswith(b"If you think")
    assert key.text == GO_VKEY
    with pytest.raises(BadSignature, match="does not"):
        verify_note(GO_NOTE.replace("your problem is", "my problem is").encode(), key)


def test_the_signer_signs_its_own_log_only() -> None:
    """A signer refuses a checkpoint of another log."""
    with pytest.raises(ValueError, match="own log"):
        sign_checkpoint(CHECKPOINT, OTHER)
    forged = OTHER.sign(NOTE.partition(b"\n\n")[0] + b"\n")
    with pytest.raises(BadSignature, match="got one of") as caught:
        verify_checkpoint(forged, OTHER.vkey)
    assert caught.value.stable_code == "note-origin"


@pytest.mark.parametrize(
    ("note", "message"),
    [
        (b"\xff" + NOTE, "UTF-8"),
        (NOTE.replace(b"\n3\n", b"\n3\t\n"), "control"),
        (NOTE.partition(b"\n\n")[0], "blank line"),
        (NOTE[:-1], "blank line"),
        (NOTE + b"- n1 AAAA\n", "a signature line"),
        (NOTE + b"\xe2\x80\x94 n1\n", "a signature line"),
        (NOTE + b"\xe2\x80\x94 n1 AAAA\n", "a key id"),
        (NOTE + b"\xe2\x80\x94 n+1 AAAAAAAA\n", "a name"),
        (NOTE + b"\xe2\x80\x94 n1 AAAAAAA\n", "base64"),
        (NOTE + b"\xe2\x80\x94 n1 AAAAAAB=\n", "canonical base64"),
        (NOTE + b"\xe2\x80\x94 n1 \xc3\xa9\n", "base64"),
        (NOTE + b"\xe2\x80\x94 n1 AAAAAAAA\n" * 16, "at most 16"),
        (b"x" * 9000, "at most 8192 bytes"),
    ],
)
def test_a_loose_note_is_malformed(note: bytes, message: str) -> None:
    """A note that is not a text, a blank line and signature lines is refused."""
    with pytest.raises(Malformed, match=message):
        parse_note(note)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"o\n1\n", "three lines"),
        (b"o\n1\nAAAA\nx", "line feed"),
        (b"o\n01\nAAAA\n", "in decimal"),
        (b"o\n1\nAAAA\n", "32 bytes"),
        (b"o o\n1\n" + base64.b64encode(bytes(32)) + b"\n", "a name"),
    ],
)
def test_a_loose_checkpoint_is_malformed(text: bytes, message: str) -> None:
    """Origin, size and root have one canonical form each."""
    with pytest.raises(Malformed, match=message):
        parse_checkpoint(text)


@pytest.mark.parametrize(
    ("vkey", "message"),
    [
        ("n1", "name\\+hexid"),
        ("n1+zz+AAAA", "name\\+hexid"),
        ("n1+00000000+AAAA", "Ed25519"),
        ("n 1+00000000+" + base64.b64encode(b"\x01" + bytes(32)).decode(), "a name"),
        ("n1+00000000+" + base64.b64encode(b"\x01" + bytes(32)).decode(), "the key id"),
    ],
)
def test_a_loose_key_is_malformed(vkey: str, message: str) -> None:
    """A key with a wrong key id is refused."""
    with pytest.raises(Malformed, match=message):
        parse_vkey(vkey)


def test_values_prove_their_invariants() -> None:
    """Wrong arguments from our own code raise ValueError."""
    with pytest.raises(ValueError, match="origin"):
        LogSigner("elsewhere", bytes(32))
    with pytest.raises(ValueError, match="32 bytes"):
        LogSigner(ORIGIN, b"short")
    with pytest.raises(ValueError, match="from 0 up"):
        dataclasses.replace(CHECKPOINT, size=-1)
    with pytest.raises(ValueError, match="32 bytes"):
        dataclasses.replace(CHECKPOINT, root=b"")


def test_a_receipt_proves_its_entry_and_nothing_else() -> None:
    """P4: a receipt is refused unless entry, index, proof and checkpoint match."""
    proof = TREE.inclusion_proof(1, 3)
    receipt = Receipt(entry=b"two", index=1, proof=proof, checkpoint=NOTE)
    assert verify_receipt(receipt, SIGNER.vkey) == CHECKPOINT
    for wrong in (
        dataclasses.replace(receipt, entry=b"2"),
        dataclasses.replace(receipt, index=2),
        dataclasses.replace(receipt, proof=proof[:1]),
    ):
        with pytest.raises(BadProof, match="expected"):
            verify_receipt(wrong, SIGNER.vkey)


@given(st.binary(max_size=300))
def test_foreign_bytes_are_malformed_or_unsigned_and_nothing_else(raw: bytes) -> None:
    """Any other bytes raise Malformed or BadSignature, and no other error."""
    with pytest.raises((Malformed, BadSignature)):
        verify_checkpoint(raw, SIGNER.vkey)
