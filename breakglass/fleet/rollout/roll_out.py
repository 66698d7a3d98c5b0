# SPDX-License-Identifier: Apache-2.0
"""Deliver a command to every node that it targets, with a row for each.

The nodes are those of the inventory that the command's targets cover.  This version supports
neither a canary nor a halt after failures: a command whose signed text asks for them is refused
before it is delivered to any node.
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
    """Return the nodes to deliver to; raise `RefusedError` if this version or home cannot."""
    rollout, caps = command.rollout, command.caps
    nodes = inventory.covered_by(command.targets)
    if rollout.canary or rollout.max_failures < caps.max_nodes:
        raise RefusedError(
            f"expected a canary of 0 and max_failures of {caps.max_nodes},"
            f" got {rollout.canary} and {rollout.max_failures}",
            code="rollout-unsupported",
            hint="this version always delivers to all nodes; draft the command again with it",
        )
    if not nodes:
        raise RefusedError(
            f"the command targets 0 of the {len(inventory.nodes)} nodes of this inventory",
            code="no-nodes",
            hint="deliver it from the home whose inventory has those nodes",
        )
    if len(nodes) > caps.max_nodes:
        raise RefusedError(
            f"expected at most {caps.max_nodes} nodes, as signed, got {len(nodes)}",
            code="too-many-nodes",
            hint="the inventory has grown since the draft; draft the command again",
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
