# SPDX-License-Identifier: Apache-2.0
"""The gate: the limits on a pod's control group that make every later container start fail.

The choice depends on what the node has, never on configuration.  `choose_limits` is the whole
table.  The facts behind it were measured (docs/hold.md):

- `cgroup.max.descendants` = 0 makes the mkdir of a container's group fail.  It blocks runc and
  crun, systemd never changes it, and running containers are not affected.  So it comes first
  wherever the pod is in a cgroup2 tree.  runc with the cgroupfs driver on a hybrid host ignores
  the unified tree.
- `pids.max` = 0 blocks runc, which forks after it has joined the group.  It does not block crun.
  Running processes cannot fork either: a preStop hook or a TERM handler in a shell fails.
- Under the systemd driver systemd resets a bare `pids.max` at the next start of a unit in the
  slice.  It keeps the property `TasksMax=1` (systemd refuses 0).

An unknown OCI runtime is treated as crun.  A sandbox that is a virtual machine has no gate.
"""

from dataclasses import dataclass
from enum import StrEnum


class Gate(StrEnum):
    """What keeps a pod down: a limit that makes container starts fail, or only the watch."""

    DESCENDANTS = "descendants"
    PIDS = "pids"
    PROPERTY = "property"
    WATCH_ONLY = "watch only"


class Layout(StrEnum):
    """Which control-group hierarchies the pod is in."""

    UNIFIED = "v2"
    HYBRID = "hybrid"
    LEGACY = "v1"


class Oci(StrEnum):
    """The OCI runtime of a pod, as the container runtime reports it."""

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
        old: the value from before, which lifting the gate restores.
        early: whether it is set before any container is stopped.  The others disturb running
            containers, so they are set once the containers are down.
    """

    kind: Gate
    place: str
    old: str
    early: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitChoice:
    """One limit of a pod's gate before its file is found: its kind, and when it is set."""

    kind: Gate
    early: bool


def choose_limits(layout: Layout, *, is_slice: bool, oci: Oci) -> tuple[LimitChoice, ...]:
    """Return the limits of a pod's gate, in the order in which to set them; () for no gate.

    Args:
        layout: the hierarchies that have the pod's group.
        is_slice: whether systemd made the group (the systemd driver).
        oci: the OCI runtime that creates the containers.
    """
    if oci is Oci.VIRTUAL_MACHINE:
        return ()
    task_limit = Gate.PROPERTY if is_slice else Gate.PIDS
    if layout is Layout.LEGACY:
        pids = LimitChoice(kind=Gate.PIDS, early=True)
        return (LimitChoice(kind=Gate.PROPERTY, early=True), pids) if is_slice else (pids,)
    # With the cgroupfs driver on a hybrid host runc ignores the unified tree.  Only the limit on
    # tasks blocks it, so that limit is set early.
    is_needed = layout is Layout.HYBRID and not is_slice
    return (
        LimitChoice(kind=Gate.DESCENDANTS, early=True),
        LimitChoice(kind=task_limit, early=is_needed),
    )


def gate_of(layout: Layout, *, is_slice: bool, oci: Oci, standing: frozenset[Gate]) -> Gate:
    """Return the gate of a pod when exactly the limits in `standing` are proven to be set."""
    if oci is Oci.VIRTUAL_MACHINE:
        return Gate.WATCH_ONLY
    ignores_unified = layout is Layout.HYBRID and not is_slice
    if Gate.DESCENDANTS in standing and not (ignores_unified and oci is not Oci.CRUN):
        return Gate.DESCENDANTS
    # An unknown runtime may be crun, which task limits do not block.  With both limits set, one of
    # them blocks each kind of runtime.
    if oci is Oci.RUNC or Gate.DESCENDANTS in standing:
        for kind in (Gate.PROPERTY, Gate.PIDS):
            if kind in standing:
                return kind
    return Gate.WATCH_ONLY
