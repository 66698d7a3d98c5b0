# SPDX-License-Identifier: Apache-2.0
"""Set-up installs exactly what a lock names, also when the index has newer versions of everything.

The index is a local one, and the script is the project's own; only the tree that it sets up is made
here, with two locks of its own.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.package_index import PackageIndex, package_index

ROOT = Path(__file__).parents[2]
SETUP = ROOT / "tools/setup.sh"
SETUP_S = 120
pytestmark = pytest.mark.slow
# A project that builds itself without any other package.
PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = f"""\
import sys
from pathlib import Path

sys.path.insert(0, {str(ROOT)!r})
from tests.support.package_index import write_wheel

def build_editable(folder, config_settings=None, metadata_directory=None):
    wheel = Path(folder, "project-1.0-py3-none-any.whl")
    write_wheel(wheel, ())
    return wheel.name
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A checkout with locks, and the index that they were made from."""

    folder: Path
    index: PackageIndex

    def set_up(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the project's own set-up in this tree, with this index and no settings of pip's."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHON": sys.executable,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": self.index.url,
            "PIP_NO_CACHE_DIR": "1",
        }
        return subprocess.run(
            ["sh", str(SETUP), *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SETUP_S,
        )

    def installed(self, environment: str = ".venv") -> set[str]:
        """Return what was installed, as names and versions, without what venv itself brings."""
        found = self.folder.glob(f"{environment}/lib/python*/site-packages/*.dist-info")
        names = {one.name.removesuffix(".dist-info") for one in found}
        return {one for one in names if not one.startswith(("pip-", "setuptools-"))}

    def ready(self, environment: str = ".venv") -> set[str]:
        """Return the stamps of what is done."""
        return {one.name for one in (self.folder / environment).glob("ready*")}


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    """Return a tree whose locks were complete, and whose index got newer versions since.

    `reporter` requires an extra of `meter`, as pytest-cov requires `coverage[toml]`.
    """
    folder, packages = tmp_path / "tree", tmp_path / "packages"
    for one in (folder / "requirements", packages):
        one.mkdir(parents=True)
    extra = ("Provides-Extra: toml", 'Requires-Dist: parser; extra == "toml"')
    asks = "Requires-Dist: meter[toml]>=1.0"
    with package_index(packages) as index:
        cli = index.add("screen", "1.0")
        dev = index.add("meter", "1.0", *extra) + index.add("parser", "1.0")
        dev += index.add("reporter", "1.0", asks)
        (folder / "requirements/cli.lock").write_text(cli)
        (folder / "requirements/dev.lock").write_text(cli + dev)
        index.add("screen", "2.0")
        index.add("meter", "2.0", *extra)
        index.add("parser", "2.0")
        index.add("reporter", "2.0", asks)
        (folder / "pyproject.toml").write_text(PYPROJECT)
        (folder / "backend.py").write_text(BACKEND)
        yield Tree(folder=folder, index=index)


def test_newer_versions_on_the_index_change_nothing(tree: Tree) -> None:
    """What the lock names is installed, and no other wheel is even downloaded."""
    done = tree.set_up("dev")
    assert done.returncode == 0, done.stderr
    locked = {"screen-1.0", "meter-1.0", "parser-1.0", "reporter-1.0"}
    assert tree.installed() == locked | {"project-1.0"}
    assert set(tree.index.fetched) == {f"{one}-py3-none-any.whl" for one in locked}
    assert tree.ready() == {"ready", "ready-cli"}


def test_the_demo_needs_no_developers_tools_and_no_build(tree: Tree) -> None:
    """Only the cli lock is installed; what developers need comes later, into the same folder."""
    done = tree.set_up("cli", "elsewhere")
    assert done.returncode == 0, done.stderr
    assert tree.installed("elsewhere") == {"screen-1.0"}
    assert tree.ready("elsewhere") == {"ready-cli"}
    done = tree.set_up("dev", "elsewhere")
    assert done.returncode == 0, done.stderr
    assert "reporter-1.0" in tree.installed("elsewhere")
    assert tree.ready("elsewhere") == {"ready", "ready-cli"}


def test_a_package_with_another_hash_is_refused(tree: Tree) -> None:
    """A wheel that was exchanged on the index ends set-up, and nothing is called ready."""
    tree.index.add("screen", "1.0", "Summary: another")
    done = tree.set_up("cli")
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert tree.ready() == set()


def test_set_up_of_something_else_is_a_usage_error(tree: Tree) -> None:
    """Exit 2, and nothing is made."""
    assert tree.set_up("production").returncode == 2
    assert not (tree.folder / ".venv").exists()
