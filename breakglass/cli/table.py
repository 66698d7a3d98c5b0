# SPDX-License-Identifier: Apache-2.0
"""Plain tables for people: aligned columns that survive copy and paste into an incident channel."""

from collections.abc import Sequence

from breakglass.cli.result import printable


def render(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table; what came from nodes is made harmless and kept on its line."""
    cells = [[printable(str(cell)).replace("\n", " ") for cell in row] for row in (head, *rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )
