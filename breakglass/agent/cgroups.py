# SPDX-License-Identifier: Apache-2.0
"""The kernel's look at a container: which processes its control group still has.

It works on cgroup v2, v1 and hybrids, and only reads.  A leaf is found through a process of the
container while that lives, and only taken when the container's full id stands in the path: a
process id may have been given to somebody else since the runtime told it.

What this does not do: kill, freeze or limit anything.
"""

import errno
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from breakglass.agent.kernel import Leaf
from breakglass.core import limits

_PROC = Path("/proc")
_UNIFIED = ""
_NOT_CONTROLLERS = frozenset({"rw", "ro", "xattr", "none", "noprefix", "clone_children", "all"})


_NOTHING_HERE = frozenset(
    {
        errno.ENODEV,  # removed between opening and reading
        errno.EOPNOTSUPP,  # a threaded group: its processes are told by the group above it
    }
)


class CgroupKernel:
    """The kernel of this machine, through /proc and the control-group filesystems.

    Args:
        proc: where proc(5) is mounted.

    The mounts are read once: they do not change while a node runs pods.
    """

    def __init__(self, proc: Path = _PROC) -> None:
        self._proc = proc
        self._mounts = _read_mounts(proc / "self" / "mountinfo")

    def leaf_of(self, pid: int, container_id: str) -> Leaf | None:
        """Return the control group of a container by a process of it, or None when it has none."""
        try:
            text = (self._proc / str(pid) / "cgroup").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None
        for line in sorted(text.splitlines(), key=_unified_first):
            controllers, path = _membership(line)
            mounted = self._mounts.get(controllers)
            own = _cut_at(path, container_id)
            if mounted is not None and own is not None:
                directory = mounted.directory_of(own)
                if directory is not None and directory.is_dir():
                    return Leaf(directory=directory, container_id=container_id)
        return None

    def pids(self, leaf: Leaf) -> tuple[int, ...]:
        """Return the processes in the group and below it; none when the group is gone.

        Raises:
            OSError: the group is there and cannot be read.
        """
        found: list[int] = []
        pending = [leaf.directory]
        while pending and len(found) < limits.MAX_LEAF_PIDS:
            directory = pending.pop()
            try:
                text = (directory / "cgroup.procs").read_text(encoding="ascii")
                pending.extend(entry for entry in directory.iterdir() if entry.is_dir())
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                if error.errno not in _NOTHING_HERE:
                    raise
                continue
            found.extend(int(line) for line in text.split())
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mount:
    """Where a hierarchy is mounted, and which of its groups is seen at the top there."""

    point: Path
    root: PurePosixPath

    def directory_of(self, path: PurePosixPath) -> Path | None:
        return self.point / path.relative_to(self.root) if path.is_relative_to(self.root) else None


def _unified_first(line: str) -> bool:
    return not line.startswith("0::")


def _membership(line: str) -> tuple[str, str]:
    """Return the controllers and the path of a line of /proc/PID/cgroup (cgroups(7))."""
    _, _, rest = line.partition(":")
    controllers, _, path = rest.partition(":")
    return controllers, path


def _cut_at(path: str, container_id: str) -> PurePosixPath | None:
    """Return the path down to the part that names the container, or None when none does.

    The part is the bare id, or the id in a name such as "cri-containerd-<id>.scope".
    """
    whole = re.compile(rf"(?<![0-9a-f]){re.escape(container_id)}(?![0-9a-f])")
    parts = PurePosixPath(path).parts
    for place, part in enumerate(parts):
        if whole.search(part):
            return PurePosixPath(*parts[: place + 1])
    return None


def _read_mounts(mountinfo: Path) -> dict[str, _Mount]:
    """Return the hierarchies by their controllers, "" being cgroup2 (proc(5), mountinfo)."""
    mounts: dict[str, _Mount] = {}
    try:
        text = mountinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return mounts
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        before, after = left.split(" "), right.split(" ")
        mount = _Mount(point=Path(before[4]), root=PurePosixPath(before[3]))
        if after[0] == "cgroup2":
            mounts.setdefault(_UNIFIED, mount)
        elif after[0] == "cgroup":
            options = [one for one in after[2].split(",") if one not in _NOT_CONTROLLERS]
            controllers = [one for one in options if "=" not in one or one.startswith("name=")]
            mounts.setdefault(",".join(controllers), mount)
    return mounts
