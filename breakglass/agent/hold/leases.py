# SPDX-License-Identifier: Apache-2.0
"""This node's holds: the only writer of their beginnings and ends.

Recorded before done: a hold is durable before its first gate, and its end before the first limit
goes back.  So a crash at any point leaves a log from which the next start knows what to set again
and what to put back.

How a pod is kept down is `gating`'s; who is to be held, and when to look, is `watch`'s; what people
signed comes from `carry_out`.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta

from breakglass.agent.clock import Clock
from breakglass.agent.hold.gates import Locks, PodGates
from breakglass.agent.kernel.port import Kernel
from breakglass.agent.log.journal import Journal
from breakglass.agent.pods.inventory import PodInventory
from breakglass.agent.runtime.oci import OciRuntimes
from breakglass.agent.runtime.port import Runtime
from breakglass.core.command import Command
from breakglass.core.entries import render_instant
from breakglass.core.hold_entries import HoldBegun, HoldEnded, HoldExtended
from breakglass.core.holds import Covers, GatedPod, Hold, coverage
from breakglass.core.plan import workload_of
from breakglass.core.pods import Pod
from breakglass.errors import StateUnwritable

EXPIRED, RELEASED, LET_GO = "expired", "released", "let-go"


class Leases:
    """This node's holds and gates."""

    def __init__(
        self,
        *,
        journal: Journal,
        runtime: Runtime,
        kernel: Kernel,
        inventory: PodInventory,
        clock: Clock,
    ) -> None:
        self._journal = journal
        self._inventory = inventory
        self._clock = clock
        self._locks: Locks = defaultdict(asyncio.Lock)
        self.gates = PodGates(
            journal=journal,
            kernel=kernel,
            programs=OciRuntimes(runtime),
            locks=self._locks,
            keeper=self._keeper,
        )
        self.busy: set[str] = set()  # pods that a command is bringing down: not `watch`'s
        self.bell = asyncio.Event()  # rung when holds have changed

    @property
    def active(self) -> tuple[Hold, ...]:
        """The holds that keep anything down."""
        return self._journal.state.active_holds

    @property
    def gated(self) -> tuple[GatedPod, ...]:
        """The pods whose groups carry limits of ours."""
        return tuple(self._journal.state.gates.values())

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
            self.bell.set()
        return self._journal.state.holds[command.id]

    def meant_by(self, command: Command) -> tuple[Hold, ...]:
        """Return the active holds that a release or an extension means: none that came after it."""
        workload, of = workload_of(command.action), command.action.holds_of
        accepted_at = self._journal.state.commands[command.id].accepted_at
        return tuple(
            hold
            for hold in self.active
            if hold.begun_at < accepted_at and hold.is_meant(workload, of)
        )

    def kept_by(self, holds: tuple[Hold, ...]) -> tuple[GatedPod, ...]:
        """Return the gated pods that these holds keep down, alone or with others."""
        return tuple(gated for gated in self.gated if self._is_covered(gated, holds))

    def kept_only_by(self, holds: tuple[Hold, ...]) -> tuple[GatedPod, ...]:
        """Return the gated pods that nothing would keep down without these holds."""
        others = [hold for hold in self.active if hold not in holds]
        return tuple(gated for gated in self.gated if not self._is_covered(gated, others))

    def ended_by(self, command_id: str) -> tuple[Hold, ...]:
        """Return the holds that a release has ended."""
        return tuple(
            hold for hold in self._journal.state.holds.values() if hold.ended_by == command_id
        )

    async def extend(self, hold: Hold, command: Command) -> None:
        """Make a hold last as long from now as a command says, if that is longer."""
        hold_s = command.action.hold_s
        body = HoldExtended(id=hold.id, by=command.id, hold_s=hold_s, until=self._in(hold_s))
        async with self._locks[hold.id]:
            now = self._journal.state.holds[hold.id]
            # It may have ended meanwhile; and a crash does not make an extension count twice.
            if now.is_active and command.id not in now.extended_by:
                await self._journal.record(body)

    async def end(self, hold: Hold, why: str, *, by: str = "") -> None:
        """Record the end of a hold; `lift_uncovered` then puts back what no other hold needs."""
        async with self._locks[hold.id]:
            now = self._journal.state.holds[hold.id]
            # A release meets the lease's end; or the lease was extended while this waited.
            is_kept = why == EXPIRED and now.left_ms(self._clock.monotonic_ms()) > 0
            if now.is_active and not is_kept:
                await self._journal.record(HoldEnded(id=hold.id, why=why, by=by))
        self.bell.set()

    async def lift_uncovered(self) -> list[str]:
        """Put back the limits of every pod that no active hold covers; return what failed."""
        failed = []
        for gated in self.gated:
            if gated.uid in self.busy or self._is_covered(gated):
                continue
            try:
                problem = await self.gates.lift(gated)
            except StateUnwritable as error:
                problem = error.message  # the others are let go all the same, this one's turn comes
            if problem:
                failed.append(f"{gated.name}: {problem}")
        return failed

    def _keeper(self, gated: GatedPod) -> Hold | None:
        """Return an active hold that covers a gated pod, the one it was gated for first."""
        held = [hold for hold in self.active if self._is_covered(gated, (hold,))]
        held.sort(key=lambda hold: hold.id != gated.hold)
        return next(iter(held), None)

    def _is_covered(self, gated: GatedPod, holds: Iterable[Hold] | None = None) -> bool:
        pod = self._inventory.last(gated.uid) or Pod(
            uid=gated.uid,
            name=gated.name,
            namespace=gated.namespace,
            sandbox_id="",
            by_name=True,
        )
        return coverage(self.active if holds is None else holds, pod)[0] is not Covers.NO

    def _in(self, seconds: int) -> str:
        return render_instant(self._clock.now() + timedelta(seconds=seconds))
