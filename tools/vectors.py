# SPDX-License-Identifier: Apache-2.0
"""Make the vectors under tests/vectors, or with --check say whether they are what their scripts make.

    python -m tools.vectors            rewrite them
    python -m tools.vectors --check    change nothing; exit 1 and name what differs

A script is a module `tests/vectors/build_*.py` with `FOLDER`, where its vectors stand, and
`build(folder)`, which writes all of them into an empty directory.  A vector that no script makes
has its `origin:` elsewhere (a specification, another program) and stands in a folder without one.
"""

import argparse
import importlib
import shutil
import sys
import tempfile
from pathlib import Path

from tools.protos import differences

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Do what the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, only compare")
    check = parser.parse_args().check
    scripts = sorted((ROOT / "tests" / "vectors").glob("build_*.py"))
    if not scripts:
        sys.stderr.write("expected tests/vectors/build_*.py, found none\n")
        return 1
    return max(_made(script.stem, check=check) for script in scripts)


def _made(name: str, *, check: bool) -> int:
    module = importlib.import_module(f"tests.vectors.{name}")
    folder: Path = module.FOLDER
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory) / "vectors"
        made.mkdir()
        module.build(made)
        if not check:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(made, folder)
            return 0
        differing = differences(made, folder)
    for path in differing:
        sys.stderr.write(f"expected {folder.name}/{path} as {name} makes it, got another\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
