# SPDX-License-Identifier: Apache-2.0
"""Merkle trees over log entries: the hashes of RFC 6962, the proofs of RFC 9162.

A leaf is SHA-256 of 0x00 and the entry, an inner node SHA-256 of 0x01 and its two children, so no
entry has the hash of a node.  A tree of n leaves splits at the largest power of two below n.

The `verify_*` functions raise `BadProof` and return nothing.  They require the exact number of
hashes, so a proof with surplus hashes is refused.  This module does not parse entries and does not
sign: see `entries` and `checkpoint`.
"""

import hashlib
from collections.abc import Iterable, Sequence

from breakglass.errors import BadProof

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of an entry as a leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the inner node over two children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """An append-only tree that returns roots and proofs; it takes 64 bytes of memory per leaf.

    It keeps the hash of every complete subtree, one flat array per height.  So a root or a proof
    for any earlier size takes a few hashes per level.  The largest complete subtrees of the whole
    tree are also kept as a list, because its root is read after every append.

    Args:
        leaf_hashes: the first leaves.
    """

    def __init__(self, leaf_hashes: Iterable[bytes] = ()) -> None:
        self._levels = [bytearray()]
        self._subtrees: list[bytes] = []  # from left to right, each smaller than the one before
        for leaf in leaf_hashes:
            self.append(leaf)

    @property
    def size(self) -> int:
        """The number of leaves."""
        return len(self._levels[0]) // HASH_BYTES

    def leaf(self, index: int) -> bytes:
        """Return the hash of leaf `index`; raise `IndexError` when there is none."""
        if not 0 <= index < self.size:
            raise IndexError(f"expected a leaf below {self.size}, got {index}")
        return self._node(0, index)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash at the end."""
        if len(leaf) != HASH_BYTES:
            raise ValueError("expected a leaf hash of 32 bytes")
        index, height, node = self.size, 0, leaf
        self._levels[0] += leaf
        while index & 1:
            node = node_hash(self._subtrees.pop(), node)
            index >>= 1
            height += 1
            if height == len(self._levels):
                self._levels.append(bytearray())
            self._levels[height] += node
        self._subtrees.append(node)

    def truncate(self, size: int) -> None:
        """Remove every leaf from `size` on, for entries that did not become durable."""
        self._verify_size(size)
        for height, level in enumerate(self._levels):
            del level[(size >> height) * HASH_BYTES :]
        heights = (one for one in reversed(range(size.bit_length())) if size >> one & 1)
        self._subtrees = [self._node(one, (size >> one) - 1) for one in heights]

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the whole tree, or of its first `size` leaves."""
        if size is None:
            return self._newest_root()
        self._verify_size(size)
        return self._range(0, size) if size else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that leaf `index` is in the tree of that size (RFC 9162, 2.1.3.1)."""
        self._verify_size(size)
        if not 0 <= index < size:
            raise IndexError(f"expected a leaf below {size}, got {index}")
        low, high, proof = 0, size, []
        while high - low > 1:
            middle = low + _split(high - low)
            if index < middle:
                proof.append(self._range(middle, high))
                high = middle
            else:
                proof.append(self._range(low, middle))
                low = middle
        return tuple(reversed(proof))

    def consistency_proof(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that `new` leaves begin with the `old` ones (RFC 9162, 2.1.4.1).

        The proof is empty when `old` is 0 or equal to `new`.
        """
        self._verify_size(new)
        if not 0 <= old <= new:
            raise IndexError(f"expected an old size of at most {new}, got {old}")
        if old in (0, new):
            return ()
        low, high, proof = 0, new, []
        while high != old:
            middle = low + _split(high - low)
            if old <= middle:
                proof.append(self._range(middle, high))
                high = middle
            else:
                proof.append(self._range(low, middle))
                low = middle
        if low:
            proof.append(self._range(low, high))
        return tuple(reversed(proof))

    def _newest_root(self) -> bytes:
        if not self._subtrees:
            return EMPTY_ROOT
        *others, node = self._subtrees
        for subtree in reversed(others):
            node = node_hash(subtree, node)
        return node

    def _node(self, height: int, index: int) -> bytes:
        start = index * HASH_BYTES
        return bytes(self._levels[height][start : start + HASH_BYTES])

    def _range(self, low: int, high: int) -> bytes:
        """Return the hash over leaves low..high; `low` must begin a subtree of the split rule."""
        width = high - low
        if width & (width - 1) == 0:
            height = width.bit_length() - 1
            return self._node(height, low >> height)
        middle = low + _split(width)
        return node_hash(self._range(low, middle), self._range(middle, high))

    def _verify_size(self, size: int) -> None:
        if not 0 <= size <= self.size:
            raise IndexError(f"expected a size of at most {self.size}, got {size}")


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Raise `BadProof` unless `proof` leads from leaf hash `leaf` to `root` (RFC 9162, 2.1.3.2)."""
    _verify_hashes(leaf, root, *proof)
    if not 0 <= index < size:
        raise BadProof(f"expected a leaf below the tree's size {size}, got {index}")
    first, last, node = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise BadProof("expected a shorter proof, got more hashes than the tree has levels")
        if first & 1 or first == last:
            node = node_hash(sibling, node)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        first, last = first >> 1, last >> 1
    if last:
        raise BadProof("expected a longer proof, got too few hashes to reach the root")
    if node != root:
        raise BadProof(f"expected leaf {index} in the tree of size {size}, got another root")


def verify_consistency(
    old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """Raise `BadProof` unless the tree of size `new` extends that of `old` (RFC 9162, 2.1.4.2)."""
    _verify_hashes(old_root, new_root, *proof)
    if not 0 <= old <= new:
        raise BadProof(f"expected a tree that grew from {old}, got the size {new}")
    if old in (0, new):
        _verify_trivial(old, proof, old_root, new_root if old else EMPTY_ROOT)
        return
    # The proof leaves out the old root if the old tree is a complete subtree of the new one.
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        raise BadProof("expected a proof, got none")
    old_node, new_node = _climb(old - 1, new - 1, path)
    if old_node != old_root or new_node != new_root:
        raise BadProof(f"expected size {new} to extend size {old}, got a tree that does not")


def _climb(first: int, last: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return the old and the new root that a consistency path gives (RFC 9162, 2.1.4.2)."""
    while first & 1:
        first, last = first >> 1, last >> 1
    old_node = new_node = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise BadProof("expected a shorter proof, got more hashes than the tree has levels")
        if first & 1 or first == last:
            old_node, new_node = node_hash(sibling, old_node), node_hash(sibling, new_node)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            new_node = node_hash(new_node, sibling)
        first, last = first >> 1, last >> 1
    if last:
        raise BadProof("expected a longer proof, got too few hashes to reach the root")
    return old_node, new_node


def _verify_trivial(old: int, proof: Sequence[bytes], old_root: bytes, expected: bytes) -> None:
    if proof:
        raise BadProof("expected an empty proof, got hashes")
    if old_root != expected:
        raise BadProof(f"expected one root for the size {old}, got two different ones")


def _verify_hashes(*hashes: bytes) -> None:
    if any(len(one) != HASH_BYTES for one in hashes):
        raise BadProof("expected hashes of 32 bytes, got another length")


def _split(width: int) -> int:
    """Return the largest power of two below `width`, which is at least 2."""
    return 1 << ((width - 1).bit_length() - 1)
