# SPDX-License-Identifier: Apache-2.0
"""Refuse when a line or a branch of core/ or errors.py is not covered.

    python -m tools.coverage_gate COVERAGE.json

The report comes from `pytest --cov --cov-report=json:COVERAGE.json`.  A module of core/ that the
report does not name at all counts as not covered.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "breakglass"


def required() -> list[str]:
    """Return the paths, relative to the root, that must be covered completely."""
    paths = [PACKAGE / "errors.py", *sorted((PACKAGE / "core").rglob("*.py"))]
    return [str(path.relative_to(ROOT)) for path in paths]


def gaps(report: dict[str, Any], paths: list[str]) -> Iterator[str]:
    """Yield one line for each of `paths` that is not covered completely."""
    if not report["meta"]["branch_coverage"]:
        yield "expected a report with branch coverage, got one without"
    for path in paths:
        found = report["files"].get(path)
        if found is None:
            yield f"{path}: expected in the report, got nothing"
            continue
        lines, branches = found["missing_lines"], found["missing_branches"]
        if lines or branches:
            yield f"{path}: expected all, got none of lines {lines}, branches {branches}"


def main(arguments: list[str]) -> int:
    """Print every gap; return 1 when there is one."""
    report = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    paths = required()
    found = list(gaps(report, paths))
    for gap in found:
        sys.stderr.write(f"{gap}\n")
    if not found:
        sys.stdout.write(f"coverage: {len(paths)} modules of core and errors, all of it\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
