# SPDX-License-Identifier: Apache-2.0
"""The log entries about holds and gates, as data classes.

`entries` encodes and decodes them; `holds` folds them into the node's state.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldBegun:
    """A command's hold begins: every pod of the workload is kept down for `hold_s` seconds."""

    id: str
    mode: str
    namespace: str
    name: str
    revision: str
    image: str
    hold_s: int
    until: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldExtended:
    """The command `by` extended hold `id` to `hold_s` from now, unless it lasts longer already."""

    id: str
    by: str
    hold_s: int
    until: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldEnded:
    """A hold ended: `why` is released (by the command `by`), expired, or let-go (by root)."""

    id: str
    why: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLimit:
    """One limit of a gate, with the value from before."""

    kind: str
    place: str
    old: str
    early: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GateIntended:
    """The agent will set these limits on a pod's group for `hold`, and restore `old` at its end."""

    uid: str
    namespace: str
    name: str
    hold: str
    cgroup: str
    inode: int
    oci: str
    limits: tuple[GateLimit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSeen:
    """The gate that was proven to be in force on a pod; `note` says what is wrong with it."""

    uid: str
    gate: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLifted:
    """A pod's old limits were restored (`why` released), or its group was removed (gone)."""

    uid: str
    why: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforced:
    """What enforcing a hold took since the last such entry; times in milliseconds."""

    id: str
    attempts: int
    stops: int
    resets: int
    leaked_ms: int
