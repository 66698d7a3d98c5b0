# SPDX-License-Identifier: Apache-2.0
"""Bring one container down, rung by rung; every wait has a timeout of this module's own.

 (a) before any stop, find the control group of the container's processes;
 (b) rung 1: StopContainer with the signed grace; wait for the grace and a margin, because
     containerd never kills once its caller has gone;
 (c) rung 2: StopContainer with timeout 0;
 (d) rung 3: kill the processes in the container's own group through the kernel: at once when the
     runtime does not answer; last when its answers have no effect, or when it reports an end and
     processes still run (its shim was killed);
 (e) after each rung, look until the container is down or the time is up, with looks that began
     after the answer;
 (f) at the end, read the group of (a) in the kernel; rung 4 reports exactly what is left.

Neither an OK nor an error proves anything: a runtime answers OK for unknown ids, and a stop that
worked may end in an error.  A runtime that restarts meanwhile is waited for, and asked again with
the rest of the grace.  One that does not answer is bypassed: then the grace is lost and only the
kernel shows the result.  A container in CREATED cannot be stopped and may still start, so it is
looked at until it starts or the time is up.
"""

import asyncio
from dataclasses import dataclass
from enum import StrEnum

from breakglass.agent.clock import Clock
from breakglass.agent.kernel.port import Killer, Leaf, PodGroups
from breakglass.agent.runtime.port import TIMEOUT, Runtime
from breakglass.agent.stop.looks import SEEN_OF_STATE, Look, Looks, Seen
from breakglass.core import bounds
from breakglass.core.pods import Container, Pod
from breakglass.errors import GateFailed, RuntimeTooOld, RuntimeUnavailable

_GRACEFUL, _AT_ONCE, _BY_KERNEL = 1, 2, 3
_SHOWN_PIDS = 8


class KernelSeen(StrEnum):
    """What the kernel shows of a container's processes."""

    GONE = "gone"
    ALIVE = "alive"
    UNSEEN = "unseen"  # the group is unknown or unreadable, so nothing is claimed


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerOutcome:
    """One container at the end of its climb.

    Attributes:
        rung: the highest rung that was tried; 0 when none was needed.
        seen: what the last look at the runtime showed.
        kernel: what the kernel showed after that.
        error: the last errors of runtime and kill, and the processes that are left.
        ms: how long the climb took.
    """

    id: str
    name: str
    rung: int
    seen: Seen
    kernel: KernelSeen
    error: str
    ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Climbed:
    """How a container's climb ended, and the look that showed it; None without a look."""

    rung: int
    seen: Seen
    error: str
    look: Look | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settled:
    """What the looks after a stop showed; `started` when a container in CREATED runs now."""

    seen: Seen
    look: Look | None
    started: bool = False


class ContainerStopper:
    """Brings one command's containers down, with a bounded number of stops at a time."""

    def __init__(
        self, *, runtime: Runtime, groups: PodGroups, killer: Killer, clock: Clock, looks: Looks
    ) -> None:
        self._runtime = runtime
        self._groups = groups
        self._killer = killer
        self._clock = clock
        self._looks = looks
        self._width = asyncio.Semaphore(bounds.MAX_PARALLEL_STOPS)

    async def bring_down(
        self, pod: Pod, container: Container, *, grace_s: int, without_runtime: bool = False
    ) -> tuple[ContainerOutcome, Look | None]:
        """Bring one container down; return its outcome and the look that showed it.

        Args:
            pod: the container's pod.
            container: the container to bring down.
            grace_s: the signed grace.
            without_runtime: whether the runtime is known not to answer; then it is not asked.
        """
        begun_ms = self._clock.monotonic_ms()
        leaf, before = await self._before(pod, container.id, without_runtime=without_runtime)  # (a)
        climbed = Climbed(rung=0, seen=before, error="", look=None)
        if not before.ended and not without_runtime:
            climbed = await self._climb(pod, container.id, grace_s)
        leaf = leaf or self._leaf(pod, container.id)  # a container in CREATED gets its group late
        if not climbed.seen.ended:
            climbed = await self._kill(
                pod, container.id, leaf, climbed, without_runtime=without_runtime
            )  # (d)
        kernel, left = await self._kernel_look(leaf, climbed.seen)
        if kernel is KernelSeen.ALIVE and climbed.rung < _BY_KERNEL and climbed.seen.ended:
            climbed = await self._kill(
                pod, container.id, leaf, climbed, without_runtime=without_runtime
            )  # (d)
            kernel, left = await self._kernel_look(leaf, climbed.seen)  # (f)
        seen = climbed.seen
        if seen is Seen.UNKNOWN and kernel is KernelSeen.GONE:
            seen = Seen.DOWN  # the runtime gave no answer, so the kernel decides
        outcome = ContainerOutcome(
            id=container.id,
            name=container.name,
            rung=climbed.rung,
            seen=seen,
            kernel=kernel,
            error="; ".join(part for part in (climbed.error, left) if part),
            ms=self._clock.monotonic_ms() - begun_ms,
        )
        return outcome, climbed.look

    async def _before(
        self, pod: Pod, container_id: str, *, without_runtime: bool
    ) -> tuple[Leaf | None, Seen]:
        """Return a container's control group, and how the container is before any stop."""
        if without_runtime:
            return self._leaf(pod, container_id), Seen.UNKNOWN
        try:
            now = await self._runtime.container(container_id)
        except (RuntimeUnavailable, RuntimeTooOld):
            return self._leaf(pod, container_id), Seen.UNKNOWN  # the climb asks again, and reports
        pid = now.pid if now is not None else None
        leaf = self._groups.leaf_of(pid, container_id) if pid is not None else None
        seen = SEEN_OF_STATE[now.state] if now is not None else Seen.GONE
        return leaf or self._leaf(pod, container_id), seen

    def _leaf(self, pod: Pod, container_id: str) -> Leaf | None:
        """Return a container's control group by its id, below its pod's group."""
        try:
            group = self._groups.pod_group(pod.uid)
        except GateFailed:
            return None
        leaves = self._groups.leaves(group) if group else ()
        return next((leaf for leaf in leaves if leaf.container_id == container_id), None)

    async def _climb(self, pod: Pod, container_id: str, grace_s: int) -> Climbed:
        rung, error = _GRACEFUL, ""
        settled = _Settled(seen=Seen.UNKNOWN, look=None)
        ends_ms: int | None = None  # when the grace ends; None until it begins
        for rung in (_GRACEFUL, _AT_ONCE):  # (b), (c)
            for _ in range(bounds.MAX_STOP_TRIES):
                async with self._width:
                    now_ms = self._clock.monotonic_ms()
                    if ends_ms is None:
                        ends_ms = now_ms + grace_s * 1_000
                    elif rung == _GRACEFUL and now_ms >= ends_ms:
                        break
                    left_s = -((now_ms - ends_ms) // 1_000)
                    failed, again = await self._stop(
                        container_id, left_s if rung == _GRACEFUL else 0
                    )
                error = failed or error
                settled = await self._settle(pod, container_id)  # (e)
                if settled.started:
                    ends_ms, again = None, True
                if not again or settled.seen.ended or settled.seen is Seen.UNKNOWN:
                    break
            if settled.seen.ended or settled.seen is Seen.UNKNOWN:
                break
        return Climbed(rung=rung, seen=settled.seen, error=error, look=settled.look)

    async def _kill(
        self,
        pod: Pod,
        container_id: str,
        leaf: Leaf | None,
        so_far: Climbed,
        *,
        without_runtime: bool,
    ) -> Climbed:
        """Take rung 3 if the container's control group is known."""
        if leaf is None or so_far.seen is Seen.CREATED:
            return so_far
        failed = ""
        try:
            await asyncio.to_thread(self._killer.kill, leaf)
        except (GateFailed, OSError) as error:
            failed = error.message if isinstance(error, GateFailed) else str(error.strerror)
        errors = "; ".join(part for part in (so_far.error, failed) if part)
        if without_runtime or so_far.seen is Seen.UNKNOWN:
            return Climbed(rung=_BY_KERNEL, seen=Seen.UNKNOWN, error=errors, look=None)
        settled = await self._settle(pod, container_id)
        return Climbed(rung=_BY_KERNEL, seen=settled.seen, error=errors, look=settled.look)

    async def _stop(self, container_id: str, timeout_s: int) -> tuple[str, bool]:
        """Call StopContainer; return its error, "" for none, and whether to call it again."""
        margin_s = bounds.STOP_MARGIN_S if timeout_s else bounds.KILL_TIMEOUT_S
        try:
            await self._runtime.stop_container(
                container_id, timeout_s=timeout_s, deadline_s=timeout_s + margin_s
            )
        except RuntimeUnavailable as error:
            return f"{error.stable_code}: {error.message}", error.stable_code != TIMEOUT
        except RuntimeTooOld as error:
            return f"{error.stable_code}: {error.message}", False
        return "", False

    async def _settle(self, pod: Pod, container_id: str) -> _Settled:
        """Look until the container is down, or has started after CREATED, or the time is up."""
        begun_ms = self._clock.monotonic_ms()
        created, silent = False, 0
        while True:
            look: Look | None = None
            try:
                look = await self._looks.fresh()
            except (RuntimeUnavailable, RuntimeTooOld) as error:
                silent += error.stable_code == TIMEOUT
                is_stuck = silent >= bounds.MAX_SILENT_LOOKS
                seen, within_s = Seen.UNKNOWN, 0 if is_stuck else bounds.RUNTIME_PATIENCE_S
            else:
                seen = look.seen(pod, container_id)
                within_s = bounds.SETTLE_TIMEOUT_S
                if seen is Seen.CREATED:
                    created, within_s = True, bounds.QUIET_TIMEOUT_S
                elif created and not seen.ended:
                    return _Settled(seen=seen, look=look, started=True)
            if seen.ended or self._elapsed_s(begun_ms) >= within_s:
                return _Settled(seen=seen, look=look)
            await self._clock.sleep(bounds.LOOK_INTERVAL_S)

    async def _kernel_look(self, leaf: Leaf | None, seen: Seen) -> tuple[KernelSeen, str]:
        """Return what the kernel shows; give processes that are ending the time to end."""
        if leaf is None:
            return KernelSeen.UNSEEN, ""
        begun_ms = self._clock.monotonic_ms()
        within_s = 0.0 if seen is Seen.RUNNING else bounds.SETTLE_TIMEOUT_S
        while True:
            try:
                pids = self._groups.pids(leaf)
            except OSError as error:
                return KernelSeen.UNSEEN, f"cannot read the control group: {error.strerror}"
            if not pids:
                return KernelSeen.GONE, ""
            if self._elapsed_s(begun_ms) >= within_s:
                shown = " ".join(self._killer.describe(pid) for pid in pids[:_SHOWN_PIDS])
                return KernelSeen.ALIVE, f"{len(pids)} processes left: {shown}"
            await self._clock.sleep(bounds.LOOK_INTERVAL_S)

    def _elapsed_s(self, since_ms: int) -> float:
        return (self._clock.monotonic_ms() - since_ms) / 1_000
