# SPDX-License-Identifier: Apache-2.0
"""Captures of a pod whose logs hang in the kernel, and of a pod in its own network namespace."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from breakglass.agent.capture.store import CaptureStore
from breakglass.agent.clock import SystemClock
from breakglass.core import bounds
from breakglass.core.pods import Pod

POD = Pod(uid="u-1", name="telemetry-x2b4z", namespace="observability", sandbox_id="5" * 64)
PATIENCE_S = 60
FUSE = Path("/dev/fuse")

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts and network namespaces"),
    pytest.mark.skipif(shutil.which("unshare") is None, reason="not installed: unshare"),
]

# A file system whose server never answers: a process that reads it waits in the kernel.
HANGING = """
import asyncio, ctypes, json, os, sys
from pathlib import Path
from breakglass.agent.clock import SystemClock
from breakglass.agent.capture.store import CaptureStore
from breakglass.core import bounds
from breakglass.core.pods import Pod

logs, store = Path(sys.argv[1]), Path(sys.argv[2])
server = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
mount = ctypes.CDLL(None, use_errno=True).mount
if mount(b"hang", os.fsencode(logs), b"fuse.hang", ctypes.c_ulong(0), options):
    sys.exit(f"cannot mount: {os.strerror(ctypes.get_errno())}")
pod = Pod(uid="u-1", name="telemetry-x2b4z", namespace="observability", sandbox_id="")

async def main():
    captures = CaptureStore(store, pod_logs=logs, clock=SystemClock())
    told = []
    for number in range(5):
        kept = await captures.capture(pod, command_id=f"c{number}", pids=(), group=None)
        told.append([kept.note, kept.ms])
    if "heal" in sys.argv:
        os.close(server)
        bounds.CAPTURE_TIMEOUT_S = 30.0
        for _ in range(4):
            await captures._free.acquire()
        for _ in range(4):
            captures._free.release()
        kept = await captures.capture(pod, command_id="after", pids=(), group=None)
        told.append([kept.note, bool(kept.sha256)])
    print(json.dumps(told), flush=True)

asyncio.run(main())
"""


@pytest.mark.skipif(not FUSE.exists(), reason=f"no {FUSE}")
@pytest.mark.parametrize("heals", [False, True])
def test_logs_on_a_dead_file_system_delay_no_command(tmp_path: Path, *, heals: bool) -> None:
    """With four threads hanging in the kernel, the fifth capture is skipped, and the agent can end.

    Without `heals` the process ends while its threads still hang.  With it the file system is
    closed, the threads return, and the next capture is made.
    """
    (tmp_path / "logs").mkdir()
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", HANGING]
    command += [str(tmp_path / "logs"), str(tmp_path / "store"), *(["heal"] if heals else [])]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ran.returncode == 0, ran.stderr
    notes = json.loads(ran.stdout)
    for note, waited_ms in notes[:4]:
        assert note == "skipped: hung for 250 ms"
        assert waited_ms >= bounds.CAPTURE_TIMEOUT_S * 1_000
    assert notes[4] == ["skipped: earlier captures still hang", 0]
    if heals:
        assert "logs: " in notes[5][0]
        assert notes[5][1] is True
    kept = [one.name for one in (tmp_path / "store").glob("*/*")]
    assert kept == (["u-1.json"] if heals else [])


CONNECTED = """
import socket, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
server = socket.create_server(("127.0.0.1", 0))
clients = [socket.create_connection(server.getsockname()) for _ in range(3)]
print("connected", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(shutil.which("ip") is None, reason="not installed: ip")
async def test_connections_are_those_of_the_pods_own_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pod's process is in another network namespace; only the sockets there are counted."""
    monkeypatch.setattr(bounds, "CAPTURE_TIMEOUT_S", PATIENCE_S)
    command = ("unshare", "--net", sys.executable, "-c", CONNECTED)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"connected\n"
        store = CaptureStore(tmp_path / "store", pod_logs=tmp_path, clock=SystemClock())
        kept = await store.capture(POD, command_id="c", pids=(process.pid,), group=None)
    finally:
        await process.communicate(b"")  # closes its standard input, so it ends
    assert kept.sha256, kept.note
    document = json.loads((tmp_path / "store" / "c" / "u-1.json").read_bytes())
    connections = document["connections"]
    assert connections["of_node"] is False
    assert connections["total"] == 7
    assert connections["most"] == [
        {"remote": "127.0.0.1", "state": "ESTABLISHED", "count": 6},
        {"remote": "0.0.0.0", "state": "LISTEN", "count": 1},  # noqa: S104 - as the kernel has it
    ]
