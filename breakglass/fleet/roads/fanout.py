# SPDX-License-Identifier: Apache-2.0
"""Ask many nodes at once, up to a width, with one answer for each.

The width is bounded by the file descriptors of the process: without a free descriptor, gRPC reports
healthy nodes as unreachable (measured), and the table would be wrong.
"""

import asyncio
import resource
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from breakglass.core import bounds
from breakglass.fleet.home.inventory import InventoryNode

_DESCRIPTORS_PER_NODE = 3  # a connection, and files while its evidence is stored
_OTHER_DESCRIPTORS = 64

T = TypeVar("T")


async def fan_out(
    nodes: Sequence[InventoryNode],
    ask: Callable[[InventoryNode], Awaitable[T]],
    *,
    parallel: int = bounds.DEFAULT_PARALLEL,
    on_answer: Callable[[T], None] = lambda _: None,
) -> tuple[T, ...]:
    """Return the answer of `ask` for each node, in the nodes' order.

    Args:
        nodes: the nodes to ask.
        ask: asks one node; it must turn every expected error into an answer.
        parallel: the most nodes that are asked at a time.
        on_answer: called with each answer when it arrives.
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
    """Return how many nodes may be asked at a time; raise RLIMIT_NOFILE to its hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    room = (soft - _OTHER_DESCRIPTORS) // _DESCRIPTORS_PER_NODE
    return max(1, parallel if soft == resource.RLIM_INFINITY else min(parallel, room))
