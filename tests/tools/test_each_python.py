# SPDX-License-Identifier: Apache-2.0
"""`make quick-each` on machines with more or fewer Pythons; `make` and the Pythons are played."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What the script calls of the machine; nothing else is on its PATH.
TOOLS = ("sh", "sed")
# A Python of one version is asked only for its version; a shim without a version behind it fails.
PYTHON = '#!/bin/sh\n[ "$3" = {} ]\n'
SHIM = "#!/bin/sh\necho 'command not found' >&2\nexit 127\n"
MAKE = '#!/bin/sh\necho "make $* with $PYTHON"\ncase $* in *{}) exit 2 ;; esac\n'
PYENV = '#!/bin/sh\n[ "$*" = "whence --path python{0}" ] && echo {1}/python{0}\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine whose PATH is one folder."""

    path: Path

    def has(self, program: str, text: str, *, folder: Path | None = None) -> None:
        """Put a program there."""
        place = (folder or self.path) / program
        place.write_text(text)
        place.chmod(0o755)

    def each_python(self) -> tuple[int, list[str]]:
        """Run the script; return its status and its lines."""
        done = subprocess.run(
            ["sh", "tools/each_python.sh"],
            cwd=ROOT,
            env={"PATH": str(self.path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine with `make` and without any Python."""
    path = tmp_path / "bin"
    path.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found
        (path / tool).symlink_to(found)
    machine = Machine(path=path)
    machine.has("make", MAKE.format("nothing"))
    return machine


def test_each_python_that_is_there_runs_in_an_environment_of_its_own(machine: Machine) -> None:
    """And the others are named: one is not there, one is a shim with nothing behind it."""
    machine.has("python3.11", PYTHON.format("3.11"))
    machine.has("python3.12", SHIM)
    status, lines = machine.each_python()
    python = machine.path / "python3.11"
    assert status == 0
    assert f"make --no-print-directory quick VENV=.venv-3.11 with {python}" in lines
    assert lines[-1] == ("quick: run on Python 3.11; failed on: none; could not be run: 3.12 3.13")


def test_a_python_that_pyenv_keeps_off_path_is_found(machine: Machine, tmp_path: Path) -> None:
    """Its shim on PATH does not run, but pyenv knows the program itself."""
    machine.has("python3.12", SHIM)
    machine.has("pyenv", PYENV.format("3.12", tmp_path))
    machine.has("python3.12", PYTHON.format("3.12"), folder=tmp_path)
    status, lines = machine.each_python()
    assert status == 0
    assert f"quick: Python 3.12, {tmp_path}/python3.12" in lines


def test_one_that_fails_does_not_hide_the_next(machine: Machine) -> None:
    """All are run, and the status says that one failed."""
    machine.has("make", MAKE.format("3.11"))
    for version in ("3.11", "3.12", "3.13"):
        machine.has(f"python{version}", PYTHON.format(version))
    status, lines = machine.each_python()
    assert status == 1
    assert lines[-1] == (
        "quick: run on Python 3.11 3.12 3.13; failed on: 3.11; could not be run: none"
    )


def test_a_machine_without_any_is_no_success(machine: Machine) -> None:
    """A gate that ran nothing has not passed."""
    status, lines = machine.each_python()
    assert status == 1
    assert lines[-1].startswith("quick: run on Python of no version; failed on: none;")


def test_the_versions_are_those_that_pyproject_claims(machine: Machine) -> None:
    """Whoever claims another version there has it tested, too."""
    claims = re.findall(r'Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    _, lines = machine.each_python()
    assert lines[-1].endswith(f"could not be run: {' '.join(claims)}")
