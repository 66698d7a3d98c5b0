# SPDX-License-Identifier: Apache-2.0
"""Ask nodes for the recorded outcome of a command, and verify the answers."""

from dataclasses import replace
from pathlib import Path

from breakglass.core.entries import Accepted, Entry, Finished, PodEnded
from breakglass.errors import BreakglassError, EvidenceError, RefusedError, Unreached
from breakglass.fleet.evidence.receipts import NodeEvidence
from breakglass.fleet.home.inventory import InventoryNode
from breakglass.fleet.roads.port import NotOnRecord, OnRecord, OpenRoad, Road
from breakglass.fleet.rollout.rows import NodeRow, NodeState, row_of


async def ask_outcome(
    node: InventoryNode, command_id: str, *, open_road: OpenRoad, folder: Path
) -> tuple[NodeRow | None, tuple[PodEnded, ...]]:
    """Return a node's row and pod outcomes of a command; None if it never accepted the command."""
    evidence = NodeEvidence(folder=folder, log_key=node.log_key)
    blank = NodeRow(node=node.name, cluster=node.cluster, state=NodeState.UNREACHED)
    try:
        async with open_road(node) as road:
            found = await road.outcome(command_id)
            row, pods = _verified(node, command_id, found, evidence)
            return await _settled(row, road, evidence), pods
    except NotOnRecord:
        return None, ()
    except BreakglassError as error:
        state = NodeState.INCOMPLETE
        if isinstance(error, Unreached):
            state = NodeState.UNREACHED
        elif isinstance(error, RefusedError):
            state = NodeState.REFUSED
        suspect = error.stable_code if isinstance(error, EvidenceError) else "none"
        return replace(
            blank,
            state=state,
            code=error.stable_code,
            message=error.message,
            hint=error.hint,
            evidence=suspect,
        ), ()


def _verified(
    node: InventoryNode, command_id: str, found: OnRecord, evidence: NodeEvidence
) -> tuple[NodeRow, tuple[PodEnded, ...]]:
    accepted = evidence.take(found.accepted)
    pods = tuple(evidence.take(receipt) for receipt in found.pods)
    finished = evidence.take(found.finished) if found.finished else None
    ended = tuple(one.body for one in pods if isinstance(one.body, PodEnded))
    if (
        not isinstance(accepted.body, Accepted)
        or len(ended) != len(pods)
        or any(_id_of(one) != command_id for one in (accepted, *pods))
    ):
        raise EvidenceError(
            f"expected records of {command_id}, got one of another command", code="other-command"
        )
    if finished is None:
        row = NodeRow(
            node=node.name,
            cluster=node.cluster,
            state=NodeState.INCOMPLETE,
            code="running",
            message=f"the command has not ended: {found.state}",
            hint="the node is still working on it; ask again later",
            pods=len(ended),
            node_time=found.node_time,
        )
        return row, ended
    if not isinstance(finished.body, Finished) or finished.body.id != command_id:
        raise EvidenceError(
            f"expected the outcome of {command_id}, got one of another", code="other-command"
        )
    row = row_of(node, finished.body, ended, repeated=False, node_time=found.node_time)
    return row, ended


def _id_of(entry: Entry) -> str:
    body = entry.body
    return body.id if isinstance(body, Accepted | PodEnded) else ""


async def _settled(row: NodeRow, road: Road, evidence: NodeEvidence) -> NodeRow:
    return replace(row, evidence="verified", unkept=await evidence.settle(road))
