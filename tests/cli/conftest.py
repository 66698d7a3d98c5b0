# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a bastion with its people and real ssh-keygen keys, as in `scenarios`.

The program `breakglass` runs in the test's own process.
"""

import os
import pty
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from breakglass.cli import main
from scenarios.bastion import Bastion, Program, Ran

PEOPLE = "ana bo luc eve"


def in_this_process(capture: pytest.CaptureFixture[str]) -> Program:
    """Return a program that runs `breakglass` in this process."""

    def run(arguments: Sequence[str]) -> Ran:
        capture.readouterr()
        status = main.run(list(arguments))
        captured = capture.readouterr()
        return Ran(exit=status, out=captured.out, err=captured.err)

    return run


def on_terminal(
    bastion: Bastion, *arguments: str, answers: tuple[tuple[str, str], ...]
) -> tuple[int, str]:
    """Run the program on a pseudo-terminal; answer each question when it is printed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["DISPLAY"] = ":99"  # without an askpass program, ssh-keygen alone would fail
        command = bastion.command(*arguments)
        os.execv(sys.executable, command)  # noqa: S606 - the child of a fork
    said = ""
    waiting = list(answers)
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:
            break
        said += part.decode("utf-8", "replace")
        if waiting and waiting[0][0] in said:
            os.write(terminal, waiting.pop(0)[1].encode())
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert not waiting, said
    return os.waitstatus_to_exitcode(status), said


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key of each person, made by the real ssh-keygen."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen here")
    bastion = Bastion(tmp_path_factory.mktemp("people"))
    bastion.make_keys(PEOPLE)
    return bastion.keys


@pytest.fixture
def new_bastion(
    tmp_path: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[[], Bastion]:
    """Return a function that makes a bastion without a home."""

    def make() -> Bastion:
        for file in keys.iterdir():
            shutil.copy2(file, tmp_path / file.name)
        return Bastion(tmp_path, program=in_this_process(capsys), keys=tmp_path)

    return make


@pytest.fixture
def bastion(new_bastion: Callable[[], Bastion]) -> Bastion:
    """A bastion with a home of three people and one node."""
    made = new_bastion()
    made.init()
    made.add_node()
    return made
