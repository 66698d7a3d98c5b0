# SPDX-License-Identifier: Apache-2.0
"""The watch under every hold: newborn pods are gated, and what runs all the same is stopped.

Pods are found in two ways; the second finds what the first has missed:

- Pod events, which `newborn` receives: a gate from a pod's first moment.
- The tick.  Every second all pods are looked at, by the runtime or without it: what is covered and
  not gated is gated, changed limits are set again, running containers are stopped, failed starts
  are counted, and leases end.

Without a hold the listing is refreshed now and then, and nothing else happens.  The watch touches
only what an active hold covers; pods that a command is bringing down are left to it.
"""

import asyncio
import contextlib
from collections.abc import Iterator

import structlog

from breakglass.agent.clock import Clock
from breakglass.agent.hold.counters import HoldCounters
from breakglass.agent.hold.coverage import Coverage
from breakglass.agent.hold.gates import PodGates
from breakglass.agent.hold.leases import EXPIRED, Leases
from breakglass.agent.hold.newborn import NewbornPods
from breakglass.agent.kernel.port import PodGroups
from breakglass.agent.log.journal import Journal
from breakglass.agent.pods.events import PodEvent, PodEvents
from breakglass.agent.pods.inventory import PodInventory, Snapshot
from breakglass.agent.stop.ladder import Ladders
from breakglass.core import bounds
from breakglass.core.gates import Gate, Oci
from breakglass.core.holds import Covers, Hold
from breakglass.core.plan import Step
from breakglass.core.pods import Container, Pod
from breakglass.errors import GateFailed, NodeError, StateUnwritable


class Watch:
    """Keeps the active holds, from before the agent is ready until it ends."""

    def __init__(
        self,
        *,
        leases: Leases,
        coverage: Coverage,
        gates: PodGates,
        newborn: NewbornPods,
        counters: HoldCounters,
        journal: Journal,
        inventory: PodInventory,
        groups: PodGroups,
        pod_events: PodEvents,
        ladders: Ladders,
        clock: Clock,
    ) -> None:
        self._leases = leases
        self._coverage = coverage
        self._gates = gates
        self._newborn = newborn
        self._counters = counters
        self._journal = journal
        self._inventory = inventory
        self._groups = groups
        self._pod_events = pod_events
        self._ladders = ladders
        self._clock = clock
        self._stopping: set[str] = set()
        self._ticks = 0
        self._log = structlog.get_logger("watch")

    async def restore(self) -> None:
        """Set again everything that active holds need, before the agent calls itself ready."""
        self._pod_events.open()
        # Without a hold it only lists the pods, for a runtime that gets stuck later.
        await self._try_tick(None)

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._receive_events(tasks))
                await self._loop(tasks)
        finally:
            self._pod_events.close()

    async def _receive_events(self, tasks: asyncio.TaskGroup) -> None:
        """Receive pod events as they come: a tick may wait for a slow runtime, they cannot."""
        while True:
            events = await self._pod_events.wait(self._interval_s())
            if self._coverage.active:
                await self._newborn.receive(events, tasks)

    async def _loop(self, tasks: asyncio.TaskGroup) -> None:
        if self._coverage.active:
            # `restore` has no task group to stop in: what runs although held is stopped now.
            await self._act(tasks)
        while True:
            await self._rest(self._interval_s())
            if self._leases.take_change():
                await self._act(tasks)
            else:
                await self._try_tick(tasks)

    async def _act(self, tasks: asyncio.TaskGroup) -> None:
        """Look at everything after holds have changed, newborn pods first."""
        await self._newborn.receive(self._not_listed_yet(), tasks)
        await self._try_tick(tasks)

    def _interval_s(self) -> float:
        held = bool(self._coverage.active or self._coverage.gated)
        return bounds.HOLD_TICK_S if held else bounds.IDLE_TICK_S

    async def _try_tick(self, tasks: asyncio.TaskGroup | None) -> None:
        try:
            await self.tick(tasks)
        except NodeError as error:
            # A log that cannot be written: the daemon decides whether that is the end.
            self._log.error("tick", code=error.stable_code, error=error.message)

    def _not_listed_yet(self) -> tuple[PodEvent, ...]:
        """Return the newborn pods: they have a log folder and a group, and are not listed yet."""
        if not self._coverage.active:
            return ()
        return tuple(
            event
            for event in self._pod_events.present()
            if self._inventory.last_seen(event.uid) is None
            and self._groups.pod_group(event.uid) is not None
        )

    async def _rest(self, seconds: float) -> None:
        """Wait until the time is up, or holds have changed."""
        async with asyncio.TaskGroup() as group:
            timer = group.create_task(self._clock.sleep(seconds))
            change = group.create_task(self._leases.wait_change())
            await asyncio.wait({timer, change}, return_when=asyncio.FIRST_COMPLETED)
            timer.cancel()
            change.cancel()

    async def tick(self, tasks: asyncio.TaskGroup | None = None) -> None:
        """Look once at everything, and do what the holds need."""
        self._ticks += 1
        await self._expire()
        snapshot = await self._inventory.look()
        if self._coverage.active or self._coverage.gated:
            await self._keep(snapshot, tasks)
            if not snapshot.without_runtime:
                self._counters.keep_only({pod.uid for pod in snapshot.pods})
            await self._repair()
            await self._drop_gone()
            await self._gates.lift_uncovered()
        await self._counters.flush(self._coverage.active)
        self._counters.forget_holds()

    async def _expire(self) -> None:
        for hold in self._coverage.active:
            if not hold.left_ms(self._clock.monotonic_ms()):
                await self._counters.flush((hold,), at_once=True)
                await self._leases.end(hold, EXPIRED)
                self._log.info("hold expired", id=hold.id)

    async def _keep(self, snapshot: Snapshot, tasks: asyncio.TaskGroup | None) -> None:
        """Gate every covered pod, and stop what runs in one."""
        without_runtime = snapshot.without_runtime
        for pod in snapshot.pods:
            covers, holds = self._coverage.of(pod)
            if covers is not Covers.YES or self._gates.is_claimed(pod.uid):
                continue
            with self._each("not gated", pod.name):
                await self._gate(pod, holds[0], ask=not without_runtime)
            running = await self._counters.count(pod, holds[0], without_runtime=without_runtime)
            # A release may have come meanwhile.
            is_held = self._coverage.of(pod)[0] is Covers.YES
            if running and is_held and tasks is not None and pod.uid not in self._stopping:
                self._stopping.add(pod.uid)
                tasks.create_task(self._stop(pod, running, without_runtime=without_runtime))

    async def _gate(self, pod: Pod, hold: Hold, *, ask: bool) -> None:
        """Gate a pod, or learn more of a gated one."""
        gated = self._journal.state.gates.get(pod.uid)
        if gated is None or not self._gates.exists(gated):
            await self._gates.gate(pod, hold, ask=ask)
        elif gated.oci is Oci.UNKNOWN and ask:
            await self._gates.record_oci(gated, pod)

    @contextlib.contextmanager
    def _each(self, what: str, pod: str) -> Iterator[None]:
        """Go on with the other pods, and with what is left for this one, when one thing fails.

        A log that is broken ends the tick: nothing may be touched any more.
        """
        try:
            yield
        except (GateFailed, StateUnwritable) as error:
            self._log.error(what, pod=pod, code=error.stable_code)

    async def _stop(
        self, pod: Pod, containers: tuple[Container, ...], *, without_runtime: bool
    ) -> None:
        """Bring down at once what runs in a held pod."""
        ladder = self._ladders.ladder(without_runtime=without_runtime)
        try:
            self._log.warning("held pod runs: stopping it", pod=pod.name)
            await ladder.climb(Step(pod=pod, containers=containers, grace_s=0))
        finally:
            self._stopping.discard(pod.uid)

    async def _repair(self) -> None:
        prove = self._ticks % bounds.PROVE_EVERY_TICKS == 1
        for gated in self._coverage.gated:
            is_tried = prove or gated.gate != Gate.WATCH_ONLY
            if is_tried and not self._gates.is_claimed(gated.uid):
                with self._each("not repaired", gated.name):
                    await self._gates.look_up_late_limits(gated)
                    now = self._journal.state.gates.get(gated.uid, gated)
                    resets = await self._gates.repair(now, prove=prove)
                    self._counters.count_resets(now, resets)

    async def _drop_gone(self) -> None:
        """Record that gated groups are gone: with a deleted pod, or with the boot before."""
        for gated in self._coverage.gated:
            if not self._gates.is_claimed(gated.uid) and not self._gates.exists(gated):
                with self._each("not dropped", gated.name):
                    await self._gates.lift(gated)
