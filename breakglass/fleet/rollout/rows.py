# SPDX-License-Identifier: Apache-2.0
"""One node's row of a roll-out: the words for how its part ended, and how a row is made.

There is a row for every node, whatever happened there; silence is never read as success (P5).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from breakglass.core.entries import Finished, PodEnded
from breakglass.fleet.home.inventory import InventoryNode

RESTARTED = "restarted"


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
