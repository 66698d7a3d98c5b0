# SPDX-License-Identifier: Apache-2.0
"""The watch under every hold: new pods are gated at birth, and what runs all the same is stopped.

Two nets, the lower one always there:

- Births, which `nursery` receives: a gate from a pod's first moment.
- The tick.  Every second all pods are looked at, by the runtime or around it: what is covered and
  not gated is gated, what somebody changed is set again, what runs is stopped at sight, starts that
  failed are counted, and leases end.  A birth that was missed ends here.

Without a hold the listing is refreshed now and then, and nothing else happens.  The watch touches
only what an active hold covers; pods that a command is bringing down are left to it.
"""

import asyncio
import contextlib
from collections.abc import Iterator

import structlog

from breakglass.agent.clock import Clock
from breakglass.agent.hold.counters import HoldCounters
from breakglass.agent.hold.leases import EXPIRED, Leases
from breakglass.agent.hold.newborn import NewbornPods
from breakglass.agent.kernel.port import Kernel
from breakglass.agent.log.journal import Journal
from breakglass.agent.pods.events import PodEvent, PodEvents
from breakglass.agent.pods.inventory import PodInventory, Snapshot
from breakglass.agent.runtime.port import Runtime
from breakglass.agent.stop.ladder import Ladder
from breakglass.core import bounds
from breakglass.core.gates import Gate, Oci
from breakglass.core.holds import Covers, GatedPod, Hold, coverage, coverage_of_name
from breakglass.core.plan import Step
from breakglass.core.pods import Container, Pod
from breakglass.errors import GateFailed, NodeError, StateUnwritable


class Watch:
    """Keeps the active holds, from before the agent is ready until it ends."""

    def __init__(
        self,
        *,
        holds: Leases,
        journal: Journal,
        runtime: Runtime,
        kernel: Kernel,
        inventory: PodInventory,
        pod_events: PodEvents,
        clock: Clock,
    ) -> None:
        self._holds = holds
        self._journal = journal
        self._runtime = runtime
        self._kernel = kernel
        self._inventory = inventory
        self._pod_events = pod_events
        self._clock = clock
        self._newborn = NewbornPods(
            holds=holds,
            journal=journal,
            runtime=runtime,
            inventory=inventory,
            clock=clock,
            mend=self._mend_one,
        )
        self._stopping: set[str] = set()
        self._ticks = 0
        self._log = structlog.get_logger("watch")
        self.counters = HoldCounters(journal, runtime, clock)

    async def restore(self) -> None:
        """Set again everything that active holds need, before the agent calls itself ready."""
        self._pod_events.open()
        await self._try_tick(
            None
        )  # without a hold it only notes the pods, for a runtime that gets stuck
        if self._holds.active:
            self._holds.bell.set()  # what runs although held is stopped with the first turn

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._hear(tasks))
                await self._loop(tasks)
        finally:
            self._pod_events.close()

    async def _hear(self, tasks: asyncio.TaskGroup) -> None:
        """Receive births as they come: a tick may wait for a runtime that is slow, they cannot."""
        while True:
            born = await self._pod_events.wait(self._interval_s())
            if self._holds.active:
                await self._newborn.receive(born, tasks)

    async def _loop(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            await self._rest(self._interval_s())
            if self._holds.bell.is_set():
                self._holds.bell.clear()
                await self._newborn.receive(self._expected(), tasks)
            await self._try_tick(tasks)

    def _interval_s(self) -> float:
        held = bool(self._holds.active or self._holds.gated)
        return bounds.HOLD_TICK_S if held else bounds.IDLE_TICK_S

    async def _try_tick(self, tasks: asyncio.TaskGroup | None) -> None:
        try:
            await self.tick(tasks)
        except NodeError as error:
            # A log that cannot be written: the daemon decides whether that is the end.
            self._log.error("tick", code=error.stable_code, error=error.message)

    def _expected(self) -> tuple[PodEvent, ...]:
        """Return the pods that are just being born: a name and a group, and not listed yet."""
        if not self._holds.active:
            return ()
        return tuple(
            birth
            for birth in self._pod_events.present()
            if self._inventory.last(birth.uid) is None
            and self._kernel.pod_group(birth.uid) is not None
        )

    async def _rest(self, seconds: float) -> None:
        """Wait until the time is up, or holds have changed."""
        async with asyncio.TaskGroup() as group:
            timer = group.create_task(self._clock.sleep(seconds))
            bell = group.create_task(self._holds.bell.wait())
            await asyncio.wait({timer, bell}, return_when=asyncio.FIRST_COMPLETED)
            timer.cancel()
            bell.cancel()

    async def tick(self, tasks: asyncio.TaskGroup | None = None) -> None:
        """Look once at everything, and do what the holds need."""
        self._ticks += 1
        await self._expire()
        snapshot = await self._inventory.look()
        if self._holds.active or self._holds.gated:
            await self._keep(snapshot, tasks)
            if not snapshot.without_runtime:
                self.counters.keep_only({pod.uid for pod in snapshot.pods})
            await self._mend()
            await self._drop_gone()
            await self._holds.lift_uncovered()
        await self.counters.flush(self._holds.active)

    async def _expire(self) -> None:
        for hold in self._holds.active:
            if not hold.left_ms(self._clock.monotonic_ms()):
                await self.counters.flush((hold,), at_once=True)
                await self._holds.end(hold, EXPIRED)
                self._log.info("hold expired", id=hold.id)

    async def _keep(self, snapshot: Snapshot, tasks: asyncio.TaskGroup | None) -> None:
        """Gate every covered pod, and stop at sight what runs in one."""
        for pod in snapshot.pods:
            covers, holds = coverage(self._holds.active, pod)
            if covers is not Covers.YES or pod.uid in self._holds.busy:
                continue
            with self._each("not gated", pod.name):
                await self._gate(pod, holds[0], ask=not snapshot.without_runtime)
            running = await self.counters.count(
                pod, holds[0], without_runtime=snapshot.without_runtime
            )
            # A release may have come meanwhile.
            is_held = coverage(self._holds.active, pod)[0] is Covers.YES
            if running and is_held and tasks is not None and pod.uid not in self._stopping:
                self._stopping.add(pod.uid)
                tasks.create_task(
                    self._stop(pod, running, without_runtime=snapshot.without_runtime)
                )

    async def _gate(self, pod: Pod, hold: Hold, *, ask: bool) -> None:
        """Gate a pod, or learn more of a gated one."""
        gated = self._journal.state.gates.get(pod.uid)
        if gated is None or not self._holds.gates.exists(gated):
            await self._holds.gates.gate(pod, hold, ask=ask)
        elif gated.oci is Oci.UNKNOWN and ask:
            await self._holds.gates.learn(gated, pod)

    @contextlib.contextmanager
    def _each(self, what: str, pod: str) -> Iterator[None]:
        """Go on with the other pods, and with what is left for this one, when one thing fails.

        A log that is broken is not gone on with: nothing may be touched any more.
        """
        try:
            yield
        except (GateFailed, StateUnwritable) as error:
            self._log.error(what, pod=pod, code=error.stable_code)

    async def _stop(
        self, pod: Pod, containers: tuple[Container, ...], *, without_runtime: bool
    ) -> None:
        """Bring down at once what runs in a held pod."""
        ladder = Ladder(self._runtime, self._kernel, self._clock, without_runtime=without_runtime)
        try:
            self._log.warning("runs although held: stopped", pod=pod.name)
            await ladder.climb(Step(pod=pod, containers=containers, grace_s=0))
        finally:
            self._stopping.discard(pod.uid)

    async def _mend(self) -> None:
        prove = self._ticks % bounds.PROVE_EVERY_TICKS == 1
        for gated in self._holds.gated:
            is_tried = prove or gated.gate != Gate.WATCH_ONLY
            if gated.uid not in self._holds.busy and is_tried:
                with self._each("not mended", gated.name):
                    await self._holds.gates.complete(gated)
                    now = self._journal.state.gates.get(gated.uid, gated)
                    await self._mend_one(now, prove=prove)

    async def _mend_one(self, gated: GatedPod, *, prove: bool) -> None:
        resets = await self._holds.gates.mend(gated, prove=prove)
        if resets:
            # The hold for which it was gated may be over, and another one keep it.
            _, holds = coverage_of_name(self._holds.active, gated.namespace, gated.name)
            ids = [hold.id for hold in holds]
            first = gated.hold if gated.hold in ids or not ids else ids[0]
            self.counters.reset(first, resets)

    async def _drop_gone(self) -> None:
        """Record that gated groups are gone: with a deleted pod, or with the boot before."""
        for gated in self._holds.gated:
            if gated.uid not in self._holds.busy and not self._holds.gates.exists(gated):
                with self._each("not dropped", gated.name):
                    await self._holds.gates.lift(gated)
