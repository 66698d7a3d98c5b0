# SPDX-License-Identifier: Apache-2.0
"""The kernel of this machine: builds the three ports, and implements the one that finds groups.

It works on cgroup v2, v1 and hybrid hosts, under both cgroup drivers.  A container's group is found
through a process of the container, and accepted only when its path has the container's full id: the
process id may have been reused since the runtime gave it.  The group's processes are those of the
same path in every tree.

It decides nothing.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from breakglass.agent.kernel import hierarchy
from breakglass.agent.kernel.hierarchy import Hierarchies
from breakglass.agent.kernel.kill import HostKiller
from breakglass.agent.kernel.limits import HostLimits
from breakglass.agent.kernel.pod_search import PodSearch
from breakglass.agent.kernel.port import Kernel, Leaf, PodGroup
from breakglass.agent.kernel.systemd import Systemctl

_PROC = Path("/proc")


def _no_pids() -> frozenset[int]:
    return frozenset()


def host_kernel(
    proc: Path = _PROC,
    *,
    mountinfo: Path | None = None,
    runtime_pids: Callable[[], frozenset[int]] = _no_pids,
    systemctl: Systemctl | None = None,
) -> Kernel:
    """Return the kernel of this machine: /proc, the control-group filesystems, and systemctl.

    Args:
        proc: where proc(5) is mounted.
        mountinfo: the file with the mounts; this process's own by default.
        runtime_pids: returns the container runtime's processes at the time of a kill, which spares
            them.
        systemctl: runs systemctl; the installed one by default.

    The mounts are read once: they do not change while a node runs pods.
    """
    hierarchies = Hierarchies(proc, mountinfo or proc / "self" / "mountinfo")
    return Kernel(
        groups=HostGroups(hierarchies),
        limits=HostLimits(systemctl or Systemctl()),
        killer=HostKiller(hierarchies, proc, runtime_pids),
    )


class HostGroups:
    """The control groups of this machine's pods and containers."""

    def __init__(self, hierarchies: Hierarchies) -> None:
        self._hierarchies = hierarchies
        self._search = PodSearch(hierarchies)

    def leaf_of(self, pid: int, container_id: str) -> Leaf | None:
        """Return a container's group, found through one of its processes; None when not found."""
        for path, directory in self._hierarchies.groups_of(pid):
            above = _parts_below(path, container_id)
            if above is None:
                continue
            own = directory.parents[above - 1] if above else directory
            if own.is_dir():
                return Leaf(directory=own, container_id=container_id)
        return None

    def pids(self, leaf: Leaf) -> tuple[int, ...]:
        """Return the processes in a container's group and below; () when the group is gone.

        Raises:
            OSError: the group exists and cannot be read.
        """
        groups = self._hierarchies.everywhere(leaf.directory)
        found = (pid for _, directory in groups for pid in hierarchy.pids_below(directory))
        return tuple(dict.fromkeys(found))

    def pod_groups(self) -> tuple[PodGroup, ...]:
        """Return the groups of all pods, wherever kubelet's root is."""
        return self._search.every()

    def pod_group(self, uid: str, hint: str = "") -> PodGroup | None:
        """Return one pod's group, or None when the pod has none now.

        Raises:
            GateFailed: the hint is not this pod's path (cgroup-mismatch).
        """
        return self._search.one(uid, hint)

    def leaves(self, group: PodGroup) -> tuple[Leaf, ...]:
        """Return the groups of a pod's containers, each in the first tree that has it."""
        found: dict[str, Path] = {}
        for _, directory in group.trees:
            try:
                with os.scandir(directory) as entries:
                    names = [one.name for one in entries if one.is_dir(follow_symlinks=False)]
            except OSError:  # the group is gone
                continue
            for name in names:
                container_id = hierarchy.container_id_of(name)
                if container_id is not None:
                    found.setdefault(container_id, directory / name)
        return tuple(Leaf(directory=found[one], container_id=one) for one in sorted(found))

    def parents(self) -> tuple[Path, ...]:
        """Return the directories in which kubelet makes pods' groups."""
        return self._search.parents()


def _parts_below(path: str, container_id: str) -> int | None:
    """Return how many parts of a path follow the part with the container's id; None without one.

    That part is the id alone, or a name with the id in it, such as "cri-containerd-<id>.scope".
    """
    whole = re.compile(rf"(?<![0-9a-f]){re.escape(container_id)}(?![0-9a-f])")
    parts = PurePosixPath(path).parts
    for place, part in enumerate(parts):
        if whole.search(part):
            return len(parts) - 1 - place
    return None
