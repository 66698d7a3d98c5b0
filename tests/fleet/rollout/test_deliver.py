# SPDX-License-Identifier: Apache-2.0
"""Delivering to nodes: a row for each, and no answer is no success."""

from dataclasses import replace

import pytest

from breakglass.errors import Unreached
from breakglass.fleet.roads.port import Refusal
from breakglass.fleet.rollout.deliver import Observer
from breakglass.fleet.rollout.rows import NodeState
from tests.support.small_fleet import Fleet


def test_every_node_is_a_row_however_it_ended(fleet: Fleet) -> None:
    """A done, an incomplete and an unreached node each have a row (P5)."""
    fleet.nodes[1].ends = "incomplete"
    fleet.nodes[2].down = Unreached("no answer")
    rows = fleet.run()
    assert [str(row.state) for row in rows.values()] == ["done", "incomplete", "unreached"]
    assert [row.evidence for row in rows.values()] == ["verified", "verified", "none"]
    assert [row.code for row in rows.values()] == ["", "not-down", "unreached"]
    assert [row.down for row in rows.values()] == [1, 0, 0]


def test_delivered_again_it_tells_the_first_outcome(fleet: Fleet) -> None:
    """The second row says that it is repeated; the node acted once (P7)."""
    first, second = fleet.run()["n1"], fleet.run()["n1"]
    assert not first.repeated
    assert second.repeated
    assert replace(second, repeated=False) == first
    assert fleet.nodes[0].acted == 1


@pytest.mark.parametrize("answers", [1, 2])
def test_a_stream_that_breaks_off_is_taken_up_again(fleet: Fleet, answers: int) -> None:
    """If the stream breaks after an answer, the file is delivered once more."""
    node = fleet.nodes[0]
    node.breaks_after = answers
    row = fleet.run(node)["n1"]
    assert (row.state, row.repeated, row.evidence) == (NodeState.DONE, True, "verified")
    assert node.acted == 1


def test_a_node_that_never_spoke_is_unreached(fleet: Fleet) -> None:
    """If the stream breaks before the first answer, the row says unreached."""
    node = fleet.nodes[0]
    node.breaks_after = 0
    row = fleet.run(node)["n1"]
    assert (row.state, row.evidence) == (NodeState.UNREACHED, "none")


def test_a_refusal_is_told_in_the_nodes_own_words(fleet: Fleet) -> None:
    """The row has the refusal's code, needed, have and hint."""
    fleet.nodes[0].refuses = Refusal(
        code="protected", needed="a workload", have="a protected one", hint="ask", receipt=None
    )
    row = fleet.run(fleet.nodes[0])["n1"]
    assert (row.state, row.code, row.hint) == (NodeState.REFUSED, "protected", "ask")
    assert row.message == "expected a workload, got a protected one"


def test_who_watches_hears_each_step_and_row(fleet: Fleet) -> None:
    """The observer gets the acceptance, each pod and the row."""
    steps: list[str] = []
    ended: list[str] = []
    watch = Observer(
        on_step=lambda step: steps.append(step.text), on_row=lambda row: ended.append(row.node)
    )
    fleet.run(fleet.nodes[0], watch=watch)
    assert steps == ["accepted", "monitoring/telemetry-0 down after 12 ms"]
    assert ended == ["n1"]
