# SPDX-License-Identifier: Apache-2.0
"""The ladder in real time, over each simulated runtime and a real containerd with this kernel."""

import asyncio

import pytest

from breakglass.agent.clock import SystemClock
from breakglass.agent.kernel.host import host_kernel
from breakglass.agent.runtime.cri import CriRuntime
from breakglass.agent.stop.ladder import Ladders, PodOutcome
from breakglass.core import bounds
from tests.contract.rigs import PATIENCE_S, ContainerdRig, Made, Rig
from tests.support.climbs import climb


async def bring_down(runtime: CriRuntime, made: Made, *, grace_s: int) -> PodOutcome:
    """Run the stop ladder for one pod, as a command does."""
    pod = next(one for one in await runtime.pods() if one.uid == made.uid)
    kernel = host_kernel()
    ports = Ladders(
        runtime=runtime, groups=kernel.groups, killer=kernel.killer, clock=SystemClock()
    )
    return await climb(ports, pod, pod.containers, grace_s=grace_s)


def kernel_of(rig: Rig) -> str:
    """Return the kernel's expected finding: simulated containers have no processes."""
    return "gone" if isinstance(rig, ContainerdRig) else "unseen"


@pytest.mark.parametrize("ignores_term", [False, True])
async def test_a_pod_is_down_for_runtime_and_kernel(
    rig: Rig, runtime: CriRuntime, *, ignores_term: bool
) -> None:
    """With and without a handler for TERM rung 1 is enough, as runtime and kernel show."""
    made = await rig.pod(containers=2, ignores_term=ignores_term)
    outcome = await bring_down(runtime, made, grace_s=1)
    assert outcome.seen == "down"
    assert {(one.rung, one.seen, one.kernel, one.error) for one in outcome.containers} == {
        (1, "down", kernel_of(rig), "")
    }


async def test_a_runtime_killed_in_the_middle_does_not_save_the_pod(
    rig: Rig, runtime: CriRuntime
) -> None:
    """The runtime restarts during the grace period: the agent stops the container again."""
    made = await rig.pod(ignores_term=True)
    climbing = asyncio.create_task(bring_down(runtime, made, grace_s=5))
    await rig.wait_for_term(made)
    await rig.kill()
    await rig.start()
    outcome = await climbing
    assert outcome.seen == "down"
    assert outcome.containers[0].kernel == kernel_of(rig)
    assert outcome.containers[0].error.startswith("runtime-unavailable")


async def test_a_silent_runtime_does_not_save_the_pod_from_the_kernel(
    rig: Rig, runtime: CriRuntime
) -> None:
    """The runtime hangs in the middle of a stop: the agent kills what the kernel can find."""
    made = await rig.pod(containers=2, ignores_term=True)
    climbing = asyncio.create_task(bring_down(runtime, made, grace_s=3))
    await rig.wait_for_term(made)
    await rig.pause()
    try:
        outcome = await climbing
    finally:
        await rig.resume()
    # Simulated containers have no processes, so their state must be reported as unknown.
    seen = {"gone": "down", "unseen": "unknown"}[kernel_of(rig)]
    assert (outcome.seen, {one.kernel for one in outcome.containers}) == (seen, {kernel_of(rig)})
    silent_s = bounds.RUNTIME_CALL_TIMEOUT_S * bounds.MAX_SILENT_LOOKS
    assert outcome.ms <= (3 + bounds.STOP_MARGIN_S + silent_s + PATIENCE_S) * 1_000
