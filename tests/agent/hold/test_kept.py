# SPDX-License-Identifier: Apache-2.0
"""What an agent keeps in memory for a pod or a hold ends with it."""

from pathlib import Path

from tests.support.held_node import HeldNode

ROUNDS = 20


async def test_pods_that_come_and_go_under_a_hold_are_forgotten(tmp_path: Path) -> None:
    """Only the pods that are there are kept; after the release nothing is."""
    async with HeldNode(tmp_path) as node:
        await node.submit(hold_s=3600)
        for _ in range(ROUNDS):
            await node.replace(node.pods[0])
            await node.advance(5)
        assert node.agent is not None
        hold, watch = node.agent.parts.hold, node.agent.parts.watch
        now = {node.pods[0].uid}
        assert set(node.state.gates) == now
        assert hold.gates._late_set | hold.gates._late_known <= now
        assert set(hold.counters._known) | set(hold.counters._counted_ns) <= now
        await node.submit(verb="release")
        await node.advance(30)
        gates, counters = hold.gates, hold.counters
        assert (len(gates._locks), gates._claims, gates._late_set, gates._late_known) == (
            0,
            {},
            set(),
            set(),
        )
        assert (counters._of_hold, counters._flushed_ms) == ({}, {})
        assert (len(watch._newborn), watch._stopping) == (0, set())
