# SPDX-License-Identifier: Apache-2.0
"""Looking at pods: how long a runtime is waited for, and what the kernel shows in its place."""

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


class Eyes:
    """A node with one pod of monitoring/telemetry, and an agent that looks at it."""

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
        """Let these pods run."""
        self.pod_events.open()
        machine = Machine(kernel=self.kernel.files, pod_events=self.pod_events)
        kubelet = Kubelet(self.node.call, self.clock, pods, machine)
        await self.clock.until(asyncio.create_task(kubelet.sync()))

    async def look(self) -> Snapshot:
        """Look once."""
        return await self.clock.until(asyncio.create_task(self.inventory.look()))

    async def patient(self) -> tuple[Snapshot, float]:
        """Look with patience; return what was seen and the seconds that it took."""
        begun_ns = self.clock.now_ns()
        seen = await self.clock.until(asyncio.create_task(self.inventory.patient()))
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
async def eyes(tmp_path: Path) -> Eyes:
    """One pod of the workload runs, and nobody has looked yet."""
    eyes = Eyes(tmp_path)
    await eyes.run(make_pod(TELEMETRY, random.Random(1)))
    return eyes


async def test_a_runtime_that_answers_is_believed(eyes: Eyes) -> None:
    """All of the pod is known, and remembered."""
    seen = await eyes.look()
    (pod,) = seen.pods
    assert (seen.without_runtime, seen.error, seen.code) == (False, "", "")
    assert belongs(pod, WORKLOAD).member
    assert eyes.inventory.last(pod.uid) == pod
    assert eyes.inventory.last("another") is None


async def test_around_the_runtime_the_kernel_says_what_lives(eyes: Eyes) -> None:
    """A container that has ended since is not shown; one that came is, by its group alone."""
    (before,) = (await eyes.look()).pods
    first, second = before.containers
    late = await eyes.create(before)
    eyes.node.kill(first.id)
    eyes.runtime.faults.wedge()
    seen = await eyes.look()
    (pod,) = seen.pods
    assert (seen.without_runtime, seen.code) == (True, "runtime-timeout")
    assert {one.id: one.name for one in pod.containers} == {second.id: "c1", late: "unknown"}
    assert belongs(pod, WORKLOAD).member


async def test_a_group_that_cannot_be_read_may_live(eyes: Eyes) -> None:
    """What is not known to have ended is live, so that it is stopped and never called down."""
    await eyes.look()
    eyes.kernel.unreadable = True
    eyes.runtime.faults.wedge()
    (pod,) = (await eyes.look()).pods
    assert {one.state for one in pod.containers} == {ContainerState.UNKNOWN}
    assert pod.live


async def test_a_pod_that_no_listing_has_is_known_by_its_folder_of_logs(eyes: Eyes) -> None:
    """Nothing but its name is claimed of it; its pause is a process like the others then."""
    eyes.runtime.faults.wedge()
    (pod,) = (await eyes.look()).pods
    assert pod.namespace == "monitoring"
    assert pod.name.startswith("telemetry-")
    assert (pod.by_name, pod.labels, pod.sandbox_id) == (True, (), "")
    assert {one.id for one in pod.containers} == {one.id for one in eyes.node.processes()}


async def test_a_group_without_any_name_is_nobodys(eyes: Eyes) -> None:
    """A pod that neither a listing nor a folder names is not guessed at."""
    (uid,) = (one.uid for one in eyes.pod_events.present())
    eyes.pod_events.gone(uid)
    eyes.runtime.faults.wedge()
    seen = await eyes.look()
    assert (seen.without_runtime, seen.pods) == (True, ())


def says(file: Path, text: str) -> bool:
    """Whether the memory is there and has this text."""
    return file.is_file() and text in file.read_text()


async def until_kept(eyes: Eyes, text: str) -> None:
    """Wait until the memory has this text: it is written by a thread that nobody waits for."""
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(says, eyes.file, text):
            pass


async def test_the_memory_is_written_when_something_has_changed(eyes: Eyes) -> None:
    """A look a second at a node at rest writes nothing."""
    (pod,) = (await eyes.look()).pods
    await until_kept(eyes, pod.uid)
    written = eyes.file.stat().st_mtime_ns
    await eyes.look()
    assert eyes.file.stat().st_mtime_ns == written
    late = await eyes.create(pod)
    await eyes.look()
    await until_kept(eyes, late)


async def test_the_memory_is_roots_and_has_only_what_tells_whose_a_pod_is(eyes: Eyes) -> None:
    """Labels and annotations of applications may be anything; they are not kept."""
    other = make_pod(replace(TELEMETRY, name="other"), random.Random(2))
    await eyes.run(other)
    await eyes.look()
    await until_kept(eyes, other.uid)
    assert eyes.file.stat().st_mode & 0o777 == 0o600
    for pod in json.loads(eyes.file.read_text())["pods"]:
        assert set(pod["labels"][::2]) <= {"controller-revision-hash"}
        assert set(pod["annotations"][::2]) <= {"kubernetes.io/config.source"}


async def test_patience_waits_for_a_runtime_that_restarts(eyes: Eyes) -> None:
    """A socket that nobody listens on is a restart, mostly."""
    eyes.runtime.alive = False

    async def back() -> None:
        await eyes.clock.sleep(3)
        eyes.runtime.alive = True

    returning = asyncio.create_task(back())
    seen, took_s = await eyes.patient()
    await returning
    assert (seen.without_runtime, len(seen.pods)) == (False, 1)
    assert took_s == pytest.approx(3, abs=0.1)


async def test_patience_with_a_runtime_that_stays_away_ends(eyes: Eyes) -> None:
    """Then the kernel's word has to do."""
    await eyes.look()
    eyes.runtime.alive = False
    seen, took_s = await eyes.patient()
    assert (seen.code, len(seen.pods)) == ("runtime-unavailable", 1)
    assert took_s == pytest.approx(bounds.RUNTIME_PATIENCE_S, abs=0.1)


async def test_a_runtime_that_accepts_and_is_silent_is_waited_for_less(eyes: Eyes) -> None:
    """So many deadlines of our own, and no more: a stop on a stuck node must be quick."""
    await eyes.look()
    eyes.runtime.faults.wedge()
    seen, took_s = await eyes.patient()
    assert (seen.code, len(seen.pods)) == ("runtime-timeout", 1)
    assert took_s <= bounds.MAX_SILENT_LOOKS * bounds.RUNTIME_CALL_TIMEOUT_S + 0.2


async def test_a_runtime_that_is_too_old_is_not_waited_for(eyes: Eyes) -> None:
    """No patience makes it learn CRI v1; the kernel shows its pods all the same."""
    status = grpc.StatusCode.UNIMPLEMENTED
    fault = Fault(method="ListPodSandbox", kind=Kind.FAIL, times=FOR_EVER, status=status)
    eyes.runtime.faults.add(fault)
    seen, took_s = await eyes.patient()
    assert (seen.code, len(seen.pods), took_s) == ("runtime-too-old", 1, 0)
