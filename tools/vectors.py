# SPDX-License-Identifier: Apache-2.0
"""Make the vectors of tests/vectors, or with --check compare them with what their scripts make.

    python -m tools.vectors            rewrite them
    python -m tools.vectors --check    change nothing; exit 1 and name what differs

A script is a module `tests/vectors/build_*.py` with `FOLDER`, the folder of its vectors, and
`build(folder)`, which writes all of them below a folder.  A vector that no script makes was
recorded from another program, and its `origin:` says so.  A vector whose `origin:` names a script
that does not make it is obsolete, and counts as a difference.
"""

import argparse
import importlib
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VECTORS = ROOT / "tests" / "vectors"


def make(into: Path) -> None:
    """Write every vector that has a script below `into`, in the layout of tests/vectors."""
    for script in sorted(VECTORS.glob("build_*.py")):
        module = importlib.import_module(f"tests.vectors.{script.stem}")
        folder = into / Path(module.FOLDER).relative_to(VECTORS)
        folder.mkdir(parents=True, exist_ok=True)
        module.build(folder)


def differences(made: Path) -> list[str]:
    """Return the relative paths of vectors that differ from what their scripts make."""
    paths = {path.relative_to(made): path for path in made.rglob("*.txt")}
    differing = [
        name
        for name, path in paths.items()
        if not (VECTORS / name).is_file() or path.read_bytes() != (VECTORS / name).read_bytes()
    ]
    committed = {path.relative_to(VECTORS) for path in VECTORS.rglob("*.txt")}
    left_over = [name for name in committed - set(paths) if _names_a_script(VECTORS / name)]
    return sorted(map(str, [*differing, *left_over]))


def _names_a_script(path: Path) -> bool:
    origins = [line for line in path.read_bytes().splitlines() if line.startswith(b"origin: ")]
    return not origins or b"tests/vectors/build_" in origins[0]


def main() -> int:
    """Make or compare the vectors, as the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, only compare")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory)
        make(made)
        if not check:
            shutil.copytree(made, VECTORS, dirs_exist_ok=True)
        differing, count = differences(made), sum(1 for _ in made.rglob("*.txt"))
    for name in differing:
        sys.stderr.write(f"tests/vectors/{name} differs from what its script makes\n")
    if not differing:
        sys.stdout.write(f"vectors: {count}, all as their scripts make them\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
