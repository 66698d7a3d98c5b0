# SPDX-License-Identifier: Apache-2.0
"""`breakglass log verify`: read the whole logs of nodes and verify them on this machine."""

import asyncio
from typing import TYPE_CHECKING

import click

from breakglass.cli.result import Result
from breakglass.cli.session import Session
from breakglass.errors import Exit

if TYPE_CHECKING:
    from breakglass.fleet.evidence.logcheck import LogRow


@click.group()
def command() -> None:
    """Verify the nodes' logs."""


@command.command("verify")
@click.argument("nodes", nargs=-1, metavar="[NODE ...]")
@click.pass_obj
def verify(session: Session, nodes: tuple[str, ...]) -> Result:
    """Read the nodes' whole logs and verify them on this machine.

    It checks the Merkle tree and its checkpoint against the key in the inventory, compares the log
    with the checkpoints and receipts kept here, and decides every command and hold again from the
    trust and the signatures in the log.
    """
    from breakglass.fleet.evidence.logcheck import check_log
    from breakglass.fleet.roads.direct import direct_road
    from breakglass.fleet.roads.fanout import fan_out

    home = session.home()
    asked, trust = home.inventory().some_nodes(nodes), home.trust()
    open_road = direct_road(home.courier())
    rows = asyncio.run(
        fan_out(
            asked,
            lambda node: check_log(
                node,
                open_road=open_road,
                folder=home.evidence_folder(node),
                trust_sha256=trust.sha256,
            ),
            parallel=PARALLEL,
        )
    )
    return _result(rows)


PARALLEL = 16  # each log is read whole, and deciding again costs CPU time on this machine


def _result(rows: "tuple[LogRow, ...]") -> Result:
    from breakglass.cli import table

    head = [
        "NODE",
        "CLUSTER",
        "LOG",
        "ENTRIES",
        "APPROVED",
        "REFUSED",
        "UNJUDGED",
        "OPEN",
        "HOLDS",
        "NOTE",
    ]
    cells = [(row.node, row.cluster, row.state, *_counts(row), _note(row)) for row in rows]
    entries = sum(row.entries for row in rows)
    good = sum(row.state == "verified" for row in rows)
    status, bad = _ending(rows)
    codes = sorted({row.code for row in bad})
    return Result(
        text=f"{table.render(head, cells)}\n{good} of {len(rows)} logs verified, {entries} entries",
        document={"nodes": [_document(row) for row in rows], "entries": entries},
        exit_status=status,
        code=codes[0] if codes else "ok",
        message=f"{good} of {len(rows)} logs verified: {', '.join(codes)}" if bad else "",
        hint=bad[0].hint if bad else "",
    )


def _ending(rows: "tuple[LogRow, ...]") -> "tuple[Exit, list[LogRow]]":
    for state, status in (
        ("bad", Exit.EVIDENCE),
        ("failed", Exit.INCOMPLETE),
        ("unreached", Exit.UNREACHED),
    ):
        bad = [row for row in rows if row.state == state]
        if bad:
            return status, bad
    return Exit.DONE, []


def _counts(row: "LogRow") -> tuple[object, ...]:
    report = row.report
    if report is None:
        return (row.entries or "-", "-", "-", "-", "-", "-")
    decided = (report.approved, report.refused, report.unjudged)
    return (row.entries, *decided, len(report.unfinished), len(report.held))


def _note(row: "LogRow") -> str:
    if row.code:
        return f"[{row.code}] {row.message}"
    let_go = len(row.report.let_go) if row.report else 0
    notes = (
        f"root ended {let_go} holds on the node itself" if let_go else "",
        f"log not stored on this machine: {row.unkept}" if row.unkept else "",
    )
    return "; ".join(note for note in notes if note)


def _document(row: "LogRow") -> dict[str, object]:
    report = row.report
    return {
        "node": row.node,
        "cluster": row.cluster,
        "state": row.state,
        "code": row.code or "ok",
        "message": row.message,
        "hint": row.hint,
        "entries": row.entries,
        "approved": report.approved if report else 0,
        "refused": report.refused if report else 0,
        "unjudged": report.unjudged if report else 0,
        "unfinished": list(report.unfinished) if report else [],
        "held": list(report.held) if report else [],
        "let_go": list(report.let_go) if report else [],
        "findings": [
            {"index": one.index, "message": one.message}
            for one in (report.findings if report else ())
        ],
        "unkept": row.unkept,
    }
