# SPDX-License-Identifier: Apache-2.0
"""The limits of a gate on a pod's control group: read, set, verify and restore them.

Rules:

- A limit is read or written only at its place on the pod's own group.  The place in an old record
  is compared with the group's own, and any other is refused (cgroup-mismatch).
- A written limit counts when it reads back.  `cgroup.max.descendants` counts when a mkdir fails
  with EAGAIN, as a container's would.  `TasksMax` counts when systemd and the kernel both show it.
- A group that is gone needs no limit: there is nothing to do, and that is no error.

`core.gates` chooses the limits for a pod; the hold decides when to set them.
"""

import errno
import os
from pathlib import Path

from breakglass.agent.kernel.hierarchy import PIDS, UNIFIED
from breakglass.agent.kernel.port import PodGroup
from breakglass.agent.kernel.systemd import INFINITY, Systemctl
from breakglass.core.gates import Gate, Layout, Limit, Oci, choose_limits, gate_of
from breakglass.errors import GateFailed

DESCENDANTS_FILE = "cgroup.max.descendants"
PIDS_FILE = "pids.max"
PROBE = "bg-probe"
_MAX = "max"
_SHUT = {Gate.DESCENDANTS: "0", Gate.PIDS: "0", Gate.PROPERTY: "1"}
# systemd refuses a TasksMax of 0, and overwrites a 0 in the file with the property's 1.
_SHUT_BY_PROPERTY = ("0", "1")
_GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.ENOTDIR})
_MAX_VALUE_BYTES = 64


class HostLimits:
    """Reads and writes the limits on this machine's pods.

    Args:
        systemctl: runs systemctl, for pods in slices.
    """

    def __init__(self, systemctl: Systemctl) -> None:
        self._systemctl = systemctl

    def current(self, group: PodGroup, oci: Oci, *, early: bool = False) -> tuple[Limit, ...]:
        """Return the limits that would hold a pod, or only the early ones, with their old values.

        Raises:
            GateFailed: the pod has limits, and none of them can be read (gate-unwritable).
        """
        found: list[Limit] = []
        failure: GateFailed | None = None
        for belt in choose_limits(group.layout, is_slice=group.is_slice, oci=oci):
            place = _place(group, belt.kind)
            if place is None or (early and not belt.early):
                continue
            try:
                old = self._free_value(group, belt.kind, place)
            except GateFailed as error:
                failure = error
                continue
            if old is not None:
                found.append(Limit(kind=belt.kind, place=place, old=old, early=belt.early))
        if not found and failure is not None:
            raise failure
        return tuple(found)

    def set_limit(self, group: PodGroup, limit: Limit) -> None:
        """Set one limit and verify that it reads back.

        Raises:
            GateFailed: it is not this group's (cgroup-mismatch), cannot be written
                (gate-unwritable), or reads back another value (gate-not-standing).
        """
        self._write(group, limit, _SHUT.get(limit.kind, ""))

    def lift(self, group: PodGroup, limit: Limit) -> None:
        """Restore one limit's old value and verify that it reads back.

        Raises:
            GateFailed: as `set_limit` does.
        """
        self._write(group, limit, limit.old)

    def standing(self, group: PodGroup, limits: tuple[Limit, ...], oci: Oci) -> Gate:
        """Return which gate is verified to hold now."""
        proven = frozenset(limit.kind for limit in limits if self._stands(group, limit))
        return gate_of(group.layout, is_slice=group.is_slice, oci=oci, standing=proven)

    def changed(self, group: PodGroup, limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
        """Return the limits whose value another process changed; () when the group is gone."""
        return tuple(
            limit
            for limit in limits
            if _is_own(group, limit)
            and (value := _read(_file_of(group, limit))) is not None
            and value not in _values_of(group, limit)
        )

    def reset_failed(self, group: PodGroup) -> int:
        """Reset the failed scopes in this pod's slice; return their number.

        Raises:
            GateFailed: systemd did not answer (gate-unwritable).
        """
        if not group.is_slice:
            return 0
        return self._systemctl.reset_failed_scopes(group.path.rpartition("/")[2])

    def _free_value(self, group: PodGroup, kind: Gate, place: str) -> str | None:
        """Return the value that a release restores; None when the group has no such limit."""
        if kind is not Gate.PROPERTY:
            value = _read(Path(place))
            leftovers = {_SHUT[kind]}
            if kind is Gate.PIDS and group.is_slice:
                leftovers.add(_SHUT[Gate.PROPERTY])  # the file shows a gate's TasksMax as 1
            return _MAX if value in leftovers else value
        if _read(_pids_file(group)) is None:
            return None  # systemd would accept the property, and the kernel would not enforce it
        value = self._systemctl.tasks_max(place)
        return INFINITY if value == _SHUT[kind] else value

    def _write(self, group: PodGroup, limit: Limit, value: str) -> None:
        if not _is_own(group, limit):
            raise GateFailed(
                f"refused to write {limit.place[:256]!r}: it is not a limit of pod {group.uid}",
                code="cgroup-mismatch",
            )
        if not _is_there(group):
            return
        if limit.kind is Gate.PROPERTY:
            self._systemctl.set_tasks_max(limit.place, value)
            got = self._systemctl.tasks_max(limit.place)
        else:
            file = Path(limit.place)
            _put(file, value)
            read = _read(file)
            if read is None:
                return
            got = read
        if got != value:
            raise GateFailed(
                f"cannot set {limit.place} to {value}: it reads {got[:_MAX_VALUE_BYTES]!r}",
                code="gate-not-standing",
            )

    def _stands(self, group: PodGroup, limit: Limit) -> bool:
        if not _is_own(group, limit):
            return False
        value = _read(_file_of(group, limit))
        if value not in _values_of(group, limit):
            return False
        match limit.kind:
            case Gate.DESCENDANTS:
                return refuses_children(Path(limit.place).parent)
            case Gate.PROPERTY:
                try:
                    return self._systemctl.tasks_max(limit.place) == _SHUT[limit.kind]
                except GateFailed:
                    return False
            case _:
                return True


def refuses_children(directory: Path) -> bool:
    """Return whether a mkdir in this group fails with EAGAIN, as a container's would."""
    probe = directory / PROBE
    for _ in range(2):
        try:
            probe.mkdir()
        except FileExistsError:  # an interrupted probe left it
            _remove(probe)
        except OSError as error:
            return error.errno == errno.EAGAIN
        else:
            _remove(probe)
            return False
    return False


def _place(group: PodGroup, kind: Gate) -> str | None:
    """Return the place of a kind of limit on a group; None when no tree of the group has it."""
    match kind:
        case Gate.PROPERTY:
            return group.path.rpartition("/")[2] if group.is_slice else None
        case Gate.DESCENDANTS:
            tree = dict(group.trees).get(UNIFIED)
            return str(tree / DESCENDANTS_FILE) if tree is not None else None
        case Gate.PIDS:
            file = _pids_file(group)
            return str(file) if file is not None else None
        case Gate.WATCH_ONLY:
            return None


def _pids_file(group: PodGroup) -> Path | None:
    tree = dict(group.trees).get(UNIFIED if group.layout is Layout.UNIFIED else PIDS)
    return tree / PIDS_FILE if tree is not None else None


def _is_own(group: PodGroup, limit: Limit) -> bool:
    return _place(group, limit.kind) == limit.place


def _is_there(group: PodGroup) -> bool:
    return any(directory.is_dir() for _, directory in group.trees)


def _file_of(group: PodGroup, limit: Limit) -> Path | None:
    """Return the file that shows a limit's value."""
    return _pids_file(group) if limit.kind is Gate.PROPERTY else Path(limit.place)


def _values_of(group: PodGroup, limit: Limit) -> tuple[str, ...]:
    """Return the values that this file may read while the limit is set."""
    if limit.kind is Gate.PROPERTY or (limit.kind is Gate.PIDS and group.is_slice):
        return _SHUT_BY_PROPERTY
    return (_SHUT[limit.kind],)


def _read(file: Path | None) -> str | None:
    """Return the value in a file; None when the file is missing."""
    if file is None:
        return None
    try:
        with file.open("rb") as opened:
            return opened.read(_MAX_VALUE_BYTES).decode("ascii", "replace").strip()
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise _unwritable(file, error) from error


def _put(file: Path, value: str) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.write(descriptor, value.encode("ascii"))
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in _GONE and not file.parent.is_dir():
            return
        raise _unwritable(file, error) from error


def _remove(probe: Path) -> None:
    try:
        probe.rmdir()
    except OSError:  # another process removed it, or it is not a directory: the next probe sees it
        return


def _unwritable(file: Path, error: OSError) -> GateFailed:
    return GateFailed(f"cannot read or write {file}: {error.strerror}", code="gate-unwritable")
