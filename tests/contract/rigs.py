# SPDX-License-Identifier: Apache-2.0
"""The runtimes that the contract tests run against: simulated ones and a real containerd."""

import asyncio
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.sim.client import CriClient
from breakglass.sim.clock import WallClock
from breakglass.sim.cri_server import CriServer
from breakglass.sim.faults import Faults
from breakglass.sim.kubelet import Kubelet
from breakglass.sim.node import SimNode
from breakglass.sim.profiles import Profile
from breakglass.sim.workloads import WorkloadSpec
from breakglass.sim.workloads import make_pod as simulated_pod
from lab import images
from lab.containerd import Containerd
from lab.pods import MadePod, processes_of
from lab.pods import make_pod as real_pod

PATIENCE_S = 60.0  # reached by a test that fails, and by no other
_LOOK_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A running pod."""

    uid: str
    name: str
    sandbox_id: str
    container_ids: tuple[str, ...]


class Rig(Protocol):
    """A runtime that the tests pause, kill and restart."""

    name: str
    socket: Path

    async def pod(self, *, containers: int = 1, ignores_term: bool = False) -> Made:
        """Run one pod of the DaemonSet default/telemetry."""
        ...

    async def pause(self) -> None:
        """Make the runtime stop answering, while its socket still accepts connections."""
        ...

    async def resume(self) -> None:
        """Make it answer again."""
        ...

    async def kill(self) -> None:
        """End the runtime; its pods keep running."""
        ...

    async def start(self) -> None:
        """Start it again."""
        ...

    async def wait_for_term(self, pod: Made) -> None:
        """Wait until a pod that ignores TERM has got one."""
        ...


class SimRig:
    """A simulated runtime of one kind."""

    def __init__(self, profile: Profile, socket: Path) -> None:
        self.name = profile.name
        self.socket = socket
        self.node = SimNode(profile=profile)
        self.faults = Faults(WallClock())
        self._server = CriServer(self.node, socket, self.faults)
        self._seeded = random.Random(1)
        self._pods = itertools.count()

    async def pod(self, *, containers: int = 1, ignores_term: bool = False) -> Made:
        """Run one pod of the DaemonSet default/telemetry."""
        spec = WorkloadSpec(
            namespace="default",
            name="telemetry",
            containers=containers,
            ignores_term=ignores_term,
        )
        made = simulated_pod(spec, self._seeded)
        await Kubelet(self.node.call, WallClock(), [made]).sync()
        sandboxes = await self.node.call("ListPodSandbox", pb.ListPodSandboxRequest())
        listed = await self.node.call("ListContainers", pb.ListContainersRequest())
        assert isinstance(sandboxes, pb.ListPodSandboxResponse)
        assert isinstance(listed, pb.ListContainersResponse)
        sandbox = next(one.id for one in sandboxes.items if one.metadata.uid == made.uid)
        ours = [one.id for one in listed.containers if one.pod_sandbox_id == sandbox]
        return Made(
            uid=made.uid,
            name=made.sandbox.metadata.name,
            sandbox_id=sandbox,
            container_ids=tuple(ours),
        )

    async def pause(self) -> None:
        """Make the runtime stop answering."""
        self.faults.wedge()

    async def resume(self) -> None:
        """Make it answer again."""
        self.faults.unwedge()

    async def kill(self) -> None:
        """End the runtime; its pods keep running."""
        await self._server.stop()

    async def start(self) -> None:
        """Start it, the first time or again."""
        await self._server.start()

    async def wait_for_term(self, pod: Made) -> None:
        """Wait until a container has got TERM, as the node records it."""
        await _until(lambda: any("TERM" in self.node.signals(one) for one in pod.container_ids))


class ContainerdRig:
    """A real containerd."""

    name = "containerd"

    def __init__(self, containerd: Containerd) -> None:
        self._containerd = containerd
        self._pods: dict[str, tuple[MadePod, int]] = {}
        self.socket = containerd.socket

    async def pod(self, *, containers: int = 1, ignores_term: bool = False) -> Made:
        """Run one pod of the DaemonSet default/telemetry."""
        made = await asyncio.to_thread(
            real_pod,
            self.socket,
            namespace="default",
            daemonset="telemetry",
            containers=containers,
            ignores_term=ignores_term,
        )
        self._pods[made.uid] = (made, len(processes_of(made)))
        return Made(
            uid=made.uid,
            name=made.name,
            sandbox_id=made.sandbox_id,
            container_ids=made.container_ids,
        )

    async def pause(self) -> None:
        """Pause containerd (SIGSTOP)."""
        self._containerd.pause()

    async def resume(self) -> None:
        """Make it answer again (SIGCONT)."""
        self._containerd.resume()

    async def kill(self) -> None:
        """Kill containerd; its pods keep running."""
        await asyncio.to_thread(self._containerd.kill)

    async def start(self) -> None:
        """Start it again."""
        await asyncio.to_thread(self._containerd.start)

    async def wait_for_term(self, pod: Made) -> None:
        """Wait until a container has got TERM: its shell starts one more process for each."""
        made, before = self._pods[pod.uid]
        await _until(lambda: len(processes_of(made)) > before)


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110 - neither runtime has an event for it
            await asyncio.sleep(_LOOK_S)


async def create_only(rig: Rig, pod: Made, name: str = "late") -> str:
    """Create a container in a pod without starting it, as kubelet does just before a start."""
    async with CriClient(rig.socket) as client:
        status = await client.call(
            "PodSandboxStatus", pb.PodSandboxStatusRequest(pod_sandbox_id=pod.sandbox_id)
        )
        assert isinstance(status, pb.PodSandboxStatusResponse)
        host = pb.NamespaceOption(network=pb.NODE, pid=pb.CONTAINER, ipc=pb.POD)
        config = pb.ContainerConfig(
            metadata=pb.ContainerMetadata(name=name),
            image=pb.ImageSpec(image=images.WORKLOAD),
            labels={
                "io.kubernetes.container.name": name,
                "io.kubernetes.pod.uid": pod.uid,
                "io.kubernetes.pod.name": pod.name,
                "io.kubernetes.pod.namespace": "default",
            },
            linux=pb.LinuxContainerConfig(
                security_context=pb.LinuxContainerSecurityContext(namespace_options=host)
            ),
        )
        sandbox = pb.PodSandboxConfig(
            metadata=status.status.metadata,
            labels=status.status.labels,
            annotations=status.status.annotations,
            linux=pb.LinuxPodSandboxConfig(
                security_context=pb.LinuxSandboxSecurityContext(namespace_options=host)
            ),
        )
        reply = await client.call(
            "CreateContainer",
            pb.CreateContainerRequest(
                pod_sandbox_id=pod.sandbox_id, config=config, sandbox_config=sandbox
            ),
        )
        assert isinstance(reply, pb.CreateContainerResponse)
        return reply.container_id


async def start(rig: Rig, container_id: str) -> None:
    """Start a created container."""
    async with CriClient(rig.socket) as client:
        await client.call("StartContainer", pb.StartContainerRequest(container_id=container_id))


async def remove(rig: Rig, pod: Made) -> None:
    """Remove a pod, as another client might at the same moment."""
    async with CriClient(rig.socket) as client:
        await client.call(
            "RemovePodSandbox", pb.RemovePodSandboxRequest(pod_sandbox_id=pod.sandbox_id)
        )
