# SPDX-License-Identifier: Apache-2.0
"""The pod inventory: how long it waits for the runtime, and what the kernel shows instead."""

import asyncio
import json
import random
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.agent.pods.inventory import PodInventory, Snapshot
from breakglass.core import bounds
from breakglass.core.pods import ContainerState, Pod, Workload, belongs
from breakglass.sim.clock import VirtualClock
from breakglass.sim.faults import FOR_EVER, Fault, Kind
from breakglass.sim.kubelet import Kubelet, Machine
from breakglass.sim.node import SimNode
from breakglass.sim.pod_events import SimPodEvents
from breakglass.sim.workloads import PodSpec, WorkloadSpec, make_pod
from tests.support.sim_runtime import SimRuntime, StubbornKernel, VirtualAgentClock

TELEMETRY = WorkloadSpec(namespace="monitoring", name="telemetry", containers=2)
WORKLOAD = Workload(namespace="monitoring", name="telemetry")


class NodeAgent:
    """A simulated node and the pod inventory of an agent on it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "listing.json"
        self.clock = VirtualClock()
        self.node = SimNode(clock=self.clock)
        self.runtime = SimRuntime(self.node, self.clock)
        self.kernel = StubbornKernel(self.node)
        self.pod_events = SimPodEvents(self.clock)
        self.inventory = PodInventory(
            runtime=self.runtime,
            groups=self.kernel,
            pod_events=self.pod_events,
            clock=VirtualAgentClock(self.clock),
            directory=folder,
        )

    async def run(self, *pods: PodSpec) -> None:
        """Start these pods."""
        self.pod_events.open()
        machine = Machine(kernel=self.kernel.files, pod_events=self.pod_events)
        kubelet = Kubelet(self.node.call, self.clock, pods, machine)
        await self.clock.until(asyncio.create_task(kubelet.sync()))

    async def look(self) -> Snapshot:
        """Return one snapshot, without patience."""
        return await self.clock.until(asyncio.create_task(self.inventory.look()))

    async def patient(self) -> tuple[Snapshot, float]:
        """Return a patient snapshot and the seconds that it took."""
        begun_ns = self.clock.now_ns()
        seen = await self.clock.until(asyncio.create_task(self.inventory.wait_snapshot()))
        return seen, (self.clock.now_ns() - begun_ns) / 1_000_000_000

    async def create(self, pod: Pod) -> str:
        """Create one more container in a pod and start it."""
        reply = await self.node.call(
            "CreateContainer",
            pb.CreateContainerRequest(
                pod_sandbox_id=pod.sandbox_id,
                config=pb.ContainerConfig(metadata=pb.ContainerMetadata(name="late")),
            ),
        )
        assert isinstance(reply, pb.CreateContainerResponse)
        request = pb.StartContainerRequest(container_id=reply.container_id)
        await self.node.call("StartContainer", request)
        return reply.container_id


@pytest.fixture
async def agent(tmp_path: Path) -> NodeAgent:
    """Return an agent that has not looked yet, on a node with one pod of the workload."""
    agent = NodeAgent(tmp_path)
    await agent.run(make_pod(TELEMETRY, random.Random(1)))
    return agent


async def test_an_answer_of_the_runtime_is_the_snapshot(agent: NodeAgent) -> None:
    """The snapshot has all of the pod, and the inventory keeps it as the last listing."""
    seen = await agent.look()
    (pod,) = seen.pods
    assert (seen.without_runtime, seen.error, seen.code) == (False, "", "")
    assert belongs(pod, WORKLOAD).member
    assert agent.inventory.last_seen(pod.uid) == pod
    assert agent.inventory.last_seen("another") is None


async def test_without_the_runtime_the_kernel_shows_what_lives(agent: NodeAgent) -> None:
    """A container that has ended is left out; a new one is shown by its control group."""
    (before,) = (await agent.look()).pods
    first, second = before.containers
    late = await agent.create(before)
    agent.node.kill(first.id)
    agent.runtime.faults.wedge()
    seen = await agent.look()
    (pod,) = seen.pods
    assert (seen.without_runtime, seen.code) == (True, "runtime-timeout")
    assert {one.id: one.name for one in pod.containers} == {second.id: "c1", late: "unknown"}
    assert belongs(pod, WORKLOAD).member


async def test_an_unreadable_group_counts_as_live(agent: NodeAgent) -> None:
    """A container that may live counts as live: it is stopped, and not reported down."""
    await agent.look()
    agent.kernel.unreadable = True
    agent.runtime.faults.wedge()
    (pod,) = (await agent.look()).pods
    assert {one.state for one in pod.containers} == {ContainerState.UNKNOWN}
    assert pod.live


async def test_an_unlisted_pod_is_known_by_its_log_folder(agent: NodeAgent) -> None:
    """Only its name is known, so its pause container cannot be told from the others."""
    agent.runtime.faults.wedge()
    (pod,) = (await agent.look()).pods
    assert pod.namespace == "monitoring"
    assert pod.name.startswith("telemetry-")
    assert (pod.by_name, pod.labels, pod.sandbox_id) == (True, (), "")
    assert {one.id for one in pod.containers} == {one.id for one in agent.node.processes()}


async def test_a_group_without_a_name_is_left_out(agent: NodeAgent) -> None:
    """A pod that neither the listing nor a log folder names is not in the snapshot."""
    (uid,) = (one.uid for one in agent.pod_events.present())
    agent.pod_events.gone(uid)
    agent.runtime.faults.wedge()
    seen = await agent.look()
    assert (seen.without_runtime, seen.pods) == (True, ())


def contains(file: Path, text: str) -> bool:
    """Return whether the listing's file exists and has this text."""
    return file.is_file() and text in file.read_text()


async def until_written(agent: NodeAgent, text: str) -> None:
    """Look until the listing's file has this text.

    A thread writes it in the background.  A look during a write writes nothing; the next one does.
    """
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(contains, agent.file, text):
            await agent.look()


async def test_the_listing_is_written_when_it_has_changed(agent: NodeAgent) -> None:
    """A look at unchanged pods writes nothing."""
    (pod,) = (await agent.look()).pods
    await until_written(agent, pod.uid)
    written = agent.file.stat().st_mtime_ns
    await agent.look()
    assert agent.file.stat().st_mtime_ns == written
    late = await agent.create(pod)
    await agent.look()
    await until_written(agent, late)


async def test_the_listing_is_private_and_keeps_only_identifying_labels(agent: NodeAgent) -> None:
    """Other labels and annotations, which applications choose, are not kept."""
    other = make_pod(replace(TELEMETRY, name="other"), random.Random(2))
    await agent.run(other)
    await agent.look()
    await until_written(agent, other.uid)
    assert agent.file.stat().st_mode & 0o777 == 0o600
    for pod in json.loads(agent.file.read_text())["pods"]:
        assert set(pod["labels"][::2]) <= {"controller-revision-hash"}
        assert set(pod["annotations"][::2]) <= {"kubernetes.io/config.source"}


async def test_patience_waits_for_a_runtime_that_restarts(agent: NodeAgent) -> None:
    """A socket without a listener usually means that the runtime restarts."""
    agent.runtime.alive = False

    async def back() -> None:
        await agent.clock.sleep(3)
        agent.runtime.alive = True

    returning = asyncio.create_task(back())
    seen, took_s = await agent.patient()
    await returning
    assert (seen.without_runtime, len(seen.pods)) == (False, 1)
    assert took_s == pytest.approx(3, abs=0.1)


async def test_patience_with_a_runtime_that_stays_away_ends(agent: NodeAgent) -> None:
    """After its time the snapshot comes from the kernel alone."""
    await agent.look()
    agent.runtime.alive = False
    seen, took_s = await agent.patient()
    assert (seen.code, len(seen.pods)) == ("runtime-unavailable", 1)
    assert took_s == pytest.approx(bounds.RUNTIME_PATIENCE_S, abs=0.1)


async def test_a_silent_runtime_is_waited_for_less(agent: NodeAgent) -> None:
    """Two calls without an answer are enough: a stop on a stuck node must be quick."""
    await agent.look()
    agent.runtime.faults.wedge()
    seen, took_s = await agent.patient()
    assert (seen.code, len(seen.pods)) == ("runtime-timeout", 1)
    assert took_s <= bounds.MAX_SILENT_LOOKS * bounds.RUNTIME_CALL_TIMEOUT_S + 0.2


async def test_a_runtime_that_is_too_old_is_not_waited_for(agent: NodeAgent) -> None:
    """Waiting would not add CRI v1; the snapshot comes from the kernel at once."""
    status = grpc.StatusCode.UNIMPLEMENTED
    fault = Fault(method="ListPodSandbox", kind=Kind.FAIL, times=FOR_EVER, status=status)
    agent.runtime.faults.add(fault)
    seen, took_s = await agent.patient()
    assert (seen.code, len(seen.pods), took_s) == ("runtime-too-old", 1, 0)
