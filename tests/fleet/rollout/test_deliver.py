# SPDX-License-Identifier: Apache-2.0
"""Delivering to nodes: a row for each, no answer is no success, evidence verified and stored."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from breakglass.core.decide import Approved
from breakglass.core.entries import Suppressed
from breakglass.errors import RefusedError, Unreached
from breakglass.fleet.evidence.store import stored_checkpoint, stored_receipts
from breakglass.fleet.home.inventory import Inventory, InventoryNode
from breakglass.fleet.roads.port import Refusal
from breakglass.fleet.rollout.deliver import Observer
from breakglass.fleet.rollout.outcomes import ask_outcome
from breakglass.fleet.rollout.roll_out import roll_out, targeted
from breakglass.fleet.rollout.rows import NodeRow, NodeState, gates_of
from tests.support.fake_node import FakeNode, forged, roads_to
from tests.support.organisation import Organisation


class Fleet:
    """A few nodes, their bastion's evidence, and one approved command for all of them."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.organisation = Organisation()
        self.folder = folder
        self.nodes = [FakeNode(organisation=self.organisation, name=name) for name in names]
        self.text = self.organisation.command()
        self.raw = self.organisation.signed(self.text, "ana bo")
        verdict = self.organisation.decide(self.text, "ana", "bo")
        assert isinstance(verdict, Approved)
        self.approved = verdict

    def evidence(self, node: InventoryNode) -> Path:
        """Return the folder of a node's evidence."""
        return self.folder / node.name

    def run(self, *nodes: FakeNode, watch: Observer | None = None) -> dict[str, NodeRow]:
        """Deliver to these nodes, or to all; return the rows by name."""
        asked = nodes or tuple(self.nodes)
        rows = asyncio.run(
            roll_out(
                self.approved.command,
                self.raw,
                [node.row for node in asked],
                open_road=roads_to(*asked),
                evidence_folder=self.evidence,
                watch=watch,
            )
        )
        assert [row.node for row in rows] == [node.name for node in asked]
        return {row.node: row for row in rows}

    def outcome(self, node: FakeNode) -> NodeRow | None:
        """Ask one node for the recorded outcome of the command."""
        row, _ = asyncio.run(
            ask_outcome(
                node.row,
                self.approved.command.id,
                open_road=roads_to(node),
                folder=self.evidence(node.row),
            )
        )
        return row


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """Three nodes."""
    return Fleet(tmp_path, "n1", "n2", "n3")


def test_every_node_is_a_row_however_it_ended(fleet: Fleet) -> None:
    """A done, an incomplete and an unreached node each have a row (P5)."""
    fleet.nodes[1].ends = "incomplete"
    fleet.nodes[2].down = Unreached("no answer")
    rows = fleet.run()
    assert [str(row.state) for row in rows.values()] == ["done", "incomplete", "unreached"]
    assert [row.evidence for row in rows.values()] == ["verified", "verified", "none"]
    assert [row.code for row in rows.values()] == ["", "not-down", "unreached"]
    assert [row.down for row in rows.values()] == [1, 0, 0]


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


def test_what_a_node_says_is_kept_verified(fleet: Fleet) -> None:
    """The newest checkpoint and each receipt are stored, and verify when read back (P4)."""
    node = fleet.nodes[0]
    fleet.run(node)
    folder = fleet.evidence(node.row)
    stored = stored_checkpoint(folder, node.row.log_key)
    assert stored is not None
    assert stored.checkpoint.size == node.tree.size
    assert [one.index for one in stored_receipts(folder)] == [2, 4, 5]


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


def test_evidence_that_cannot_be_kept_delays_nothing(fleet: Fleet) -> None:
    """If the evidence cannot be stored, the row says so and keeps its outcome (P9)."""
    node = fleet.nodes[0]
    fleet.evidence(node.row).write_bytes(b"in the way")
    row = fleet.run(node)["n1"]
    assert (row.state, row.evidence) == (NodeState.DONE, "verified")
    assert row.unkept.startswith(f"cannot write {fleet.evidence(node.row)}")


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


@pytest.mark.parametrize(
    ("drafted", "names", "code"),
    [
        ({"clusters": "prod-b"}, "n1", "no-nodes"),
        ({"nodes": "x*"}, "n1", "no-nodes"),
        ({"max_nodes": 1}, "n1 n2", "too-many-nodes"),
    ],
)
def test_targets_that_cannot_be_honoured_are_refused(
    drafted: dict[str, object], names: str, code: str
) -> None:
    """A command whose targets or caps do not fit the inventory is refused (P8)."""
    organisation = Organisation()
    inventory = Inventory(
        nodes=tuple(FakeNode(organisation=organisation, name=one).row for one in names.split())
    )
    with pytest.raises(RefusedError) as error:
        targeted(organisation.draft(**drafted), inventory)  # type: ignore[arg-type]
    assert error.value.stable_code == code


def test_a_rollout_of_a_later_version_is_refused() -> None:
    """A signed canary or halt after failures is refused, because this version would ignore it."""
    organisation = Organisation()
    node = FakeNode(organisation=organisation)
    command = organisation.draft()
    for rollout in (replace(command.rollout, canary=1), replace(command.rollout, max_failures=0)):
        with pytest.raises(RefusedError) as error:
            targeted(replace(command, rollout=rollout), Inventory(nodes=(node.row,)))
        assert error.value.stable_code == "rollout-unsupported"
