# SPDX-License-Identifier: Apache-2.0
"""Carry out an accepted command: steps (6) to (9) of `procedure`, and (R) after a crash.

This module acts and records; it decides nothing.  What it may touch is what the log says was
accepted, read back from there, so that a first run and a resumed one take the same way.  It ends
in a *finished* entry whatever happens short of a log that cannot be written.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from breakglass.agent.clock import Clock
from breakglass.agent.journal import Journal
from breakglass.agent.kernel import Kernel
from breakglass.agent.ladder import PodOutcome, stop_pods
from breakglass.agent.runtime import Runtime
from breakglass.core import limits
from breakglass.core.command import Command, Mode, parse_command
from breakglass.core.entries import (
    Accepted,
    Finished,
    Planned,
    PlannedPod,
    PodEnded,
    SeenContainer,
    SeenPod,
    from_lines,
)
from breakglass.core.fold import CommandState, Phase
from breakglass.core.names import parse_time
from breakglass.core.plan import Step, plan
from breakglass.core.pods import Pod
from breakglass.core.reasons import Refused
from breakglass.core.signed_file import parse_signed_file
from breakglass.errors import Defect, RuntimeTooOld, RuntimeUnavailable

# A pod that kubelet started again was down first: its planned containers have ended.
DOWN = frozenset({"down", "gone", "restarted"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One step that was taken and recorded: its kind and the index of its entry."""

    kind: str
    index: int


class CarryOut:
    """The executor: it holds the runtime, and takes only commands that the log has accepted."""

    def __init__(self, *, journal: Journal, runtime: Runtime, kernel: Kernel, clock: Clock) -> None:
        self._journal = journal
        self._runtime = runtime
        self._kernel = kernel
        self._clock = clock

    async def run(self, state: CommandState, *, resumed: bool) -> AsyncIterator[Done]:
        """Yield each step of a command as it is recorded, the last of kind "finished"."""
        begun_ms = self._clock.monotonic_ms()
        command = self._command(state)
        if resumed and self._clock.now() > parse_time(state.not_after):
            yield await self._close(command, begun_ms)
            return
        # (6) A command that was planned before a crash keeps its plan.
        if state.phase is Phase.ACCEPTED:
            steps = await self._planned(command)
            if isinstance(steps, Finished):
                yield await self._finish(steps)
                return
        else:
            steps = None
        pending = steps if steps is not None else await self._resumed_steps(state)
        if isinstance(pending, Finished):
            yield await self._finish(pending)
            return
        if command.mode is Mode.DRY_RUN:
            yield await self._finish(self._end(command, begun_ms, "planned", note=_would(pending)))
            return
        # (7) Each outcome is on record before the next thing is told.
        async for done in self._climb(command, pending, resumed=resumed):
            yield done
        # (8) and (9) The last look, and the end.
        yield await self._finish(await self._observed(command, begun_ms))

    def _command(self, state: CommandState) -> Command:
        body = self._journal.entry(state.accepted_at).body
        if not isinstance(body, Accepted):
            raise Defect(f"expected an accepted entry at {state.accepted_at}, got another kind")
        return parse_command(parse_signed_file(from_lines(body.file)).text)

    async def _planned(self, command: Command) -> "tuple[Step, ...] | Finished":
        """Take step (6): record the pods that will be stopped, or say why none will be."""
        begun_ms = self._clock.monotonic_ms()
        try:
            pods = await self._pods()
        except (RuntimeUnavailable, RuntimeTooOld) as error:
            return self._end(
                command, begun_ms, "incomplete", code=error.stable_code, note=error.message
            )
        planned = plan(command, pods)
        if isinstance(planned, Refused):
            note = f"expected {planned.needed}, got {planned.have}"
            return self._end(command, begun_ms, "refused", code=str(planned.reason), note=note)
        await self._journal.record(
            Planned(
                id=command.id,
                mode=str(command.mode),
                pods=tuple(
                    PlannedPod(
                        uid=step.pod.uid,
                        namespace=step.pod.namespace,
                        name=step.pod.name,
                        sandbox=step.pod.sandbox_id,
                        containers=tuple(one.id for one in step.containers),
                    )
                    for step in planned.steps
                ),
            )
        )
        if not planned.steps:
            return self._end(
                command, begun_ms, "nothing", note="no running pod of this workload here"
            )
        return planned.steps

    async def _resumed_steps(self, state: CommandState) -> "tuple[Step, ...] | Finished":
        """Return the steps of planned pods without an outcome, as the pods are now."""
        begun_ms = self._clock.monotonic_ms()
        command = self._command(state)
        try:
            now = {pod.sandbox_id: pod for pod in await self._pods()}
        except (RuntimeUnavailable, RuntimeTooOld) as error:
            return self._end(
                command, begun_ms, "incomplete", code=error.stable_code, note=error.message
            )
        steps: list[Step] = []
        for was in state.unresolved:
            pod = now.get(was.sandbox)
            # Only what was planned: a container that kubelet started since is not ours to stop.
            ours = tuple(one for one in pod.containers if one.id in was.containers) if pod else ()
            seen = pod or _vanished(was)
            steps.append(Step(pod=seen, containers=ours, grace_s=command.action.grace_s))
        return tuple(steps)

    async def _climb(
        self, command: Command, steps: tuple[Step, ...], *, resumed: bool
    ) -> AsyncIterator[Done]:
        """Take step (7): each pod's outcome is on record as soon as it is seen."""
        climbs = stop_pods(self._runtime, self._kernel, steps, self._clock)
        async with aclosing(climbs):
            async for outcome in climbs:
                index = await self._journal.record(_ended(command, outcome, resumed=resumed))
                yield Done(kind="pod", index=index)

    async def _observed(self, command: Command, begun_ms: int) -> Finished:
        """Take step (8): look again, and count what is down by the entries and by this look."""
        state = self._journal.state.commands[command.id]
        ended = [self._journal.entry(index).body for _, index in state.pods]
        down = sum(isinstance(body, PodEnded) and body.seen in DOWN for body in ended)
        try:
            now = {pod.uid: pod for pod in await self._pods()}
        except (RuntimeUnavailable, RuntimeTooOld) as error:
            return self._end(
                command,
                begun_ms,
                "incomplete",
                code=error.stable_code,
                note=error.message,
                pods=len(ended),
                down=down,
            )
        observed = tuple(
            SeenPod(uid=was.uid, name=was.name, seen=_now_seen(was, now.get(was.uid)))
            for was in state.planned
        )
        restarted = sum(one.seen == "restarted" for one in observed)
        still = sum(one.seen == "running" for one in observed)
        whole = down == len(state.planned) and not still
        return self._end(
            command,
            begun_ms,
            "done" if whole else "incomplete",
            code="" if whole else "not-down",
            note="started again since: nothing holds this workload down" if restarted else "",
            pods=len(state.planned),
            down=down if whole else min(down, len(state.planned) - still),
            restarted=restarted,
            observed=observed,
        )

    async def _close(self, command: Command, begun_ms: int) -> Done:
        """Close a command whose window ended while this agent was away: look, touch nothing."""
        state = self._journal.state.commands[command.id]
        observed: tuple[SeenPod, ...] = ()
        note = "its window ended while the agent was away; nothing was touched since"
        try:
            now = {pod.uid: pod for pod in await self._pods()}
            observed = tuple(
                SeenPod(uid=was.uid, name=was.name, seen=_now_seen(was, now.get(was.uid)))
                for was in state.planned
            )
        except (RuntimeUnavailable, RuntimeTooOld) as error:
            note = f"{note}; {error.message}"
        down = sum(one.seen != "running" for one in observed)
        return await self._finish(
            self._end(
                command,
                begun_ms,
                "interrupted",
                code="interrupted",
                note=note,
                pods=len(state.planned),
                down=down,
                restarted=sum(one.seen == "restarted" for one in observed),
                observed=observed,
            )
        )

    async def _pods(self) -> tuple[Pod, ...]:
        """Look, and again for a while when the runtime is away: it may be restarting."""
        deadline_ms = self._clock.monotonic_ms() + round(limits.RUNTIME_PATIENCE_S * 1_000)
        while True:
            try:
                return await self._runtime.pods()
            except RuntimeUnavailable:
                if self._clock.monotonic_ms() >= deadline_ms:
                    raise
                await self._clock.sleep(limits.LOOK_INTERVAL_S)

    async def _finish(self, finished: Finished) -> Done:
        """Take step (9)."""
        return Done(kind="finished", index=await self._journal.record(finished))

    def _end(
        self,
        command: Command,
        begun_ms: int,
        result: str,
        *,
        code: str = "",
        note: str = "",
        pods: int = 0,
        down: int = 0,
        restarted: int = 0,
        observed: tuple[SeenPod, ...] = (),
    ) -> Finished:
        return Finished(
            id=command.id,
            mode=str(command.mode),
            result=result,
            code=code,
            note=ascii(note)[1:-1][: limits.MAX_TEXT_CHARS],
            pods=pods,
            down=down,
            restarted=restarted,
            ms=self._clock.monotonic_ms() - begun_ms,
            observed=observed,
        )


def _now_seen(was: PlannedPod, now: Pod | None) -> str:
    """Return what a later look shows of a planned pod: gone, down, running, or restarted."""
    if now is None or not now.live:
        return "gone" if now is None else "down"
    ours = any(one.live for one in now.containers if one.id in was.containers)
    return "running" if ours else "restarted"


def _vanished(was: PlannedPod) -> Pod:
    """Return a planned pod that the runtime no longer knows."""
    return Pod.vanished(uid=was.uid, namespace=was.namespace, name=was.name, sandbox_id=was.sandbox)


def _ended(command: Command, outcome: PodOutcome, *, resumed: bool) -> PodEnded:
    return PodEnded(
        id=command.id,
        mode=str(command.mode),
        uid=outcome.uid,
        namespace=outcome.namespace,
        name=outcome.name,
        seen=str(outcome.seen),
        resumed=resumed,
        ms=outcome.ms,
        containers=tuple(
            SeenContainer(
                id=one.id,
                name=one.name,
                rung=one.rung,
                seen=str(one.seen),
                kernel=str(one.kernel),
                ms=one.ms,
                error=ascii(one.error)[1:-1][: limits.MAX_TEXT_CHARS],
            )
            for one in outcome.containers
        ),
    )


def _would(steps: tuple[Step, ...]) -> str:
    """Return what a dry run would have stopped."""
    names = ", ".join(step.pod.name for step in steps)
    return f"would stop {len(steps)} pods: {names}"
