# SPDX-License-Identifier: Apache-2.0
"""`breakglass run`: deliver an approved file to the nodes and report each node's outcome.

Order: (1) decide here, as each node will, (2) find the nodes, (3) show and ask, (4) deliver.  A
file that is not approved is not sent to any node.
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from breakglass.cli.result import Result, talk
from breakglass.cli.session import Session
from breakglass.errors import Exit, Interrupted, UsageError

if TYPE_CHECKING:
    from breakglass.core.decide import Approved
    from breakglass.core.signed_file import SignedFile
    from breakglass.core.trust import Trust
    from breakglass.fleet.home.home import Home
    from breakglass.fleet.home.inventory import InventoryNode
    from breakglass.fleet.rollout.rows import NodeRow


@click.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def command(session: Session, file: Path, *, yes: bool) -> Result:
    """Deliver an approved file and report each node's outcome.

    Delivering it again is safe: a node acts only once and answers its first outcome again. Ctrl-C
    stops only this program: the nodes finish what they accepted.
    """
    from breakglass.cli import review as reviews
    from breakglass.fleet.rollout.roll_out import targeted

    home = session.home()
    trust, inventory = home.trust(), home.inventory()
    parts = reviews.read_file(file)
    approved = _decided(parts, trust, session)  # (1)
    nodes = targeted(approved.command, inventory)  # (2)
    others = len(inventory.nodes) - len(nodes)
    _show_and_ask(session, approved, nodes, others, yes=yes)  # (3)
    rows, is_whole = _deliver(session, home, approved, parts, nodes)  # (4)
    return _result(session, approved, rows, others, is_whole=is_whole)


def _decided(parts: "SignedFile", trust: "Trust", session: Session) -> "Approved":
    from breakglass.core import bounds
    from breakglass.core.decide import Approved, decide

    verdict = decide(parts.text, parts.armors, trust, session.now(), skew_s=bounds.DEFAULT_SKEW_S)
    if not isinstance(verdict, Approved):
        raise verdict.as_error()
    return verdict


def _show_and_ask(
    session: Session,
    approved: "Approved",
    nodes: "tuple[InventoryNode, ...]",
    others: int,
    *,
    yes: bool,
) -> None:
    from breakglass.cli.review import banner
    from breakglass.core.signed_file import code

    for line in banner(approved.command):
        talk(line)
    talk(approved.command.summary)
    people = ", ".join(one.person for one in approved.approvals)
    talk(f"approved by {people}; code {code(approved.text)}; id {approved.command.id}")
    talk(f"targets {len(nodes)} nodes of the inventory; {others} other nodes are not targeted")
    if yes:
        return
    if not session.is_terminal():
        raise UsageError(
            "expected a terminal to ask on, got none",
            code="no-terminal",
            hint="run it on a terminal, or give --yes",
        )
    if not click.confirm("Deliver it?", err=True):
        raise Interrupted(
            "the question was answered with no", code="declined", hint="nothing was delivered"
        )


def _deliver(
    session: Session,
    home: "Home",
    approved: "Approved",
    parts: "SignedFile",
    nodes: "tuple[InventoryNode, ...]",
) -> "tuple[tuple[NodeRow, ...], bool]":
    """Return a row for every node, and whether every node's delivery ended."""
    from dataclasses import replace

    from breakglass.cli.live import watching
    from breakglass.cli.rows import mark_of
    from breakglass.core.signed_file import render_signed_file
    from breakglass.fleet.roads.direct import direct_road
    from breakglass.fleet.rollout.roll_out import roll_out

    ended: dict[str, NodeRow] = {}
    quiet = session.output == "json"
    with watching(len(nodes), mark_of(approved.command.mode), quiet=quiet) as watch:

        def on_row(row: "NodeRow") -> None:
            ended[row.node] = row
            watch.on_row(row)

        try:
            rows = asyncio.run(
                roll_out(
                    approved.command,
                    render_signed_file(parts),
                    nodes,
                    open_road=direct_road(home.courier()),
                    evidence_folder=home.evidence_folder,
                    watch=replace(watch, on_row=on_row),
                )
            )
        except KeyboardInterrupt:
            return tuple(ended.get(node.name) or _unseen(node) for node in nodes), False
    return rows, True


def _unseen(node: "InventoryNode") -> "NodeRow":
    """Return the row of a node whose delivery had not ended when a person pressed Ctrl-C."""
    from breakglass.fleet.rollout.rows import NodeRow, NodeState

    return NodeRow(
        node=node.name,
        cluster=node.cluster,
        state=NodeState.UNREACHED,
        code="interrupted",
        message="interrupted before the node reported its outcome",
        hint=Interrupted.default_hint,
    )


def _result(
    session: Session,
    approved: "Approved",
    rows: "tuple[NodeRow, ...]",
    others: int,
    *,
    is_whole: bool,
) -> Result:
    from dataclasses import replace

    from breakglass.cli import rows as tables
    from breakglass.core.signed_file import code

    found = tables.result(
        rows,
        approved.command.mode,
        session.now(),
        {
            "id": approved.command.id,
            "sha256": approved.sha256,
            "spoken_code": code(approved.text),
            "summary": approved.command.summary,
            "not_targeted": others,
        },
    )
    found = replace(found, text=f"{found.text}; {others} other nodes not targeted")
    if is_whole:
        return found
    return replace(
        found,
        exit_status=Exit.INTERRUPTED,
        code=Interrupted.code,
        message="interrupted before every node had reported its outcome",
        hint=Interrupted.default_hint,
    )
