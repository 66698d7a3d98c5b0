# SPDX-License-Identifier: Apache-2.0
"""Carry out an accepted command: steps (6) to (9) of `procedure`, and (R) after a crash.

This module acts and records; it decides nothing.  It reads the accepted command back from the log,
so a first run and a resumed run take the same path.  It always ends in a *finished* entry, unless
the log cannot be written.
"""

from collections.abc import AsyncIterator

from breakglass.agent.clock import Clock
from breakglass.agent.command.release import ReleaseCommand
from breakglass.agent.command.results import finished, observe
from breakglass.agent.command.stop import PlannedStop, StopCommand
from breakglass.agent.log.journal import Journal
from breakglass.agent.pods.inventory import PodInventory
from breakglass.core.accepted import command_of
from breakglass.core.command import Command, Mode
from breakglass.core.entries import Finished
from breakglass.core.fold import CommandState, Phase
from breakglass.core.names import parse_time, render_duration
from breakglass.core.progress import Progress, ProgressKind


class Executor:
    """Carries out commands that the log has accepted, and no others."""

    def __init__(
        self,
        *,
        journal: Journal,
        inventory: PodInventory,
        stop: StopCommand,
        release: ReleaseCommand,
        clock: Clock,
    ) -> None:
        self._journal = journal
        self._inventory = inventory
        self._stop = stop
        self._release = release
        self._clock = clock

    async def run(self, state: CommandState, *, resumed: bool) -> AsyncIterator[Progress]:
        """Yield each step of a command as it is recorded, the last of kind `FINISHED`."""
        begun_ms = self._clock.monotonic_ms()
        command = self._command(state)
        if resumed and self._clock.now() > parse_time(state.not_after):
            yield await self._close(command, begun_ms)
            return
        if not command.action.verb.stops:
            yield await self._finish(await self._release.carry_out(command))
            return
        # (6) A command that was planned before a crash keeps that plan.
        if state.phase is Phase.ACCEPTED:
            planned_stop = await self._stop.planned(command, begun_ms)
        else:
            planned_stop = await self._stop.resumed(command, state)
        if isinstance(planned_stop, Finished):
            yield await self._finish(planned_stop)
            return
        if command.mode is Mode.DRY_RUN:
            note = _would(command, planned_stop)
            yield await self._finish(finished(command, self._clock, begun_ms, "planned", note=note))
            return
        # (7) Each outcome is recorded before it is reported.
        async for index in self._stop.stop(command, planned_stop, resumed=resumed):
            yield Progress(kind=ProgressKind.POD, index=index)
        # (8) and (9) The last look, and the end.
        yield await self._finish(await self._ended(command, planned_stop, begun_ms))

    def _command(self, state: CommandState) -> Command:
        return command_of(self._journal.entry(state.accepted_at))[1]

    async def _ended(self, command: Command, planned_stop: PlannedStop, begun_ms: int) -> Finished:
        if self._journal.state.commands[command.id].planned:
            return await self._stop.observed(command, begun_ms, planned_stop.snapshot)
        note = "; ".join(part for part in (planned_stop.snapshot.error, planned_stop.note) if part)
        if planned_stop.snapshot.without_runtime:
            # No pod is known, and the runtime did not answer.
            return finished(
                command,
                self._clock,
                begun_ms,
                "incomplete",
                code=planned_stop.snapshot.code,
                note=note,
            )
        nothing = "no running pod of this workload here"
        if command.action.hold_s:
            # The hold also covers pods that come later.
            held = f"0 pods now, held for {render_duration(command.action.hold_s)}"
            nothing = f"{held}: {nothing}"
        note = f"{nothing}; {note}" if note else nothing
        return finished(command, self._clock, begun_ms, "nothing", note=note)

    async def _close(self, command: Command, begun_ms: int) -> Progress:
        """Close a command whose window ended while this agent was away: look, touch nothing."""
        state = self._journal.state.commands[command.id]
        snapshot = await self._inventory.wait_snapshot()
        note = "its window ended while the agent was away; nothing was touched since"
        if snapshot.without_runtime:
            note = f"{note}; {snapshot.error}"
        observed = observe(state.planned, snapshot.pods)
        if snapshot.without_runtime and not snapshot.pods:
            observed = ()
        return await self._finish(
            finished(
                command,
                self._clock,
                begun_ms,
                "interrupted",
                code="interrupted",
                note=note,
                pods=len(state.planned),
                down=sum(one.seen != "running" for one in observed),
                restarted=sum(one.seen == "restarted" for one in observed),
                observed=observed,
            )
        )

    async def _finish(self, ended: Finished) -> Progress:
        """Take step (9)."""
        return Progress(kind=ProgressKind.FINISHED, index=await self._journal.record(ended))


def _would(command: Command, planned_stop: PlannedStop) -> str:
    """Return what a dry run would have done; the entry *planned* has the pods one by one."""
    names = ", ".join(step.pod.name for step in planned_stop.steps) or "none"
    hold_s = command.action.hold_s
    hold = f", and hold the workload down for {render_duration(hold_s)}" if hold_s else ""
    note = f"; not: {planned_stop.note}" if planned_stop.note else ""
    return f"would {command.action.verb} {len(planned_stop.steps)} pods: {names}{hold}{note}"
