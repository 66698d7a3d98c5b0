# SPDX-License-Identifier: Apache-2.0
"""One question to many nodes, for the verbs that only look: each node answers or is told of.

A node that does not answer is a row as well as an error; the exit status is 4 where a node was
reached and could not answer, else 5 where one was not reached.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from breakglass.cli.result import Result
from breakglass.errors import BreakglassError, Exit, Unreached
from breakglass.fleet.home.inventory import InventoryNode
from breakglass.fleet.roads.fanout import fan_out
from breakglass.fleet.roads.port import OpenRoad, Road

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[T]):
    """What one node answered; nothing, with the error, where it did not."""

    node: InventoryNode
    found: tuple[T, ...]
    error: BreakglassError | None = None

    @property
    def row(self) -> dict[str, object]:
        """The node, for programs."""
        error = self.error
        return {
            "node": self.node.name,
            "cluster": self.node.cluster,
            "address": self.node.address.text,
            "state": "answered" if error is None else "unanswered",
            "code": error.stable_code if error else "",
            "message": error.message if error else "",
            "hint": error.hint if error else "",
        }


def ask_all(
    nodes: Sequence[InventoryNode],
    open_road: OpenRoad,
    question: Callable[[Road], Awaitable[tuple[T, ...]]],
) -> tuple[Answer[T], ...]:
    """Return each node's answer to a question, in the nodes' order."""

    async def ask(node: InventoryNode) -> Answer[T]:
        try:
            async with open_road(node) as road:
                return Answer(node=node, found=await question(road))
        except BreakglassError as error:
            return Answer(node=node, found=(), error=error)

    return asyncio.run(fan_out(nodes, ask))


def result(
    answers: Sequence[Answer[T]], what: str, text: str, document: dict[str, object]
) -> Result:
    """Return the result of a question; `what` names what was asked for, such as "pods"."""
    failed = [(one.node, one.error) for one in answers if one.error is not None]
    document = {**document, "nodes": [one.row for one in answers]}
    if not failed:
        return Result(text=text, document=document)
    notes = [f"{node.name}: {error.message} [{error.stable_code}]" for node, error in failed]
    reached = [error for _, error in failed if not isinstance(error, Unreached)]
    worst = (reached or [error for _, error in failed])[0]
    return Result(
        text=text,
        document=document,
        notes=tuple(notes),
        exit_status=Exit.INCOMPLETE if reached else Exit.UNREACHED,
        code=worst.stable_code,
        message=f"expected the {what} of {len(answers)} nodes, got none of {len(failed)}",
        hint=worst.hint,
    )


def answered(answers: Sequence[Answer[T]]) -> str:
    """Return how many of the nodes answered, in words."""
    return f"{sum(one.error is None for one in answers)} of {len(answers)} nodes"
