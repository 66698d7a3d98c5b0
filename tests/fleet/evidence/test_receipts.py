# SPDX-License-Identifier: Apache-2.0
"""Receipts and checkpoints of a node: what does not fit what was verified before is an alarm."""

import asyncio
from dataclasses import replace

from breakglass.core.entries import Suppressed
from breakglass.fleet.rollout.roll_out import roll_out
from tests.support.fake_node import FakeNode, forged, roads_to
from tests.support.small_fleet import Fleet


def test_a_log_that_shrank_is_an_alarm(fleet: Fleet) -> None:
    """A node whose log lost entries that the bastion has verified is suspect (P4)."""
    fleet.nodes[0].record(Suppressed(count=1))
    fleet.run(fleet.nodes[0])
    again = FakeNode(organisation=fleet.organisation, name="n1")
    row = fleet.run(again)["n1"]
    assert row.is_suspect
    assert row.code == "log-tampered"


def test_a_log_with_another_history_is_an_alarm(fleet: Fleet) -> None:
    """A longer log that does not extend the stored one has no consistency proof."""
    fleet.run(fleet.nodes[0])
    other = FakeNode(organisation=fleet.organisation, name="n1")
    for count in range(9):
        other.record(Suppressed(count=count))
    row = fleet.run(other)["n1"]
    assert (row.is_suspect, row.code) == (True, "bad-proof")


def test_two_logs_of_one_size_are_an_alarm(fleet: Fleet) -> None:
    """The same number of entries with another root is suspect."""
    node = fleet.nodes[0]
    fleet.run(node)
    liar = forged(node, 1, b'"mono_ms":1', b'"mono_ms":9')
    liar.acted = 1
    assert fleet.run(liar)["n1"].is_suspect


def test_answers_signed_by_another_key_are_an_alarm(fleet: Fleet) -> None:
    """The log key comes from the inventory; a node cannot bring its own."""
    node, other = fleet.nodes[0], fleet.nodes[1]
    asked = replace(node.row, log_key=other.row.log_key)
    rows = asyncio.run(
        roll_out(
            fleet.approved.command,
            fleet.raw,
            [asked],
            open_road=roads_to(node),
            evidence_folder=fleet.evidence,
        )
    )
    assert rows[0].is_suspect
    assert not (fleet.evidence(asked) / "checkpoint").exists()
