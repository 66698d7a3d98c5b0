# SPDX-License-Identifier: Apache-2.0
"""A bastion and a node as two network namespaces that one veth pair joins.

Each has loopback and its end of the veth pair, and no other interface, no default route and no
resolver: in its mount namespace `/etc/resolv.conf` is empty.  What works here needs nothing but an
IP address.

    with Wire() as wire:
        subprocess.run(wire.node.command("breakglass-agent", "serve", ...), check=True)

One process holds each namespace open, and the namespace ends with it: nothing is written below
/run/netns.  The network namespace of the caller stays as it is.
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
    """Return why this machine cannot make network namespaces; empty when it can."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [tool for tool in _TOOLS if shutil.which(tool, path=_path()) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host: a network and a mount namespace, which the process `holder` keeps open."""

    name: str
    address: str
    holder: int

    def command(self, *argv: str, mounts: bool = True) -> list[str]:
        """Return `argv` as a command that runs on this host.

        Args:
            argv: the program and its arguments.
            mounts: whether it enters this host's mount namespace too, or keeps the caller's.
        """
        spaces = [f"--net=/proc/{self.holder}/ns/net"]
        if mounts:
            spaces.append(f"--mount=/proc/{self.holder}/ns/mnt")
        return [_tool("nsenter"), *spaces, "--", *argv]

    def run(self, *argv: str) -> str:
        """Run `argv` on this host and return its output.

        Raises:
            subprocess.CalledProcessError: the program failed.
        """
        return subprocess.run(
            self.command(*argv), check=True, capture_output=True, text=True
        ).stdout


class Wire:
    """Two hosts and the veth pair between them, from entering the context to leaving it."""

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
        """Take the node's end of the veth pair down."""
        self.node.run("ip", "link", "set", "eth0", "down")

    def mend(self) -> None:
        """Take the node's end up again."""
        self.node.run("ip", "link", "set", "eth0", "up")


@contextlib.contextmanager
def held(*more: str) -> Iterator[int]:
    """Yield the id of a process that keeps a new network and a new mount namespace open.

    Args:
        more: shell commands to run in them first, such as mounts.
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
                msg = f"cannot make a network namespace: {said.strip()}"
                raise LabUnavailable(msg)
            yield holder.pid
        finally:
            holder.kill()


def ip(*argv: str) -> None:
    """Run `ip` in the caller's namespace; its arguments say where a new interface goes."""
    subprocess.run([_tool("ip"), *argv], check=True, capture_output=True)


def _tool(name: str) -> str:
    return shutil.which(name, path=_path()) or name


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin"
