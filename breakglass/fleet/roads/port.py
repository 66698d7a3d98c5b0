# SPDX-License-Identifier: Apache-2.0
"""The ways from the bastion to a node: what each of them must offer, and the values that come back.

Any road carries the same bytes to the same verdict (P10).  A road brings answers and believes none:
whatever matters comes as a receipt, which `evidence` verifies against the node's pinned key.

Errors of a road, whatever it is made of: `Unreached` (no answer), `RefusedError` (turned away at
the door), `NodeError` (the node cannot), `NotOnRecord` (no such command there).
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from breakglass.core.progress import ProgressKind
from breakglass.core.receipt import Receipt
from breakglass.errors import NodeError
from breakglass.fleet.home.inventory import InventoryNode


class NotOnRecord(NodeError):
    """The node has no such command on record."""

    code = "not-on-record"
    default_hint = "it was never accepted there; see `breakglass run`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a node refused a file, in its own words; `receipt` is None when too many came at once."""

    code: str
    needed: str
    have: str
    hint: str
    receipt: Receipt | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProgress:
    """One step of a delivered file, as a node reports it: a receipt, or a refusal.

    Attributes:
        repeated: it was delivered before; this is the first outcome and nothing was done again.
        node_time: the node's clock, as it says.
    """

    kind: ProgressKind
    receipt: Receipt | None
    refusal: Refusal | None
    repeated: bool
    node_time: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a node says of itself; claimed, not verified."""

    version: str
    domain: str
    cluster: str
    node: str
    pool: str
    node_time: str
    trust_version: int
    trust_sha256: str
    runtime: str
    runtime_ready: bool
    active_commands: int
    checkpoint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePod:
    """One pod as the node's runtime shows it; `daemonset` is "" for any other kind of pod."""

    namespace: str
    name: str
    uid: str
    daemonset: str
    revision: str
    state: str
    containers: int
    running: int
    protected: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPod:
    """One pod that a hold keeps down; `note` says what is wrong with that, "" when nothing is."""

    uid: str
    name: str
    gate: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeHold:
    """One hold as the node tells of it; claimed, not verified.

    Attributes:
        command: the id of the command that began it.
        until: its end by the node's clock as it is now, in UTC; `left_s` is what counts.
        attempts: starts that the gate made fail.
        stops: containers that ran and were stopped at sight.
        resets: limits that somebody else changed and that were set again.
        leaked_ms: how long user code ran all the same.
    """

    command: str
    workload: str
    revision: str
    image: str
    mode: str
    reason: str
    incident: str
    approvals: tuple[str, ...]
    since: str
    until: str
    left_s: int
    attempts: int
    stops: int
    resets: int
    leaked_ms: int
    pods: tuple[HeldPod, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnRecord:
    """What a node has on record of one command."""

    state: str
    accepted: Receipt
    pods: tuple[Receipt, ...]
    finished: Receipt | None
    node_time: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEntry:
    """One raw entry; the last one of a read carries the checkpoint over the whole log."""

    index: int
    entry: bytes
    checkpoint: bytes


class Views(Protocol):
    """What a node says of itself now; nothing of it is proven."""

    async def describe(self) -> Description:
        """Ask the node who it is and how it is."""
        ...

    async def pods(self) -> tuple[NodePod, ...]:
        """Ask for the node's pods."""
        ...

    async def holds(self) -> tuple[NodeHold, ...]:
        """Ask what is held down there, and why."""
        ...


class Road(Views, Protocol):
    """An open way to one node."""

    def submit(self, raw: bytes, *, silence_s: float) -> AsyncGenerator[NodeProgress, None]:
        """Deliver a signed file; after each answer the next one must come within `silence_s`."""
        ...

    async def outcome(self, command_id: str) -> OnRecord:
        """Ask what is on record of a command."""
        ...

    def entries(self, first: int) -> AsyncGenerator[LoggedEntry, None]:
        """Read entries of the log from `first` on, as many as one read may give."""
        ...

    async def consistency(self, old_size: int) -> tuple[tuple[bytes, ...], bytes]:
        """Ask for the proof that the log has only grown since, and the newest checkpoint."""
        ...


OpenRoad: TypeAlias = Callable[[InventoryNode], AbstractAsyncContextManager[Road]]
