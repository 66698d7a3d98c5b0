# SPDX-License-Identifier: Apache-2.0
"""The kernels that the contract tests of the kernel ports run against.

They are this machine's kernel with all trees, with those of v1 or of v2 only, and a simulated
kernel of each kind.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.agent.kernel.hierarchy import FREEZER, UNIFIED
from breakglass.agent.kernel.host import host_kernel
from breakglass.agent.kernel.port import Kernel
from breakglass.core.gates import Layout, Limit, Oci
from breakglass.sim.kernel import Host, SimKernel
from breakglass.sim.node import SimNode
from breakglass.sim.records import SimContainer, SimSandbox
from lab import leftovers
from lab.sim.kernel import SimulatedKernel
from tests.support import own_groups
from tests.support.own_groups import OwnGroups


class KernelRig(Protocol):
    """A machine on which the tests make, disturb and remove pods."""

    kernel: Kernel
    oci: Oci  # the OCI runtime that makes its containers

    def pod(self, uid: str) -> str:
        """Make a pod's group, and return its path in the form that the runtime reports."""
        ...

    def container(self, uid: str, container_id: str) -> int:
        """Run a container in a pod, and return the id of its process."""
        ...

    def make_immune(self, pid: int) -> None:
        """Put a process into uninterruptible sleep until the rig ends."""
        ...

    def write(self, limit: Limit, value: str) -> None:
        """Set a limit's value, as another process would."""
        ...

    def remove(self, uid: str) -> None:
        """Remove a pod's group with all processes and groups in it."""
        ...


class RealRig:
    """This machine, with some of its trees hidden.

    Args:
        groups: makes the test's control groups.
        mountinfo: a file that lists the trees which the kernel port under test sees.
        trees: the labels of these trees.
    """

    def __init__(self, groups: OwnGroups, mountinfo: Path, trees: tuple[str, ...]) -> None:
        self.kernel: Kernel = host_kernel(mountinfo=mountinfo)
        self.oci = Oci.RUNC
        self._groups = groups
        self._trees = trees

    def pod(self, uid: str) -> str:
        """Make a pod's group, as kubelet's cgroupfs driver does."""
        self._groups.make(_path(uid), self._trees)
        return f"/{self._groups.top}/{_path(uid)}"

    def container(self, uid: str, container_id: str) -> int:
        """Start a sleeping process in a group below the pod's."""
        path = f"{_path(uid)}/{container_id}"
        self._groups.make(path, self._trees)
        return self._groups.spawn(path, self._trees)

    def make_immune(self, pid: int) -> None:
        """Freeze the process in a group that is not its container's group."""
        self._groups.keep(pid)

    def write(self, limit: Limit, value: str) -> None:
        """Write the limit's file."""
        Path(limit.place).write_text(value)

    def remove(self, uid: str) -> None:
        """End the pod's processes and remove its groups."""
        leftovers.end_cgroup(f"{self._groups.top}/{_path(uid)}")
        leftovers.remove_cgroup(f"{self._groups.top}/{_path(uid)}")


class SimulatedRig:
    """A simulated node's kernel.

    Args:
        host: the node's cgroup layout, driver and OCI runtime.
    """

    def __init__(self, host: Host) -> None:
        self._node = SimNode()
        self._files = SimKernel(self._node, host)
        self.kernel: Kernel = SimulatedKernel(self._files, host).ports()
        self.oci = host.oci

    def pod(self, uid: str) -> str:
        """Make a pod's group."""
        self._files.make_group(uid)
        return self._files.cgroup_parent(uid)

    def container(self, uid: str, container_id: str) -> int:
        """Run a container in a pod whose sandbox has no process."""
        config = pb.PodSandboxConfig(metadata=pb.PodSandboxMetadata(uid=uid))
        sandbox = SimSandbox(id=f"of {uid}", config=config, created_ns=0, ready=False)
        self._node._sandboxes[sandbox.id] = sandbox
        made = SimContainer(
            id=container_id,
            sandbox_id=sandbox.id,
            config=pb.ContainerConfig(),
            created_ns=0,
            pid=next(self._node._pids),
            state=pb.CONTAINER_RUNNING,
        )
        self._node._containers[container_id] = made
        return made.pid

    def make_immune(self, pid: int) -> None:
        """Put a process into D state."""
        (found,) = (one.id for one in self._node.processes() if one.pid == pid)
        self._node.stick(found)

    def write(self, limit: Limit, value: str) -> None:
        """Write the limit."""
        self._files.write(limit.place, value)

    def remove(self, uid: str) -> None:
        """Remove the pod's group, and its containers."""
        self._files.remove_group(uid)
        for one in self._node.processes():
            if one.uid == uid:
                self._node.forget(one.id)


def _path(uid: str) -> str:
    return f"kubepods/besteffort/pod{uid}"


Open = Callable[[Path], AbstractContextManager[KernelRig]]


def _real(*trees: str) -> Open:
    @contextlib.contextmanager
    def opened(folder: Path) -> Iterator[KernelRig]:
        with OwnGroups() as groups:
            mountinfo = groups.mountinfo(folder / "mountinfo", trees)
            yield RealRig(groups, mountinfo, trees)

    return opened


def _simulated(layout: Layout, oci: Oci, *, systemd: bool) -> tuple[str, Open]:
    @contextlib.contextmanager
    def opened(_: Path) -> Iterator[KernelRig]:
        yield SimulatedRig(Host(layout=layout, systemd=systemd, oci=oci))

    return "", opened


# Each kind of machine: why this machine cannot provide it ("" if it can), and how to open a rig.
REAL_KERNELS: dict[str, tuple[str, Open]] = {
    "hybrid": (own_groups.why_not(*own_groups.HYBRID), _real(*own_groups.HYBRID)),
    "v1": (own_groups.why_not(*own_groups.V1), _real(*own_groups.V1)),
    # The machine's v1 freezer makes a process immune, although the port sees the v2 tree only.
    "v2": (own_groups.why_not(UNIFIED, FREEZER), _real(*own_groups.V2)),
}
REAL = frozenset(REAL_KERNELS)
KERNELS = REAL_KERNELS | {
    "sim-v2": _simulated(Layout.UNIFIED, Oci.RUNC, systemd=False),
    "sim-v2-systemd": _simulated(Layout.UNIFIED, Oci.CRUN, systemd=True),
    "sim-hybrid": _simulated(Layout.HYBRID, Oci.RUNC, systemd=False),
    "sim-hybrid-systemd": _simulated(Layout.HYBRID, Oci.CRUN, systemd=True),
    "sim-v1": _simulated(Layout.LEGACY, Oci.RUNC, systemd=False),
}
