# SPDX-License-Identifier: Apache-2.0
"""Bring pods down and report what looks showed of them, never what calls answered.

The containers of a pod climb side by side (see `container`), and so do the pods of a command.  A
container that starts while its pod is being stopped is stopped too, for a few rounds: one that was
created in the same instant must not survive.  Without the runtime the kernel shows new containers.

A climb ends with a `PodOutcome`, never with the runtime's error.  The outcome says "down" or "gone"
only when the runtime shows nothing of the pod live and the kernel, where it knows the group, shows
no process.  When the runtime gives no answer the kernel alone decides, and must know the group.
Sandboxes stay, and nothing is ever removed: that would reset kubelet's back-off.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from breakglass.agent.clock import Clock
from breakglass.agent.kernel.port import Killer, Leaf, PodGroups
from breakglass.agent.runtime.port import Runtime
from breakglass.agent.stop.container import ContainerOutcome, ContainerStopper, KernelSeen
from breakglass.agent.stop.looks import Look, Looks, Seen
from breakglass.core import bounds
from breakglass.core.plan import Step
from breakglass.core.pods import Container, ContainerState, Pod
from breakglass.errors import GateFailed

T = TypeVar("T")

__all__ = [
    "ContainerOutcome",
    "KernelSeen",
    "Ladder",
    "Ladders",
    "PodOutcome",
    "Seen",
    "side_by_side",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PodOutcome:
    """One pod at the end of its climb; `ms` is the time of the whole climb."""

    uid: str
    name: str
    namespace: str
    containers: tuple[ContainerOutcome, ...]
    seen: Seen
    ms: int


async def side_by_side(
    steps: Sequence[Step], act: Callable[[Step], Awaitable[T]]
) -> AsyncGenerator[T, None]:
    """Act on all steps at once; yield each result as soon as there is one.

    A caller that stops iterating early must close the generator (`contextlib.aclosing`), which
    cancels the acts in progress.
    """
    ended: asyncio.Queue[T | Exception] = asyncio.Queue()

    async def act_to_its_end(step: Step) -> None:
        # An error raised in the task would cancel the iterating caller at any place in its code.
        try:
            ended.put_nowait(await act(step))
        except Exception as error:  # noqa: BLE001 - raised again below
            ended.put_nowait(error)

    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(act_to_its_end(step)) for step in steps]
        try:
            for _ in steps:
                outcome = await ended.get()
                if isinstance(outcome, Exception):
                    failure = outcome
                    break
                yield outcome
        except GeneratorExit:
            return  # the generator was closed; the TaskGroup would raise another error for it
        finally:
            for task in tasks:
                task.cancel()
    if failure is not None:
        raise failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladders:
    """The ports through which pods are brought down; makes one ladder for each command."""

    runtime: Runtime
    groups: PodGroups
    killer: Killer
    clock: Clock

    def ladder(self, *, without_runtime: bool = False) -> "Ladder":
        """Return a ladder whose climbs share their looks.

        Args:
            without_runtime: whether the runtime is known not to answer; then only the kernel is
                asked.
        """
        return Ladder(self, without_runtime=without_runtime)


class Ladder:
    """The climbs of one command, which share their looks."""

    def __init__(self, ports: Ladders, *, without_runtime: bool) -> None:
        self._clock = ports.clock
        self._groups = ports.groups
        self._without_runtime = without_runtime
        self._looks = Looks(ports.runtime, ports.clock)
        self._stopper = ContainerStopper(
            runtime=ports.runtime,
            groups=ports.groups,
            killer=ports.killer,
            clock=ports.clock,
            looks=self._looks,
        )

    async def climb(self, step: Step) -> PodOutcome:
        """Bring one pod down; return what looks showed of it."""
        begun_ms = self._clock.monotonic_ms()
        known = {one.id for one in (*step.pod.containers, *step.containers)}
        outcomes: tuple[ContainerOutcome, ...] = ()
        pending, look = step.containers, None
        for _ in range(bounds.MAX_CLIMB_ROUNDS):
            ended, look = await self._all_down(step, pending)
            outcomes += ended
            if look is None:
                pending = self._new_by_kernel(step.pod, known)
            else:
                pending = _new_containers(look, step.pod, known)
            # A pod that was down before its climb began is not stopped, only looked at.
            if not pending or not step.containers:
                break
            known |= {one.id for one in pending}
        return PodOutcome(
            uid=step.pod.uid,
            name=step.pod.name,
            namespace=step.pod.namespace,
            containers=outcomes,
            seen=self._seen(step.pod, outcomes, look, pending),
            ms=self._clock.monotonic_ms() - begun_ms,
        )

    def _seen(
        self,
        pod: Pod,
        outcomes: tuple[ContainerOutcome, ...],
        look: Look | None,
        pending: tuple[Container, ...],
    ) -> Seen:
        """Return what was seen of the pod; `pending` are its running, unstopped containers."""
        seen = _worst(outcomes)
        if seen is not None:
            return seen
        if look is not None:
            now = look.of(pod)
            if now is None:
                return Seen.GONE
            return Seen.RESTARTED if now.live else Seen.DOWN
        if pending:
            return Seen.RESTARTED
        by_kernel = all(one.kernel is KernelSeen.GONE for one in outcomes)
        return Seen.DOWN if by_kernel and (outcomes or self._without_runtime) else Seen.UNKNOWN

    async def _all_down(
        self, step: Step, containers: tuple[Container, ...]
    ) -> tuple[tuple[ContainerOutcome, ...], Look | None]:
        """Bring containers down; return their outcomes and a look that began after all of them."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    self._stopper.bring_down(
                        step.pod, one, grace_s=step.grace_s, without_runtime=self._without_runtime
                    )
                )
                for one in containers
            ]
        ended = [task.result() for task in tasks]
        outcomes = tuple(outcome for outcome, _ in ended)
        looks = [look for _, look in ended if look is not None]
        # Do not wait again for a runtime that gave a container's climb no look.
        if self._without_runtime or any(one.rung and look is None for one, look in ended):
            return outcomes, None
        if looks and len(looks) == len(ended):
            return outcomes, max(looks, key=lambda look: look.number)
        return outcomes, await self._looks.wait_fresh()

    def _new_by_kernel(self, pod: Pod, known: set[str]) -> tuple[Container, ...]:
        """Return a pod's containers that have processes and are not in `known`."""
        try:
            group = self._groups.pod_group(pod.uid)
        except GateFailed:
            return ()
        return tuple(
            Container(id=leaf.container_id, name="unknown", state=ContainerState.UNKNOWN)
            for leaf in (self._groups.leaves(group) if group else ())
            if leaf.container_id not in {*known, pod.sandbox_id} and self._is_populated(leaf)
        )

    def _is_populated(self, leaf: Leaf) -> bool:
        """Return whether a group has processes; True when it cannot be read."""
        try:
            return bool(self._groups.pids(leaf))
        except OSError:
            return True


def _new_containers(look: Look | None, pod: Pod, known: set[str]) -> tuple[Container, ...]:
    """Return a pod's live containers that are not in `known`."""
    now = look.of(pod) if look is not None else None
    return tuple(one for one in (now.containers if now else ()) if one.live and one.id not in known)


def _worst(outcomes: tuple[ContainerOutcome, ...]) -> Seen | None:
    """Return the worst that was seen of a pod's containers; None when all have ended."""
    seen = {one.seen for one in outcomes}
    if any(one.kernel is KernelSeen.ALIVE for one in outcomes):
        return Seen.RUNNING
    return next((one for one in (Seen.RUNNING, Seen.UNKNOWN, Seen.CREATED) if one in seen), None)
