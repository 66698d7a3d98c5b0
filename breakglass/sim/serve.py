# SPDX-License-Identifier: Apache-2.0
"""A whole simulated node behind a socket: a runtime, its pods, and a kubelet that restarts them."""

import random
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

from breakglass.sim.clock import WallClock
from breakglass.sim.cri_server import CriServer
from breakglass.sim.faults import Faults
from breakglass.sim.kernel import SimKernel
from breakglass.sim.kubelet import Kubelet, Machine
from breakglass.sim.node import SimNode
from breakglass.sim.profiles import CONTAINERD_2_1, Profile
from breakglass.sim.workloads import WorkloadSpec, make_pod


def _nothing(kernel: SimKernel) -> AbstractAsyncContextManager[object]:
    del kernel
    return nullcontext()


async def serve(
    socket: Path,
    workloads: Iterable[WorkloadSpec],
    *,
    profile: Profile = CONTAINERD_2_1,
    seed: int = 0,
    latency_s: float = 0.0,
    offer: Callable[[SimKernel], AbstractAsyncContextManager[object]] = _nothing,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Simulate a node until cancelled.

    Args:
        socket: where the runtime listens.
        workloads: the workloads that its kubelet runs.
        profile: which runtime it simulates.
        seed: of every name and id; equal seeds make equal nodes.
        latency_s: the least time of each call of the runtime.
        offer: returns a context that offers the node's control groups to an agent.
        ready: called once all pods run and the socket answers.
    """
    clock, seeded = WallClock(), random.Random(seed)  # noqa: S311 - names of simulated pods
    node = SimNode(profile=profile, clock=clock, seed=seed, latency_s=latency_s)
    pods = [make_pod(one, seeded, number=number) for one in workloads for number in range(one.pods)]
    kernel = SimKernel(node)
    kubelet = Kubelet(node.call, clock, pods, Machine(kernel=kernel))
    await kubelet.sync()
    async with CriServer(node, socket, Faults(clock)), offer(kernel):
        ready()
        await kubelet.run()
