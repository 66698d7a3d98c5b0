# SPDX-License-Identifier: Apache-2.0
"""The row of a node: its state, its gates, and what is a failure."""

import pytest

from breakglass.fleet.rollout.deliver import Observer
from breakglass.fleet.rollout.rows import gates_of
from tests.support.small_fleet import Fleet


def test_what_holds_the_pods_is_in_the_row(fleet: Fleet) -> None:
    """The gates of the pods, from the verified entries, in the progress and in the row."""
    steps: list[str] = []
    fleet.nodes[0].gate, fleet.nodes[0].pods_found = "descendants", 2
    fleet.nodes[1].gate = "watch only"
    rows = fleet.run(watch=Observer(on_step=lambda step: steps.append(f"{step.node} {step.text}")))
    assert [(row.gates, row.held) for row in rows.values()] == [
        ("descendants", 2),
        ("watch only", 0),
        ("", 0),
    ]
    assert "n2 monitoring/telemetry-0 down after 12 ms, held by watch only" in steps
    row = fleet.outcome(fleet.nodes[0])
    assert row is not None
    assert row.gates == "descendants"


@pytest.mark.parametrize(
    ("gate", "state", "code"), [("", "done", ""), ("pids", "incomplete", "restarted")]
)
def test_held_pods_that_run_again_are_a_failure(
    fleet: Fleet, gate: str, state: str, code: str
) -> None:
    """Without a hold a restart is normal; with one, the hold failed and the node is incomplete."""
    node = fleet.nodes[0]
    node.gate, node.restarted = gate, 1
    row = fleet.run(node)["n1"]
    assert (str(row.state), row.code, row.restarted) == (state, code, 1)
    assert bool(row.hint) == bool(code)


@pytest.mark.parametrize("ends", ["released", "extended"])
def test_letting_go_and_extending_end_well(fleet: Fleet, ends: str) -> None:
    """A release and an extend succeed when the holds have ended or last longer."""
    node = fleet.nodes[0]
    node.ends, node.pods_found = ends, 0
    row = fleet.run(node)["n1"]
    assert (str(row.state), row.code, row.hint) == (ends, "", "")


def test_gates_of_several_kinds_are_counted() -> None:
    """One kind is named; several are counted; pods without a gate are left out."""
    assert gates_of(["", ""]) == ""
    assert gates_of(["pids", "", "pids"]) == "pids"
    assert gates_of(["pids", "watch only", "pids"]) == "2 pids, 1 watch only"
