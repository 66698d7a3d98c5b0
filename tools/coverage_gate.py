# SPDX-License-Identifier: Apache-2.0
"""Require full test coverage of core/: `python tools/coverage_gate.py COVERAGE.json`.

core/ and errors.py use no I/O and no clock, so tests must cover every line and branch of them.  The
coverage of other files does not matter here.
"""

import json
import sys
from pathlib import Path

GATED = ("breakglass/core/", "breakglass/errors.py")


def main(path: str) -> int:
    """Print what tests do not cover and return 1, or return 0."""
    files = json.loads(Path(path).read_text(encoding="utf-8"))["files"]
    missing = []
    for name, found in sorted(files.items()):
        if name.startswith(GATED) and (found["missing_lines"] or found.get("missing_branches")):
            lines, branches = found["missing_lines"], found.get("missing_branches")
            missing.append(f"{name}: lines {lines}, branches {branches}")
    gated = sum(name.startswith(GATED) for name in files)
    if not gated:
        missing.append("no file of core/ was measured")
    whole = f"coverage: {gated} files of core/ and errors.py, every line and branch"
    print("\n".join(missing) or whole)
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
