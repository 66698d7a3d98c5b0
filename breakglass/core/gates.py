# SPDX-License-Identifier: Apache-2.0
"""The gate: which limits on a pod's control group make later starts fail, and in which order.

The limits are chosen from what the host has, never from configuration.  `choose_limits` is the
whole matrix.  The facts behind it were measured (docs/hold.md):

- `cgroup.max.descendants` = 0 makes the mkdir of a container's group fail.  It stops runc and crun,
  systemd never touches it, and running containers are not disturbed.  So it is set first if a
  cgroup2 tree has the pod.  On a hybrid host runc with the cgroupfs driver ignores that tree.
- `pids.max` = 0 stops runc, which forks after it has joined the group, and not crun, which does
  not.  Running containers cannot fork any more: a preStop hook or a shell's TERM handler
  fails.
- Under the systemd driver a bare `pids.max` is lost at the next start of a unit in the slice; the
  property `TasksMax=1` is not (0 is refused by systemd).

An OCI runtime that is not known counts as crun.  A sandbox that is a virtual machine has no gate.
"""

from dataclasses import dataclass
from enum import StrEnum


class Gate(StrEnum):
    """What keeps a pod down: the limit that makes a start fail, or the watch alone."""

    DESCENDANTS = "descendants"
    PIDS = "pids"
    PROPERTY = "property"
    WATCH_ONLY = "watch only"


class Layout(StrEnum):
    """Which control-group trees have a pod's group."""

    UNIFIED = "v2"
    HYBRID = "hybrid"
    LEGACY = "v1"


class Oci(StrEnum):
    """Which OCI runtime makes a pod's containers, if the container runtime tells."""

    RUNC = "runc"
    CRUN = "crun"
    VIRTUAL_MACHINE = "vm"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One limit of a gate.

    Attributes:
        kind: descendants, pids or property.
        place: the file's absolute path, or the slice's unit name for a property.
        old: the value before the gate, to be put back.
        early: whether it is set before any container is stopped.  The others disturb running
            containers, so they follow when the containers are down.
    """

    kind: Gate
    place: str
    old: str
    early: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Belt:
    """One limit that a pod's gate is made of, before it is looked up: its kind, and when."""

    kind: Gate
    early: bool


def choose_limits(layout: Layout, *, is_slice: bool, oci: Oci) -> tuple[Belt, ...]:
    """Return the limits that hold a pod, in the order in which they are set; () for none.

    Args:
        layout: the trees that have the pod's group.
        is_slice: whether systemd made the group (the systemd driver).
        oci: the program that makes the containers.
    """
    if oci is Oci.VIRTUAL_MACHINE:
        return ()
    task_limit = Gate.PROPERTY if is_slice else Gate.PIDS
    if layout is Layout.LEGACY:
        pids = Belt(kind=Gate.PIDS, early=True)
        return (Belt(kind=Gate.PROPERTY, early=True), pids) if is_slice else (pids,)
    # With the cgroupfs driver on a hybrid host runc ignores the unified tree: its gate is the
    # limit on tasks, at once.
    is_needed = layout is Layout.HYBRID and not is_slice
    return (
        Belt(kind=Gate.DESCENDANTS, early=True),
        Belt(kind=task_limit, early=is_needed),
    )


def gate_of(layout: Layout, *, is_slice: bool, oci: Oci, standing: frozenset[Gate]) -> Gate:
    """Return what holds a pod when exactly the limits in `standing` are proven to stand."""
    if oci is Oci.VIRTUAL_MACHINE:
        return Gate.WATCH_ONLY
    ignores_unified = layout is Layout.HYBRID and not is_slice
    if Gate.DESCENDANTS in standing and not (ignores_unified and oci is not Oci.CRUN):
        return Gate.DESCENDANTS
    # An unknown runtime may be crun, which task limits do not stop - but where both limits stand,
    # each kind of runtime is stopped by one of them.
    if oci is Oci.RUNC or Gate.DESCENDANTS in standing:
        for kind in (Gate.PROPERTY, Gate.PIDS):
            if kind in standing:
                return kind
    return Gate.WATCH_ONLY
