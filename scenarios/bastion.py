# SPDX-License-Identifier: Apache-2.0
"""Run `breakglass` on a bastion as people do, with real keys made by `ssh-keygen`.

    bastion = Bastion(folder)
    bastion.make_keys()
    bastion.init("ana bo luc")
    bastion.add_node("n1", "192.0.2.11")
    delivered = bastion.deliver(bastion.signed("stop.cmd"))

Everything goes through the command line.  A `Program` decides where it runs: as a process on this
machine (`as_process`), as a process in the namespace of the lab's bastion, or, in tests, in the
test's own process.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenarios.stage import Stage, StoryFailed, require

BREAKGLASS = (sys.executable, "-m", "breakglass.cli.main")
AGENT = (sys.executable, "-m", "breakglass.cli.agent")
CLUSTER = "prod-a"
DOMAIN = "example"
WORKLOAD = "monitoring/telemetry"
PEOPLE = "ana bo luc"
APPROVERS = ("ana", "bo")
WHY = ("--reason", "it floods", "--requester", "luc")
_STEP_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """The exit status, stdout and stderr of one run of a program."""

    exit: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The JSON document on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """A delivered command's file, and when its last approval began, when `run` began and ended.

    Times are seconds since the epoch.
    """

    file: str
    approving: float
    sent: float
    down: float

    @property
    def took_s(self) -> float:
        """Seconds from just before the last approval to the end of `run`."""
        return self.down - self.approving

    @property
    def run_s(self) -> float:
        """Seconds that `run` took."""
        return self.down - self.sent


# Runs `breakglass` with these arguments.
Program = Callable[[Sequence[str]], Ran]


def as_process(*, prefix: Sequence[str] = (), timeout_s: float = _STEP_S) -> Program:
    """Return a `Program` that runs the command line as a process.

    Args:
        prefix: a command that runs it elsewhere, such as `Host.command()` of `lab.netns`.
        timeout_s: the time limit of one run.
    """

    def run(arguments: Sequence[str]) -> Ran:
        done = subprocess.run(
            [*prefix, *BREAKGLASS, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Ran(exit=done.returncode, out=done.stdout, err=done.stderr)

    return run


class Bastion:
    """A folder with a bastion's home and people's keys, and the program that uses them.

    Args:
        folder: the folder for the home and for command files.
        program: what runs the command line; a process on this machine when left out.
        stage: prints the commands that a story shows; no output when left out.
        keys: the folder of the people's keys; one below `folder` when left out.
    """

    def __init__(
        self,
        folder: Path,
        *,
        program: Program | None = None,
        stage: Stage | None = None,
        keys: Path | None = None,
    ) -> None:
        self.folder = folder
        self.keys = keys or folder / "keys"
        self.program = program or as_process()
        self._stage = stage

    # --- the command line ------------------------------------------------------------------

    def run(self, *arguments: str | Path) -> Ran:
        """Run the program with this home and return how it ended, with any exit status."""
        return self.program(self._with_home(arguments))

    def json(self, *arguments: str | Path) -> Ran:
        """Run the program with `--output json`; its document must name the exit status."""
        ran = self.run("--output", "json", *arguments)
        named = ran.json["exit"]
        require(named == ran.exit, f"expected exit {named} as in the document, got {ran.exit}")
        return ran

    def breakglass(
        self, *arguments: str | Path, expect: Sequence[int] = (0,), show: bool = True
    ) -> str:
        """Run the program, show command and output on the stage, and return its stdout.

        Raises:
            StoryFailed: it ended with a status that is not in `expect`.
        """
        words = [str(one) for one in arguments]
        if show and self._stage is not None:
            self._stage.say(f"$ breakglass {' '.join(map(self._short, words))}")
        ran = self.run(*words)
        if show and self._stage is not None:
            self._stage.quote(self._short(ran.out + ran.err))
        if ran.exit not in expect:
            wanted = " or ".join(map(str, expect))
            raise StoryFailed(
                f"expected exit {wanted} of breakglass {words[0]}, got {ran.exit}:"
                f" {ran.out}{ran.err}"
            )
        return ran.out

    def rows(self, *arguments: str, of: str) -> list[dict[str, Any]]:
        """Return the list `of` in the JSON document that the program prints; it must succeed."""
        document = json.loads(self.breakglass("--output", "json", *arguments, show=False))
        rows = document[of]
        require(isinstance(rows, list), f"expected a list of {of}, got {rows}")
        return list(rows)

    def command(self, *arguments: str | Path) -> list[str]:
        """Return the program's command line, for a caller that starts the process itself."""
        return [*BREAKGLASS, *self._with_home(arguments)]

    def path(self, name: str) -> str:
        """Return a path in the bastion's folder."""
        return str(self.folder / name)

    # --- preparation -----------------------------------------------------------------------

    def make_keys(self, people: str = PEOPLE) -> None:
        """Make an SSH key for each person."""
        require(shutil.which("ssh-keygen"), "ssh-keygen is missing: install OpenSSH")
        self.keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        for person in people.split():
            words = ("-q", "-t", "ed25519", "-N", "", "-C", person, "-f", self.key(person))
            subprocess.run(["ssh-keygen", *words], check=True, stdin=subprocess.DEVNULL)

    def key(self, person: str) -> str:
        """Return the path of a person's private key."""
        return str(self.keys / person)

    def init(self, people: str = PEOPLE, *, show: bool = False) -> None:
        """Make the home, with a trust that names these people."""
        pairs = [f"{one}={self.key(one)}.pub" for one in people.split()]
        given = [part for pair in pairs for part in ("--person", pair)]
        self.breakglass("init", "--domain", DOMAIN, *given, show=show)

    def add_node(
        self,
        name: str = "n1",
        address: str = "192.0.2.1",
        cluster: str = CLUSTER,
        *,
        show: bool = False,
    ) -> None:
        """Add a node to the inventory."""
        self.breakglass("node", "add", name, address, "--cluster", cluster, show=show)

    def write_bundle(self, name: str, out: Path, *, show: bool = False) -> None:
        """Write a node's bundle into a new folder."""
        self.breakglass("node", "bundle", name, "--out", out, show=show)

    # --- commands --------------------------------------------------------------------------

    def draft(
        self,
        out: str = "f",
        *options: str,
        verb: str = "stop",
        workload: str = WORKLOAD,
        why: Sequence[str] = WHY,
        show: bool = False,
    ) -> str:
        """Draft a command for a workload on the cluster; return its path.

        Args:
            out: the file's name in the bastion's folder.
            options: more options of `draft`.
            verb: stop, evict, release or extend.
            workload: namespace/name or namespace/name@revision.
            why: the options for reason and requester.
            show: whether to print it on the stage.
        """
        path = self.path(out)
        what = (verb, workload, "--cluster", CLUSTER)
        self.breakglass("draft", *what, *why, *options, "-o", path, show=show)
        return path

    def approve(self, file: str, person: str) -> Ran:
        """Approve with a person's key and return how it ended, with any exit status."""
        return self.run("approve", file, "--key", self.key(person), "--yes")

    def add_approval(self, file: str, person: str, *, note: str = "") -> None:
        """Approve with a person's key and print a line on the stage.

        Raises:
            StoryFailed: `approve` failed.
        """
        ran = self.approve(file, person)
        require(ran.exit == 0, f"approve by {person} failed with exit {ran.exit}: {ran.err}")
        if self._stage is not None:
            self._stage.say(f"$ breakglass approve {Path(file).name} --key {person}{note}")

    def signed(self, out: str, *options: str, verb: str = "stop", workload: str = WORKLOAD) -> str:
        """Draft a command and add enough approvals; return its path."""
        file = self.draft(out, *options, verb=verb, workload=workload)
        for person in APPROVERS:
            self.add_approval(file, person)
        return file

    def approve_and_run(
        self, file: str, person: str, *, note: str = "", expect: Sequence[int] = (0,)
    ) -> Delivered:
        """Add the last approval, deliver the command to the nodes, and measure both.

        Raises:
            StoryFailed: `approve` failed, or `run` ended with a status that is not in `expect`.
        """
        approving = time.time()
        self.add_approval(file, person, note=note)
        sent = time.time()
        self.breakglass("run", file, "--yes", expect=expect)
        return Delivered(file=file, approving=approving, sent=sent, down=time.time())

    # --- parts -----------------------------------------------------------------------------

    def _with_home(self, arguments: Sequence[str | Path]) -> list[str]:
        return ["--home", self.path("home"), *map(str, arguments)]

    def _short(self, text: str) -> str:
        return text.replace(f"{self.folder}/", "")
