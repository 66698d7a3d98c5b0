# SPDX-License-Identifier: Apache-2.0
"""Test vectors of proofs and checkpoints, which other implementations must pass too."""

import hashlib
from pathlib import Path

import pytest

from breakglass.core.checkpoint import parse_vkey, verify_checkpoint, verify_note
from breakglass.core.merkle import Tree, leaf_hash, verify_consistency, verify_inclusion
from breakglass.errors import BadProof, BadSignature, Malformed
from tests.vectors.build_log import FOLDER, build, parse_body, parse_vector

TREES = sorted((FOLDER / "merkle").glob("*.txt"))
NOTES = sorted((FOLDER / "checkpoint").glob("*.txt"))


def verify(kind: str, body: dict[str, list[str]]) -> None:
    """Raise `BadProof` if a vector's proof does not verify."""
    root = bytes.fromhex(body["root"][0])
    proof = [bytes.fromhex(one) for one in body["hash"]]
    if kind == "leaf":
        assert leaf_hash(bytes.fromhex(body["leaf"][0])) == root
    elif kind == "root":
        assert Tree(leaf_hash(bytes.fromhex(one)) for one in body["leaf"]).root() == root
    elif kind == "inclusion":
        index, size = int(body["index"][0]), int(body["size"][0])
        verify_inclusion(bytes.fromhex(body["leaf-hash"][0]), index, size, proof, root)
    else:
        old, new = int(body["old"][0]), int(body["new"][0])
        verify_consistency(old, new, proof, bytes.fromhex(body["old-root"][0]), root)


@pytest.mark.parametrize("file", TREES, ids=lambda file: file.stem)
def test_a_proof_is_taken_or_refused_as_expected(file: Path) -> None:
    """Published trees and proofs verify; each changed one is refused."""
    header, raw = parse_vector(file.read_bytes())
    body = parse_body(raw)
    if header["expect"] == "good":
        verify(header["kind"], body)
        return
    assert header["expect"] == "bad-proof"
    with pytest.raises(BadProof, match="expected"):
        verify(header["kind"], body)


@pytest.mark.parametrize("file", NOTES, ids=lambda file: file.stem)
def test_a_note_is_taken_or_refused_as_expected(file: Path) -> None:
    """A good note returns its text or checkpoint; a bad one raises the expected error and code."""
    header, raw = parse_vector(file.read_bytes())
    expect, _, what = header["expect"].partition(" ")
    if expect == "text":
        text = verify_note(raw, parse_vkey(header["key"]))
        assert hashlib.sha256(text).hexdigest() == what
    elif expect == "checkpoint":
        found = verify_checkpoint(raw, header["key"])
        assert f"{found.size} {found.root.hex()}" == what
    elif expect == "malformed":
        with pytest.raises(Malformed, match="expected"):
            verify_checkpoint(raw, header["key"])
    else:
        with pytest.raises(BadSignature, match="expected") as refusal:
            verify_checkpoint(raw, header["key"])
        assert header["expect"] == f"bad-signature {refusal.value.stable_code}"


def test_the_vectors_are_those_that_the_script_builds(tmp_path: Path) -> None:
    """The committed files are byte for byte the script's output."""
    build(tmp_path)
    built = {str(one.relative_to(tmp_path)): one.read_bytes() for one in tmp_path.rglob("*.txt")}
    assert {str(one.relative_to(FOLDER)): one.read_bytes() for one in (*TREES, *NOTES)} == built
    assert len(built) > 90
