# SPDX-License-Identifier: Apache-2.0
"""Delivering a command to every node that it is for, with a row for each.

For each node: (1) open the road, (2) submit, (3) verify each receipt as it comes, (4) when it broke
off after the node had spoken, deliver once more - the node acts once and tells the first outcome -,
(5) prove that the node's log has only grown, and keep the evidence, (6) one row.

A node that is not reached is a row, never an absence, and silence is never read as success (P5).
What this version cannot honour in the signed text (a canary, a halt after failures) is refused
before anything is delivered.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from breakglass.core import limits
from breakglass.core.command import Command, Verb
from breakglass.core.entries import Accepted, Finished, PodEnded
from breakglass.core.signed_file import digest, parse_signed_file
from breakglass.errors import BreakglassError, EvidenceError, RefusedError, Unreached
from breakglass.fleet.evidence import Evidence
from breakglass.fleet.fanout import fan_out
from breakglass.fleet.inventory import Inventory, InventoryNode
from breakglass.fleet.roads import OpenRoad, Refusal, Road, Told

ATTEMPTS = 2
RESTARTED = "restarted"
LETTING_GO_S = 30.0  # 110 pods whose limits are properties of systemd: 0.2 s each


class NodeState(StrEnum):
    """How a node's part ended, as far as was observed."""

    DONE = "done"
    PLANNED = "planned"
    RELEASED = "released"
    EXTENDED = "extended"
    NOTHING = "nothing"
    INCOMPLETE = "incomplete"
    INTERRUPTED = "interrupted"
    REFUSED = "refused"
    UNREACHED = "unreached"

    @property
    def is_well(self) -> bool:
        """Whether all was done that the command asked for."""
        return self in {
            NodeState.DONE,
            NodeState.PLANNED,
            NodeState.RELEASED,
            NodeState.EXTENDED,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """One node's part.

    Attributes:
        code: "" where all was done, else why not.
        pods, down, restarted: pods planned, seen down, and seen running again at the last look.
        held: pods that a gate keeps down.
        gates: what holds the pods, in words such as "descendants" or "2 pids, 1 watch only"; ""
            where nothing was to hold them.
        repeated: the node had this command before; nothing was done again.
        evidence: "verified", "none" (nothing came), or the code of what does not verify.
        unkept: why the evidence could not be stored here, or "".
    """

    node: str
    cluster: str
    state: NodeState
    code: str = ""
    message: str = ""
    hint: str = ""
    pods: int = 0
    down: int = 0
    restarted: int = 0
    held: int = 0
    gates: str = ""
    ms: int = 0
    repeated: bool = False
    node_time: str = ""
    evidence: str = "none"
    unkept: str = ""

    @property
    def is_suspect(self) -> bool:
        """Whether something that should verify does not."""
        return self.evidence not in {"verified", "none"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that a node told while it was at it, for a person who watches."""

    node: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Whom to tell while it goes on."""

    on_step: Callable[[Step], None] = lambda _: None
    on_row: Callable[[NodeRow], None] = lambda _: None


def targeted(command: Command, inventory: Inventory) -> tuple[InventoryNode, ...]:
    """Return the nodes to deliver to; raise `RefusedError` for what cannot be honoured."""
    rollout, caps = command.rollout, command.caps
    nodes = inventory.covered_by(command.targets)
    if rollout.canary or rollout.max_failures < caps.max_nodes:
        raise RefusedError(
            f"expected a canary of 0 and max_failures of {caps.max_nodes},"
            f" got {rollout.canary} and {rollout.max_failures}",
            code="rollout-unsupported",
            hint="this version delivers to all nodes at once; draft it again",
        )
    if not nodes:
        raise RefusedError(
            f"expected nodes of the inventory in its targets, got none of {len(inventory.nodes)}",
            code="no-nodes",
            hint="deliver it from the home that has those nodes",
        )
    if len(nodes) > caps.max_nodes:
        raise RefusedError(
            f"expected at most {caps.max_nodes} nodes, as signed, got {len(nodes)}",
            code="too-many-nodes",
            hint="the inventory has grown since it was drafted; draft it again",
        )
    return nodes


async def roll_out(
    command: Command,
    raw: bytes,
    nodes: Sequence[InventoryNode],
    *,
    open_road: OpenRoad,
    evidence_folder: Callable[[InventoryNode], Path],
    watch: Watch | None = None,
) -> tuple[NodeRow, ...]:
    """Deliver a signed file to these nodes; return a row for each, in their order."""
    watch = watch or Watch()
    sha256 = digest(parse_signed_file(raw).text)

    async def deliver(node: InventoryNode) -> NodeRow:
        evidence = Evidence(folder=evidence_folder(node), log_key=node.log_key)
        delivery = _Delivery(
            node=node, command=command, raw=raw, sha256=sha256, evidence=evidence, watch=watch
        )
        return await delivery.carry(open_road)

    return await fan_out(
        nodes, deliver, parallel=command.rollout.max_parallel, on_answer=watch.on_row
    )


def silence_s(command: Command) -> float:
    """Return how long a node may need from one pod's end to the next one's: the whole ladder."""
    verb = command.action.verb
    if not verb.stops:
        return LETTING_GO_S + limits.READ_TIMEOUT_S
    return (
        limits.RUNTIME_PATIENCE_S
        + command.action.grace_s
        + limits.STOP_MARGIN_S
        + limits.KILL_TIMEOUT_S
        + limits.QUIET_TIMEOUT_S
        + (limits.SANDBOX_TIMEOUT_S if verb is Verb.EVICT else 0)
        + limits.READ_TIMEOUT_S
    )


def row_of(
    node: InventoryNode,
    finished: Finished,
    ended: Sequence[PodEnded],
    *,
    repeated: bool,
    node_time: str,
) -> NodeRow:
    """Return the row that a command's recorded end makes, with the recorded ends of its pods."""
    state, code, note = NodeState(finished.result), finished.code, finished.note
    gates = gates_of(one.gate for one in ended)
    if state is NodeState.DONE and gates and finished.restarted:
        # A stop without a hold may only report it; a hold has failed.
        state, code = NodeState.INCOMPLETE, RESTARTED
        note = note or f"expected held pods to stay down, got {finished.restarted} started again"
    return NodeRow(
        node=node.name,
        cluster=node.cluster,
        state=state,
        code="" if state.is_well else code or str(state),
        message=note,
        hint="" if state.is_well else _HINTS.get(code) or _HINTS.get(state, ""),
        pods=finished.pods,
        down=finished.down,
        restarted=finished.restarted,
        held=finished.held,
        gates=gates,
        ms=finished.ms,
        repeated=repeated,
        node_time=node_time,
    )


def gates_of(gates: Iterable[str]) -> str:
    """Return what holds some pods, with counts where it is not the same for all of them."""
    counts = Counter(gate for gate in gates if gate)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {gate}" for gate, count in sorted(counts.items()))


_HINTS: dict[str, str] = {
    "no-hold": "over already, or another revision's: see `breakglass holds`",
    "gate-not-lifted": "put the old values back on that node: docs/runbooks/let-go.md, section C",
    RESTARTED: "see `breakglass holds` for what holds them, then look at the node itself",
    NodeState.NOTHING: "no such pod runs there; check namespace, name and revision",
    NodeState.INCOMPLETE: "look at `breakglass outcome ID`, then at the node itself",
    NodeState.INTERRUPTED: "the agent was ended in the middle; draft the stop again",
}


def _by(ended: PodEnded) -> str:
    """Return what holds a pod down, and what is wrong with that, as it is told to who watches."""
    held = f", held by {ended.gate}" if ended.gate else ""
    return f"{held} ({ended.gate_note})" if ended.gate_note else held


@dataclass(slots=True, kw_only=True)
class _Delivery:
    """One node's part, while it goes on."""

    node: InventoryNode
    command: Command
    raw: bytes
    sha256: str
    evidence: Evidence
    watch: Watch
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

    def _hear(self, told: Told) -> None:
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
        self.watch.on_step(Step(node=self.node.name, text=text))
