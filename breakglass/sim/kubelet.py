# SPDX-License-Identifier: Apache-2.0
"""A kubelet as far as it restarts things: the adversary of every stop, with measured manners.

- It looks every second.  An exited container comes back in the same sandbox with attempt + 1: the
  first time at once, then 10, 20, 40 ... 300 s after the newest exited one of that name ended; a
  container that had kept going for ten minutes starts that count again.
- A sandbox that is not ready is replaced by one with attempt + 1, without a back-off, after what is
  left in it was killed; its containers still wait for theirs.
- Removing exited containers or sandboxes makes it forget the back-off, as the real one does.

It needs no API server and nothing stops it.  It has no probes, images, volumes or deletions.  It
sits on anything that takes CRI calls: a `SimNode` in virtual time, or a socket.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias, cast

from google.protobuf.message import Message

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.sim.clock import SimClock
from breakglass.sim.faults import CriError
from breakglass.sim.records import copied
from breakglass.sim.workloads import PodSpec

Call: TypeAlias = Callable[[str, Message], Awaitable[Message]]

RELIST_S = 1.0
FIRST_BACKOFF_S = 10
MAX_BACKOFF_S = 300
FORGET_AFTER_S = 600

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Backoff:
    """How long the next restart of a container waits, and since when that is so."""

    wait_s: int
    updated_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    """Both lists of the runtime, as one relist saw them."""

    sandboxes: tuple[pb.PodSandbox, ...]
    containers: tuple[pb.Container, ...]

    def newest_sandbox(self, uid: str) -> pb.PodSandbox | None:
        ours = [one for one in self.sandboxes if one.metadata.uid == uid]
        return max(ours, key=lambda one: (one.metadata.attempt, one.created_at), default=None)

    def of_pod(self, uid: str) -> tuple[pb.Container, ...]:
        sandboxes = {one.id for one in self.sandboxes if one.metadata.uid == uid}
        return tuple(one for one in self.containers if one.pod_sandbox_id in sandboxes)


class Kubelet:
    """Keeps pods running, whatever anybody does to them.

    Args:
        call: makes one CRI call.
        clock: its time; with a runtime behind a socket, the same as the runtime's.
        pods: what is to run.
    """

    def __init__(self, call: Call, clock: SimClock, pods: Iterable[PodSpec]) -> None:
        self._call = call
        self._clock = clock
        self._pods = tuple(pods)
        self._backoffs: dict[tuple[str, str], _Backoff] = {}

    async def run(self) -> None:
        """Look and repair every second, until cancelled."""
        while True:
            await self.sync()
            await self._clock.sleep(RELIST_S)

    async def sync(self) -> None:
        """Look once and repair what is not as it should be; errors wait for the next look."""
        try:
            listing = await self._list()
        except CriError:
            return
        async with asyncio.TaskGroup() as group:
            for pod in self._pods:
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
                sandbox_id = await self._run_sandbox(pod, sandbox)
            else:
                sandbox_id = sandbox.id
            for config in pod.containers:
                await self._sync_container(pod, config, sandbox_id, existing)
        except CriError:
            return  # tried again at the next look

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
        """Tell whether the back-off of a container has run out, and note that it restarts."""
        if newest.state != pb.CONTAINER_EXITED:
            return True
        reply = await self._call(
            "ContainerStatus", pb.ContainerStatusRequest(container_id=newest.id)
        )
        ended_ns = cast("pb.ContainerStatusResponse", reply).status.finished_at
        key = (pod.uid, config.metadata.name)
        known = self._backoffs.get(key)
        if known is not None and ended_ns - known.updated_ns > FORGET_AFTER_S * _NS:
            known = None
        if known is not None and self._clock.now_ns() - ended_ns < known.wait_s * _NS:
            return False
        wait_s = FIRST_BACKOFF_S if known is None else min(known.wait_s * 2, MAX_BACKOFF_S)
        self._backoffs[key] = _Backoff(wait_s=wait_s, updated_ns=self._clock.now_ns())
        return True

    async def _run_sandbox(self, pod: PodSpec, old: pb.PodSandbox | None) -> str:
        config = self._sandbox_config(pod, old.metadata.attempt + 1 if old is not None else 0)
        reply = await self._call("RunPodSandbox", pb.RunPodSandboxRequest(config=config))
        return cast("pb.RunPodSandboxResponse", reply).pod_sandbox_id

    async def _start(
        self, pod: PodSpec, base: pb.ContainerConfig, sandbox_id: str, attempt: int
    ) -> None:
        config = copied(base)
        config.metadata.attempt = attempt
        config.annotations["io.kubernetes.container.restartCount"] = str(attempt)
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

    @staticmethod
    def _sandbox_config(pod: PodSpec, attempt: int) -> pb.PodSandboxConfig:
        config = copied(pod.sandbox)
        config.metadata.attempt = attempt
        return config
