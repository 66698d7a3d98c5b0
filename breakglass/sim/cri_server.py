# SPDX-License-Identifier: Apache-2.0
"""A runtime on a unix socket: the real protocol in front of a `SimNode`, with faults between them.

A client cannot tell it from a runtime by the wire.  The methods are wired from one table.  It keeps
no state: stop it and start another one on the same node, and that is a runtime restarted.
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
    """A node's runtime behind a socket, from entering the context to leaving it.

    Args:
        node: what answers.
        socket: where; a socket that is left there is replaced.
        faults: what goes wrong on the way.
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
        """Listen."""
        self._socket.unlink(missing_ok=True)
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        handlers = {name: self._handler(name) for name in METHODS}
        generic = grpc.method_handlers_generic_handler(SERVICE, handlers)
        self._server.add_generic_rpc_handlers((generic,))
        self._server.add_insecure_port(f"unix:{self._socket}")
        await self._server.start()

    async def stop(self) -> None:
        """Go away at once, leaving callers without an answer, as a killed runtime does."""
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
