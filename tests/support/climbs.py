# SPDX-License-Identifier: Apache-2.0
"""The ladder as tests climb it: one pod, or all pods of a plan side by side."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from breakglass.agent.stop.ladder import Ladders, PodOutcome, side_by_side
from breakglass.core.plan import Step
from breakglass.core.pods import Container, Pod


async def climb(
    ports: Ladders, pod: Pod, containers: tuple[Container, ...], *, grace_s: int
) -> PodOutcome:
    """Bring these containers of one pod down and return what was seen of it."""
    step = Step(pod=pod, containers=containers, grace_s=grace_s)
    return await ports.ladder().climb(step)


async def stop_pods(ports: Ladders, steps: Sequence[Step]) -> AsyncGenerator[PodOutcome, None]:
    """Climb all pods of a plan side by side; yield each outcome as soon as it is seen."""
    climbs = side_by_side(steps, ports.ladder().climb)
    async with aclosing(climbs):
        async for outcome in climbs:
            yield outcome
