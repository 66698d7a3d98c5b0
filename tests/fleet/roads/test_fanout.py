# SPDX-License-Identifier: Apache-2.0
"""Asking many nodes at once: in order, and so many at a time."""

import asyncio

from breakglass.fleet.home.inventory import InventoryNode
from breakglass.fleet.roads.fanout import fan_out, width
from tests.support.fake_node import FakeNode
from tests.support.organisation import Organisation


def test_many_are_asked_so_many_at_a_time() -> None:
    """Answers come in the nodes' order, at most `parallel` at a time, each reported once."""
    organisation = Organisation()
    nodes = tuple(FakeNode(organisation=organisation, name=f"n{one}").row for one in range(9))
    now, most = 0, 0
    reported: list[str] = []

    async def ask(node: InventoryNode) -> str:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return node.name

    answers = asyncio.run(fan_out(nodes, ask, parallel=3, on_answer=reported.append))
    assert answers == tuple(node.name for node in nodes)
    assert sorted(reported) == sorted(answers)
    assert most == 3


def test_the_width_never_exceeds_what_may_be_opened() -> None:
    """Without free file descriptors, gRPC would report healthy nodes as unreachable."""
    assert 1 <= width(10_000_000) < 10_000_000
    assert width(2) == 2
