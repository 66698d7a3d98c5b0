# SPDX-License-Identifier: Apache-2.0
"""One simulated node in virtual time, and the ladder's view of it."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.agent.runtime.port import ContainerLook
from breakglass.agent.stop.ladder import Ladders, PodOutcome
from breakglass.core.plan import Step
from breakglass.core.pods import Container, ContainerState, Pod
from breakglass.sim.clock import VirtualClock
from breakglass.sim.faults import Fault, Kind
from breakglass.sim.kubelet import Kubelet
from breakglass.sim.node import SimNode
from breakglass.sim.profiles import CONTAINERD_2_1, Profile
from breakglass.sim.workloads import WorkloadSpec, make_pod
from tests.support import worlds
from tests.support.climbs import climb
from tests.support.described import group_lines, pod_lines, runtime_lines
from tests.support.sim_runtime import SimRuntime, StubbornKernel, VirtualAgentClock


class LosingRuntime(SimRuntime):
    """A runtime that reports the containers in `lost` as exited, as without their shims."""

    def __init__(self, node: SimNode, clock: VirtualClock) -> None:
        super().__init__(node, clock)
        self.lost: set[str] = set()

    async def pods(self) -> tuple[Pod, ...]:
        """Return all pods."""
        return tuple(
            replace(pod, containers=tuple(map(self._as_reported, pod.containers)))
            for pod in await super().pods()
        )

    async def container(self, container_id: str) -> ContainerLook | None:
        """Return one container."""
        look = await super().container(container_id)
        if look is not None and container_id in self.lost:
            return replace(look, state=ContainerState.EXITED, pid=None)
        return look

    def _as_reported(self, one: Container) -> Container:
        return replace(one, state=ContainerState.EXITED) if one.id in self.lost else one


class World:
    """One node with pods of default/telemetry, and the ports of a ladder for it."""

    def __init__(self, profile: Profile = CONTAINERD_2_1) -> None:
        self.clock = VirtualClock()
        self.agent_clock = VirtualAgentClock(self.clock)
        self.node = SimNode(profile=profile, clock=self.clock)
        self.runtime = LosingRuntime(self.node, self.clock)
        self.kernel = StubbornKernel(self.node)
        self.kubelet = Kubelet(self.node.call, self.clock, ())
        worlds.show("world of the ladder", self._describe)

    def _describe(self) -> Iterator[str]:
        yield f"virtual time {self.clock.now_ns() / 1e9:.3f} s, {self.runtime.looks} looks"
        yield from pod_lines(self.kubelet.pods)
        yield from runtime_lines(self.node)
        yield from group_lines(self.kernel.files)
        yield "stops (container, grace in seconds):"
        for container_id, grace_s in self.runtime.stops:
            yield f"  {container_id[:12]} {grace_s}"

    async def run(
        self,
        *,
        pods: int = 1,
        containers: int = 1,
        ignores_term: bool = False,
        term_ms: int = 0,
    ) -> tuple[Pod, ...]:
        """Start pods and return them as the runtime lists them."""
        spec = WorkloadSpec(
            namespace="default",
            name="telemetry",
            containers=containers,
            ignores_term=ignores_term,
            term_ms=term_ms,
        )
        seeded = random.Random(1)
        made = [make_pod(spec, seeded) for _ in range(pods)]
        self.kubelet = Kubelet(self.node.call, self.clock, made)
        await self.kubelet.sync()
        found = await self.runtime.pods()
        self.runtime.looks = 0
        return found

    @property
    def ports(self) -> Ladders:
        """The ports through which pods are brought down."""
        return Ladders(
            runtime=self.runtime, groups=self.kernel, killer=self.kernel, clock=self.agent_clock
        )

    async def climb(self, pod: Pod, *, grace_s: int = 30) -> PodOutcome:
        """Bring one pod down, in virtual time."""
        return await self.clock.until(self.climbing(pod, grace_s=grace_s))

    def climbing(self, pod: Pod, *, grace_s: int = 30) -> "asyncio.Task[PodOutcome]":
        """Start to bring one pod down, as a task."""
        live = tuple(one for one in pod.containers if one.live)
        return asyncio.create_task(climb(self.ports, pod, live, grace_s=grace_s))

    async def climb_without_runtime(self, pod: Pod) -> PodOutcome:
        """Bring one pod down without its runtime."""
        ladder = self.ports.ladder(without_runtime=True)
        step = Step(pod=pod, containers=pod.containers, grace_s=30)
        return await self.clock.until(asyncio.create_task(ladder.climb(step)))

    def fault(self, method: str, kind: Kind, **more: object) -> None:
        """Make the next calls of a method fail in this way."""
        self.runtime.faults.add(Fault(method=method, kind=kind, **more))  # type: ignore[arg-type]

    def signals(self, pod: Pod) -> tuple[str, ...]:
        """Return the signals that the pod's first container got."""
        return self.node.signals(pod.containers[0].id)


async def create(world: World, pod: Pod, name: str) -> str:
    """Create a container in a pod, as kubelet does a moment before it starts one."""
    reply = await world.node.call(
        "CreateContainer",
        pb.CreateContainerRequest(
            pod_sandbox_id=pod.sandbox_id,
            config=pb.ContainerConfig(metadata=pb.ContainerMetadata(name=name)),
        ),
    )
    assert isinstance(reply, pb.CreateContainerResponse)
    return reply.container_id
