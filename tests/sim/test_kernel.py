# SPDX-License-Identifier: Apache-2.0
"""Simulated control groups against the measured effects of limits on real starts."""

import random
from typing import cast

import grpc
import pytest

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.core.gates import Layout, Oci
from breakglass.sim.clock import VirtualClock
from breakglass.sim.faults import CriError
from breakglass.sim.kernel import DESCENDANTS, PIDS, Host, KernelFault, SimKernel
from breakglass.sim.kubelet import Kubelet, Machine
from breakglass.sim.node import SimNode
from breakglass.sim.workloads import WorkloadSpec, make_pod

RUNC, CRUN = Oci.RUNC, Oci.CRUN
V2, HYBRID, LEGACY = Layout.UNIFIED, Layout.HYBRID, Layout.LEGACY
CGROUPFS, SYSTEMD = False, True


class Node:
    """A simulated node with one running pod in its control group."""

    def __init__(self, host: Host | None = None, tasks: int = 0) -> None:
        self.clock = VirtualClock()
        self.node = SimNode(clock=self.clock)
        self.kernel = SimKernel(self.node, host)
        self.pod = make_pod(WorkloadSpec(namespace="default", name="telemetry"), random.Random(1))
        machine = Machine(kernel=self.kernel, tasks=tasks)
        self.kubelet = Kubelet(self.node.call, self.clock, [self.pod], machine)

    async def start(self) -> None:
        """Start the pod."""
        await self.kubelet.sync()

    def place(self, file: str) -> str:
        """Return the path or slice name of a limit of the pod."""
        group = self.kernel.group(self.pod.uid)
        if file == "TasksMax":
            return group.unit
        trees = dict(self.kernel.host.trees)
        tree = trees[""] if file == DESCENDANTS else trees.get("pids", trees.get(""))
        return f"{tree}/{group.path}/{file}"

    async def stop(self) -> None:
        """Stop the running containers, then let kubelet work for 60 s."""
        for container_id in self.node.running():
            await self.node.call(
                "StopContainer", pb.StopContainerRequest(container_id=container_id, timeout=0)
            )
        await self.tries(60)

    async def tries(self, seconds: int) -> None:
        """Let kubelet work for so many seconds."""
        for _ in range(seconds):
            await self.kubelet.sync()
            await self.clock.advance(1)

    async def status(self) -> pb.ContainerStatus:
        """Return the status of the newest container."""
        reply = await self.node.call("ListContainers", pb.ListContainersRequest())
        (*_, newest) = cast("pb.ListContainersResponse", reply).containers
        found = await self.node.call(
            "ContainerStatus", pb.ContainerStatusRequest(container_id=newest.id)
        )
        return cast("pb.ContainerStatusResponse", found).status


# Whether a start succeeds under one limit alone, as measured: docs/hold.md.
@pytest.mark.parametrize(
    ("layout", "systemd", "oci", "limit", "value", "starts"),
    [
        (V2, CGROUPFS, RUNC, DESCENDANTS, "0", False),
        (V2, CGROUPFS, CRUN, DESCENDANTS, "0", False),
        (V2, SYSTEMD, RUNC, DESCENDANTS, "0", False),
        (V2, SYSTEMD, CRUN, DESCENDANTS, "0", False),
        (HYBRID, CGROUPFS, RUNC, DESCENDANTS, "0", True),
        (HYBRID, CGROUPFS, CRUN, DESCENDANTS, "0", False),
        (HYBRID, SYSTEMD, RUNC, DESCENDANTS, "0", False),
        (HYBRID, SYSTEMD, CRUN, DESCENDANTS, "0", False),
        (V2, CGROUPFS, RUNC, PIDS, "0", False),
        (V2, CGROUPFS, CRUN, PIDS, "0", True),
        (V2, SYSTEMD, RUNC, PIDS, "0", True),
        (HYBRID, CGROUPFS, RUNC, PIDS, "0", False),
        (HYBRID, CGROUPFS, CRUN, PIDS, "0", True),
        (LEGACY, CGROUPFS, RUNC, PIDS, "0", False),
        (LEGACY, CGROUPFS, CRUN, PIDS, "0", True),
        (LEGACY, SYSTEMD, RUNC, PIDS, "0", True),
        (V2, SYSTEMD, RUNC, "TasksMax", "1", False),
        (V2, SYSTEMD, CRUN, "TasksMax", "1", True),
        (LEGACY, SYSTEMD, RUNC, "TasksMax", "1", False),
    ],
)
async def test_one_limit_stops_what_it_was_measured_to_stop(
    layout: Layout, *, systemd: bool, oci: Oci, limit: str, value: str, starts: bool
) -> None:
    """Each limit alone, on each kind of machine."""
    node = Node(Host(layout=layout, systemd=systemd, oci=oci))
    await node.start()
    node.kernel.write(node.place(limit), value)
    await node.stop()
    assert bool(node.node.running()) is starts
    assert (node.kernel.group(node.pod.uid).blocked > 0) is not starts


@pytest.mark.parametrize("systemd", [CGROUPFS, SYSTEMD])
async def test_a_refused_start_looks_as_a_real_one_does(*, systemd: bool) -> None:
    """EXITED 128 StartError with the kernel's error in its message, and no start time."""
    node = Node(Host(systemd=systemd))
    await node.start()
    node.kernel.write(node.place(DESCENDANTS), "0")
    await node.stop()
    status = await node.status()
    assert (status.state, status.exit_code, status.reason) == (
        pb.CONTAINER_EXITED,
        128,
        "StartError",
    )
    assert status.started_at == 0 < status.finished_at
    assert ('got "failed"' if systemd else "resource temporarily unavailable") in status.message


async def test_a_refused_sandbox_leaves_nothing_and_is_tried_again_for_ever() -> None:
    """A newborn pod behind a gate: kubelet gets an error, and tries again every 12 to 15 s."""
    node = Node()
    node.kernel.make_group(node.pod.uid)
    node.kernel.write(node.place(DESCENDANTS), "0")
    await node.tries(150)
    listed = await node.node.call("ListPodSandbox", pb.ListPodSandboxRequest())
    assert not cast("pb.ListPodSandboxResponse", listed).items
    assert 10 <= node.kernel.group(node.pod.uid).blocked <= 13
    with pytest.raises(CriError, match="resource temporarily unavailable") as caught:
        await node.node.call("RunPodSandbox", pb.RunPodSandboxRequest(config=node.pod.sandbox))
    assert caught.value.status is grpc.StatusCode.UNKNOWN
    node.kernel.write(node.place(DESCENDANTS), "max")
    await node.tries(16)
    assert node.node.running()


async def test_waits_between_refused_starts_are_those_of_a_crash_loop() -> None:
    """At once, then 10, 20, 40, 80, 160 and 300 s: seven tries in the first twelve minutes."""
    node = Node()
    await node.start()
    node.kernel.write(node.place(DESCENDANTS), "0")
    await node.stop()
    await node.tries(11 * 60)
    assert node.kernel.group(node.pod.uid).blocked == 7


async def test_systemd_refuses_no_tasks_at_all_and_puts_a_bare_limit_back() -> None:
    """TasksMax=0 is out of range; a start resets a bare `pids.max` to the property's value."""
    node = Node(Host(systemd=SYSTEMD), tasks=100)
    await node.start()
    with pytest.raises(OSError, match="out of range"):
        node.kernel.write(node.place("TasksMax"), "0")
    node.kernel.write(node.place(PIDS), "0")
    await node.stop()
    assert node.kernel.read(node.place(PIDS)) == "100"


async def test_crun_leaves_a_failed_scope_for_each_try_under_systemd() -> None:
    """`reset_failed` resets all failed scopes of a pod."""
    node = Node(Host(systemd=SYSTEMD, oci=CRUN))
    await node.start()
    node.kernel.write(node.place(DESCENDANTS), "0")
    await node.stop()
    tries = node.kernel.group(node.pod.uid).blocked
    assert tries >= 3
    assert (node.kernel.reset_failed(node.pod.uid), node.kernel.reset_failed(node.pod.uid)) == (
        tries,
        0,
    )


async def test_a_sandbox_tells_its_group_and_its_runtime() -> None:
    """The verbose status has what an agent needs to choose a gate."""
    node = Node(Host(systemd=SYSTEMD, oci=CRUN))
    await node.start()
    listed = await node.node.call("ListPodSandbox", pb.ListPodSandboxRequest())
    (sandbox,) = cast("pb.ListPodSandboxResponse", listed).items
    request = pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox.id, verbose=True)
    reply = await node.node.call("PodSandboxStatus", request)
    info = cast("pb.PodSandboxStatusResponse", reply).info["info"]
    assert f'"cgroup_parent": "/{node.kernel.host.path(node.pod.uid)}"' in info
    assert '"binary_name": "crun"' in info


async def test_a_kill_goes_around_the_runtime_which_notices_later() -> None:
    """The process ends at once; a slow runtime still lists the container as running."""
    node = Node()
    await node.start()
    node.node.notice_s = 2
    (container_id,) = node.node.running()
    (pause, process) = [one.pid for one in node.node.processes()]
    directory = node.kernel.group_of(process)
    node.kernel.kill(directory)
    assert node.kernel.pids(directory) == ()
    assert node.node.running() == (container_id,)
    await node.clock.advance(2)
    assert node.node.running() == ()
    assert node.kernel.group_of(process) == ""
    assert node.kernel.group_of(pause) != ""


async def test_a_process_in_d_state_stays() -> None:
    """A kill takes effect only after the process has left D state."""
    node = Node()
    await node.start()
    (container_id,) = node.node.running()
    node.node.stick(container_id)
    directory = node.kernel.group_of(node.node.processes()[1].pid)
    node.kernel.kill(directory)
    assert node.kernel.pids(directory)
    node.node.stick(container_id, stuck=False)
    assert not node.kernel.pids(directory)


@pytest.mark.parametrize("landed", [False, True])
async def test_a_write_fails_and_happens_or_not(*, landed: bool) -> None:
    """The caller gets the same error whether the write happened or not."""
    node = Node()
    await node.start()
    place = node.place(DESCENDANTS)
    node.kernel.faults.append(KernelFault(operation="write", landed=landed))
    with pytest.raises(OSError, match="Input/output error"):
        node.kernel.write(place, "0")
    assert node.kernel.read(place) == ("0" if landed else "max")
    node.kernel.write(place, "0")
    with pytest.raises(BlockingIOError):
        node.kernel.probe(place.rpartition("/")[0])


async def test_after_a_reboot_groups_are_new_and_nothing_is_gated() -> None:
    """All containers have ended and no group is left; kubelet restarts the pods without limits."""
    node = Node()
    await node.start()
    node.kernel.write(node.place(DESCENDANTS), "0")
    before = node.kernel.group(node.pod.uid).inode
    node.node.reboot()
    node.kernel.reboot()
    assert (node.node.running(), node.kernel.groups()) == ((), ())
    assert (await node.status()).exit_code == 255
    node.kubelet = Kubelet(node.node.call, node.clock, [node.pod], Machine(kernel=node.kernel))
    await node.tries(1)
    assert node.node.running()
    assert node.kernel.group(node.pod.uid).inode != before
