# SPDX-License-Identifier: Apache-2.0
"""A `Road` over an open gRPC channel to a node's agent.

Each message becomes a value of `fleet` as soon as it arrives.  Every call has a deadline of our
own, because the kernel accepts connections even while the agent is stopped (SIGSTOP).
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeAlias, TypeVar, assert_never

import grpc
import grpc.aio

from breakglass._pb.breakglass.v1 import agent_pb2 as pb
from breakglass.core import bounds
from breakglass.core.progress import ProgressKind
from breakglass.core.reasons import HINTS, Reason, needed_and_have
from breakglass.core.receipt import Receipt
from breakglass.errors import BreakglassError, NodeError, RefusedError, Unreached
from breakglass.fleet.roads.port import (
    Description,
    HeldPod,
    LoggedEntry,
    NodeHold,
    NodePod,
    NodeProgress,
    NotOnRecord,
    OnRecord,
    Refusal,
)

_SERVICE = "/breakglass.v1.Agent/"
_MAX_MESSAGE_BYTES = 1024 * 1024  # pods of a node: about 40 kB; a receipt: below 70 kB
_NO_ANSWER = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_TLS_WORDS = ("ssl", "tls", "certificate", "handshake", "peer")

T = TypeVar("T")

StreamCall: TypeAlias = "grpc.aio.UnaryStreamCall[Any, Any]"

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.enable_http_proxy", 0),  # gRPC would use a proxy even for IP addresses
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),  # `deliver` decides whether to deliver again
    ("grpc.min_reconnect_backoff_ms", int(bounds.CONNECT_TIMEOUT_S * 1000)),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
)


class GrpcRoad:
    """The methods of `Road` over an open channel; `where` names the node in messages."""

    def __init__(self, channel: grpc.aio.Channel, where: str) -> None:
        self._channel = channel
        self._where = where

    async def submit(self, raw: bytes, *, silence_s: float) -> AsyncGenerator[NodeProgress, None]:
        """Deliver a signed file and yield the node's progress."""
        call = self._stream("Submit", pb.SubmitRequest, pb.Progress)(
            pb.SubmitRequest(signed_file=raw)
        )
        # The node sends the first answer before it stops a pod, so it needs no longer timeout.
        async with aclosing(self._messages(call, bounds.READ_TIMEOUT_S, silence_s)) as messages:
            async for progress in messages:
                step = _progress(progress)
                if step is not None:
                    yield step

    async def describe(self) -> Description:
        """Ask the node for its identity, trust, runtime and log state."""
        found = await self._ask("Describe", pb.DescribeRequest(), pb.DescribeResponse)
        return Description(
            version=found.version,
            domain=found.domain,
            cluster=found.cluster,
            node=found.node,
            pool=found.pool,
            node_time=found.node_time,
            trust_version=found.trust_version,
            trust_sha256=found.trust_sha256,
            runtime=found.runtime,
            runtime_ready=found.runtime_ready,
            active_commands=found.active_commands,
            checkpoint=found.checkpoint,
        )

    async def pods(self) -> tuple[NodePod, ...]:
        """Ask for the node's pods."""
        found = await self._ask("Pods", pb.PodsRequest(), pb.PodsResponse)
        return tuple(
            NodePod(
                namespace=one.namespace,
                name=one.name,
                uid=one.uid,
                daemonset=one.daemonset,
                revision=one.revision,
                state=one.state,
                containers=one.containers,
                running=one.running,
                protected=one.protected,
            )
            for one in found.pods
        )

    async def holds(self) -> tuple[NodeHold, ...]:
        """Ask for the node's holds."""
        found = await self._ask("Holds", pb.HoldsRequest(), pb.HoldsResponse)
        return tuple(_hold(one) for one in found.holds)

    async def outcome(self, command_id: str) -> OnRecord:
        """Ask for the recorded outcome of a command; raise `NotOnRecord` if there is none."""
        found = await self._ask("Outcome", pb.OutcomeRequest(id=command_id), pb.OutcomeResponse)
        return OnRecord(
            state=found.state,
            accepted=_receipt(found.accepted),
            pods=tuple(_receipt(one) for one in found.pods),
            finished=_receipt(found.finished) if found.HasField("finished") else None,
            node_time=found.node_time,
        )

    async def entries(self, first: int) -> AsyncGenerator[LoggedEntry, None]:
        """Yield log entries from `first` on, up to the node's bound for one read."""
        call = self._stream("Entries", pb.EntriesRequest, pb.Entry)(pb.EntriesRequest(first=first))
        async with aclosing(
            self._messages(call, bounds.READ_TIMEOUT_S, bounds.READ_TIMEOUT_S)
        ) as messages:
            async for one in messages:
                yield LoggedEntry(index=one.index, entry=one.entry, checkpoint=one.checkpoint)

    async def consistency(self, old_size: int) -> tuple[tuple[bytes, ...], bytes]:
        """Ask for the proof that the log has only grown since, and the newest checkpoint."""
        request = pb.ConsistencyRequest(old_size=old_size)
        found = await self._ask("Consistency", request, pb.ConsistencyResponse)
        return tuple(found.proof), found.checkpoint

    async def _ask(self, method: str, request: Any, response: type[T]) -> T:  # noqa: ANN401 - a message
        call = self._channel.unary_unary(
            f"{_SERVICE}{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,  # type: ignore[attr-defined]
        )
        try:
            found: T = await call(request, timeout=bounds.READ_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise as_known(error, self._where) from error
        return found

    def _stream(self, method: str, request: Any, response: Any) -> Callable[[Any], StreamCall]:  # noqa: ANN401
        return self._channel.unary_stream(
            f"{_SERVICE}{method}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )

    async def _messages(
        self, call: StreamCall, first_s: float, silence_s: float
    ) -> AsyncGenerator[Any, None]:
        """Yield a stream's messages; raise `Unreached` if the next one does not come in time."""
        timeout_s = first_s
        try:
            while True:
                async with asyncio.timeout(timeout_s):
                    message = await call.read()
                if message is grpc.aio.EOF:
                    return
                yield message
                timeout_s = silence_s
        except TimeoutError as error:
            raise _silent(self._where, timeout_s) from error
        except grpc.aio.AioRpcError as error:
            raise as_known(error, self._where) from error
        finally:
            call.cancel()


def as_known(error: grpc.aio.AioRpcError, where: str) -> BreakglassError:
    """Return the `BreakglassError` for an error of gRPC, with the node's code if it sent one."""
    status, details = error.code(), error.details() or ""
    code, colon, message = details.partition(": ")
    reason = next((one for one in Reason if colon and one.value == code), None)
    if status is grpc.StatusCode.NOT_FOUND:
        return NotOnRecord(f"{where} has no record of the command")
    if status is grpc.StatusCode.PERMISSION_DENIED:
        return _turned_away(reason, message or details, where)
    if reason is not None:
        return NodeError(f"{where} answered: {message}", code=reason.value, hint=HINTS[reason])
    if status in _NO_ANSWER:
        return _unreached(status, details, where)
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return NodeError(f"{where} is busy: {details}", code="busy", hint=HINTS[Reason.BUSY])
    return NodeError(
        f"{where} answered with the error {status.name.lower()}: {details}", code="node-error"
    )


def _turned_away(reason: Reason | None, message: str, where: str) -> RefusedError:
    needed, have = needed_and_have(message)
    return RefusedError(
        f"{where} refused the connection: expected {needed}, got {have}",
        code=reason.value if reason else "turned-away",
        hint=HINTS[reason] if reason else "",
    )


def _unreached(status: grpc.StatusCode, details: str, where: str) -> Unreached:
    if any(word in details.lower() for word in _TLS_WORDS):
        return Unreached(
            f"{where} did not present its pinned certificate: {details}",
            code="wrong-identity",
            hint="another machine may have that address, or the node has another bundle: check it",
        )
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return _silent(where, bounds.READ_TIMEOUT_S)
    return Unreached(f"cannot reach {where}: {details}")


def _silent(where: str, timeout_s: float) -> Unreached:
    return Unreached(f"{where} did not answer within {timeout_s:.0f} s", code="silent")


def _progress(progress: pb.Progress) -> NodeProgress | None:
    """Return a message as a value; None for a kind that this version does not know."""
    name = progress.WhichOneof("step")
    if name is None:
        return None
    kind = ProgressKind(name)
    receipt: pb.Receipt | None = None
    refusal = None
    match kind:
        case ProgressKind.REFUSED:
            refusal = _refusal(progress.refused)
        case ProgressKind.ACCEPTED:
            receipt = progress.accepted
        case ProgressKind.POD:
            receipt = progress.pod
        case ProgressKind.FINISHED:
            receipt = progress.finished
        case _:
            assert_never(kind)
    return NodeProgress(
        kind=kind,
        receipt=None if receipt is None else _receipt(receipt),
        refusal=refusal,
        repeated=progress.repeated,
        node_time=progress.node_time,
    )


def _refusal(refused: pb.Refusal) -> Refusal:
    return Refusal(
        code=refused.code,
        needed=refused.needed,
        have=refused.have,
        hint=refused.hint,
        receipt=_receipt(refused.receipt) if refused.HasField("receipt") else None,
    )


def _hold(message: pb.Hold) -> NodeHold:
    return NodeHold(
        command=message.command,
        workload=message.workload,
        revision=message.revision,
        image=message.image,
        mode=message.mode,
        reason=message.reason,
        incident=message.incident,
        approvals=tuple(message.approvals),
        since=message.since,
        until=message.until,
        left_s=message.left_s,
        attempts=message.attempts,
        stops=message.stops,
        resets=message.resets,
        leaked_ms=message.leaked_ms,
        pods=tuple(
            HeldPod(uid=one.uid, name=one.name, gate=one.gate, note=one.note)
            for one in message.pods
        ),
    )


def _receipt(message: pb.Receipt) -> Receipt:
    return Receipt(
        entry=message.entry,
        index=message.index,
        proof=tuple(message.proof),
        checkpoint=message.checkpoint,
    )
