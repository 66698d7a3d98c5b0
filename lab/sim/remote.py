# SPDX-License-Identifier: Apache-2.0
"""A simulated node's control groups, behind a socket of their own.

Each connection carries one call: a line `[name, argument ...]`, answered by a line
`{"value": ...}` or `{"errno": ..., "text": ...}`.  `lab.sim.agent` runs the agent on such a node.
"""

import asyncio
import json
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from breakglass.core.gates import Layout, Oci
from breakglass.sim.kernel import Host, SimKernel

_ANSWER_S = 60.0
_CALLS: Final = frozenset(
    {"groups", "leaves", "group_of", "read", "write", "probe", "pids", "kill", "reset_failed"}
)


class KernelServer:
    """A simulated kernel behind a socket, while the context is open."""

    def __init__(self, kernel: SimKernel, path: Path) -> None:
        self._kernel = kernel
        self._path = path
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:

        self._server = await asyncio.start_unix_server(self._answer, self._path)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name, *arguments = json.loads(await reader.readline())
        writer.write(json.dumps(self._call(name, arguments)).encode() + b"\n")
        await writer.drain()
        writer.close()

    def _call(self, name: str, arguments: list[Any]) -> dict[str, object]:
        if name == "host":
            host = self._kernel.host
            return {"value": [host.layout, host.systemd, host.oci]}
        if name not in _CALLS:
            raise ValueError(f"expected a call to the kernel, got {name}")
        try:
            return {"value": getattr(self._kernel, name)(*arguments)}
        except OSError as error:
            return {"errno": error.errno, "text": error.strerror}


class RemoteFiles:
    """The `Files` of `lab.sim.kernel` over a simulated kernel in another process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def host(self) -> Host:
        """Return the node's cgroup layout, driver and OCI runtime."""
        layout, systemd, oci = self._ask("host")
        return Host(layout=Layout(layout), systemd=systemd, oci=Oci(oci))

    def groups(self) -> tuple[tuple[str, int], ...]:
        """Return UID and inode of each pod's group."""
        return tuple((uid, inode) for uid, inode in self._ask("groups"))

    def leaves(self, uid: str) -> tuple[str, ...]:
        """Return the ids of the running containers of a pod, its sandbox included."""
        return tuple(self._ask("leaves", uid))

    def group_of(self, pid: int) -> str:
        """Return the directory of a process's group."""
        return str(self._ask("group_of", pid))

    def read(self, place: str) -> str:
        """Return a limit's value."""
        return str(self._ask("read", place))

    def write(self, place: str, value: str) -> None:
        """Set a limit."""
        self._ask("write", place, value)

    def probe(self, directory: str) -> None:
        """Make a group below `directory` and remove it; raise OSError if a limit forbids it."""
        self._ask("probe", directory)

    def pids(self, directory: str) -> tuple[int, ...]:
        """Return the processes of a group."""
        return tuple(self._ask("pids", directory))

    def kill(self, directory: str) -> None:
        """Kill the processes of a group."""
        self._ask("kill", directory)

    def reset_failed(self, uid: str) -> int:
        """Reset a pod's failed scopes."""
        return int(self._ask("reset_failed", uid))

    def _ask(self, *call: object) -> Any:  # noqa: ANN401 - whatever JSON holds
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(_ANSWER_S)
            line.connect(str(self._path))
            line.sendall(json.dumps(call).encode() + b"\n")
            with line.makefile("rb") as answers:
                return _value(answers.readline())


def _value(line: bytes) -> Any:  # noqa: ANN401 - whatever JSON holds
    answer = json.loads(line or b'{"errno": 32, "text": "the simulated node has gone"}')
    if "errno" in answer:
        raise OSError(answer["errno"], answer["text"])
    return answer["value"]
