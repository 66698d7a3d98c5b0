# SPDX-License-Identifier: Apache-2.0
"""The recorded outcome of a command, asked for later and verified."""

from breakglass.errors import Unreached
from breakglass.fleet.rollout.rows import NodeState
from tests.support.fake_node import forged
from tests.support.small_fleet import Fleet


def test_what_is_on_record_is_asked_and_verified(fleet: Fleet) -> None:
    """`outcome` gives the same row as the delivery; a node without the command has none."""
    assert fleet.outcome(fleet.nodes[0]) is None
    delivered = fleet.run(fleet.nodes[0])["n1"]
    assert fleet.outcome(fleet.nodes[0]) == delivered
    assert fleet.outcome(fleet.nodes[1]) is None


def test_an_outcome_of_a_tampered_log_is_an_alarm(fleet: Fleet) -> None:
    """Answers to `outcome` are verified like those to a delivery."""
    fleet.run(fleet.nodes[0])
    liar = forged(fleet.nodes[0], 1, b'"mono_ms":1', b'"mono_ms":9')
    row = fleet.outcome(liar)
    assert row is not None
    assert row.is_suspect


def test_a_command_under_way_is_not_done(fleet: Fleet) -> None:
    """A record without an outcome is incomplete, with the code "running"."""
    node = fleet.nodes[0]
    fleet.run(node)
    node.entries_made.pop()
    node.tree.truncate(len(node.entries_made))
    (fleet.evidence(node.row) / "checkpoint").unlink()
    row = fleet.outcome(node)
    assert row is not None
    assert (row.state, row.code) == (NodeState.INCOMPLETE, "running")


def test_an_unreachable_nodes_outcome_is_a_row(fleet: Fleet) -> None:
    """An unreached node has a row, as in a delivery."""
    fleet.nodes[0].down = Unreached("no answer")
    row = fleet.outcome(fleet.nodes[0])
    assert row is not None
    assert row.state is NodeState.UNREACHED
