# SPDX-License-Identifier: Apache-2.0
"""Newborn pods under a hold: gated by pod events, and by the tick where an event is missed.

A pod's user code runs 0.4 s after its group was made (0.3 s of volumes, then sandbox and start).
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from breakglass.core.gates import Layout, Oci
from breakglass.sim.faults import FOR_EVER, Fault, Kind
from breakglass.sim.kernel import Host
from breakglass.sim.records import image_ref
from breakglass.sim.workloads import WorkloadSpec, make_pod
from tests.support.held_node import TELEMETRY, HeldNode, revised

HOSTS = {
    "v2-systemd-runc": Host(systemd=True),
    "v2-crun": Host(oci=Oci.CRUN),
    "hybrid-runc": Host(layout=Layout.HYBRID),
    "v1-systemd-runc": Host(layout=Layout.LEGACY, systemd=True),
}
every_host = pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
OLD, NEW = "fc555b4c5", "6d8f9c7b5"
LEAK_MS = 1_600  # the watch's tick, a look and a stop


@every_host
@pytest.mark.parametrize("tasks", [0, 1024])
async def test_a_pod_that_was_made_again_runs_no_user_code(
    tmp_path: Path, host: Host, tasks: int
) -> None:
    """A new UID and a new group, ten times over; kubelet's own limit comes after ours or before."""
    async with HeldNode(tmp_path, host, tasks=tasks) as node:
        await node.submit(hold_s=3600)
        since_ns = node.clock.now_ns()
        for _ in range(10):
            made = await node.replace(node.pods[0])
            await node.advance(20)
            assert node.user_ms(since_ns) == 0
            assert made.uid in node.state.gates
        assert list(node.state.gates) == [node.pods[0].uid]
        (hold,) = node.state.holds.values()
        assert node.agent is not None
        resets = node.agent.parts.hold.counters.now(hold).resets
        # Writes of kubelet and systemd count as resets; the agent's own late limits do not.
        assert tasks or host.layout is Layout.LEGACY or not resets
        await node.expect_held(120)
        await node.submit(verb="release")
        assert node.limits() == ("max", str(tasks or "max"), str(tasks or "infinity"))
        await node.expect_back()


def missed(node: HeldNode) -> None:
    """Both traces of the next pod are lost."""
    node.pod_events.miss(2)


def overflowed(node: HeldNode) -> None:
    """The queue overflows while the pod is being born, and all folders are told in its place."""
    node.pod_events.overflow()


def elsewhere(node: HeldNode) -> None:
    """Kubelet keeps its logs in another folder: a group tells the UID alone."""
    node.pod_events.elsewhere = True


def deaf(node: HeldNode) -> None:
    """The machine has no inotify instance left."""
    node.pod_events.deaf = True


@every_host
@pytest.mark.parametrize("loses", [missed, overflowed, elsewhere, deaf])
async def test_a_birth_that_is_missed_ends_in_the_polling(
    tmp_path: Path, host: Host, loses: Callable[[HeldNode], None]
) -> None:
    """User code that ran is bounded, stopped, counted, and does not run again."""
    async with HeldNode(tmp_path, host) as node:
        await node.submit(hold_s=3600)
        since_ns = node.clock.now_ns()
        loses(node)
        await node.replace(node.pods[0])
        await node.advance(5)
        assert node.running() == []
        leaked_ms = node.user_ms(since_ns)
        assert leaked_ms <= LEAK_MS
        await node.expect_held(300)
        await node.submit(verb="release")
        (hold,) = node.state.holds.values()
        assert hold.leaked_ms == pytest.approx(leaked_ms, abs=50)


@every_host
async def test_after_a_reboot_a_group_is_enough_where_the_folder_of_logs_is_there_already(
    tmp_path: Path, host: Host
) -> None:
    """A pod that never had a sandbox is in no listing, and a busy runtime lists it too late."""
    async with HeldNode(tmp_path, host) as node:
        await node.submit(hold_s=3600)
        await node.replace(node.pods[0])
        await node.advance(20)
        await node.reboot()
        since_ns = node.clock.now_ns()
        await node.start_agent()
        slow = Fault(method="ListPodSandbox", kind=Kind.DELAY, times=FOR_EVER, delay_s=1.0)
        node.runtime.faults.add(slow)
        node.start_kubelet()
        await node.advance(20)
        assert node.user_ms(since_ns) == 0
        node.runtime.faults.clear()
        await node.expect_held(60)


async def test_a_birth_in_the_moment_of_another_hold_is_not_lost(tmp_path: Path) -> None:
    """The bell of a new hold and the trace of a new pod are heard at the same time."""
    async with HeldNode(tmp_path) as node:
        await node.submit(hold_s=3600)
        since_ns = node.clock.now_ns()
        other = asyncio.create_task(
            node._deliver(node.signed(workload="monitoring/absent", hold_s=600))
        )
        await node.replace(node.pods[0])
        await other
        await node.advance(5)
        assert node.user_ms(since_ns) == 0


async def test_a_hold_of_a_workload_that_is_not_here_waits_for_its_pods(tmp_path: Path) -> None:
    """0 pods now is no failure; the first pod that comes is gated while new."""
    async with HeldNode(tmp_path) as node:
        ended = await node.submit(workload="monitoring/late", hold_s=3600)
        assert (ended.result, ended.pods) == ("nothing", 0)
        assert "0 pods now" in ended.note
        late = WorkloadSpec(namespace="monitoring", name="late")
        made = make_pod(late, node.seeded)
        since_ns = node.clock.now_ns()
        await node.kill_kubelet()
        node.start_kubelet([*node.kubelet.pods, made])
        await node.advance(60)
        assert node.user_ms(since_ns, [made]) == 0
        assert node.group(made).blocked > 0
        assert len(node.running()) == 1


@every_host
async def test_the_fixed_revision_rolls_out_while_the_bad_one_is_held(
    tmp_path: Path, host: Host
) -> None:
    """Three pods: the new revision's run without a failed start, the old one's stay down."""
    async with HeldNode(tmp_path, host, pods=3) as node:
        ended = await node.submit(revision=OLD, hold_s=3600)
        assert (ended.result, ended.held) == ("done", 3)
        since_ns = node.clock.now_ns()
        old = list(node.pods)
        for pod in old[:2]:
            made = await node.replace(pod, revised(TELEMETRY, NEW))
            await node.advance(4)
            assert len(node.running([made])) == 1
            assert node.group(made).blocked == 0
            assert node.limits(made)[0] == "max"
        await node.advance(60)
        assert node.user_ms(since_ns, old) == 0
        assert len(node.running()) == 2
        # The bad revision once more: its name says nothing, its labels do.
        again = await node.replace(node.pods[0], revised(TELEMETRY, OLD))
        await node.advance(60)
        assert node.user_ms(since_ns, [again]) == 0
        assert node.group(again).blocked > 0


async def test_a_revision_that_is_not_here_holds_nothing_that_is(tmp_path: Path) -> None:
    """Unknown to this node, it is a hold for pods that may come."""
    async with HeldNode(tmp_path) as node:
        ended = await node.submit(revision=NEW, hold_s=3600)
        assert (ended.result, ended.pods) == ("nothing", 0)
        assert len(node.running()) == 1
        await node.advance(60)
        assert len(node.running()) == 1
        since_ns = node.clock.now_ns()
        made = await node.replace(node.pods[0], revised(TELEMETRY, NEW))
        await node.advance(60)
        assert node.user_ms(since_ns, [made]) == 0


async def test_a_hold_on_an_image_lets_another_image_run(tmp_path: Path) -> None:
    """By its digest as the runtime reports it."""
    bad = f"localhost/telemetry:{OLD}"
    async with HeldNode(tmp_path, spec=revised(TELEMETRY, OLD), pods=2) as node:
        ended = await node.submit(image=image_ref(bad), hold_s=3600)
        assert (ended.result, ended.held) == ("done", 2)
        since_ns = node.clock.now_ns()
        kept = node.pods[1]
        made = await node.replace(node.pods[0], revised(TELEMETRY, NEW))
        await node.advance(60)
        assert len(node.running([made])) == 1
        assert node.user_ms(since_ns, [kept]) == 0
        again = await node.replace(made, revised(TELEMETRY, OLD))
        await node.advance(60)
        assert node.running([again]) == []
        assert node.user_ms(since_ns, [again]) <= LEAK_MS


@pytest.mark.parametrize("stuck", [True, False], ids=["runtime stuck", "runtime answers"])
async def test_neighbours_are_never_touched(tmp_path: Path, *, stuck: bool) -> None:
    """Names that begin alike, the same name elsewhere, other controllers: none is limited."""
    others = (
        WorkloadSpec(namespace="monitoring", name="telemetry-agent"),
        WorkloadSpec(namespace="monitoring", name="telemetr"),
        WorkloadSpec(namespace="default", name="telemetry"),
    )
    async with HeldNode(tmp_path) as node:
        made = [make_pod(spec, node.seeded) for spec in others]
        await node.submit(hold_s=3600)
        if stuck:
            node.runtime.faults.wedge()
            await node.advance(10)
            node.runtime.faults.unwedge()
        await node.kill_kubelet()
        node.start_kubelet([*node.kubelet.pods, *made])
        await node.advance(120)
        assert len(node.running(made)) == 3
        assert [node.limits(pod) for pod in made] == [("max", "max", "infinity")] * 3
        assert [node.group(pod).blocked for pod in made] == [0, 0, 0]


async def test_a_dry_run_tells_the_gate_and_touches_nothing(tmp_path: Path) -> None:
    """The pods, the limits and the group, and no hold after it."""
    async with HeldNode(tmp_path) as node:
        before = node.limits()
        ended = await node.submit(mode="dry-run", hold_s=600)
        assert ended.result == "planned"
        assert node.pods[0].sandbox.metadata.name in ended.note
        assert (node.limits(), node.state.active_holds, len(node.running())) == (before, (), 1)


async def test_an_evicted_pod_is_held_without_its_sandbox(tmp_path: Path) -> None:
    """Containers first, then the sandbox; kubelet's new sandboxes are refused."""
    async with HeldNode(tmp_path) as node:
        ended = await node.submit(verb="evict", hold_s=3600)
        assert (ended.result, node.ended_pods()[0].sandbox) == ("done", "down")
        await node.expect_held(120)
        await node.submit(verb="release")
        assert await node.expect_back() <= 16


MOMENTS = [round(0.05 * number, 2) for number in range(26)]


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_start_under_way_when_the_gate_falls_is_found(
    tmp_path: Path, moment: float
) -> None:
    """Kubelet is between its look and the container's first line: nothing runs after the stop."""
    async with HeldNode(tmp_path, HOSTS["hybrid-runc"]) as node:
        await node.advance(0.5)
        node.node.end(node.running()[0])
        await node.advance(moment)
        ended = await node.submit(hold_s=600)
        assert (ended.result, ended.held) == ("done", 1)
        since_ns = node.clock.now_ns()
        await node.advance(30)
        assert node.user_ms(since_ns) == 0


@pytest.mark.parametrize("revision", ["", OLD], ids=["any", "revision"])
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_pod_being_born_when_the_hold_comes_is_held(
    tmp_path: Path, moment: float, revision: str
) -> None:
    """Before its group, before its sandbox, or just running: nothing runs after the stop."""
    async with HeldNode(tmp_path, HOSTS["v2-systemd-runc"]) as node:
        await node.advance(0.5)
        made = make_pod(TELEMETRY, node.seeded)
        replacing = asyncio.create_task(node.kubelet.replace(node.pods[0].uid, made))
        await node.advance(moment)
        ended = await node.submit(hold_s=600, revision=revision)
        assert ended.result in {"done", "nothing"}
        since_ns = node.clock.now_ns()
        await node.advance(30)
        assert replacing.done()
        assert node.user_ms(since_ns, [*node.pods, made]) == 0
        assert node.group(made).blocked > 0


async def test_an_event_that_comes_again_hides_no_reset(tmp_path: Path) -> None:
    """A gated pod is the tick's: a second event must not set a changed limit without a count."""
    async with HeldNode(tmp_path) as node:
        await node.submit()
        await node.advance(5)
        assert node.agent is not None
        hold = node.agent.parts.hold
        group = node.group()
        group.descendants = "max"
        node.pod_events.overflow()  # every folder is reported again
        await node.advance(0.01)
        assert group.descendants == "max"
        await node.advance(3)
        assert group.descendants == "0"
        (active,) = node.state.active_holds
        assert hold.counters.now(active).resets == 1
