# SPDX-License-Identifier: Apache-2.0
"""Boot a container with a real systemd by systemd-nspawn, and remove it afterwards.

    with Machine(prepared(), stage=folder, runtime=directory) as machine:
        machine.run("systemctl is-system-running")

Rules:

- The root tree is Debian, in this machine's own release and from the mirror in its apt sources.  It
  is made once, outside the repository, and kept under a hash of everything that defines it.  A
  machine boots from it through an overlay, so the tree never changes.
- systemd-nspawn is unpacked beside the tree and not installed: installing would upgrade systemd.
- The machine has its own loopback, no other network, and a cgroup of its own.  Leaving the context
  kills the processes in that cgroup and removes it, and touches no other process.

If something is missing (root rights, the mirror, a boot), `LabUnavailable` gives the reason.
"""

import contextlib
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from lab import LabUnavailable, leftovers

PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3-venv")
STAGE = "/mnt/stage"
RUNTIME = "/run/containerd"
_REPOSITORY = Path(__file__).resolve().parent.parent
_TOOLS = ("mmdebstrap", "apt-get", "dpkg", "nsenter", "systemd-analyze")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENTER = ("nsenter", "-m", "-u", "-i", "-n", "-p", "-C")
_MADE_S = 300.0
_BOOT_S = 180.0
_RUN_S = 90.0
_STEP_S = 120.0
_LOOK_S = 0.02


def why_not() -> str:
    """Return why this machine cannot boot such a container; empty when nothing known is missing."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    return f"needs {', '.join(missing)}" if missing else ""


def prepared() -> Path:
    """Return the folder with the tree and systemd-nspawn; make it first if it does not exist.

    Raises:
        LabUnavailable: something is missing, or cannot be downloaded.
    """
    if reason := why_not():
        raise LabUnavailable(reason)
    return _kept("machine", f"{mirror()} {PACKAGES} {_systemd()}", _make_machine)


def wheels(version: str) -> Path:
    """Return a folder with the wheels of requirements/agent.lock for a Python version, as "3.11".

    Raises:
        LabUnavailable: the wheels cannot be downloaded.
    """
    lock = _REPOSITORY / "requirements" / "agent.lock"

    def make(folder: Path) -> None:
        choice = ("--only-binary", ":all:", "--python-version", version, "--no-deps")
        step(_pip("download", "--require-hashes", *choice, "-d", folder, "-r", lock))

    return _kept("wheels", f"{version} {lock.read_text()}", make)


def make_own_wheel(folder: Path) -> None:
    """Build this project's wheel into `folder`, from a copy, because a build writes to its tree."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        shutil.copytree(_REPOSITORY / "breakglass", source / "breakglass")
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(_REPOSITORY / name, source)
        step(_pip("wheel", "--no-deps", "--no-build-isolation", "-w", folder, source))


def python_version(machine: Path) -> str:
    """Return the version of the tree's Python, such as "3.11"."""
    return (machine / "tree/usr/bin/python3").readlink().name.removeprefix("python")


class Machine:
    """A booted machine.

    Args:
        prepared: the folder that `prepared` returned.
        stage: a folder of the host to mount read-only at `STAGE`.
        runtime: a folder of the host to mount at `RUNTIME`, for a container runtime's socket.
        controllers: more cgroup v1 trees that the machine may write, such as "pids".
    """

    def __init__(
        self, prepared: Path, *, stage: Path, runtime: Path, controllers: Sequence[str] = ()
    ) -> None:
        self._prepared, self._stage, self._runtime = prepared, stage, runtime
        self._controllers = tuple(controllers)
        self.cgroup = f"/bg-{os.getpid()}-{os.urandom(3).hex()}"
        self._leader = 0
        self._console = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the machine
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, command: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a shell command in the machine, in `STAGE`; raise AssertionError when it fails."""
        inside = ("env", "-i", f"PATH={_PATH}", "sh", "-c", f"cd {STAGE} && {command}")
        done = subprocess.run(
            (*_ENTER, "-t", str(self._leader), "--", *inside),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_RUN_S,
        )
        if check and done.returncode:
            raise AssertionError(f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def wait_until(self, command: str, *, timeout_s: float = 60.0) -> float:
        """Return the seconds until a command succeeds inside; raise TimeoutError if it is late."""
        start = time.monotonic()
        while self.run(command, check=False).returncode:
            if time.monotonic() - start > timeout_s:
                raise TimeoutError(f"`{command}` did not succeed within {timeout_s:.0f} s")
            time.sleep(_LOOK_S)
        return time.monotonic() - start

    def __enter__(self) -> Self:
        try:
            self._boot()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _boot(self) -> None:
        groups = _make_cgroups(self.cgroup, self._controllers)
        join = "".join(f"echo $$ >{shlex.quote(str(one / 'cgroup.procs'))}; " for one in groups)
        self._process = subprocess.Popen(
            ("sh", "-ec", f'{join}exec "$@"', "sh", *self._nspawn()),
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=subprocess.STDOUT,
            env={"PATH": _PATH},
        )
        end = time.monotonic() + _BOOT_S
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > end:
                raise LabUnavailable(f"systemd did not boot: {self.console()[-400:]}")
            time.sleep(_LOOK_S)
        for name in self._controllers:  # systemd-nspawn mounts them read-only
            self.run(f"mount -o remount,bind,rw /sys/fs/cgroup/{name}")
        if self._controllers:  # systemd reads which trees it may write only when it starts
            self.run("systemctl daemon-reexec")

    def _nspawn(self) -> Iterator[str]:
        yield str(_nspawn_of(self._prepared))
        yield from ("--boot", "--volatile=overlay", "--register=no", "--keep-unit")
        yield from ("--private-network", f"--machine={self.cgroup[1:]}")
        yield f"--directory={self._prepared / 'tree'}"
        yield f"--bind-ro={self._stage}:{STAGE}"
        yield f"--bind={self._runtime}:{RUNTIME}"

    def _is_up(self) -> bool:
        assert self._process is not None
        pid = self._process.pid
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    self._leader = int(child)
        if not self._leader:
            return False
        state = self.run("systemctl is-system-running", check=False).stdout.strip()
        return state in {"running", "degraded"}

    def console(self) -> str:
        """Return the output of the machine's console."""
        self._console.seek(0)
        return self._console.read().decode(errors="replace")

    def _end(self) -> None:
        try:
            leftovers.end_cgroup(self.cgroup)
            if self._process is not None:
                self._process.wait(timeout=leftovers.PATIENCE_S)
        finally:
            leftovers.remove_cgroup(self.cgroup)
            self._console.close()


def _make_cgroups(name: str, controllers: Sequence[str]) -> list[Path]:
    """Make the machine's groups: one on v2; on v1 in systemd's own trees and `controllers`."""
    trees = leftovers.hierarchies()
    wanted = {"systemd", "unified", *controllers}
    own = [tree for tree in trees if tree.name in wanted] or list(trees)
    groups = [tree / name.strip("/") for tree in own]
    for group in groups:
        group.mkdir()
    return groups


def _kept(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """Return the folder kept for `key`; make it atomically if missing, one process at a time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "breakglass/nspawn"
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.is_dir():
            with tempfile.TemporaryDirectory(dir=cache, prefix="new-") as scratch:
                made = Path(scratch) / kind
                made.mkdir()
                make(made)
                made.rename(kept)
    return kept


def _make_machine(folder: Path) -> None:
    where, release = mirror()
    choice = ("--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}")
    step(("mmdebstrap", *choice, release, str(folder / "tree"), where), timeout_s=_MADE_S)
    if shutil.which("systemd-nspawn") is None:
        step(("apt-get", "download", "systemd-container"), cwd=folder)
        (package,) = folder.glob("systemd-container_*.deb")
        step(("dpkg", "-x", str(package), str(folder / "container")))


def _nspawn_of(prepared: Path) -> Path:
    installed = shutil.which("systemd-nspawn")
    return Path(installed) if installed else prepared / "container/usr/bin/systemd-nspawn"


def mirror() -> tuple[str, str]:
    """Return the URI from which apt gets this machine's release, and the release's name."""
    os_release = Path("/etc/os-release").read_text().splitlines()
    release = dict(line.split("=", 1) for line in os_release if "=" in line).get("VERSION_CODENAME")
    wanted = ("--format", "$(RELEASE) $(CODENAME) $(COMPONENT) $(REPO_URI)", "Created-By: Packages")
    ask = ("apt-get", "indextargets", *wanted)
    for refresh in (False, True):
        if refresh:  # a new machine has no package lists yet
            step(("apt-get", "update", "-qq"))
        for line in step(ask).splitlines():
            *names, component, uri = line.split()
            if release in names and component == "main":
                return uri, release
    raise LabUnavailable(f"apt knows no mirror of {release}")


def _systemd() -> str:
    return step(("systemd-analyze", "--version")).partition("\n")[0]


def _pip(*arguments: str | Path) -> list[str]:
    start = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input")
    return [*start, *map(str, arguments)]


def step(
    command: Sequence[str | Path], *, cwd: Path | None = None, timeout_s: float = _STEP_S
) -> str:
    """Run a command and return its stdout; raise `LabUnavailable` with its stderr if it fails."""
    argv = [str(word) for word in command]
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise LabUnavailable(f"{argv[0]} took longer than {timeout_s:.0f} s") from error
    if done.returncode:
        raise LabUnavailable(f"`{shlex.join(argv[:3])} ...` failed: {done.stderr[-300:]}")
    return done.stdout
