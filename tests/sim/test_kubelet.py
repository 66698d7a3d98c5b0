# SPDX-License-Identifier: Apache-2.0
"""The simulated kubelet against the measured behaviour of a real one, in virtual time."""

import asyncio
import random
from typing import cast

import pytest

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.sim.clock import VirtualClock
from breakglass.sim.faults import FOR_EVER, Fault, Faults, Kind
from breakglass.sim.kubelet import Kubelet
from breakglass.sim.node import SimNode
from breakglass.sim.workloads import PodSpec, WorkloadSpec, make_pod

SPEC = WorkloadSpec(namespace="default", name="telemetry")


class Node:
    """A simulated node whose kubelet works only when a test calls it."""

    def __init__(self, spec: WorkloadSpec = SPEC, pods: int = 1) -> None:
        self.clock = VirtualClock()
        self.node = SimNode(clock=self.clock)
        self.faults = Faults(self.clock)
        seeded = random.Random(1)
        self.pods: list[PodSpec] = [make_pod(spec, seeded) for _ in range(pods)]

        async def call(method: str, request: pb.ListContainersRequest) -> object:
            return await self.faults.around(method, lambda: self.node.call(method, request))

        self.kubelet = Kubelet(call, self.clock, self.pods)  # type: ignore[arg-type]

    async def seconds_until_running(self, at_most: int = 400) -> int:
        """Let the kubelet work every second; return after how many seconds a container runs."""
        for second in range(at_most):
            await self.kubelet.sync()
            if self.node.running():
                return second
            await self.clock.advance(1)
        raise AssertionError

    async def sandboxes(self) -> list[pb.PodSandbox]:
        """Return the sandboxes as the runtime lists them."""
        reply = await self.node.call("ListPodSandbox", pb.ListPodSandboxRequest())
        return list(cast("pb.ListPodSandboxResponse", reply).items)

    async def containers(self) -> list[pb.Container]:
        """Return the containers as the runtime lists them."""
        reply = await self.node.call("ListContainers", pb.ListContainersRequest())
        return list(cast("pb.ListContainersResponse", reply).containers)

    async def stop_all(self) -> None:
        """Stop every running container, as an agent without a hold does."""
        for container_id in self.node.running():
            await self.node.call(
                "StopContainer", pb.StopContainerRequest(container_id=container_id, timeout=30)
            )


async def test_a_stopped_container_comes_back_with_the_measured_waits() -> None:
    """At once, then 10, 20, 40, 80, 160, 300 and 300 s, in the same sandbox, attempt by attempt."""
    node = Node()
    await node.kubelet.sync()
    waits = []
    for _ in range(8):
        await node.stop_all()
        waits.append(await node.seconds_until_running())
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]
    assert len(await node.sandboxes()) == 1
    assert [one.metadata.attempt for one in await node.containers()] == list(range(9))


async def test_ten_quiet_minutes_forget_the_backoff() -> None:
    """A container that ran for ten minutes is restarted at once."""
    node = Node()
    await node.kubelet.sync()
    for _ in range(3):
        await node.stop_all()
        await node.seconds_until_running()
    await node.clock.advance(601)
    await node.stop_all()
    assert await node.seconds_until_running() == 0


async def test_a_stopped_sandbox_is_replaced_and_its_containers_wait() -> None:
    """The new sandbox has attempt + 1 and no back-off; the containers keep their back-off."""
    node = Node()
    await node.kubelet.sync()
    waits = []
    for _ in range(3):
        (*_, newest) = await node.sandboxes()
        await node.node.call("StopPodSandbox", pb.StopPodSandboxRequest(pod_sandbox_id=newest.id))
        waits.append(await node.seconds_until_running())
    assert waits == [0, 10, 20]
    assert [one.metadata.attempt for one in await node.sandboxes()] == [0, 1, 2, 3]


async def test_a_removed_sandbox_defeats_the_backoff() -> None:
    """A hold must not remove exited containers: kubelet then restarts the pod without back-off."""
    node = Node()
    await node.kubelet.sync()
    waits = []
    for _ in range(3):
        await node.stop_all()
        (sandbox,) = await node.sandboxes()
        await node.node.call(
            "RemovePodSandbox", pb.RemovePodSandboxRequest(pod_sandbox_id=sandbox.id)
        )
        waits.append(await node.seconds_until_running())
    assert waits == [0, 0, 0]
    assert (await node.sandboxes())[0].metadata.attempt == 0


async def test_a_lost_sandbox_takes_its_containers_along() -> None:
    """The containers outlive the pause process until kubelet stops them, with their grace."""
    node = Node()
    await node.kubelet.sync()
    (sandbox,) = await node.sandboxes()
    (first,) = node.node.running()
    node.node.lose_sandbox(sandbox.id)
    assert node.node.running() == (first,)
    await node.kubelet.sync()
    assert node.node.signals(first) == ("TERM",)
    (second,) = node.node.running()
    assert second != first


async def test_a_runtime_that_fails_is_tried_again() -> None:
    """After 1 s, or for a sandbox after 12 to 15 s, each time; the wait does not grow."""
    node = Node()
    node.faults.add(Fault(method="ListContainers", kind=Kind.FAIL))
    assert await node.seconds_until_running() == 1
    node = Node()
    node.faults.add(Fault(method="RunPodSandbox", kind=Kind.FAIL, times=4))
    assert 4 * 12 <= await node.seconds_until_running() <= 4 * 16


async def test_the_kubelet_runs_until_it_is_cancelled() -> None:
    """It lists pods every second of the clock."""
    node = Node(pods=3)
    running = asyncio.create_task(node.kubelet.run())
    await node.clock.advance(0.5)
    assert len(node.node.running()) == 3
    await node.stop_all()
    await node.clock.advance(1)
    assert len(node.node.running()) == 3
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_dead_runtime_restarts_nothing() -> None:
    """No container starts while the runtime does not answer."""
    node = Node()
    await node.kubelet.sync()
    await node.stop_all()
    node.faults.add(Fault(method="*", kind=Kind.FAIL, times=FOR_EVER))
    await node.kubelet.sync()
    assert node.node.running() == ()
    node.faults.clear()
    assert await node.seconds_until_running() == 0
