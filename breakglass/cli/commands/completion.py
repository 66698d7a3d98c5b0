# SPDX-License-Identifier: Apache-2.0
"""`breakglass completion SHELL`: print click's completion script for a shell."""

import click

from breakglass.cli.result import Result

SHELLS = ("bash", "zsh", "fish")
# click keeps the line ends of a paragraph that begins with a backspace character.
_HELP = """Print the completion script for a shell.

\b
bash:  source <(breakglass completion bash)
zsh:   source <(breakglass completion zsh)
fish:  breakglass completion fish | source
"""


@click.command(help=_HELP)
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> Result:
    """Return the completion script for a shell."""
    from click.shell_completion import get_completion_class

    from breakglass.cli.main import PROGRAM, cli

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    script = found(cli, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source()
    return Result(text=script, document={"shell": shell, "script": script})
