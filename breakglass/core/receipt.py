# SPDX-License-Identifier: Apache-2.0
"""A receipt: one log entry, and the proof that a node's signed log holds it.

It leaves the node with each reply, and verifies offline with the node's log key alone,
years later.  It does not prove that the entry is true, nor that the log shows the same to others:
for that, compare checkpoints (`merkle.verify_consistency`).
"""

from dataclasses import dataclass

from breakglass.core.checkpoint import Checkpoint, verify_checkpoint
from breakglass.core.merkle import leaf_hash, verify_inclusion


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Entry number `index` with its inclusion proof in the tree of the signed `checkpoint`.

    Nothing is verified by making one: `verify_receipt` does.
    """

    entry: bytes
    index: int
    proof: tuple[bytes, ...]
    checkpoint: bytes


def verify_receipt(receipt: Receipt, vkey: str) -> Checkpoint:
    """Return the verified checkpoint that holds the receipt's entry.

    Raises:
        Malformed: the checkpoint or the key is not of its format.
        BadSignature: the log that `vkey` belongs to did not sign the checkpoint.
        BadProof: the entry is not at its index in that log.
    """
    checkpoint = verify_checkpoint(receipt.checkpoint, vkey)
    leaf = leaf_hash(receipt.entry)
    verify_inclusion(leaf, receipt.index, checkpoint.size, receipt.proof, checkpoint.root)
    return checkpoint
