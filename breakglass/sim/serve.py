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
from breakglass.sim.pod_events import SimPodEvents
from breakglass.sim.profiles import CONTAINERD_2_1, Profile
from breakglass.sim.workloads import WorkloadSpec, make_pod


def _nothing(kernel: SimKernel, pod_events: SimPodEvents) -> AbstractAsyncContextManager[object]:
    del kernel, pod_events
    return nullcontext()


async def serve(
    socket: Path,
    workloads: Iterable[WorkloadSpec],
    *,
    profile: Profile = CONTAINERD_2_1,
    seed: int = 0,
    latency_s: float = 0.0,
    offer: Callable[[SimKernel, SimPodEvents], AbstractAsyncContextManager[object]] = _nothing,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Be a node until cancelled.

    Args:
        socket: where the runtime listens.
        workloads: what its kubelet runs.
        profile: which runtime it is.
        seed: of every name and id; equal seeds make equal nodes.
        latency_s: how long each call of the runtime takes at least.
        offer: offers the node's control groups and births to an agent, where that is wanted.
        ready: called once all pods run and the socket answers.
    """
    clock, seeded = WallClock(), random.Random(seed)  # noqa: S311 - names of simulated things
    node = SimNode(profile=profile, clock=clock, seed=seed, latency_s=latency_s)
    pods = [make_pod(one, seeded, number=number) for one in workloads for number in range(one.pods)]
    kernel, pod_events = SimKernel(node), SimPodEvents(clock)
    kubelet = Kubelet(node.call, clock, pods, Machine(kernel=kernel, pod_events=pod_events))
    await kubelet.sync()
    async with CriServer(node, socket, Faults(clock)), offer(kernel, pod_events):
        ready()
        await kubelet.run()
