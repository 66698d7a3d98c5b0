# SPDX-License-Identifier: Apache-2.0
"""Shared looks: each begins after whoever asked for it, and few are taken."""

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


class Eyes:
    """A runtime whose lists take a tenth of a second, and the looks at it."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.runtime = SimRuntime(SimNode(clock=self.clock, latency_s=0.05), self.clock)
        self.looks = Looks(self.runtime, VirtualAgentClock(self.clock))


@pytest.fixture
def eyes() -> Eyes:
    """Nobody has looked yet."""
    return Eyes()


async def test_those_who_come_during_a_look_share_the_next(eyes: Eyes) -> None:
    """The look under way began before they asked, so it is not for them."""
    first = asyncio.create_task(eyes.looks.fresh())
    await eyes.clock.advance(0.05)
    later = [asyncio.create_task(eyes.looks.fresh()) for _ in range(5)]
    numbers = {(await eyes.clock.until(task)).number for task in later}
    assert (await first).number == 1
    assert numbers == {2}
    assert eyes.runtime.looks == 2


async def test_a_failed_look_fails_those_who_shared_it_once(eyes: Eyes) -> None:
    """Five who wait for one look of a stuck runtime wait for one deadline, not for five."""
    first = asyncio.create_task(eyes.looks.fresh())
    await eyes.clock.advance(0.01)
    eyes.runtime.faults.add(Fault(method="ListContainers", kind=Kind.FAIL, times=1))
    eyes.runtime.faults.add(Fault(method="ListPodSandbox", kind=Kind.HANG, times=1))
    later = [asyncio.create_task(eyes.looks.fresh()) for _ in range(5)]
    for task in (first, *later):
        with pytest.raises(RuntimeUnavailable):
            await eyes.clock.until(task)
    assert eyes.runtime.looks == 2
    assert (await eyes.clock.until(asyncio.create_task(eyes.looks.fresh()))).number == 3


async def test_silence_is_shared_by_all_who_waited_through_it(eyes: Eyes) -> None:
    """Who comes while a stuck runtime is looked at need not wait through another silence."""
    eyes.runtime.faults.wedge()
    begun_ns = eyes.clock.now_ns()
    first = asyncio.create_task(eyes.looks.fresh())
    await eyes.clock.advance(1.5)
    later = [asyncio.create_task(eyes.looks.fresh()) for _ in range(5)]
    for task in (first, *later):
        with pytest.raises(RuntimeUnavailable):
            await eyes.clock.until(task)
    assert eyes.clock.now_ns() - begun_ns == bounds.RUNTIME_CALL_TIMEOUT_S * 1_000_000_000
    assert eyes.runtime.looks == 1
    with pytest.raises(RuntimeUnavailable):  # who comes afterwards looks anew
        await eyes.clock.until(asyncio.create_task(eyes.looks.fresh()))
    assert eyes.runtime.looks == 2


async def test_a_caller_who_leaves_does_not_take_the_look_along(eyes: Eyes) -> None:
    """A cancelled look counts for nobody; the next in turn takes one."""
    leaving = asyncio.create_task(eyes.looks.fresh())
    await eyes.clock.advance(0.05)
    waiting = asyncio.create_task(eyes.looks.fresh())
    await eyes.clock.advance(0.01)
    leaving.cancel()
    assert (await eyes.clock.until(waiting)).number == 2


async def test_patience_waits_for_a_runtime_that_comes_back(eyes: Eyes) -> None:
    """A restart of the runtime costs time and no error."""
    eyes.runtime.alive = False
    waiting = asyncio.create_task(eyes.looks.patient())
    await eyes.clock.advance(3)
    eyes.runtime.alive = True
    assert await eyes.clock.until(waiting) is not None


async def test_patience_ends(eyes: Eyes) -> None:
    """A runtime that stays away is given up in time."""
    eyes.runtime.alive = False
    begun_ns = eyes.clock.now_ns()
    assert await eyes.clock.until(asyncio.create_task(eyes.looks.patient())) is None
    elapsed_s = (eyes.clock.now_ns() - begun_ns) / 1_000_000_000
    assert elapsed_s == pytest.approx(bounds.RUNTIME_PATIENCE_S, abs=0.1)


async def test_patience_is_not_for_a_runtime_that_is_too_old(eyes: Eyes) -> None:
    """No wait makes a runtime learn CRI v1."""
    eyes.runtime.faults.add(
        Fault(
            method="ListPodSandbox",
            kind=Kind.FAIL,
            times=FOR_EVER,
            status=grpc.StatusCode.UNIMPLEMENTED,
        )
    )
    assert await eyes.clock.until(asyncio.create_task(eyes.looks.patient())) is None
    with pytest.raises(RuntimeTooOld):
        await eyes.clock.until(asyncio.create_task(eyes.looks.fresh()))
    assert eyes.runtime.looks == 2


async def test_a_pod_that_is_not_listed_is_gone(eyes: Eyes) -> None:
    """A look says of what it does not show that it is gone."""
    look = await eyes.clock.until(asyncio.create_task(eyes.looks.fresh()))
    pod = Pod.vanished(uid="u", namespace="default", name="a-bcdfg", sandbox_id="ab" * 32)
    assert look.of(pod) is None
    assert look.seen(pod, "cd" * 32) == "gone"
