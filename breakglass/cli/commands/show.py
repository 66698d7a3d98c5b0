# SPDX-License-Identifier: Apache-2.0
"""`breakglass show`: show the signed text of a command file, what it does, and its approvals."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from breakglass.cli.result import Result
from breakglass.cli.session import Session
from breakglass.errors import Exit, Malformed, UsageError

if TYPE_CHECKING:
    from breakglass.cli.review import Review


@click.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--raw", is_flag=True, help="Write exactly the signed bytes, and nothing else.")
@click.pass_obj
def command(session: Session, file: Path, *, raw: bool) -> Result:
    """Show what a file does, who approved it and who has not yet.

    With --raw it writes the signed bytes, for `ssh-keygen -Y sign -n breakglass-command-v1`.
    """
    from breakglass.cli import review as reviews
    from breakglass.core.signed_file import parse_signed_file, repair

    if raw and session.output == "json":
        raise UsageError("expected --raw or --output json, got both")
    given = reviews.read_bytes(file)
    home = session.home_if_any()
    try:
        parts = parse_signed_file(repair(given))
    except Malformed as error:
        if raw:
            raise
        return _unreadable(given, error)
    seen = reviews.review(parts, home.trust() if home else None, session.now())
    if raw:
        return _raw(seen)
    problem = seen.problem
    return Result(
        text=reviews.render(seen),
        document=reviews.document(seen),
        exit_status=Exit.INPUT if problem else Exit.DONE,
        code=problem.stable_code if problem else "ok",
        message=problem.message if problem else "",
        hint=problem.hint if problem else "",
    )


def _raw(seen: "Review") -> Result:
    if seen.problem is not None and sys.stdout.isatty():
        # It may hold control characters, which must not reach a terminal.
        raise seen.problem
    return Result(raw=seen.file.text)


def _unreadable(given: bytes, error: Malformed) -> Result:
    from breakglass.cli.review import escaped_lines

    lines = escaped_lines(given)
    return Result(
        text="\n".join(("!! NOT A SIGNED FILE.  Its bytes, escaped:", *lines)),
        document={"text": "\n".join(lines)},
        exit_status=Exit.INPUT,
        code=error.stable_code,
        message=error.message,
        hint=error.hint,
    )
