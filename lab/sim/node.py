# SPDX-License-Identifier: Apache-2.0
"""A simulated node as a process: `python -m lab.sim.node SOCKET NAMESPACE/DAEMONSET PODS SEED`.

It prints "ready" when its runtime answers, and runs until SIGTERM.  Its control groups are behind
the socket beside the runtime's, `kernel_socket`, for `lab.sim.agent`.  Beside the DaemonSet it runs
what stands beside one on a real node: another set with a similar name, a StatefulSet's pod, a bare
pod and a kube-proxy.
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
    """Return where the control groups of the node with this runtime are to be asked."""
    return socket.with_name("kernel.sock")


def neighbours(namespace: str, name: str) -> tuple[WorkloadSpec, ...]:
    """Return what must stay untouched."""
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
