# SPDX-License-Identifier: Apache-2.0
"""A bastion with its people: the program run as a person runs it, with real ssh-keygen keys."""

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from breakglass.cli import main

PEOPLE = ("ana", "bo", "luc", "eve")


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How one run ended."""

    exit: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one document on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass(kw_only=True)
class Bastion:
    """A folder with keys of people and a home."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    def run(self, *arguments: str) -> Ran:
        """Run the program in this process, with this bastion's home."""
        self.capture.readouterr()
        status = main.run(["--home", str(self.folder / "home"), *arguments])
        captured = self.capture.readouterr()
        return Ran(exit=status, out=captured.out, err=captured.err)

    def json(self, *arguments: str) -> Ran:
        """The same for a program's eyes; stdout must be one document."""
        ran = self.run("--output", "json", *arguments)
        assert ran.json["exit"] == ran.exit
        return ran

    def path(self, name: str) -> str:
        """A path in the bastion's folder."""
        return str(self.folder / name)

    def init(self, people: str = "ana bo luc") -> None:
        """Make the home."""
        given = [
            part for one in people.split() for part in ("--person", f"{one}={self.path(one)}.pub")
        ]
        assert self.run("init", "--domain", "example", *given).exit == 0

    def add_node(
        self, name: str = "n1", address: str = "192.0.2.1", cluster: str = "prod-a"
    ) -> None:
        """Add a node."""
        assert self.run("node", "add", name, address, "--cluster", cluster).exit == 0

    def draft(self, out: str = "f", *extra: str) -> str:
        """Draft a stop; return its path."""
        ran = self.run(
            "draft", "stop", "monitoring/telemetry", "--cluster", "prod-a", "--reason", "it floods",
            "--requester", "luc", *extra, "-o", self.path(out),
        )  # fmt: skip
        assert ran.exit == 0, ran.err
        return self.path(out)

    def approve(self, file: str, person: str) -> Ran:
        """Approve with a person's key file."""
        return self.run("approve", file, "--key", self.path(person), "--yes")


def on_terminal(
    bastion: Bastion, *arguments: str, answers: tuple[tuple[str, str], ...]
) -> tuple[int, str]:
    """Run the program on a terminal of its own; answer each question as it is asked."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["DISPLAY"] = ":99"  # where ssh-keygen would ask a program that is not there
        command = [sys.executable, "-m", "breakglass.cli.main", "--home", bastion.path("home")]
        os.execv(sys.executable, [*command, *arguments])  # noqa: S606 - the child of a fork
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
    folder = tmp_path_factory.mktemp("keys")
    if shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen here")
    for person in PEOPLE:
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", person, "-f", folder / person],
            check=True,
            stdin=subprocess.DEVNULL,
        )
    return folder


@pytest.fixture
def new_bastion(
    tmp_path: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[[], Bastion]:
    """Make bastions without a home."""

    def make() -> Bastion:
        for file in keys.iterdir():
            shutil.copy2(file, tmp_path / file.name)
        return Bastion(folder=tmp_path, capture=capsys)

    return make


@pytest.fixture
def bastion(new_bastion: Callable[[], Bastion]) -> Bastion:
    """A bastion with a home of three people and one node."""
    made = new_bastion()
    made.init()
    made.add_node()
    return made
