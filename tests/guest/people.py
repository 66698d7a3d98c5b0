# SPDX-License-Identifier: Apache-2.0
"""Three people with real keys and a bastion's home: they draft, approve and deliver.

Everything goes through the two programs' own command lines, as people use them.  A command reaches
the guest by one of two roads: `run` over mTLS from inside the island, or `submit` over ssh.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.guest import Guest, inside
from lab.guest_images import ADDRESS

NODE = "n1"
CLUSTER = "prod-a"
NAMES = ("ana", "bo", "luc")
APPROVERS = NAMES[:2]
PROGRAM = "/opt/breakglass/bin/breakglass-agent"
_STEP_S = 300.0


class People:
    """The people and their home.

    Args:
        folder: where keys, home and commands go.
        island: a process that holds the network namespace of bastion and guest.
    """

    def __init__(self, folder: Path, island: int) -> None:
        self._folder, self._island = folder, island
        self._drafted = 0
        people: list[str] = []
        for name in NAMES:
            key = folder / name
            keygen = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key))
            subprocess.run(keygen, check=True, stdin=subprocess.DEVNULL)
            people += ["--person", f"{name}={key}.pub"]
        self.breakglass("init", "--domain", "example", *people)
        self.breakglass("node", "add", NODE, ADDRESS, "--cluster", CLUSTER)

    def write_bundle(self, folder: Path) -> None:
        """Write what the node installs into a new folder."""
        self.breakglass("node", "bundle", NODE, "--out", str(folder))

    def breakglass(self, *arguments: str, expect: Sequence[int] = (0,)) -> str:
        """Run the bastion's program inside the island; return its stdout."""
        program = [
            sys.executable,
            "-m",
            "breakglass.cli.main",
            "--home",
            str(self._folder / "home"),
        ]
        done = subprocess.run(
            inside(self._island, *program, *arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_STEP_S,
        )
        if done.returncode not in expect:
            words = " ".join(arguments)
            raise AssertionError(
                f"breakglass {words}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    def signed(self, verb: str, workload: str, *options: str) -> Path:
        """Return a command for a workload with enough approvals on it."""
        self._drafted += 1
        file = self._folder / f"{self._drafted}-{verb}.cmd"
        why = (
            "--cluster",
            CLUSTER,
            "--requester",
            NAMES[-1],
            "--reason",
            "it floods",
            "-o",
            str(file),
        )
        self.breakglass("draft", verb, workload, *options, *why)
        for name in APPROVERS:
            self.breakglass("approve", str(file), "--key", str(self._folder / name), "--yes")
        return file

    def run(self, command: Path, *, expect: Sequence[int] = (0,)) -> str:
        """Deliver a command over mTLS, as a bastion does."""
        return self.breakglass("run", str(command), "--yes", expect=expect)

    @staticmethod
    def submit(guest: Guest, command: Path, *, expect: Sequence[int] = (0,)) -> str:
        """Deliver a command over ssh, to the agent's own program on the node."""
        done = guest.run(f"{PROGRAM} submit", stdin=command.read_bytes(), check=False)
        if done.returncode not in expect:
            raise AssertionError(f"submit: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout
