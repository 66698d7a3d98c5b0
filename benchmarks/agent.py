# SPDX-License-Identifier: Apache-2.0
"""Measure the idle agent, `rss` and `start`, against a bare grpc.aio server.

A start lasts from the creation of the process until its health check answers SERVING on its unix
socket.  The resident memory is read right after that answer.  Both processes run the same
interpreter with compiled byte code, as an installed package has.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import grpc

from benchmarks.rows import Row, row
from breakglass._pb.health.v1 import health_pb2
from lab.containerd import Containerd
from tests.support.agent_process import NodeFiles, Tls
from tests.support.organisation import Organisation

_Check: TypeAlias = (
    "grpc.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]"
)

ROUNDS = 9
PATIENCE_S = 30.0
_LOOK_S = 0.001


def measure() -> list[Row]:
    """Return both rows; raise `lab.LabUnavailable` if this machine cannot run containerd."""
    taken: dict[str, tuple[list[float], list[float]]] = {"rss": ([], []), "start": ([], [])}
    with tempfile.TemporaryDirectory(prefix="bg-bench-") as folder, Containerd() as containerd:
        agent = _agent_files(Path(folder) / "node", containerd.socket)
        bare = Path(folder) / "bare.sock"
        sides = (
            (["-m", "benchmarks.node_agent", "serve", "--config", str(agent.config)], agent.socket),
            (["-m", "benchmarks.bare_server", str(bare)], bare),
        )
        for number in range(ROUNDS + 1):
            for side in (0, 1) if number % 2 else (1, 0):
                start_ms, rss_mib = _start(*sides[side])
                if number:  # round 0 compiles the byte code
                    taken["start"][side].append(start_ms)
                    taken["rss"][side].append(rss_mib)
    return [
        row("rss", *taken["rss"], unit="MiB"),
        row("start", *taken["start"], unit="ms"),
    ]


def _agent_files(folder: Path, runtime: Path) -> NodeFiles:
    tls = Tls.make()
    organisation = Organisation(couriers=tls.pins)
    return NodeFiles(folder=folder, organisation=organisation, tls=tls, runtime=runtime).write()


def _start(argv: Sequence[str], path: Path) -> tuple[float, float]:
    """Return the milliseconds to the first SERVING answer, and the resident MiB at that time."""
    begun = time.perf_counter()
    with _running(argv) as process:
        _wait_healthy(path, process)
        taken_ms = (time.perf_counter() - begun) * 1e3
        return taken_ms, _resident_mib(process.pid)


@contextlib.contextmanager
def _running(argv: Sequence[str]) -> Iterator["subprocess.Popen[bytes]"]:
    environment = os.environ.copy()
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with subprocess.Popen(
        [sys.executable, *argv], env=environment, stdout=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def _wait_healthy(path: Path, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + PATIENCE_S
    while not _accepts(path):
        _go_on(process, end)
    with grpc.insecure_channel(f"unix:{path}") as channel:
        check: _Check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        while not _serves(check):
            _go_on(process, end)


def _go_on(process: "subprocess.Popen[bytes]", end: float) -> None:
    if process.poll() is not None or time.monotonic() > end:
        msg = f"{process.args!r} did not become healthy within {PATIENCE_S:.0f} s"
        raise RuntimeError(msg)
    time.sleep(_LOOK_S)


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _serves(check: "_Check") -> bool:
    try:
        answer = check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
    except grpc.RpcError:
        return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING


def _resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    msg = f"/proc/{pid}/status has no VmRSS"
    raise RuntimeError(msg)
