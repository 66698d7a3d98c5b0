# SPDX-License-Identifier: Apache-2.0
"""Remove what a containerd leaves behind: processes in a cgroup, shims, mounts, cgroups.

Rule: this module ends a process only if it is in the lab's own cgroup, or is a shim whose command
line names the lab's own socket.  It ends nothing by a program's name.  Every wait has a timeout,
and raises `TimeoutError` if something still exists then.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PATIENCE_S = 60.0
_LOOK_S = 0.005


def hierarchies() -> tuple[Path, ...]:
    """Return the mount points of the cgroup trees: one on v2, several on v1 and hybrid hosts."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.split()[0] in ("cgroup", "cgroup2"):
            points.append(Path(fields.split()[4]))
    return tuple(points)


def end_cgroup(cgroup: str) -> None:
    """Kill every process below `cgroup` in every tree, after thawing frozen groups.

    Args:
        cgroup: the absolute path, as in a cgroup parent.
    """
    for tree in _trees(cgroup):
        for directory in _below(tree):
            _write(directory / "freezer.state", "THAWED")
            _write(directory / "cgroup.freeze", "0")
    _until(lambda: not _killed(cgroup), f"processes in cgroup {cgroup}")


def remove_cgroup(cgroup: str) -> None:
    """Remove `cgroup` and the empty groups below it in every hierarchy."""
    _until(lambda: not any(_refuses_removal(tree) for tree in _trees(cgroup)), f"cgroup {cgroup}")


def shims(socket: Path) -> tuple[int, ...]:
    """Return the process ids of the shims started by the containerd behind `socket`."""
    return tuple(
        pid for pid, argv in _processes() if _is_shim(argv) and _address(argv) == str(socket)
    )


def end_shims(socket: Path) -> None:
    """Kill those shims; their containers must be dead already, because the shims reap them."""

    def none_left() -> bool:
        left = shims(socket)
        for pid in left:
            _kill(pid)
        return not left

    _until(none_left, f"shims of {socket}")


def remove_shim_sockets(state: Path) -> None:
    """Unlink the sockets of killed shims; each bundle under `state` names its shim's socket."""
    for address in state.glob("io.containerd.runtime.v2.task/*/*/address"):
        Path(address.read_text().removeprefix("unix://")).unlink(missing_ok=True)


def unmount_below(directory: Path) -> None:
    """Detach every mount below `directory`, the deepest first."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4]
        if Path(point).is_relative_to(directory):
            points.append(point)
    if points:
        subprocess.run(["umount", "--lazy", *reversed(points)], check=True, capture_output=True)


def processes_in(cgroup: str) -> tuple[int, ...]:
    """Return every process id below `cgroup`, in any tree, without zombies."""
    found: set[int] = set()
    for tree in _trees(cgroup):
        for directory in _below(tree):
            found.update(int(pid) for pid in _read(directory / "cgroup.procs").split())
    return tuple(sorted(pid for pid in found if pid))


def _trees(cgroup: str) -> tuple[Path, ...]:
    name = cgroup.strip("/")
    if not name:
        msg = "expected a cgroup of the lab, got the root cgroup"
        raise ValueError(msg)
    return tuple(tree for point in hierarchies() if (tree := point / name).is_dir())


def _below(tree: Path) -> Iterator[Path]:
    """Yield a group and those below it; skip a group that is removed meanwhile."""
    for path, _, _ in os.walk(tree):
        yield Path(path)


def _killed(cgroup: str) -> bool:
    left = processes_in(cgroup)
    for pid in left:
        _kill(pid)
    return bool(left)


def _refuses_removal(tree: Path) -> bool:
    try:
        for path, _, _ in os.walk(tree, topdown=False):
            Path(path).rmdir()
    except FileNotFoundError:
        return False
    except OSError:  # EBUSY: the kernel has not yet released the last dead process
        return True
    return False


def _processes() -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            argv = _read(entry / "cmdline").split("\0")
            if argv[0]:
                yield int(entry.name), argv


def _is_shim(argv: list[str]) -> bool:
    return Path(argv[0]).name.startswith("containerd-shim")


def _address(argv: list[str]) -> str:
    return argv[argv.index("-address") + 1] if "-address" in argv[:-1] else ""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process ended after it was listed
        return ""


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError:  # the group was removed, or has no such file: a tree's root, another tree
        return


def _until(done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > end:
            msg = f"{what} still there after {PATIENCE_S:.0f} s"
            raise TimeoutError(msg)
        time.sleep(_LOOK_S)
