# SPDX-License-Identifier: Apache-2.0
"""Holds as messages, with the command's text as its approvers read it, taken from the log."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from breakglass._pb.breakglass.v1 import agent_pb2 as pb
from breakglass.agent.hold.counters import Counts
from breakglass.agent.log.journal import Journal
from breakglass.agent.pods.inventory import PodInventory
from breakglass.core.accepted import command_of
from breakglass.core.entries import render_instant
from breakglass.core.gates import Gate
from breakglass.core.holds import Covers, GatedPod, GatesByPod, Hold, coverage
from breakglass.core.pods import Pod

_WATCHED = "no gate: the watch stops what starts"


def hold_message(
    hold: Hold,
    journal: Journal,
    counts: Counts,
    now: datetime,
    mono_ms: int,
    *,
    pods: Iterable[pb.HeldPod],
) -> pb.Hold:
    """Return one hold, with the workload, reason and approvals of its command."""
    body, command = command_of(journal.entry(journal.state.commands[hold.id].accepted_at))
    left_s = -(-hold.left_ms(mono_ms) // 1_000)
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
        attempts=counts.attempts,
        stops=counts.stops,
        resets=counts.resets,
        leaked_ms=counts.leaked_ms,
        pods=pods,
    )


def held_pods(hold: Hold, gates: GatesByPod, inventory: PodInventory) -> list[pb.HeldPod]:
    """Return the pods that a hold keeps down, by a gate or by the watch alone."""
    gated = [
        pb.HeldPod(uid=one.uid, name=one.name, gate=one.gate, note=one.note)
        for one in gates.values()
        if hold.covers(_pod_of(one, inventory)) is not Covers.NO
    ]
    watched = [
        pb.HeldPod(uid=one.uid, name=one.name, gate=str(Gate.WATCH_ONLY), note=_WATCHED)
        for one in ungated_pods((hold,), gates, inventory)
    ]
    return gated + watched


def ungated_pods(
    holds: Iterable[Hold], gates: GatesByPod, inventory: PodInventory
) -> tuple[Pod, ...]:
    """Return the held pods without a gate: virtual machines, and pods without a group.

    What has neither a sandbox nor anything live has nothing that could be gated.
    """
    return tuple(
        pod
        for pod in inventory.listed
        if pod.uid not in gates
        and (pod.ready or pod.live)
        and coverage(holds, pod)[0] is Covers.YES
    )


def _pod_of(gated: GatedPod, inventory: PodInventory) -> Pod:
    return inventory.last_seen(gated.uid) or Pod.known_by_name(
        uid=gated.uid, namespace=gated.namespace, name=gated.name
    )
