# SPDX-License-Identifier: Apache-2.0
"""The agent's service with scripted answers, over real gRPC and TLS on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

import grpc
import grpc.aio

from breakglass._pb.breakglass.v1 import agent_pb2 as pb
from breakglass.fleet.home.identity import TlsIdentity, make_ca, make_courier, make_node
from breakglass.fleet.home.inventory import Address, InventoryNode
from breakglass.fleet.roads.direct import direct_road
from breakglass.fleet.roads.port import NodeProgress, Road

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
T = TypeVar("T")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CA = make_ca("example", now=NOW)
N1 = make_node(CA, node="n1", cluster="prod-a", ip="127.0.0.1", now=NOW)
N2 = make_node(CA, node="n2", cluster="prod-a", ip="127.0.0.1", now=NOW)
COURIER = make_courier(CA, "bastion", now=NOW)
RECEIPT = pb.Receipt(entry=b"{}", index=7, proof=[b"p" * 32], checkpoint=b"c")


@dataclass(kw_only=True)
class Server:
    """The agent's service with scripted answers.

    Attributes:
        status: the status and details with which every call ends.
        progress: what `Submit` streams.
        hangs: whether `Submit` stays open afterwards.
    """

    status: tuple[grpc.StatusCode, str] | None = None
    progress: list[pb.Progress] = field(default_factory=list)
    hangs: bool = False

    async def _maybe_end(self, context: Context) -> None:
        if self.status is not None:
            await context.abort(*self.status)

    async def submit(
        self, request: pb.SubmitRequest, context: Context
    ) -> AsyncGenerator[pb.Progress, None]:
        """Stream the scripted progress."""
        await self._maybe_end(context)
        assert request.signed_file
        for one in self.progress:
            yield one
        if self.hangs:
            await asyncio.Event().wait()

    async def entries(
        self, request: pb.EntriesRequest, context: Context
    ) -> AsyncGenerator[pb.Entry, None]:
        """Stream two entries."""
        await self._maybe_end(context)
        for index in (request.first, request.first + 1):
            yield pb.Entry(index=index, entry=b"e", checkpoint=b"c" if index else b"")

    def unary(self, answer: object) -> Callable[..., Awaitable[object]]:
        """Return a method that answers so."""

        async def method(_: object, context: Context) -> object:
            await self._maybe_end(context)
            return answer

        return method

    @contextlib.asynccontextmanager
    async def serving(self, identity: TlsIdentity = N1) -> AsyncIterator[int]:
        """Serve on a port of loopback; yield it."""
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((self._handlers(),))
        credentials = grpc.ssl_server_credentials(
            [(identity.key, identity.certificate)],
            root_certificates=CA.certificate,
            require_client_auth=True,
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        try:
            yield port
        finally:
            await server.stop(grace=None)

    def _handlers(self) -> grpc.GenericRpcHandler:
        pods = pb.PodsResponse(pods=[pb.Pod(namespace="a", name="b", daemonset="c", running=1)])
        held = pb.HeldPod(uid="u", name="n", gate="pids", note="why")
        holds = pb.HoldsResponse(holds=[pb.Hold(command="i", approvals=["ana"], pods=[held])])
        outcome = pb.OutcomeResponse(state="finished", accepted=RECEIPT, finished=RECEIPT)
        unary = {
            "Describe": (pb.DescribeRequest, pb.DescribeResponse(node="n1", trust_version=1)),
            "Pods": (pb.PodsRequest, pods),
            "Holds": (pb.HoldsRequest, holds),
            "Outcome": (pb.OutcomeRequest, outcome),
            "Consistency": (
                pb.ConsistencyRequest,
                pb.ConsistencyResponse(proof=[b"p"], checkpoint=b"c"),
            ),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self.unary(answer),
                request_deserializer=request.FromString,
                response_serializer=type(answer).SerializeToString,
            )
            for name, (request, answer) in unary.items()
        }
        for name, method, asked, made in (
            ("Submit", self.submit, pb.SubmitRequest, pb.Progress),
            ("Entries", self.entries, pb.EntriesRequest, pb.Entry),
        ):
            handlers[name] = grpc.unary_stream_rpc_method_handler(
                method,
                request_deserializer=asked.FromString,
                response_serializer=made.SerializeToString,
            )
        return grpc.method_handlers_generic_handler("breakglass.v1.Agent", handlers)


def row(port: int, *, pinned: TlsIdentity = N1) -> InventoryNode:
    """Return an inventory row for a server on loopback."""
    return InventoryNode(
        name="n1",
        cluster="prod-a",
        pool="",
        address=Address(ip="127.0.0.1", port=port),
        certificate=pinned.certificate.decode(),
        log_key="",
    )


async def collected(road: Road, *, silence_s: float = 60.0) -> list[NodeProgress]:
    """Deliver a file and return its progress."""
    return [one async for one in road.submit(b"file", silence_s=silence_s)]


async def asked(
    server: Server, question: Callable[[Road], Awaitable[T]], *, as_node: TlsIdentity = N1
) -> T:
    """Ask a server one question over the direct road."""
    async with server.serving(as_node) as port, direct_road(COURIER)(row(port)) as road:
        return await question(road)
