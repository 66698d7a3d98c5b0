# SPDX-License-Identifier: Apache-2.0
"""A node as the bastion meets it: an honest log behind a road, with faults to order.

What it answers is made as an agent makes it: rendered entries in a Merkle tree under checkpoints
that its own key signs.  Its attributes order a fault; everything else stays honest.
"""

import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, field, replace

from breakglass.core.checkpoint import Checkpoint, LogSigner, sign_checkpoint
from breakglass.core.decide import Approved
from breakglass.core.entries import (
    Accepted,
    ApprovalMade,
    Body,
    Entry,
    Finished,
    Planned,
    PlannedPod,
    PodEnded,
    Stamp,
    Started,
    TrustTaken,
    parse_entry,
    render_entry,
    render_instant,
    to_lines,
)
from breakglass.core.merkle import Tree, leaf_hash
from breakglass.core.progress import ProgressKind
from breakglass.core.receipt import Receipt
from breakglass.core.signed_file import parse_signed_file
from breakglass.errors import BreakglassError, Unreached
from breakglass.fleet.home.inventory import InventoryNode, parse_address
from breakglass.fleet.roads.port import (
    Description,
    LoggedEntry,
    NodeHold,
    NodePod,
    NodeProgress,
    NotOnRecord,
    OnRecord,
    OpenRoad,
    Refusal,
    Road,
)
from tests.support import worlds
from tests.support.described import log_lines
from tests.support.organisation import NOW, Organisation

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
NODE_TIME = render_instant(NOW)
PAGE = 4


@dataclass(kw_only=True)
class FakeNode:
    """One node with its log.

    Attributes:
        ends: how the next command ends: "done", "nothing", "incomplete" ...
        pods_found: how many pods the command finds.
        gate: what holds each of them afterwards.
        restarted: how many of them the last look shows running again.
        holds: what it says that it holds.
        breaks_after: the stream ends after so many answers, once.
        down: the error of opening the road, or None.
        refuses: what every file is answered with, or None.
    """

    organisation: Organisation
    name: str = "n1"
    cluster: str = "prod-a"
    pool: str = ""
    ends: str = "done"
    pods_found: int = 1
    gate: str = ""
    restarted: int = 0
    holds: tuple[NodeHold, ...] = ()
    breaks_after: int | None = None
    down: BreakglassError | None = None
    refuses: Refusal | None = None
    entries_made: list[bytes] = field(default_factory=list)
    acted: int = 0

    def __post_init__(self) -> None:
        origin = f"breakglass/{self.organisation.domain}/{self.cluster}/{self.name}"
        self.signer = LogSigner(origin, hashlib.sha256(self.name.encode()).digest())
        self.tree = Tree()
        worlds.show(f"fake node {self.name}", self._describe)
        trust = self.organisation.trust
        self.record(
            Started(
                version="0",
                domain=trust.domain,
                cluster=self.cluster,
                node=self.name,
                pool=self.pool,
                trust_version=trust.version,
                trust_sha256=trust.sha256,
            )
        )
        text = to_lines(self.organisation.trust_text)
        self.record(TrustTaken(version=trust.version, sha256=trust.sha256, text=text))

    def _describe(self) -> Iterator[str]:
        faults = {"breaks_after": self.breaks_after, "down": self.down, "refuses": self.refuses}
        yield f"ends={self.ends!r} pods_found={self.pods_found} acted={self.acted} {faults}"
        yield from log_lines(self.entries_made)

    @property
    def row(self) -> InventoryNode:
        """This node in the inventory."""
        last = 1 + sum(self.name.encode()) % 250
        return InventoryNode(
            name=self.name,
            cluster=self.cluster,
            pool=self.pool,
            address=parse_address(f"192.0.2.{last}:7443"),
            certificate=CERTIFICATE,
            log_key=self.signer.vkey,
        )

    @property
    def checkpoint(self) -> bytes:
        """The newest checkpoint."""
        return self.checkpoint_of(self.tree)

    def checkpoint_of(self, tree: Tree) -> bytes:
        """A checkpoint over any tree, signed with this node's key."""
        return sign_checkpoint(
            Checkpoint(origin=self.signer.origin, size=tree.size, root=tree.root()), self.signer
        )

    def record(self, body: Body) -> int:
        """Append an entry; return its index."""
        stamp = Stamp(time=NODE_TIME, mono_ms=len(self.entries_made), boot="b")
        raw = render_entry(Entry(stamp=stamp, body=body))
        self.entries_made.append(raw)
        self.tree.append(leaf_hash(raw))
        return len(self.entries_made) - 1

    def receipt(self, index: int) -> Receipt:
        """Return the receipt of an entry under the newest checkpoint."""
        return Receipt(
            entry=self.entries_made[index],
            index=index,
            proof=self.tree.inclusion_proof(index, self.tree.size),
            checkpoint=self.checkpoint,
        )

    def carry_out(self, approved: Approved, raw: bytes) -> None:
        """Record a command from its acceptance to its end."""
        self.acted += 1
        command, mode = approved.command, approved.command.mode.value
        self.record(_accepted(approved, raw))
        planned = tuple(_planned(approved, nth, self.gate) for nth in range(self.pods_found))
        self.record(Planned(id=command.id, mode=mode, pods=planned))
        for pod in planned:
            self.record(
                PodEnded(
                    id=command.id,
                    mode=mode,
                    uid=pod.uid,
                    namespace=pod.namespace,
                    name=pod.name,
                    seen="down",
                    resumed=False,
                    ms=12,
                    gate=self.gate,
                    gate_note="",
                    sandbox="",
                    evidence="",
                    evidence_note="",
                    containers=(),
                )
            )
        down = self.pods_found if self.ends == "done" else 0
        self.record(
            Finished(
                id=command.id,
                mode=mode,
                result=self.ends,
                code="not-down" if self.ends in {"nothing", "incomplete"} else "",
                note="",
                pods=self.pods_found,
                down=down,
                held=down if self.gate not in {"", "watch only"} else 0,
                restarted=self.restarted,
                ms=34,
                observed=(),
            )
        )


def _accepted(approved: Approved, raw: bytes) -> Accepted:
    command = approved.command
    return Accepted(
        id=command.id,
        sha256=approved.sha256,
        mode=command.mode.value,
        summary=command.summary,
        created="2026-11-21T04:00:00Z",
        not_after="2026-11-21T05:00:00Z",
        skew_s=300,
        policies=approved.policies,
        approvals=tuple(
            ApprovalMade(
                person=one.person, key=one.fingerprint, kind=one.key_kind, flags=-1, counter=-1
            )
            for one in approved.approvals
        ),
        peer="courier bastion",
        file=to_lines(raw),
    )


def _planned(approved: Approved, nth: int, gate: str) -> PlannedPod:
    action = approved.command.action
    return PlannedPod(
        uid=f"uid-{nth}",
        namespace=action.namespace,
        name=f"{action.name}-{nth}",
        sandbox="",
        containers=(),
        gate=gate,
    )


@dataclass(kw_only=True)
class FakeRoad:
    """The road to a fake node."""

    node: FakeNode

    async def submit(self, raw: bytes, *, silence_s: float) -> AsyncGenerator[NodeProgress, None]:
        """Carry the file out at the first delivery; tell what is on record."""
        assert silence_s > 0
        node = self.node
        if node.refuses is not None:
            yield NodeProgress(
                kind=ProgressKind.REFUSED,
                receipt=None,
                refusal=node.refuses,
                repeated=False,
                node_time=NODE_TIME,
            )
            return
        parts = parse_signed_file(raw)
        approved = node.organisation.decide(parts.text, *parts.armors)
        assert isinstance(approved, Approved)
        repeated = node.acted > 0
        if not repeated:
            node.carry_out(approved, raw)
        breaks_after, node.breaks_after = node.breaks_after, None
        for told, index in enumerate(_indexes(node, approved.command.id)):
            if breaks_after is not None and told == breaks_after:
                raise Unreached(f"expected an answer of {node.name}, got: reset")
            yield NodeProgress(
                kind=ProgressKind(parse_entry(node.entries_made[index]).kind),
                receipt=node.receipt(index),
                refusal=None,
                repeated=repeated,
                node_time=NODE_TIME,
            )

    async def describe(self) -> Description:
        """Say who it is."""
        node, trust = self.node, self.node.organisation.trust
        return Description(
            version="0",
            domain=trust.domain,
            cluster=node.cluster,
            node=node.name,
            pool=node.pool,
            node_time=NODE_TIME,
            trust_version=trust.version,
            trust_sha256=trust.sha256,
            runtime="fake 1",
            runtime_ready=True,
            active_commands=0,
            checkpoint=node.checkpoint,
        )

    async def pods(self) -> tuple[NodePod, ...]:
        """List nothing."""
        return ()

    async def holds(self) -> tuple[NodeHold, ...]:
        """List what was ordered."""
        return self.node.holds

    async def outcome(self, command_id: str) -> OnRecord:
        """Tell what is on record."""
        node = self.node
        found = _indexes(node, command_id)
        if not found:
            raise NotOnRecord("expected the command on record, got none")
        ended = parse_entry(node.entries_made[found[-1]]).kind == "finished"
        return OnRecord(
            state="finished" if ended else "planned",
            accepted=node.receipt(found[0]),
            pods=tuple(node.receipt(one) for one in found[1 : -1 if ended else None]),
            finished=node.receipt(found[-1]) if ended else None,
            node_time=NODE_TIME,
        )

    async def entries(self, first: int) -> AsyncGenerator[LoggedEntry, None]:
        """Give a page of entries."""
        node = self.node
        end = min(first + PAGE, len(node.entries_made))
        for index in range(first, end):
            last = node.checkpoint if index == end - 1 else b""
            yield LoggedEntry(index=index, entry=node.entries_made[index], checkpoint=last)

    async def consistency(self, old_size: int) -> tuple[tuple[bytes, ...], bytes]:
        """Prove that the log only grew."""
        tree = self.node.tree
        if old_size > tree.size:
            return (), self.node.checkpoint
        return tree.consistency_proof(old_size, tree.size), self.node.checkpoint


def _indexes(node: FakeNode, command_id: str) -> list[int]:
    """Return the places of a command's told entries: accepted, pods, finished."""
    told = (Accepted, PodEnded, Finished)
    bodies = [parse_entry(raw).body for raw in node.entries_made]
    return [
        index
        for index, body in enumerate(bodies)
        if isinstance(body, told) and body.id == command_id
    ]


def roads_to(*nodes: FakeNode) -> OpenRoad:
    """Return what opens the road to any of these nodes."""
    known = {node.name: node for node in nodes}

    @contextlib.asynccontextmanager
    async def open_road(row: InventoryNode) -> AsyncIterator[Road]:
        node = known[row.name]
        if node.down is not None:
            raise node.down
        yield FakeRoad(node=node)

    return open_road


def forged(node: FakeNode, place: int, old: bytes, new: bytes) -> FakeNode:
    """Return a node that rewrote one entry of its log and signs the result as if it were so."""
    entries = list(node.entries_made)
    assert old in entries[place]
    entries[place] = entries[place].replace(old, new)
    liar = replace(node, entries_made=[])
    liar.entries_made[:] = entries
    liar.tree = Tree(leaf_hash(raw) for raw in entries)
    return liar
