# SPDX-License-Identifier: Apache-2.0
"""Simulated worlds in words: pods, containers, limits, the agent's state, and its log."""

from collections.abc import Iterable, Iterator, Sequence

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.core.entries import parse_entry
from breakglass.core.fold import State, fold
from breakglass.errors import BreakglassError
from breakglass.sim.kernel import SimKernel
from breakglass.sim.node import SimNode
from breakglass.sim.workloads import PodSpec

MAX_ENTRIES = 100
MAX_COMMANDS = 20
_NS = 1_000_000_000
_ID = 12


def pod_lines(pods: Iterable[PodSpec]) -> Iterator[str]:
    """Yield kubelet's pods."""
    yield "kubelet's pods:"
    for pod in pods:
        named = pod.sandbox.metadata
        yield f"  {pod.uid} {named.namespace}/{named.name}"


def runtime_lines(node: SimNode) -> Iterator[str]:
    """Yield the sandboxes and containers of a simulated runtime."""
    yield "sandboxes and containers:"
    for sandbox in node._sandboxes.values():
        ready = "ready" if sandbox.ready else "not ready"
        yield f"  sandbox {sandbox.id[:_ID]} of {sandbox.config.metadata.name} {ready}"
    for one in node._containers.values():
        state = pb.ContainerState.Name(one.state)
        of = f"{one.config.metadata.name} of {one.config.labels['io.kubernetes.pod.name']}"
        times = f"started {one.started_ns / _NS:.3f} finished {one.finished_ns / _NS:.3f}"
        exit_code = f"exit {one.exit_code} {one.reason}" if one.finished_ns else ""
        yield f"  container {one.id[:_ID]} {of} {state} {times} signals {one.log} {exit_code}"


def group_lines(kernel: SimKernel) -> Iterator[str]:
    """Yield the limits of the pods' control groups, and the faults that are still to come."""
    yield "control groups:"
    for uid, inode in kernel.groups():
        group = kernel.group(uid)
        limits = f"descendants={group.descendants} pids={group.pids} tasks_max={group.tasks_max}"
        yield f"  {uid} inode {inode} {limits} blocked={group.blocked}"
    for fault in kernel.faults:
        yield f"  {fault}"


def log_lines(entries: Sequence[bytes]) -> Iterator[str]:
    """Yield the state that an agent's log makes, and its newest entries."""
    state, error = State(), ""
    for raw in entries:
        try:
            state = fold(state, parse_entry(raw))
        except BreakglassError as wrong:
            error = f"  (entry {state.size} cannot follow: {wrong.message})"
            break
    yield "the agent's state, folded from its log:"
    for hold in state.holds.values():
        yield f"  hold {hold.id} ended={hold.ended!r} ends_mono_ms={hold.ends_mono_ms}"
    for gated in state.gates.values():
        yield f"  gate {gated.uid} gate={gated.gate!r} hold={gated.hold} note={gated.note!r}"
    for command in list(state.commands.values())[-MAX_COMMANDS:]:
        yield f"  command {command.id} {command.phase}"
    if error:
        yield error
    first = max(0, len(entries) - MAX_ENTRIES)
    yield f"the log's entries {first} to {len(entries) - 1}:"
    for index, raw in enumerate(entries[first:], first):
        entry = parse_entry(raw)
        yield f"  {index} {entry.stamp.time} {entry.body}"
