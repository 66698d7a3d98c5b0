# SPDX-License-Identifier: Apache-2.0
"""Boot a node as a virtual machine, with pure cgroup v2 and systemd, and reach it by ssh.

    with Guest(root(), stage=drive, island=pid, folder=folder) as guest:
        guest.run("systemctl is-system-running")

Rules:

- QEMU runs without KVM (TCG), 8 to 30 times slower than this machine: a test may check what works,
  and ratios, but not absolute times.  Run one guest at a time; it runs at nice 10.
- QEMU runs in a network namespace that has only loopback addresses.  Through QEMU's user network
  the guest reaches programs that listen in that namespace and nothing else, and programs there
  reach the guest at its own address.
- The guest's writes survive a reboot inside it and are lost when QEMU ends.  QEMU ends when this
  process ends, in whatever way.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from lab import LabUnavailable
from lab.guest.drives import ADDRESS, Root

AGENT_PORT = 7443
BASTION = "10.97.0.1"
# The guest's address is also an address of the namespace, so that QEMU can listen on it.  Clients
# use another source address; otherwise the guest would get packets from its own address.
ROUTE = (
    f"ip address add {BASTION}/32 dev lo",
    "ip link set lo up",
    f"ip route add local {ADDRESS} dev lo src {BASTION}",
)
_MEMORY_MIB = 4096
_BOOT_S = 600.0
_RUN_S = 300.0
_END_S = 20.0
_LOOK_S = 0.5
# The kernel of trixie panics under TCG if the CPU offers cmpxchg16b.
_CPU = "max,-cx16"
_KERNEL = "root=/dev/vda rw console=ttyS0 mitigations=off net.ifnames=0 quiet"
_SSH = (
    *("ssh", "-q", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"),
    *("-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=30"),
)


def inside(island: int, *argv: str | Path) -> list[str]:
    """Return a command that runs in a network namespace and gets SIGKILL when this process ends.

    Args:
        island: the id of a process in that namespace.
        argv: the program and its arguments.
    """
    enter = ("nsenter", f"--net=/proc/{island}/ns/net", "--")
    return ["setpriv", "--pdeathsig=KILL", *enter, *map(str, argv)]


class Guest:
    """A booted guest, from entering the context to leaving it.

    Args:
        root: the root to boot from.
        stage: the image of the read-only drive.
        island: the id of a process in a network namespace in which `ROUTE` was run.
        folder: for its console and control socket; short, because a socket's path must be.
    """

    def __init__(self, root: Root, *, stage: Path, island: int, folder: Path) -> None:
        self._root, self._stage, self._island, self._folder = root, stage, island, folder
        self._machine: subprocess.Popen[bytes] | None = None
        self._shared: subprocess.Popen[bytes] | None = None
        self.boot_s = 0.0

    @property
    def console(self) -> str:
        """The output of its serial console."""
        path = self._folder / "console"
        return path.read_text(errors="replace") if path.exists() else ""

    def run(
        self, command: str, *, check: bool = True, stdin: bytes = b"", timeout_s: float = _RUN_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root in the guest; raise AssertionError when it fails."""
        done = subprocess.run(
            [*self._ssh(), f"root@{ADDRESS}", command],
            input=stdin,
            capture_output=True,
            check=False,
            timeout=timeout_s,
        )
        text = subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )
        if check and text.returncode:
            raise AssertionError(f"{command}: exit {text.returncode}\n{text.stdout}{text.stderr}")
        return text

    def wait_until(self, command: str, *, timeout_s: float, look_s: float = _LOOK_S) -> float:
        """Return the seconds until a command succeeds in the guest; raise TimeoutError if late."""
        start = time.monotonic()
        while self.run(command, check=False).returncode:
            if time.monotonic() - start > timeout_s:
                raise TimeoutError(f"`{command}` did not succeed within {timeout_s:.0f} s")
            time.sleep(look_s)
        return time.monotonic() - start

    def reboot(self) -> float:
        """Reboot it with systemctl; return the seconds until it answers ssh again."""
        start = time.monotonic()
        before = self.run("cat /proc/sys/kernel/random/boot_id").stdout
        self.run("systemctl reboot", check=False)
        self._leave()
        self._wait_for_ssh(unlike=before)
        return time.monotonic() - start

    def __enter__(self) -> Self:
        try:
            self._boot()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _boot(self) -> None:
        start = time.monotonic()
        with (self._folder / "qemu.log").open("wb") as log:
            self._machine = subprocess.Popen(
                ["nice", "-n", "10", *inside(self._island, *self._qemu())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # QEMU keeps its temporary copy of the root here, in an unlinked file.
                env=os.environ | {"TMPDIR": str(self._folder)},
            )
        self._wait_for_ssh()
        self.boot_s = time.monotonic() - start

    def _qemu(self) -> Sequence[str | Path]:
        forwards = ",".join(
            f"hostfwd=tcp:{ADDRESS}:{port}-{ADDRESS}:{port}" for port in (22, AGENT_PORT)
        )
        root, stage = self._root.image, self._stage
        return (
            *("qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi,tb-size=1024"),
            *("-smp", "2", "-cpu", _CPU, "-m", str(_MEMORY_MIB)),
            *("-display", "none", "-monitor", "none", "-serial", f"file:{self._folder}/console"),
            *("-netdev", f"user,id=n,{forwards}", "-device", "virtio-net-pci,netdev=n"),
            *("-kernel", self._root.boot("vmlinuz"), "-initrd", self._root.boot("initrd.img")),
            *("-append", _KERNEL),
            *("-drive", f"file={root},if=none,id=d,format=raw,snapshot=on"),
            *("-device", "virtio-blk-pci,drive=d"),
            *("-drive", f"file={stage},if=none,id=e,format=raw,readonly=on"),
            *("-device", "virtio-blk-pci,drive=e"),
        )

    def _ssh(self) -> list[str]:
        way = ("-i", self._root.key, "-o", f"ControlPath={self._folder}/ssh")
        return inside(self._island, *_SSH, *way)

    def _wait_for_ssh(self, unlike: str = "") -> None:
        end = time.monotonic() + _BOOT_S
        while not self._answers(unlike):
            if self._machine is None or self._machine.poll() is not None:
                log = (self._folder / "qemu.log").read_text(errors="replace")
                raise LabUnavailable(f"QEMU ended: {log[-400:]}")
            if time.monotonic() > end:
                raise LabUnavailable(f"the guest did not boot: {self.console[-400:]}")
            time.sleep(_LOOK_S)
        # All commands share one connection: a handshake costs a second of the guest's time.
        command = [*self._ssh(), "-M", "-N", f"root@{ADDRESS}"]
        self._shared = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        while not (self._folder / "ssh").exists() and self._shared.poll() is None:
            time.sleep(_LOOK_S)

    def _answers(self, unlike: str) -> bool:
        try:
            said = self.run("cat /proc/sys/kernel/random/boot_id", check=False, timeout_s=40)
        except subprocess.TimeoutExpired:
            return False
        return said.returncode == 0 and said.stdout != unlike

    def _leave(self) -> None:
        if self._shared is not None:
            self._shared.kill()  # `ssh -O exit` would wait for a guest that may be gone
            self._shared.wait(timeout=_END_S)
            self._shared = None
        with contextlib.suppress(FileNotFoundError):
            (self._folder / "ssh").unlink()

    def _end(self) -> None:
        try:
            self._leave()
        finally:
            if self._machine is not None:
                self._machine.kill()
                self._machine.wait(timeout=_END_S)


def why_not() -> str:
    """Return why this machine cannot run a guest; empty when nothing is known to be missing."""
    missing = [tool for tool in ("setpriv", "nsenter", "nice", "ssh") if shutil.which(tool) is None]
    return f"needs {', '.join(missing)}" if missing else ""
