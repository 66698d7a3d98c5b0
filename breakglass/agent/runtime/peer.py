# SPDX-License-Identifier: Apache-2.0
"""Find the process that listens on the runtime's unix socket, so that no kill hits it.

The kernel gives the listener's process also while that process is stopped: a connection is complete
as soon as it is queued.  For a socket-activated service, systemd is the listener.

Nothing is sent on the connection.
"""

import socket
import struct
from pathlib import Path

_PROC = Path("/proc")
_ACCEPT_TIMEOUT_S = 0.2
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid (unix(7))


def runtime_pid_of(socket_path: Path) -> int | None:
    """Return the id of the process that listens on a unix socket; None when none does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_ACCEPT_TIMEOUT_S)
        try:
            connection.connect(str(socket_path))
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return None
    pid: int = _CREDENTIALS.unpack(raw)[0]
    return pid or None  # 0: the listener's pid namespace is not visible from this one


class RuntimePids:
    """The runtime's process: the socket's present listener, or the last one that was found.

    A runtime that is stopped for long has a full queue, and then the kernel gives no listener.  So
    the last one found is kept as long as its process lives.
    """

    def __init__(self, socket_path: Path, proc: Path = _PROC) -> None:
        self._socket_path = socket_path
        self._proc = proc
        self._last: tuple[int, str] | None = None

    def __call__(self) -> frozenset[int]:
        """Return the process; nothing when none was ever found, or when the last one has ended."""
        pid = runtime_pid_of(self._socket_path)
        if pid is not None:
            self._last = pid, self._since(pid)
        elif self._last is not None and self._since(self._last[0]) != self._last[1]:
            self._last = None
        return frozenset() if self._last is None else frozenset({self._last[0]})

    def _since(self, pid: int) -> str:
        """Return a process's start time, "" when it has ended (proc(5), stat, field 22)."""
        try:
            text = (self._proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return text.rpartition(")")[2].split()[19]
