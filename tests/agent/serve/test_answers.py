# SPDX-License-Identifier: Apache-2.0
"""What a node tells of its holds: every pod that is kept down, also without a gate."""

from dataclasses import replace
from pathlib import Path

from breakglass._pb.breakglass.v1 import agent_pb2 as pb
from breakglass.agent.runtime.port import SandboxLook
from breakglass.agent.serve.answers import held_pods, hold_message, ungated_pods
from breakglass.agent.serve.metrics import render_metrics
from breakglass.core.gates import Oci
from tests.support.held_node import HeldNode


def told(node: HeldNode) -> list[pb.Hold]:
    """Return what the agent tells of each hold in force."""
    assert node.agent is not None
    parts, journal, clock = node.agent.parts.hold, node.agent.journal, node.agent_clock
    return [
        hold_message(
            hold,
            journal,
            parts.counters.now(hold),
            clock.now(),
            clock.monotonic_ms(),
            pods=held_pods(hold, journal.state.gates, parts.inventory),
        )
        for hold in journal.state.active_holds
    ]


def metrics(node: HeldNode) -> list[str]:
    """Return the node's figures."""
    assert node.agent is not None
    state, inventory = node.agent.journal.state, node.agent.parts.hold.inventory
    ungated = len(ungated_pods(state.active_holds, state.gates, inventory))
    return render_metrics(state, {}, active=0, mono_ms=0, ungated=ungated).splitlines()


async def test_a_hold_shows_pods_that_were_gated_for_another(tmp_path: Path) -> None:
    """The first hold is over, and the second, of the bad revision alone, keeps its pod."""
    async with HeldNode(tmp_path) as node:
        await node.submit()
        (first,) = node.state.holds
        await node.submit(revision=node.spec.revision)
        assert [[pod.uid for pod in one.pods] for one in told(node)] == [[node.pods[0].uid]] * 2
        await node.submit(verb="release", holds_of=first)
        (hold,) = told(node)
        assert hold.revision == node.spec.revision
        assert [(pod.uid, pod.gate) for pod in hold.pods] == [(node.pods[0].uid, "descendants")]


async def test_a_hold_of_one_revision_does_not_show_the_other(tmp_path: Path) -> None:
    """Two holds of one workload, and each tells its own pods."""
    async with HeldNode(tmp_path) as node:
        await node.submit()
        await node.submit(revision="6d8f9c7b5")
        assert [len(one.pods) for one in told(node)] == [1, 0]


async def test_a_pod_that_no_gate_holds_is_told(tmp_path: Path) -> None:
    """A virtual machine has no gate, and is still shown as held."""
    async with HeldNode(tmp_path) as node:
        looked = node.runtime.sandbox

        async def machine(sandbox_id: str) -> SandboxLook | None:
            look = await looked(sandbox_id)
            return replace(look, oci=Oci.VIRTUAL_MACHINE) if look else None

        node.runtime.sandbox = machine  # type: ignore[method-assign]
        assert 'breakglass_gated_pods{gate="watch only"} 0' in metrics(node)
        await node.submit()
        await node.advance(60)
        (hold,) = told(node)
        assert hold.stops
        assert [(pod.uid, pod.gate) for pod in hold.pods] == [(node.pods[0].uid, "watch only")]
        assert hold.pods[0].note == "no gate: the watch stops what starts"
        assert 'breakglass_gated_pods{gate="watch only"} 1' in metrics(node)
