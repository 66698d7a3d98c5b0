# SPDX-License-Identifier: Apache-2.0
"""Holds as messages, with the words that their approvers read: taken from the log, never kept."""

from datetime import datetime, timedelta

from breakglass._pb.breakglass.v1 import agent_pb2 as pb
from breakglass.agent.journal import Journal
from breakglass.agent.tallies import Tally
from breakglass.core.command import parse_command
from breakglass.core.entries import Accepted, from_lines, render_instant
from breakglass.core.holds import Covers, Hold
from breakglass.core.signed_file import parse_signed_file
from breakglass.errors import Defect


def hold_message(
    hold: Hold, journal: Journal, tally: Tally, now: datetime, mono_ms: int
) -> pb.Hold:
    """Return one hold with the words that its approvers read, from the log."""
    body = journal.entry(journal.state.commands[hold.id].accepted_at).body
    if not isinstance(body, Accepted):
        raise Defect(f"expected an accepted entry of {hold.id}, got another kind")
    command = parse_command(parse_signed_file(from_lines(body.file)).text)
    left_s = -(-hold.left_ms(mono_ms) // 1_000)
    gates = journal.state.gates.values()
    return pb.Hold(
        command=hold.id,
        workload=command.action.workload,
        revision=command.action.revision,
        image=hold.image,
        mode=hold.mode,
        reason=command.reason,
        incident=command.incident,
        approvals=[one.person for one in body.approvals],
        since=hold.since,
        until=render_instant(now + timedelta(seconds=left_s)),
        left_s=left_s,
        attempts=tally.attempts,
        stops=tally.stops,
        resets=tally.resets,
        leaked_ms=tally.leaked_ms,
        pods=[
            pb.HeldPod(uid=one.uid, name=one.name, gate=one.gate, note=one.note)
            for one in gates
            if hold.covers_name(one.namespace, one.name) is Covers.YES or one.hold == hold.id
        ],
    )
