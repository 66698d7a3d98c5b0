# SPDX-License-Identifier: Apache-2.0
"""Verify every decision in a log by making it again, from the trust and the signatures in the log.

An attacker with the node's key can write false entries in a log whose tree is consistent.  So this
module computes what it can instead of trusting the entry.  It passes the text and the signatures of
an accepted command to `decide`, with the trust in force in the log and the time of the entry; the
result must be the recorded one.  Holds must belong to such commands (`recheck_holds`).  Refusals
that have their file are decided again too.  A refusal for a reason that only the node knows (which
node it is, what it protects) is counted, not verified.  So is a hold that root let go.

`checkpoint` and `merkle` verify the tree, the checkpoint and the node's key; this module does not.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from breakglass.core.accepted import file_of
from breakglass.core.command import Command
from breakglass.core.decide import Approved, decide
from breakglass.core.entries import (
    Accepted,
    Entry,
    RefusedEntry,
    TrustTaken,
    from_lines,
    parse_entry,
    parse_instant,
)
from breakglass.core.fold import State, fold
from breakglass.core.reasons import NODE_REASONS
from breakglass.core.recheck_holds import LET_GO, verify_hold
from breakglass.core.signed_file import digest
from breakglass.core.trust import Trust, parse_trust
from breakglass.errors import LogTampered, Malformed


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One entry that failed the recheck, and why."""

    index: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recheck:
    """The result of rechecking a log: counts, and the entries that failed.

    Attributes:
        unjudged: refusals that only the node could decide.
        unfinished: the commands that the log does not finish.
        held: the commands whose holds are in force at the log's end.
        let_go: the commands whose holds root on the node ended without any approval.
    """

    entries: int = 0
    approved: int = 0
    refused: int = 0
    unjudged: int = 0
    unfinished: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    let_go: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def recheck_log(entries: Iterable[bytes], *, trust_sha256: str = "") -> Recheck:
    """Return the result of deciding every decision of a whole log again.

    Args:
        entries: the raw entries from the first on.
        trust_sha256: the SHA-256 that the log's trust must have; "" to accept any trust.
    """
    state, trust, report = State(), None, Recheck()
    commands: dict[str, Command] = {}
    findings: list[Finding] = []
    for index, raw in enumerate(entries):
        report = replace(report, entries=index + 1)
        try:
            entry = parse_entry(raw)
            trust = _trust_after(entry, trust, trust_sha256)
            report = _decided_again(entry, trust, report, commands)
            before, state = state, fold(state, entry)
            verify_hold(entry, before, state, commands)
        except (Malformed, LogTampered) as error:
            findings.append(Finding(index=index, message=error.message))
    return replace(
        report,
        findings=tuple(findings),
        unfinished=tuple(one.id for one in state.unfinished),
        held=tuple(hold.id for hold in state.active_holds),
        let_go=tuple(hold.id for hold in state.holds.values() if hold.ended == LET_GO),
    )


def _trust_after(entry: Entry, trust: Trust | None, pin: str) -> Trust | None:
    if not isinstance(entry.body, TrustTaken):
        return trust
    taken = parse_trust(from_lines(entry.body.text))
    if (taken.version, taken.sha256) != (entry.body.version, entry.body.sha256):
        raise LogTampered("expected the version and digest of the trust's text, got others")
    if trust is not None and taken.sha256 != trust.sha256:
        raise LogTampered("expected one trust in the whole log, got a second one")
    if pin and taken.sha256 != pin:
        raise LogTampered(f"expected the pinned trust {pin}, got {taken.sha256}")
    return taken


def _decided_again(
    entry: Entry, trust: Trust | None, report: Recheck, commands: dict[str, Command]
) -> Recheck:
    """Return the report after an entry; add the command of a proven acceptance to `commands`."""
    match entry.body:
        case Accepted() as body:
            commands[body.id] = _verify_accepted(entry, body, trust)
            return replace(report, approved=report.approved + 1)
        case RefusedEntry() as body if body.code in NODE_REASONS or not body.file:
            return replace(report, unjudged=report.unjudged + 1)
        case RefusedEntry() as body:
            _verify_refused(entry, body, trust)
            return replace(report, refused=report.refused + 1)
        case _:
            return report


def _verify_accepted(entry: Entry, body: Accepted, trust: Trust | None) -> Command:
    if trust is None:
        raise LogTampered("expected a trust before the first decision, got none")
    file = file_of(body)
    now = parse_instant(entry.stamp.time)
    verdict = decide(file.text, file.armors, trust, now, skew_s=body.skew_s)
    if not isinstance(verdict, Approved):
        raise LogTampered(f"expected an approved command, got one refused for {verdict.reason}")
    recorded = (body.id, body.sha256, body.mode, body.summary, body.policies)
    command = verdict.command
    found = (command.id, digest(file.text), str(command.mode), command.summary, verdict.policies)
    if recorded != found:
        raise LogTampered("expected the fields of the accepted command's text, got others")
    people = tuple((one.person, one.fingerprint) for one in verdict.approvals)
    if people != tuple((one.person, one.key) for one in body.approvals):
        raise LogTampered("expected the approvals that the signatures prove, got others")
    return command


def _verify_refused(entry: Entry, body: RefusedEntry, trust: Trust | None) -> None:
    if trust is None:
        raise LogTampered("expected a trust before the first decision, got none")
    file = file_of(body)
    now = parse_instant(entry.stamp.time)
    verdict = decide(file.text, file.armors, trust, now, skew_s=body.skew_s)
    if isinstance(verdict, Approved):
        raise LogTampered(f"expected a refusal for {body.code}, got an approved command")
    if str(verdict.reason) != body.code or digest(file.text) != body.sha256:
        raise LogTampered(f"expected the refusal {verdict.reason}, got {body.code}")
