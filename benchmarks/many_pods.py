# SPDX-License-Identifier: Apache-2.0
"""Run a simulated runtime with many pods: `python -m benchmarks.many_pods SOCKET PODS SETS`.

It has SETS DaemonSets with one pod each, and bare pods for the rest.  No kubelet runs and nothing
restarts a stopped pod, so that a benchmark measures only the agent's looks.
"""

import asyncio
import random
import sys
from pathlib import Path

from breakglass.sim.clock import WallClock
from breakglass.sim.cri_server import CriServer
from breakglass.sim.faults import Faults
from breakglass.sim.kubelet import Kubelet
from breakglass.sim.node import SimNode
from breakglass.sim.workloads import Controller, WorkloadSpec, make_pod


async def _main(socket: Path, pods: int, sets: int) -> None:
    clock, seeded = WallClock(), random.Random(1)
    node = SimNode(clock=clock, seed=1)
    specs = [
        WorkloadSpec(namespace="monitoring", name=f"set{number}", containers=2)
        for number in range(sets)
    ]
    specs += [
        WorkloadSpec(
            namespace="apps", name=f"pod{number}", controller=Controller.BARE, containers=2
        )
        for number in range(pods - sets)
    ]
    await Kubelet(node.call, clock, [make_pod(spec, seeded) for spec in specs]).sync()
    async with CriServer(node, socket, Faults(clock)):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
