# SPDX-License-Identifier: Apache-2.0
"""Holds: leases that keep workloads down on a node, and which pods they cover.

A hold is the lease of one command, keyed by workload, revision and image, never by a pod: pods come
and go under it.  Holds compose: a pod is held while any active hold covers it, and each ends by
itself.

A lease ends by time since boot, so a step of the wall clock neither ends nor prolongs it; the
`until` in the log is for people.  The node cannot know how long it was off across a reboot.  So the
time that was left at the last entry before the reboot counts from the boot on.  The lease is then
never shorter than signed, and longer at most by the time off plus the time since that entry.  While
anything is held, the log has an entry at least every ten minutes.

This module is pure: the agent acts on the holds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from breakglass.core.entries import Stamp
from breakglass.core.gates import Gate, Limit, Oci
from breakglass.core.hold_entries import (
    Enforced,
    GateIntended,
    GateLifted,
    GateSeen,
    HoldBegun,
    HoldEnded,
    HoldExtended,
)
from breakglass.core.immutable_map import ImmutableMap
from breakglass.core.pods import Pod, Workload, belongs, name_fits
from breakglass.errors import LogTampered


class Covers(StrEnum):
    """Whether a hold covers a pod; `MAYBE` while the runtime has not shown enough of it."""

    YES = "yes"
    MAYBE = "maybe"
    NO = "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One command's lease.

    Attributes:
        ends_mono_ms: its end in time since the boot that the state is in; 0 once it is over.
        unused_ms: what was left of it when it was ended.
        extended_by: the commands that have extended it, each once.
        ended, ended_by: why it ended, "" while it is active, and by which command.
        counted_to: the wall time of the newest counts; a later run of the agent counts only what
            ended after it.
    """

    id: str
    mode: str
    workload: Workload
    image: str
    begun_at: int
    since: str
    ends_mono_ms: int
    counted_to: str
    extended_by: tuple[str, ...] = ()
    ended: str = ""
    ended_by: str = ""
    unused_ms: int = 0
    attempts: int = 0
    stops: int = 0
    resets: int = 0
    leaked_ms: int = 0

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return not self.ended

    def left_ms(self, mono_ms: int) -> int:
        """Return how many milliseconds are left of it, 0 when it has ended."""
        return 0 if self.ended else max(0, self.ends_mono_ms - mono_ms)

    def covers(self, pod: Pod) -> Covers:
        """Return whether it covers this pod, by what the runtime has shown of it."""
        if pod.by_name:
            return self.covers_name(pod.namespace, pod.name)
        if not belongs(pod, self.workload).member:
            return Covers.NO
        if not self.image or any(one.is_of(self.image) for one in pod.containers):
            return Covers.YES
        return Covers.MAYBE  # a container of that image may come later

    def covers_name(self, namespace: str, name: str) -> Covers:
        """Return whether it covers a pod of which only the name is known."""
        if namespace != self.workload.namespace or not name_fits(name, self.workload.name):
            return Covers.NO
        return Covers.MAYBE if self.workload.revision or self.image else Covers.YES

    def is_meant(self, workload: Workload, command_id: str) -> bool:
        """Return whether a release or extension selects it, by workload or by command id."""
        return (
            self.is_active
            and (self.workload.namespace, self.workload.name) == (workload.namespace, workload.name)
            and workload.revision in {None, self.workload.revision}
            and command_id in {"", self.id}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedPod:
    """A pod whose control group has limits of a gate, with their old values.

    Attributes:
        gate: the gate that was proven last; "" between the intent and the first proof.
        hold: the hold that it was gated for first.
    """

    uid: str
    namespace: str
    name: str
    hold: str
    cgroup: str
    inode: int
    oci: Oci
    limits: tuple[Limit, ...]
    gate: str = ""
    note: str = ""


HoldsById = ImmutableMap[str, Hold]  # all holds of this log, active and ended
GatesByPod = Mapping[str, GatedPod]  # the pods that are gated now


def coverage(holds: Iterable[Hold], pod: Pod) -> tuple[Covers, tuple[Hold, ...]]:
    """Return whether any active hold covers a pod, and which do."""
    return _best((hold, hold.covers(pod)) for hold in holds if hold.is_active)


def coverage_of_name(
    holds: Iterable[Hold], namespace: str, name: str
) -> tuple[Covers, tuple[Hold, ...]]:
    """Return whether any active hold covers a pod by its name alone, and which do."""
    return _best((hold, hold.covers_name(namespace, name)) for hold in holds if hold.is_active)


def begin(holds: HoldsById, body: HoldBegun, stamp: Stamp, index: int) -> HoldsById:
    """Return the holds with a new one; raise `LogTampered` when its command has one already."""
    if body.id in holds:
        raise LogTampered(f"expected one hold of command {body.id}, got a second")
    hold = Hold(
        id=body.id,
        mode=body.mode,
        workload=Workload(namespace=body.namespace, name=body.name, revision=body.revision or None),
        image=body.image,
        begun_at=index,
        since=stamp.time,
        ends_mono_ms=stamp.mono_ms + body.hold_s * 1_000,
        counted_to=stamp.time,
    )
    return holds.with_item(hold.id, hold)


def extend(holds: HoldsById, body: HoldExtended, stamp: Stamp) -> HoldsById:
    """Return the holds with a later end of one; an extension never shortens, and counts once."""
    hold = _active(holds, body.id)
    if body.by in hold.extended_by:
        raise LogTampered(f"expected one extension of {body.id} by {body.by}, got a second")
    ends = max(hold.ends_mono_ms, stamp.mono_ms + body.hold_s * 1_000)
    extended_by = (*hold.extended_by, body.by)
    longer = replace(hold, ends_mono_ms=ends, extended_by=extended_by)
    return holds.with_item(hold.id, longer)


def end(holds: HoldsById, body: HoldEnded, stamp: Stamp) -> HoldsById:
    """Return the holds after one of them has ended."""
    hold = _active(holds, body.id)
    left_ms = hold.left_ms(stamp.mono_ms)
    ended = replace(hold, ends_mono_ms=0, ended=body.why, ended_by=body.by, unused_ms=left_ms)
    return holds.with_item(body.id, ended)


def count(holds: HoldsById, body: Enforced, stamp: Stamp) -> HoldsById:
    """Return the holds with counts added to one; counts may follow its end."""
    hold = holds.get(body.id)
    if hold is None:
        raise LogTampered(f"expected a hold, got an entry of {body.id}")
    counted = replace(
        hold,
        attempts=hold.attempts + body.attempts,
        stops=hold.stops + body.stops,
        resets=hold.resets + body.resets,
        leaked_ms=hold.leaked_ms + body.leaked_ms,
        counted_to=stamp.time,
    )
    return holds.with_item(hold.id, counted)


def rebase(holds: HoldsById, active_ids: Iterable[str], last_mono_ms: int) -> HoldsById:
    """Return the holds in a new boot, when the last entry before it was at `last_mono_ms`."""
    for key in active_ids:
        hold = holds[key]
        holds = holds.with_item(key, replace(hold, ends_mono_ms=hold.left_ms(last_mono_ms)))
    return holds


def intend(gates: GatesByPod, body: GateIntended) -> GatesByPod:
    """Return the gates with one that is about to be set, or set anew on a pod's new group."""
    limits = tuple(
        Limit(kind=Gate(one.kind), place=one.place, old=one.old, early=one.early)
        for one in body.limits
    )
    pod = GatedPod(
        uid=body.uid,
        namespace=body.namespace,
        name=body.name,
        hold=body.hold,
        cgroup=body.cgroup,
        inode=body.inode,
        oci=Oci(body.oci),
        limits=limits,
    )
    return MappingProxyType({**gates, pod.uid: pod})


def prove(gates: GatesByPod, body: GateSeen) -> GatesByPod:
    """Return the gates with the proven gate of one pod."""
    pod = replace(_gated(gates, body.uid), gate=body.gate, note=body.note)
    return MappingProxyType({**gates, body.uid: pod})


def lift(gates: GatesByPod, body: GateLifted) -> GatesByPod:
    """Return the gates without one that was lifted or whose pod is gone."""
    _gated(gates, body.uid)
    return MappingProxyType({key: pod for key, pod in gates.items() if key != body.uid})


def _best(found: Iterable[tuple[Hold, Covers]]) -> tuple[Covers, tuple[Hold, ...]]:
    kept = tuple(found)
    for answer in (Covers.YES, Covers.MAYBE):
        holds = tuple(hold for hold, covers in kept if covers is answer)
        if holds:
            return answer, holds
    return Covers.NO, ()


def _active(holds: HoldsById, key: str) -> Hold:
    hold = holds.get(key)
    if hold is None or not hold.is_active:
        raise LogTampered(f"expected an active hold, got an entry of {key}")
    return hold


def _gated(gates: GatesByPod, uid: str) -> GatedPod:
    if uid not in gates:
        raise LogTampered(f"expected a gated pod, got an entry of {uid}")
    return gates[uid]
