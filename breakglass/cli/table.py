# SPDX-License-Identifier: Apache-2.0
"""Plain-text tables with aligned columns, fit to paste into an incident channel."""

from collections.abc import Sequence

from breakglass.cli.result import printable


def render(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table, with unprintable characters escaped and line feeds replaced by spaces."""
    cells = [[printable(str(cell)).replace("\n", " ") for cell in row] for row in (head, *rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )
