# SPDX-License-Identifier: Apache-2.0
"""The pod events of a simulated node, and their order."""

import asyncio
import random

from breakglass.core.pod_names import PodEvent
from breakglass.sim.clock import VirtualClock
from breakglass.sim.kernel import SimKernel
from breakglass.sim.kubelet import Kubelet, Machine
from breakglass.sim.node import SimNode
from breakglass.sim.pod_events import SimPodEvents
from breakglass.sim.workloads import PodSpec, WorkloadSpec, make_pod

SPEC = WorkloadSpec(namespace="default", name="telemetry")


class Node:
    """A node whose kubelet runs by itself, and a listener for its pod events."""

    def __init__(self, volume_s: float = 0.3, tasks: int = 0, tasks_after_s: float = 0.0) -> None:
        self.clock = VirtualClock()
        self.node = SimNode(clock=self.clock, start_s=0.1)
        self.kernel, self.pod_events = SimKernel(self.node), SimPodEvents(self.clock)
        seeded = random.Random(1)
        self.pod, self.next = make_pod(SPEC, seeded), make_pod(SPEC, seeded)
        machine = Machine(
            kernel=self.kernel,
            pod_events=self.pod_events,
            volume_s=volume_s,
            tasks=tasks,
            tasks_after_s=tasks_after_s,
        )
        self.kubelet = Kubelet(self.node.call, self.clock, [self.pod], machine)
        self.pod_events.open()

    async def events(self, timeout_s: float = 5) -> tuple[PodEvent, ...]:
        """Return the next events."""
        return await self.clock.until(asyncio.create_task(self.pod_events.wait(timeout_s)))


def group_of(pod: PodSpec) -> PodEvent:
    """Return the event of a pod's control group."""
    return PodEvent(uid=pod.uid, namespace="", name="")


def folder_of(pod: PodSpec) -> PodEvent:
    """Return the event of a pod's log folder."""
    of = pod.sandbox.metadata
    return PodEvent(uid=of.uid, namespace=of.namespace, name=of.name)


async def test_a_pod_is_told_by_its_group_and_then_by_its_folder() -> None:
    """Both events come before kubelet requests the sandbox."""
    node = Node()
    running = asyncio.create_task(node.kubelet.run())
    assert await node.events() == (group_of(node.pod),)
    assert await node.events() == (folder_of(node.pod),)
    assert node.node.processes() == ()
    await node.clock.advance(0.5)
    assert node.node.running()
    assert await node.events() == ()
    assert node.pod_events.present() == (folder_of(node.pod),)
    running.cancel()


async def test_a_successors_group_is_there_before_the_old_one_is_gone() -> None:
    """For a moment both groups exist; a hold by control group would miss the new pod."""
    node = Node(volume_s=0)
    await node.clock.until(asyncio.create_task(node.kubelet.sync()))
    replacing = asyncio.create_task(node.kubelet.replace(node.pod.uid, node.next))
    await node.clock.advance(0.25)
    assert [uid for uid, _ in node.kernel.groups()] == [node.pod.uid, node.next.uid]
    await node.clock.until(replacing)
    assert [uid for uid, _ in node.kernel.groups()] == [node.next.uid]
    assert node.pod_events.present() == (folder_of(node.next),)
    assert len(node.node.running()) == 1


async def test_the_limit_of_tasks_is_written_after_the_group_was_seen() -> None:
    """Kubelet's podPidsLimit overwrites a value that an agent wrote meanwhile."""
    node = Node(tasks=1024, tasks_after_s=0.01)
    running = asyncio.create_task(node.kubelet.run())
    assert await node.events() == (group_of(node.pod),)
    path = node.kernel.host.path(node.pod.uid)
    place = f"/sim/cgroup/{path}/pids.max"
    node.kernel.write(place, "0")
    await node.clock.advance(0.02)
    assert node.kernel.read(place) == "1024"
    running.cancel()


async def test_missed_traces_are_never_events() -> None:
    """`present` still has the folders whose events were missed, or never came."""
    for deaf in (True, False):
        node = Node()
        node.pod_events.deaf = deaf
        node.pod_events.miss(0 if deaf else 2)
        await node.clock.until(asyncio.create_task(node.kubelet.sync()))
        assert await node.events() == ()
        assert node.pod_events.present() == (folder_of(node.pod),)


async def test_folders_that_are_elsewhere_leave_the_groups() -> None:
    """Only the control group's event comes, with the UID alone; `present` is empty."""
    node = Node()
    node.pod_events.elsewhere = True
    await node.clock.until(asyncio.create_task(node.kubelet.sync()))
    assert await node.events() == (group_of(node.pod),)
    assert await node.events() == ()
    assert node.pod_events.present() == ()


async def test_an_overflow_tells_of_all_folders_again() -> None:
    """The queued events are lost, and the existing folders are reported instead."""
    node = Node()
    await node.clock.until(asyncio.create_task(node.kubelet.sync()))
    node.pod_events.overflow()
    assert await node.events() == (folder_of(node.pod),)
    assert await node.events() == ()
