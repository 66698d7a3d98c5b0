# SPDX-License-Identifier: Apache-2.0
"""The node's state as a fold over its own log: `fold(state, entry) -> state`.

There is no second store.  A node computes its commands, its holds, the trust in force and its time
floor from the log's entries.  So a restart is a replay, and no state can disagree with the log.
The table `LIFECYCLE` lists the phases of a command; an entry that it does not allow raises
`LogTampered` and changes nothing.

Folding one entry takes the same time in a short log and in a long one: the maps that grow with the
log share memory between states (`immutable_map`), and no step searches them.

The fold trusts what entries say.  `recheck` verifies that the recorded decisions were right.
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

_After: TypeAlias = Callable[..., "State"]  # takes the changed fields, returns the next state


class Phase(StrEnum):
    """The phase of a command on this node."""

    UNSEEN = "unseen"
    ACCEPTED = "accepted"
    PLANNED = "planned"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"


class CommandEvent(StrEnum):
    """The event that an entry is for a command."""

    ACCEPT = "accept"
    PLAN = "plan"
    POD = "pod"
    FINISH = "finish"
    INTERRUPT = "interrupt"


LIFECYCLE: Mapping[tuple[Phase, CommandEvent], Phase] = MappingProxyType(
    {
        (Phase.UNSEEN, CommandEvent.ACCEPT): Phase.ACCEPTED,
        (Phase.ACCEPTED, CommandEvent.PLAN): Phase.PLANNED,
        # Without a plan: the command was beyond its caps, or the runtime did not answer.
        (Phase.ACCEPTED, CommandEvent.FINISH): Phase.FINISHED,
        (Phase.ACCEPTED, CommandEvent.INTERRUPT): Phase.INTERRUPTED,
        (Phase.PLANNED, CommandEvent.POD): Phase.PLANNED,
        (Phase.PLANNED, CommandEvent.FINISH): Phase.FINISHED,
        (Phase.PLANNED, CommandEvent.INTERRUPT): Phase.INTERRUPTED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandState:
    """One command's state; `accepted_at`, `finished_at` and the indexes are entry numbers.

    Attributes:
        pods: the uid of each pod with a recorded outcome, and the index of that outcome.
        owed_uids: the uids of the planned pods without an outcome.
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
        """The planned pods without an outcome."""
        return tuple(pod for pod in self.planned if pod.uid in self.owed_uids)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A node's state after `size` entries.

    Attributes:
        commands, holds: every one in the log, by the command's id.
        ids_by_sha256: the ids of the commands by the digests of their texts.
        unfinished_ids: the commands without an end, in the order of acceptance.
        active_ids: the commands whose holds are in force, in the order in which the holds began.
        gates: the pods whose control groups carry our limits now, by uid.
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
        """Return the accepted command with exactly this text, or None."""
        key = self.ids_by_sha256.get(sha256)
        return None if key is None else self.commands[key]

    @property
    def unfinished(self) -> tuple[CommandState, ...]:
        """The accepted commands that this node has not finished."""
        return tuple(self.commands[key] for key in self.unfinished_ids)

    @property
    def active_holds(self) -> tuple[Hold, ...]:
        """The holds in force, in the order in which they began."""
        return tuple(self.holds[key] for key in self.active_ids)


def fold(state: State, entry: Entry) -> State:
    """Return the state after `entry`; raise `LogTampered` when it cannot follow `state`."""
    stamp, index = entry.stamp, state.size
    if state.boot not in {"", stamp.boot}:
        holds = leases.rebase(state.holds, state.active_ids, state.mono_ms)
        state = replace(state, holds=holds)
    # Copy the state only once per entry: each start of the agent folds the whole log.
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
            return _fold_hold_entry(state, entry, after)


def _fold_hold_entry(state: State, entry: Entry, after: _After) -> State:
    """Return the state after an entry about holds or gates; other entries change nothing more."""
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
        raise LogTampered(f"expected command {body.id} accepted once, got it accepted twice")
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
            f"expected one outcome for each planned pod of {body.id}, got another for {body.uid}"
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
    """Return a command and its next phase; raise `LogTampered` for an illegal event."""
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
        raise LogTampered(f"expected an accepted command, got an entry for unknown {key}")
    return command


def _without(ids: tuple[str, ...], key: str) -> tuple[str, ...]:
    return tuple(one for one in ids if one != key)
