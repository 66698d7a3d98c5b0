# SPDX-License-Identifier: Apache-2.0
"""Run benchmarks: `python -m benchmarks [NAME]` prints JSON lines on stdout, messages on stderr.

Exit status 0 when every requested measurement was made, 2 when a name is unknown, belongs to a
later release, or needs something that this machine lacks.
"""

import importlib
import json
import sys
from collections.abc import Sequence

from lab import LabUnavailable

NAMES = ("core", "stop", "hold", "agent", "log")
LATER = ("fanout",)
_UNUSABLE = 2


def main(arguments: Sequence[str]) -> int:
    """Run the named measurement, or all of them, and return the exit status."""
    unknown = [name for name in arguments if name not in (*NAMES, *LATER)]
    if unknown or len(arguments) > 1:
        return _say(f"expected one of {', '.join((*NAMES, *LATER))}, got {' '.join(arguments)}")
    if arguments and arguments[0] in LATER:
        return _say(f"{arguments[0]}: nothing to measure yet, it belongs to a later release")
    return max(_measure(name) for name in arguments or NAMES)


def _measure(name: str) -> int:
    # Each module is imported only when it runs, so that it does not add memory to another.
    module = importlib.import_module(f"benchmarks.{name}")
    try:
        for row in module.measure():
            print(json.dumps(row), flush=True)
    except LabUnavailable as error:
        return _say(f"{name}: this machine cannot measure it: {error}")
    return 0


def _say(message: str) -> int:
    print(message, file=sys.stderr)
    return _UNUSABLE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
