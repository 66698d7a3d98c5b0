# SPDX-License-Identifier: Apache-2.0
"""Whose socket it is: the process behind a unix socket, so that it is never killed by mistake.

The kernel answers for the one that listens, also while that one is stopped: a connection is
complete as soon as it is queued.  Where systemd listens for a service, it is systemd's.

It sends nothing.
"""

import socket
import struct
from pathlib import Path

_TIMEOUT_S = 0.2
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid (unix(7))


def runtime_pid_of(socket_path: Path) -> int | None:
    """Return the process id of whoever listens on a unix socket; None when nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(_TIMEOUT_S)
        try:
            line.connect(str(socket_path))
            raw = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return None
    pid: int = _CREDENTIALS.unpack(raw)[0]
    return pid or None  # 0: the listener is in a pid namespace that is not seen from here
