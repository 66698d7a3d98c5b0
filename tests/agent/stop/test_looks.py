# SPDX-License-Identifier: Apache-2.0
"""Shared looks: each begins after its callers asked for it, and few are taken."""

import asyncio

import grpc
import pytest

from breakglass.agent.stop.looks import Looks
from breakglass.core import bounds
from breakglass.core.pods import Pod
from breakglass.errors import RuntimeTooOld, RuntimeUnavailable
from breakglass.sim.clock import VirtualClock
from breakglass.sim.faults import FOR_EVER, Fault, Kind
from breakglass.sim.node import SimNode
from tests.support.sim_runtime import SimRuntime, VirtualAgentClock


class World:
    """A runtime whose two lists take 0.1 s, and the looks at it."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.runtime = SimRuntime(SimNode(clock=self.clock, latency_s=0.05), self.clock)
        self.looks = Looks(self.runtime, VirtualAgentClock(self.clock))


@pytest.fixture
def world() -> World:
    """Return a world in which no look was taken."""
    return World()


async def test_callers_during_a_look_share_the_next(world: World) -> None:
    """The look in progress began before their call, so they share the next one."""
    first = asyncio.create_task(world.looks.fresh())
    await world.clock.advance(0.05)
    later = [asyncio.create_task(world.looks.fresh()) for _ in range(5)]
    numbers = {(await world.clock.until(task)).number for task in later}
    assert (await first).number == 1
    assert numbers == {2}
    assert world.runtime.looks == 2


async def test_a_failed_look_fails_all_who_waited_for_it(world: World) -> None:
    """Five callers that wait for one look get its error after one deadline, not after five."""
    first = asyncio.create_task(world.looks.fresh())
    await world.clock.advance(0.01)
    world.runtime.faults.add(Fault(method="ListContainers", kind=Kind.FAIL, times=1))
    world.runtime.faults.add(Fault(method="ListPodSandbox", kind=Kind.HANG, times=1))
    later = [asyncio.create_task(world.looks.fresh()) for _ in range(5)]
    for task in (first, *later):
        with pytest.raises(RuntimeUnavailable):
            await world.clock.until(task)
    assert world.runtime.looks == 2
    assert (await world.clock.until(asyncio.create_task(world.looks.fresh()))).number == 3


async def test_all_waiters_get_the_same_timeout(world: World) -> None:
    """A caller that comes during a look that times out does not wait for a second timeout."""
    world.runtime.faults.wedge()
    begun_ns = world.clock.now_ns()
    first = asyncio.create_task(world.looks.fresh())
    await world.clock.advance(1.5)
    later = [asyncio.create_task(world.looks.fresh()) for _ in range(5)]
    for task in (first, *later):
        with pytest.raises(RuntimeUnavailable):
            await world.clock.until(task)
    assert world.clock.now_ns() - begun_ns == bounds.RUNTIME_CALL_TIMEOUT_S * 1_000_000_000
    assert world.runtime.looks == 1
    with pytest.raises(RuntimeUnavailable):  # a later caller takes a new look
        await world.clock.until(asyncio.create_task(world.looks.fresh()))
    assert world.runtime.looks == 2


async def test_a_cancelled_look_is_taken_again_for_the_others(world: World) -> None:
    """A cancelled look does not count; the next caller takes one."""
    leaving = asyncio.create_task(world.looks.fresh())
    await world.clock.advance(0.05)
    waiting = asyncio.create_task(world.looks.fresh())
    await world.clock.advance(0.01)
    leaving.cancel()
    assert (await world.clock.until(waiting)).number == 2


async def test_patience_waits_for_a_runtime_that_comes_back(world: World) -> None:
    """A restart of the runtime costs time and raises no error."""
    world.runtime.alive = False
    waiting = asyncio.create_task(world.looks.wait_fresh())
    await world.clock.advance(3)
    world.runtime.alive = True
    assert await world.clock.until(waiting) is not None


async def test_patience_ends(world: World) -> None:
    """`patient` gives up a runtime that stays away, after its time."""
    world.runtime.alive = False
    begun_ns = world.clock.now_ns()
    assert await world.clock.until(asyncio.create_task(world.looks.wait_fresh())) is None
    elapsed_s = (world.clock.now_ns() - begun_ns) / 1_000_000_000
    assert elapsed_s == pytest.approx(bounds.RUNTIME_PATIENCE_S, abs=0.1)


async def test_patience_is_not_for_a_runtime_that_is_too_old(world: World) -> None:
    """Waiting would not add CRI v1 to a runtime."""
    world.runtime.faults.add(
        Fault(
            method="ListPodSandbox",
            kind=Kind.FAIL,
            times=FOR_EVER,
            status=grpc.StatusCode.UNIMPLEMENTED,
        )
    )
    assert await world.clock.until(asyncio.create_task(world.looks.wait_fresh())) is None
    with pytest.raises(RuntimeTooOld):
        await world.clock.until(asyncio.create_task(world.looks.fresh()))
    assert world.runtime.looks == 2


async def test_a_pod_that_is_not_listed_is_gone(world: World) -> None:
    """A pod that a look does not list is gone."""
    look = await world.clock.until(asyncio.create_task(world.looks.fresh()))
    pod = Pod.vanished(uid="u", namespace="default", name="a-bcdfg", sandbox_id="ab" * 32)
    assert look.of(pod) is None
    assert look.seen(pod, "cd" * 32) == "gone"
