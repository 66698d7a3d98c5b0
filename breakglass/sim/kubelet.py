# SPDX-License-Identifier: Apache-2.0
"""A simulated kubelet that restarts what was stopped, with the timing measured on a real one.

- It lists pods every second.  It restarts an exited container in the same sandbox with attempt + 1:
  at once the first time, then 10, 20, 40 ... 300 s after the newest exited one of that name ended.
  A container that ran for ten minutes resets this back-off.
- It replaces a sandbox that is not ready by one with attempt + 1, without a back-off, after killing
  the containers left in it; the new containers still wait for their back-off.
- It forgets the back-off if exited containers or sandboxes are removed, as the real one does.
- Before a pod's first sandbox it makes the control group, writes podPidsLimit, waits for volumes
  and makes the pod log folder, in this order.  If a sandbox cannot be made, it tries again every 12
  to 15 s, for ever.
- It stops a deleted pod first; its successor's group exists 0.3 to 1 s before its own is removed.

It needs no API server and has no probes and no images.  It calls a `SimNode` in virtual time, or a
runtime behind a socket.  A restarted kubelet is a new `Kubelet` with the same pods.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, TypeVar, cast

from google.protobuf.message import Message

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.core.pod_names import PodEvent
from breakglass.sim.clock import SimClock
from breakglass.sim.faults import CriError
from breakglass.sim.kernel import SimKernel
from breakglass.sim.pod_events import SimPodEvents
from breakglass.sim.records import copied
from breakglass.sim.workloads import PodSpec

CriCall: TypeAlias = Callable[[str, Message], Awaitable[Message]]

RELIST_S = 1.0
FIRST_BACKOFF_S = 10
MAX_BACKOFF_S = 300
FORGET_AFTER_S = 600
SANDBOX_RETRY_S = (12.0, 15.0)
OVERLAP_S = (0.3, 1.0)
POD_LOGS = "/sim/log/pods"

_NS = 1_000_000_000
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Backoff:
    """How long the next restart of a container waits, and when that was set."""

    wait_s: int
    updated_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    """The sandboxes and containers of one relist."""

    sandboxes: tuple[pb.PodSandbox, ...]
    containers: tuple[pb.Container, ...]

    def newest_sandbox(self, uid: str) -> pb.PodSandbox | None:
        ours = [one for one in self.sandboxes if one.metadata.uid == uid]
        return max(ours, key=lambda one: (one.metadata.attempt, one.created_at), default=None)

    def of_pod(self, uid: str) -> tuple[pb.Container, ...]:
        sandboxes = {one.id for one in self.sandboxes if one.metadata.uid == uid}
        return tuple(one for one in self.containers if one.pod_sandbox_id in sandboxes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a kubelet does besides its calls to the runtime.

    Attributes:
        kernel: where it makes the pods' control groups; None to make none.
        pod_events: what it reports new groups and pod log folders to; None to report none.
        volume_s: how long it waits between a pod's group and its pod log folder.
        tasks: podPidsLimit; 0 for none.
        tasks_after_s: how long after making a group it writes podPidsLimit.
    """

    kernel: SimKernel | None = None
    pod_events: SimPodEvents | None = None
    volume_s: float = 0.0
    tasks: int = 0
    tasks_after_s: float = 0.0


class Kubelet:
    """Keeps pods running: it restarts containers and sandboxes that end or are stopped.

    Args:
        call: makes one CRI call.
        clock: its clock; with a runtime behind a socket, the same as the runtime's.
        pods: the pods to run.
        machine: what it does besides its CRI calls.
        seed: of its jitter.
    """

    def __init__(
        self,
        call: CriCall,
        clock: SimClock,
        pods: Iterable[PodSpec],
        machine: Machine | None = None,
        seed: int = 0,
    ) -> None:
        self._call = call
        self._clock = clock
        self._pods = {one.uid: one for one in pods}
        self._machine = machine or Machine()
        self._random = random.Random(seed)  # noqa: S311 - jitter of a simulated kubelet
        self._backoffs: dict[tuple[str, str], _Backoff] = {}
        self._sandbox_not_before_ns: dict[str, int] = {}
        self._busy: set[str] = set()

    @property
    def pods(self) -> tuple[PodSpec, ...]:
        """The pods that it keeps running now."""
        return tuple(self._pods.values())

    async def run(self) -> None:
        """List pods every second and repair each in a task of its own, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._begin(group)
                await self._clock.sleep(RELIST_S)

    async def sync(self) -> None:
        """List pods once and repair those that need it; an error is left to the next call."""
        async with asyncio.TaskGroup() as group:
            await self._begin(group)

    async def replace(self, uid: str, pod: PodSpec) -> None:
        """Delete a pod and run another one in its place, as its controller does."""
        old = self._pods.pop(uid)
        listing = await self._until_done(self._list)
        for one in listing.of_pod(uid):
            if one.state == pb.CONTAINER_RUNNING:
                await self._until_done(partial(self._stop, old, one))
        sandboxes = [one for one in listing.sandboxes if one.metadata.uid == uid]
        for sandbox in sandboxes:
            stop = pb.StopPodSandboxRequest(pod_sandbox_id=sandbox.id)
            await self._until_done(partial(self._call, "StopPodSandbox", stop))
        self._pods[pod.uid] = pod
        async with asyncio.TaskGroup() as group:
            await self._begin(group)
            await self._clock.sleep(self._random.uniform(*OVERLAP_S))
        for sandbox in sandboxes:
            remove = pb.RemovePodSandboxRequest(pod_sandbox_id=sandbox.id)
            await self._until_done(partial(self._call, "RemovePodSandbox", remove))
        if self._machine.kernel is not None:
            self._machine.kernel.remove_group(uid)
        if self._machine.pod_events is not None:
            self._machine.pod_events.gone(uid)

    async def _until_done(self, act: Callable[[], Awaitable[_T]]) -> _T:
        """Repeat an action, every 12 to 15 s, until the runtime carries it out."""
        while True:
            try:
                return await act()
            except CriError:
                await self._clock.sleep(self._random.uniform(*SANDBOX_RETRY_S))

    async def _begin(self, group: asyncio.TaskGroup) -> None:
        """List pods, and start to repair those that no task is repairing."""
        try:
            listing = await self._list()
        except CriError:
            return
        for pod in self.pods:
            if pod.uid not in self._busy:
                self._busy.add(pod.uid)
                group.create_task(self._sync_pod(pod, listing))

    async def _list(self) -> _Listing:
        sandboxes = await self._call("ListPodSandbox", pb.ListPodSandboxRequest())
        containers = await self._call("ListContainers", pb.ListContainersRequest())
        return _Listing(
            sandboxes=tuple(cast("pb.ListPodSandboxResponse", sandboxes).items),
            containers=tuple(cast("pb.ListContainersResponse", containers).containers),
        )

    async def _sync_pod(self, pod: PodSpec, listing: _Listing) -> None:
        try:
            sandbox = listing.newest_sandbox(pod.uid)
            existing = listing.of_pod(pod.uid)
            if sandbox is None or sandbox.state != pb.SANDBOX_READY:
                for one in existing:
                    if one.state == pb.CONTAINER_RUNNING:
                        await self._stop(pod, one)
                if self._clock.now_ns() < self._sandbox_not_before_ns.get(pod.uid, 0):
                    return
                sandbox_id = await self._run_sandbox(pod, sandbox)
            else:
                sandbox_id = sandbox.id
            for config in pod.containers:
                await self._sync_container(pod, config, sandbox_id, existing)
        except CriError:
            return  # the next listing tries again
        finally:
            self._busy.discard(pod.uid)

    async def _sync_container(
        self,
        pod: PodSpec,
        config: pb.ContainerConfig,
        sandbox_id: str,
        existing: tuple[pb.Container, ...],
    ) -> None:
        ours = [one for one in existing if one.metadata.name == config.metadata.name]
        newest = max(ours, key=lambda one: (one.created_at, one.metadata.attempt), default=None)
        if (
            newest is not None
            and newest.state == pb.CONTAINER_RUNNING
            and newest.pod_sandbox_id == sandbox_id
        ):
            return
        if newest is not None and not await self._may_restart(pod, config, newest):
            return
        attempt = newest.metadata.attempt + 1 if newest is not None else 0
        await self._start(pod, config, sandbox_id, attempt)

    async def _may_restart(
        self, pod: PodSpec, config: pb.ContainerConfig, newest: pb.Container
    ) -> bool:
        """Return whether a container's back-off has ended; if so, set the next back-off."""
        if newest.state != pb.CONTAINER_EXITED:
            return True
        reply = await self._call(
            "ContainerStatus", pb.ContainerStatusRequest(container_id=newest.id)
        )
        ended_ns = cast("pb.ContainerStatusResponse", reply).status.finished_at
        key = (pod.uid, config.metadata.name)
        backoff = self._backoffs.get(key)
        if backoff is not None and ended_ns - backoff.updated_ns > FORGET_AFTER_S * _NS:
            backoff = None
        if backoff is not None and self._clock.now_ns() - ended_ns < backoff.wait_s * _NS:
            return False
        wait_s = FIRST_BACKOFF_S if backoff is None else min(backoff.wait_s * 2, MAX_BACKOFF_S)
        self._backoffs[key] = _Backoff(wait_s=wait_s, updated_ns=self._clock.now_ns())
        return True

    async def _run_sandbox(self, pod: PodSpec, old: pb.PodSandbox | None) -> str:
        await self._make_ready(pod)
        config = self._sandbox_config(pod, old.metadata.attempt + 1 if old is not None else 0)
        try:
            reply = await self._call("RunPodSandbox", pb.RunPodSandboxRequest(config=config))
        except CriError:
            wait_s = self._random.uniform(*SANDBOX_RETRY_S)
            self._sandbox_not_before_ns[pod.uid] = self._clock.now_ns() + round(wait_s * _NS)
            raise
        return cast("pb.RunPodSandboxResponse", reply).pod_sandbox_id

    async def _make_ready(self, pod: PodSpec) -> None:
        """Make the pod's group and log folder and report them; a second call does nothing."""
        machine, kernel, pod_events = self._machine, self._machine.kernel, self._machine.pod_events
        if kernel is not None and not kernel.has_group(pod.uid):
            kernel.make_group(pod.uid)
            if pod_events is not None:
                pod_events.grouped(pod.uid)
            if machine.tasks:
                await self._clock.sleep(machine.tasks_after_s)
                kernel.limit_tasks(pod.uid, machine.tasks)
            await self._clock.sleep(machine.volume_s)
        if pod_events is not None:
            of = pod.sandbox.metadata
            pod_events.logged(PodEvent(uid=of.uid, namespace=of.namespace, name=of.name))

    async def _start(
        self, pod: PodSpec, base: pb.ContainerConfig, sandbox_id: str, attempt: int
    ) -> None:
        config = copied(base)
        config.metadata.attempt = attempt
        config.annotations["io.kubernetes.container.restartCount"] = str(attempt)
        config.log_path = f"{config.metadata.name}/{attempt}.log"
        reply = await self._call(
            "CreateContainer",
            pb.CreateContainerRequest(
                pod_sandbox_id=sandbox_id,
                config=config,
                sandbox_config=self._sandbox_config(pod, 0),
            ),
        )
        container_id = cast("pb.CreateContainerResponse", reply).container_id
        await self._call("StartContainer", pb.StartContainerRequest(container_id=container_id))

    async def _stop(self, pod: PodSpec, container: pb.Container) -> None:
        grace = pod.containers[0].annotations.get("io.kubernetes.pod.terminationGracePeriod", "30")
        await self._call(
            "StopContainer",
            pb.StopContainerRequest(container_id=container.id, timeout=int(grace)),
        )

    def _sandbox_config(self, pod: PodSpec, attempt: int) -> pb.PodSandboxConfig:
        config = copied(pod.sandbox)
        of = config.metadata
        of.attempt = attempt
        config.log_directory = f"{POD_LOGS}/{of.namespace}_{of.name}_{of.uid}"
        if self._machine.kernel is not None:
            config.linux.cgroup_parent = self._machine.kernel.cgroup_parent(of.uid)
        return config
