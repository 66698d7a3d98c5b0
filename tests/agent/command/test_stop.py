# SPDX-License-Identifier: Apache-2.0
"""Stops and evictions over a whole agent in virtual time: what they answer when all is not well."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from breakglass.core import bounds
from breakglass.core.entries import Finished, Planned
from breakglass.core.gates import Oci
from breakglass.core.hold_entries import GateIntended, HoldBegun
from breakglass.core.pods import Pod
from breakglass.sim.faults import FOR_EVER, Fault, Kind
from breakglass.sim.kernel import Host, KernelFault
from breakglass.sim.records import image_ref
from breakglass.sim.workloads import Controller, PodSpec, WorkloadSpec, make_pod
from tests.support.held_node import TELEMETRY, HeldNode, revised

BAD, GOOD = "fc555b4c5", "6b9b78"


def name_of(pod: PodSpec) -> str:
    """Return a pod's name."""
    return pod.sandbox.metadata.name


async def refused(node: HeldNode, **command: Any) -> str:  # noqa: ANN401 - any of draft's
    """Deliver a signed command that is refused at the door, and return the code."""
    assert node.agent is not None
    told = [
        one async for one in node.agent.parts.procedure.deliver(node.signed(**command), peer="test")
    ]
    assert [one.kind for one in told] == ["refused"]
    assert told[0].refused is not None
    return str(told[0].refused.reason)


# What is refused, and what is nothing


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ({"hold_s": 25 * 3_600}, "hold-too-long"),
        ({"workload": "kube-system/kube-proxy", "hold_s": 60}, "protected"),
        ({"clusters": "prod-b", "hold_s": 60}, "wrong-cluster"),
        ({"nodes": "n2", "hold_s": 60}, "wrong-node"),
    ],
)
async def test_what_may_not_be_held_is_refused_at_the_door(
    tmp_path: Path, command: dict[str, Any], code: str
) -> None:
    """Longer than policy, protected by the owner, for others: no hold, nothing touched."""
    async with HeldNode(tmp_path) as node:
        assert await refused(node, **command) == code
        assert (node.bodies(HoldBegun), node.bodies(Planned), len(node.running())) == ([], [], 1)


async def test_more_pods_than_signed_for_are_left_alone(tmp_path: Path) -> None:
    """Not even the hold begins: half of a surprise is still a surprise (P8)."""
    async with HeldNode(tmp_path, pods=3) as node:
        ended = await node.submit(max_pods_per_node=2)
        assert (ended.result, ended.code) == ("refused", "too-many-pods")
        assert "expected at most 2" in ended.note
        assert (node.state.active_holds, len(node.running())) == ((), 3)


@pytest.mark.parametrize(
    ("controller", "why"),
    [
        (Controller.STATEFULSET, "a StatefulSet"),
        (Controller.DEPLOYMENT, "a Deployment"),
        (Controller.BARE, "no label"),
    ],
)
async def test_a_name_of_another_kind_is_refused_with_the_reason(
    tmp_path: Path, controller: Controller, why: str
) -> None:
    """Only DaemonSets are held; a workload of another kind is refused with the reason."""
    spec = replace(TELEMETRY, controller=controller)
    async with HeldNode(tmp_path, spec=spec) as node:
        ended = await node.submit()
        assert (ended.result, ended.code) == ("refused", "not-daemonset")
        assert why in ended.note
        assert (node.state.active_holds, len(node.running())) == ((), 1)


@pytest.mark.parametrize("held", [True, False])
async def test_a_workload_that_is_not_here_is_nothing(tmp_path: Path, *, held: bool) -> None:
    """A hold for pods that may come is valid and says so; a stop alone has nothing to say."""
    async with HeldNode(tmp_path) as node:
        ended = await node.submit(workload="monitoring/absent", hold_s=600 if held else 0)
        assert (ended.result, ended.code, ended.pods) == ("nothing", "", 0)
        assert ("0 pods now, held for 10m" in ended.note) == held
        assert "no running pod of this workload here" in ended.note
        assert len(node.state.active_holds) == held


# A dry run


async def test_a_dry_run_names_each_step_and_what_is_left_out(tmp_path: Path) -> None:
    """Pods, containers, limits and groups as they would be; the other revision with its reason."""
    async with HeldNode(tmp_path, pods=2) as node:
        other = await node.replace(node.pods[1], revised(TELEMETRY, GOOD))
        await node.advance(10)
        ended = await node.submit(mode="dry-run", revision=BAD)
        assert ended.result == "planned"
        assert ended.note == (
            f"would stop 1 pods: {name_of(node.pods[0])}, and hold the workload down for 10m;"
            f" not: {name_of(other)}: of revision {GOOD}"
        )
        (planned,) = node.bodies(Planned)
        (pod,) = planned.pods
        assert (planned.mode, pod.name) == ("dry-run", name_of(node.pods[0]))
        assert list(pod.containers) == node.running([node.pods[0]])
        assert pod.gate == f"descendants, pids on {node.group().path}"
        assert (node.bodies(HoldBegun), node.bodies(GateIntended)) == ([], [])
        assert len(node.running()) == 2


async def test_a_dry_run_of_a_stop_alone_names_no_gate(tmp_path: Path) -> None:
    """It would set none."""
    async with HeldNode(tmp_path) as node:
        ended = await node.submit(mode="dry-run", hold_s=0)
        assert ended.note == f"would stop 1 pods: {name_of(node.pods[0])}"
        assert node.bodies(Planned)[0].pods[0].gate == ""


# Conditions


async def test_an_image_narrows_a_stop(tmp_path: Path) -> None:
    """Only pods with a container of that digest, as the runtime reports it of each container."""
    async with HeldNode(tmp_path, pods=2) as node:
        other = await node.replace(node.pods[1], revised(TELEMETRY, GOOD))
        await node.advance(10)
        digest = image_ref(f"localhost/telemetry:{TELEMETRY.tag}")
        ended = await node.submit(image=digest, hold_s=0)
        assert [one.name for one in node.ended_pods()] == [name_of(node.pods[0])]
        assert ended.result == "done"
        assert len(node.running([other])) == 1


async def test_an_image_is_known_by_the_listing_where_a_status_fails(tmp_path: Path) -> None:
    """One container that cannot be told of is no reason to let the pod run."""
    async with HeldNode(tmp_path) as node:
        digest = image_ref(f"localhost/telemetry:{TELEMETRY.tag}")
        node.runtime.faults.add(Fault(method="ContainerStatus", kind=Kind.FAIL))
        ended = await node.submit(image=digest, hold_s=0)
        assert (ended.result, ended.down) == ("done", 1)


async def test_an_image_that_nobody_runs_is_nothing(tmp_path: Path) -> None:
    """And each pod that was left out is named with the reason."""
    async with HeldNode(tmp_path) as node:
        ended = await node.submit(image=f"sha256:{'0' * 64}", hold_s=0)
        assert (ended.result, ended.pods, len(node.running())) == ("nothing", 0, 1)
        assert f"{name_of(node.pods[0])}: no container has that image" in ended.note


async def test_around_the_runtime_a_revision_is_known_by_the_last_listing(tmp_path: Path) -> None:
    """A stuck runtime does not make a command for one revision stop the other."""
    async with HeldNode(tmp_path, pods=2) as node:
        other = await node.replace(node.pods[1], revised(TELEMETRY, GOOD))
        await node.advance(15)  # the listing is refreshed now and then
        node.runtime.faults.wedge()
        ended = await node.submit(revision=BAD)
        assert (ended.result, ended.down) == ("done", 1)
        assert "seen by the kernel alone" in ended.note
        assert node.running([node.pods[0]]) == []
        assert len(node.running([other])) == 1


async def test_around_the_runtime_a_revision_that_nobody_knows_is_left_alone(
    tmp_path: Path,
) -> None:
    """A pod that came after the last listing has a name only: not stopped, and told (P9)."""
    async with HeldNode(tmp_path) as node:
        made = await node.replace(node.pods[0])  # quicker than the listing is refreshed
        node.runtime.faults.wedge()
        ended = await node.submit(revision=BAD)
        assert (ended.result, ended.pods) == ("incomplete", 0)
        assert f"{name_of(made)}: its revision and image are not known" in ended.note


# Evictions


@pytest.mark.parametrize("kind", [Kind.FAIL, Kind.HANG])
async def test_a_sandbox_that_cannot_be_torn_down_is_told_and_not_fatal(
    tmp_path: Path, kind: Kind
) -> None:
    """CNI DEL may need the very API server that is down: the containers are down and held."""
    async with HeldNode(tmp_path) as node:
        node.runtime.faults.add(
            Fault(method="StopPodSandbox", kind=kind, times=FOR_EVER, message="cni: no route")
        )
        begun_ms = node.agent_clock.monotonic_ms()
        ended = await node.submit(verb="evict")
        (pod,) = node.ended_pods()
        assert (ended.result, ended.down, ended.held) == ("done", 1, 1)
        assert pod.sandbox.startswith("not seen down: ")
        assert kind is Kind.HANG or "cni: no route" in pod.sandbox
        took_ms = node.agent_clock.monotonic_ms() - begun_ms
        assert took_ms <= (bounds.SANDBOX_TIMEOUT_S + 5) * 1_000
        assert node.running() == []


async def test_a_sandbox_that_stays_is_told(tmp_path: Path) -> None:
    """OK is no evidence for a sandbox either."""
    async with HeldNode(tmp_path) as node:

        async def lie(_: object) -> object:
            return None

        node.node._calls = {**node.node._calls, "StopPodSandbox": lie}  # type: ignore[dict-item]
        ended = await node.submit(verb="evict")
        assert (ended.result, node.ended_pods()[0].sandbox) == ("done", "ready")


async def test_around_the_runtime_a_sandbox_is_not_asked_for(tmp_path: Path) -> None:
    """The containers go down by the kernel; the sandbox is left, and it is said."""
    async with HeldNode(tmp_path) as node:
        await node.advance(15)
        node.runtime.faults.wedge()
        ended = await node.submit(verb="evict")
        assert (ended.result, node.running()) == ("done", [])
        assert node.ended_pods()[0].sandbox.startswith("not asked")


# Gates that do not hold


async def test_a_gate_that_failed_once_is_tried_again(tmp_path: Path) -> None:
    """One write that the kernel refuses does not leave the pod to the watch for ever."""
    async with HeldNode(tmp_path, Host(oci=Oci.CRUN)) as node:
        node.kernel.faults.append(KernelFault(operation="write", place="descendants", times=2))
        ended = await node.submit()
        (pod,) = node.ended_pods()
        assert (ended.down, pod.gate) == (1, "watch only")
        assert "the kernel refused" in pod.gate_note
        await node.advance(bounds.PROVE_EVERY_TICKS * bounds.HOLD_TICK_S + 5)
        (gated,) = node.state.gates.values()
        assert gated.gate == "descendants"
        await node.expect_held(120)


async def test_a_probe_that_the_kernel_refuses_is_no_gate_and_no_defect(tmp_path: Path) -> None:
    """What cannot be proven is not claimed, and the command ends all the same."""
    async with HeldNode(tmp_path) as node:
        node.kernel.faults.append(KernelFault(operation="probe", times=2))
        ended = await node.submit()
        assert (ended.result, ended.down) == ("done", 1)
        await node.advance(bounds.PROVE_EVERY_TICKS * bounds.HOLD_TICK_S + 5)
        assert [one.gate for one in node.state.gates.values()] == ["descendants"]


# A stop and no more


async def test_without_a_hold_kubelet_starts_it_again(tmp_path: Path) -> None:
    """One shot: no gate, no lease, and the pod is back in a moment."""
    async with HeldNode(tmp_path) as node:
        ended = await node.submit(hold_s=0)
        assert (ended.result, ended.down, ended.held) == ("done", 1, 0)
        assert node.ended_pods()[0].gate == ""
        assert (node.state.active_holds, node.state.gates) == ((), {})
        assert await node.expect_back() <= 15


async def test_what_the_command_stopped_is_no_attempt_and_no_leak(tmp_path: Path) -> None:
    """Also for an agent that is started afterwards and never saw it run."""
    async with HeldNode(tmp_path) as node:
        await node.advance(100)
        ended = await node.submit(hold_s=3_600)
        assert ended.result == "done"
        await node.restart_agent()
        await node.advance(200)
        await node.restart_agent()
        await node.advance(200)
        (hold,) = node.state.active_holds
        assert (hold.stops, hold.leaked_ms) == (0, 0)
        assert 0 < hold.attempts <= node.tries()


async def test_a_drill_is_marked_as_one(tmp_path: Path) -> None:
    """It stops and holds like any command, and every entry of it says drill (P11)."""
    async with HeldNode(tmp_path) as node:
        ended = await node.submit(mode="drill")
        assert (ended.result, ended.mode) == ("done", "drill")
        assert {one.mode for one in node.bodies(HoldBegun)} == {"drill"}
        assert {one.mode for one in node.ended_pods()} == {"drill"}
        assert {one.mode for one in node.bodies(Finished)} == {"drill"}


async def test_neighbours_of_another_namespace_are_none(tmp_path: Path) -> None:
    """The same name elsewhere is another workload."""
    elsewhere = WorkloadSpec(namespace="default", name="telemetry")
    async with HeldNode(tmp_path) as node:
        made = make_pod(elsewhere, node.seeded)
        await node.kill_kubelet()
        node.start_kubelet([*node.kubelet.pods, made])
        await node.advance(5)
        ended = await node.submit()
        assert (ended.pods, len(node.running([made]))) == (1, 1)


async def test_a_plan_that_no_entry_takes_is_refused(tmp_path: Path) -> None:
    """More pods and containers than one entry can name are refused."""
    async with HeldNode(tmp_path, pods=1) as node:
        pods = node.runtime.pods

        async def many() -> tuple[Pod, ...]:
            seen = await pods()
            one = next(pod for pod in seen if pod.uid == node.pods[0].uid)
            return seen + tuple(_with_containers(one, nth) for nth in range(1, 111))

        node.runtime.pods = many  # type: ignore[method-assign]
        ended = await node.submit(max_pods_per_node=1000, hold_s=600)
        assert (ended.result, ended.code) == ("refused", "too-many-pods")
        assert not node.state.holds


def _with_containers(pod: Pod, nth: int) -> Pod:
    """Return another pod of the same set, with ten containers of its own."""
    containers = tuple(
        replace(pod.containers[0], id=f"{nth * 100 + one:064x}") for one in range(10)
    )
    return replace(
        pod, uid=f"{nth:08x}{pod.uid[8:]}", sandbox_id=f"{nth:064x}", containers=containers
    )
