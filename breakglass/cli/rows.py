# SPDX-License-Identifier: Apache-2.0
"""The rows of `run` and `outcome`: as a table, as JSON, and as one exit status.

Nodes may end differently; the exit status is the first that applies, in this order: 6 (evidence
does not verify), 3 (every node refused), 4 (reached, not all done), 5 (unreached).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta

from breakglass.cli import table
from breakglass.cli.result import OK, Result
from breakglass.core.command import Mode
from breakglass.core.entries import parse_instant
from breakglass.errors import Exit, Malformed
from breakglass.fleet.rollout.rows import NodeRow, NodeState

DRILL = "DRILL"
CLOCK_OFF = timedelta(seconds=30)
_MESSAGE_CHARS = 160
_NO_STOP = frozenset({NodeState.RELEASED, NodeState.EXTENDED})


def ending(rows: Sequence[NodeRow]) -> tuple[Exit, str, str, str]:
    """Return the exit status of these rows, with its code, message and hint."""
    suspects = [row for row in rows if row.is_suspect]
    undone = [row for row in rows if not row.state.is_well and row.state is not NodeState.UNREACHED]
    unreached = [row for row in rows if row.state is NodeState.UNREACHED]
    if suspects:
        status, failed = Exit.EVIDENCE, suspects
    elif rows and all(row.state is NodeState.REFUSED for row in rows):
        status, failed = Exit.REFUSED, list(rows)
    elif undone:
        status, failed = Exit.INCOMPLETE, undone
    elif unreached:
        status, failed = Exit.UNREACHED, unreached
    else:
        return Exit.DONE, OK, "", ""
    codes = Counter(row.code for row in failed)
    code = codes.most_common(1)[0][0]
    words = ", ".join(f"{count} {code}" for code, count in codes.most_common())
    hint = next(row.hint for row in failed if row.code == code)
    done = sum(row.state.is_well and not row.is_suspect for row in rows)
    return status, code, f"{done} of {len(rows)} nodes done; {words}", hint


def render(rows: Sequence[NodeRow], mode: Mode) -> str:
    """Return the table of the rows; a drill or dry run is marked in each row.

    The column GATE is there if a gate was to hold any of the pods.
    """
    columns = {
        "MODE": mark_of(mode) and [mark_of(mode)] * len(rows),
        "NODE": [row.node for row in rows],
        "CLUSTER": [row.cluster for row in rows],
        "STATE": [str(row.state) for row in rows],
        "DOWN": ["-" if row.state in _NO_STOP else row.down for row in rows],
        "PODS": [row.pods for row in rows],
        "GATE": any_gate(rows) and [row.gates or "-" for row in rows],
        "RESTARTED": [row.restarted or "-" for row in rows],
        "MS": [row.ms for row in rows],
        "EVIDENCE": [row.evidence for row in rows],
        "NOTE": [note(row) for row in rows],
    }
    shown = {head: cells for head, cells in columns.items() if cells}
    return table.render(tuple(shown), list(zip(*shown.values(), strict=True)))


def any_gate(rows: Sequence[NodeRow]) -> bool:
    """Return whether a gate was to hold any of the pods."""
    return any(row.gates for row in rows)


def note(row: NodeRow) -> str:
    """Return the NOTE of one row: its code and message, and anything unusual."""
    parts = [row.code and f"[{row.code}]", row.message]
    if row.repeated:
        parts.append("delivered before: this is the first outcome")
    if row.restarted:
        parts.append("kubelet started pods again")
    if row.unkept:
        parts.append(f"evidence not stored on this machine: {row.unkept}")
    return " ".join(part for part in parts if part)[:_MESSAGE_CHARS]


def total(rows: Sequence[NodeRow], mode: Mode) -> str:
    """Return the summary line of the rows."""
    counts = Counter(str(row.state) for row in rows)
    states = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    down, restarted = sum(row.down for row in rows), sum(row.restarted for row in rows)
    again = f", {restarted} of them started again by kubelet" if restarted else ""
    held = f", {sum(row.held for row in rows)} held by a gate" if any_gate(rows) else ""
    mark = mark_of(mode)
    start = f"{mark}: " if mark else ""
    deed = f"{down} pods seen down{held}{again}"
    if any(row.state in _NO_STOP for row in rows):
        deed = f"{sum(row.pods for row in rows if row.state is NodeState.RELEASED)} pods let go"
    if any(row.state is NodeState.EXTENDED for row in rows):
        deed = f"{sum(row.held for row in rows)} pods held for longer"
    return f"{start}{len(rows)} nodes: {states}; {deed}"


def documents(rows: Sequence[NodeRow]) -> list[dict[str, object]]:
    """Return the rows as documents for programs."""
    return [asdict(row) | {"state": str(row.state)} for row in rows]


def clock_notes(rows: Sequence[NodeRow], now: datetime) -> tuple[str, ...]:
    """Return a warning for each node whose clock differs from ours by more than `CLOCK_OFF`."""
    found = []
    for row in rows:
        try:
            off = parse_instant(row.node_time) - now
        except Malformed:
            continue
        if abs(off) > CLOCK_OFF:
            found.append(
                f"warning: the clock of {row.node} differs from this machine's by"
                f" {off.total_seconds():+.0f} s"
            )
    return tuple(found)


def result(
    rows: Sequence[NodeRow], mode: Mode, now: datetime, document: dict[str, object]
) -> Result:
    """Return the result of a verb that answers with these rows."""
    status, code, message, hint = ending(rows)
    return Result(
        text=f"{render(rows, mode)}\n{total(rows, mode)}",
        document={"mode": mode.value, **document, "nodes": documents(rows)},
        notes=clock_notes(rows, now),
        exit_status=status,
        code=code,
        message=message,
        hint=hint,
    )


def mark_of(mode: Mode) -> str:
    """Return the mark of every line of a drill or dry run, or ""."""
    return {Mode.EXECUTE: "", Mode.DRILL: DRILL, Mode.DRY_RUN: "DRY RUN"}[mode]
