# SPDX-License-Identifier: Apache-2.0
"""A CRI client for the simulated kubelet: it makes any call in `METHODS`, to any runtime.

The agent has a client of its own, which cannot create or remove pods; a kubelet must.
"""

from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
import grpc.aio
from google.protobuf.message import Message

from breakglass.sim.cri_server import METHODS, SERVICE
from breakglass.sim.faults import CriError

_KUBELET_TIMEOUT_S = 120.0  # kubelet's runtimeRequestTimeout
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.default_authority", "localhost"),
    ("grpc.enable_http_proxy", 0),
)


class CriClient:
    """A connection to the runtime behind a socket, while the context is open."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(f"unix:{self._socket}", _OPTIONS)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._channel is not None:
            await self._channel.close()

    async def call(self, method: str, request: Message) -> Message:
        """Make one call; raise `CriError` if the runtime answers with an error, or not at all."""
        if self._channel is None:
            raise RuntimeError("the context of this client is not open")
        asked, replied = METHODS[method]
        call = self._channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=asked.SerializeToString,
            response_deserializer=replied.FromString,
        )
        try:
            return await call(request, timeout=_KUBELET_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise CriError(error.code(), error.details() or "") from error
