# SPDX-License-Identifier: Apache-2.0
"""A client of the agent's unix socket, for an operator on the node.

`ssh node breakglass-agent submit < file` is a road like any other (P10): same bytes, same verdict.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import grpc

from breakglass._pb.breakglass.v1 import agent_pb2 as pb
from breakglass.core import bounds
from breakglass.core.entries import Entry, parse_entry
from breakglass.core.progress import ProgressKind
from breakglass.errors import NodeError, Unreached

_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.default_authority", "localhost"),
    ("grpc.max_receive_message_length", bounds.MAX_REQUEST_BYTES * 8),
)
_SERVICE = "/breakglass.v1.Agent/"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalProgress:
    """One step of a submitted file: the recorded entry, or the refusal."""

    kind: ProgressKind
    entry: Entry | None
    repeated: bool
    code: str = ""
    needed: str = ""
    have: str = ""
    hint: str = ""


def submit(socket: Path, raw: bytes) -> Iterator[LocalProgress]:
    """Deliver a signed file and yield its steps.

    Raises:
        Unreached: nothing answers on the socket.
        NodeError: the agent ended the call with an error.
    """
    with _channel(socket) as channel:
        call = channel.unary_stream(
            f"{_SERVICE}Submit",
            request_serializer=pb.SubmitRequest.SerializeToString,
            response_deserializer=pb.Progress.FromString,
        )
        try:
            for progress in call(pb.SubmitRequest(signed_file=raw)):
                step = _progress(progress)
                if step is not None:
                    yield step
        except grpc.RpcError as error:
            raise _error(socket, error) from error


def describe(socket: Path) -> pb.DescribeResponse:
    """Return the agent's description of itself; raise `Unreached` or `NodeError`."""
    with _channel(socket) as channel:
        call = channel.unary_unary(
            f"{_SERVICE}Describe",
            request_serializer=pb.DescribeRequest.SerializeToString,
            response_deserializer=pb.DescribeResponse.FromString,
        )
        try:
            return call(pb.DescribeRequest(), timeout=bounds.READ_TIMEOUT_S)
        except grpc.RpcError as error:
            raise _error(socket, error) from error


def metrics(socket: Path) -> str:
    """Return the agent's figures as Prometheus text; raise `Unreached` or `NodeError`."""
    with _channel(socket) as channel:
        call = channel.unary_unary(
            f"{_SERVICE}Metrics",
            request_serializer=pb.MetricsRequest.SerializeToString,
            response_deserializer=pb.MetricsResponse.FromString,
        )
        try:
            return str(call(pb.MetricsRequest(), timeout=bounds.READ_TIMEOUT_S).text)
        except grpc.RpcError as error:
            raise _error(socket, error) from error


def _channel(socket: Path) -> grpc.Channel:
    return grpc.insecure_channel(f"unix:{socket.absolute()}", options=_OPTIONS)


def _progress(progress: pb.Progress) -> LocalProgress | None:
    """Return a message as a step; None for one of a kind that this version does not know."""
    name = progress.WhichOneof("step")
    if name is None:
        return None
    kind = ProgressKind(name)
    match kind:
        case ProgressKind.REFUSED:
            return _refused(progress.refused)
        case ProgressKind.ACCEPTED:
            receipt = progress.accepted
        case ProgressKind.POD:
            receipt = progress.pod
        case ProgressKind.FINISHED:
            receipt = progress.finished
        case _:
            assert_never(kind)
    return LocalProgress(kind=kind, entry=parse_entry(receipt.entry), repeated=progress.repeated)


def _refused(refused: pb.Refusal) -> LocalProgress:
    return LocalProgress(
        kind=ProgressKind.REFUSED,
        entry=parse_entry(refused.receipt.entry) if refused.receipt.entry else None,
        repeated=False,
        code=refused.code,
        needed=refused.needed,
        have=refused.have,
        hint=refused.hint,
    )


def _error(socket: Path, error: grpc.RpcError) -> Unreached | NodeError:
    code, details = error.code(), error.details() or ""
    if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
        return Unreached(
            f"no agent answers at {socket}: {details or code.name.lower()}",
            hint="check that breakglass-agent runs here and that you are root",
        )
    return NodeError(f"the agent ended the call with {code.name.lower()}: {details}")
