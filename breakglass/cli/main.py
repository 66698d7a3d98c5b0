# SPDX-License-Identifier: Apache-2.0
"""`breakglass`: the command line for people.

Verbs are named in one table here and imported when they are called, so that `--help` and
completion start fast.  A verb is thin: it parses its arguments, calls one function of `fleet` or
`core`, and returns a `Result`.  Only `run` turns results and errors into exit statuses.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from breakglass import __version__
from breakglass.cli.result import Result, printable, requested_output, show_error, show_result
from breakglass.cli.session import HOME_VARIABLE, Session, default_home
from breakglass.errors import Exit, Interrupted, UsageError

PROGRAM = "breakglass"

# The verbs in the order in which an incident uses them, each with its line in --help.
VERBS = {
    "init": "Make a new home: a trust, an offline CA, a courier identity.",
    "node": "Add nodes to the inventory and write their install bundles.",
    "draft": "Write a command file for people to approve; it contacts no node.",
    "show": "Show what a file does, who approved it and who has not yet.",
    "approve": "Show a file, ask, and add your approval with ssh-keygen.",
    "merge": "Merge the approvals of several files into one file.",
    "verify": "Check against this home's trust whether a file is approved.",
    "run": "Deliver an approved file and report each node's outcome.",
    "pods": "List the nodes' pods, as the container runtimes report them.",
    "holds": "List the nodes' holds: workload, reason, end and approvers.",
    "outcome": "Show what the nodes recorded about a command.",
    "log": "Verify the nodes' logs.",
    "completion": "Print the completion script for a shell.",
}
# Verbs that DESIGN names and this version lacks: calling one says so.
LATER = {
    "doctor": "the check for hidden dependencies comes in a later version",
    "report": "drill reports come in a later version",
}


class Verbs(click.Group):
    """A group that imports a verb's module only when the verb is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of the table."""
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a verb and return its command."""
        del ctx
        if cmd_name in LATER:
            raise UsageError(
                f"expected a verb of this version, got {cmd_name}: {LATER[cmd_name]}",
                code="not-in-this-version",
                hint=f"see `{PROGRAM} --help` for the verbs of this version",
            )
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"breakglass.cli.commands.{cmd_name}")
        found: click.Command = module.command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs from the table, without importing their modules."""
        del ctx
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help=f"The folder of the home.  [default: ${HOME_VARIABLE}, else ~/.breakglass]",
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
    """Stop a DaemonSet's pods on every node when Kubernetes is down.

    A node carries out a command only if enough people of the trust have signed exactly its text.

    Exit statuses: 0 done and observed everywhere, 2 usage or unreadable input, 3 refused,
    4 reached but not all done, 5 nodes unreached, 6 evidence does not verify, 70 a defect,
    130 interrupted.
    """
    ctx.obj = Session(home_path=home or default_home(), output=output)


def run(arguments: Sequence[str]) -> int:
    """Run the program with these arguments; return the exit status."""
    output = requested_output(arguments)
    try:
        ended = cli.main(args=list(arguments), prog_name=PROGRAM, standalone_mode=False)
        return show_result(ended, output) if isinstance(ended, Result) else int(ended or 0)
    except SystemExit as ended:
        # Raised by click: it answered a completion (0), or stdout was closed (1).
        return int(Exit.INTERRUPTED if ended.code else Exit.DONE)
    except BrokenPipeError:
        # The process that read stdout has ended; later writes must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return show_error(Interrupted("the program that read stdout has closed it"), "text")
    except (click.ClickException, click.Abort) as error:
        return show_error(_from_click(error), output)
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001 - the one place that shows errors
        return show_error(error, output)


def main() -> NoReturn:
    """Run the program and exit."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def _from_click(error: click.ClickException | click.Abort) -> UsageError | Interrupted:
    if isinstance(error, click.Abort):
        return Interrupted("interrupted before the end")
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
