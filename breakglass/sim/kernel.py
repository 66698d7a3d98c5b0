# SPDX-License-Identifier: Apache-2.0
"""The control groups of a simulated node: their limits, the starts that these stop, and kills.

`read` and `write` take the path of a limit's file or, without a slash, the name of a slice for its
property TasksMax.  The trees are below `ROOT`, which no machine has.  Which limit stops which
runtime is written here as it was measured, independently of what the agent assumes (`core.gates`):

- `cgroup.max.descendants` = 0 stops every start, but runc with the cgroupfs driver ignores it on a
  hybrid host;
- a `pids.max` that leaves no room for a fork stops runc, and never crun;
- under systemd each start of a unit sets a bare `pids.max` back to the slice's TasksMax, in sibling
  slices too, so it is lost at the next start; the property stays, and 0 is refused.

A limit stops a sandbox as it stops a container.  There are no processes: the process of a container
and the pause of a sandbox are records of the runtime.  An injected fault either raises an error
without acting, or acts and then raises the same error ("landed").
"""

import errno
import itertools
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from breakglass.core.gates import Layout, Oci
from breakglass.sim.node import SimNode

ROOT: Final = "/sim/cgroup"
DESCENDANTS: Final = "cgroup.max.descendants"
PIDS: Final = "pids.max"
EVERYTHING: Final = "*"
FOR_EVER: Final = -1
_CONTROLLER = "pids"
_NO_LIMIT = "infinity"
_FIRST_INODE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The kind of machine: its cgroup trees, its cgroup driver, and its OCI runtime."""

    layout: Layout = Layout.UNIFIED
    systemd: bool = False
    oci: Oci = Oci.RUNC

    @property
    def trees(self) -> tuple[tuple[str, str], ...]:
        """Each hierarchy and its mount point; "" is cgroup2."""
        match self.layout:
            case Layout.UNIFIED:
                return (("", ROOT),)
            case Layout.HYBRID:
                return (("", f"{ROOT}/unified"), (_CONTROLLER, f"{ROOT}/{_CONTROLLER}"))
            case Layout.LEGACY:
                return ((_CONTROLLER, f"{ROOT}/{_CONTROLLER}"),)

    def path(self, uid: str) -> str:
        """Return the path of a pod's group below the trees, as kubelet names it."""
        if self.systemd:
            name = uid.replace("-", "_")
            parent = "kubepods.slice/kubepods-besteffort.slice"
            return f"{parent}/kubepods-besteffort-pod{name}.slice"
        return f"kubepods/besteffort/pod{uid}"

    def leaf(self, container_id: str) -> str:
        """Return the name of a container's or sandbox's own group."""
        return f"cri-containerd-{container_id}.scope" if self.systemd else container_id

    def born_in(self) -> tuple[str, ...]:
        """Return the directories in which pods' groups are made, in each tree."""
        top = "kubepods.slice" if self.systemd else "kubepods"
        classes = "kubepods-besteffort.slice" if self.systemd else "besteffort"
        return tuple(f"{tree}/{top}{end}" for _, tree in self.trees for end in ("", f"/{classes}"))


@dataclass(slots=True, kw_only=True)
class Group:
    """A pod's control group.

    Attributes:
        tasks_max: the slice's property, under systemd.
        failed: the failed scopes that crun left behind.
        blocked: how many starts a limit has made fail.
    """

    uid: str
    path: str
    inode: int
    descendants: str = "max"
    pids: str = "max"
    tasks_max: str = "infinity"
    failed: list[str] = field(default_factory=list)
    blocked: int = 0

    @property
    def unit(self) -> str:
        """The slice's name, under systemd."""
        return self.path.rpartition("/")[2]


@dataclass(slots=True, kw_only=True)
class KernelFault:
    """A fault of an operation: read, write, probe or kill; "*" is any.

    Attributes:
        place: a part of the operation's place.
        landed: whether the operation happens although it raises.
        after: how many such operations succeed first.
        times: how often it fails, or `FOR_EVER`.
        error: what it raises; an `OSError`, or what ends the agent.
    """

    operation: str
    place: str = ""
    landed: bool = False
    after: int = 0
    times: int = 1
    error: BaseException = field(default_factory=lambda: OSError(errno.EIO, os.strerror(errno.EIO)))


class SimKernel:
    """The control groups of a simulated node; once made, its limits apply to the node's starts.

    Args:
        node: the runtime whose containers are in the groups.
        host: the kind of machine.

    Attributes:
        calls: how often each operation was called.
    """

    def __init__(self, node: SimNode, host: Host | None = None) -> None:
        self.host = host or Host()
        self.faults: list[KernelFault] = []
        self.calls: Counter[str] = Counter()
        self._node = node
        self._groups: dict[str, Group] = {}
        self._inodes = itertools.count(_FIRST_INODE)
        node.gatekeeper = self

    # Called by kubelet, systemd and the machine's owner.

    def make_group(self, uid: str) -> Group:
        """Return a pod's group; make it if it is missing."""
        if uid not in self._groups:
            path, inode = self.host.path(uid), next(self._inodes)
            self._groups[uid] = Group(uid=uid, path=path, inode=inode)
        return self._groups[uid]

    def has_group(self, uid: str) -> bool:
        """Return whether a pod has a group."""
        return uid in self._groups

    def limit_tasks(self, uid: str, number: int) -> None:
        """Write kubelet's podPidsLimit over the present value."""
        group = self.make_group(uid)
        group.pids = group.tasks_max = str(number)

    def remove_group(self, uid: str) -> None:
        """Remove a pod's group, as kubelet does when the pod has been deleted."""
        self._groups.pop(uid, None)

    def reboot(self) -> None:
        """Remove every group, as a reboot does."""
        self._groups.clear()

    def group(self, uid: str) -> Group:
        """Return a pod's group; raise `KeyError` if it has none."""
        return self._groups[uid]

    # Called by the runtime.

    def cgroup_parent(self, uid: str) -> str:
        """Return the pod's group as kubelet passes it to the runtime."""
        return f"/{self.host.path(uid)}"

    def runtime_options(self) -> Mapping[str, str | bool]:
        """Return the runtime's options, as its verbose status shows them."""
        return {"binary_name": self.host.oci.value, "systemd_cgroup": self.host.systemd}

    def refusal(self, uid: str, started_id: str) -> str:
        """Return the error text if a limit makes a start in this pod fail, else ""."""
        group = self.make_group(uid)
        if self.host.systemd:
            for one in self._groups.values():
                one.pids = _as_file(one.tasks_max)
        text = self._refusal(group, self.host.leaf(started_id))
        if text:
            group.blocked += 1
        return text

    def _refusal(self, group: Group, leaf: str) -> str:
        host, runc = self.host, self.host.oci is not Oci.CRUN
        has_tree = host.layout is not Layout.LEGACY
        is_ignored = host.layout is Layout.HYBRID and runc and not host.systemd
        if has_tree and not is_ignored and group.descendants == "0":
            if not host.systemd:
                where = f"{host.trees[0][1]}/{group.path}/{leaf}"
                return f"mkdir {where}: resource temporarily unavailable"
            if not runc:
                group.failed.append(leaf)
            return f'error creating systemd unit "{leaf}": got "failed"'
        if runc and group.pids in {"0", "1"}:
            return (
                "can't get final child's PID from pipe: EOF; runc init error(s): "
                "nsexec-0: unable to spawn stage-1: resource temporarily unavailable"
            )
        return ""

    # Called by an agent.

    def groups(self) -> tuple[tuple[str, int], ...]:
        """Return the UID and the inode of each pod's group."""
        return tuple((one.uid, one.inode) for one in self._groups.values())

    def leaves(self, uid: str) -> tuple[str, ...]:
        """Return the ids of a pod's sandbox and containers, each of which has its own group."""
        return tuple(one.id for one in self._node.processes() if one.uid == uid)

    def group_of(self, pid: int) -> str:
        """Return the directory of a process's group in the first tree, or "" if it has ended."""
        for one in self._node.processes():
            if one.pid == pid:
                path = self.make_group(one.uid).path
                return f"{self.host.trees[0][1]}/{path}/{self.host.leaf(one.id)}"
        return ""

    def read(self, place: str) -> str:
        """Return a limit's value."""
        self._end(self._begin("read", place))
        group, name = self._find(place)
        return str(getattr(group, name))

    def write(self, place: str, value: str) -> None:
        """Set a limit; raise `OSError` as the kernel or systemd does."""
        fault = self._begin("write", place)
        group, name = self._find(place)
        if name == "tasks_max":
            if value == "0":
                raise OSError(errno.EINVAL, "TasksMax=0 is out of range")
            group.pids = _as_file(value)
        setattr(group, name, value)
        self._end(fault)

    def probe(self, directory: str) -> None:
        """Make and remove a group below a pod's; raise `BlockingIOError` if a limit prevents it."""
        fault = self._begin("probe", directory)
        group, name = self._find(f"{directory}/{DESCENDANTS}")
        if getattr(group, name) == "0":
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self._end(fault)

    def pids(self, directory: str) -> tuple[int, ...]:
        """Return the processes in a container's group; () if the group is gone."""
        owner = _owner(directory)
        return tuple(one.pid for one in self._node.processes() if one.id == owner)

    def kill(self, directory: str) -> None:
        """Kill the processes in a container's group; one in D state stays."""
        fault = self._begin("kill", directory)
        self._node.kill(_owner(directory))
        self._end(fault)

    def reset_failed(self, uid: str) -> int:
        """Reset a pod's failed scopes and return how many there were."""
        if uid not in self._groups:
            return 0
        count = len(self._groups[uid].failed)
        self._groups[uid].failed.clear()
        return count

    def _find(self, place: str) -> tuple[Group, str]:
        """Return the group of a place, and the name of the group's attribute."""
        directory, _, file = place.rpartition("/")
        for group in self._groups.values():
            if self.host.systemd and place == group.unit:
                return group, "tasks_max"
            for hierarchy, tree in self.host.trees:
                if directory == f"{tree}/{group.path}":
                    if file == DESCENDANTS and not hierarchy:
                        return group, "descendants"
                    if file == PIDS and (hierarchy or len(self.host.trees) == 1):
                        return group, "pids"
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), place)

    def _begin(self, operation: str, place: str) -> KernelFault | None:
        """Count an operation and take its next fault; raise its error unless it landed."""
        self.calls[operation] += 1
        for fault in self.faults:
            if fault.operation in {operation, EVERYTHING} and fault.place in place:
                if fault.after:
                    fault.after -= 1
                    continue
                fault.times -= 1
                if not fault.times:
                    self.faults.remove(fault)
                if not fault.landed:
                    raise fault.error
                return fault
        return None

    @staticmethod
    def _end(fault: KernelFault | None) -> None:
        if fault is not None:
            raise fault.error


def _as_file(tasks_max: str) -> str:
    return "max" if tasks_max == _NO_LIMIT else tasks_max


def _owner(directory: str) -> str:
    name = directory.rpartition("/")[2]
    return name.removeprefix("cri-containerd-").removesuffix(".scope")
