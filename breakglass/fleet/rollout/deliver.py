# SPDX-License-Identifier: Apache-2.0
"""Deliver a command to one node, and make its row.

(1) open the road, (2) submit, (3) verify each receipt as it comes, (4) if the connection broke
after the node had answered, deliver once more - the node acts only once and answers its first
outcome -, (5) verify that the node's log has only grown, and store the evidence, (6) return the
row.

A node that is not reached still has a row, and no answer never counts as success (P5).
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
RELEASE_TIMEOUT_S = 30.0  # 110 pods whose limits are properties of systemd: 0.2 s each


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressLine:
    """One line of a node's progress, to show to a person."""

    node: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """What the roll-out calls with each progress line and each finished row."""

    on_step: Callable[[ProgressLine], None] = lambda _: None
    on_row: Callable[[NodeRow], None] = lambda _: None


def silence_s(command: Command) -> float:
    """Return the longest time between two messages of a node: a whole stop ladder of one pod."""
    verb = command.action.verb
    if not verb.stops:
        return RELEASE_TIMEOUT_S + bounds.READ_TIMEOUT_S
    return (
        bounds.RUNTIME_PATIENCE_S
        + command.action.grace_s
        + bounds.STOP_MARGIN_S
        + bounds.KILL_TIMEOUT_S
        + bounds.QUIET_TIMEOUT_S
        + (bounds.SANDBOX_TIMEOUT_S if verb is Verb.EVICT else 0)
        + bounds.READ_TIMEOUT_S
    )


def _held_by(ended: PodEnded) -> str:
    """Return the words for a pod's gate and for a problem with it, or ""."""
    held = f", held by {ended.gate}" if ended.gate else ""
    return f"{held} ({ended.gate_note})" if ended.gate_note else held


@dataclass(slots=True, kw_only=True)
class Delivery:
    """The delivery of a command to one node, while it runs.

    Attributes:
        answered: whether the node has answered at all.
    """

    node: InventoryNode
    command: Command
    raw: bytes
    sha256: str
    evidence: NodeEvidence
    watch: Observer
    row: NodeRow | None = None
    ended: list[PodEnded] = field(default_factory=list)
    answered: bool = False

    async def carry(self, open_road: OpenRoad) -> NodeRow:
        """Deliver the command and return the node's row; a `BreakglassError` is put into it."""
        row = self._blank(NodeState.UNREACHED)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with open_road(self.node) as road:  # (1)
                    await self._submit(road)  # (2), (3)
                    return await self._settle(road)  # (5), (6)
            except BreakglassError as error:
                row = self._failed(error)
                if not self.answered or not isinstance(error, Unreached) or attempt == ATTEMPTS:
                    return row
                self._report("connection broke; delivering again")  # (4)
        return row

    async def _submit(self, road: Road) -> None:
        submitted = road.submit(self.raw, silence_s=silence_s(self.command))
        async with aclosing(submitted) as answers:
            async for progress in answers:
                self.answered = True
                self._take(progress)
                if self.row is not None:
                    return
        raise Unreached(
            f"{self.node.name} closed the connection before it reported the outcome",
            code="broke-off",
        )

    def _take(self, progress: NodeProgress) -> None:
        """Verify one message of the node; set the row if it is a refusal or the outcome."""
        if progress.refusal is not None:
            if progress.refusal.receipt is not None:
                self.evidence.take(progress.refusal.receipt)
            self.row = self._refused(progress.refusal, progress.node_time)
            return
        if progress.receipt is None:
            return
        body = self.evidence.take(progress.receipt).body
        if isinstance(body, Accepted):
            self._verify_command(body.id, body.sha256)
            self._report("delivered before; first outcome" if progress.repeated else "accepted")
        elif isinstance(body, PodEnded):
            self._verify_command(body.id)
            self.ended = [one for one in self.ended if one.uid != body.uid] + [body]
            pod = f"{body.namespace}/{body.name}"
            self._report(f"{pod} {body.seen} after {body.ms} ms{_held_by(body)}")
        elif isinstance(body, Finished):
            self._verify_command(body.id)
            repeated, node_time = progress.repeated, progress.node_time
            self.row = row_of(self.node, body, self.ended, repeated=repeated, node_time=node_time)

    def _verify_command(self, command_id: str, sha256: str = "") -> None:
        """Raise `EvidenceError` if an entry is about another command, or another text of it."""
        if command_id != self.command.id:
            raise EvidenceError(
                f"expected a record of {self.command.id}, got one of {command_id}",
                code="other-command",
            )
        if sha256 not in {"", self.sha256}:
            raise EvidenceError(
                f"expected a record of the text {self.sha256}, got one of {sha256}",
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
            # The receipts are verified; only the proof that the log has grown is missing.
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
        if self.answered and state is NodeState.UNREACHED:
            hint = "the node accepted it and will finish it; see `breakglass outcome ID`"
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

    def _report(self, text: str) -> None:
        self.watch.on_step(ProgressLine(node=self.node.name, text=text))
