# SPDX-License-Identifier: Apache-2.0
"""One node's row of a roll-out: its state, and how the row is made.

Every node has a row, whatever happened there; no answer never counts as success (P5).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from breakglass.core.entries import Finished, PodEnded
from breakglass.fleet.home.inventory import InventoryNode

RESTARTED = "restarted"


class NodeState(StrEnum):
    """How the command ended on a node, as far as it was observed."""

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
        """Whether the node did everything that the command asked for."""
        return self in {
            NodeState.DONE,
            NodeState.PLANNED,
            NodeState.RELEASED,
            NodeState.EXTENDED,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """What one node did with a command.

    Attributes:
        code: "" if the node did everything, else the reason.
        pods, down, restarted: pods planned, seen down, and seen running again at the last look.
        held: pods that a gate keeps down.
        gates: the kinds of gate, such as "descendants" or "2 pids, 1 watch only"; "" for a command
            without a hold.
        repeated: the node had accepted the command before, and did not act again.
        evidence: "verified", "none" (no receipt came), or the code of what does not verify.
        unkept: why the evidence could not be stored on the bastion, or "".
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
        """Whether a receipt or the log of the node does not verify."""
        return self.evidence not in {"verified", "none"}


def row_of(
    node: InventoryNode,
    finished: Finished,
    ended: Sequence[PodEnded],
    *,
    repeated: bool,
    node_time: str,
) -> NodeRow:
    """Return the row of a command's recorded outcome on a node, and of its pods' outcomes."""
    state, code, note = NodeState(finished.result), finished.code, finished.note
    gates = gates_of(one.gate for one in ended)
    if state is NodeState.DONE and gates and finished.restarted:
        # Without a hold, pods that start again are normal; with one, the hold has failed.
        state, code = NodeState.INCOMPLETE, RESTARTED
        note = note or f"{finished.restarted} held pods started again"
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
    """Return the pods' kind of gate, or each kind with its count if they differ."""
    counts = Counter(gate for gate in gates if gate)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {gate}" for gate, count in sorted(counts.items()))


_HINTS: dict[str, str] = {
    "no-hold": "the hold has ended, or is of another revision: see `breakglass holds`",
    "gate-not-lifted": "restore the old limits on that node: docs/runbooks/let-go.md, section C",
    RESTARTED: "see `breakglass holds` for the pods' gates, then check the node itself",
    NodeState.NOTHING: "no such pod runs there; check namespace, name and revision",
    NodeState.INCOMPLETE: "see `breakglass outcome ID`, then check the node itself",
    NodeState.INTERRUPTED: "the agent was stopped before it finished; draft the command again",
}
