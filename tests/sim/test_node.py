# SPDX-License-Identifier: Apache-2.0
"""The simulated runtime's answers against the measured answers of real runtimes."""

import asyncio
import random
from typing import cast

import grpc
import pytest

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.sim.clock import VirtualClock
from breakglass.sim.faults import CriError
from breakglass.sim.kubelet import Kubelet
from breakglass.sim.node import SimNode
from breakglass.sim.profiles import CONTAINERD_1_6, CONTAINERD_2_1, CRIO_1_35, Profile
from breakglass.sim.workloads import WorkloadSpec, make_pod

UNKNOWN_ID = "ab" * 32
PROFILES = pytest.mark.parametrize(
    "profile", [CONTAINERD_1_6, CONTAINERD_2_1, CRIO_1_35], ids=lambda one: one.version
)


async def node_with_pod(
    profile: Profile, *, ignores_term: bool = False
) -> tuple[SimNode, VirtualClock, str]:
    """Return a node, its clock, and the id of the one container that runs on it."""
    clock = VirtualClock()
    node = SimNode(profile=profile, clock=clock)
    spec = WorkloadSpec(namespace="default", name="telemetry", ignores_term=ignores_term)
    await Kubelet(node.call, clock, [make_pod(spec, random.Random(1))]).sync()
    return node, clock, node.running()[0]


async def sandbox_of(node: SimNode) -> pb.PodSandbox:
    """Return the one sandbox of a node."""
    reply = await node.call("ListPodSandbox", pb.ListPodSandboxRequest())
    return cast("pb.ListPodSandboxResponse", reply).items[0]


def stop(container_id: str, timeout: int) -> pb.StopContainerRequest:
    """Return the request to stop a container."""
    return pb.StopContainerRequest(container_id=container_id, timeout=timeout)


@PROFILES
async def test_any_unique_prefix_is_an_id(profile: Profile) -> None:
    """One character is enough to stop a pod, so the agent sends only full ids."""
    node, _, running = await node_with_pod(profile)
    await node.call("StopContainer", stop(running[:1], 5))
    assert node.running() == ()


@PROFILES
async def test_an_empty_id_is_refused(profile: Profile) -> None:
    """An empty id is an error; it does not mean every container."""
    node, _, running = await node_with_pod(profile)
    with pytest.raises(CriError, match="empty"):
        await node.call("StopContainer", stop("", 5))
    assert node.running() == (running,)


@pytest.mark.parametrize(
    ("profile", "is_error"), [(CONTAINERD_1_6, True), (CONTAINERD_2_1, False), (CRIO_1_35, False)]
)
async def test_an_unknown_id_is_an_error_only_to_old_containerds(
    profile: Profile, *, is_error: bool
) -> None:
    """NOT_FOUND from 1.6, OK from the others; a status is NOT_FOUND from all."""
    node, _, _ = await node_with_pod(profile)
    if is_error:
        with pytest.raises(CriError) as caught:
            await node.call("StopContainer", stop(UNKNOWN_ID, 5))
        assert caught.value.status is grpc.StatusCode.NOT_FOUND
    else:
        await node.call("StopContainer", stop(UNKNOWN_ID, 5))
        await node.call("StopPodSandbox", pb.StopPodSandboxRequest(pod_sandbox_id=UNKNOWN_ID))
    with pytest.raises(CriError) as status:
        await node.call("ContainerStatus", pb.ContainerStatusRequest(container_id=UNKNOWN_ID))
    assert status.value.status is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("profile", "killed"), [(CONTAINERD_1_6, False), (CONTAINERD_2_1, False), (CRIO_1_35, True)]
)
async def test_a_caller_who_leaves_too_early_leaves_it_running(
    profile: Profile, *, killed: bool
) -> None:
    """Containerd kills within the call; CRI-O finishes a stop after its caller has left."""
    node, clock, running = await node_with_pod(profile, ignores_term=True)
    call = asyncio.create_task(node.call("StopContainer", stop(running, 4)))
    await clock.advance(1)
    call.cancel()
    await clock.advance(20)
    assert (node.running() == ()) is killed


@PROFILES
async def test_term_is_sent_once_per_container_ever(profile: Profile) -> None:
    """A second stop waits without a second TERM, until the runtime was restarted."""
    node, clock, running = await node_with_pod(profile, ignores_term=True)
    for _ in range(2):
        call = asyncio.create_task(node.call("StopContainer", stop(running, 600)))
        await clock.advance(1)
        call.cancel()
    assert node.signals(running) == ("TERM",)
    node.restarted()
    call = asyncio.create_task(node.call("StopContainer", stop(running, 600)))
    await clock.advance(1)
    call.cancel()
    assert node.signals(running) == ("TERM", "TERM")


@PROFILES
async def test_a_name_is_taken_until_its_sandbox_is_removed(profile: Profile) -> None:
    """Containerd reserves name and attempt; CRI-O returns the existing sandbox."""
    node, _, _ = await node_with_pod(profile)
    sandbox = await sandbox_of(node)
    again = pb.RunPodSandboxRequest(config=pb.PodSandboxConfig(metadata=sandbox.metadata))
    if profile is CRIO_1_35:
        reply = cast("pb.RunPodSandboxResponse", await node.call("RunPodSandbox", again))
        assert reply.pod_sandbox_id == sandbox.id
    else:
        with pytest.raises(CriError, match="failed to reserve sandbox name"):
            await node.call("RunPodSandbox", again)


@PROFILES
async def test_a_stopped_sandbox_takes_no_container(profile: Profile) -> None:
    """Its containers are killed, and it is not ready any more."""
    node, _, running = await node_with_pod(profile, ignores_term=True)
    sandbox = await sandbox_of(node)
    await node.call("StopPodSandbox", pb.StopPodSandboxRequest(pod_sandbox_id=sandbox.id))
    assert node.signals(running) == ("KILL",)
    assert (await sandbox_of(node)).state == pb.SANDBOX_NOTREADY
    with pytest.raises(CriError, match="not running"):
        await node.call("CreateContainer", pb.CreateContainerRequest(pod_sandbox_id=sandbox.id))


@PROFILES
async def test_a_container_starts_once(profile: Profile) -> None:
    """An exited container is never started again."""
    node, _, running = await node_with_pod(profile)
    node.end(running, exit_code=3)
    with pytest.raises(CriError, match="created state"):
        await node.call("StartContainer", pb.StartContainerRequest(container_id=running))
    reply = await node.call("ContainerStatus", pb.ContainerStatusRequest(container_id=running))
    status = cast("pb.ContainerStatusResponse", reply).status
    assert (status.exit_code, status.reason) == (3, "Error")


async def test_an_unknown_method_is_unimplemented() -> None:
    """As GetContainerEvents is in containerd 1.6."""
    with pytest.raises(CriError) as caught:
        await SimNode().call("GetContainerEvents", pb.VersionRequest())
    assert caught.value.status is grpc.StatusCode.UNIMPLEMENTED


async def test_lists_are_filtered_by_id() -> None:
    """A list has only the items that match its filter."""
    node, _, running = await node_with_pod(CONTAINERD_2_1)
    for wanted, count in ((running, 1), (UNKNOWN_ID, 0)):
        containers = await node.call(
            "ListContainers", pb.ListContainersRequest(filter=pb.ContainerFilter(id=wanted))
        )
        assert len(cast("pb.ListContainersResponse", containers).containers) == count
    sandboxes = await node.call(
        "ListPodSandbox", pb.ListPodSandboxRequest(filter=pb.PodSandboxFilter(id=UNKNOWN_ID))
    )
    assert not cast("pb.ListPodSandboxResponse", sandboxes).items


async def test_equal_seeds_make_equal_nodes() -> None:
    """Two nodes with the same seed have the same ids and names."""
    first, _, one = await node_with_pod(CONTAINERD_2_1)
    second, _, other = await node_with_pod(CONTAINERD_2_1)
    assert one == other
    assert (await sandbox_of(first)) == (await sandbox_of(second))
