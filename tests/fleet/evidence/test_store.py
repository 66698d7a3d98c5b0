# SPDX-License-Identifier: Apache-2.0
"""What the bastion stores of a node, and a store that cannot be written."""

from breakglass.fleet.evidence.store import stored_checkpoint, stored_receipts
from breakglass.fleet.rollout.rows import NodeState
from tests.support.small_fleet import Fleet


def test_what_a_node_says_is_kept_verified(fleet: Fleet) -> None:
    """The newest checkpoint and each receipt are stored, and verify when read back (P4)."""
    node = fleet.nodes[0]
    fleet.run(node)
    folder = fleet.evidence(node.row)
    stored = stored_checkpoint(folder, node.row.log_key)
    assert stored is not None
    assert stored.checkpoint.size == node.tree.size
    assert [one.index for one in stored_receipts(folder)] == [2, 4, 5]


def test_evidence_that_cannot_be_kept_delays_nothing(fleet: Fleet) -> None:
    """If the evidence cannot be stored, the row says so and keeps its outcome (P9)."""
    node = fleet.nodes[0]
    fleet.evidence(node.row).write_bytes(b"in the way")
    row = fleet.run(node)["n1"]
    assert (row.state, row.evidence) == (NodeState.DONE, "verified")
    assert row.unkept.startswith(f"cannot write {fleet.evidence(node.row)}")
