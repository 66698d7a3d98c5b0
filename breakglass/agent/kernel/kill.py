# SPDX-License-Identifier: Apache-2.0
"""Kill the processes of one container through the kernel, without the runtime.

    (1) refuse a group that is not a container's below a pod's, or that has a spared process in it
    (2) `cgroup.kill`, where a cgroup2 tree has the group (Linux 5.14)
    (3) freeze - signal - thaw: a frozen process cannot fork; the thaw is in a `finally`
    (4) signal the processes that are left, repeatedly, until the timeout

Spared are the agent, its ancestors, the runtime and kubelet.  Each step runs only while processes
are left, on the container's groups in all trees.  What a crash leaves: after (2) and (4) nothing;
in (3) a frozen group, whose processes die at the next thaw, such as that of the next kill.

A process in uninterruptible sleep (state D) dies only when the sleep ends; until then `pids` lists
it.  A signal goes through a pidfd that is opened before the process's group is checked, so it
cannot hit another process that was given the same id.
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
_RESIGNAL_S = 0.02  # signal again before a process that forks gets far
_KILL_POLL_S = 0.002
_MAX_THAWED = 4_096
_MAX_ANCESTORS = 64
_KUBELET = "kubelet"

Groups = tuple[tuple[str, Path], ...]


class HostKiller:
    """Kills containers' processes on this machine.

    Args:
        hierarchies: the trees of control groups.
        proc: where proc(5) is mounted.
        runtime_pids: returns the container runtime's processes at the time of the call.
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
        """Kill all processes of a container; return when none is left, or at the timeout.

        Raises:
            GateFailed: the group must not be killed (kill-refused); or it cannot be read, or no way
                to kill worked (kill-failed).
        """
        try:
            self._kill(leaf)
        except OSError as error:
            raise GateFailed(
                f"cannot read the processes in {leaf.directory}: {error.strerror}",
                code="kill-failed",
            ) from error

    def describe(self, pid: int) -> str:
        """Return a process's id, state (proc(5)) and name, such as "4711 D fsync"."""
        try:
            stat = (self._proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return f"{pid} gone"
        # The name is in parentheses and may have some itself: the process chooses it.
        before, _, after = stat.rpartition(")")
        name = "".join(one if one.isprintable() else "?" for one in before.partition("(")[2])
        return f"{pid} {after[1:2]} {name}"

    def _kill(self, leaf: Leaf) -> None:
        spared = self._lineage() | self._runtime_pids()
        groups = self._admitted(leaf, spared)
        if not groups:
            return
        end = time.monotonic() + KERNEL_KILL_TIMEOUT_S
        signalled = False
        for way in (_kill_whole, self._kill_frozen, self._signal_all):
            signalled = way(groups, spared) or signalled
            if self._is_emptied(groups, min(end, time.monotonic() + _STEP_S)):
                return
        while time.monotonic() < end:
            signalled = self._signal_all(groups, spared) or signalled
            if self._is_emptied(groups, min(end, time.monotonic() + _RESIGNAL_S)):
                return
        if not signalled:
            raise GateFailed(
                f"cannot kill the processes in {leaf.directory}: every way to kill failed",
                code="kill-failed",
            )

    def _admitted(self, leaf: Leaf, spared: frozenset[int]) -> Groups:
        """Return the container's groups in all trees, once (1) has allowed the kill."""
        path = self._hierarchies.path_of(leaf.directory)
        if path is None and not leaf.directory.is_dir():
            return ()
        depth = hierarchy.pod_depth(path) if path is not None else None
        if path is None or depth is None or depth == len(path.parts) - 1:
            raise GateFailed(
                f"refused to kill {leaf.directory}: it is not a container's group below a pod's",
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
                f"refused to kill {leaf.directory}: it contains processes of the agent, the runtime"
                f" or kubelet: {sorted(own | kubelets)[:8]}",
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
            # proc(5): the state and the parent follow the name, which is in parentheses.
            found.append(int(stat.rpartition(")")[2].split()[1]))
        return frozenset(found)

    def _is_kubelet(self, pid: int, groups: Groups) -> bool:
        """Return whether a process that is in only some of the groups is the node's kubelet.

        A pod's process can call itself kubelet too, but it is in the pod's group in every tree.
        The real kubelet was moved into this group in one tree; in the others it is in no pod.
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
        """Wait until no process is left, at most until `until` on the monotonic clock."""
        while any(hierarchy.pids_below(directory) for _, directory in groups):
            if time.monotonic() >= until:
                return False
            time.sleep(_KILL_POLL_S)
        return True

    def _kill_frozen(self, groups: Groups, spared: frozenset[int]) -> bool:
        """Freeze the container if it has a freezer group, signal its processes, thaw it (3)."""
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
        """Signal every process of the container once; return whether one was signalled (4)."""
        found = {pid for _, directory in groups for pid in hierarchy.pids_below(directory)}
        return sum(self._signal(pid, groups) for pid in sorted(found - spared) if pid > 0) > 0

    def _signal(self, pid: int, groups: Groups) -> bool:
        try:
            line = os.pidfd_open(pid)
        except OSError as error:
            # Linux before 5.3 has no pidfds: signal the process id.
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
    """Make the kernel kill the group and all groups below it at once (2)."""
    top = dict(groups).get(UNIFIED)
    return top is not None and _write(top / "cgroup.kill", "1")


def _thaw(top: Path) -> None:
    """Thaw a group and those below it, which the container may have frozen itself."""
    for directory, _, _ in itertools.islice(os.walk(top), _MAX_THAWED):
        _write(Path(directory) / "freezer.state", "THAWED")


def _sent(send: Callable[[], None]) -> bool:
    try:
        send()
    except OSError:  # the process has ended, or we lack the permission
        return False
    return True


def _write(file: Path, text: str) -> bool:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.write(descriptor, text.encode("ascii"))
        finally:
            os.close(descriptor)
    except OSError:  # missing or not writable: the next way to kill is tried
        return False
    return True


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return ""
