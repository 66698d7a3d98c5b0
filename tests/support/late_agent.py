# SPDX-License-Identifier: Apache-2.0
"""The agent with a clock that is off.

python -m tests.support.late_agent SECONDS serve --config FILE
"""

import sys
from datetime import datetime, timedelta
from pathlib import Path

from breakglass.agent.assembly import Ports
from breakglass.agent.clock import SystemClock
from breakglass.agent.config import load
from breakglass.agent.daemon import log_as_json, serve


class LateClock(SystemClock):
    """The machine's clock, moved by so many seconds."""

    def now(self) -> datetime:
        """Return the moved time."""
        return super().now() + timedelta(seconds=int(sys.argv[1]))


if __name__ == "__main__":
    log_as_json()
    serve(load(Path(sys.argv[4])), Ports(clock=LateClock))
