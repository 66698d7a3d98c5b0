# SPDX-License-Identifier: Apache-2.0
"""The table of `breakglass holds`: every hold and every node is a row, answered or not."""

from dataclasses import replace
from typing import Any

import pytest

from breakglass.cli import answers
from breakglass.cli.answers import Answer
from breakglass.cli.commands.holds import view
from breakglass.errors import BreakglassError, Exit, NodeError, Unreached
from breakglass.fleet.roads.port import HeldPod, NodeHold
from tests.support.fake_node import FakeNode, roads_to
from tests.support.organisation import Organisation

ID = "019aa1f3-0000-7000-8000-0123456789ab"
HOLD = NodeHold(
    command=ID,
    workload="monitoring/telemetry",
    revision="",
    image="",
    mode="execute",
    reason="telemetry floods the API servers of both halls",
    incident="INC-1211",
    approvals=("ana", "bo"),
    since="2026-11-21T04:00:00Z",
    until="2026-11-21T06:00:00Z",
    left_s=7195,
    attempts=14,
    stops=1,
    resets=0,
    leaked_ms=40,
    pods=(
        HeldPod(uid="u1", name="telemetry-abcde", gate="descendants", note=""),
        HeldPod(uid="u2", name="telemetry-fghij", gate="descendants", note=""),
    ),
)
ORGANISATION = Organisation()


def answer_of(
    *found: NodeHold, name: str = "n1", down: BreakglassError | None = None
) -> Answer[NodeHold]:
    """Return the answer of one node to `holds`."""
    node = FakeNode(organisation=ORGANISATION, name=name, holds=found, down=down)
    (answer,) = answers.ask_all((node.row,), roads_to(node), lambda road: road.holds())
    return answer


def test_a_hold_is_a_row_with_all_that_a_person_asks() -> None:
    """Workload, reason, end, time left, approvers, gate, counts and command id."""
    text = view((answer_of(HOLD),)).text
    row = text.splitlines()[1]
    for word in (
        "n1",
        "monitoring/telemetry",
        "INC-1211: telemetry floods",
        "2026-11-21T06:00:00Z",
        "1h 59m",
        "ana, bo",
        "descendants",
        "14",
        "40 ms",
        ID,
    ):
        assert word in row
    assert text.splitlines()[-1] == "1 holds; 2 pods held down; 1 of 1 nodes answered"


def test_a_part_of_a_workload_is_shown_as_that() -> None:
    """A revision as in a draft, an image by the start of its digest."""
    held = replace(HOLD, revision="5d4f8c", image=f"sha256:{'1f' * 32}", left_s=59, pods=())
    row = view((answer_of(held),)).text.splitlines()[1]
    assert "monitoring/telemetry@5d4f8c sha256:1f1f1f1f1f1f " in row
    assert "0m 59s" in row


def test_gates_of_several_kinds_are_counted() -> None:
    """Pods that are only watched are counted beside gated ones; a note says what is wrong."""
    watched = HeldPod(uid="u3", name="", gate="watch only", note="no group of it was found")
    ended = view((answer_of(replace(HOLD, pods=(*HOLD.pods, watched))),))
    assert "2 descendants, 1 watch only" in ended.text
    assert ended.notes == ("n1: u3: watch only: no group of it was found",)
    assert ended.exit_status is Exit.DONE


def test_every_node_is_a_row() -> None:
    """A node without holds says so; the holds of an unreached node are unknown (P5)."""
    away = answer_of(name="n3", down=Unreached("n3 did not answer"))
    ended = view((answer_of(HOLD), answer_of(name="n2"), away))
    lines = ended.text.splitlines()
    assert "no holds" in lines[2]
    assert "[unreached] did not answer: holds unknown" in lines[3]
    assert lines[-1].startswith("1 holds; ")
    assert lines[-1].endswith("; 2 of 3 nodes answered")
    assert (ended.exit_status, ended.code) == (Exit.UNREACHED, "unreached")
    assert ended.message == "2 of 3 nodes answered; the holds of the others are unknown"


@pytest.mark.parametrize(
    ("errors", "status"),
    [
        ((None, None), Exit.DONE),
        ((None, Unreached("no answer")), Exit.UNREACHED),
        ((NodeError("no runtime"), Unreached("no answer")), Exit.INCOMPLETE),
    ],
)
def test_the_exit_status_is_that_of_pods(
    errors: tuple[BreakglassError | None, ...], status: Exit
) -> None:
    """4 for a node that could not answer, 5 for one that was not reached, 4 before 5."""
    found = view(tuple(answer_of(name=f"n{nth}", down=error) for nth, error in enumerate(errors)))
    assert found.exit_status is status


def test_a_drill_is_marked_in_its_row() -> None:
    """The row of a drill's hold says DRILL (P11)."""
    lines = view((answer_of(HOLD, replace(HOLD, mode="drill")),)).text.splitlines()
    assert lines[0].startswith("MODE")
    assert [line.split()[0] for line in lines[1:3]] == ["EXECUTE", "DRILL"]


def test_programs_read_one_document() -> None:
    """The document has each hold with its node and pods, and each node with its answer."""
    document: Any = view((answer_of(HOLD), answer_of(name="n2"))).document
    (hold,) = document["holds"]
    assert (hold["node"], hold["command"], hold["leaked_ms"]) == ("n1", ID, 40)
    assert [pod["gate"] for pod in hold["pods"]] == ["descendants", "descendants"]
    assert [row["state"] for row in document["nodes"]] == ["answered"] * 2
