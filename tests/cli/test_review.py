# SPDX-License-Identifier: Apache-2.0
"""The warnings and sentences of a review, and the exit status of rows."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from breakglass.cli import rows as tables
from breakglass.cli.meaning import meaning
from breakglass.cli.review import document, render, review, warnings
from breakglass.core.command import Mode, parse_command
from breakglass.core.entries import render_instant
from breakglass.core.signed_file import parse_signed_file
from breakglass.errors import Exit
from breakglass.fleet.rollout.rows import NodeRow, NodeState
from tests.support.organisation import NOW, Organisation, policy

ORGANISATION = Organisation()
ID = "019aa1f3-0000-7000-8000-0123456789ab"


def warned(
    *,
    at_s: int = 0,
    trusted: bool = True,
    **drafted: Any,  # noqa: ANN401 - any of draft's
) -> str:
    """Return all warnings about a command, `at_s` seconds after it was drafted."""
    file = parse_signed_file(ORGANISATION.command(**drafted))
    now = NOW + timedelta(seconds=at_s)
    return "; ".join(warnings(review(file, ORGANISATION.trust if trusted else None, now)))


@pytest.mark.parametrize(
    ("at_s", "drafted", "said"),
    [
        (0, {}, "every node of prod-a"),
        (0, {"clusters": "prod-a prod-b"}, "2 clusters at once"),
        (0, {"max_nodes": 500}, "500 nodes, 10 pods each, 5000 pods in all"),
        (0, {"max_pods_per_node": 50}, "caps are large"),
        (0, {"workload": "kube-system/thing"}, "kube-system"),
        (0, {"mode": "drill"}, "really stops"),
        (0, {"mode": "drill", "verb": "release"}, "really ends the holds of the named workload"),
        (0, {"mode": "drill", "verb": "extend"}, "down for longer"),
        (0, {"valid_s": 300}, "expires soon, in 5m"),
        (4000, {}, "expired 6m ago"),
        (9000, {"valid_s": 80_000}, "drafted 2h ago"),
        (-900, {}, "its draft time is 15m in the future: compare the clocks"),
        (0, {"starts_s": 60}, "not valid before 2026-11-21T04:01:00Z"),
    ],
)
def test_each_thing_to_think_about_is_said(at_s: int, drafted: dict[str, Any], said: str) -> None:
    """Age, window, scope, caps, mode: one warning each."""
    assert said in warned(at_s=at_s, **drafted)


@pytest.mark.parametrize(
    ("drafted", "said"),
    [
        ({}, "kubelet starts them again within seconds"),
        ({"hold_s": 7200}, "it then keeps them down for 2h, and new pods of the workload too"),
        ({"hold_s": 7200, "revision": "5d4f8c"}, "only pods of revision 5d4f8c"),
        ({"hold_s": 7200, "image": f"sha256:{'1f' * 32}"}, "a container of that image"),
        ({"verb": "evict"}, "it also stops their sandboxes"),
        ({"verb": "release"}, "every hold of this workload on these nodes"),
        ({"verb": "release", "holds_of": ID}, "the hold of that command"),
        ({"verb": "release"}, "up to 5 minutes"),
        ({"verb": "extend"}, "last 1h from when a node accepts this command"),
        ({"mode": "dry-run", "hold_s": 7200}, "it changes nothing"),
    ],
)
def test_what_a_command_does_stands_beside_its_text(drafted: dict[str, Any], said: str) -> None:
    """In sentences, for approvers who have never read the format."""
    file = parse_signed_file(ORGANISATION.command(**drafted))
    seen = review(file, ORGANISATION.trust, NOW)
    assert any(said in one for one in meaning(parse_command(file.text)))
    assert said in render(seen)


def test_the_limit_of_a_release_is_no_warning() -> None:
    """It stops nothing, so its large default cap of pods is no reason for a warning."""
    assert warned(nodes="n[1-3]", verb="release", max_pods_per_node=1000) == ""


def test_a_narrow_fresh_command_warns_of_nothing() -> None:
    """People do not read warnings that always come."""
    assert warned(nodes="n[1-3]") == ""


def test_without_a_trust_nothing_is_claimed_about_people() -> None:
    """An approver's machine without a trust says that it checked no signature."""
    assert "no trust on this machine: no signature was checked" in warned(trusted=False)


def test_what_does_not_count_is_shown_beside_what_does() -> None:
    """A defective signature is shown with its reason, next to the approvals."""
    text = ORGANISATION.command()
    other = ORGANISATION.approve(text + b"\n", "bo")
    file = parse_signed_file(ORGANISATION.signed(text, "ana mallory") + other)
    seen = review(file, ORGANISATION.trust, NOW)
    shown = render(seen)
    assert "approved by ana" in shown
    assert "NOT counted: signature-stranger" in shown
    assert "NOT counted: signature-invalid of bo" in shown
    assert document(seen)["missing"] == ["bo", "luc"]


def test_nobody_is_missing_where_no_policy_governs() -> None:
    """Without a governing policy, no approval can help, so none is missing."""
    organisation = Organisation(policies=(policy(clusters="other"),))
    file = parse_signed_file(organisation.command())
    seen = review(file, organisation.trust, NOW)
    assert seen.missing == ()
    assert "no-policy" in render(seen)


def row(state: str, code: str = "x", evidence: str = "verified") -> NodeRow:
    """Return a row with this state, code and evidence."""
    good = NodeState(state).is_well
    return NodeRow(
        node="n",
        cluster="c",
        state=NodeState(state),
        code="" if good and evidence == "verified" else code,
        evidence=evidence,
    )


BAD = row("done", "bad-proof", "bad-proof")


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ([row("done"), row("planned"), row("released"), row("extended")], Exit.DONE),
        ([row("done"), row("unreached")], Exit.UNREACHED),
        ([row("done"), row("nothing")], Exit.INCOMPLETE),
        ([row("unreached"), row("incomplete")], Exit.INCOMPLETE),
        ([row("unreached"), row("interrupted")], Exit.INCOMPLETE),
        ([row("unreached"), row("incomplete"), BAD], Exit.EVIDENCE),
        ([row("refused"), row("refused")], Exit.REFUSED),
        ([row("refused"), row("done")], Exit.INCOMPLETE),
        ([row("refused"), row("unreached")], Exit.INCOMPLETE),
    ],
)
def test_with_several_the_exit_status_is_the_first_of_6_4_5(
    rows: list[NodeRow], status: Exit
) -> None:
    """Scripts rely on this order (DESIGN section 8)."""
    assert tables.ending(rows)[0] is status


def test_what_holds_the_pods_is_a_column_where_anything_does() -> None:
    """A stop without a hold has no column GATE; with a hold the row and the summary have it."""
    plain = row("done")
    held = replace(plain, gates="2 pids, 1 watch only", pods=3, down=3, held=2)
    assert "GATE" not in tables.render([plain], Mode.EXECUTE)
    shown = tables.render([held, plain], Mode.EXECUTE).splitlines()
    assert "GATE" in shown[0]
    assert "2 pids, 1 watch only" in shown[1]
    assert tables.total([held, plain], Mode.EXECUTE).endswith("3 pods seen down, 2 held by a gate")


def test_letting_go_is_not_told_as_a_stop() -> None:
    """A release counts the pods that it let go, an extend those that it holds for longer."""
    released = replace(row("released"), pods=2)
    assert tables.total([released, row("nothing")], Mode.EXECUTE).endswith("; 2 pods let go")
    shown = tables.render([released], Mode.EXECUTE).splitlines()[1].split()
    assert shown[2:5] == ["released", "-", "2"]
    extended = replace(row("extended"), held=3)
    assert tables.total([extended], Mode.EXECUTE).endswith("; 3 pods held for longer")


def test_a_clock_that_is_off_is_told() -> None:
    """Every reply has the node's clock; only a large difference is a note."""
    near = NodeRow(node="n1", cluster="c", state=NodeState.DONE, node_time=render_instant(NOW))
    far = NodeRow(
        node="n2",
        cluster="c",
        state=NodeState.DONE,
        node_time=render_instant(NOW - timedelta(hours=1)),
    )
    (note,) = tables.clock_notes([near, far, row("unreached")], NOW)
    assert note.endswith("the clock of n2 differs from this machine's by -3600 s")


def test_what_a_node_says_cannot_break_the_table() -> None:
    """Control characters and line feeds from a hostile node stay in their cell."""
    hostile = NodeRow(
        node="n1", cluster="c", state=NodeState.REFUSED, code="x", message="a\nb\x1b[2J"
    )
    shown = tables.render([hostile], Mode.EXECUTE)
    assert len(shown.splitlines()) == 2
    assert "\x1b" not in shown
