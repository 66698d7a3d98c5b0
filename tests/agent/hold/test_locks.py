# SPDX-License-Identifier: Apache-2.0
"""One lock for each key, in order, and no memory of a key that is not used."""

import asyncio

from breakglass.agent.hold.locks import KeyedLocks


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
