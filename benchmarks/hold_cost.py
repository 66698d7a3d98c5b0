# SPDX-License-Identifier: Apache-2.0
"""Measure CPU and wake-ups of an agent that keeps holds, against plain polling at 4 Hz.

A simulated runtime serves 110 pods on a socket, and each pod has a real control group.  The agent
and the polling loop run at the same time, under the same load of the machine.
"""

import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc

from benchmarks.rows import Row
from breakglass._pb.cri.v1 import api_pb2 as cri
from breakglass.core.entries import Finished, parse_entry
from lab.containerd import CHANNEL_OPTIONS
from lab.leftovers import remove_cgroup
from tests.support.agent_process import AgentProcess, NodeFiles, Tls
from tests.support.organisation import Organisation

PODS, SETS = 110, 20
HOLDS = (1, SETS)
MEASURED_S = 20.0
SETTLED_S = 3.0
READY_S = 30.0
_TREES = ("unified", "pids")
_TICKS_PER_S = 100


def costs() -> Iterator[Row]:
    """Yield a row of CPU and one of wake-ups for each number of holds."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bg-bench-")))
        socket = folder / "cri.sock"
        stack.enter_context(_child("benchmarks.many_pods", str(socket), str(PODS), str(SETS)))
        top = stack.enter_context(_groups(socket))
        tls = Tls.make()
        people = Organisation(couriers=tls.pins)
        files = NodeFiles(folder=folder / "n", organisation=people, tls=tls, runtime=socket)
        agent = stack.enter_context(AgentProcess(files.write())).wait_ready()
        loop = stack.enter_context(_child("benchmarks.poll_lists", str(socket)))
        held = 0
        for count in HOLDS:
            while held < count:
                _hold(agent, people, f"set{held}")
                held += 1
            time.sleep(SETTLED_S)
            ours, reference = _spent(agent.process.pid, loop.pid)
            suffix = "" if count == 1 else f"-{count}"
            yield _row(f"agent-cpu{suffix}", ours.cpu_s, reference.cpu_s, "s/h")
            yield _row(f"agent-wakeups{suffix}", ours.wakeups, reference.wakeups, "1/h")
        del top


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spent:
    """What a process has used: CPU seconds and voluntary context switches."""

    cpu_s: float
    wakeups: float

    @classmethod
    def of(cls, pid: int) -> "_Spent":
        """Return what all threads of a process have used so far."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        waits = 0
        for task in Path(f"/proc/{pid}/task").iterdir():
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    waits += int(line.split()[1])
        return cls(cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS_PER_S, wakeups=waits)

    def per_hour(self, before: "_Spent", seconds: float) -> "_Spent":
        """Return the use in an hour, from the difference to `before` over `seconds`."""
        hours = seconds / 3_600
        return _Spent(
            cpu_s=(self.cpu_s - before.cpu_s) / hours,
            wakeups=(self.wakeups - before.wakeups) / hours,
        )


def _spent(*pids: int) -> tuple[_Spent, ...]:
    begun = time.monotonic()
    before = [_Spent.of(pid) for pid in pids]
    time.sleep(MEASURED_S)
    seconds = time.monotonic() - begun
    return tuple(
        _Spent.of(pid).per_hour(was, seconds) for pid, was in zip(pids, before, strict=True)
    )


def _row(bench: str, ours: float, reference: float, unit: str) -> Row:
    return {
        "bench": bench,
        "ours": round(ours, 3),
        "reference": round(reference, 3),
        "unit": unit,
        "ratio": round(ours / reference, 3),
        "n": 1,
    }


def _hold(agent: AgentProcess, people: Organisation, name: str) -> None:
    text = people.command(
        workload=f"monitoring/{name}",
        grace_s=0,
        hold_s=3_600,
        max_pods_per_node=PODS,
        created=datetime.now(UTC).replace(microsecond=0),
    )
    with agent.local() as client:
        progress = client.submit(people.signed(text, "ana bo"))
    body = parse_entry(progress[-1].finished.entry).body
    if not isinstance(body, Finished) or not body.held:
        msg = f"expected pods of {name} held, got {body}"
        raise RuntimeError(msg)


@contextmanager
def _child(module: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a module as a process, wait until it prints "ready", and end it with the context."""
    child = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        if child.stdout.readline().strip() != "ready":
            msg = f"{module} ended before it was ready"
            raise RuntimeError(msg)
        yield child
    finally:
        child.terminate()
        child.wait()


@contextmanager
def _groups(socket: Path) -> Iterator[str]:
    """Make the control groups of all pods; remove them with the context."""
    top = f"bg-bench-{uuid.uuid4().hex[:8]}"
    roots = [Path("/sys/fs/cgroup") / tree for tree in _TREES]
    with grpc.insecure_channel(f"unix://{socket}", options=CHANNEL_OPTIONS) as channel:
        call = channel.unary_unary(
            "/runtime.v1.RuntimeService/ListPodSandbox",
            request_serializer=cri.ListPodSandboxRequest.SerializeToString,
            response_deserializer=cri.ListPodSandboxResponse.FromString,
        )
        found = call(cri.ListPodSandboxRequest(), timeout=READY_S, wait_for_ready=True).items
    try:
        for root in (one for one in roots if one.is_dir()):
            for sandbox in found:
                pod = root / top / f"kubepods/besteffort/pod{sandbox.metadata.uid}"
                pod.mkdir(parents=True)
        yield top
    finally:
        remove_cgroup(f"/{top}")
