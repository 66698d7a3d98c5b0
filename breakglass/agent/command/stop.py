# SPDX-License-Identifier: Apache-2.0
"""Carry out a stop or an eviction: steps (6) to (8) of `procedure`.

It touches only what the log has as planned, so a first run and a resumed run take the same path.
Each pod goes through, in this order: its gate, the capture, the ladder, the late limits, and for an
eviction its sandbox.  A sandbox that cannot be ended is reported and is not fatal.  Each pod's
outcome is recorded before it is reported.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from breakglass.agent.capture.port import Capture, Captures
from breakglass.agent.clock import Clock
from breakglass.agent.command.results import finished, observe
from breakglass.agent.hold.counters import HoldCounters
from breakglass.agent.hold.gates import PodGates
from breakglass.agent.hold.leases import Leases
from breakglass.agent.hold.limit_setter import GateStatus
from breakglass.agent.kernel.port import PodGroups
from breakglass.agent.log.journal import UNREADABLE, Journal
from breakglass.agent.pods.inventory import PodInventory, Snapshot
from breakglass.agent.runtime.port import Runtime
from breakglass.agent.stop.ladder import Ladder, Ladders, PodOutcome, side_by_side
from breakglass.core import bounds
from breakglass.core.command import Command, Mode, Verb
from breakglass.core.entries import Finished, Planned, PlannedPod, PodEnded, SeenContainer
from breakglass.core.fold import CommandState
from breakglass.core.gates import Gate
from breakglass.core.holds import Hold
from breakglass.core.names import printable
from breakglass.core.plan import Plan, Step, plan
from breakglass.core.pods import Pod
from breakglass.core.reasons import Reason, Refused
from breakglass.errors import GateFailed, RuntimeTooOld, RuntimeUnavailable, StateUnwritable

# A pod that kubelet started again was down before: its planned containers have ended.
DOWN = frozenset({"down", "gone", "restarted"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStop:
    """The steps to take on this node, and the snapshot that they were planned from."""

    steps: tuple[Step, ...]
    snapshot: Snapshot
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """What came of one pod."""

    outcome: PodOutcome
    gate_status: GateStatus | None
    sandbox: str
    capture: Capture | None


class StopCommand:
    """Stops and evicts the pods of one node."""

    def __init__(
        self,
        *,
        journal: Journal,
        runtime: Runtime,
        groups: PodGroups,
        ladders: Ladders,
        inventory: PodInventory,
        leases: Leases,
        gates: PodGates,
        counters: HoldCounters,
        captures: Captures,
        clock: Clock,
    ) -> None:
        self._journal = journal
        self._runtime = runtime
        self._groups = groups
        self._ladders = ladders
        self._inventory = inventory
        self._leases = leases
        self._gates = gates
        self._counters = counters
        self._captures = captures
        self._clock = clock

    async def planned(self, command: Command, begun_ms: int) -> PlannedStop | Finished:
        """Take step (6): record the pods that will be stopped, or say why none will be."""
        snapshot = await self._inventory.wait_snapshot()
        pods = await self._with_images(command, snapshot)
        found = plan(command, pods)
        if isinstance(found, Refused):
            note = f"expected {found.needed}, got {found.have}"
            return finished(
                command, self._clock, begun_ms, "refused", code=str(found.reason), note=note
            )
        planned = Planned(
            id=command.id,
            mode=str(command.mode),
            pods=await self._planned_pods(command, found, snapshot),
        )
        try:
            await self._journal.record(planned)
        except StateUnwritable as error:
            if error.stable_code != UNREADABLE:
                raise
            # There are more pods and containers than one entry can hold.
            return finished(
                command,
                self._clock,
                begun_ms,
                "refused",
                code=str(Reason.TOO_MANY_PODS),
                note=error.message,
            )
        return PlannedStop(steps=found.steps, snapshot=snapshot, note=found.note)

    async def resumed(self, command: Command, state: CommandState) -> PlannedStop:
        """Return a step for each planned pod that has no outcome yet, as the pods are now."""
        snapshot = await self._inventory.wait_snapshot()
        now = {pod.uid: pod for pod in snapshot.pods}
        steps: list[Step] = []
        for was in state.unresolved:
            pod = now.get(was.uid)
            # Only planned containers: one that kubelet started since then was not planned.
            ours = tuple(one for one in pod.containers if one.id in was.containers) if pod else ()
            seen = pod or Pod.vanished(
                uid=was.uid, namespace=was.namespace, name=was.name, sandbox_id=was.sandbox
            )
            steps.append(Step(pod=seen, containers=ours, grace_s=command.action.grace_s))
        return PlannedStop(steps=tuple(steps), snapshot=snapshot)

    async def stop(
        self, command: Command, planned_stop: PlannedStop, *, resumed: bool
    ) -> AsyncIterator[int]:
        """Take step (7): hold and stop; yield the index of each pod's entry as it is recorded."""
        hold = await self._leases.begin(command) if command.action.hold_s else None
        ladder = self._ladders.ladder(without_runtime=planned_stop.snapshot.without_runtime)

        async def bring_down(step: Step) -> _Ended:
            with self._gates.claim(step.pod.uid):
                return await self._bring_down(command, step, hold, ladder, planned_stop.snapshot)

        ends = side_by_side(planned_stop.steps, bring_down)
        async with aclosing(ends):
            async for ended in ends:
                yield await self._journal.record(_entry(command, ended, resumed=resumed))

    async def observed(self, command: Command, begun_ms: int, was: Snapshot) -> Finished:
        """Take step (8): look again, and count what is down by the entries and by this look.

        Args:
            command: what was carried out.
            begun_ms: when.
            was: how the pods were seen before it.
        """
        state = self._journal.state.commands[command.id]
        bodies = [self._journal.entry(index).body for _, index in state.pods]
        ended = [body for body in bodies if isinstance(body, PodEnded)]
        down = sum(body.seen in DOWN for body in ended)
        gated = frozenset(body.uid for body in ended if body.gate not in {"", str(Gate.WATCH_ONLY)})
        # A runtime that did not answer before is not asked again: only the kernel is looked at.
        snapshot = (
            self._inventory.look_again(was)
            if was.without_runtime
            else await self._inventory.wait_snapshot()
        )
        if snapshot.without_runtime and not was.without_runtime:
            return finished(
                command,
                self._clock,
                begun_ms,
                "incomplete",
                code=snapshot.code,
                note=snapshot.error,
                pods=len(ended),
                down=down,
                held=len(gated),
            )
        observed = observe(state.planned, snapshot.pods, gated=gated)
        restarted = sum(one.seen == "restarted" for one in observed)
        still = sum(one.seen == "running" for one in observed)
        loose = restarted if command.action.hold_s else 0
        whole = down == len(state.planned) and not still and not loose
        return finished(
            command,
            self._clock,
            begun_ms,
            "done" if whole else "incomplete",
            code="" if whole else "not-down",
            note=_note(command, restarted=restarted, snapshot=snapshot),
            pods=len(state.planned),
            down=down if whole else min(down, len(state.planned) - still),
            held=len(gated),
            restarted=restarted,
            observed=observed,
        )

    async def _planned_pods(
        self, command: Command, found: Plan, snapshot: Snapshot
    ) -> tuple[PlannedPod, ...]:
        pods = []
        for step in found.steps:
            gate = ""
            # A dry run reports the limits here; an execution reports them when the gate is set.
            if command.action.hold_s and command.mode is Mode.DRY_RUN:
                gate = await self._gates.describe(step.pod, ask=not snapshot.without_runtime)
            pods.append(
                PlannedPod(
                    uid=step.pod.uid,
                    namespace=step.pod.namespace,
                    name=step.pod.name,
                    sandbox=step.pod.sandbox_id,
                    containers=tuple(one.id for one in step.containers),
                    gate=gate,
                )
            )
        return tuple(pods)

    async def _with_images(self, command: Command, snapshot: Snapshot) -> tuple[Pod, ...]:
        """Return the pods with their images' digests, if the command selects by image."""
        if not command.action.image or snapshot.without_runtime:
            return snapshot.pods
        return tuple(
            [
                await self._with_image(pod) if pod.namespace == command.action.namespace else pod
                for pod in snapshot.pods
            ]
        )

    async def _with_image(self, pod: Pod) -> Pod:
        """Return a pod whose containers have the digests that the runtime reports of them."""
        containers = []
        for one in pod.containers:
            try:
                look = await self._runtime.container(one.id) if one.live else None
            except (RuntimeUnavailable, RuntimeTooOld):
                look = None
            reported = look.image_ref if look else ""
            containers.append(replace(one, image=reported or one.image))
        return replace(pod, containers=tuple(containers))

    async def _bring_down(
        self,
        command: Command,
        step: Step,
        hold: Hold | None,
        ladder: Ladder,
        snapshot: Snapshot,
    ) -> _Ended:
        """Take one pod through its gate, the capture, the ladder, late limits and its sandbox."""
        pod, without_runtime = step.pod, snapshot.without_runtime
        pids, group = self._processes(pod)
        # A capture changes nothing, so it runs while the gate is set.
        capturing = asyncio.create_task(
            self._captures.capture(pod, command_id=command.id, pids=pids, group=group)
        )
        try:
            gate_status = (
                await self._gates.gate(pod, hold, ask=not without_runtime) if hold else None
            )
        finally:
            captured = await capturing
        outcome = await ladder.climb(step)
        if hold is not None:
            self._counters.know(pod.uid, [one.id for one in pod.containers])
            self._counters.know(pod.uid, [one.id for one in outcome.containers])
            if gate_status is not None and pod.uid in self._journal.state.gates:
                gate_status = await self._gates.set_late_limits(pod.uid)
        evicts = command.action.verb is Verb.EVICT
        sandbox = await self._end_sandbox(pod, without_runtime=without_runtime) if evicts else ""
        return _Ended(outcome=outcome, gate_status=gate_status, sandbox=sandbox, capture=captured)

    def _processes(self, pod: Pod) -> tuple[tuple[int, ...], Path | None]:
        """Return a pod's processes, and its group in the cgroup2 tree or None."""
        try:
            group = self._groups.pod_group(pod.uid)
            leaves = self._groups.leaves(group) if group else ()
            pids = tuple(pid for leaf in leaves for pid in self._groups.pids(leaf))
        except (GateFailed, OSError):
            return (), None
        return pids, dict(group.trees).get("") if group else None

    async def _end_sandbox(self, pod: Pod, *, without_runtime: bool) -> str:
        """End a pod's sandbox, and return what was seen of it."""
        if without_runtime or not pod.sandbox_id:
            return "not asked: " + (
                "the runtime does not answer" if without_runtime else "no sandbox is known"
            )
        said = ""
        try:
            async with asyncio.timeout(bounds.SANDBOX_TIMEOUT_S + 1):
                await self._runtime.stop_sandbox(
                    pod.sandbox_id, deadline_s=bounds.SANDBOX_TIMEOUT_S
                )
            look = await self._runtime.sandbox(pod.sandbox_id)
        except (RuntimeUnavailable, RuntimeTooOld, TimeoutError) as error:
            said = getattr(error, "message", "no answer")
        else:
            return "down" if look is None or not look.ready else "ready"
        return printable(f"not seen down: {said}")


def _note(command: Command, *, restarted: int, snapshot: Snapshot) -> str:
    if snapshot.without_runtime:
        return f"seen by the kernel alone: {snapshot.error}"
    if not restarted:
        return ""
    if command.action.hold_s:
        return (
            "started again although held: the gate does not hold it, so the watch stops it at sight"
        )
    return "started again since: nothing holds this workload down"


def _entry(command: Command, ended: _Ended, *, resumed: bool) -> PodEnded:
    outcome, gate_status, capture = ended.outcome, ended.gate_status, ended.capture
    return PodEnded(
        id=command.id,
        mode=str(command.mode),
        uid=outcome.uid,
        namespace=outcome.namespace,
        name=outcome.name,
        seen=str(outcome.seen),
        resumed=resumed,
        ms=outcome.ms,
        gate=str(gate_status.gate) if gate_status else "",
        gate_note=printable(gate_status.note) if gate_status else "",
        sandbox=ended.sandbox,
        evidence=capture.sha256 if capture else "",
        evidence_note=printable(capture.note) if capture else "",
        containers=tuple(
            SeenContainer(
                id=one.id,
                name=one.name,
                rung=one.rung,
                seen=str(one.seen),
                kernel=str(one.kernel),
                ms=one.ms,
                error=printable(one.error),
            )
            for one in outcome.containers
        ),
    )
