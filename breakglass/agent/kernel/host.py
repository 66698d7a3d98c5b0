# SPDX-License-Identifier: Apache-2.0
"""The kernel of this machine: the three ports put together, and the one that finds groups.

It works on cgroup v2, v1 and hybrids, under both cgroup drivers.  A leaf is found through a process
of the container while that lives, and only taken when the container's full id stands in the path: a
process id may have been given to another process since the runtime told it.  A leaf's processes are
those of the same path in every tree.

What this does not do: decide anything.
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
        mountinfo: the mounts to go by; those of this process when left out.
        runtime_pids: gives the container runtime's processes as they are now: never killed.
        systemctl: what speaks to systemd.

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
        """Return the control group of a container by a process of it, or None when it has none."""
        for path, directory in self._hierarchies.groups_of(pid):
            above = _parts_below(path, container_id)
            if above is None:
                continue
            own = directory.parents[above - 1] if above else directory
            if own.is_dir():
                return Leaf(directory=own, container_id=container_id)
        return None

    def pids(self, leaf: Leaf) -> tuple[int, ...]:
        """Return the processes in the group and below it; none when the group is gone.

        Raises:
            OSError: the group is there and cannot be read.
        """
        groups = self._hierarchies.everywhere(leaf.directory)
        found = (pid for _, directory in groups for pid in hierarchy.pids_below(directory))
        return tuple(dict.fromkeys(found))

    def pod_groups(self) -> tuple[PodGroup, ...]:
        """Return the groups of all pods, wherever kubelet's root is."""
        return self._search.every()

    def pod_group(self, uid: str, hint: str = "") -> PodGroup | None:
        """Return one pod's group, or None when it has none now.

        Raises:
            GateFailed: the hint is not this pod's path (cgroup-mismatch).
        """
        return self._search.one(uid, hint)

    def leaves(self, group: PodGroup) -> tuple[Leaf, ...]:
        """Return the containers' groups below a pod's, each in the first tree that has it."""
        found: dict[str, Path] = {}
        for _, directory in group.trees:
            try:
                with os.scandir(directory) as entries:
                    names = [one.name for one in entries if one.is_dir(follow_symlinks=False)]
            except OSError:  # it is gone
                continue
            for name in names:
                container_id = hierarchy.container_id_of(name)
                if container_id is not None:
                    found.setdefault(container_id, directory / name)
        return tuple(Leaf(directory=found[one], container_id=one) for one in sorted(found))

    def parents(self) -> tuple[Path, ...]:
        """Return the directories in which new pods' groups appear."""
        return self._search.parents()


def _parts_below(path: str, container_id: str) -> int | None:
    """Return how many parts of a path are below the one that names the container; None: none does.

    The part is the bare id, or the id in a name such as "cri-containerd-<id>.scope".
    """
    whole = re.compile(rf"(?<![0-9a-f]){re.escape(container_id)}(?![0-9a-f])")
    parts = PurePosixPath(path).parts
    for place, part in enumerate(parts):
        if whole.search(part):
            return len(parts) - 1 - place
    return None
