# SPDX-License-Identifier: Apache-2.0
"""The direct road over real gRPC and TLS on loopback, to a server with scripted answers."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

import grpc
import grpc.aio
import pytest

from breakglass._pb.breakglass.v1 import agent_pb2 as pb
from breakglass.core import bounds
from breakglass.errors import BreakglassError, NodeError, RefusedError, Unreached
from breakglass.fleet.home.identity import TlsIdentity, make_ca, make_courier, make_node
from breakglass.fleet.home.inventory import Address, InventoryNode
from breakglass.fleet.roads.direct import direct_road
from breakglass.fleet.roads.port import HeldPod, NodeProgress, NotOnRecord, Road

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


def test_each_method_carries_its_values() -> None:
    """Every answer arrives as a value of `fleet`, not as a message."""

    async def ask_all(road: Road) -> tuple[Any, ...]:
        entries = [one async for one in road.entries(3)]
        return (
            (await road.describe()).node,
            [pod.daemonset for pod in await road.pods()],
            [(one.command, one.approvals, one.pods) for one in await road.holds()],
            (await road.outcome("x")).finished,
            [one.index for one in entries],
            await road.consistency(1),
        )

    node, daemonsets, holds, finished, indexes, consistency = asyncio.run(asked(Server(), ask_all))
    assert (node, daemonsets, indexes) == ("n1", ["c"], [3, 4])
    assert holds == [("i", ("ana",), (HeldPod(uid="u", name="n", gate="pids", note="why"),))]
    assert (finished.index, finished.proof) == (7, (b"p" * 32,))
    assert consistency == ((b"p",), b"c")


def test_a_delivery_is_told_step_by_step() -> None:
    """Acceptance and refusal, with and without a receipt."""
    refused = pb.Refusal(code="protected", needed="a", have="b", hint="c")
    server = Server(
        progress=[
            pb.Progress(accepted=RECEIPT, repeated=True, node_time="t"),
            pb.Progress(refused=refused),
        ]
    )
    accepted, refusal = asyncio.run(asked(server, collected))
    assert (accepted.kind, accepted.repeated) == ("accepted", True)
    assert accepted.receipt is not None
    assert accepted.receipt.index == 7
    assert refusal.refusal is not None
    assert (refusal.refusal.code, refusal.refusal.receipt) == ("protected", None)


@pytest.mark.parametrize(
    ("status", "details", "kind", "code"),
    [
        ("NOT_FOUND", "none", NotOnRecord, "not-on-record"),
        (
            "PERMISSION_DENIED",
            "courier-unknown: expected a, got b",
            RefusedError,
            "courier-unknown",
        ),
        ("PERMISSION_DENIED", "odd", RefusedError, "turned-away"),
        ("UNAVAILABLE", "runtime-unavailable: expected a, got b", NodeError, "runtime-unavailable"),
        ("UNAVAILABLE", "Socket closed", Unreached, "unreached"),
        ("DEADLINE_EXCEEDED", "Deadline", Unreached, "silent"),
        ("RESOURCE_EXHAUSTED", "too many", NodeError, "busy"),
        ("INTERNAL", "odd", NodeError, "node-error"),
    ],
)
def test_endings_of_a_call_become_errors_of_ours(
    status: str, details: str, kind: type[BreakglassError], code: str
) -> None:
    """Each gRPC error becomes a `BreakglassError`, with the node's own code if it sent one."""
    server = Server(status=(grpc.StatusCode[status], details))
    for question in (lambda road: road.pods(), collected):
        with pytest.raises(kind) as error:
            asyncio.run(asked(server, question))
        assert error.value.stable_code == code


def test_a_certificate_of_the_same_authority_for_another_node_does_not_connect() -> None:
    """The pinned leaf is the only trusted root (adr 0005)."""
    with pytest.raises(Unreached) as error:
        asyncio.run(asked(Server(), lambda road: road.pods(), as_node=N2))
    assert error.value.stable_code == "wrong-identity"


def test_a_courier_of_another_authority_does_not_connect() -> None:
    """The agent ends the handshake; the bastion reports the node as unreached."""
    foreign = make_courier(make_ca("example", now=NOW), "bastion", now=NOW)

    async def ask() -> None:
        async with Server().serving() as port, direct_road(foreign)(row(port)) as road:
            await road.pods()

    with pytest.raises(Unreached):
        asyncio.run(ask())


def test_a_node_that_falls_silent_is_not_waited_for() -> None:
    """After the first answer, the next one must come within `silence_s`."""
    server = Server(progress=[pb.Progress(accepted=RECEIPT)], hangs=True)
    with pytest.raises(Unreached) as error:
        asyncio.run(asked(server, lambda road: collected(road, silence_s=0.2)))
    assert error.value.stable_code == "silent"


def test_a_closed_port_is_unreached_at_once() -> None:
    """A refused connection is reported without waiting for a timeout."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def ask() -> None:
        async with direct_road(COURIER)(row(port)) as road:
            await road.pods()

    with pytest.raises(Unreached):
        asyncio.run(ask())


@pytest.mark.slow
def test_a_stopped_machine_is_unreached_within_the_time_out() -> None:
    """A listener that accepts and answers nothing, as a stopped agent does (P5)."""

    async def ask(port: int) -> None:
        async with direct_road(COURIER)(row(port)) as road:
            await collected(road)

    async def timed(port: int) -> float:
        began = asyncio.get_running_loop().time()
        with pytest.raises(Unreached):
            await ask(port)
        return asyncio.get_running_loop().time() - began

    with socket.create_server(("127.0.0.1", 0)) as silent:
        took_s = asyncio.run(timed(silent.getsockname()[1]))
    assert took_s < bounds.READ_TIMEOUT_S + bounds.CONNECT_TIMEOUT_S
