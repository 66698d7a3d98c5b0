# SPDX-License-Identifier: Apache-2.0
"""A simulated node in words: its pods, containers and limits, the agent's state, and its log."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.core.entries import parse_entry

if TYPE_CHECKING:
    from tests.support.held_node import HeldNode

MAX_ENTRIES = 100


def describe_node(node: "HeldNode") -> Iterator[str]:
    """Yield the lines that say how a node is now."""
    yield f"virtual time {node.clock.now_ns() / 1e9:.3f} s"
    yield "kubelet's pods:"
    for pod in node.kubelet.pods:
        named = pod.sandbox.metadata
        yield f"  {pod.uid} {named.namespace}/{named.name}"
    yield "sandboxes and containers:"
    for sandbox in node.node._sandboxes.values():
        yield f"  sandbox {sandbox.id[:12]} {sandbox.config.metadata.name}"
    for one in node.node._containers.values():
        state = pb.ContainerState.Name(one.state)
        pod_name = one.config.labels["io.kubernetes.pod.name"]
        times = f"started {one.started_ns / 1e9:.3f} finished {one.finished_ns / 1e9:.3f}"
        yield f"  container {one.id[:12]} of {pod_name} {state} {times}"
    yield "control groups:"
    for uid, inode in node.kernel.groups():
        group = node.kernel.group(uid)
        limits = f"descendants={group.descendants} pids={group.pids} tasks_max={group.tasks_max}"
        yield f"  {uid} inode {inode} {limits} blocked={group.blocked}"
    yield from _agent(node)


def _agent(node: "HeldNode") -> Iterator[str]:
    if node.agent is None:
        yield "no agent runs"
        return
    state = node.agent.journal.state
    yield "the agent's state:"
    for hold in state.holds.values():
        yield f"  hold {hold.id} ended={hold.ended!r} ends_mono_ms={hold.ends_mono_ms}"
    for gated in state.gates.values():
        yield f"  gate {gated.uid} gate={gated.gate!r} hold={gated.hold} note={gated.note!r}"
    for command in state.commands.values():
        yield f"  command {command.id} {command.phase}"
    first = max(0, state.size - MAX_ENTRIES)
    yield f"the log's entries from {first}:"
    for index in range(first, state.size):
        entry = parse_entry(node.agent.log.read(index))
        yield f"  {index} {entry.stamp.time} {entry.body}"[:300]
