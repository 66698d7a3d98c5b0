# SPDX-License-Identifier: Apache-2.0
"""Finding the process that listens on a unix socket."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from breakglass.agent.runtime.peer import runtime_pid_of

_LISTEN = """
import socket, sys
line = socket.socket(socket.AF_UNIX)
line.bind(sys.argv[1])
line.listen(1)
print("ready", flush=True)
sys.stdin.read()
"""


def test_the_listener_is_found(tmp_path: Path) -> None:
    """The listener need not accept: a connection is complete as soon as it is queued."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(str(path))
        assert runtime_pid_of(path) is None  # bound, and not listening yet
        line.listen(1)
        assert runtime_pid_of(path) == os.getpid()


def test_a_stopped_listener_is_found(tmp_path: Path) -> None:
    """A stopped runtime must be spared too: the kernel gives it until its queue is full."""
    path = tmp_path / "s"
    with subprocess.Popen(
        (sys.executable, "-c", _LISTEN, str(path)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        other.stdout.readline()
        os.kill(other.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, other.pid, os.WSTOPPED | os.WNOWAIT)
        assert runtime_pid_of(path) == other.pid
        assert runtime_pid_of(path) == other.pid
        os.kill(other.pid, signal.SIGCONT)
        other.stdin.close()
    assert runtime_pid_of(path) is None


@pytest.mark.parametrize("name", ["missing", "file", "x" * 200])
def test_without_a_listener_none_is_found(tmp_path: Path, name: str) -> None:
    """The path may be missing, a file, or too long for a socket."""
    if name == "file":
        (tmp_path / name).touch()
    assert runtime_pid_of(tmp_path / name) is None
