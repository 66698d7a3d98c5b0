# SPDX-License-Identifier: Apache-2.0
"""A simulated node's control groups: what kubelet makes, what limits stop, what a kill ends.

It is a small file system of limits.  `read` and `write` take a file's path or, without a slash, a
slice's name for its property TasksMax; the trees stand below `ROOT`, which no machine has.  Which
limit stops which runtime is written here as it was measured, and not taken from what the agent
believes (`core.gates`):

- `cgroup.max.descendants` = 0 stops every start, but is ignored by runc with the cgroupfs driver on
  a hybrid host;
- a `pids.max` that leaves no room for a fork stops runc, and never crun;
- under systemd a bare `pids.max` is put back to the slice's TasksMax when a unit starts, so it is
  lost at the very next try, in sibling slices too; the property stays, and 0 is refused.

A sandbox is refused as a container is.  There are no processes: a container's, and a sandbox's
pause, are the runtime's own records.  What goes wrong on demand is "lost" (an error, and nothing
happened) or "landed" (the same error, but it happened).
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
    """What kind of machine the node is: its trees, who makes the groups, what makes containers."""

    layout: Layout = Layout.UNIFIED
    systemd: bool = False
    oci: Oci = Oci.RUNC

    @property
    def trees(self) -> tuple[tuple[str, str], ...]:
        """Each hierarchy and the directory where it is mounted; "" is cgroup2."""
        match self.layout:
            case Layout.UNIFIED:
                return (("", ROOT),)
            case Layout.HYBRID:
                return (("", f"{ROOT}/unified"), (_CONTROLLER, f"{ROOT}/{_CONTROLLER}"))
            case Layout.LEGACY:
                return ((_CONTROLLER, f"{ROOT}/{_CONTROLLER}"),)

    def path(self, uid: str) -> str:
        """Return a pod's group below the trees, as kubelet names it."""
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
        failed: the scopes that crun left behind.
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
    """One operation that goes wrong: read, write, probe or kill; "*" is any.

    Attributes:
        place: what its place must contain.
        landed: whether it happens all the same.
        after: how many such operations go well before.
        times: how often it goes wrong, or `FOR_EVER`.
        error: what is raised; an `OSError`, or the end of the agent.
    """

    operation: str
    place: str = ""
    landed: bool = False
    after: int = 0
    times: int = 1
    error: BaseException = field(default_factory=lambda: OSError(errno.EIO, os.strerror(errno.EIO)))


class SimKernel:
    """The control groups of a simulated node; from now on they decide over its starts.

    Args:
        node: the runtime whose containers are in the groups.
        host: what kind of machine it is.

    Attributes:
        calls: how often each operation was asked for.
    """

    def __init__(self, node: SimNode, host: Host | None = None) -> None:
        self.host = host or Host()
        self.faults: list[KernelFault] = []
        self.calls: Counter[str] = Counter()
        self._node = node
        self._groups: dict[str, Group] = {}
        self._inodes = itertools.count(_FIRST_INODE)
        node.gatekeeper = self

    # What kubelet, systemd and the machine's owner do.

    def make_group(self, uid: str) -> Group:
        """Make a pod's group, unless it is there."""
        if uid not in self._groups:
            path, inode = self.host.path(uid), next(self._inodes)
            self._groups[uid] = Group(uid=uid, path=path, inode=inode)
        return self._groups[uid]

    def has_group(self, uid: str) -> bool:
        """Tell whether a pod's group is there."""
        return uid in self._groups

    def limit_tasks(self, uid: str, number: int) -> None:
        """Write kubelet's podPidsLimit over whatever stands there."""
        group = self.make_group(uid)
        group.pids = group.tasks_max = str(number)

    def remove_group(self, uid: str) -> None:
        """Remove a pod's group, as kubelet does when the pod has been deleted."""
        self._groups.pop(uid, None)

    def reboot(self) -> None:
        """Forget every group, as a machine that starts again does."""
        self._groups.clear()

    def group(self, uid: str) -> Group:
        """Return a pod's group; raise `KeyError` when it has none."""
        return self._groups[uid]

    # What the runtime asks.

    def cgroup_parent(self, uid: str) -> str:
        """Return what kubelet gives the runtime as the pod's group."""
        return f"/{self.host.path(uid)}"

    def runtime_options(self) -> Mapping[str, str | bool]:
        """Return how the runtime is set up to make containers, as it tells it itself."""
        return {"binary_name": self.host.oci.value, "systemd_cgroup": self.host.systemd}

    def refusal(self, uid: str, started_id: str) -> str:
        """Return the kernel's words when a start in this pod fails, "" when it goes through."""
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
        ignores_it = host.layout is Layout.HYBRID and runc and not host.systemd
        if has_tree and not ignores_it and group.descendants == "0":
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

    # What an agent sees and does.

    def groups(self) -> tuple[tuple[str, int], ...]:
        """Return the UIDs of the pods that have a group now, and the groups' inodes."""
        return tuple((one.uid, one.inode) for one in self._groups.values())

    def leaves(self, uid: str) -> tuple[str, ...]:
        """Return the ids of what has a group of its own in a pod: its sandbox and containers."""
        return tuple(one.id for one in self._node.processes() if one.uid == uid)

    def group_of(self, pid: int) -> str:
        """Return the group of a process in the first tree, "" for one that is not there."""
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
        """Set a limit; raise `OSError` as the kernel or systemd would."""
        fault = self._begin("write", place)
        group, name = self._find(place)
        if name == "tasks_max":
            if value == "0":
                raise OSError(errno.EINVAL, "TasksMax=0 is out of range")
            group.pids = _as_file(value)
        setattr(group, name, value)
        self._end(fault)

    def probe(self, directory: str) -> None:
        """Make a group in a pod's and remove it; raise `BlockingIOError` when a limit holds."""
        fault = self._begin("probe", directory)
        group, name = self._find(f"{directory}/{DESCENDANTS}")
        if getattr(group, name) == "0":
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self._end(fault)

    def pids(self, directory: str) -> tuple[int, ...]:
        """Return the processes in a container's group, none when it is gone."""
        owner = _owner(directory)
        return tuple(one.pid for one in self._node.processes() if one.id == owner)

    def kill(self, directory: str) -> None:
        """Kill what is in a container's group; who is in D state stays."""
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
        """Return the group, and the name of its value, that a place stands for."""
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
        """Count an operation and take its next fault; raise its error when nothing happens."""
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
