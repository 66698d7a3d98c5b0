# SPDX-License-Identifier: Apache-2.0
"""The ports to the kernel's control groups: finding groups, setting limits on them, killing.

Rules for every implementation, held by one conformance suite (tests/contract/test_kernel.py):

- a group is a pod's only when the pod's whole UID is its name, so that no other group is touched;
- what is not there any more is an answer (None, (), nothing to do), not an error;
- every method is synchronous; `GroupLimits.current`, `set_limit`, `lift` and `reset_failed`, and
  `Killer.kill`, may block for up to a second and are called in a thread;
- `kill` takes container leaves only, never a pod, and refuses a group that has the agent, one of
  its ancestors, the runtime or kubelet in it.

Errors: `GateFailed`, with a stable code: cgroup-mismatch (a path that is not this pod's),
gate-unwritable, gate-not-standing, kill-refused, kill-failed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from breakglass.core.gates import Gate, Layout, Limit, Oci


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A container's own control group, as a directory of one hierarchy."""

    directory: Path
    container_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodGroup:
    """A pod's control group: the same path in each hierarchy that has it.

    Attributes:
        uid: the pod's UID, with dashes, as the runtime has it.
        path: below the hierarchies' mounts, such as "kubepods/besteffort/pod<uid>".
        layout: which kinds of trees have it.
        trees: hierarchy and directory; "" is cgroup2.
        inode: of the first tree's directory: another one is another group of the same name.
    """

    uid: str
    path: str
    layout: Layout
    trees: tuple[tuple[str, Path], ...]
    inode: int

    @property
    def is_slice(self) -> bool:
        """Whether systemd made it."""
        return self.path.endswith(".slice")


class PodGroups(Protocol):
    """Finds the control groups of pods and containers; changes nothing."""

    def pod_groups(self) -> tuple[PodGroup, ...]:
        """Return the groups of all pods, wherever kubelet's root is; cheap enough every second."""
        ...

    def pod_group(self, uid: str, hint: str = "") -> PodGroup | None:
        """Return one pod's group, or None when it has none now.

        Args:
            uid: the pod's UID.
            hint: the path that the runtime's own status gives (cgroup_parent), "" for none: tried
                first; one that does not end in this pod's UID raises (cgroup-mismatch).
        """
        ...

    def parents(self) -> tuple[Path, ...]:
        """Return the directories in which new pods' groups appear, for inotify."""
        ...

    def leaves(self, group: PodGroup) -> tuple[Leaf, ...]:
        """Return the containers' groups below a pod's, its sandbox's among them, by their ids."""
        ...

    def leaf_of(self, pid: int, container_id: str) -> Leaf | None:
        """Return the control group of a container by a process of it, or None when it has none."""
        ...

    def pids(self, leaf: Leaf) -> tuple[int, ...]:
        """Return the processes in the group and below it; none when the group is gone."""
        ...


class GroupLimits(Protocol):
    """Reads, sets, proves and puts back the limits on pods' groups."""

    def current(self, group: PodGroup, oci: Oci, *, early: bool = False) -> tuple[Limit, ...]:
        """Return the limits that would hold this pod, with their values as they are now.

        With `early` only those that are set before anything is stopped: for a new pod there is no
        time to ask systemd for the others.

        A value that is the gate's own already (0, TasksMax 1) is given as "max"/"infinity": it is a
        leftover, and putting it back would gate the pod forever.
        """
        ...

    def set_limit(self, group: PodGroup, limit: Limit) -> None:
        """Set one limit and read it back."""
        ...

    def standing(self, group: PodGroup, limits: tuple[Limit, ...], oci: Oci) -> Gate:
        """Return which gate is proven to hold now, `WATCH_ONLY` when none.

        Descendants are proven by a mkdir that fails with EAGAIN; the rest by reading.
        """
        ...

    def changed(self, group: PodGroup, limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
        """Return the limits that somebody else has changed, by reading alone: cheap."""
        ...

    def lift(self, group: PodGroup, limit: Limit) -> None:
        """Put one limit's old value back and read it back."""
        ...

    def reset_failed(self, group: PodGroup) -> int:
        """Reset the failed scopes that crun left in this pod's slice; return how many."""
        ...


class Killer(Protocol):
    """Kills the processes of containers, and says what is left of them."""

    def kill(self, leaf: Leaf) -> None:
        """Kill all processes of a container by the kernel; wait shortly until none is left.

        Returns also when some are left (D state): `PodGroups.pids` tells.
        """
        ...

    def describe(self, pid: int) -> str:
        """Return a process's id, its state by proc(5) and its name, such as "4711 D fsync"."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One machine's kernel, as three ports: each wing takes those that it needs."""

    groups: PodGroups
    limits: GroupLimits
    killer: Killer
