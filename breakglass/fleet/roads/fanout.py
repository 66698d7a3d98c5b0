# SPDX-License-Identifier: Apache-2.0
"""Asking many nodes at once, so many at a time, with one answer for each.

Width is clamped to what the process may open: when descriptors run out, gRPC reports healthy nodes
as unreachable (measured), which would be a lie in the table.
"""

import asyncio
import resource
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from breakglass.core import bounds
from breakglass.fleet.home.inventory import InventoryNode

_DESCRIPTORS_PER_NODE = 3  # a connection, and files while its evidence is kept
_DESCRIPTORS_BESIDE = 64

T = TypeVar("T")


async def fan_out(
    nodes: Sequence[InventoryNode],
    ask: Callable[[InventoryNode], Awaitable[T]],
    *,
    parallel: int = bounds.DEFAULT_PARALLEL,
    on_answer: Callable[[T], None] = lambda _: None,
) -> tuple[T, ...]:
    """Return what `ask` gives for each node, in the nodes' order.

    Args:
        nodes: whom to ask.
        ask: asks one node; it must turn every expected error into an answer.
        parallel: how many are asked at a time, at most.
        on_answer: told each answer when it is there.
    """
    answers: dict[int, T] = {}
    waiting = iter(enumerate(nodes))

    async def work(places: Iterator[tuple[int, InventoryNode]]) -> None:
        for place, node in places:
            answers[place] = await ask(node)
            on_answer(answers[place])

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(width(parallel), len(nodes))):
            tasks.create_task(work(waiting))
    return tuple(answers[place] for place in range(len(nodes)))


def width(parallel: int) -> int:
    """Return how many nodes may be asked at a time; raises the limit of open files to its most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    room = (soft - _DESCRIPTORS_BESIDE) // _DESCRIPTORS_PER_NODE
    return max(1, parallel if soft == resource.RLIM_INFINITY else min(parallel, room))
