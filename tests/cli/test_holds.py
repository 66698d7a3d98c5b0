# SPDX-License-Identifier: Apache-2.0
"""The table of what is held: every hold and every node is a row, whatever a node answered."""

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


def told(
    *found: NodeHold, name: str = "n1", down: BreakglassError | None = None
) -> Answer[NodeHold]:
    """Return what one node answers when it is asked over its road."""
    node = FakeNode(organisation=ORGANISATION, name=name, holds=found, down=down)
    (answer,) = answers.ask_all((node.row,), roads_to(node), lambda road: road.holds())
    return answer


def test_a_hold_is_a_row_with_all_that_a_person_asks() -> None:
    """What, why, until when and how long yet, by whom, by which gate, and what it came to."""
    text = view((told(HOLD),)).text
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
    assert text.splitlines()[-1] == "1 holds on 1 of 1 nodes; 2 pods held down"


def test_a_part_of_a_workload_is_shown_as_that() -> None:
    """A revision as it is written in a draft, an image by the start of its digest."""
    held = replace(HOLD, revision="5d4f8c", image=f"sha256:{'1f' * 32}", left_s=59, pods=())
    row = view((told(held),)).text.splitlines()[1]
    assert "monitoring/telemetry@5d4f8c sha256:1f1f1f1f1f1f " in row
    assert "0m 59s" in row


def test_gates_of_several_kinds_are_counted() -> None:
    """Pods that are only watched stand beside those that a gate holds, with what is wrong."""
    watched = HeldPod(uid="u3", name="", gate="watch only", note="no group of it was found")
    ended = view((told(replace(HOLD, pods=(*HOLD.pods, watched))),))
    assert "2 descendants, 1 watch only" in ended.text
    assert ended.notes == ("n1: u3: watch only: no group of it was found",)
    assert ended.exit_status is Exit.DONE


def test_every_node_is_a_row() -> None:
    """One that holds nothing says so; of one that is away nothing is claimed (P5)."""
    ended = view(
        (told(HOLD), told(name="n2"), told(name="n3", down=Unreached("expected it, got nothing")))
    )
    lines = ended.text.splitlines()
    assert "nothing is held" in lines[2]
    assert "[unreached] not known what it holds" in lines[3]
    assert lines[-1].startswith("1 holds on 2 of 3 nodes")
    assert (ended.exit_status, ended.code) == (Exit.UNREACHED, "unreached")


@pytest.mark.parametrize(
    ("errors", "status"),
    [
        ((None, None), Exit.DONE),
        ((None, Unreached("expected it, got nothing")), Exit.UNREACHED),
        (
            (NodeError("expected it, got an error"), Unreached("expected it, got nothing")),
            Exit.INCOMPLETE,
        ),
    ],
)
def test_the_exit_status_is_that_of_pods(
    errors: tuple[BreakglassError | None, ...], status: Exit
) -> None:
    """4 for a node that could not answer, 5 for one that was not reached, 4 before 5."""
    found = view(tuple(told(name=f"n{nth}", down=error) for nth, error in enumerate(errors)))
    assert found.exit_status is status


def test_a_drill_is_marked_in_its_row() -> None:
    """Nobody takes a rehearsal's hold for the real thing (P11)."""
    lines = view((told(HOLD, replace(HOLD, mode="drill")),)).text.splitlines()
    assert lines[0].startswith("MODE")
    assert [line.split()[0] for line in lines[1:3]] == ["EXECUTE", "DRILL"]


def test_programs_read_one_document() -> None:
    """Each hold with its node and each pod of it, and each node with how it answered."""
    document: Any = view((told(HOLD), told(name="n2"))).document
    (hold,) = document["holds"]
    assert (hold["node"], hold["command"], hold["leaked_ms"]) == ("n1", ID, 40)
    assert [pod["gate"] for pod in hold["pods"]] == ["descendants", "descendants"]
    assert [row["state"] for row in document["nodes"]] == ["answered"] * 2
