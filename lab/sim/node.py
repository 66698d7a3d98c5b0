# SPDX-License-Identifier: Apache-2.0
"""Run a simulated node: `python -m lab.sim.node SOCKET NAMESPACE/DAEMONSET PODS SEED`.

It prints "ready" when its runtime answers, and runs until SIGTERM.  `lab.sim.agent` reaches its
control groups through a second socket, `kernel_socket`.  Beside the DaemonSet it runs pods that a
command must not touch: a DaemonSet with a similar name, a StatefulSet's pod, a bare pod and a
kube-proxy.
"""

import asyncio
import signal
import sys
from pathlib import Path

from breakglass.core.names import parse_workload
from breakglass.sim.serve import serve
from breakglass.sim.workloads import Controller, WorkloadSpec
from lab.sim.remote import KernelServer


def kernel_socket(socket: Path) -> Path:
    """Return the socket for the control groups of the node with this runtime socket."""
    return socket.with_name("kernel.sock")


def neighbours(namespace: str, name: str) -> tuple[WorkloadSpec, ...]:
    """Return the workloads that a command for this DaemonSet must not touch."""
    return (
        WorkloadSpec(namespace=namespace, name=f"{name}-agent"),
        WorkloadSpec(namespace=namespace, name=name, controller=Controller.STATEFULSET),
        WorkloadSpec(namespace=namespace, name="debug", controller=Controller.BARE),
        WorkloadSpec(namespace="kube-system", name="kube-proxy"),
    )


async def _main(socket: Path, workload: str, pods: int, seed: int) -> None:
    namespace, name = parse_workload(workload)
    flooding = WorkloadSpec(namespace=namespace, name=name, pods=pods)
    async with asyncio.TaskGroup() as tasks:
        node = tasks.create_task(
            serve(
                socket,
                (flooding, *neighbours(namespace, name)),
                seed=seed,
                latency_s=0.002,
                offer=lambda kernel: KernelServer(kernel, kernel_socket(socket)),
                ready=lambda: print("ready", flush=True),
            )
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, node.cancel)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
