# SPDX-License-Identifier: Apache-2.0
"""The agent's door: the unix socket and the mTLS port, with their limits, and what knocks in vain.

A TLS handshake that fails never becomes a call, so the service cannot tell of it.  gRPC writes why
to its standard error; `HandshakeWatch` reads that, and every failed handshake becomes a refusal on
record like any other, with its own reason.  The text is gRPC's own: a line that is not known is
still passed on to the agent's log.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import grpc
import structlog

from breakglass.agent.config import Config, Identity
from breakglass.agent.refusals import Refusals, refusal
from breakglass.agent.service import Service, handlers
from breakglass.core import limits
from breakglass.core.reasons import Reason
from breakglass.errors import ConfigInvalid

_STDERR = 2
_FAILED = "Handshake failed"
_WHY = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": (Reason.TLS_NO_CERTIFICATE, "no certificate"),
    "CERTIFICATE_VERIFY_FAILED": (Reason.TLS_UNTRUSTED, "a certificate of another authority"),
    "certificate signature failure": (Reason.TLS_UNTRUSTED, "a certificate of another authority"),
}
_SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", limits.MAX_REQUEST_BYTES),
    ("grpc.max_metadata_size", limits.MAX_METADATA_BYTES),
    ("grpc.max_concurrent_streams", limits.MAX_CONCURRENT_RPCS),
    ("grpc.max_allowed_incoming_connections", limits.MAX_CONNECTIONS),
    ("grpc.server_handshake_timeout_ms", limits.HANDSHAKE_TIMEOUT_MS),
    ("grpc.max_connection_idle_ms", 10 * 60 * 1_000),
    ("grpc.max_connection_age_ms", 60 * 60 * 1_000),
    ("grpc.max_connection_age_grace_ms", 60 * 60 * 1_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.so_reuseport", 0),  # a second process must not be able to share our port
    ("grpc.enable_http_proxy", 0),
)


class HandshakeWatch:
    """A reader of what gRPC says of failed handshakes; it owns standard error while it runs."""

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals
        self._log = structlog.get_logger("grpc")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take standard error over, and give it back at the end."""
        read_end, write_end = os.pipe()
        kept = os.dup(_STDERR)
        reader = asyncio.StreamReader(limit=limits.MAX_STDERR_LINE_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb")
        )
        # A full pipe must never stop gRPC: it loses a line instead.
        os.set_blocking(write_end, False)
        os.dup2(write_end, _STDERR)
        os.close(write_end)
        task = asyncio.create_task(self._read(reader))
        try:
            yield
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
            await task
            transport.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await reader.readline()
            except ValueError:  # longer than the limit: dropped, as one line
                continue
            if not line:
                return
            await self._told(line.decode("ascii", "backslashreplace").strip())

    async def _told(self, line: str) -> None:
        self._log.info("stderr", line=line)
        if _FAILED not in line:
            return
        known = (found for mark, found in _WHY.items() if mark in line)
        reason, have = next(known, (Reason.TLS_FAILED, "a failed handshake"))
        refused = refusal(reason, "a TLS 1.3 handshake with a courier's certificate", have)
        await self._refusals.record(refused, b"", peer="stranger")


@contextlib.asynccontextmanager
async def open_door(
    config: Config,
    identity: Identity,
    service: Service,
    refusals: Refusals,
    begin: Callable[[], Awaitable[None]],
) -> AsyncIterator[str]:
    """Serve on the unix socket and, where there is an address, on mTLS; yield the TCP address.

    `begin` runs when both places are taken and before the first call can come.
    """
    server = grpc.aio.server(
        maximum_concurrent_rpcs=limits.MAX_CONCURRENT_RPCS, options=_SERVER_OPTIONS
    )
    server.add_generic_rpc_handlers(handlers(service))
    _prepare_socket(config.socket)
    mask = os.umask(0o177)
    try:
        _bind(lambda: server.add_insecure_port(f"unix:{config.socket}"), str(config.socket))
    finally:
        os.umask(mask)
    address = ""
    if config.address:
        credentials = grpc.ssl_server_credentials(
            [(identity.tls_key, identity.tls_certificate)],
            root_certificates=identity.tls_ca,
            require_client_auth=True,
        )
        port = _bind(lambda: server.add_secure_port(config.address, credentials), config.address)
        address = f"{config.address.rpartition(':')[0]}:{port}"
    async with HandshakeWatch(refusals).running():
        await begin()
        await server.start()
        try:
            yield address
        finally:
            await server.stop(grace=None)
            config.socket.unlink(missing_ok=True)


def _prepare_socket(path: Path) -> None:
    """Make the socket's folder root-only and clear a stale socket; refuse anything else there."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.is_socket():
            path.unlink()
        elif path.exists():
            raise ConfigInvalid(f"expected a free path for the socket, got a file at {path}")
    except OSError as error:
        raise ConfigInvalid(f"expected to make the socket {path}, got: {error.strerror}") from error


def _bind(bind: Callable[[], int], where: str) -> int:
    try:
        port = bind()
    except RuntimeError as error:
        _cannot_listen(where, error)
    return port or _cannot_listen(where, None)


def _cannot_listen(where: str, error: Exception | None) -> NoReturn:
    raise ConfigInvalid(
        f"expected to listen on {where}, got a refusal of the system",
        code="address-in-use",
        hint="another agent may be running, or the address is not this machine's",
    ) from error
