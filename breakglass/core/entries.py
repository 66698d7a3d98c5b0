# SPDX-License-Identifier: Apache-2.0
"""The entries of a node's audit log: one class per kind, and their canonical encoding.

An entry is one line of JSON with its keys in the order of the class below: `kind`, then the stamp
(`time` in UTC milliseconds, `mono_ms` since boot, `boot`), then the body.  The text of a document
is a list of lines, so that `jq` shows it readably.  `parse_entry` is strict: it accepts exactly
what `render_entry` writes.

The classes are data only.  `fold` computes a node's state from them; `recheck` verifies their
claims.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from breakglass.core import bounds
from breakglass.core.canonical import Fields, parse_object
from breakglass.core.hold_entries import (
    Enforced,
    GateIntended,
    GateLifted,
    GateSeen,
    HoldBegun,
    HoldEnded,
    HoldExtended,
)
from breakglass.core.names import quoted
from breakglass.core.typed_fields import names_of, read_value, to_object
from breakglass.errors import Malformed

_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z", re.ASCII)
_ENCODER = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """When an entry was written: wall clock, time since boot, and the kernel's boot id."""

    time: str
    mono_ms: int
    boot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalMade:
    """One counted approval of a person; `flags` and `counter` are -1 for a key without them."""

    person: str
    key: str
    kind: str
    flags: int
    counter: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPod:
    """A pod that a command will stop, with the containers that were live when it was planned.

    `gate` names the limits to set and their control group; "" for a stop without a hold.
    """

    uid: str
    namespace: str
    name: str
    sandbox: str
    containers: tuple[str, ...]
    gate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenContainer:
    """One container's outcome: the last rung that was tried, and the state observed after it."""

    id: str
    name: str
    rung: int
    seen: str
    kernel: str
    ms: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPod:
    """One pod's state at the end of a command."""

    uid: str
    name: str
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The agent started."""

    version: str
    domain: str
    cluster: str
    node: str
    pool: str
    trust_version: int
    trust_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """The agent was told to stop; it resumes the `active` commands at its next start."""

    active: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustTaken:
    """The trust in force from this entry on, with its whole text."""

    version: int
    sha256: str
    text: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A command was approved and recorded: the node must now carry it out and record its end."""

    id: str
    sha256: str
    mode: str
    summary: str
    created: str
    not_after: str
    skew_s: int
    policies: tuple[str, ...]
    approvals: tuple[ApprovalMade, ...]
    peer: str
    file: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedEntry:
    """A document was refused; `file` is its text if it was a well-formed signed file."""

    sha256: str
    size: int
    code: str
    needed: str
    have: str
    skew_s: int
    peer: str
    file: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppressed:
    """The number of refusals that were not recorded one by one, because they came too fast."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The pods that a command will stop on this node."""

    id: str
    mode: str
    pods: tuple[PlannedPod, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PodEnded:
    """One pod's outcome; `resumed` says that the agent began it before a restart.

    `gate` is the gate that keeps it down from now on, "" for a stop without a hold; `sandbox` is
    the state of its sandbox after an eviction; `evidence` is the SHA-256 of the pod's capture.
    """

    id: str
    mode: str
    uid: str
    namespace: str
    name: str
    seen: str
    resumed: bool
    ms: int
    gate: str
    gate_note: str
    sandbox: str
    evidence: str
    evidence_note: str
    containers: tuple[SeenContainer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A command's end.

    `result` is done, nothing, planned, released, extended, incomplete, refused or interrupted;
    `held` is the number of its pods that a gate keeps down.
    """

    id: str
    mode: str
    result: str
    code: str
    note: str
    pods: int
    down: int
    held: int
    restarted: int
    ms: int
    observed: tuple[SeenPod, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStepped:
    """The node's wall clock was stepped by `step_ms`, backward if `back`, else forward."""

    back: bool
    step_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """The agent found a torn last frame at its start, copied it to `copy` and cut it off."""

    segment: str
    offset: int
    size: int
    copy: str


Body: TypeAlias = (
    Started
    | Stopped
    | TrustTaken
    | Accepted
    | RefusedEntry
    | Suppressed
    | Planned
    | PodEnded
    | Finished
    | HoldBegun
    | HoldExtended
    | HoldEnded
    | GateIntended
    | GateSeen
    | GateLifted
    | Enforced
    | ClockStepped
    | Repaired
)

KINDS: Mapping[str, type[Body]] = {
    "started": Started,
    "stopped": Stopped,
    "trust": TrustTaken,
    "accepted": Accepted,
    "refused": RefusedEntry,
    "suppressed": Suppressed,
    "planned": Planned,
    "pod": PodEnded,
    "finished": Finished,
    "hold": HoldBegun,
    "extended": HoldExtended,
    "hold-ended": HoldEnded,
    "gate": GateIntended,
    "gated": GateSeen,
    "lifted": GateLifted,
    "enforced": Enforced,
    "clock": ClockStepped,
    "repaired": Repaired,
}
_NAMES = {body: kind for kind, body in KINDS.items()}
# The kinds that may use the log's reserved space on a full disk: outcomes, and the entries that
# must be written before them.
OWED: tuple[type[Body], ...] = (
    Planned,
    PodEnded,
    Finished,
    HoldBegun,
    HoldExtended,
    HoldEnded,
    GateIntended,
    GateSeen,
    GateLifted,
    Started,
    Stopped,
    Repaired,
    ClockStepped,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry: its stamp and its body."""

    stamp: Stamp
    body: Body

    @property
    def kind(self) -> str:
        """The value of `kind` in the entry's JSON."""
        return _NAMES[type(self.body)]


def render_instant(time: datetime) -> str:
    """Return a UTC time in milliseconds, such as 2026-11-21T04:05:06.789Z."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z"


def parse_instant(text: str) -> datetime:
    """Return the time that `render_instant` wrote; raise `Malformed` for any other text."""
    if not _INSTANT.fullmatch(text):
        raise Malformed(f"expected a UTC time in milliseconds, got {quoted(text)}")
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise Malformed(f"expected a time that exists, got {quoted(text)}") from error


def to_lines(text: bytes) -> tuple[str, ...]:
    """Return a document's text as lines; `from_lines` gives the same bytes back."""
    return tuple(text.decode("ascii").split("\n"))


def from_lines(lines: tuple[str, ...]) -> bytes:
    """Return the bytes of a text that `to_lines` split."""
    return "\n".join(lines).encode("ascii")


def render_entry(entry: Entry) -> bytes:
    """Return the entry's canonical bytes; raise `Malformed` above `bounds.MAX_ENTRY_BYTES`."""
    document = {"kind": entry.kind} | to_object(entry.stamp) | to_object(entry.body)
    raw = _ENCODER.encode(document).encode()
    if len(raw) > bounds.MAX_ENTRY_BYTES:
        raise Malformed(
            f"expected an entry of at most {bounds.MAX_ENTRY_BYTES} bytes, got {len(raw)}",
            code="too-large",
        )
    return raw


def parse_entry(raw: bytes) -> Entry:
    """Return the entry in `raw`; raise `Malformed` unless `raw` is its canonical encoding."""
    document = parse_object(raw, max_bytes=bounds.MAX_ENTRY_BYTES)
    fields = Fields(document)
    kind = fields.text("kind")
    if kind not in KINDS:
        raise Malformed(f"expected a known kind of entry, got {kind!r}", code="unknown-kind")
    of = KINDS[kind]
    entry = Entry(stamp=read_value(Stamp, fields), body=read_value(of, fields))
    fields.finish_in_order(("kind", *names_of(Stamp), *names_of(of)))
    parse_instant(entry.stamp.time)
    # The keys are in order, so `document` is the object that `render_entry` would encode.
    if _ENCODER.encode(document).encode() != raw:
        raise Malformed("expected an entry's canonical encoding, got another", code="not-canonical")
    return entry
