# SPDX-License-Identifier: Apache-2.0
"""The entry point of `breakglass`, which says in one line if click is not installed.

A node installs the same wheel as a bastion, so it has the program `breakglass` but none of the
packages of the extra `cli`.  So this module imports only the standard library before it checks.
"""

import sys
from typing import NoReturn

from breakglass.cli.result import requested_output, show_error
from breakglass.errors import ToolMissing

_PACKAGE = "click"


def main() -> NoReturn:
    """Run `breakglass` and exit; exit with 2 if click is not installed."""
    try:
        from breakglass.cli.main import main as run
    except ModuleNotFoundError as error:
        if error.name != _PACKAGE:
            raise
        sys.exit(_show_missing())
    run()


def _show_missing() -> int:
    """Show in one line what is missing and how to install it; return the exit status."""
    what = f"the Python package {_PACKAGE}, which this program needs, is not installed"
    install = "install breakglass[cli], or the packages of requirements/cli.lock"
    if requested_output(sys.argv[1:]) == "json":
        return show_error(ToolMissing(what, hint=install), "json")
    return show_error(ToolMissing(f"{what}: {install}"), "text")
