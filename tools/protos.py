# SPDX-License-Identifier: Apache-2.0
"""Generate breakglass/_pb from proto/, or with --check compare it with what proto/ generates.

    python tools/protos.py            rewrite breakglass/_pb
    python tools/protos.py --check    change nothing; exit 1 and name what differs

It generates messages only; the code registers the methods of each service by hand, from one table.
"""

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
PACKAGE = ROOT / "breakglass" / "_pb"
_INIT = """\
# SPDX-License-Identifier: Apache-2.0
\"\"\"Generated from proto/ by tools/protos.py; do not edit.\"\"\"
"""


def generate(into: Path) -> None:
    """Write the whole package of generated modules into an empty directory."""
    sources = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(PROTO)]
    command += [f"--python_out={into}", f"--pyi_out={into}", *sources]
    subprocess.run(command, check=True)
    for directory in (into, *(path for path in into.rglob("*") if path.is_dir())):
        (directory / "__init__.py").write_text(_INIT, encoding="ascii")


def differences(made: Path, committed: Path) -> list[str]:
    """Return the relative paths of files that differ or exist in one tree only."""
    names = {path.relative_to(tree) for tree in (made, committed) for path in _files(tree)}
    return sorted(str(name) for name in names if not _same(made / name, committed / name))


def _files(tree: Path) -> list[Path]:
    return [path for path in tree.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def main() -> int:
    """Generate or compare, as the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, only compare")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory)
        generate(made)
        differing = differences(made, PACKAGE)
        if check:
            for name in differing:
                sys.stderr.write(
                    f"breakglass/_pb/{name} differs from what proto/ generates: run `make protos`\n"
                )
            return 1 if differing else 0
        shutil.rmtree(PACKAGE, ignore_errors=True)
        shutil.copytree(made, PACKAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
