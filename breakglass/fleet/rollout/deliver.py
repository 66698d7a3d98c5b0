# SPDX-License-Identifier: Apache-2.0
"""Deliver a command to one node, and make the row of what happened there.

(1) open the road, (2) submit, (3) verify each receipt as it comes, (4) when it broke off after the
node had spoken, deliver once more - the node acts once and tells the first outcome -, (5) prove
that the node's log has only grown, and keep the evidence, (6) one row.

A node that is not reached is a row, never an absence, and silence is never read as success (P5).
"""

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from breakglass.core import bounds
from breakglass.core.command import Command, Verb
from breakglass.core.entries import Accepted, Finished, PodEnded
from breakglass.errors import BreakglassError, EvidenceError, RefusedError, Unreached
from breakglass.fleet.evidence.receipts import NodeEvidence
from breakglass.fleet.home.inventory import InventoryNode
from breakglass.fleet.roads.port import NodeProgress, OpenRoad, Refusal, Road
from breakglass.fleet.rollout.rows import NodeRow, NodeState, row_of

ATTEMPTS = 2
LETTING_GO_S = 30.0  # 110 pods whose limits are properties of systemd: 0.2 s each


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressLine:
    """Something that a node told while it was at it, for a person who watches."""

    node: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """Whom to tell while it goes on."""

    on_step: Callable[[ProgressLine], None] = lambda _: None
    on_row: Callable[[NodeRow], None] = lambda _: None


def silence_s(command: Command) -> float:
    """Return how long a node may need from one pod's end to the next one's: the whole ladder."""
    verb = command.action.verb
    if not verb.stops:
        return LETTING_GO_S + bounds.READ_TIMEOUT_S
    return (
        bounds.RUNTIME_PATIENCE_S
        + command.action.grace_s
        + bounds.STOP_MARGIN_S
        + bounds.KILL_TIMEOUT_S
        + bounds.QUIET_TIMEOUT_S
        + (bounds.SANDBOX_TIMEOUT_S if verb is Verb.EVICT else 0)
        + bounds.READ_TIMEOUT_S
    )


def _by(ended: PodEnded) -> str:
    """Return what holds a pod down, and what is wrong with that, as it is told to who watches."""
    held = f", held by {ended.gate}" if ended.gate else ""
    return f"{held} ({ended.gate_note})" if ended.gate_note else held


@dataclass(slots=True, kw_only=True)
class Delivery:
    """One node's part, while it goes on."""

    node: InventoryNode
    command: Command
    raw: bytes
    sha256: str
    evidence: NodeEvidence
    watch: Observer
    row: NodeRow | None = None
    ended: list[PodEnded] = field(default_factory=list)
    heard: bool = False

    async def carry(self, open_road: OpenRoad) -> NodeRow:
        """Deliver, observe, settle; every expected error becomes part of the row."""
        row = self._blank(NodeState.UNREACHED)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with open_road(self.node) as road:  # (1)
                    await self._submit(road)  # (2), (3)
                    return await self._settle(road)  # (5), (6)
            except BreakglassError as error:
                row = self._failed(error)
                if not self.heard or not isinstance(error, Unreached) or attempt == ATTEMPTS:
                    return row
                self._tell("broke off; delivering again")  # (4)
        return row

    async def _submit(self, road: Road) -> None:
        submitted = road.submit(self.raw, silence_s=silence_s(self.command))
        async with aclosing(submitted) as answers:
            async for told in answers:
                self.heard = True
                self._hear(told)
                if self.row is not None:
                    return
        raise Unreached(
            f"expected the end of the command from {self.node.name}, got the stream's",
            code="broke-off",
        )

    def _hear(self, told: NodeProgress) -> None:
        if told.refusal is not None:
            if told.refusal.receipt is not None:
                self.evidence.take(told.refusal.receipt)
            self.row = self._refused(told.refusal, told.node_time)
            return
        if told.receipt is None:
            return
        body = self.evidence.take(told.receipt).body
        if isinstance(body, Accepted):
            self._verify_ours(body.id, body.sha256)
            self._tell("delivered before; first outcome" if told.repeated else "accepted")
        elif isinstance(body, PodEnded):
            self._verify_ours(body.id)
            self.ended = [one for one in self.ended if one.uid != body.uid] + [body]
            self._tell(f"{body.namespace}/{body.name} {body.seen} after {body.ms} ms{_by(body)}")
        elif isinstance(body, Finished):
            self._verify_ours(body.id)
            self.row = row_of(
                self.node, body, self.ended, repeated=told.repeated, node_time=told.node_time
            )

    def _verify_ours(self, command_id: str, sha256: str = "") -> None:
        """Raise when a node answers with the record of another command, or of another text."""
        if command_id != self.command.id or sha256 not in {"", self.sha256}:
            raise EvidenceError(
                f"expected a record of {self.command.id}, got one of {command_id}",
                code="other-command",
            )

    async def _settle(self, road: Road) -> NodeRow:
        row = self.row or self._blank(NodeState.UNREACHED)
        if not self.evidence.has_any:
            return row
        try:
            unkept = await self.evidence.settle(road)
        except EvidenceError as error:
            return self._suspect(row, error)
        except BreakglassError as error:
            # What came is verified; that the log only grew could not be asked any more.
            return replace(row, evidence="verified", unkept=error.message)
        return replace(row, evidence="verified", unkept=unkept)

    def _failed(self, error: BreakglassError) -> NodeRow:
        if isinstance(error, EvidenceError):
            return self._suspect(self.row or self._blank(NodeState.INCOMPLETE), error)
        if isinstance(error, RefusedError):
            state = NodeState.REFUSED
        elif isinstance(error, Unreached):
            state = NodeState.UNREACHED
        else:
            state = NodeState.INCOMPLETE
        hint = error.hint
        if self.heard and state is NodeState.UNREACHED:
            hint = "it was accepted there, and the node finishes it; ask `breakglass outcome ID`"
        return replace(
            self._blank(state),
            code=error.stable_code,
            message=error.message,
            hint=hint,
            evidence="verified" if self.evidence.has_any else "none",
            unkept=self.evidence.keep_receipts(),
        )

    def _suspect(self, row: NodeRow, error: EvidenceError) -> NodeRow:
        code = error.stable_code
        return replace(row, evidence=code, code=code, message=error.message, hint=error.hint)

    def _refused(self, refusal: Refusal, node_time: str) -> NodeRow:
        return replace(
            self._blank(NodeState.REFUSED),
            code=refusal.code,
            message=f"expected {refusal.needed}, got {refusal.have}",
            hint=refusal.hint,
            node_time=node_time,
        )

    def _blank(self, state: NodeState) -> NodeRow:
        return NodeRow(node=self.node.name, cluster=self.node.cluster, state=state)

    def _tell(self, text: str) -> None:
        self.watch.on_step(ProgressLine(node=self.node.name, text=text))
