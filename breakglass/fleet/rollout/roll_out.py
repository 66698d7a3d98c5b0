# SPDX-License-Identifier: Apache-2.0
"""Roll a command out to every node that it is for, with a row for each.

The nodes are those of the inventory that the command names; each is one `deliver`.  What this
version cannot honour in the signed text (a canary, a halt after failures) is refused before
anything is delivered.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from breakglass.core.command import Command
from breakglass.core.signed_file import digest, parse_signed_file
from breakglass.errors import RefusedError
from breakglass.fleet.evidence.receipts import NodeEvidence
from breakglass.fleet.home.inventory import Inventory, InventoryNode
from breakglass.fleet.roads.fanout import fan_out
from breakglass.fleet.roads.port import OpenRoad
from breakglass.fleet.rollout.deliver import Delivery, Observer
from breakglass.fleet.rollout.rows import NodeRow


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
    watch: Observer | None = None,
) -> tuple[NodeRow, ...]:
    """Deliver a signed file to these nodes; return a row for each, in their order."""
    watch = watch or Observer()
    sha256 = digest(parse_signed_file(raw).text)

    async def deliver(node: InventoryNode) -> NodeRow:
        evidence = NodeEvidence(folder=evidence_folder(node), log_key=node.log_key)
        delivery = Delivery(
            node=node, command=command, raw=raw, sha256=sha256, evidence=evidence, watch=watch
        )
        return await delivery.carry(open_road)

    return await fan_out(
        nodes, deliver, parallel=command.rollout.max_parallel, on_answer=watch.on_row
    )
