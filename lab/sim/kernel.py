# SPDX-License-Identifier: Apache-2.0
"""The agent's kernel ports over the control groups of a simulated node.

They call `Files`: the simulated kernel itself, in virtual time, or one in another process
(`lab.sim.remote`).  They are not for real nodes: the paths are below a root that no machine has.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from breakglass.agent.kernel.port import Kernel, Leaf, PodGroup
from breakglass.core.gates import Gate, Limit, Oci, choose_limits, gate_of
from breakglass.errors import GateFailed
from breakglass.sim.kernel import DESCENDANTS, PIDS, Host

_CLOSED = {Gate.DESCENDANTS: "0", Gate.PIDS: "0", Gate.PROPERTY: "1"}
_OPEN = {Gate.DESCENDANTS: "max", Gate.PIDS: "max", Gate.PROPERTY: "infinity"}


class Files(Protocol):
    """The calls that a simulated kernel answers."""

    def groups(self) -> tuple[tuple[str, int], ...]:
        """Return UID and inode of each pod's group."""
        ...

    def leaves(self, uid: str) -> tuple[str, ...]:
        """Return the ids of the running containers of a pod, its sandbox included."""
        ...

    def group_of(self, pid: int) -> str:
        """Return the directory of a process's group."""
        ...

    def read(self, place: str) -> str:
        """Return a limit's value."""
        ...

    def write(self, place: str, value: str) -> None:
        """Set a limit."""
        ...

    def probe(self, directory: str) -> None:
        """Make a group below `directory` and remove it; raise OSError if a limit forbids it."""
        ...

    def pids(self, directory: str) -> tuple[int, ...]:
        """Return the processes of a group."""
        ...

    def kill(self, directory: str) -> None:
        """Kill the processes of a group."""
        ...

    def reset_failed(self, uid: str) -> int:
        """Reset a pod's failed scopes."""
        ...


class SimulatedKernel:
    """All three kernel ports of `breakglass.agent.kernel.port` on a simulated node."""

    def __init__(self, files: Files, host: Host) -> None:
        self._files = files
        self._host = host

    def leaf_of(self, pid: int, container_id: str) -> Leaf | None:
        """Return the group of a container, found through one of its processes."""
        directory = self._files.group_of(pid) if pid else ""
        if not directory.endswith(f"/{self._host.leaf(container_id)}"):
            return None
        return Leaf(directory=Path(directory), container_id=container_id)

    def pids(self, leaf: Leaf) -> tuple[int, ...]:
        """Return the processes of a container."""
        return tuple(self._files.pids(str(leaf.directory)))

    def describe(self, pid: int) -> str:
        """Return a process's id, state and name."""
        return f"{pid} S simulated"

    def pod_groups(self) -> tuple[PodGroup, ...]:
        """Return the groups of all pods."""
        return tuple(self._pod_group(uid, inode) for uid, inode in self._files.groups())

    def pod_group(self, uid: str, hint: str = "") -> PodGroup | None:
        """Return one pod's group; raise `GateFailed` if the hint names another group."""
        if hint and hint != f"/{self._host.path(uid)}":
            raise GateFailed(f"{hint} is not the group of pod {uid}", code="cgroup-mismatch")
        return next((one for one in self.pod_groups() if one.uid == uid), None)

    def leaves(self, group: PodGroup) -> tuple[Leaf, ...]:
        """Return the groups of a pod's running containers."""
        parent = group.trees[0][1]
        return tuple(
            Leaf(directory=parent / self._host.leaf(one), container_id=one)
            for one in self._files.leaves(group.uid)
        )

    def ports(self) -> Kernel:
        """Return this object as the three ports that an agent takes."""
        return Kernel(groups=self, limits=self, killer=self)

    def current(self, group: PodGroup, oci: Oci, *, early: bool = False) -> tuple[Limit, ...]:
        """Return the limits that can hold this pod (or the early ones) with their values now."""
        found = []
        for belt in choose_limits(group.layout, is_slice=group.is_slice, oci=oci):
            place = _place(group, belt.kind)
            old = self._value(place)
            if old is not None and (belt.early or not early):
                old = _OPEN[belt.kind] if old == _CLOSED[belt.kind] else old
                found.append(Limit(kind=belt.kind, place=place, old=old, early=belt.early))
        return tuple(found)

    def set_limit(self, group: PodGroup, limit: Limit) -> None:
        """Set one limit and read it back."""
        self._put(group, limit, _CLOSED[limit.kind])

    def standing(self, group: PodGroup, limits: tuple[Limit, ...], oci: Oci) -> Gate:
        """Return which gate is proven to hold now."""
        kinds = frozenset(
            one.kind for one in limits if one.place == _place(group, one.kind) and self._stands(one)
        )
        return gate_of(group.layout, is_slice=group.is_slice, oci=oci, standing=kinds)

    def changed(self, group: PodGroup, limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
        """Return the limits that another process has changed."""
        del group
        return tuple(
            one for one in limits if self._value(one.place) not in {None, _CLOSED[one.kind]}
        )

    def lift(self, group: PodGroup, limit: Limit) -> None:
        """Restore one limit's old value and read it back."""
        self._put(group, limit, limit.old)

    def kill(self, leaf: Leaf) -> None:
        """Kill all processes of a container."""
        if leaf.directory.name != self._host.leaf(leaf.container_id):
            raise GateFailed(
                f"{leaf.directory} is not the group of a container", code="kill-refused"
            )
        with _failing("kill-failed"):
            self._files.kill(str(leaf.directory))

    def parents(self) -> tuple[Path, ...]:
        """Return the directories in which pods' groups are made."""
        return tuple(map(Path, self._host.born_in()))

    def reset_failed(self, group: PodGroup) -> int:
        """Reset the failed scopes of this pod."""
        return self._files.reset_failed(group.uid)

    def _pod_group(self, uid: str, inode: int) -> PodGroup:
        path = self._host.path(uid)
        trees = tuple((label, Path(tree) / path) for label, tree in self._host.trees)
        return PodGroup(uid=uid, path=path, layout=self._host.layout, trees=trees, inode=inode)

    def _value(self, place: str) -> str | None:
        try:
            return self._files.read(place)
        except FileNotFoundError:
            return None

    def _put(self, group: PodGroup, limit: Limit, value: str) -> None:
        if limit.place != _place(group, limit.kind):
            what = f"{limit.place} is not a limit of {group.path}"
            raise GateFailed(what, code="cgroup-mismatch")
        with _failing("gate-unwritable"):
            try:
                self._files.write(limit.place, value)
            except FileNotFoundError:
                return  # the pod is gone
            got = self._value(limit.place)
        if got not in {None, value}:
            what = f"wrote {value} to {limit.place} and read back {got}"
            raise GateFailed(what, code="gate-not-standing")

    def _stands(self, limit: Limit) -> bool:
        if limit.kind is not Gate.DESCENDANTS:
            return self._value(limit.place) == _CLOSED[limit.kind]
        try:
            self._files.probe(limit.place.removesuffix(f"/{DESCENDANTS}"))
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False


def _place(group: PodGroup, kind: Gate) -> str:
    trees = dict(group.trees)
    match kind:
        case Gate.DESCENDANTS:
            return f"{trees['']}/{DESCENDANTS}"
        case Gate.PIDS:
            return f"{trees.get('pids', group.trees[0][1])}/{PIDS}"
        case _:
            return group.path.rpartition("/")[2]


@contextmanager
def _failing(code: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise GateFailed(f"the kernel refused: {error}", code=code) from error
