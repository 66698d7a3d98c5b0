# SPDX-License-Identifier: Apache-2.0
"""A receipt: one log entry, and the proof that a node's signed log holds it.

A node returns receipts with each reply.  A receipt is verified offline with nothing but the node's
log key, years later too.  It does not prove that the entry is true, nor that the node shows other
readers the same log: to check the latter, compare checkpoints (`merkle.verify_consistency`).
"""

from dataclasses import dataclass

from breakglass.core.checkpoint import Checkpoint, verify_checkpoint
from breakglass.core.merkle import leaf_hash, verify_inclusion


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Entry number `index` with its inclusion proof in the tree of the signed `checkpoint`.

    The constructor verifies nothing; `verify_receipt` does.
    """

    entry: bytes
    index: int
    proof: tuple[bytes, ...]
    checkpoint: bytes


def verify_receipt(receipt: Receipt, vkey: str) -> Checkpoint:
    """Return the receipt's checkpoint after verifying it and the inclusion of the entry.

    Raises:
        Malformed: the checkpoint or the key is not well formed.
        BadSignature: the log with the key `vkey` did not sign the checkpoint.
        BadProof: the entry is not at its index in that log.
    """
    checkpoint = verify_checkpoint(receipt.checkpoint, vkey)
    leaf = leaf_hash(receipt.entry)
    verify_inclusion(leaf, receipt.index, checkpoint.size, receipt.proof, checkpoint.root)
    return checkpoint
