# SPDX-License-Identifier: Apache-2.0
"""The node's state as a fold over its own log: `fold(state, entry) -> state`.

There is no second store.  Commands, holds, the trust in force and the floor of time are computed
from the entries.  So a restart is a replay, and state that disagrees with the log cannot exist.
The life of a command is the table `LIFECYCLE`; an entry that the table does not
allow raises `LogTampered` and changes nothing.

An entry costs the same however long the log is: the maps that grow with it share their memory
between states (`immutable_map`), and nothing searches them.

The fold takes entries as true.  `recheck` checks whether a recorded decision was right.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

from breakglass.core import holds as leases
from breakglass.core.entries import (
    Accepted,
    Entry,
    Finished,
    Planned,
    PlannedPod,
    PodEnded,
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
from breakglass.core.holds import GatesByPod, Hold, HoldsById
from breakglass.core.immutable_map import ImmutableMap
from breakglass.core.names import parse_time
from breakglass.errors import LogTampered

INTERRUPTED = "interrupted"

_After: TypeAlias = Callable[
    ..., "State"
]  # returns the state after an entry, with these fields changed


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
    """One command, by its entries; an index is an entry's place in the log.

    Attributes:
        pods: the uid of each pod that has its outcome, and the outcome's index.
        owed_uids: the uids of the planned pods that have none yet.
    """

    id: str
    sha256: str
    mode: str
    phase: Phase
    not_after: str
    accepted_at: int
    planned: tuple[PlannedPod, ...] = ()
    pods: tuple[tuple[str, int], ...] = ()
    owed_uids: frozenset[str] = frozenset()
    finished_at: int | None = None

    @property
    def unresolved(self) -> tuple[PlannedPod, ...]:
        """The planned pods that have no outcome yet."""
        return tuple(pod for pod in self.planned if pod.uid in self.owed_uids)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a node knows; `size` is how many entries made it so.

    Attributes:
        commands, holds: all that this log ever had, by the command's id.
        ids_by_sha256: the ids of the commands by the digests of their texts.
        unfinished_ids: the commands without an end, in the order of acceptance.
        active_ids: the commands whose holds are active, in the order in which they began.
        gates: the pods that are gated now, by UID.
    """

    size: int = 0
    starts: int = 0
    trust_version: int = 0
    trust_sha256: str = ""
    time_floor: datetime | None = None
    boot: str = ""
    mono_ms: int = 0
    commands: ImmutableMap[str, CommandState] = field(default_factory=ImmutableMap)
    ids_by_sha256: ImmutableMap[str, str] = field(default_factory=ImmutableMap)
    unfinished_ids: tuple[str, ...] = ()
    holds: HoldsById = field(default_factory=ImmutableMap)
    active_ids: tuple[str, ...] = ()
    gates: GatesByPod = field(default_factory=lambda: MappingProxyType({}))

    def by_sha256(self, sha256: str) -> CommandState | None:
        """Return the command with exactly this text, if one was accepted here."""
        key = self.ids_by_sha256.get(sha256)
        return None if key is None else self.commands[key]

    @property
    def unfinished(self) -> tuple[CommandState, ...]:
        """The commands that have no *finished* entry yet."""
        return tuple(self.commands[key] for key in self.unfinished_ids)

    @property
    def active_holds(self) -> tuple[Hold, ...]:
        """The active holds, in the order in which they began."""
        return tuple(self.holds[key] for key in self.active_ids)


def fold(state: State, entry: Entry) -> State:
    """Return the state after `entry`; raise `LogTampered` when it cannot follow `state`."""
    stamp, index = entry.stamp, state.size
    if state.boot not in {"", stamp.boot}:
        holds = leases.rebase(state.holds, state.active_ids, state.mono_ms)
        state = replace(state, holds=holds)
    # One copy per entry: the log is folded whole at each start.
    after: _After = partial(replace, state, size=index + 1, boot=stamp.boot, mono_ms=stamp.mono_ms)
    match entry.body:
        case Started():
            return after(starts=state.starts + 1)
        case TrustTaken(version=version, sha256=sha256):
            return after(trust_version=version, trust_sha256=sha256)
        case Accepted() as body:
            return _accept(state, body, index, after)
        case Planned() as body:
            return _plan(state, body, after)
        case PodEnded() as body:
            return _end_pod(state, body, index, after)
        case Finished() as body:
            return _finish(state, body, index, after)
        case _:
            return _held(state, entry, after)


def _held(state: State, entry: Entry, after: _After) -> State:
    """Return the state after an entry about holds and gates, or the same after any other."""
    match entry.body:
        case HoldBegun() as body:
            _command(state, body.id)
            holds = leases.begin(state.holds, body, entry.stamp, state.size)
            return after(holds=holds, active_ids=(*state.active_ids, body.id))
        case HoldExtended() as body:
            _command(state, body.by)
            return after(holds=leases.extend(state.holds, body, entry.stamp))
        case HoldEnded() as body:
            holds = leases.end(state.holds, body, entry.stamp)
            return after(holds=holds, active_ids=_without(state.active_ids, body.id))
        case Enforced() as body:
            return after(holds=leases.count(state.holds, body, entry.stamp))
        case GateIntended() as body:
            return after(gates=leases.intend(state.gates, body))
        case GateSeen() as body:
            return after(gates=leases.prove(state.gates, body))
        case GateLifted() as body:
            return after(gates=leases.lift(state.gates, body))
        case _:
            return after()


def _accept(state: State, body: Accepted, index: int, after: _After) -> State:
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
    ids = state.ids_by_sha256
    return after(
        commands=state.commands.with_item(body.id, command),
        ids_by_sha256=ids if body.sha256 in ids else ids.with_item(body.sha256, body.id),
        unfinished_ids=(*state.unfinished_ids, body.id),
        time_floor=max(created, state.time_floor) if state.time_floor else created,
    )


def _plan(state: State, body: Planned, after: _After) -> State:
    before, phase = _advanced(state, body.id, CommandEvent.PLAN)
    owed = frozenset(pod.uid for pod in body.pods)
    command = replace(before, phase=phase, planned=body.pods, owed_uids=owed)
    return after(commands=state.commands.with_item(body.id, command))


def _end_pod(state: State, body: PodEnded, index: int, after: _After) -> State:
    before = _command(state, body.id)
    if body.uid not in before.owed_uids:
        raise LogTampered(
            f"expected an outcome of a planned pod of {body.id} once, got one of {body.uid}"
        )
    before, phase = _advanced(state, body.id, CommandEvent.POD)
    pods, owed = (*before.pods, (body.uid, index)), before.owed_uids - {body.uid}
    command = replace(before, phase=phase, pods=pods, owed_uids=owed)
    gates = state.gates
    if body.gate and body.uid in gates:
        gates = leases.prove(gates, GateSeen(uid=body.uid, gate=body.gate, note=body.gate_note))
    return after(commands=state.commands.with_item(body.id, command), gates=gates)


def _finish(state: State, body: Finished, index: int, after: _After) -> State:
    event = CommandEvent.INTERRUPT if body.result == INTERRUPTED else CommandEvent.FINISH
    before, phase = _advanced(state, body.id, event)
    command = replace(before, phase=phase, finished_at=index)
    return after(
        commands=state.commands.with_item(body.id, command),
        unfinished_ids=_without(state.unfinished_ids, body.id),
    )


def _advanced(state: State, key: str, event: CommandEvent) -> tuple[CommandState, Phase]:
    """Return a command and the phase it comes to; raise `LogTampered` for an illegal pair."""
    before = _command(state, key)
    after = LIFECYCLE.get((before.phase, event))
    if after is None:
        raise LogTampered(
            f"expected an event that can follow {before.phase}, got {event} for {key}"
        )
    return before, after


def _command(state: State, key: str) -> CommandState:
    command = state.commands.get(key)
    if command is None:
        raise LogTampered(f"expected an accepted command, got an entry of unknown {key}")
    return command


def _without(ids: tuple[str, ...], key: str) -> tuple[str, ...]:
    return tuple(one for one in ids if one != key)
