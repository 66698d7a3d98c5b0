# SPDX-License-Identifier: Apache-2.0
"""The wheel has the right contents, and runs with only the packages of its lock file.

Each install is a new virtual environment with the wheel and the packages of one lock file.  It does
not see this checkout or the packages for building and testing.
"""

import json
import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from lab.nspawn import make_own_wheel

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "breakglass"
_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)
_IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    found = importlib.import_module(name)
    for module in pkgutil.walk_packages(getattr(found, "__path__", ()), f"{name}."):
        importlib.import_module(module.name)
"""

pytestmark = pytest.mark.slow


class Install:
    """A new environment with the wheel and the packages of a lock file."""

    def __init__(self, folder: Path, wheel: Path, lock: str) -> None:
        self._folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        python = folder / "bin/python"
        pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
        choice = ("--no-deps", "--no-index", "--no-compile")
        subprocess.run([*pip, "--python", python, "install", *choice, wheel], check=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        for name in _LOCKED.findall((ROOT / f"requirements/{lock}.lock").read_text()):
            found = distribution(name)
            tops = {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}
            for top in tops:
                (packages / top).symlink_to(Path(str(found.locate_file(top))).resolve())

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of its programs in a folder outside the checkout."""
        return subprocess.run(
            [self._folder / "bin" / program, *arguments],
            cwd=self._folder,
            env={"PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel without a network and return its path."""
    folder = tmp_path_factory.mktemp("wheel")
    make_own_wheel(folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Install:
    """Return an install as on a node."""
    return Install(tmp_path_factory.mktemp("node"), wheel, "agent")


@pytest.fixture(scope="module")
def bastion(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Install:
    """Return an install as on a bastion."""
    return Install(tmp_path_factory.mktemp("bastion"), wheel, "cli")


def test_the_wheel_has_the_package_without_sim_and_nothing_else(wheel: Path) -> None:
    """It has no test, lab, scenario or simulated node, and every other module of the package."""
    paths = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi")]
    ours = {path.relative_to(ROOT).as_posix() for path in paths}
    wanted = {name for name in ours if not name.startswith("breakglass/sim/")}
    assert wanted < ours
    names = zipfile.ZipFile(wheel).namelist()
    found = {name for name in names if ".dist-info/" not in name}
    assert found == wanted | {"breakglass/py.typed"}


def test_a_node_runs_the_agent_with_the_agents_packages(node: Install) -> None:
    """`--help` and `check-config` work, and every module that the agent may import is there."""
    shown = node.run("breakglass-agent", "--help")
    assert (shown.returncode, "serve" in shown.stdout) == (0, True), shown.stderr
    checked = node.run("breakglass-agent", "check-config", "--config", "/nonexistent/agent.toml")
    assert (checked.returncode, "[file-unreadable]" in checked.stderr) == (2, True)
    modules = ("breakglass.agent", "breakglass.core", "breakglass._pb", "breakglass.cli.agent")
    imported = node.run("python", "-c", _IMPORT_ALL, *modules)
    assert imported.returncode == 0, imported.stderr


def test_a_node_has_no_simulated_nodes(node: Install) -> None:
    """`breakglass.sim` is not in the wheel."""
    faked = node.run("python", "-c", "import breakglass.sim")
    assert "No module named 'breakglass.sim'" in faked.stderr


@pytest.mark.parametrize("arguments", [(), ("--help",), ("run", "stop.cmd")])
def test_breakglass_without_click_says_what_to_install(
    node: Install, arguments: tuple[str, ...]
) -> None:
    """On a node it prints one line on stderr, and exits with 2; it prints no traceback."""
    program = node.run("breakglass", *arguments)
    assert (program.returncode, program.stdout) == (2, "")
    (line,) = program.stderr.splitlines()
    for word in ("click", "breakglass[cli]", "requirements/cli.lock", "[tool-missing]"):
        assert word in line


def test_breakglass_without_click_answers_a_program_in_json(node: Install) -> None:
    """One document on stdout with code and hint, as for every other error."""
    program = node.run("breakglass", "--output", "json", "pods")
    document = json.loads(program.stdout)
    assert (program.returncode, program.stderr) == (2, "")
    assert (document["exit"], document["code"]) == (2, "tool-missing")
    assert "requirements/cli.lock" in document["hint"]


def test_a_bastion_runs_the_command_line_with_its_packages(bastion: Install) -> None:
    """`--help` and a read of the home work, and every module of the wheel can be imported."""
    shown = bastion.run("breakglass", "--help")
    assert (shown.returncode, "approve" in shown.stdout) == (0, True), shown.stderr
    away = bastion.run("breakglass", "--home", "nowhere", "holds")
    assert (away.returncode, "Traceback" in away.stderr) == (2, False)
    imported = bastion.run("python", "-c", _IMPORT_ALL, "breakglass")
    assert imported.returncode == 0, imported.stderr
