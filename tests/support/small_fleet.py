# SPDX-License-Identifier: Apache-2.0
"""A few fake nodes, the evidence that their bastion keeps, and one command for all of them."""

import asyncio
from pathlib import Path

from breakglass.core.decide import Approved
from breakglass.fleet.home.inventory import InventoryNode
from breakglass.fleet.rollout.deliver import Observer
from breakglass.fleet.rollout.outcomes import ask_outcome
from breakglass.fleet.rollout.roll_out import roll_out
from breakglass.fleet.rollout.rows import NodeRow
from tests.support.fake_node import FakeNode, roads_to
from tests.support.organisation import Organisation


class Fleet:
    """A few nodes, their bastion's evidence, and one approved command for all of them."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.organisation = Organisation()
        self.folder = folder
        self.nodes = [FakeNode(organisation=self.organisation, name=name) for name in names]
        self.text = self.organisation.command()
        self.raw = self.organisation.signed(self.text, "ana bo")
        verdict = self.organisation.decide(self.text, "ana", "bo")
        assert isinstance(verdict, Approved)
        self.approved = verdict

    def evidence(self, node: InventoryNode) -> Path:
        """Return the folder of a node's evidence."""
        return self.folder / node.name

    def run(self, *nodes: FakeNode, watch: Observer | None = None) -> dict[str, NodeRow]:
        """Deliver to these nodes, or to all; return the rows by name."""
        asked = nodes or tuple(self.nodes)
        rows = asyncio.run(
            roll_out(
                self.approved.command,
                self.raw,
                [node.row for node in asked],
                open_road=roads_to(*asked),
                evidence_folder=self.evidence,
                watch=watch,
            )
        )
        assert [row.node for row in rows] == [node.name for node in asked]
        return {row.node: row for row in rows}

    def outcome(self, node: FakeNode) -> NodeRow | None:
        """Ask one node for the recorded outcome of the command."""
        row, _ = asyncio.run(
            ask_outcome(
                node.row,
                self.approved.command.id,
                open_road=roads_to(node),
                folder=self.evidence(node.row),
            )
        )
        return row
