# SPDX-License-Identifier: Apache-2.0
"""Holds: the leases that keep a workload down on a node, and which pods they cover.

A hold is the lease of one command.  Its key is a workload, revision and image, never a pod: pods
are deleted and re-created during a hold.  Holds are independent: a pod is held while at least one
active hold covers it, and each hold ends at its own time.

A lease is measured in time since boot, so a change of the wall clock neither ends nor extends it;
the `until` in the log is for people.  After a reboot a node cannot know how long it was off.  It
gives each hold the time that was left at the last entry before the reboot.  So a hold is never
shorter than was signed; it may be longer by the time off and by the time from that entry to the
shutdown.  While a hold is active, the agent writes an entry at least every ten minutes.

This module is pure.  The agent enforces the holds.
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
    """Whether a hold covers a pod; `MAYBE` while the runtime has not reported enough about it."""

    YES = "yes"
    MAYBE = "maybe"
    NO = "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One command's lease.

    Attributes:
        ends_mono_ms: when the hold ends, in milliseconds since the current boot; 0 after its end.
        unused_ms: the time that was left when the hold was ended.
        extended_by: the commands that extended it, each once.
        ended, ended_by: why and by which command it was ended; "" while it is active.
        counted_to: the wall time of the newest counts.  After a restart the agent counts only what
            happened later.
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
        """Whether the hold is still in force."""
        return not self.ended

    def left_ms(self, mono_ms: int) -> int:
        """Return the milliseconds that are left, 0 after the end."""
        return 0 if self.ended else max(0, self.ends_mono_ms - mono_ms)

    def covers(self, pod: Pod) -> Covers:
        """Return whether the hold covers this pod, from what the runtime reports about it."""
        if pod.by_name:
            return self.covers_name(pod.namespace, pod.name)
        if not belongs(pod, self.workload).member:
            return Covers.NO
        if not self.image or any(one.is_of(self.image) for one in pod.containers):
            return Covers.YES
        return Covers.MAYBE  # a container with the image may be created later

    def covers_name(self, namespace: str, name: str) -> Covers:
        """Return whether the hold covers a pod of which only the name is known."""
        if namespace != self.workload.namespace or not name_fits(name, self.workload.name):
            return Covers.NO
        return Covers.MAYBE if self.workload.revision or self.image else Covers.YES

    def is_meant(self, workload: Workload, command_id: str) -> bool:
        """Return whether a release or extension of this workload, or of one command, selects it."""
        return (
            self.is_active
            and (self.workload.namespace, self.workload.name) == (workload.namespace, workload.name)
            and workload.revision in {None, self.workload.revision}
            and command_id in {"", self.id}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedPod:
    """A pod whose control group carries our limits, with the values from before.

    Attributes:
        gate: the gate that was last proven to be in force; "" before the first proof.
        hold: the hold for which the pod was gated first.
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


HoldsById = ImmutableMap[str, Hold]  # every hold in the log, ended ones too
GatesByPod = Mapping[str, GatedPod]  # only the pods that are gated now


def coverage(holds: Iterable[Hold], pod: Pod) -> tuple[Covers, tuple[Hold, ...]]:
    """Return whether any active hold covers a pod, and the holds that do."""
    return _best((hold, hold.covers(pod)) for hold in holds if hold.is_active)


def coverage_of_name(
    holds: Iterable[Hold], namespace: str, name: str
) -> tuple[Covers, tuple[Hold, ...]]:
    """Return whether any active hold covers a pod by its name alone, and the holds that do."""
    return _best((hold, hold.covers_name(namespace, name)) for hold in holds if hold.is_active)


def begin(holds: HoldsById, body: HoldBegun, stamp: Stamp, index: int) -> HoldsById:
    """Return the holds with a new one; raise `LogTampered` if its command already has a hold."""
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
    """Return the holds with one of them extended; an extension never shortens a hold.

    Raises:
        LogTampered: the hold is not active, or this command extended it before.
    """
    hold = _active(holds, body.id)
    if body.by in hold.extended_by:
        raise LogTampered(f"expected one extension of {body.id} by {body.by}, got a second")
    ends = max(hold.ends_mono_ms, stamp.mono_ms + body.hold_s * 1_000)
    extended_by = (*hold.extended_by, body.by)
    longer = replace(hold, ends_mono_ms=ends, extended_by=extended_by)
    return holds.with_item(hold.id, longer)


def end(holds: HoldsById, body: HoldEnded, stamp: Stamp) -> HoldsById:
    """Return the holds with one of them ended."""
    hold = _active(holds, body.id)
    left_ms = hold.left_ms(stamp.mono_ms)
    ended = replace(hold, ends_mono_ms=0, ended=body.why, ended_by=body.by, unused_ms=left_ms)
    return holds.with_item(body.id, ended)


def count(holds: HoldsById, body: Enforced, stamp: Stamp) -> HoldsById:
    """Return the holds with new counts for one; the last counts may follow its end."""
    hold = holds.get(body.id)
    if hold is None:
        raise LogTampered(f"expected a hold of command {body.id}, got none")
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
    """Return the holds after a reboot; the last entry before it was at `last_mono_ms`."""
    for key in active_ids:
        hold = holds[key]
        holds = holds.with_item(key, replace(hold, ends_mono_ms=hold.left_ms(last_mono_ms)))
    return holds


def intend(gates: GatesByPod, body: GateIntended) -> GatesByPod:
    """Return the gates with one that is about to be set on a pod's group, or on its new group."""
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
    """Return the gates with the newest proof for one pod."""
    pod = replace(_gated(gates, body.uid), gate=body.gate, note=body.note)
    return MappingProxyType({**gates, body.uid: pod})


def lift(gates: GatesByPod, body: GateLifted) -> GatesByPod:
    """Return the gates without one that was lifted or whose group is gone."""
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
        raise LogTampered(f"expected an active hold of command {key}, got none")
    return hold


def _gated(gates: GatesByPod, uid: str) -> GatedPod:
    if uid not in gates:
        raise LogTampered(f"expected a gated pod, got an entry for {uid}, which has no gate")
    return gates[uid]
