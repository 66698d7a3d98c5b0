# SPDX-License-Identifier: Apache-2.0
"""Find the control groups of pods wherever kubelet's root is, cheaply enough for every second.

    parents unknown -> walk the trees for "kubepods" (bounded in directories and depth)
    parents known   -> list only them: kubepods, its besteffort and its burstable
    every 30th look -> walk again: kubelet may have been given another root

Rules, so that no group made by a pod or a user is taken for a pod:

- a walk never enters a group of a pod or a container, nor one that belongs to another user than
  the tree does (systemd delegates groups to users), and follows no symlinks;
- a path from the runtime is accepted only when its last part has the pod's own UID, and no part
  before it names a pod.

It changes nothing.  A group is cached while its directory has the same inode and the group is
complete, that is, in every tree that has its parent: kubelet makes a pod's groups tree by tree.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path, PurePosixPath

from breakglass.agent.kernel import hierarchy
from breakglass.agent.kernel.hierarchy import PIDS, SYSTEMD, UNIFIED, Hierarchies
from breakglass.agent.kernel.port import PodGroup
from breakglass.core.gates import Layout
from breakglass.errors import GateFailed

_LOOKS_PER_WALK = 30
_MAX_WALKED = 4_096  # directories; a busy node has about 300 above its pods
_MAX_DEPTH = 12
_MAX_POD_GROUPS = 10_000  # listed in one look; kubelet's default is 110 pods
_MAX_LEARNED = 16
_ROOT = "kubepods"
_CLASSES = ("besteffort", "burstable")  # guaranteed pods are in kubepods itself
# Trees by driver, the first that has all its pods first.  Controllers may be missing from a group.
_CGROUPFS_TREES = (PIDS, UNIFIED, SYSTEMD)
_SYSTEMD_TREES = (SYSTEMD, UNIFIED, PIDS)


class PodSearch:
    """Finds the groups of this machine's pods; it caches the parents of those groups."""

    def __init__(self, hierarchies: Hierarchies) -> None:
        self._hierarchies = hierarchies
        self._points = dict(hierarchies.trees)
        self._parents: tuple[PurePosixPath, ...] = ()
        self._learned: tuple[PurePosixPath, ...] = ()
        self._looks = 0
        self._seen: dict[str, PodGroup] = {}

    def every(self) -> tuple[PodGroup, ...]:
        """Return the groups of all pods."""
        found: list[PodGroup] = []
        whole: dict[str, PodGroup] = {}
        for parent in self._known():
            labels = {label for label, _ in self._hierarchies.at(parent)}
            for name, inode in self._pods_in(parent):
                path = f"{parent}/{name}"
                group = self._seen.get(path)
                if group is None or group.inode != inode:
                    group = self._group(PurePosixPath(path))
                if group is None or len(found) == _MAX_POD_GROUPS:
                    continue
                found.append(group)
                # Cache only a group in all trees of its parent; kubelet is still making any other.
                if group.inode == inode and len(group.trees) == len(labels):
                    whole[path] = group
        self._seen = whole
        return tuple(found)

    def one(self, uid: str, hint: str) -> PodGroup | None:
        """Return a pod's group by its UID: at the runtime's hint, or below a known parent.

        Raises:
            GateFailed: the hint is not this pod's path (cgroup-mismatch).
        """
        if hint:
            path = _believed(uid, hint)
            group = self._group(path)
            if group is not None:
                self._learn(path.parent)
                return group
        if not hierarchy.is_uid(uid):
            return None
        paths = [
            parent / hierarchy.pod_name_below(parent.name, uid) for parent in self._parents_now()
        ]
        seen = (self._same_as_seen(str(path)) for path in paths)
        made = (self._note(self._group(path)) for path in paths)
        return next((group for group in chain(seen, made) if group is not None), None)

    def _note(self, group: PodGroup | None) -> PodGroup | None:
        """Cache a complete group: one in every tree that has its parent; return the group."""
        if group is not None:
            parent = PurePosixPath(group.path).parent
            if len(group.trees) == len(self._hierarchies.at(parent)):
                if len(self._seen) >= _MAX_POD_GROUPS:
                    self._seen.clear()
                self._seen[group.path] = group
        return group

    def parents(self) -> tuple[Path, ...]:
        """Return the directories in which kubelet makes pods' groups, in each tree."""
        if not self._parents:
            self._walk()
        labels = (UNIFIED, PIDS, SYSTEMD)
        return tuple(
            place
            for parent in (*self._parents, *self._learned)
            for label, place in self._hierarchies.at(parent)
            if label in labels
        )

    def _known(self) -> tuple[PurePosixPath, ...]:
        """Return the parents for a look at all pods; walk again at every 30th look."""
        self._looks += 1
        if self._looks % _LOOKS_PER_WALK == 0:
            self._walk()
        return self._parents_now()

    def _parents_now(self) -> tuple[PurePosixPath, ...]:
        """Return the known parents; walk first when none is known."""
        if not self._parents:
            self._walk()
        return (*self._parents, *self._learned)

    def _same_as_seen(self, path: str) -> PodGroup | None:
        """Return the cached group at a path, if its directory still has the same inode."""
        group = self._seen.get(path)
        if group is None:
            return None
        try:
            found = os.lstat(group.trees[0][1])
        except OSError:
            return None
        return group if found.st_ino == group.inode else None

    def _learn(self, parent: PurePosixPath) -> None:
        if parent not in self._parents and parent not in self._learned:
            self._learned = (*self._learned, parent)[-_MAX_LEARNED:]

    def _pods_in(self, parent: PurePosixPath) -> Iterator[tuple[str, int]]:
        """Yield the pods below a parent, from the first tree that surely has them all.

        Each comes with its inode in the first mounted tree, which is its `PodGroup.inode`.
        """
        first = self._hierarchies.trees[0][0] if self._hierarchies.trees else UNIFIED
        for label in _trees_for(parent):
            listed = self._listed(label, parent)
            if listed is None:
                continue
            counted = listed if label == first else self._listed(first, parent) or {}
            for name, inode in listed.items():
                if hierarchy.pod_uid_of(name):
                    yield name, counted.get(name, inode)
            return

    def _listed(self, label: str, parent: PurePosixPath) -> dict[str, int] | None:
        """Return the directories below a parent in one tree, with inodes; None if it is missing."""
        point = self._points.get(label)
        if point is None:
            return None
        try:
            with os.scandir(f"{point}/{parent}") as entries:
                return {one.name: one.inode() for one in entries if _is_directory(one)}
        except OSError:  # this tree does not have the parent, or no longer has it
            return None

    def _group(self, path: PurePosixPath) -> PodGroup | None:
        """Return the group at a pod's path as it is now; None when no tree has it."""
        uid = hierarchy.pod_uid_of(path.name)
        if uid is None or path.name != hierarchy.pod_name_below(path.parent.name, uid):
            return None  # systemd puts the parent slice's name before a slice's own
        trees = self._hierarchies.at(path)
        if not trees:
            return None
        try:
            inode = trees[0][1].stat().st_ino
        except OSError:
            return None
        return PodGroup(
            uid=uid,
            path=str(path),
            layout=_layout({label for label, _ in trees}),
            trees=trees,
            inode=inode,
        )

    def _walk(self) -> None:
        """Search for kubelet's roots; keep the known parents while no root is found."""
        for label in (PIDS, SYSTEMD, UNIFIED):
            point = self._points.get(label)
            roots = tuple(_roots_below(point)) if point is not None else ()
            if roots:
                self._parents = tuple(parent for root in roots for parent in _with_classes(root))
                break
        else:
            self._parents = tuple(one for one in self._parents if self._hierarchies.at(one))
        self._learned = tuple(
            one for one in self._learned if one not in self._parents and self._hierarchies.at(one)
        )


def _is_directory(entry: "os.DirEntry[str]") -> bool:
    return entry.is_dir(follow_symlinks=False)


def _believed(uid: str, hint: str) -> PurePosixPath:
    """Return the path in the runtime's hint; raise `GateFailed` unless it is this pod's."""
    name = hint.rpartition("/")[2]
    path = PurePosixPath(hint.lstrip("/"))
    if name == hint and name.endswith(".slice"):
        path = hierarchy.slice_path(name)
    depth = hierarchy.pod_depth(path)
    is_last = depth is not None and depth == len(path.parts) - 1
    if ".." in path.parts or "\0" in hint or not is_last or hierarchy.pod_uid_of(path.name) != uid:
        raise GateFailed(
            f"refused the control group {hint[:256]!r}: it is not pod {uid}'s",
            code="cgroup-mismatch",
        )
    return path


def _layout(labels: set[str]) -> Layout:
    if UNIFIED not in labels:
        return Layout.LEGACY
    return Layout.UNIFIED if labels == {UNIFIED} else Layout.HYBRID


def _trees_for(parent: PurePosixPath) -> tuple[str, ...]:
    return _SYSTEMD_TREES if parent.name.endswith(".slice") else _CGROUPFS_TREES


def _is_root(name: str) -> bool:
    return name in {_ROOT, f"{_ROOT}.slice"} or name.endswith(f"-{_ROOT}.slice")


def _with_classes(root: PurePosixPath) -> Iterable[PurePosixPath]:
    yield root
    for name in _CLASSES:
        if root.name.endswith(".slice"):
            yield root / f"{root.name.removesuffix('.slice')}-{name}.slice"
        else:
            yield root / name


def _roots_below(point: Path) -> Iterator[PurePosixPath]:
    """Yield every "kubepods" below a mount, the nearest first."""
    pending: deque[tuple[PurePosixPath, int]] = deque([(PurePosixPath(), 0)])
    walked = 0
    while pending and walked < _MAX_WALKED:
        path, depth = pending.popleft()
        walked += 1
        try:
            owner = point.stat().st_uid
            with os.scandir(point / path) as entries:
                names = [one.name for one in entries if _is_directory_of(one, owner)]
        except OSError:
            continue
        for name in names:
            if _is_root(name):
                yield path / name
            elif depth < _MAX_DEPTH and not _is_closed(name):
                pending.append((path / name, depth + 1))


def _is_directory_of(entry: "os.DirEntry[str]", owner: int) -> bool:
    try:
        return (
            entry.is_dir(follow_symlinks=False)
            and entry.stat(follow_symlinks=False).st_uid == owner
        )
    except OSError:  # the directory is gone
        return False


def _is_closed(name: str) -> bool:
    """Return whether a directory is a pod's or a container's: a walk does not enter it."""
    return bool(hierarchy.pod_uid_of(name) or hierarchy.container_id_of(name))
