# SPDX-License-Identifier: Apache-2.0
"""`breakglass holds`: list the holds on the nodes: workload, reason, end and approvers.

Each hold of each node is a row.  A node without holds and a node that did not answer are rows too,
because the holds of an unreached node must not look as if they had ended (P5).
"""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from breakglass.cli.result import Result
from breakglass.cli.session import Session

if TYPE_CHECKING:
    from breakglass.cli.answers import Answer
    from breakglass.fleet.roads.port import NodeHold

_HEAD = (
    "NODE", "WORKLOAD", "WHY", "UNTIL", "LEFT", "BY", "GATE", "PODS", "BLOCKED", "STOPS", "LEAKED",
    "COMMAND",
)  # fmt: skip
_SHOWN_WHY = 40
_SHOWN_IMAGE = len("sha256:") + 12


@click.command()
@click.argument("nodes", nargs=-1, metavar="[NODE ...]")
@click.pass_obj
def command(session: Session, nodes: tuple[str, ...]) -> Result:
    """List the nodes' holds: workload, reason, end and approvers.

    It asks all nodes of the inventory by IP, or only the named ones. BLOCKED counts the starts that
    failed at the gate. STOPS counts the containers that ran and that the agent stopped, and LEAKED
    is how long they ran.
    """
    from breakglass.cli import answers
    from breakglass.fleet.roads.direct import direct_road

    home = session.home()
    asked = home.inventory().some_nodes(nodes)
    answered = answers.ask_all(asked, direct_road(home.courier()), lambda road: road.holds())
    return view(answered)


def view(answered: "tuple[Answer[NodeHold], ...]") -> Result:
    """Return the nodes' holds as a table and as a document."""
    from dataclasses import replace

    from breakglass.cli import answers, table

    rows = [row for one in answered for row in _rows(one)]
    holds = [(one.node, hold) for one in answered for hold in one.found]
    drill = any(hold.mode == "drill" for _, hold in holds)
    head = ("MODE", *_HEAD) if drill else _HEAD
    text = table.render(head, rows if drill else [row[1:] for row in rows])
    pods = sum(len(hold.pods) for _, hold in holds)
    total = f"{len(holds)} holds; {pods} pods held down; {answers.answered(answered)} answered"
    document: dict[str, object] = {
        "holds": [
            {"node": node.name, "cluster": node.cluster, **asdict(hold)} for node, hold in holds
        ]
    }
    found = answers.result(answered, "holds", f"{text}\n{total}", document)
    return replace(found, notes=(*_defects(answered), *found.notes))


def _rows(answer: "Answer[NodeHold]") -> list[tuple[object, ...]]:
    node, blank = answer.node.name, ("-",) * (len(_HEAD) - 3)
    if answer.error is not None:
        code = f"[{answer.error.stable_code}] did not answer: holds unknown"
        return [("-", node, "?", code, *blank)]
    if not answer.found:
        return [("-", node, "-", "no holds", *blank)]
    return [(hold.mode.upper(), node, *_cells(hold)) for hold in answer.found]


def _cells(hold: "NodeHold") -> tuple[object, ...]:
    from breakglass.fleet.rollout.rows import gates_of

    revision = f"@{hold.revision}" if hold.revision else ""
    image = f" {hold.image[:_SHOWN_IMAGE]}" if hold.image else ""
    why = ": ".join(part for part in (hold.incident, hold.reason) if part)
    return (
        f"{hold.workload}{revision}{image}",
        why if len(why) <= _SHOWN_WHY else f"{why[: _SHOWN_WHY - 3]}...",
        hold.until,
        _span(hold.left_s),
        ", ".join(hold.approvals),
        gates_of(pod.gate for pod in hold.pods) or "-",
        len(hold.pods),
        hold.attempts,
        hold.stops,
        f"{hold.leaked_ms} ms",
        hold.command,
    )


def _defects(answered: "tuple[Answer[NodeHold], ...]") -> tuple[str, ...]:
    """Return a line for each pod whose hold has a problem."""
    return tuple(
        f"{one.node.name}: {pod.name or pod.uid}: {pod.gate}: {pod.note}"
        for one in answered
        for hold in one.found
        for pod in hold.pods
        if pod.note
    )


def _span(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {seconds:02d}s"
