# SPDX-License-Identifier: Apache-2.0
"""Pods that are being born under a hold: gated before the first line of their code.

A pod's log folder tells its name before its sandbox is asked for.  Where the name is enough, the
gate is set at once; where labels or an image must be known, the runtime is looked at every 2 ms,
and the gate falls between sandbox and container.  After that the gate is looked at for a while,
because kubelet may write a limit of its own later than we did.

What is missed here, or not decided in time, is the tick's.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from breakglass.agent.clock import Clock
from breakglass.agent.hold.leases import Leases
from breakglass.agent.log.journal import Journal
from breakglass.agent.pods.events import PodEvent
from breakglass.agent.pods.inventory import PodInventory
from breakglass.agent.runtime.port import Runtime
from breakglass.core import bounds
from breakglass.core.holds import Covers, GatedPod, Hold, coverage
from breakglass.core.pods import Pod
from breakglass.errors import NodeError, RuntimeTooOld, RuntimeUnavailable

_BREATH = 64


class Mend(Protocol):
    """Sets what does not stand of one gate."""

    def __call__(self, gated: GatedPod, *, prove: bool) -> Awaitable[None]:
        """Return when it stands, or cannot."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Newborn:
    """A pod that is, or may be, covered: looked at closely until `until_ms`."""

    pod: Pod
    until_ms: int
    gated: bool = False


class NewbornPods:
    """The pods that are looked at closely, by one task as long as there are any."""

    def __init__(
        self,
        *,
        holds: Leases,
        journal: Journal,
        runtime: Runtime,
        inventory: PodInventory,
        clock: Clock,
        mend: Mend,
    ) -> None:
        self._holds = holds
        self._journal = journal
        self._runtime = runtime
        self._inventory = inventory
        self._clock = clock
        self._mend = mend
        self._pods: dict[str, _Newborn] = {}
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("nursery")

    async def receive(self, born: Iterable[PodEvent], tasks: asyncio.TaskGroup) -> None:
        """Gate newborn pods whose names are covered; look closely at those that may be."""
        for place, birth in enumerate(born):
            if place % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)  # a folder full of inventions keeps nobody else waiting
            if len(self._pods) >= bounds.MAX_NEWBORN_PODS and birth.uid not in self._pods:
                continue  # the tick's
            pod = self._inventory.expected(birth) or Pod(
                uid=birth.uid, name="", namespace="", sandbox_id="", by_name=True
            )
            known = self._pods.get(birth.uid)
            # The group comes first and says only the UID; the folder of logs then says the name.
            named = known is not None and not known.pod.name and bool(pod.name)
            if (known is not None and not named) or birth.uid in self._holds.busy:
                continue
            covers, holds = coverage(self._holds.active, pod)
            # A control group without a name may become anybody's: what it is shows soon.
            if not pod.name:
                covers = Covers.MAYBE
            if covers is Covers.NO:
                self._pods.pop(birth.uid, None)
                continue
            newborn = _Newborn(pod=pod, until_ms=self._in(bounds.BIRTH_LOOKS_S))
            self._pods[birth.uid] = newborn
            if covers is Covers.YES:
                await self._gate(newborn, holds[0])
        if self._pods and (self._task is None or self._task.done()):
            self._task = tasks.create_task(self._nurse())

    async def _nurse(self) -> None:
        """Look at newborn pods every few milliseconds, until each is decided and gated for good."""
        while self._pods:
            undecided = [one for one in self._pods.values() if not one.gated]
            if undecided:
                await self._decide(undecided)
            for newborn in list(self._pods.values()):
                gated = self._journal.state.gates.get(newborn.pod.uid)
                if newborn.gated and gated is not None:
                    await self._check(gated)
                if self._clock.monotonic_ms() >= newborn.until_ms:
                    self._pods.pop(newborn.pod.uid, None)  # from here on the tick's
            await self._clock.sleep(bounds.BIRTH_LOOK_INTERVAL_S)

    async def _check(self, gated: GatedPod) -> None:
        try:
            await self._mend(gated, prove=False)
        except NodeError as error:
            self._log.error("not checked", pod=gated.name, code=error.stable_code)
            self._pods.pop(gated.uid, None)  # the tick tries again

    async def _decide(self, undecided: list[_Newborn]) -> None:
        """Look at the runtime, and gate the newborn pods that turn out to be covered."""
        try:
            now = {pod.uid: pod for pod in await self._runtime.pods()}
        except (RuntimeUnavailable, RuntimeTooOld):
            now = {}
        for newborn in undecided:
            pod = now.get(newborn.pod.uid, newborn.pod)
            covers, holds = coverage(self._holds.active, pod)
            if covers is Covers.YES:
                await self._gate(replace(newborn, pod=pod), holds[0])
            elif covers is Covers.NO and not pod.by_name:
                self._pods.pop(newborn.pod.uid, None)

    async def _gate(self, newborn: _Newborn, hold: Hold) -> None:
        pod = newborn.pod
        try:
            gate_status = await self._holds.gates.gate(pod, hold, ask=False)
        except NodeError as error:
            self._log.error("not gated", pod=pod.name, code=error.stable_code)
            return
        if pod.uid not in self._journal.state.gates:
            return  # no group yet: the next look
        until_ms = self._in(bounds.BIRTH_CHECK_S)
        self._pods[pod.uid] = _Newborn(pod=pod, until_ms=until_ms, gated=True)
        self._log.info("gated at birth", pod=pod.name, gate=str(gate_status.gate))

    def _in(self, seconds: float) -> int:
        return self._clock.monotonic_ms() + round(seconds * 1_000)
