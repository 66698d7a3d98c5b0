# SPDX-License-Identifier: Apache-2.0
"""The ports to the kernel's control groups: find groups, set limits on them, kill containers.

Rules for every implementation, held by one conformance suite (tests/contract/test_kernel.py):

- a group is a pod's only when its name has the pod's whole UID, so no other group is touched;
- a group, limit or process that is gone is an answer (None, (), nothing to do), not an error;
- every method is synchronous.  `GroupLimits.current`, `set_limit`, `lift` and `reset_failed`, and
  `Killer.kill`, may block for up to a second: call them in a thread;
- `kill` takes container leaves only, never a pod.  It refuses a group that contains the agent, one
  of the agent's ancestors, the runtime or kubelet.

Errors: `GateFailed` with a stable code: cgroup-mismatch (a path that is not this pod's),
gate-unwritable, gate-not-standing, kill-refused, kill-failed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from breakglass.core.gates import Gate, Layout, Limit, Oci


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A container's own control group: its directory in one of the trees."""

    directory: Path
    container_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodGroup:
    """A pod's control group: the same path in every tree that has it.

    Attributes:
        uid: the pod's UID, with dashes, as the runtime gives it.
        path: below the trees' mounts, such as "kubepods/besteffort/pod<uid>".
        layout: which kinds of trees have it.
        trees: each tree's label and the group's directory in it; "" is cgroup2.
        inode: of the first directory; another inode is another group of the same name.
    """

    uid: str
    path: str
    layout: Layout
    trees: tuple[tuple[str, Path], ...]
    inode: int

    @property
    def is_slice(self) -> bool:
        """Whether systemd made the group."""
        return self.path.endswith(".slice")


class PodGroups(Protocol):
    """Finds the control groups of pods and containers; it changes nothing."""

    def pod_groups(self) -> tuple[PodGroup, ...]:
        """Return the groups of all pods, wherever kubelet's root is; cheap enough every second."""
        ...

    def pod_group(self, uid: str, hint: str = "") -> PodGroup | None:
        """Return one pod's group, or None when the pod has none now.

        Args:
            uid: the pod's UID.
            hint: the path in the runtime's status (cgroup_parent), tried first; "" for none.  A
                path that does not end in this pod's UID raises (cgroup-mismatch).
        """
        ...

    def parents(self) -> tuple[Path, ...]:
        """Return the directories in which kubelet makes pods' groups, to watch with inotify."""
        ...

    def leaves(self, group: PodGroup) -> tuple[Leaf, ...]:
        """Return the groups of a pod's containers and of its sandbox, with their ids."""
        ...

    def leaf_of(self, pid: int, container_id: str) -> Leaf | None:
        """Return a container's group, found through one of its processes; None when not found."""
        ...

    def pids(self, leaf: Leaf) -> tuple[int, ...]:
        """Return the processes in a container's group and below; () when the group is gone."""
        ...


class GroupLimits(Protocol):
    """Reads, sets, verifies and restores the limits on pods' groups."""

    def current(self, group: PodGroup, oci: Oci, *, early: bool = False) -> tuple[Limit, ...]:
        """Return the limits that would hold this pod, with their present values.

        With `early`, return only the limits that are set before anything is stopped: a new pod
        leaves no time to ask systemd for the others.

        A value that a gate sets (0, TasksMax 1) is returned as "max" or "infinity": an earlier gate
        left it, and restoring it would gate the pod forever.
        """
        ...

    def set_limit(self, group: PodGroup, limit: Limit) -> None:
        """Set one limit and verify that it reads back."""
        ...

    def standing(self, group: PodGroup, limits: tuple[Limit, ...], oci: Oci) -> Gate:
        """Return which gate is verified to hold now; `WATCH_ONLY` when none does.

        `cgroup.max.descendants` is verified by a mkdir that must fail with EAGAIN, the other
        limits by reading.
        """
        ...

    def changed(self, group: PodGroup, limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
        """Return the limits that another process has changed; it only reads files: cheap."""
        ...

    def lift(self, group: PodGroup, limit: Limit) -> None:
        """Restore one limit's old value and verify that it reads back."""
        ...

    def reset_failed(self, group: PodGroup) -> int:
        """Reset the failed scopes that crun left in this pod's slice; return their number."""
        ...


class Killer(Protocol):
    """Kills the processes of containers and describes those that are left."""

    def kill(self, leaf: Leaf) -> None:
        """Kill all processes of a container through the kernel; wait at most a second for the end.

        It returns also when processes are left (state D); `PodGroups.pids` lists them.
        """
        ...

    def describe(self, pid: int) -> str:
        """Return a process's id, state (proc(5)) and name, such as "4711 D fsync"."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One machine's kernel as three ports; each wing takes the ports that it needs."""

    groups: PodGroups
    limits: GroupLimits
    killer: Killer
