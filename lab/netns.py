# SPDX-License-Identifier: Apache-2.0
"""A bastion and a node as two network namespaces with one wire between them, and nothing else.

Neither has a default route, a resolver (`/etc/resolv.conf` is empty, by a mount namespace of its
own) or any interface but loopback and its end of the wire: what works here needs nothing but an
address.

    with Wire() as wire:
        subprocess.run(wire.node.command("breakglass-agent", "serve", ...), check=True)

Each namespace lives as long as one process that holds it; nothing is written below /run/netns, so
when the holders are gone, so is everything.  It does not touch the network namespace it is started
in.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from lab import LabUnavailable

BASTION_ADDRESS = "192.0.2.1"
NODE_ADDRESS = "192.0.2.2"
_PREFIX = 30
_TOOLS = ("unshare", "nsenter", "ip", "mount", "sh")
_BEGIN = ("mount --bind /dev/null /etc/resolv.conf", "ip link set lo up")
_HOLD = ("echo held", "exec sleep infinity")


def why_not() -> str:
    """Say why this machine cannot make network namespaces; empty when it can."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [tool for tool in _TOOLS if shutil.which(tool, path=_path()) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One end of the wire."""

    name: str
    address: str
    holder: int

    def command(self, *argv: str, mounts: bool = True) -> list[str]:
        """Return `argv` as a command that runs on this host.

        Args:
            argv: the program and its arguments.
            mounts: whether it sees this host's file system too, or keeps the caller's.
        """
        spaces = [f"--net=/proc/{self.holder}/ns/net"]
        if mounts:
            spaces.append(f"--mount=/proc/{self.holder}/ns/mnt")
        return [_tool("nsenter"), *spaces, "--", *argv]

    def run(self, *argv: str) -> str:
        """Run `argv` here and return its output.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        return subprocess.run(
            self.command(*argv), check=True, capture_output=True, text=True
        ).stdout


class Wire:
    """Two hosts and the wire between them, from entering the context to leaving it."""

    bastion: Host
    node: Host

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        reason = why_not()
        if reason:
            raise LabUnavailable(reason)
        with contextlib.ExitStack() as stack:
            bastion = stack.enter_context(held())
            node = stack.enter_context(held())
            ends = ["type", "veth", "peer", "name", "eth0", "netns", str(node)]
            ip("link", "add", "eth0", "netns", str(bastion), *ends)
            self.bastion = Host(name="bastion", address=BASTION_ADDRESS, holder=bastion)
            self.node = Host(name="node", address=NODE_ADDRESS, holder=node)
            for host in (self.bastion, self.node):
                host.run("ip", "address", "add", f"{host.address}/{_PREFIX}", "dev", "eth0")
                host.run("ip", "link", "set", "eth0", "up")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def cut(self) -> None:
        """Take the wire down at the node's end."""
        self.node.run("ip", "link", "set", "eth0", "down")

    def mend(self) -> None:
        """Put it up again."""
        self.node.run("ip", "link", "set", "eth0", "up")


@contextlib.contextmanager
def held(*more: str) -> Iterator[int]:
    """Yield the id of a process that holds a network and a mount namespace of its own.

    Args:
        more: shell commands that make it what it is to be, such as mounts.
    """
    script = " && ".join((*_BEGIN, *more, *_HOLD))
    argv = [_tool("unshare"), "--net", "--mount", "--propagation", "slave", "sh", "-c", script]
    environment = os.environ | {"PATH": _path()}
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as holder:
        try:
            if holder.stdout is None or holder.stdout.readline() != "held\n":
                holder.kill()
                _, said = holder.communicate()
                msg = f"a network namespace cannot be made here: {said.strip()}"
                raise LabUnavailable(msg)
            yield holder.pid
        finally:
            holder.kill()


def ip(*argv: str) -> None:
    """Run `ip` in the namespace of the caller; what it makes goes where its arguments say."""
    subprocess.run([_tool("ip"), *argv], check=True, capture_output=True)


def _tool(name: str) -> str:
    return shutil.which(name, path=_path()) or name


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin"
