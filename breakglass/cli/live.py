# SPDX-License-Identifier: Apache-2.0
"""The progress of `run` on stderr: a progress bar on a terminal, plain lines elsewhere."""

import contextlib
import sys
from collections.abc import Iterator

from breakglass.cli.result import printable, talk
from breakglass.fleet.rollout.deliver import Observer, ProgressLine
from breakglass.fleet.rollout.rows import NodeRow, NodeState


@contextlib.contextmanager
def watching(total: int, mark: str, *, quiet: bool = False) -> Iterator[Observer]:
    """Yield the observer that prints progress to stderr.

    Args:
        total: how many nodes there are.
        mark: what each line begins with: "DRILL", "DRY RUN" or "".
        quiet: print nothing, as for `--output json`.
    """
    if quiet:
        yield Observer()
    elif sys.stderr.isatty():
        with _progress_bar(total, mark) as watch:
            yield watch
    else:
        yield _plain_lines(f"{mark} " if mark else "")


def _plain_lines(start: str) -> Observer:
    return Observer(
        on_step=lambda step: talk(f"{start}{step.node}: {step.text}"),
        on_row=lambda row: talk(f"{start}{row.node}: {_ended(row)}"),
    )


@contextlib.contextmanager
def _progress_bar(total: int, mark: str) -> Iterator[Observer]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    columns = (
        TextColumn(f"[bold]{mark}[/bold]" if mark else "delivering"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        # A node's line may be long; it must not push the count off a narrow terminal.
        TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True)),
    )
    start = f"{mark} " if mark else ""
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, expand=True) as progress:
        task = progress.add_task("", total=total)

        def step(line: ProgressLine) -> None:
            text = escape(printable(f"{line.node}: {line.text}"))
            progress.update(task, description=text)

        def row(ended: NodeRow) -> None:
            progress.advance(task)
            if ended.code:
                progress.console.print(
                    escape(printable(f"{start}{ended.node}: {_ended(ended)}")), highlight=False
                )

        yield Observer(on_step=step, on_row=row)


def _ended(row: NodeRow) -> str:
    code = f" [{row.code}]" if row.code else ""
    if row.state is NodeState.RELEASED:
        return f"{row.state}{code}, {row.pods} pods let go"
    if row.state is NodeState.EXTENDED:
        return f"{row.state}{code}, {row.held} pods held for longer"
    return f"{row.state}{code}, {row.down} of {row.pods} pods seen down"
