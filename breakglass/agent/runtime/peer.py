# SPDX-License-Identifier: Apache-2.0
"""Whose socket it is: the process behind a unix socket, so that it is never killed by mistake.

The kernel answers for the one that listens, also while that one is stopped: a connection is
complete as soon as it is queued.  Where systemd listens for a service, it is systemd's.

It sends nothing.
"""

import socket
import struct
from pathlib import Path

_PROC = Path("/proc")
_ACCEPT_TIMEOUT_S = 0.2
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid (unix(7))


def runtime_pid_of(socket_path: Path) -> int | None:
    """Return the process id of whoever listens on a unix socket; None when nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(_ACCEPT_TIMEOUT_S)
        try:
            line.connect(str(socket_path))
            raw = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return None
    pid: int = _CREDENTIALS.unpack(raw)[0]
    return pid or None  # 0: the listener is in a pid namespace that is not seen from here


class RuntimePids:
    """The runtime's process as far as it is known: whoever listens now, or who did last.

    The queue of a runtime that has been stopped for long is full, and then nobody is told of; it is
    remembered as long as that process lives.
    """

    def __init__(self, socket_path: Path, proc: Path = _PROC) -> None:
        self._socket_path = socket_path
        self._proc = proc
        self._last: tuple[int, str] | None = None

    def __call__(self) -> frozenset[int]:
        """Return the process, or nothing where none was ever found or that one is gone."""
        pid = runtime_pid_of(self._socket_path)
        if pid is not None:
            self._last = pid, self._since(pid)
        elif self._last is not None and self._since(self._last[0]) != self._last[1]:
            self._last = None
        return frozenset() if self._last is None else frozenset({self._last[0]})

    def _since(self, pid: int) -> str:
        """Return when a process began, "" when it is gone (proc(5), stat, field 22)."""
        try:
            text = (self._proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return text.rpartition(")")[2].split()[19]
