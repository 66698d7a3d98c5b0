# SPDX-License-Identifier: Apache-2.0
"""The tree has the hashes of RFC 6962; only correct proofs verify."""

import hashlib

import pytest

from breakglass.core.merkle import (
    EMPTY_ROOT,
    Tree,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)
from breakglass.errors import BadProof

LEAVES = tuple(leaf_hash(f"entry {number}".encode()) for number in range(40))
TREE = Tree(LEAVES)


def root_by_definition(leaves: tuple[bytes, ...]) -> bytes:
    """Return the root by the recursive definition of RFC 6962, section 2.1."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(root_by_definition(leaves[:split]), root_by_definition(leaves[split:]))


def test_the_hashes_are_those_of_the_specification() -> None:
    """The constants are RFC 6962's: the empty tree, and the empty leaf with its prefix."""
    assert EMPTY_ROOT.hex().startswith("e3b0c442")
    assert leaf_hash(b"").hex().startswith("6e340b9c")
    assert leaf_hash(b"L123456").hex().startswith("395aa064")
    assert node_hash(b"N123", b"N456").hex().startswith("aa217fe8")


@pytest.mark.parametrize("size", range(len(LEAVES) + 1))
def test_every_root_and_every_proof_holds(size: int) -> None:
    """At each size the root is correct, and every leaf and every older size has a valid proof."""
    root = TREE.root(size)
    assert root == root_by_definition(LEAVES[:size])
    assert Tree(LEAVES[:size]).root() == root
    for index in range(size):
        proof = Tree(LEAVES[:size]).inclusion_proof(index, size)
        assert proof == TREE.inclusion_proof(index, size)
        verify_inclusion(LEAVES[index], index, size, proof, root)
    for old in range(size + 1):
        between = Tree(LEAVES[:size]).consistency_proof(old, size)
        assert between == TREE.consistency_proof(old, size)
        verify_consistency(old, size, between, TREE.root(old), root)


def test_a_tree_forgets_what_did_not_become_durable() -> None:
    """Truncation reverses appending, at any size."""
    for size in range(len(LEAVES)):
        tree = Tree(LEAVES)
        tree.truncate(size)
        assert (tree.size, tree.root()) == (size, TREE.root(size))
        tree.append(LEAVES[size])
        assert tree.root() == TREE.root(size + 1)
    assert TREE.leaf(3) == LEAVES[3]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 13])
def test_a_changed_inclusion_proof_does_not_verify(size: int) -> None:
    """A proof with another leaf, index, size, root or path is refused."""
    root, other = TREE.root(size), leaf_hash(b"other")
    for index in range(size):
        proof = TREE.inclusion_proof(index, size)
        wrong = [
            (other, index, size, proof, root),
            (LEAVES[index], index, size, proof, other),
            (LEAVES[index], index, size, (*proof, other), root),
            (LEAVES[index], size, size, proof, root),
            (LEAVES[index], -1, size, proof, root),
        ]
        if proof:
            wrong.append((LEAVES[index], index, size, proof[:-1], root))
            wrong.append((LEAVES[index], index, size, (other, *proof[1:]), root))
        for arguments in wrong:
            with pytest.raises(BadProof, match="expected"):
                verify_inclusion(*arguments)


@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 3), (3, 7), (4, 8), (6, 13), (7, 8), (8, 9)])
def test_a_changed_consistency_proof_does_not_verify(old: int, new: int) -> None:
    """A rewritten log has no valid consistency proof."""
    proof, other = TREE.consistency_proof(old, new), leaf_hash(b"other")
    roots = TREE.root(old), TREE.root(new)
    for arguments in (
        (old, new, proof, other, roots[1]),
        (old, new, proof, roots[0], other),
        (old, new, (*proof, other), *roots),
        (old, new, proof[:-1], *roots),
        (old, new, (), *roots),
        (new, old, proof, *roots),
    ):
        with pytest.raises(BadProof, match="expected"):
            verify_consistency(*arguments)


def test_equal_sizes_need_equal_roots_and_no_proof() -> None:
    """Every tree extends the empty one; equal sizes need equal roots."""
    other = leaf_hash(b"other")
    verify_consistency(0, 5, (), EMPTY_ROOT, TREE.root(5))
    verify_consistency(5, 5, (), TREE.root(5), TREE.root(5))
    for arguments in (
        (0, 5, (), other, TREE.root(5)),
        (5, 5, (), TREE.root(5), other),
        (5, 5, (other,), TREE.root(5), TREE.root(5)),
    ):
        with pytest.raises(BadProof, match="expected"):
            verify_consistency(*arguments)


def test_hashes_have_thirty_two_bytes() -> None:
    """A hash of another length is refused by the tree and by the verifiers."""
    with pytest.raises(BadProof, match="32 bytes"):
        verify_inclusion(b"short", 0, 1, (), EMPTY_ROOT)
    with pytest.raises(ValueError, match="32 bytes"):
        Tree().append(b"short")


def test_what_the_tree_never_had_is_an_error_of_the_caller() -> None:
    """A size or index beyond the tree raises IndexError."""
    for call in (
        lambda: TREE.root(41),
        lambda: TREE.leaf(40),
        lambda: TREE.inclusion_proof(5, 5),
        lambda: TREE.consistency_proof(6, 5),
        lambda: TREE.truncate(-1),
    ):
        with pytest.raises(IndexError, match="expected"):
            call()
