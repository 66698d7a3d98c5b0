# SPDX-License-Identifier: Apache-2.0
"""The ladder over a simulated node in virtual time: a whole pod, and many pods at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.agent.stop.ladder import PodOutcome
from breakglass.core import bounds
from breakglass.core.plan import Step
from tests.support.climbs import climb, stop_pods
from tests.support.ladder_world import World, create


async def test_an_obedient_pod_is_down_after_one_stop_and_one_look(world: World) -> None:
    """SIGTERM and one look are enough: no further wait, and the kernel agrees."""
    (pod,) = await world.run()
    outcome = await world.climb(pod)
    (container,) = outcome.containers
    assert (outcome.seen, outcome.uid, outcome.name) == ("down", pod.uid, pod.name)
    assert (container.rung, container.seen, container.kernel) == (1, "down", "gone")
    assert container.error == ""
    assert world.signals(pod) == ("TERM",)
    assert world.runtime.looks == 1
    assert outcome.ms == 0


async def test_a_stuck_runtime_is_bypassed(world: World) -> None:
    """With a runtime that never answers, the pod is down within the grace and a bound."""
    (pod,) = await world.run()
    world.runtime.faults.wedge()
    outcome = await world.climb(pod, grace_s=5)
    (container,) = outcome.containers
    assert (outcome.seen, container.seen, container.kernel) == ("down", "down", "gone")
    assert (container.rung, len(world.runtime.stops)) == (3, 1)
    assert container.error.startswith("runtime-timeout")
    silent_s = bounds.RUNTIME_CALL_TIMEOUT_S * (1 + bounds.MAX_SILENT_LOOKS)
    assert outcome.ms <= (5 + bounds.STOP_MARGIN_S + silent_s + 1) * 1_000


async def test_without_the_runtime_new_containers_go_down_too(world: World) -> None:
    """A container that is newer than the last listing is found by its control group."""
    (pod,) = await world.run()
    late = await create(world, pod, "late")
    await world.node.call("StartContainer", pb.StartContainerRequest(container_id=late))
    outcome = await world.climb_without_runtime(pod)
    assert outcome.seen == "down"
    assert [one.name for one in outcome.containers] == ["c0", "unknown"]
    assert world.node.running() == ()
    assert pod.sandbox_id in {one.id for one in world.node.processes()}  # the pause process is left


async def test_without_the_runtime_a_pod_that_runs_again_is_not_down(world: World) -> None:
    """No container is planned; the kernel shows a process, which is not stopped."""
    (pod,) = await world.run()
    outcome = await world.climb_without_runtime(replace(pod, containers=()))
    assert (outcome.seen, outcome.containers) == ("restarted", ())
    assert world.node.running() == (pod.containers[0].id,)


async def test_all_containers_of_a_pod_go_down_side_by_side(world: World) -> None:
    """Three containers of one pod take the time of one."""
    (pod,) = await world.run(containers=3, ignores_term=True)
    outcome = await world.climb(pod, grace_s=4)
    assert outcome.seen == "down"
    assert [one.rung for one in outcome.containers] == [1, 1, 1]
    assert outcome.ms < 4_500


async def test_what_starts_while_its_pod_goes_down_goes_down_too(world: World) -> None:
    """One container comes back while another still ends: both are brought down."""
    (pod,) = await world.run(containers=2, term_ms=3_000)
    first, second = pod.containers
    climbing = world.climbing(pod)
    await world.clock.advance(0.5)
    world.node.end(first.id)
    await world.kubelet.sync()
    assert len(world.node.running()) == 2
    outcome = await world.clock.until(climbing)
    assert outcome.seen == "down"
    assert len(outcome.containers) == 3
    assert world.node.running() == ()
    assert world.node.signals(second.id) == ("TERM",)


async def test_a_pod_that_always_comes_back_is_reported_restarted(world: World) -> None:
    """The rounds are bounded: a pod that restarts faster than it is stopped is reported."""
    (pod,) = await world.run()
    honest = world.node._calls["StopContainer"]

    async def stop_and_start_another(request: pb.StopContainerRequest) -> object:
        reply = await honest(request)
        other = await create(world, pod, "again")
        await world.node.call("StartContainer", pb.StartContainerRequest(container_id=other))
        return reply

    world.node._calls = {**world.node._calls, "StopContainer": stop_and_start_another}  # type: ignore[dict-item]
    outcome = await world.climb(pod)
    assert outcome.seen == "restarted"
    assert len(outcome.containers) == bounds.MAX_CLIMB_ROUNDS


async def test_a_step_without_containers_only_looks(world: World) -> None:
    """A planned pod whose containers are already down is reported as seen, untouched."""
    (pod,) = await world.run()
    outcome = await world.clock.until(asyncio.create_task(climb(world.ports, pod, (), grace_s=30)))
    assert outcome.seen == "restarted"
    assert world.runtime.stops == []


async def test_many_pods_end_one_by_one_and_share_their_looks() -> None:
    """Thirty pods go down a bounded number at a time; each outcome comes once, with few looks."""
    world = World()
    pods = await world.run(pods=30)
    steps = [Step(pod=pod, containers=pod.containers, grace_s=30) for pod in pods]

    async def collect() -> list[PodOutcome]:
        stopping = stop_pods(world.ports, steps)
        return [outcome async for outcome in stopping]

    outcomes = await world.clock.until(asyncio.create_task(collect()))
    assert {outcome.uid for outcome in outcomes} == {pod.uid for pod in pods}
    assert {outcome.seen for outcome in outcomes} == {"down"}
    assert world.runtime.looks < len(pods)
    assert world.node.running() == ()


async def test_each_pod_of_many_has_its_whole_grace() -> None:
    """A pod that waits for its stop loses none of its grace: each gets SIGTERM first."""
    world = World()
    pods = await world.run(pods=2 * bounds.MAX_PARALLEL_STOPS, ignores_term=True)
    steps = [Step(pod=pod, containers=pod.containers, grace_s=5) for pod in pods]

    async def collect() -> list[PodOutcome]:
        stopping = stop_pods(world.ports, steps)
        return [outcome async for outcome in stopping]

    begun_ms = world.agent_clock.monotonic_ms()
    outcomes = await world.clock.until(asyncio.create_task(collect()))
    assert {outcome.containers[0].rung for outcome in outcomes} == {1}
    assert {timeout_s for _, timeout_s in world.runtime.stops} == {5}
    assert world.agent_clock.monotonic_ms() - begun_ms == pytest.approx(10_000, abs=500)


async def test_a_slow_pod_does_not_hold_back_the_others() -> None:
    """Outcomes come when they are seen, not in the order of the plan."""
    world = World()
    slow, quick = await world.run(pods=2, ignores_term=True)
    world.node.end(quick.containers[0].id)
    steps = [Step(pod=pod, containers=pod.containers, grace_s=9) for pod in (slow, quick)]
    stopping = stop_pods(world.ports, steps)
    first = await world.clock.until(asyncio.create_task(_next(stopping)))
    assert (first.uid, first.ms) == (quick.uid, 0)
    second = await world.clock.until(asyncio.create_task(_next(stopping)))
    assert second.uid == slow.uid


async def test_leaving_early_ends_the_climbs() -> None:
    """Closing the iteration leaves no task that could still act."""
    world = World()
    slow, quick = await world.run(pods=2, ignores_term=True)
    world.node.end(quick.containers[0].id)
    steps = [Step(pod=pod, containers=pod.containers, grace_s=9) for pod in (slow, quick)]
    before = asyncio.all_tasks()
    async with aclosing(stop_pods(world.ports, steps)) as stopping:
        async for outcome in stopping:
            assert outcome.uid == quick.uid
            break
    await world.clock.advance(60)
    assert not asyncio.all_tasks() - before
    assert world.node.running() == (slow.containers[0].id,)


async def test_a_defect_in_a_climb_reaches_the_caller() -> None:
    """An unexpected error is raised where the outcomes are read."""
    world = World()
    (pod,) = await world.run()
    world.kernel.leaf_of = _broken  # type: ignore[method-assign]
    stopping = stop_pods(world.ports, [Step(pod=pod, containers=pod.containers, grace_s=9)])
    with pytest.raises(ExceptionGroup) as caught:
        await _next(stopping)
    assert caught.group_contains(ZeroDivisionError)


def _broken(pid: int, container_id: str) -> None:
    raise ZeroDivisionError


async def _next(stopping: AsyncIterator[PodOutcome]) -> PodOutcome:
    return await anext(stopping)
