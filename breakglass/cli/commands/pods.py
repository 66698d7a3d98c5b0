# SPDX-License-Identifier: Apache-2.0
"""`breakglass pods`: the nodes' pods, as their runtimes see them."""

import asyncio
from typing import TYPE_CHECKING

import click

from breakglass.cli.result import Result
from breakglass.cli.session import Session
from breakglass.errors import BreakglassError, Exit, Unreached

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from breakglass.fleet.inventory import InventoryNode
    from breakglass.fleet.roads import NodePod, OpenRoad


@click.command()
@click.argument("nodes", nargs=-1, metavar="[NODE ...]")
@click.pass_obj
def command(session: Session, nodes: tuple[str, ...]) -> Result:
    """List the nodes' pods as their runtimes see them.

    All nodes of the inventory are asked by IP, or those that are named. No API server is.
    """
    from breakglass.fleet.fanout import fan_out
    from breakglass.fleet.roads.direct import direct_road

    home = session.home()
    asked = home.inventory().some_nodes(nodes)
    answers = asyncio.run(fan_out(asked, _asking(direct_road(home.courier()))))
    pods = [
        {"node": node.name, "cluster": node.cluster, **_document(pod)}
        for node, (found, _) in zip(asked, answers, strict=True)
        for pod in found
    ]
    failed = [
        (node, error) for node, (_, error) in zip(asked, answers, strict=True) if error is not None
    ]
    return _result(asked, pods, failed)


def _asking(
    open_road: "OpenRoad",
) -> "Callable[[InventoryNode], Awaitable[tuple[tuple[NodePod, ...], BreakglassError | None]]]":
    async def ask(
        node: "InventoryNode",
    ) -> "tuple[tuple[NodePod, ...], BreakglassError | None]":
        try:
            async with open_road(node) as road:
                return await road.pods(), None
        except BreakglassError as error:
            return (), error

    return ask


def _result(
    asked: "tuple[InventoryNode, ...]",
    pods: list[dict[str, object]],
    failed: "list[tuple[InventoryNode, BreakglassError]]",
) -> Result:
    from breakglass.cli import table

    head = ("node", "namespace", "name", "daemonset", "revision", "state", "running", "protected")
    text = table.render(
        [key.upper() for key in head], [[_cell(pod[key]) for key in head] for pod in pods]
    )
    errors = {node.name: error for node, error in failed}
    rows = [_node_row(node, errors.get(node.name)) for node in asked]
    notes = tuple(f"{node.name}: {error.message} [{error.stable_code}]" for node, error in failed)
    document = {"pods": pods, "nodes": rows}
    summary = f"{len(pods)} pods on {len(asked) - len(failed)} of {len(asked)} nodes"
    if not failed:
        return Result(text=f"{text}\n{summary}", document=document)
    reached = [error for _, error in failed if not isinstance(error, Unreached)]
    worst = (reached or [error for _, error in failed])[0]
    return Result(
        text=f"{text}\n{summary}",
        document=document,
        notes=notes,
        exit_status=Exit.INCOMPLETE if reached else Exit.UNREACHED,
        code=worst.stable_code,
        message=f"expected the pods of {len(asked)} nodes, got none of {len(failed)}",
        hint=worst.hint,
    )


def _cell(value: object) -> str:
    return {True: "yes", False: ""}[value] if isinstance(value, bool) else str(value)


def _node_row(node: "InventoryNode", error: BreakglassError | None) -> dict[str, object]:
    return {
        "node": node.name,
        "cluster": node.cluster,
        "address": node.address.text,
        "state": "answered" if error is None else "unanswered",
        "code": error.stable_code if error else "",
        "message": error.message if error else "",
        "hint": error.hint if error else "",
    }


def _document(pod: "NodePod") -> dict[str, object]:
    return {
        "namespace": pod.namespace,
        "name": pod.name,
        "uid": pod.uid,
        "daemonset": pod.daemonset,
        "revision": pod.revision,
        "state": pod.state,
        "containers": pod.containers,
        "running": pod.running,
        "protected": pod.protected,
    }
