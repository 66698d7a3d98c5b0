# SPDX-License-Identifier: Apache-2.0
"""The session that every verb gets: the home's path, the output format, and the clock.

A verb opens the home only if it needs one.  This module imports no slow package.
"""

import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from breakglass.fleet.home.home import Home

HOME_VARIABLE = "BREAKGLASS_HOME"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One run of the program."""

    home_path: Path
    output: str

    def home(self) -> "Home":
        """Return the home; raise `ConfigInvalid` if there is none."""
        from breakglass.fleet.home.home import Home

        return Home.at(self.home_path)

    def home_if_any(self) -> "Home | None":
        """Return the home, or None if there is none, as on an approver's machine."""
        from breakglass.fleet.home.home import TRUST_FOLDER, Home

        return Home.at(self.home_path) if (self.home_path / TRUST_FOLDER).is_dir() else None

    @staticmethod
    def now() -> datetime:
        """Read the clock; a verb reads it once and passes the reading on."""
        return datetime.now(UTC)

    @staticmethod
    def is_terminal() -> bool:
        """Whether stdin and stderr are a terminal, so that a person can answer a question."""
        return sys.stdin.isatty() and sys.stderr.isatty()


def default_home() -> Path:
    """Return $BREAKGLASS_HOME, or ~/.breakglass without it."""
    chosen = os.environ.get(HOME_VARIABLE)
    return Path(chosen) if chosen else Path.home() / ".breakglass"
