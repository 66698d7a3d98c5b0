# SPDX-License-Identifier: Apache-2.0
"""The reference for the agent: a minimal grpc.aio server with the standard health check.

`python -m benchmarks.bare_server SOCKET` serves `grpc.health.v1.Health/Check` on a unix socket
until SIGTERM.
"""

import asyncio
import signal
import sys

import grpc.aio

from breakglass._pb.health.v1 import health_pb2


async def _check(
    _request: health_pb2.HealthCheckRequest, _context: object
) -> health_pb2.HealthCheckResponse:
    return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


async def _serve(socket: str) -> None:
    server = grpc.aio.server()
    check = grpc.unary_unary_rpc_method_handler(
        _check,
        request_deserializer=health_pb2.HealthCheckRequest.FromString,
        response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check}),)
    )
    server.add_insecure_port(f"unix:{socket}")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await server.start()
    await stop.wait()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
