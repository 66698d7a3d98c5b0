# SPDX-License-Identifier: Apache-2.0
"""`breakglass`: the command line for people.

Verbs are named in one table here and imported when they are called, so that `--help` and
completion start fast.  A verb is a thin skin: it parses, calls one thing of `fleet` or `core`, and
returns a `Result`.  Only `main` maps endings to exit statuses.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from breakglass import __version__
from breakglass.cli.result import Result, printable, show_error, show_result
from breakglass.cli.session import HOME_VARIABLE, Session, default_home
from breakglass.errors import Exit, Interrupted, UsageError

PROGRAM = "breakglass"

# The verbs in the order in which a night uses them, each with its line in --help.
VERBS = {
    "init": "Make a new home: trust version 1, an offline CA, this courier.",
    "node": "Add nodes to the inventory and make what they install.",
    "draft": "Write a command for people to approve; nothing is done by it.",
    "show": "Show what a file would do, who approved it and who is missing.",
    "approve": "Show a file, ask, and add your approval with ssh-keygen.",
    "merge": "Put the approvals of several files into one.",
    "verify": "Say whether a file is approved, from the trust in this home.",
    "run": "Deliver an approved file to the nodes and watch what happens.",
    "pods": "List the nodes' pods as their runtimes see them.",
    "holds": "List what is held down on the nodes, why, until when and by whom.",
    "outcome": "Show what nodes have on record of a command.",
    "log": "Verify the nodes' logs.",
    "completion": "Print the completion script for a shell.",
}
# What people may look for because they read of it: not there yet, and said so.
LATER = {
    "doctor": "proof that the path has no hidden dependency comes later",
    "report": "reports of drills come later",
}


class Verbs(click.Group):
    """A group that imports a verb's module only when the verb is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in their own order."""
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb, from its module."""
        del ctx
        if cmd_name in LATER:
            raise UsageError(
                f"expected a verb of this version, got {cmd_name}: {LATER[cmd_name]}",
                code="not-in-this-version",
                hint=f"see `{PROGRAM} --help` for what there is",
            )
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"breakglass.cli.commands.{cmd_name}")
        found: click.Command = module.command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs from the table, importing none of them."""
        del ctx
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help=f"The home's folder.  [default: ${HOME_VARIABLE}, else ~/.breakglass]",
)
@click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Text for people, or one JSON document.",
)
@click.version_option(__version__, prog_name=PROGRAM)
@click.pass_context
def cli(ctx: click.Context, home: Path | None, output: str) -> None:
    r"""Stop a DaemonSet's pods on every node when Kubernetes is down.

    A command acts when enough people of the trust have signed exactly its text.

    \b
    Exit statuses: 0 done and observed everywhere, 2 usage or unreadable input, 3 refused,
    4 reached but not all done, 5 nodes unreached, 6 evidence does not verify, 70 a defect,
    130 interrupted.
    """
    ctx.obj = Session(home_path=home or default_home(), output=output)


def run(arguments: Sequence[str]) -> int:
    """Run the program with these arguments; return the exit status."""
    output = _output_asked(arguments)
    try:
        ended = cli.main(args=list(arguments), prog_name=PROGRAM, standalone_mode=False)
        return show_result(ended, output) if isinstance(ended, Result) else int(ended or 0)
    except SystemExit as ended:
        # click's own: completion is answered (0), or the reader of stdout went away (1).
        return int(Exit.INTERRUPTED if ended.code else Exit.DONE)
    except BrokenPipeError:
        # Whoever read our output has gone; nothing can be said to them any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return show_error(Interrupted("expected a reader of stdout, got none"), "text")
    except (click.ClickException, click.Abort) as error:
        return show_error(_from_click(error), output)
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001 - the outermost place: all is told
        return show_error(error, output)


def main() -> NoReturn:
    """Run the program and exit."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def _output_asked(arguments: Sequence[str]) -> str:
    """Return the output that was asked for, also where the arguments cannot be parsed."""
    asked = "text"
    for place, argument in enumerate(arguments):
        if argument == "--":
            break
        if argument == "--output=json" or (
            argument == "--output" and arguments[place + 1 : place + 2] == ["json"]
        ):
            asked = "json"
    return asked


def _from_click(error: click.ClickException | click.Abort) -> UsageError | Interrupted:
    if isinstance(error, click.Abort):
        return Interrupted("expected to finish, got interrupted")
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        path = error.ctx.command_path
        return UsageError("expected a verb, got none", hint=f"see `{path} --help`")
    message = printable(error.format_message()).rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context else PROGRAM
    first, rest = message[:1].lower(), message[1:]
    return UsageError(
        f"expected a command line as in --help, got: {first}{rest}", hint=f"see `{path} --help`"
    )


if __name__ == "__main__":
    main()
