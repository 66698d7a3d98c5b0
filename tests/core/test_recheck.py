# SPDX-License-Identifier: Apache-2.0
"""P4: a log's decisions are decided again from the trust and the signatures it holds."""

import dataclasses

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
from breakglass.core.names import render_time
from breakglass.core.recheck import recheck_log
from breakglass.core.signed_file import digest
from tests.support.organisation import Organisation, edited

ORG = Organisation("ana bo luc", quorum=2)
STAMP = Stamp(time=render_instant(ORG.now), mono_ms=1, boot="b")
OTHER = Organisation("mei tom ida", quorum=2)


def trust_taken(org: Organisation = ORG) -> TrustTaken:
    """Return the entry of an organisation's trust."""
    return TrustTaken(version=1, sha256=org.trust.sha256, text=to_lines(org.trust_text))


def accepted(people: str = "ana bo", *, file: bytes | None = None) -> Accepted:
    """Return the entry of an accepted command."""
    verdict = ORG.approved("ana bo")
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
    """Return what is found wrong in a log of these entries."""
    raw = [render_entry(Entry(stamp=STAMP, body=body)) for body in bodies]
    return [finding.message for finding in recheck_log(raw, trust_sha256=pin).findings]


def test_a_true_log_has_no_findings() -> None:
    """An approved command and a refusal decide the same again; what is owed is told."""
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
    """A node that claims a quorum it never had is caught by the signatures it stored."""
    assert (
        "expected an approved command, got one refused for quorum-short"
        in messages(trust_taken(), accepted("ana"))[0]
    )


def test_an_acceptance_with_other_fields_is_found() -> None:
    """Summary, digest and approvals must be those of the signed text."""
    lied = dataclasses.replace(accepted(), summary="STOP nothing")
    assert "own fields" in messages(trust_taken(), lied)[0]
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
    """A log that begins with another trust, changes it, or misnames it, is found."""
    assert "pinned trust" in messages(trust_taken(OTHER), pin=ORG.trust.sha256)[0]
    assert "a second" in messages(trust_taken(), trust_taken(OTHER))[0]
    named = dataclasses.replace(trust_taken(), version=2)
    assert "own version" in messages(named)[0]
    broken = dataclasses.replace(trust_taken(), text=to_lines(edited(ORG.trust_text, "people", [])))
    assert messages(broken)


def test_a_decision_before_any_trust_is_found() -> None:
    """Nothing can be decided without a trust."""
    text = ORG.command()
    short = refused(ORG.signed(text, "ana"), "quorum-short", text)
    assert "got none" in messages(accepted())[0]
    assert "got none" in messages(short)[0]


def test_what_cannot_be_read_or_cannot_follow_is_a_finding_not_an_exception() -> None:
    """Broken entries are listed with their place, and the rest is still looked at."""
    raw = [b"{}", render_entry(Entry(stamp=STAMP, body=trust_taken()))]
    report = recheck_log([*raw, *[render_entry(Entry(stamp=STAMP, body=accepted()))] * 2])
    assert [one.index for one in report.findings] == [0, 3]
