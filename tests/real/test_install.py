# SPDX-License-Identifier: Apache-2.0
"""The pages' own lines for installing, run in a copy of the checkout, from a real package index.

Only the places change: what the pages put into /opt and /usr/local/bin goes into the test's folder.
Where no index is reached, nothing can be installed, and the tests are skipped.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
TREE = ("breakglass", "requirements", "pyproject.toml", "README.md", "LICENSE")
STEP_S = 300
NO_INDEX = "http://127.0.0.1:9/"  # the discard port: nothing listens there
OF_VENV = {"pip", "setuptools"}

pytestmark = [pytest.mark.real, pytest.mark.slow]


def blocks(page: str, heading: str) -> list[str]:
    """Return the shell blocks below a heading of a page, in order."""
    section = (ROOT / page).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def locked(name: str) -> set[str]:
    """Return the names of the packages in a lock."""
    text = (ROOT / f"requirements/{name}.lock").read_text()
    return set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A scratch folder that stands for a machine: a home, /opt and /usr/local/bin."""

    folder: Path

    def run(self, script: str, *, cwd: Path, **environment: str) -> str:
        """Run lines of a page as a person would, and stop at the first that fails."""
        for place in ("/opt/breakglass", "/usr/local/bin"):
            script = script.replace(place, f"{self.folder}{place}")
        path = f"{self.folder}/usr/local/bin:{self.folder}/python:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-ec", script],
            cwd=cwd,
            env=os.environ | {"PATH": path, "HOME": str(self.folder)} | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=STEP_S,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def installed(self) -> set[str]:
        """Return the names of what was installed, without what venv itself brings."""
        pip = "/opt/breakglass/bin/pip"
        frozen = self.run(f"{pip} check; {pip} freeze --all", cwd=self.folder)
        names = re.findall(r"^([\w-]+)(?:==| @ )", frozen, re.MULTILINE)
        found: set[str] = {canonicalize_name(name) for name in names}
        return found - OF_VENV


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a machine whose `python3` is the one that runs the tests."""
    for folder in ("opt", "usr/local/bin", "python"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "python/python3").symlink_to(Path(sys.executable).resolve())
    return Place(folder=tmp_path)


@pytest.fixture
def clone(place: Place) -> Path:
    """Return what a fresh clone has of what is installed."""
    clone = place.folder / "clone"
    clone.mkdir()
    for name in TREE:
        if (ROOT / name).is_dir():
            no_caches = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, clone / name, ignore=no_caches)
        else:
            shutil.copy(ROOT / name, clone)
    return clone


@pytest.fixture(autouse=True, scope="module")
def _index(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("index")
    command = (sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "mdurl")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs a package index: {done.stderr.strip().splitlines()[-1]}")


def works(place: Place) -> None:
    """Do a first piece of real work with what was installed, away from any checkout."""
    work = place.folder / "work"
    work.mkdir()
    people = " ".join(f"--person {name}={name}.pub" for name in ("ana", "bo", "luc"))
    place.run(
        f"""
        for name in ana bo luc; do ssh-keygen -q -t ed25519 -N '' -C $name -f $name; done
        breakglass init --domain example {people}
        breakglass node add n1 192.0.2.11 --cluster prod-a
        breakglass node bundle n1 --out n1
        breakglass draft stop monitoring/telemetry --cluster prod-a --reason test -o stop.cmd
        breakglass approve stop.cmd --key ana --yes
        """,
        cwd=work,
    )


def test_a_bastion_with_an_index_installs_what_is_locked(place: Place, clone: Path) -> None:
    """The first block of the page; nothing of the developers' set comes with it."""
    place.run(blocks("README.md", "Install it on a bastion")[0], cwd=clone)
    assert place.installed() == locked("cli") | {"breakglass"}
    works(place)


def test_a_bastion_without_an_index_installs_from_a_folder(place: Place, clone: Path) -> None:
    """The second block is run where there is an index, the third where there is none."""
    _, collect, install = blocks("README.md", "Install it on a bastion")
    place.run(collect, cwd=clone)
    carried = place.folder / "carried"
    carried.mkdir()
    shutil.move(clone / "wheels", carried)
    shutil.rmtree(clone)
    alone = {"PIP_INDEX_URL": NO_INDEX, "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    place.run(install, cwd=carried, PIP_NO_CACHE_DIR="1", **alone)
    assert place.installed() == locked("cli") | {"breakglass"}
    works(place)


def test_the_wheels_for_nodes_are_what_is_locked(place: Place, clone: Path) -> None:
    """docs/systemd.md makes them; what a node does with them is tried in a real systemd."""
    place.run(blocks("docs/systemd.md", "Install")[0], cwd=clone)
    names = {canonicalize_name(one.name.partition("-")[0]) for one in clone.glob("wheels/*.whl")}
    assert names == locked("agent") | {"breakglass"}
