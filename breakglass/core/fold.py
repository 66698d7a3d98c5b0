# SPDX-License-Identifier: Apache-2.0
"""The node's state as a fold over its own log: `fold(state, entry) -> state`.

There is no second store.  What a node knows of commands, of the trust in force and of the time it
has seen is computed from its entries, so a restart is a replay, and state that disagrees with the
log cannot exist.  The life of a command is the table `LIFECYCLE`; an entry that the table does not
allow raises `LogTampered` and changes nothing.

The fold believes what entries say.  Whether a recorded decision was right is for `recheck`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from breakglass.core import holds as leases
from breakglass.core.entries import (
    Accepted,
    Entry,
    Finished,
    Planned,
    PlannedPod,
    PodEnded,
    Stamp,
    Started,
    TrustTaken,
)
from breakglass.core.hold_entries import (
    Enforced,
    GateIntended,
    GateLifted,
    GateSeen,
    HoldBegun,
    HoldEnded,
    HoldExtended,
)
from breakglass.core.holds import GatedPod, Hold
from breakglass.core.names import parse_time
from breakglass.errors import LogTampered

INTERRUPTED = "interrupted"


class Phase(StrEnum):
    """How far a command has come on this node."""

    UNSEEN = "unseen"
    ACCEPTED = "accepted"
    PLANNED = "planned"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"


class CommandEvent(StrEnum):
    """What an entry does to a command."""

    ACCEPT = "accept"
    PLAN = "plan"
    POD = "pod"
    FINISH = "finish"
    INTERRUPT = "interrupt"


LIFECYCLE: Mapping[tuple[Phase, CommandEvent], Phase] = MappingProxyType(
    {
        (Phase.UNSEEN, CommandEvent.ACCEPT): Phase.ACCEPTED,
        (Phase.ACCEPTED, CommandEvent.PLAN): Phase.PLANNED,
        (
            Phase.ACCEPTED,
            CommandEvent.FINISH,
        ): Phase.FINISHED,  # refused beyond the caps, or no runtime
        (Phase.ACCEPTED, CommandEvent.INTERRUPT): Phase.INTERRUPTED,
        (Phase.PLANNED, CommandEvent.POD): Phase.PLANNED,
        (Phase.PLANNED, CommandEvent.FINISH): Phase.FINISHED,
        (Phase.PLANNED, CommandEvent.INTERRUPT): Phase.INTERRUPTED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandState:
    """One command as the log tells it; indexes are places in the log."""

    id: str
    sha256: str
    mode: str
    phase: Phase
    not_after: str
    accepted_at: int
    planned: tuple[PlannedPod, ...] = ()
    pods: tuple[tuple[str, int], ...] = ()
    finished_at: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether the command has its end in the log."""
        return self.finished_at is not None

    @property
    def unresolved(self) -> tuple[PlannedPod, ...]:
        """The planned pods that have no outcome yet."""
        resolved = {uid for uid, _ in self.pods}
        return tuple(pod for pod in self.planned if pod.uid not in resolved)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a node knows; `size` is how many entries made it so."""

    size: int = 0
    starts: int = 0
    trust_version: int = 0
    trust_sha256: str = ""
    time_floor: datetime | None = None
    boot: str = ""
    mono_ms: int = 0
    commands: Mapping[str, CommandState] = field(default_factory=lambda: MappingProxyType({}))
    holds: Mapping[str, Hold] = field(default_factory=lambda: MappingProxyType({}))
    gates: Mapping[str, GatedPod] = field(default_factory=lambda: MappingProxyType({}))

    def by_sha256(self, sha256: str) -> CommandState | None:
        """Return the command with exactly this text, if one was accepted here."""
        return next((one for one in self.commands.values() if one.sha256 == sha256), None)

    @property
    def unfinished(self) -> tuple[CommandState, ...]:
        """The commands whose end this node still owes."""
        return tuple(one for one in self.commands.values() if not one.is_over)

    @property
    def active_holds(self) -> tuple[Hold, ...]:
        """The holds that keep anything down, in the order in which they began."""
        return tuple(hold for hold in self.holds.values() if hold.is_active)


def fold(state: State, entry: Entry) -> State:
    """Return the state after `entry`; raise `LogTampered` when it cannot follow `state`."""
    index = state.size
    state = _at(replace(state, size=index + 1), entry.stamp)
    match entry.body:
        case Started():
            return replace(state, starts=state.starts + 1)
        case TrustTaken(version=version, sha256=sha256):
            return replace(state, trust_version=version, trust_sha256=sha256)
        case Accepted() as body:
            return _accept(state, body, index)
        case Planned(id=key, pods=pods):
            return _advance(state, key, CommandEvent.PLAN, planned=pods)
        case PodEnded() as body:
            return _pod_ended(state, body, index)
        case Finished(id=key, result=result):
            event = CommandEvent.INTERRUPT if result == INTERRUPTED else CommandEvent.FINISH
            return _advance(state, key, event, finished_at=index)
        case _:
            return _held(state, entry, index)


def _at(state: State, stamp: Stamp) -> State:
    """Return the state at a later moment; in a new boot, holds end by that boot's time."""
    if state.boot not in {"", stamp.boot}:
        state = replace(state, holds=leases.rebase(state.holds, state.mono_ms))
    return replace(state, boot=stamp.boot, mono_ms=stamp.mono_ms)


def _held(state: State, entry: Entry, index: int) -> State:
    """Return the state after an entry about holds and gates, or the same after any other."""
    match entry.body:
        case HoldBegun() as body:
            _command(state, body.id)
            return replace(state, holds=leases.begin(state.holds, body, entry.stamp, index))
        case HoldExtended() as body:
            _command(state, body.by)
            return replace(state, holds=leases.extend(state.holds, body, entry.stamp))
        case HoldEnded() as body:
            return replace(state, holds=leases.end(state.holds, body))
        case Enforced() as body:
            return replace(state, holds=leases.count(state.holds, body, entry.stamp))
        case GateIntended() as body:
            return replace(state, gates=leases.intend(state.gates, body))
        case GateSeen() as body:
            return replace(state, gates=leases.prove(state.gates, body))
        case GateLifted() as body:
            return replace(state, gates=leases.lift(state.gates, body))
        case _:
            return state


def _accept(state: State, body: Accepted, index: int) -> State:
    if body.id in state.commands:
        raise LogTampered(f"expected command {body.id} to be accepted once, got it twice")
    command = CommandState(
        id=body.id,
        sha256=body.sha256,
        mode=body.mode,
        phase=LIFECYCLE[Phase.UNSEEN, CommandEvent.ACCEPT],
        not_after=body.not_after,
        accepted_at=index,
    )
    created = parse_time(body.created)
    floor = max(created, state.time_floor) if state.time_floor else created
    return replace(_with(state, command), time_floor=floor)


def _pod_ended(state: State, body: PodEnded, index: int) -> State:
    before = _command(state, body.id)
    if body.uid not in {pod.uid for pod in before.unresolved}:
        raise LogTampered(
            f"expected an outcome of a planned pod of {body.id} once, got one of {body.uid}"
        )
    if body.gate and body.uid in state.gates:
        seen = GateSeen(uid=body.uid, gate=body.gate, note=body.gate_note)
        state = replace(state, gates=leases.prove(state.gates, seen))
    return _advance(state, body.id, CommandEvent.POD, pods=(*before.pods, (body.uid, index)))


def _advance(
    state: State,
    key: str,
    event: CommandEvent,
    *,
    planned: tuple[PlannedPod, ...] | None = None,
    pods: tuple[tuple[str, int], ...] | None = None,
    finished_at: int | None = None,
) -> State:
    before = _command(state, key)
    after = LIFECYCLE.get((before.phase, event))
    if after is None:
        raise LogTampered(
            f"expected an event that can follow {before.phase}, got {event} for {key}"
        )
    command = replace(
        before,
        phase=after,
        planned=before.planned if planned is None else planned,
        pods=before.pods if pods is None else pods,
        finished_at=before.finished_at if finished_at is None else finished_at,
    )
    return _with(state, command)


def _command(state: State, key: str) -> CommandState:
    if key not in state.commands:
        raise LogTampered(f"expected an accepted command, got an entry of unknown {key}")
    return state.commands[key]


def _with(state: State, command: CommandState) -> State:
    return replace(state, commands=MappingProxyType({**state.commands, command.id: command}))
