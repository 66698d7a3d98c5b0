# SPDX-License-Identifier: Apache-2.0
"""The entries about holds and gates, as values.

`entries` renders and parses them; `holds` folds them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldBegun:
    """A hold has begun: from here on every pod of the workload is kept down for `hold_s`."""

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
    """The command `by` made hold `id` last `hold_s` from here on, if that is longer."""

    id: str
    by: str
    hold_s: int
    until: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldEnded:
    """A hold has ended: `why` is released (by the command `by`), expired, or let-go (by root)."""

    id: str
    why: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLimit:
    """One limit of a gate, with the value that was there before it."""

    kind: str
    place: str
    old: str
    early: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GateIntended:
    """These limits are about to be set on a pod's group for `hold`; the old values return."""

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
    """Which gate was proven to hold a pod; `note` says what is wrong with it."""

    uid: str
    gate: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLifted:
    """A pod's limits are back as they were (`why` released), or its group is gone (gone)."""

    uid: str
    why: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforced:
    """The counts of a hold since the last such entry; times in milliseconds."""

    id: str
    attempts: int
    stops: int
    resets: int
    leaked_ms: int
