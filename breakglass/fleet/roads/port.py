# SPDX-License-Identifier: Apache-2.0
"""The port of a road from the bastion to a node, and the values that it returns.

Every road delivers the same bytes, so the verdict is the same (P10).  A road trusts no answer:
decisions and outcomes come as receipts, which `evidence` verifies against the node's pinned key.

Every road raises the same errors: `Unreached` (no answer), `RefusedError` (the node refused this
courier's connection), `NodeError` (the node cannot answer), `NotOnRecord` (no such command there).
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
    """The node has no record of the command."""

    code = "not-on-record"
    default_hint = "that node never accepted the command; deliver it with `breakglass run`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A node's refusal of a file; `receipt` is None if refusals come faster than it logs them."""

    code: str
    needed: str
    have: str
    hint: str
    receipt: Receipt | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProgress:
    """The progress of a delivered file as a node reports it: a receipt, or a refusal.

    Attributes:
        repeated: the file was delivered before; this is its first outcome, and the node did not
            act again.
        node_time: the node's clock, as the node reports it.
    """

    kind: ProgressKind
    receipt: Receipt | None
    refusal: Refusal | None
    repeated: bool
    node_time: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a node reports about itself; claimed, not verified."""

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
    """One pod as the node's runtime reports it; `daemonset` is "" for any other kind of pod."""

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
    """One pod that a hold keeps down; `note` is a problem with its gate, or ""."""

    uid: str
    name: str
    gate: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeHold:
    """One hold as the node reports it; claimed, not verified.

    Attributes:
        command: the id of the command that began it.
        until: its end by the node's present clock, in UTC; only `left_s` is exact.
        attempts: container starts that the gate made fail.
        stops: containers that started during the hold and that the agent stopped.
        resets: limits that another process changed and that the agent set again.
        leaked_ms: how long user code ran during the hold.
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
    """What a node has recorded about one command."""

    state: str
    accepted: Receipt
    pods: tuple[Receipt, ...]
    finished: Receipt | None
    node_time: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEntry:
    """One raw log entry; the last one of a read has the checkpoint of the whole log."""

    index: int
    entry: bytes
    checkpoint: bytes


class Views(Protocol):
    """What a node reports about its present state; claimed, not verified."""

    async def describe(self) -> Description:
        """Ask the node for its identity, trust, runtime and log state."""
        ...

    async def pods(self) -> tuple[NodePod, ...]:
        """Ask for the node's pods."""
        ...

    async def holds(self) -> tuple[NodeHold, ...]:
        """Ask for the node's holds."""
        ...


class Road(Views, Protocol):
    """An open transport to one node."""

    def submit(self, raw: bytes, *, silence_s: float) -> AsyncGenerator[NodeProgress, None]:
        """Deliver a signed file; yield progress, whose next message must come in `silence_s`."""
        ...

    async def outcome(self, command_id: str) -> OnRecord:
        """Ask for the recorded outcome of a command; raise `NotOnRecord` if there is none."""
        ...

    def entries(self, first: int) -> AsyncGenerator[LoggedEntry, None]:
        """Yield log entries from `first` on, up to the node's bound for one read."""
        ...

    async def consistency(self, old_size: int) -> tuple[tuple[bytes, ...], bytes]:
        """Ask for the proof that the log has only grown since, and the newest checkpoint."""
        ...


OpenRoad: TypeAlias = Callable[[InventoryNode], AbstractAsyncContextManager[Road]]
