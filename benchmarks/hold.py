# SPDX-License-Identifier: Apache-2.0
"""Measure how much user code runs during a hold, and what a hold costs.

- `leak-naive`, `leak-watch`, `leak-gate`: milliseconds of user code per hour of hold.  It holds a
  pod in a real containerd and starts its container again as kubelet does, at random times that
  match no polling interval.  The runtime's start and end times give the run time.  The result is
  the mean of one attempt times kubelet's attempts in the first hour (after 1, 10, 20, 40, 80, 160,
  300, 300 ... s).  naive: a loop that lists and stops every second; watch: the agent with a kernel
  that offers no limits; gate: the agent.  The reference of all three is the watch.
- `stop-wedged`: from Submit until all pods are seen down, with the runtime stopped (SIGSTOP),
  against the agent's own bound on a silent runtime.
- `agent-cpu` and `agent-cpu-20`: CPU seconds per hour of the agent that holds 1 and 20 workloads
  among 110 pods, against a loop that fetches both lists at 4 Hz.  `agent-wakeups*`: the voluntary
  context switches of the same two.
"""

import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import grpc

from benchmarks.hold_cost import costs
from benchmarks.rows import Row, row
from breakglass._pb.cri.v1 import api_pb2 as cri
from breakglass.core import bounds
from breakglass.core.entries import Finished, parse_entry
from lab.attempts import Runtime, start_again
from lab.containerd import CHANNEL_OPTIONS, Containerd
from lab.pods import MadePod, make_pod, remove_pod
from tests.support.agent_process import AgentProcess, NodeFiles, Tls
from tests.support.organisation import Organisation

ATTEMPTS = 8
WEDGED_ROUNDS = 3
WEDGED_PODS = 3
HOLD_S = 3_600
NAMESPACE, NAME = "monitoring", "telemetry"
NAIVE_EVERY_S = 1.0
ENDED_WITHIN_S = 10.0
LISTED_WITHIN_S = 30.0
_WATCHING = ("-m", "benchmarks.watching_agent")


def measure() -> Iterator[Row]:
    """Yield all rows; raise `lab.LabUnavailable` if this machine cannot run containerd."""
    with Containerd() as containerd:
        watch = _leaked_by_agent(containerd, program=_WATCHING)
        naive = _leaked_by_loop(containerd)
        gate = _leaked_by_agent(containerd, program=None)
        for name, leaked in (("naive", naive), ("watch", watch), ("gate", gate)):
            yield _hour(f"leak-{name}", leaked, watch)
        yield row(
            "stop-wedged",
            [_wedged(containerd) for _ in range(WEDGED_ROUNDS)],
            [bounds.MAX_SILENT_LOOKS * bounds.RUNTIME_CALL_TIMEOUT_S * 1_000] * WEDGED_ROUNDS,
            unit="ms",
        )
    yield from costs()


def attempts_in_the_first_hour() -> int:
    """Return how often in an hour kubelet restarts a container that always fails at once."""
    at, wait, count = 1, 10, 0
    while at <= HOLD_S:
        at, wait, count = at + wait, min(2 * wait, 300), count + 1
    return count


def _hour(bench: str, ours: list[float], reference: list[float]) -> Row:
    """Return the row for two series of milliseconds, one value for each attempt."""
    each, other = (sum(side) / len(side) for side in (ours, reference))
    hour = attempts_in_the_first_hour()
    return {
        "bench": bench,
        "ours": round(each * hour, 3),
        "reference": round(other * hour, 3),
        "unit": "ms/h",
        "ratio": round(each / other, 3) if other else 0.0,
        "n": len(ours),
    }


def _leaked_by_agent(containerd: Containerd, *, program: tuple[str, ...] | None) -> list[float]:
    with ExitStack() as stack:
        agent, people = _agent(stack, containerd, program)
        pod = make_pod(containerd.socket, namespace=NAMESPACE, daemonset=NAME)
        try:
            _stop(agent, people, pods=1, hold_s=HOLD_S)
            return _leaks(containerd, pod)
        finally:
            remove_pod(containerd.socket, pod)


def _leaked_by_loop(containerd: Containerd) -> list[float]:
    pod = make_pod(containerd.socket, namespace=NAMESPACE, daemonset=NAME)
    over = threading.Event()
    loop = threading.Thread(target=_stop_for_ever, args=(containerd.socket, pod.uid, over))
    loop.start()
    try:
        return _leaks(containerd, pod)
    finally:
        over.set()
        loop.join()
        remove_pod(containerd.socket, pod)


def _stop_for_ever(socket: Path, uid: str, over: threading.Event) -> None:
    """List and stop the pod's containers every second, as an operator's script would."""
    with grpc.insecure_channel(f"unix://{socket}", options=CHANNEL_OPTIONS) as channel:
        runtime = Runtime(channel)
        while not over.wait(NAIVE_EVERY_S):
            for one in runtime.containers():
                running = one.state == cri.CONTAINER_RUNNING
                if running and one.labels.get("io.kubernetes.pod.uid") == uid:
                    runtime.stop(one.id)


def _leaks(containerd: Containerd, pod: MadePod) -> list[float]:
    """Return the milliseconds of user code in each attempt."""
    seeded = random.Random(1)
    leaked = []
    with grpc.insecure_channel(f"unix://{containerd.socket}", options=CHANNEL_OPTIONS) as channel:
        runtime = Runtime(channel)
        for attempt in range(1, ATTEMPTS + 1):
            time.sleep(seeded.uniform(0.2, 1.2))
            started = start_again(channel, pod, attempt=attempt)
            end = time.monotonic() + ENDED_WITHIN_S
            while (status := runtime.status(started)).state != cri.CONTAINER_EXITED:
                if time.monotonic() > end:
                    msg = f"attempt {attempt} still runs after {ENDED_WITHIN_S:.0f} s"
                    raise RuntimeError(msg)
                time.sleep(0.01)
            ran_ns = status.finished_at - status.started_at if status.started_at > 0 else 0
            leaked.append(ran_ns / 1e6)
    return leaked


def _wedged(containerd: Containerd) -> float:
    """Return the milliseconds from Submit until all pods are seen down, with a stopped runtime."""
    with ExitStack() as stack:
        agent, people = _agent(stack, containerd, None)
        pods = [
            make_pod(containerd.socket, namespace=NAMESPACE, daemonset=NAME)
            for _ in range(WEDGED_PODS)
        ]
        with agent.local() as client:
            _wait_listed(agent.files.folder / "state/listing.json", [pod.uid for pod in pods])
            text = _command(people, pods=len(pods), hold_s=HOLD_S)
            containerd.pause()
            try:
                begun = time.perf_counter()
                progress = client.submit(people.signed(text, "ana bo"))
                taken = time.perf_counter() - begun
            finally:
                containerd.resume()
        _verify_down(parse_entry(progress[-1].finished.entry).body, len(pods))
        for pod in pods:
            remove_pod(containerd.socket, pod)
        return taken * 1e3


def _wait_listed(listing: Path, uids: list[str]) -> None:
    """Wait until the agent has saved a listing with these pods, as a longer running agent has."""
    end = time.monotonic() + LISTED_WITHIN_S
    while not (listing.exists() and all(uid in listing.read_text() for uid in uids)):
        if time.monotonic() > end:
            msg = f"{listing} lacks some of {len(uids)} pods after {LISTED_WITHIN_S:.0f} s"
            raise RuntimeError(msg)
        time.sleep(0.1)


def _agent(
    stack: ExitStack, containerd: Containerd, program: tuple[str, ...] | None
) -> tuple[AgentProcess, Organisation]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bg-bench-")))
    tls = Tls.make()
    people = Organisation(couriers=tls.pins)
    files = NodeFiles(folder=folder, organisation=people, tls=tls, runtime=containerd.socket)
    files.write()
    agent = AgentProcess(files, program=program) if program else AgentProcess(files)
    return stack.enter_context(agent).wait_ready(), people


def _stop(agent: AgentProcess, people: Organisation, *, pods: int, hold_s: int) -> None:
    with agent.local() as client:
        raw = people.signed(_command(people, pods=pods, hold_s=hold_s), "ana bo")
        progress = client.submit(raw)
    _verify_down(parse_entry(progress[-1].finished.entry).body, pods)


def _command(people: Organisation, *, pods: int, hold_s: int) -> bytes:
    return people.command(
        workload=f"{NAMESPACE}/{NAME}",
        grace_s=2,
        hold_s=hold_s,
        max_pods_per_node=pods,
        created=datetime.now(UTC).replace(microsecond=0),
    )


def _verify_down(body: object, pods: int) -> None:
    if not isinstance(body, Finished) or (body.result, body.down) != ("done", pods):
        msg = f"expected {pods} pods down, got {body}"
        raise RuntimeError(msg)
