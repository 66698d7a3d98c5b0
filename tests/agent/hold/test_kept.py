# SPDX-License-Identifier: Apache-2.0
"""What an agent keeps in memory for a pod or a hold ends with it."""

import asyncio
from pathlib import Path

from breakglass.agent.hold.locks import KeyedLocks
from tests.support.held_node import HeldNode

ROUNDS = 20


async def test_a_lock_that_is_not_used_takes_no_memory() -> None:
    """It is there while a task holds it or waits for it; waiters get it in their order."""
    locks, order = KeyedLocks(), []

    async def work(name: str) -> None:
        async with locks.locked("pod"):
            order.append(name)
            await asyncio.sleep(0)

    async with locks.locked("other"):
        async with asyncio.TaskGroup() as tasks:
            for name in "abc":
                tasks.create_task(work(name))
        assert len(locks) == 1
    assert (order, len(locks)) == (["a", "b", "c"], 0)


async def test_a_lock_is_given_back_by_who_is_cancelled() -> None:
    """Cancelling a waiter keeps the lock for its holder, and the holder gives it back."""
    locks = KeyedLocks()
    async with locks.locked("pod"):
        waiting = asyncio.create_task(locks.locked("pod").__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert len(locks) == 1
    assert len(locks) == 0


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
