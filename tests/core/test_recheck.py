# SPDX-License-Identifier: Apache-2.0
"""P4: recheck every decision of a log from the trust and the signatures in it."""

import dataclasses
from typing import Any

import pytest

from breakglass.core.entries import (
    Accepted,
    ApprovalMade,
    Body,
    Entry,
    RefusedEntry,
    Stamp,
    Stopped,
    TrustTaken,
    render_entry,
    render_instant,
    to_lines,
)
from breakglass.core.hold_entries import GateIntended, HoldBegun, HoldEnded, HoldExtended
from breakglass.core.names import render_time
from breakglass.core.recheck import recheck_log
from breakglass.core.signed_file import digest
from tests.support.organisation import Organisation, edited

ORG = Organisation("ana bo luc", quorum=2)
STAMP = Stamp(time=render_instant(ORG.now), mono_ms=1, boot="b")
OTHER = Organisation("mei tom ida", quorum=2)


def trust_taken(org: Organisation = ORG) -> TrustTaken:
    """Return the entry with an organisation's trust."""
    return TrustTaken(version=1, sha256=org.trust.sha256, text=to_lines(org.trust_text))


def accepted(
    people: str = "ana bo",
    *,
    file: bytes | None = None,
    **drafted: Any,  # noqa: ANN401 - any of draft's
) -> Accepted:
    """Return the entry of an accepted command."""
    verdict = ORG.approved("ana bo", **drafted)
    raw = ORG.signed(verdict.text, people) if file is None else file
    return Accepted(
        id=verdict.command.id,
        sha256=verdict.sha256,
        mode=str(verdict.command.mode),
        summary=verdict.command.summary,
        created=render_time(verdict.command.created),
        not_after=render_time(verdict.command.not_after),
        skew_s=0,
        policies=verdict.policies,
        approvals=tuple(
            ApprovalMade(
                person=one.person, key=one.fingerprint, kind=one.key_kind, flags=-1, counter=-1
            )
            for one in verdict.approvals
        ),
        peer="local",
        file=to_lines(raw),
    )


def refused(raw: bytes, code: str, text: bytes = b"") -> RefusedEntry:
    """Return the entry of a refusal."""
    return RefusedEntry(
        sha256=digest(text),
        size=len(raw),
        code=code,
        needed="n",
        have="h",
        skew_s=0,
        peer="local",
        file=to_lines(raw),
    )


def messages(*bodies: Body, pin: str = "") -> list[str]:
    """Return the findings in a log of these entries."""
    raw = [render_entry(Entry(stamp=STAMP, body=body)) for body in bodies]
    return [finding.message for finding in recheck_log(raw, trust_sha256=pin).findings]


def test_a_true_log_has_no_findings() -> None:
    """A correct log has no findings; the result lists unfinished commands."""
    text = ORG.command()
    short = refused(ORG.signed(text, "ana"), "quorum-short", text)
    node = dataclasses.replace(short, code="wrong-node")
    raw = [
        render_entry(Entry(stamp=STAMP, body=body))
        for body in (trust_taken(), accepted(), short, node, Stopped(active=1))
    ]
    report = recheck_log(raw, trust_sha256=ORG.trust.sha256)
    assert report.findings == ()
    assert (report.entries, report.approved, report.refused, report.unjudged) == (5, 1, 1, 1)
    assert len(report.unfinished) == 1


def test_an_acceptance_that_people_did_not_sign_is_found() -> None:
    """An acceptance without a quorum is found by the signatures in the log."""
    assert (
        "expected an approved command, got one refused for quorum-short"
        in messages(trust_taken(), accepted("ana"))[0]
    )


def test_an_acceptance_with_other_fields_is_found() -> None:
    """Summary, digest and approvals must match the signed text."""
    lied = dataclasses.replace(accepted(), summary="STOP nothing")
    assert "fields of the accepted command's text" in messages(trust_taken(), lied)[0]
    fewer = dataclasses.replace(accepted(), approvals=accepted().approvals[:1])
    assert "approvals that the signatures prove" in messages(trust_taken(), fewer)[0]


def test_a_refusal_that_should_not_have_been_is_found() -> None:
    """A refusal of an approved command, or for another reason, is found."""
    text = ORG.command()
    good = ORG.signed(text, "ana bo")
    assert "got an approved command" in messages(trust_taken(), refused(good, "expired", text))[0]
    few = ORG.signed(text, "ana")
    assert "got expired" in messages(trust_taken(), refused(few, "expired", text))[0]


def test_the_trust_is_the_pinned_one_and_the_only_one() -> None:
    """Another trust, a second trust and a wrong trust version are found."""
    assert "pinned trust" in messages(trust_taken(OTHER), pin=ORG.trust.sha256)[0]
    assert "a second" in messages(trust_taken(), trust_taken(OTHER))[0]
    named = dataclasses.replace(trust_taken(), version=2)
    assert "version and digest of the trust's text" in messages(named)[0]
    broken = dataclasses.replace(trust_taken(), text=to_lines(edited(ORG.trust_text, "people", [])))
    assert messages(broken)


def test_a_decision_before_any_trust_is_found() -> None:
    """A decision before the first trust entry is found."""
    text = ORG.command()
    short = refused(ORG.signed(text, "ana"), "quorum-short", text)
    assert "got none" in messages(accepted())[0]
    assert "got none" in messages(short)[0]


def test_what_cannot_be_read_or_cannot_follow_is_a_finding_not_an_exception() -> None:
    """Broken entries are listed with their index, and the recheck goes on after them."""
    raw = [b"{}", render_entry(Entry(stamp=STAMP, body=trust_taken()))]
    report = recheck_log([*raw, *[render_entry(Entry(stamp=STAMP, body=accepted()))] * 2])
    assert [one.index for one in report.findings] == [0, 3]


# Holds


def begun(of: Accepted, **changed: Any) -> HoldBegun:  # noqa: ANN401 - any field
    """Return the entry of a command's hold of 60 s, with some fields changed."""
    hold = HoldBegun(
        id=of.id,
        mode=of.mode,
        namespace="monitoring",
        name="telemetry",
        revision="",
        image="",
        hold_s=60,
        until="",
    )
    return dataclasses.replace(hold, **changed)


def found(*timed: tuple[int, Body]) -> list[str]:
    """Return the findings in a log of entries, each some milliseconds after the boot."""
    entries = ((0, trust_taken()), *timed)
    raw = [
        render_entry(Entry(stamp=dataclasses.replace(STAMP, mono_ms=mono_ms), body=body))
        for mono_ms, body in entries
    ]
    return [finding.message for finding in recheck_log(raw).findings]


def test_a_hold_from_its_command_to_its_release_has_no_findings() -> None:
    """A hold that is begun, extended and released as signed, or expires, has no findings."""
    stop, more = accepted(hold_s=60), accepted(verb="extend", hold_s=90)
    go = accepted(verb="release", holds_of=stop.id)
    longer = HoldExtended(id=stop.id, by=more.id, hold_s=90, until="")
    start = ((1, stop), (2, begun(stop)), (3, more), (4, longer))
    assert found(*start, (5, go), (6, HoldEnded(id=stop.id, why="released", by=go.id))) == []
    assert found(*start, (90_004, HoldEnded(id=stop.id, why="expired", by=""))) == []
    assert found(*start, (5, HoldEnded(id=stop.id, why="let-go", by="root"))) == []


def test_a_hold_that_root_let_go_is_told_and_no_finding() -> None:
    """Root may let a hold go; the result lists it as not approved."""
    stop = accepted(hold_s=60)
    ended = HoldEnded(id=stop.id, why="let-go", by="root")
    bodies = (trust_taken(), stop, begun(stop), ended)
    report = recheck_log([render_entry(Entry(stamp=STAMP, body=one)) for one in bodies])
    assert (report.let_go, report.held, report.findings) == ((stop.id,), (), ())


def gate(of: Accepted, **changed: Any) -> GateIntended:  # noqa: ANN401 - any field
    """Return the intent of a gate on a pod of the workload, with some fields changed."""
    body = GateIntended(
        uid="u",
        namespace="monitoring",
        name="telemetry-x2b4c",
        hold=of.id,
        cgroup="kubepods/podu",
        inode=7,
        oci="runc",
        limits=(),
    )
    return dataclasses.replace(body, **changed)


def test_a_gate_on_a_pod_of_the_held_workload_has_no_findings() -> None:
    """A gate for a hold of one revision is allowed too: a pod's name has no revision."""
    stop = accepted(hold_s=60, revision="5d4f8c")
    assert found((1, stop), (2, begun(stop, revision="5d4f8c")), (3, gate(stop))) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": "cni-x2b4c"}, "got one on monitoring/cni-x2b4c"),
        ({"name": "telemetry-agent-x2b4c"}, "a pod of monitoring/telemetry"),
        ({"namespace": "kube-system"}, "a pod of monitoring/telemetry"),
        ({"hold": "never"}, "got one for never"),
    ],
)
def test_a_gate_that_no_hold_covers_is_found(changed: dict[str, Any], message: str) -> None:
    """A gate on a pod that no hold covers is found."""
    stop = accepted(hold_s=60)
    (wrong,) = found((1, stop), (2, begun(stop)), (3, gate(stop, **changed)))
    assert message in wrong


def test_a_gate_after_its_holds_end_is_found() -> None:
    """A gate for an ended hold is found."""
    stop = accepted(hold_s=60)
    ended = HoldEnded(id=stop.id, why="let-go", by="root")
    (wrong,) = found((1, stop), (2, begun(stop)), (3, ended), (4, gate(stop)))
    assert "a hold in force" in wrong


def test_a_second_extension_by_one_command_is_found() -> None:
    """One command extends a hold only once."""
    stop, more = accepted(hold_s=60), accepted(verb="extend", hold_s=90)
    longer = HoldExtended(id=stop.id, by=more.id, hold_s=90, until="")
    (wrong,) = found((1, stop), (2, begun(stop)), (3, more), (4, longer), (5, longer))
    assert "expected one extension" in wrong


def test_holds_in_force_at_the_end_are_told() -> None:
    """The result lists the holds in force at the end of the log."""
    stop = accepted(hold_s=60)
    raw = [render_entry(Entry(stamp=STAMP, body=one)) for one in (trust_taken(), stop, begun(stop))]
    assert recheck_log(raw).held == (stop.id,)


@pytest.mark.parametrize(
    "changed",
    [
        {"hold_s": 61},
        {"name": "cni"},
        {"namespace": "kube-system"},
        {"revision": "5d4f8c"},
        {"image": "sha256:00"},
        {"mode": "drill"},
    ],
)
def test_a_hold_that_is_not_as_signed_is_found(changed: dict[str, Any]) -> None:
    """A hold that is longer than signed, or of another workload, is found."""
    stop = accepted(hold_s=60)
    (message,) = found((1, stop), (2, begun(stop, **changed)))
    assert "as signed" in message


@pytest.mark.parametrize(
    "drafted",
    [
        {},
        {"verb": "release"},
        {"verb": "extend", "hold_s": 60},
        {"mode": "dry-run", "hold_s": 60},
    ],
)
def test_a_hold_that_nobody_asked_for_is_found(drafted: dict[str, Any]) -> None:
    """A hold of a command without one, of another verb, or of a dry run is found."""
    command = accepted(**drafted)
    (message,) = found((1, command), (2, begun(command)))
    assert "whose command asks for none" in message


def test_a_hold_of_a_command_that_was_not_proven_is_found() -> None:
    """A hold of a command with a false acceptance is found too."""
    stop = accepted("ana", hold_s=60)
    assert "quorum-short" in found((1, stop), (2, begun(stop)))[0]
    assert len(found((1, stop), (2, begun(stop)))) == 2


@pytest.mark.parametrize(
    ("drafted", "message"),
    [
        ({"verb": "stop"}, "an approved release"),
        ({"verb": "extend"}, "an approved release"),
        ({"verb": "release", "mode": "dry-run"}, "an approved release"),
        ({"verb": "release", "workload": "monitoring/other"}, "that selects the hold"),
        ({"verb": "release", "revision": "5d4f8c"}, "that selects the hold"),
    ],
)
def test_a_release_that_people_did_not_sign_is_found(drafted: dict[str, Any], message: str) -> None:
    """A release without an approved command that selects the hold is found."""
    stop, by = accepted(hold_s=60), accepted(**drafted)
    ended = HoldEnded(id=stop.id, why="released", by=by.id)
    (wrong,) = found((1, stop), (2, begun(stop)), (3, by), (4, ended))
    assert message in wrong


def test_an_extension_that_is_not_as_signed_is_found() -> None:
    """An extension by another verb, or for longer than signed, is found."""
    stop, more = accepted(hold_s=60), accepted(verb="extend", hold_s=90)
    start = ((1, stop), (2, begun(stop)), (3, more))
    longer = HoldExtended(id=stop.id, by=more.id, hold_s=91, until="")
    assert "90 s as signed" in found(*start, (4, longer))[0]
    other = HoldExtended(id=stop.id, by=stop.id, hold_s=60, until="")
    assert "an approved extend" in found(*start, (4, other))[0]


def test_a_hold_that_ended_too_soon_is_found() -> None:
    """A hold that expires early, or ends for an unknown reason, is found."""
    stop = accepted(hold_s=60)
    start = ((1, stop), (2, begun(stop)))
    early = HoldEnded(id=stop.id, why="expired", by="")
    assert found(*start, (60_002, early)) == []
    assert "got 1 ms early" in found(*start, (60_001, early))[0]
    assert "a known end" in found(*start, (3, HoldEnded(id=stop.id, why="tired", by="")))[0]
