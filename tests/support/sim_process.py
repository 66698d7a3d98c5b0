# SPDX-License-Identifier: Apache-2.0
"""A simulated node on a socket, in a thread with a loop of its own, open to a test's questions."""

import asyncio
import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from google.protobuf.message import Message

from breakglass._pb.cri.v1 import api_pb2 as cri
from breakglass.core.names import parse_workload
from breakglass.sim.clock import WallClock
from breakglass.sim.cri_server import CriServer
from breakglass.sim.faults import Faults
from breakglass.sim.kubelet import Kubelet
from breakglass.sim.node import SimNode
from breakglass.sim.workloads import WorkloadSpec, make_pod

READY_S = 60.0
LOOK_S = 0.02


class CountingNode(SimNode):
    """A node that counts the stops that found a live container."""

    stopped = 0

    async def call(self, method: str, request: Message) -> Message:
        """Carry out one call, and count it where it is such a stop."""
        if isinstance(request, cri.StopContainerRequest) and request.container_id in self.running():
            self.stopped += 1
        return await super().call(method, request)


class SimProcess:
    """A node with the pods of one DaemonSet and some bystanders.

    Args:
        socket: where its runtime listens.
        daemonset: the workload, as namespace/name.
        pods: how many pods it has here.
        kubelet: whether a kubelet starts again what was stopped.
        options: more fields of the workload, such as `ignores_term`.
    """

    def __init__(
        self,
        socket: Path,
        *,
        daemonset: str,
        pods: int,
        kubelet: bool = False,
        options: Mapping[str, int | bool] | None = None,
    ) -> None:
        socket.parent.mkdir(parents=True, exist_ok=True)
        namespace, name = parse_workload(daemonset)
        spec = WorkloadSpec(namespace=namespace, name=name, pods=pods, **(options or {}))  # type: ignore[arg-type]
        beside = WorkloadSpec(namespace=namespace, name=f"{name}-agent")
        self.socket = socket
        self.node = CountingNode()
        self.faults = Faults(WallClock())
        seeded = random.Random(7)
        self._ours = [make_pod(spec, seeded, number=number) for number in range(pods)]
        self._kubelet = Kubelet(
            self.node.call, WallClock(), [*self._ours, make_pod(beside, seeded)]
        )
        self._keeps = kubelet
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        if not self._ready.wait(READY_S):
            raise TimeoutError("the simulated node did not get ready")

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        await self._kubelet.sync()
        async with CriServer(self.node, self.socket, self.faults):
            self._ready.set()
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(self._kubelet.run()) if self._keeps else None
                await self._over.wait()
                if keeping is not None:
                    keeping.cancel()

    def _ask(self) -> int:
        """Return how many containers of the DaemonSet run, asked inside the node's own loop."""

        async def ask() -> int:
            reply = await self.node.call("ListContainers", cri.ListContainersRequest())
            assert isinstance(reply, cri.ListContainersResponse)
            uids = {pod.uid for pod in self._ours}
            return sum(
                one.state == cri.CONTAINER_RUNNING and one.labels["io.kubernetes.pod.uid"] in uids
                for one in reply.containers
            )

        return asyncio.run_coroutine_threadsafe(ask(), self._loop).result(READY_S)

    def running(self) -> int:
        """Return how many containers of the DaemonSet run."""
        return self._ask()

    def stops(self) -> int:
        """Return how many stops found a live container."""
        return self.node.stopped

    def wait_until_running(self, count: int) -> None:
        """Return when so many containers of the DaemonSet run."""
        deadline = time.monotonic() + READY_S
        while self.running() != count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"expected {count} running, got {self.running()}")
            threading.Event().wait(LOOK_S)

    def close(self) -> None:
        """Go away."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(READY_S)
