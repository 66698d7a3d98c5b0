# SPDX-License-Identifier: Apache-2.0
"""A simulated runtime on a unix socket: a CRI v1 server in front of a `SimNode`, with faults.

It speaks the same protocol as a real runtime.  Its methods come from one table.  It has no state:
stopping it and starting another one on the same node is a restart of the runtime.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.sim.faults import CriError, Faults
from breakglass.sim.node import SimNode

SERVICE: Final = "runtime.v1.RuntimeService"
METHODS: Final[Mapping[str, tuple[type[Message], type[Message]]]] = {
    "Version": (pb.VersionRequest, pb.VersionResponse),
    "Status": (pb.StatusRequest, pb.StatusResponse),
    "ListPodSandbox": (pb.ListPodSandboxRequest, pb.ListPodSandboxResponse),
    "PodSandboxStatus": (pb.PodSandboxStatusRequest, pb.PodSandboxStatusResponse),
    "RunPodSandbox": (pb.RunPodSandboxRequest, pb.RunPodSandboxResponse),
    "StopPodSandbox": (pb.StopPodSandboxRequest, pb.StopPodSandboxResponse),
    "RemovePodSandbox": (pb.RemovePodSandboxRequest, pb.RemovePodSandboxResponse),
    "ListContainers": (pb.ListContainersRequest, pb.ListContainersResponse),
    "ContainerStatus": (pb.ContainerStatusRequest, pb.ContainerStatusResponse),
    "CreateContainer": (pb.CreateContainerRequest, pb.CreateContainerResponse),
    "StartContainer": (pb.StartContainerRequest, pb.StartContainerResponse),
    "StopContainer": (pb.StopContainerRequest, pb.StopContainerResponse),
}
_Context: TypeAlias = "grpc.aio.ServicerContext[Message, Message]"


class CriServer:
    """A node's runtime behind a socket, while the context is open.

    Args:
        node: answers the calls.
        socket: its path; an old socket there is replaced.
        faults: the faults between the client and the node.
    """

    def __init__(self, node: SimNode, socket: Path, faults: Faults) -> None:
        self._node = node
        self._faults = faults
        self._socket = socket
        self._server: grpc.aio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start to listen."""
        self._socket.unlink(missing_ok=True)
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        handlers = {name: self._handler(name) for name in METHODS}
        generic = grpc.method_handlers_generic_handler(SERVICE, handlers)
        self._server.add_generic_rpc_handlers((generic,))
        self._server.add_insecure_port(f"unix:{self._socket}")
        await self._server.start()

    async def stop(self) -> None:
        """Stop at once, without answering the open calls, as a killed runtime does."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace=None)
        self._socket.unlink(missing_ok=True)
        self._node.restarted()

    def _handler(self, method: str) -> "grpc.RpcMethodHandler[Message, Message]":
        async def behavior(request: Message, context: "_Context") -> Message:
            try:
                return await self._faults.around(method, lambda: self._node.call(method, request))
            except CriError as error:
                return await context.abort(error.status, error.message)

        request, reply = METHODS[method]
        return grpc.unary_unary_rpc_method_handler(
            cast("Callable[[Message, grpc.ServicerContext], Message]", behavior),
            request_deserializer=request.FromString,
            response_serializer=reply.SerializeToString,
        )
