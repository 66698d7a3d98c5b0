# SPDX-License-Identifier: Apache-2.0
"""The trees of control groups on this machine: their mounts, and how groups are named.

Rules:

- A group has one path: the same below the mount of every tree that has it.  The trees used are
  cgroup2 (label "", alone on a v2 host) and, of cgroup v1, pids, freezer and systemd's own.
- A pod's group is known by a name that holds its whole UID: "pod<uid>" by kubelet's cgroupfs
  driver, "<parents>-pod<uid with _>.slice" by its systemd driver.  A static pod's UID is
  32 hexadecimal digits; any other UID is written with dashes.
- A pod's own processes may make groups below the pod, so a name there identifies no pod.

It only reads.  `pod_search` finds which pods have groups now.
"""

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from breakglass.core import bounds

UNIFIED = ""
PIDS = "pids"
FREEZER = "freezer"
SYSTEMD = "name=systemd"
_TREES = (UNIFIED, PIDS, FREEZER, SYSTEMD)

_NOTHING_HERE = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ENODEV,  # removed between opening and reading
        errno.EOPNOTSUPP,  # a threaded group: the group above it lists its processes
    }
)
_NOT_CONTROLLERS = frozenset({"rw", "ro", "xattr", "none", "noprefix", "clone_children", "all"})


def _uid_pattern(dash: str) -> str:
    four = rf"{dash}[0-9a-f]{{4}}"
    return rf"[0-9a-f]{{8}}(?:{four}){{3}}{dash}[0-9a-f]{{12}}|[0-9a-f]{{32}}"


_UID = re.compile(_uid_pattern("-"))
_POD = re.compile(rf"pod({_uid_pattern('-')})")
# The characters of a unit's name (systemd.unit(5)); a slice's name never begins with a dash.
_POD_SLICE = re.compile(rf"(?:[A-Za-z0-9:_.\\]+-)+pod({_uid_pattern('_')})\.slice")
_CONTAINER = re.compile(r"(?:[a-z][a-z0-9]*-)*?([0-9a-f]{64})(?:\.scope)?")
_NOT_A_CONTAINER = "conmon-"  # CRI-O's monitor of a container runs in a scope beside it


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """Where a tree is mounted, and the path of the group at the top of that mount."""

    point: Path
    root: PurePosixPath

    def directory_of(self, path: PurePosixPath) -> Path | None:
        """Return the directory of a group's path in /proc; None when it is not in this mount."""
        return self.point / path.relative_to(self.root) if path.is_relative_to(self.root) else None


class Hierarchies:
    """The mounted trees, read once: they do not change while a node runs pods.

    Args:
        proc: where proc(5) is mounted.
        mountinfo: the file with this process's mounts, in the format of proc(5).
    """

    def __init__(self, proc: Path, mountinfo: Path) -> None:
        self._proc = proc
        self._mounts = _read_mounts(mountinfo)
        self.trees: tuple[tuple[str, Path], ...] = tuple(self._choose_trees())

    def _choose_trees(self) -> Iterator[tuple[str, Path]]:
        taken: set[Path] = set()
        for label in _TREES:
            for controllers, mount in self._mounts.items():
                if label in controllers.split(",") and mount.point not in taken:
                    taken.add(mount.point)
                    yield label, mount.point

    def groups_of(self, pid: int) -> tuple[tuple[str, Path], ...]:
        """Return a process's groups, cgroup2 first: the path in /proc and the directory of each."""
        try:
            text = (self._proc / str(pid) / "cgroup").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ()
        found = []
        for line in sorted(text.splitlines(), key=_unified_first):
            controllers, path = _membership(line)
            mount = self._mounts.get(controllers)
            directory = mount.directory_of(PurePosixPath(path)) if mount is not None else None
            if directory is not None:
                found.append((path, directory))
        return tuple(found)

    def path_of(self, directory: Path) -> PurePosixPath | None:
        """Return a directory's path below the mount of its tree; None when it is in no tree.

        A name with a symlink or ".." in it is in no tree.
        """
        if os.path.realpath(directory) != str(directory):
            return None
        points = [mount.point for mount in self._mounts.values()]
        for point in sorted(points, key=lambda one: len(one.parts), reverse=True):
            if directory.is_relative_to(point):
                return PurePosixPath(directory.relative_to(point))
        return None

    def everywhere(self, directory: Path) -> tuple[tuple[str, Path], ...]:
        """Return a group's directories in all trees that have it, given any one of them."""
        path = self.path_of(directory)
        found = self.at(path) if path is not None else ()
        if directory.is_dir() and directory not in {one for _, one in found}:
            return (("?", directory), *found)  # a tree without a label, such as cpu
        return found

    def at(self, path: PurePosixPath | str) -> tuple[tuple[str, Path], ...]:
        """Return the directories of a path in all trees that have it."""
        places = ((label, point / path) for label, point in self.trees)
        return tuple((label, place) for label, place in places if _is_directory(place))


def pod_uid_of(name: str) -> str | None:
    """Return the pod UID in the name of a pod's group; None for any other name."""
    if plain := _POD.fullmatch(name):
        return plain[1]
    if in_slice := _POD_SLICE.fullmatch(name):
        return in_slice[1].replace("_", "-")
    return None


def pod_name_below(parent: str, uid: str) -> str:
    """Return the name of a pod's group in a directory that is called `parent`."""
    if parent.endswith(".slice"):
        return f"{parent.removesuffix('.slice')}-pod{uid.replace('-', '_')}.slice"
    return f"pod{uid}"


def is_uid(text: str) -> bool:
    """Return whether a text has the form of a pod's UID."""
    return _UID.fullmatch(text) is not None


def container_id_of(name: str) -> str | None:
    """Return the container id in the name of a container's group; None for any other name.

    The name is the id alone, or a scope's such as "cri-containerd-<id>.scope" (systemd driver).
    """
    found = _CONTAINER.fullmatch(name)
    return found[1] if found is not None and _NOT_A_CONTAINER not in name else None


def pod_depth(path: PurePosixPath) -> int | None:
    """Return the index of the first part of a path that names a pod; None when none does."""
    for index, part in enumerate(path.parts):
        if pod_uid_of(part) is not None:
            return index
    return None


def slice_path(name: str) -> PurePosixPath:
    """Return the path of a slice from its name: each dash is one level (systemd.slice(5))."""
    parts = name.removesuffix(".slice").split("-")
    return PurePosixPath(*("-".join(parts[:end]) + ".slice" for end in range(1, len(parts) + 1)))


def pids_below(directory: Path) -> tuple[int, ...]:
    """Return the processes in a group and below it, up to `bounds.MAX_LEAF_PIDS`.

    Raises:
        OSError: the group exists and cannot be read.
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


def _is_directory(place: Path) -> bool:
    return place.is_dir() and not place.is_symlink()


def _unified_first(line: str) -> bool:
    return not line.startswith("0::")


def _membership(line: str) -> tuple[str, str]:
    """Return the controllers and the path of a line of /proc/PID/cgroup (cgroups(7))."""
    _, _, rest = line.partition(":")
    controllers, _, path = rest.partition(":")
    return controllers, path


def _read_mounts(mountinfo: Path) -> dict[str, Mount]:
    """Return the mounts by their controllers, "" for cgroup2 (proc(5), mountinfo)."""
    mounts: dict[str, Mount] = {}
    try:
        text = mountinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return mounts
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        before, after = left.split(" "), right.split(" ")
        mount = Mount(point=Path(before[4]), root=PurePosixPath(before[3]))
        if after[0] == "cgroup2":
            mounts.setdefault(UNIFIED, mount)
        elif after[0] == "cgroup":
            options = [one for one in after[2].split(",") if one not in _NOT_CONTROLLERS]
            controllers = [one for one in options if "=" not in one or one.startswith("name=")]
            mounts.setdefault(",".join(controllers), mount)
    return mounts
