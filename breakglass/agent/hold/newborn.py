# SPDX-License-Identifier: Apache-2.0
"""Newborn pods under a hold: gated before the first line of their code runs.

kubelet makes a pod's log folder, with the pod's name, before it asks for the sandbox.  If the name
is enough, the agent sets the gate at once.  If the hold needs labels or an image, the agent asks
the runtime every 2 ms, and sets the gate after the sandbox and before a container.  Then it checks
the gate for a while, because kubelet may write a limit of its own later than the agent did.

What is missed here, or not decided in time, is left to the watch's tick.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace

import structlog

from breakglass.agent.clock import Clock
from breakglass.agent.hold.counters import HoldCounters
from breakglass.agent.hold.coverage import Coverage
from breakglass.agent.hold.gates import PodGates
from breakglass.agent.log.journal import Journal
from breakglass.agent.pods.events import PodEvent
from breakglass.agent.pods.inventory import PodInventory
from breakglass.agent.runtime.port import Runtime
from breakglass.core import bounds
from breakglass.core.holds import Covers, GatedPod, Hold
from breakglass.core.pods import Pod
from breakglass.errors import NodeError, RuntimeTooOld, RuntimeUnavailable

_EVENTS_PER_TURN = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Newborn:
    """A pod that is, or may be, covered: looked at closely until `until_ms`."""

    pod: Pod
    until_ms: int
    gated: bool = False


class _Table:
    """The newborn pods by UID: each is added once, may become gated, and leaves.

    Events and looks both change it, each in one step; a pod that has left in between stays away.
    """

    def __init__(self) -> None:
        self._pods: dict[str, _Newborn] = {}

    def __len__(self) -> int:
        return len(self._pods)

    def is_new(self, uid: str, *, named: bool) -> bool:
        """Return whether an event is news: of an unknown pod, or the name of a known one.

        The control group comes first and tells only the UID; the log folder then tells the name.
        """
        known = self._pods.get(uid)
        if known is None:
            return len(self._pods) < bounds.MAX_NEWBORN_PODS  # else it is left to the tick
        return named and not known.pod.name

    def put(self, newborn: _Newborn) -> None:
        """Add a pod, or what is known of it now."""
        self._pods[newborn.pod.uid] = newborn

    def drop(self, uid: str) -> None:
        """Leave a pod to the tick, or alone."""
        self._pods.pop(uid, None)

    def drop_due(self, now_ms: int) -> None:
        """Leave to the tick the pods that were looked at for long enough."""
        self._pods = {uid: one for uid, one in self._pods.items() if now_ms < one.until_ms}

    def undecided(self) -> tuple[_Newborn, ...]:
        """Return the pods of which it is not known yet whether they are covered."""
        return tuple(one for one in self._pods.values() if not one.gated)

    def gated(self) -> tuple[str, ...]:
        """Return the UIDs of the pods that are gated and still looked at."""
        return tuple(uid for uid, one in self._pods.items() if one.gated)


class NewbornPods:
    """The pods that are looked at closely, by one task as long as there are any."""

    def __init__(
        self,
        *,
        gates: PodGates,
        coverage: Coverage,
        counters: HoldCounters,
        journal: Journal,
        runtime: Runtime,
        inventory: PodInventory,
        clock: Clock,
    ) -> None:
        self._gates = gates
        self._coverage = coverage
        self._counters = counters
        self._journal = journal
        self._runtime = runtime
        self._inventory = inventory
        self._clock = clock
        self._table = _Table()
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("newborn")

    def __len__(self) -> int:
        """Return how many pods are looked at closely now."""
        return len(self._table)

    async def receive(self, events: Iterable[PodEvent], tasks: asyncio.TaskGroup) -> None:
        """Gate newborn pods whose names are covered; look closely at those that may be."""
        for place, event in enumerate(events):
            if place % _EVENTS_PER_TURN == _EVENTS_PER_TURN - 1:
                await asyncio.sleep(0)  # a folder full of invented names delays no other task
            await self._receive(event)
        if len(self._table) and (self._task is None or self._task.done()):
            self._task = tasks.create_task(self._look())

    async def _receive(self, event: PodEvent) -> None:
        pod = self._inventory.pod_of(event) or Pod.known_by_name(
            uid=event.uid, namespace="", name=""
        )
        named = bool(pod.name)
        if not self._table.is_new(event.uid, named=named) or self._gates.is_claimed(event.uid):
            return
        gated = self._journal.state.gates.get(event.uid)
        if gated is not None and self._gates.exists(gated):
            return  # an event that came again: the tick sets what changed, and counts it
        covers, holds = self._coverage.of(pod)
        # A control group without a name may become any pod's: which one shows soon.
        if not named:
            covers = Covers.MAYBE
        if covers is Covers.NO:
            self._table.drop(event.uid)
            return
        newborn = _Newborn(pod=pod, until_ms=self._in(bounds.NEWBORN_LOOKS_S))
        self._table.put(newborn)
        if covers is Covers.YES:
            await self._gate(newborn, holds[0])

    async def _look(self) -> None:
        """Look at newborn pods every 2 ms, until each is decided and its gate stands."""
        while len(self._table):
            undecided = self._table.undecided()
            if undecided:
                await self._decide(undecided)
            for uid in self._table.gated():
                gated = self._journal.state.gates.get(uid)
                if gated is not None:
                    await self._check(gated)
            self._table.drop_due(self._clock.monotonic_ms())
            await self._clock.sleep(bounds.NEWBORN_LOOK_INTERVAL_S)

    async def _check(self, gated: GatedPod) -> None:
        try:
            resets = await self._gates.repair(gated, prove=False)
        except NodeError as error:
            self._log.error("not checked", pod=gated.name, code=error.stable_code)
            self._table.drop(gated.uid)  # the tick tries again
        else:
            self._counters.count_resets(gated, resets)

    async def _decide(self, undecided: tuple[_Newborn, ...]) -> None:
        """Look at the runtime, and gate the newborn pods that turn out to be covered."""
        try:
            now = {pod.uid: pod for pod in await self._runtime.pods()}
        except (RuntimeUnavailable, RuntimeTooOld):
            now = {}
        for newborn in undecided:
            pod = now.get(newborn.pod.uid, newborn.pod)
            covers, holds = self._coverage.of(pod)
            if covers is Covers.YES:
                await self._gate(replace(newborn, pod=pod), holds[0])
            elif covers is Covers.NO and not pod.by_name:
                self._table.drop(pod.uid)

    async def _gate(self, newborn: _Newborn, hold: Hold) -> None:
        pod = newborn.pod
        try:
            status = await self._gates.gate(pod, hold, ask=False)
        except NodeError as error:
            self._log.error("not gated", pod=pod.name, code=error.stable_code)
            return
        if pod.uid not in self._journal.state.gates:
            return  # no group yet: the next look
        until_ms = self._in(bounds.NEWBORN_CHECK_S)
        self._table.put(_Newborn(pod=pod, until_ms=until_ms, gated=True))
        self._log.info("newborn pod gated", pod=pod.name, gate=str(status.gate))

    def _in(self, seconds: float) -> int:
        return self._clock.monotonic_ms() + round(seconds * 1_000)
