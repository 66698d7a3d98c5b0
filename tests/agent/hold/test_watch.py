# SPDX-License-Identifier: Apache-2.0
"""Holds over hours of virtual time: what keeps pods down, and what may not let them up."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from breakglass.core.gates import Layout, Oci
from breakglass.errors import StateUnwritable
from breakglass.sim.faults import FOR_EVER, Fault, Kind
from breakglass.sim.kernel import Host
from tests.support.held_node import HeldNode

HOSTS = {
    "v2-runc": Host(),
    "v2-systemd-runc": Host(systemd=True),
    "v2-systemd-crun": Host(systemd=True, oci=Oci.CRUN),
    "hybrid-runc": Host(layout=Layout.HYBRID),
    "hybrid-crun": Host(layout=Layout.HYBRID, oci=Oci.CRUN),
    "hybrid-systemd-crun": Host(layout=Layout.HYBRID, systemd=True, oci=Oci.CRUN),
    "v1-runc": Host(layout=Layout.LEGACY),
    "v1-systemd-runc": Host(layout=Layout.LEGACY, systemd=True),
}
FULL_LOG_LEAK_MS = 10_000  # kubelet tries five times in 100 s; each runs until the next look
every_host = pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)


@every_host
async def test_a_held_pod_stays_down_and_comes_back_as_it_was(tmp_path: Path, host: Host) -> None:
    """Ten minutes of kubelet's tries run no line of user code; the release restores every limit."""
    async with HeldNode(tmp_path, host, pods=2, tasks=1024) as node:
        before = [node.limits(pod) for pod in node.pods]
        ended = await node.submit(hold_s=1200)
        assert (ended.result, ended.down, ended.held) == ("done", 2, 2)
        await node.expect_held(600)
        released = await node.submit(verb="release")
        assert released.result == "released"
        assert [node.limits(pod) for pod in node.pods] == before
        await node.expect_back()
        assert not node.state.gates


async def kubelet_restarted(node: HeldNode) -> None:
    """It has forgotten its back-off and tries at once."""
    await node.kill_kubelet()
    await node.advance(3)
    node.start_kubelet()


async def agent_restarted(node: HeldNode) -> None:
    """Killed, away for a minute, and started again."""
    await node.restart_agent(away_s=60)


async def agent_dead(node: HeldNode) -> None:
    """Kill it, and do not start it again."""
    await node.kill_agent()


async def runtime_restarted(node: HeldNode) -> None:
    """Away for five seconds, as a unit with a pause is."""
    await node.restart_runtime(away_s=5)


async def runtime_stuck_for_a_while(node: HeldNode) -> None:
    """It accepts and answers nothing for two minutes."""
    node.runtime.faults.wedge()
    await node.advance(120)
    node.runtime.faults.unwedge()


async def everything_killed(node: HeldNode) -> None:
    """Agent, kubelet and runtime at once."""
    await node.kill_agent()
    await node.kill_kubelet()
    await node.restart_runtime(away_s=5)
    node.start_kubelet()
    await node.advance(30)
    await node.start_agent()


async def sandbox_lost(node: HeldNode) -> None:
    """The pause process dies, and kubelet makes sandboxes over and over."""
    for one in node.node.processes():
        if one.uid == node.pods[0].uid:
            node.node.kill(one.id)


async def machine_rebooted(node: HeldNode) -> None:
    """The agent is ready before kubelet starts anything, as its unit orders it."""
    await node.reboot()
    await node.start_agent()
    node.start_kubelet()


EVENTS = (
    kubelet_restarted,
    agent_restarted,
    agent_dead,
    runtime_restarted,
    runtime_stuck_for_a_while,
    everything_killed,
    sandbox_lost,
)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
@pytest.mark.parametrize("host", [HOSTS["v2-systemd-runc"], HOSTS["hybrid-runc"]], ids=str)
async def test_no_restart_of_anything_lets_a_held_pod_up(
    tmp_path: Path, host: Host, event: Callable[[HeldNode], Awaitable[None]]
) -> None:
    """Whatever dies or comes back: no user code, and kubelet did try."""
    async with HeldNode(tmp_path, host) as node:
        await node.submit(hold_s=3600)
        since_ns = node.clock.now_ns()
        await node.advance(15)
        await event(node)
        await node.expect_held(300)
        assert node.user_ms(since_ns) == 0


@every_host
async def test_a_hold_is_in_force_again_after_a_reboot(tmp_path: Path, host: Host) -> None:
    """New groups, nothing gated in them: the pod is gated while new.

    The lease goes on from what was left at the last entry before: never shorter than was signed.
    """
    async with HeldNode(tmp_path, host) as node:
        await node.submit(hold_s=3600)
        await node.advance(600)
        since_ns = node.clock.now_ns()
        await machine_rebooted(node)
        await node.advance(10)
        await node.expect_held(300)
        assert node.user_ms(since_ns) == 0
        (hold,) = node.state.active_holds
        left_s = hold.left_ms(node.agent_clock.monotonic_ms()) / 1_000
        assert 3600 - 600 - 310 - 10 <= left_s <= 3600 - 310


@pytest.mark.slow
async def test_a_hold_ends_by_itself_and_the_pod_comes_back(tmp_path: Path) -> None:
    """Two hours later to the second; the end is on record, and the limits are as before."""
    async with HeldNode(tmp_path) as node:
        before = node.limits()
        await node.submit(hold_s=7200)
        await node.advance(7190)
        assert node.running() == []
        assert node.limits() != before
        await node.advance(15)
        assert node.limits() == before
        assert node.state.active_holds == ()
        (hold,) = node.state.holds.values()
        assert hold.ended == "expired"
        assert hold.leaked_ms == 0 < hold.attempts
        await node.expect_back()


@pytest.mark.parametrize("hours", [-48, -1, 1, 48])
async def test_a_wall_clock_that_jumps_neither_ends_nor_prolongs_a_hold(
    tmp_path: Path, hours: int
) -> None:
    """The lease is over by time since boot."""
    async with HeldNode(tmp_path) as node:
        await node.submit(hold_s=600)
        await node.advance(60)
        node.agent_clock.wall_off += node.hours(hours)
        await node.advance(530)
        assert node.running() == []
        assert node.state.active_holds
        await node.advance(15)
        assert not node.state.active_holds


async def test_an_extended_hold_lasts_as_long_as_was_signed(tmp_path: Path) -> None:
    """From the extension on; a shorter extension shortens nothing."""
    async with HeldNode(tmp_path) as node:
        await node.submit(hold_s=600)
        await node.advance(500)
        assert (await node.submit(verb="extend", hold_s=900)).result == "extended"
        await node.submit(verb="extend", hold_s=60)
        await node.advance(880)
        assert node.state.active_holds
        assert node.running() == []
        await node.advance(30)
        assert not node.state.active_holds
        await node.expect_back()


async def test_of_two_holds_the_later_end_counts(tmp_path: Path) -> None:
    """A pod is held while any hold covers it, and let go after the last."""
    async with HeldNode(tmp_path) as node:
        before = node.limits()
        await node.submit(hold_s=600)
        second = await node.submit(hold_s=1800)
        assert second.result in {"done", "nothing"}
        await node.advance(700)
        assert len(node.state.active_holds) == 1
        await node.expect_held(300)
        await node.advance(900)
        assert not node.state.active_holds
        assert node.limits() == before
        await node.expect_back()


async def test_releasing_one_of_two_holds_lets_nothing_go(tmp_path: Path) -> None:
    """Named by its command, it ends alone."""
    async with HeldNode(tmp_path) as node:
        first = await node.submit(hold_s=1800)
        await node.submit(hold_s=1800)
        assert (await node.submit(verb="release", holds_of=first.id)).result == "released"
        assert [hold.id == first.id for hold in node.state.active_holds] == [False]
        await node.expect_held(300)


async def test_a_release_of_nothing_says_so(tmp_path: Path) -> None:
    """No hold of this workload here: an end with its own code, and nothing is touched."""
    async with HeldNode(tmp_path) as node:
        ended = await node.submit(verb="release")
        assert (ended.result, ended.code) == ("nothing", "no-hold")
        assert node.running()


async def test_a_release_during_the_agents_absence_is_taken_after_it(tmp_path: Path) -> None:
    """Killed right after the end of the hold was recorded, it puts the limits back at its start."""
    async with HeldNode(tmp_path) as node:
        before = node.limits()
        await node.submit(hold_s=600)
        await node.kill_agent()
        await node.advance(700)
        assert node.running() == []
        await node.start_agent()
        await node.advance(3)
        assert node.limits() == before
        await node.expect_back()


async def test_a_limit_that_somebody_changes_is_set_again_and_counted(tmp_path: Path) -> None:
    """Within a second or two, each time; what ran meanwhile was stopped."""
    async with HeldNode(tmp_path) as node:
        await node.submit(hold_s=3600)
        await node.advance(40)
        for _ in range(3):
            node.group().descendants = "max"
            await node.advance(60)
            assert node.limits()[0] == "0"
        (hold,) = node.state.active_holds
        await node.advance(61)
        (hold,) = node.state.active_holds
        assert hold.resets == 3
        await node.expect_held(300)


async def test_attempts_are_counted_and_nothing_leaked(tmp_path: Path) -> None:
    """What the log says of a hold agrees with what the kernel and the runtime saw."""
    async with HeldNode(tmp_path) as node:
        await node.submit(hold_s=3600)
        await node.expect_held(1200)
        await node.submit(verb="release")
        (hold,) = node.state.holds.values()
        assert hold.attempts == node.tries()
        assert (hold.stops, hold.leaked_ms) == (0, 0)


async def test_where_no_gate_holds_the_pod_is_stopped_at_sight(tmp_path: Path) -> None:
    """Watch only is said, and what ran is counted to the millisecond."""
    async with HeldNode(tmp_path, Host(layout=Layout.LEGACY, oci=Oci.CRUN)) as node:
        ended = await node.submit(hold_s=3600)
        since_ns = node.clock.now_ns()
        assert (ended.held, node.ended_pods()[0].gate) == (0, "watch only")
        await node.advance(600)
        ran_ms = node.user_ms(since_ns)
        assert 0 < ran_ms < 12_000
        await node.submit(verb="release")
        (hold,) = node.state.holds.values()
        assert hold.stops >= 5
        assert hold.leaked_ms == pytest.approx(ran_ms, rel=0.2)


@every_host
async def test_a_stuck_runtime_is_gone_around(tmp_path: Path, host: Host) -> None:
    """Stopped in the middle of the night: gated and killed by the kernel; nothing comes back."""
    async with HeldNode(tmp_path, host, pods=2) as node:
        await node.advance(15)
        node.runtime.faults.wedge()
        ended = await node.submit(hold_s=3600, grace_s=5)
        assert (ended.down, node.running()) == (2, [])
        assert ended.ms < 20_000
        assert all(pod.containers[0].rung == 3 for pod in node.ended_pods())
        since_ns = node.clock.now_ns()
        await node.advance(60)
        node.runtime.faults.unwedge()
        await node.advance(300)
        assert node.user_ms(since_ns) == 0
        assert node.tries() > 0


async def test_a_stop_that_hangs_while_the_runtime_lists_is_ended_by_the_kernel(
    tmp_path: Path,
) -> None:
    """StopContainer never answers; the lists do."""
    async with HeldNode(tmp_path) as node:
        node.runtime.faults.add(Fault(method="StopContainer", kind=Kind.HANG, times=FOR_EVER))
        ended = await node.submit(hold_s=3600, grace_s=2)
        assert (ended.result, ended.down) == ("done", 1)
        node.runtime.faults.clear()
        await node.expect_held(300)


async def test_a_process_in_d_state_is_reported_and_held(tmp_path: Path) -> None:
    """What cannot be killed is said to be there; it stays down once it has ended."""
    async with HeldNode(tmp_path) as node:
        (stuck,) = node.running()
        node.node.stick(stuck)
        ended = await node.submit(hold_s=3600)
        assert (ended.result, ended.down) == ("incomplete", 0)
        (pod,) = node.ended_pods()
        assert pod.seen == "running"
        assert "processes left" in pod.containers[0].error
        node.node.stick(stuck, stuck=False)
        await node.advance(20)
        await node.expect_held(300)


async def test_twenty_pods_are_held_as_one(tmp_path: Path) -> None:
    """Side by side, each with its own gate."""
    async with HeldNode(tmp_path, pods=20) as node:
        ended = await node.submit(hold_s=600, max_pods_per_node=20)
        assert (ended.result, ended.held) == ("done", 20)
        await node.expect_held(120)
        assert (await node.submit(verb="release", max_pods_per_node=20)).result == "released"
        await node.expect_back()


async def test_with_a_full_log_what_runs_is_stopped_at_sight(tmp_path: Path) -> None:
    """A gate that cannot be recorded is not set, and the watch does what it can without one."""
    async with HeldNode(tmp_path, Host(oci=Oci.CRUN), pods=2) as node:
        await node.submit(hold_s=3600)
        assert node.agent is not None
        log = node.agent.log
        append = log.append

        def full(entry: bytes, **_: bool) -> int:
            raise StateUnwritable(f"expected room for {len(entry)} bytes, got a full disk")

        log.append = full  # type: ignore[method-assign]
        made = await node.replace(node.pods[0])
        since_ns = node.clock.now_ns()
        await node.advance(100)
        assert node.is_alive
        assert node.user_ms(since_ns, [made]) < FULL_LOG_LEAK_MS
        log.append = append  # type: ignore[method-assign]
        await node.advance(5)
        assert not node.running()
        assert made.uid in node.state.gates
