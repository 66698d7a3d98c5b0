# SPDX-License-Identifier: Apache-2.0
"""`breakglass outcome`: show what the nodes recorded about a command."""

import asyncio
from typing import TYPE_CHECKING

import click

from breakglass.cli.result import Result
from breakglass.cli.session import Session
from breakglass.errors import Exit

if TYPE_CHECKING:
    from breakglass.core.command import Mode
    from breakglass.core.entries import PodEnded


@click.command()
@click.argument("command_id", metavar="ID")
@click.pass_obj
def command(session: Session, command_id: str) -> Result:
    """Show what the nodes recorded about a command.

    It asks every node of the inventory and shows each pod. Nodes that never accepted the command
    are counted separately.
    """
    from breakglass.cli import rows as tables
    from breakglass.core.names import parse_id
    from breakglass.fleet.roads.direct import direct_road
    from breakglass.fleet.roads.fanout import fan_out
    from breakglass.fleet.rollout.outcomes import ask_outcome

    home = session.home()
    nodes, wanted = home.inventory().some_nodes(), parse_id(command_id)
    open_road = direct_road(home.courier())
    answers = asyncio.run(
        fan_out(
            nodes,
            lambda node: ask_outcome(
                node, wanted, open_road=open_road, folder=home.evidence_folder(node)
            ),
        )
    )
    rows = [row for row, _ in answers if row is not None]
    pods = [
        _pod(node.name, one)
        for node, (_, ended) in zip(nodes, answers, strict=True)
        for one in ended
    ]
    without = len(nodes) - len(rows)
    if not rows:
        return _unknown(wanted, without)
    found = tables.result(
        rows,
        _mode_of([one for _, ended in answers for one in ended]),
        session.now(),
        {"id": wanted, "pods": pods, "not_on_record": without},
    )
    return _with_pods(found, pods, without)


def _with_pods(found: Result, pods: list[dict[str, object]], without: int) -> Result:
    from dataclasses import replace

    from breakglass.cli import table

    head = ["node", "namespace", "name", "seen", "ms"]
    if any(pod["gate"] for pod in pods):
        head.append("gate")
    cells = [[pod[key] for key in head] for pod in pods]
    parts = [table.render([key.upper() for key in head], cells)] if pods else []
    text = "\n\n".join((*parts, f"{found.text}; {without} nodes have no record of the command"))
    return replace(found, text=text)


def _unknown(wanted: str, without: int) -> Result:
    return Result(
        text=f"0 of {without} nodes have a record of {wanted}",
        document={"id": wanted, "nodes": [], "pods": [], "not_on_record": without},
        exit_status=Exit.INCOMPLETE,
        code="not-on-record",
        message=f"0 of {without} nodes have a record of {wanted}",
        hint="compare the id with `breakglass show FILE`; or the command was never delivered",
    )


def _mode_of(pods: "list[PodEnded]") -> "Mode":
    from breakglass.core.command import Mode

    return Mode(pods[0].mode) if pods else Mode.EXECUTE


def _pod(node: str, ended: "PodEnded") -> dict[str, object]:
    return {
        "node": node,
        "namespace": ended.namespace,
        "name": ended.name,
        "uid": ended.uid,
        "seen": ended.seen,
        "ms": ended.ms,
        "resumed": ended.resumed,
        "gate": ended.gate,
        "gate_note": ended.gate_note,
        "sandbox": ended.sandbox,
        "evidence": ended.evidence,
        "evidence_note": ended.evidence_note,
        "containers": [
            {
                "name": one.name,
                "id": one.id,
                "rung": one.rung,
                "seen": one.seen,
                "kernel": one.kernel,
                "ms": one.ms,
                "error": one.error,
            }
            for one in ended.containers
        ],
    }
