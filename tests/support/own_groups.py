# SPDX-License-Identifier: Apache-2.0
"""Real control groups of a test's own, below one directory of its own in every tree.

Processes in them are started here and ended here.  Which trees the code under test sees is told by
a mountinfo of its own, so that a hybrid machine can pass for a v1 or a v2 one.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from breakglass.agent.kernel.hierarchy import FREEZER, PIDS, SYSTEMD, UNIFIED, Hierarchies
from lab import leftovers

PROC = Path("/proc")
HYBRID = (UNIFIED, PIDS, FREEZER, SYSTEMD)
V1 = (PIDS, FREEZER, SYSTEMD)
V1_WITHOUT_FREEZER = (PIDS, SYSTEMD)
V2 = (UNIFIED,)


def why_not(*labels: str) -> str:
    """Say why groups cannot be made here in these trees; empty when they can."""
    if os.geteuid() != 0:
        return "needs root"
    trees = dict(Hierarchies(PROC, PROC / "self/mountinfo").trees)
    missing = [label or "cgroup2" for label in labels if label not in trees]
    if missing:
        return f"no tree of control groups here: {', '.join(missing)}"
    shut = [str(trees[label]) for label in labels if not os.access(trees[label], os.W_OK)]
    return f"cannot be written: {', '.join(shut)}" if shut else ""


class OwnGroups:
    """Groups below `top`, with a name of their own, in every tree there is."""

    def __init__(self) -> None:
        self.top = f"bg-test-{os.getpid()}-{os.urandom(3).hex()}"
        self.trees = dict(Hierarchies(PROC, PROC / "self/mountinfo").trees)
        self._children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.ExitStack() as steps:  # runs the last one first
            steps.callback(leftovers.remove_cgroup, f"{self.top}-elsewhere")
            steps.callback(leftovers.remove_cgroup, self.top)
            for child in self._children:
                steps.callback(child.wait, leftovers.PATIENCE_S)
            steps.callback(leftovers.end_cgroup, self.top)
            steps.callback(self.release)

    def make(self, path: str, trees: Iterable[str] = HYBRID) -> None:
        """Make a group, in those of these trees that the machine has."""
        for label in trees:
            if label in self.trees:
                place = self.trees[label]
                for part in (self.top, *path.split("/")):
                    self._share_pids(place, label)
                    place /= part
                    place.mkdir(exist_ok=True)

    def directory(self, path: str, label: str) -> Path:
        """Return a group's directory in one tree."""
        return self.trees[label] / self.top / path

    def spawn(self, path: str, trees: Iterable[str] = HYBRID, *, argv: Sequence[str] = ()) -> int:
        """Start a process in a group in these trees; it sleeps unless told.

        A program that is told begins when the process is in all the groups: no child escapes it.
        """
        wait = ("sh", "-c", 'read -r _; exec "$@"', "sh")
        child = subprocess.Popen(
            (*wait, *argv) if argv else ("sleep", "1000"),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._children.append(child)
        for label in trees:
            if label in self.trees:
                self.move(child.pid, path, label)
        assert child.stdin is not None
        with child.stdin:
            child.stdin.write(b"\n")
        return child.pid

    def move(self, pid: int, path: str, label: str) -> None:
        """Put a process into a group of one tree."""
        (self.directory(path, label) / "cgroup.procs").write_text(str(pid))

    def keep(self, pid: int) -> None:
        """Make a process immune to SIGKILL, in state D, until `release`.

        It is moved into a group of the v1 freezer that is frozen, which is not its container's: so
        it dies only after a thaw, which a kill of the container does not give.
        """
        place = self.trees[FREEZER] / f"{self.top}-elsewhere"
        place.mkdir(exist_ok=True)
        (place / "cgroup.procs").write_text(str(pid))
        (place / "freezer.state").write_text("FROZEN")
        while (place / "freezer.state").read_text().strip() != "FROZEN":
            os.sched_yield()

    def release(self) -> None:
        """Let those die that were kept."""
        place = self.trees.get(FREEZER, Path("/nowhere")) / f"{self.top}-elsewhere"
        if place.is_dir():
            (place / "freezer.state").write_text("THAWED")

    def mountinfo(self, file: Path, trees: Iterable[str]) -> Path:
        """Write a mountinfo that shows these trees alone."""
        lines = []
        for number, label in enumerate(trees, 30):
            kind = "cgroup2" if label == UNIFIED else "cgroup"
            options = f"rw,{label}" if label else "rw"
            point = self.trees[label]
            lines.append(f"{number} 1 0:{number} / {point} rw - {kind} {kind} {options}\n")
        file.write_text("".join(lines))
        return file

    def _share_pids(self, place: Path, label: str) -> None:
        """Let the groups below have pids.max where the cgroup2 tree has that controller (v2)."""
        if label == UNIFIED and PIDS in (place / "cgroup.controllers").read_text().split():
            (place / "cgroup.subtree_control").write_text("+pids")
