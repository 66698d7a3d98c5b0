# SPDX-License-Identifier: Apache-2.0
"""The kernel of this machine: pods and containers as their control groups show them.

It puts the port together from its parts: `hierarchy` (trees and names), `pod_search` (where pods'
groups are), `gate_files` and `slices` (limits), `kills`.  It works on cgroup v2, v1 and hybrids,
under both cgroup drivers.  A leaf is found through a process of the container while that lives, and
only taken when the container's full id stands in the path: a process id may have been given to
somebody else since the runtime told it.  Its processes are those of the same path in every tree.

What this does not do: decide anything.
"""

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from breakglass.agent.kernel import hierarchy
from breakglass.agent.kernel.hierarchy import Hierarchies
from breakglass.agent.kernel.kill import Killer
from breakglass.agent.kernel.limits import GateLimits
from breakglass.agent.kernel.pod_search import PodSearch
from breakglass.agent.kernel.port import Leaf, PodGroup
from breakglass.agent.kernel.systemd import Systemctl
from breakglass.core import bounds
from breakglass.core.gates import Gate, Limit, Oci

_PROC = Path("/proc")
_NOTHING_HERE = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ENODEV,  # removed between opening and reading
        errno.EOPNOTSUPP,  # a threaded group: its processes are told by the group above it
    }
)


def _nobody() -> frozenset[int]:
    return frozenset()


class CgroupKernel:
    """The kernel of this machine, through /proc, the control-group filesystems and systemctl.

    Args:
        proc: where proc(5) is mounted.
        mountinfo: the mounts to go by; those of this process when left out.
        runtime_pids: gives the container runtime's processes as they are now: never killed.
        systemctl: what speaks to systemd.

    The mounts are read once: they do not change while a node runs pods.
    """

    def __init__(
        self,
        proc: Path = _PROC,
        *,
        mountinfo: Path | None = None,
        runtime_pids: Callable[[], frozenset[int]] = _nobody,
        systemctl: Systemctl | None = None,
    ) -> None:
        self._proc = proc
        self._hierarchies = Hierarchies(proc, mountinfo or proc / "self" / "mountinfo")
        self._systemctl = systemctl or Systemctl()
        self._search = PodSearch(self._hierarchies)
        self._gates = GateLimits(self._systemctl)
        self._killer = Killer(self._hierarchies, proc, runtime_pids, _pids_below)

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
        found = (pid for _, directory in groups for pid in _pids_below(directory))
        return tuple(dict.fromkeys(found))

    def describe(self, pid: int) -> str:
        """Return a process's id, its state by proc(5) and its name, such as "4711 D fsync"."""
        try:
            stat = (self._proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return f"{pid} gone"
        # The name stands in parentheses and may itself have some; whoever runs gives it.
        before, _, after = stat.rpartition(")")
        name = "".join(one if one.isprintable() else "?" for one in before.partition("(")[2])
        return f"{pid} {after[1:2]} {name}"

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

    def limits(self, group: PodGroup, oci: Oci, *, early: bool = False) -> tuple[Limit, ...]:
        """Return the limits that would hold this pod, or the early ones, as they are now.

        Raises:
            GateFailed: there are limits, and none of them can be read (gate-unwritable).
        """
        return self._gates.limits(group, oci, early=early)

    def set_limit(self, group: PodGroup, limit: Limit) -> None:
        """Set one limit and read it back.

        Raises:
            GateFailed: it is not this group's (cgroup-mismatch), cannot be written
                (gate-unwritable), or reads otherwise afterwards (gate-not-standing).
        """
        self._gates.set_limit(group, limit)

    def standing(self, group: PodGroup, limits: tuple[Limit, ...], oci: Oci) -> Gate:
        """Return which gate is proven to hold now, `WATCH_ONLY` when none."""
        return self._gates.standing(group, limits, oci)

    def changed(self, group: PodGroup, limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
        """Return the limits that somebody else has changed, by reading alone."""
        return self._gates.changed(group, limits)

    def lift(self, group: PodGroup, limit: Limit) -> None:
        """Put one limit's old value back and read it back.

        Raises:
            GateFailed: as of `set_limit`.
        """
        self._gates.lift(group, limit)

    def kill(self, leaf: Leaf) -> None:
        """Kill all processes of a container; return when none is left, or some stay immune.

        Raises:
            GateFailed: it must not be killed (kill-refused), or there was no way to
                (kill-failed).
        """
        self._killer.kill(leaf)

    def parents(self) -> tuple[Path, ...]:
        """Return the directories in which pods' groups are born."""
        return self._search.parents()

    def reset_failed(self, group: PodGroup) -> int:
        """Reset the failed scopes in this pod's slice; return how many.

        Raises:
            GateFailed: systemd did not answer (gate-unwritable).
        """
        if not group.is_slice:
            return 0
        return self._systemctl.reset_failed_scopes(group.path.rpartition("/")[2])


def _pids_below(directory: Path) -> tuple[int, ...]:
    """Return the processes in a group and below it, bounded.

    Raises:
        OSError: it is there and cannot be read.
    """
    found: list[int] = []
    pending = [str(directory)]
    while pending and len(found) < bounds.MAX_LEAF_PIDS:
        place = pending.pop()
        try:
            with Path(place, "cgroup.procs").open(encoding="ascii") as procs:
                found.extend(int(line) for line in procs)
        except OSError as error:
            if error.errno not in _NOTHING_HERE:
                raise
        try:
            with os.scandir(place) as entries:
                pending.extend(one.path for one in entries if one.is_dir(follow_symlinks=False))
        except OSError as error:
            if error.errno not in _NOTHING_HERE:
                raise
    return tuple(found)


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
