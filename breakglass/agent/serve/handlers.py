# SPDX-License-Identifier: Apache-2.0
"""The methods of the gRPC service, who may call each, and how they are registered.

`RULES` is the whole of who may call what; a test compares it with the descriptor both ways.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from enum import StrEnum
from typing import Any

import grpc
from google.protobuf.message import Message

from breakglass._pb.breakglass.v1 import agent_pb2 as pb
from breakglass._pb.health.v1 import health_pb2
from breakglass.agent.serve.service import HEALTH, SERVICE, CallContext, Service


class Needs(StrEnum):
    """What a caller must be: a courier of the trust, or root on this node's socket."""

    COURIER = "courier"


RULES = {
    f"/{SERVICE}/Submit": Needs.COURIER,
    f"/{SERVICE}/Describe": Needs.COURIER,
    f"/{SERVICE}/Pods": Needs.COURIER,
    f"/{SERVICE}/Outcome": Needs.COURIER,
    f"/{SERVICE}/Entries": Needs.COURIER,
    f"/{SERVICE}/Consistency": Needs.COURIER,
    f"/{SERVICE}/Holds": Needs.COURIER,
    f"/{SERVICE}/Metrics": Needs.COURIER,
    f"/{HEALTH}/Check": Needs.COURIER,
}


def _unary(
    method: Callable[[Any, CallContext], Awaitable[Message]],
    request: type[Message],
    response: type[Message],
) -> "grpc.RpcMethodHandler[Any, Any]":
    return grpc.unary_unary_rpc_method_handler(
        method,
        request_deserializer=request.FromString,
        response_serializer=response.SerializeToString,
    )


def _stream(
    method: Callable[[Any, CallContext], AsyncIterator[Message]],
    request: type[Message],
    response: type[Message],
) -> "grpc.RpcMethodHandler[Any, Any]":
    return grpc.unary_stream_rpc_method_handler(
        method,
        request_deserializer=request.FromString,
        response_serializer=response.SerializeToString,
    )


def handlers(service: Service) -> tuple[grpc.GenericRpcHandler, ...]:
    """Return the handlers of both gRPC services."""
    agent = {
        "Submit": _stream(service.submit, pb.SubmitRequest, pb.Progress),
        "Describe": _unary(service.describe, pb.DescribeRequest, pb.DescribeResponse),
        "Pods": _unary(service.pods, pb.PodsRequest, pb.PodsResponse),
        "Outcome": _unary(service.outcome, pb.OutcomeRequest, pb.OutcomeResponse),
        "Entries": _stream(service.entries, pb.EntriesRequest, pb.Entry),
        "Consistency": _unary(service.consistency, pb.ConsistencyRequest, pb.ConsistencyResponse),
        "Holds": _unary(service.holds, pb.HoldsRequest, pb.HoldsResponse),
        "Metrics": _unary(service.metrics, pb.MetricsRequest, pb.MetricsResponse),
    }
    health = {
        "Check": _unary(
            service.check, health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
        )
    }
    return (
        grpc.method_handlers_generic_handler(SERVICE, agent),
        grpc.method_handlers_generic_handler(HEALTH, health),
    )
