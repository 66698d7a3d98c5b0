# SPDX-License-Identifier: Apache-2.0
"""The runtime port directly on a simulated node, in virtual time, and a kernel that agrees with it.

Messages and their conversion are those of the real client; only the socket is left out, so that an
hour of deadlines takes a millisecond.
"""

import asyncio
from datetime import UTC, datetime
from typing import cast

import grpc
from google.protobuf.message import Message

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.agent.kernel.port import Leaf
from breakglass.agent.runtime import cri
from breakglass.agent.runtime.cri import CriRuntime
from breakglass.agent.runtime.port import ERROR, TIMEOUT, UNAVAILABLE, RuntimeVersion
from breakglass.core import bounds
from breakglass.core.pods import Pod, join_pods
from breakglass.errors import RuntimeTooOld, RuntimeUnavailable
from breakglass.sim.clock import VirtualClock
from breakglass.sim.faults import CriError, Faults
from breakglass.sim.kernel import Host, SimKernel
from breakglass.sim.node import SimNode
from lab.sim.kernel import SimulatedKernel
from tests.support.faulty_disk import PowerCutError


class VirtualAgentClock:
    """The agent's clock port on virtual time."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    def now(self) -> datetime:
        """Return the UTC time in milliseconds."""
        return datetime.fromtimestamp(self.monotonic_ms() / 1_000, UTC)

    def monotonic_ms(self) -> int:
        """Return milliseconds."""
        return self._clock.now_ns() // 1_000_000

    def boot(self) -> str:
        """Return a boot id."""
        return "00000000-0000-4000-8000-000000000000"

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await self._clock.sleep(seconds)


class SimRuntime(CriRuntime):
    """The runtime port on a node.

    Attributes:
        looks, stops: what was asked, counted and kept.
        deaths: the methods whose next call the agent does not survive: "lost" before it was made,
            "landed" after it was carried out.
    """

    def __init__(self, node: SimNode, clock: VirtualClock) -> None:
        super().__init__("/nowhere")
        self.node = node
        self.faults = Faults(clock)
        self.alive = True
        self.looks = 0
        self.stops: list[tuple[str, int]] = []
        self.deaths: dict[str, str] = {}
        self._clock = clock

    async def pods(self) -> tuple[Pod, ...]:
        """Return all pods."""
        self.looks += 1
        sandboxes = await self._call("ListPodSandbox", pb.ListPodSandboxRequest())
        containers = await self._call("ListContainers", pb.ListContainersRequest())
        return join_pods(
            map(cri._sandbox, cast("pb.ListPodSandboxResponse", sandboxes).items),
            map(cri._listed, cast("pb.ListContainersResponse", containers).containers),
        )

    async def stop_container(self, container_id: str, *, timeout_s: int, deadline_s: float) -> None:
        """Stop one container."""
        self.stops.append((container_id, timeout_s))
        await super().stop_container(container_id, timeout_s=timeout_s, deadline_s=deadline_s)

    async def version(self) -> RuntimeVersion:
        """Return who it is."""
        return RuntimeVersion(name="sim", version="0", api="v1", ready=True)

    async def _call(
        self, method: str, request: Message, *, deadline_s: float = bounds.RUNTIME_CALL_TIMEOUT_S
    ) -> Message:
        if not self.alive:
            raise RuntimeUnavailable(f"expected a runtime to answer {method}", code=UNAVAILABLE)
        death = self.deaths.pop(method, "")
        if death == "landed":
            await self.node.call(method, request)
        if death:
            raise PowerCutError
        call = asyncio.create_task(
            self.faults.around(method, lambda: self.node.call(method, request))
        )
        timer = asyncio.create_task(self._clock.sleep(deadline_s))
        try:
            await asyncio.wait((call, timer), return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                raise RuntimeUnavailable(f"expected an answer to {method}, got none", code=TIMEOUT)
            return call.result()
        except CriError as error:
            raise _translated(error) from error
        finally:
            call.cancel()
            timer.cancel()


def _translated(error: CriError) -> Exception:
    match error.status:
        case grpc.StatusCode.NOT_FOUND:
            return cri._NotFoundError(error.message, code=ERROR)
        case grpc.StatusCode.UNIMPLEMENTED:
            return RuntimeTooOld(error.message)
        case grpc.StatusCode.UNAVAILABLE:
            return RuntimeUnavailable(error.message, code=UNAVAILABLE)
        case _:
            return RuntimeUnavailable(error.message, code=ERROR)


class StubbornKernel(SimulatedKernel):
    """The kernel port on a node, with groups that cannot be read or never empty.

    Attributes:
        stubborn: containers that leave this many processes behind.
        unreadable: whether groups cannot be read.
    """

    def __init__(self, node: SimNode, host: Host | None = None) -> None:
        self.files = SimKernel(node, host)
        super().__init__(self.files, self.files.host)
        self.stubborn: dict[str, int] = {}
        self.unreadable = False

    def pids(self, leaf: Leaf) -> tuple[int, ...]:
        """Return a container's processes."""
        if self.unreadable:
            raise PermissionError(13, "Permission denied")
        left = self.stubborn.get(leaf.container_id, 0)
        return super().pids(leaf) or tuple(range(101, 101 + left))
