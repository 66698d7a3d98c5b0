# SPDX-License-Identifier: Apache-2.0
"""One question to many nodes, for the verbs that only read (`pods`, `holds`).

Each node is a row, whether it answered or not.  The exit status is 4 if a node was reached and
could not answer, else 5 if one was not reached.
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
    """The answer of one node; `found` is empty and `error` is set if it did not answer."""

    node: InventoryNode
    found: tuple[T, ...]
    error: BreakglassError | None = None

    @property
    def row(self) -> dict[str, object]:
        """The node's document for programs."""
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
    """Return the result of a question; `what` names what the nodes were asked for: "pods"."""
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
        message=f"{answered(answers)} answered; the {what} of the others are unknown",
        hint=worst.hint,
    )


def answered(answers: Sequence[Answer[T]]) -> str:
    """Return how many of the nodes answered, such as "2 of 3 nodes"."""
    return f"{sum(one.error is None for one in answers)} of {len(answers)} nodes"
