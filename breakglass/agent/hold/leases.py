# SPDX-License-Identifier: Apache-2.0
"""This node's leases: the only writer of how holds begin, are extended and end.

A hold is durable before its first gate, and its end before the first limit goes back.  So a crash
at any point leaves a log from which the next start knows what to set again and what to put back.
Whether a hold is still active is checked in the same step that appends the entry about it.

`gates` keeps pods down; `watch` decides when to look; what people signed comes from `command`.
"""

import asyncio
from datetime import timedelta

from breakglass.agent.clock import Clock
from breakglass.agent.log.journal import Journal
from breakglass.core.command import Command
from breakglass.core.entries import render_instant
from breakglass.core.fold import State
from breakglass.core.hold_entries import HoldBegun, HoldEnded, HoldExtended
from breakglass.core.holds import Hold
from breakglass.core.plan import workload_of

EXPIRED, RELEASED, LET_GO = "expired", "released", "let-go"


class Leases:
    """This node's holds as leases in the log."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._changed = asyncio.Event()

    async def begin(self, command: Command) -> Hold:
        """Record the hold of a command, and return it; from now on it is kept."""
        action = command.action
        if command.id not in self._journal.state.holds:
            body = HoldBegun(
                id=command.id,
                mode=str(command.mode),
                namespace=action.namespace,
                name=action.name,
                revision=action.revision,
                image=action.image,
                hold_s=action.hold_s,
                until=self._in(action.hold_s),
            )
            await self._journal.record(body)
            self._changed.set()
        return self._journal.state.holds[command.id]

    async def extend(self, hold: Hold, command: Command) -> None:
        """Make a hold last as long from now as a command says, if that is longer."""
        hold_s = command.action.hold_s
        body = HoldExtended(id=hold.id, by=command.id, hold_s=hold_s, until=self._in(hold_s))

        def is_due(state: State) -> bool:
            # It may have ended meanwhile; and a crash does not make an extension count twice.
            now = state.holds[hold.id]
            return now.is_active and command.id not in now.extended_by

        await self._journal.record_if(body, is_due)

    async def end(self, hold: Hold, why: str, *, by: str = "") -> None:
        """Record the end of a hold; `PodGates.lift_uncovered` then puts its limits back."""

        def is_due(state: State) -> bool:
            # A release meets the lease's end; or the lease was extended while this waited.
            now = state.holds[hold.id]
            is_kept = why == EXPIRED and now.left_ms(self._clock.monotonic_ms()) > 0
            return now.is_active and not is_kept

        await self._journal.record_if(HoldEnded(id=hold.id, why=why, by=by), is_due)
        self._changed.set()

    def meant_by(self, command: Command) -> tuple[Hold, ...]:
        """Return the active holds that a release or an extension means: none that came after it."""
        workload, of = workload_of(command.action), command.action.holds_of
        state = self._journal.state
        accepted_at = state.commands[command.id].accepted_at
        return tuple(
            hold
            for hold in state.active_holds
            if hold.begun_at < accepted_at and hold.is_meant(workload, of)
        )

    def ended_by(self, command_id: str) -> tuple[Hold, ...]:
        """Return the holds that a release has ended."""
        return tuple(
            hold for hold in self._journal.state.holds.values() if hold.ended_by == command_id
        )

    async def wait_change(self) -> None:
        """Return when a hold has begun or ended since the last `take_change`."""
        await self._changed.wait()

    def take_change(self) -> bool:
        """Return whether a hold has begun or ended since the last call."""
        changed = self._changed.is_set()
        self._changed.clear()
        return changed

    def _in(self, seconds: int) -> str:
        return render_instant(self._clock.now() + timedelta(seconds=seconds))
