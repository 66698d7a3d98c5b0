# SPDX-License-Identifier: Apache-2.0
"""Killing the processes of one container by the kernel, with nobody else's help.

    (1) refuse what is not a container's group below a pod's, or has one of ours in it
    (2) `cgroup.kill`, where a cgroup2 tree has the group (Linux 5.14)
    (3) freeze - signal - thaw: nothing forks away meanwhile; the thaw comes whatever happens
    (4) signal what is left, again and again, until the time is up

Each step is only taken while processes are left.  The groups of one container in all trees are one
container.  What a crash after each leaves: after (2) and (4) nothing; in (3) a frozen group whose
processes die when the next kill, or anybody, thaws it.

A process may be immune: in uninterruptible sleep (state D) it dies when that ends.  It is left, and
`pids` tells.  A process id is signalled through a pidfd after its group has been read, so that one
given away meanwhile is not hit.
"""

import errno
import itertools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from breakglass.agent.kernel import hierarchy
from breakglass.agent.kernel.hierarchy import FREEZER, UNIFIED, Hierarchies
from breakglass.agent.kernel.port import Leaf
from breakglass.errors import GateFailed

KERNEL_KILL_TIMEOUT_S = 0.5  # 10-40 ms when healthy
_STEP_S = 0.15
_FREEZE_S = 0.1
_ROUND_S = 0.02  # whoever forks is signalled again before it gets far
_KILL_POLL_S = 0.002
_MAX_THAWED = 4_096
_MAX_ANCESTORS = 64
_KUBELET = "kubelet"

Groups = tuple[tuple[str, Path], ...]


class HostKiller:
    """What kills containers.

    Args:
        hierarchies: the trees of control groups.
        proc: where proc(5) is mounted.
        runtime_pids: gives the processes of the container runtime as they are now.
    """

    def __init__(
        self,
        hierarchies: Hierarchies,
        proc: Path,
        runtime_pids: Callable[[], frozenset[int]],
    ) -> None:
        self._hierarchies = hierarchies
        self._proc = proc
        self._runtime_pids = runtime_pids

    def kill(self, leaf: Leaf) -> None:
        """Kill all processes of a container; return when none is left or the time is up.

        Raises:
            GateFailed: it must not be killed (kill-refused), or it cannot be looked into, or the
                kernel took no order at all (kill-failed).
        """
        try:
            self._kill(leaf)
        except OSError as error:
            raise GateFailed(
                f"expected to read what is in {leaf.directory}, got {error.strerror}",
                code="kill-failed",
            ) from error

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

    def _kill(self, leaf: Leaf) -> None:
        spared = self._lineage() | self._runtime_pids()
        groups = self._admitted(leaf, spared)
        if not groups:
            return
        end = time.monotonic() + KERNEL_KILL_TIMEOUT_S
        reached = False
        for way in (_kill_whole, self._kill_frozen, self._signal_all):
            reached = way(groups, spared) or reached
            if self._is_emptied(groups, min(end, time.monotonic() + _STEP_S)):
                return
        while time.monotonic() < end:
            reached = self._signal_all(groups, spared) or reached
            if self._is_emptied(groups, min(end, time.monotonic() + _ROUND_S)):
                return
        if not reached:
            raise GateFailed(
                f"expected to kill what is in {leaf.directory}, got no way to", code="kill-failed"
            )

    def _admitted(self, leaf: Leaf, spared: frozenset[int]) -> Groups:
        """Return the container's groups once it is clear that it may be killed (1)."""
        path = self._hierarchies.path_of(leaf.directory)
        if path is None and not leaf.directory.is_dir():
            return ()
        depth = hierarchy.pod_depth(path) if path is not None else None
        if path is None or depth is None or depth == len(path.parts) - 1:
            raise GateFailed(
                f"expected a container's control group below its pod's, got {leaf.directory}",
                code="kill-refused",
            )
        groups = self._hierarchies.everywhere(leaf.directory)
        each = [frozenset(hierarchy.pids_below(directory)) for _, directory in groups]
        present = frozenset[int]().union(*each)
        own = present & spared
        partly = present - present.intersection(*each)
        kubelets = {pid for pid in partly if self._is_kubelet(pid, groups)}
        if own or kubelets:
            raise GateFailed(
                f"expected only a container's own processes in {leaf.directory},"
                f" got the agent's, the runtime's or kubelet's: {sorted(own | kubelets)[:8]}",
                code="kill-refused",
            )
        return groups

    def _lineage(self) -> frozenset[int]:
        """Return this process and its ancestors."""
        found = [os.getpid()]
        while found[-1] > 0 and len(found) < _MAX_ANCESTORS:
            try:
                stat = (self._proc / str(found[-1]) / "stat").read_text(errors="replace")
            except OSError:
                break
            # proc(5): after the name, which stands in parentheses, come the state and the parent.
            found.append(int(stat.rpartition(")")[2].split()[1]))
        return frozenset(found)

    def _is_kubelet(self, pid: int, groups: Groups) -> bool:
        """Tell whether a process that is only in some of the groups is the node's kubelet.

        Whoever is inside a pod may call itself so, and is in its group in every tree; the real one
        was moved here in one tree, and is in no pod in the others.
        """
        try:
            name = (self._proc / str(pid) / "comm").read_text(errors="replace").strip()
        except OSError:
            return False
        here = [directory for _, directory in groups]
        return name == _KUBELET and all(
            hierarchy.pod_depth(PurePosixPath(path)) is None
            for path, directory in self._hierarchies.groups_of(pid)
            if not any(directory.is_relative_to(one) for one in here)
        )

    def _is_emptied(self, groups: Groups, until: float) -> bool:
        """Wait until no process is left, not beyond `until` on the monotonic clock."""
        while any(hierarchy.pids_below(directory) for _, directory in groups):
            if time.monotonic() >= until:
                return False
            time.sleep(_KILL_POLL_S)
        return True

    def _kill_frozen(self, groups: Groups, spared: frozenset[int]) -> bool:
        """Freeze the container where that can be done, signal it, and thaw it (3)."""
        top = dict(groups).get(FREEZER)
        if top is None:
            return False
        try:
            if _write(top / "freezer.state", "FROZEN"):
                end = time.monotonic() + _FREEZE_S
                while _read(top / "freezer.state") == "FREEZING" and time.monotonic() < end:
                    time.sleep(_KILL_POLL_S)
            return self._signal_all(groups, spared)
        finally:
            _thaw(top)

    def _signal_all(self, groups: Groups, spared: frozenset[int]) -> bool:
        """Signal every process of the container once; tell whether one was reached (4)."""
        found = {pid for _, directory in groups for pid in hierarchy.pids_below(directory)}
        return sum(self._signal(pid, groups) for pid in sorted(found - spared) if pid > 0) > 0

    def _signal(self, pid: int, groups: Groups) -> bool:
        try:
            line = os.pidfd_open(pid)
        except OSError as error:
            # Before Linux 5.3 there are none: the number has to do.
            if error.errno == errno.ENOSYS and self._is_in(pid, groups):
                return _sent(lambda: os.kill(pid, signal.SIGKILL))
            return False
        try:
            if not self._is_in(pid, groups):
                return False
            return _sent(lambda: signal.pidfd_send_signal(line, signal.SIGKILL))
        finally:
            os.close(line)

    def _is_in(self, pid: int, groups: Groups) -> bool:
        return any(
            directory.is_relative_to(own)
            for _, directory in self._hierarchies.groups_of(pid)
            for _, own in groups
        )


def _kill_whole(groups: Groups, _: frozenset[int]) -> bool:
    """Let the kernel kill the group and all below it at once (2)."""
    top = dict(groups).get(UNIFIED)
    return top is not None and _write(top / "cgroup.kill", "1")


def _thaw(top: Path) -> None:
    """Thaw a group and those below it, which a container may have frozen itself."""
    for directory, _, _ in itertools.islice(os.walk(top), _MAX_THAWED):
        _write(Path(directory) / "freezer.state", "THAWED")


def _sent(send: Callable[[], None]) -> bool:
    try:
        send()
    except OSError:  # it ended meanwhile, or we may not
        return False
    return True


def _write(file: Path, text: str) -> bool:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.write(descriptor, text.encode("ascii"))
        finally:
            os.close(descriptor)
    except OSError:  # not there, or not ours to write: another way is tried
        return False
    return True


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return ""
