# SPDX-License-Identifier: Apache-2.0
"""The agent's listeners: the unix socket and the mTLS port, their bounds, and failed handshakes.

The two are independent: while this machine does not have the address of the mTLS port yet, as at
boot, the agent serves the socket and keeps holds.

A failed TLS handshake never becomes a call, so the service does not see it.  gRPC writes the reason
to standard error.  `HandshakeReader` reads it there and records each failed handshake as a refusal
with a reason of its own.  The wording is gRPC's: an unknown line still goes to the agent's log.
"""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import grpc
import structlog

from breakglass.agent.command.refusals import Refusals, refusal
from breakglass.agent.config import Config, NodeIdentity
from breakglass.agent.serve.handlers import handlers
from breakglass.agent.serve.service import Service
from breakglass.core import bounds
from breakglass.core.reasons import Reason
from breakglass.errors import ConfigInvalid

_STDERR = 2
_ADDRESS_EVERY_S = 0.5  # how often an address is tried that this machine does not have yet
_FAILED = "Handshake failed"
_WHY = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": (Reason.TLS_NO_CERTIFICATE, "no certificate"),
    "CERTIFICATE_VERIFY_FAILED": (Reason.TLS_UNTRUSTED, "a certificate of another authority"),
    "certificate signature failure": (Reason.TLS_UNTRUSTED, "a certificate of another authority"),
}
_SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", bounds.MAX_REQUEST_BYTES),
    ("grpc.max_metadata_size", bounds.MAX_METADATA_BYTES),
    ("grpc.max_concurrent_streams", bounds.MAX_CONCURRENT_RPCS),
    ("grpc.max_allowed_incoming_connections", bounds.MAX_CONNECTIONS),
    ("grpc.server_handshake_timeout_ms", bounds.HANDSHAKE_TIMEOUT_MS),
    ("grpc.max_connection_idle_ms", 10 * 60 * 1_000),
    ("grpc.max_connection_age_ms", 60 * 60 * 1_000),
    ("grpc.max_connection_age_grace_ms", 60 * 60 * 1_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.so_reuseport", 0),  # a second process must not be able to share our port
    ("grpc.enable_http_proxy", 0),
)


class HandshakeReader:
    """Reads failed handshakes from gRPC's standard error, which it redirects while it runs."""

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals
        self._log = structlog.get_logger("grpc")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Redirect standard error to this reader, and restore it at the end."""
        read_end, write_end = os.pipe()
        kept = os.dup(_STDERR)
        reader = asyncio.StreamReader(limit=bounds.MAX_STDERR_LINE_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb")
        )
        # A full pipe must never block gRPC: gRPC loses a line instead.
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
            except ValueError:  # longer than the bound: drop it
                continue
            if not line:
                return
            await self._handle(line.decode("ascii", "backslashreplace").strip())

    async def _handle(self, line: str) -> None:
        self._log.info("gRPC wrote to stderr", line=line)
        if _FAILED not in line:
            return
        known = (found for mark, found in _WHY.items() if mark in line)
        reason, have = next(known, (Reason.TLS_FAILED, "a failed handshake"))
        refused = refusal(reason, "a TLS 1.3 handshake with a courier's certificate", have)
        await self._refusals.record(refused, b"", peer="stranger")


class _TlsListener:
    """The mTLS listener; at boot its address may not be there yet."""

    def __init__(self, config: Config, identity: NodeIdentity, service: Service) -> None:
        self._config = config
        self._identity = identity
        self._service = service
        self._server: grpc.aio.Server | None = None
        self._log = structlog.get_logger("listeners")
        self.address = ""

    @property
    def is_awaited(self) -> bool:
        """Whether it waits for an address that this machine does not have yet."""
        return bool(self._config.address) and self._server is None

    def bind(self) -> None:
        """Bind the port, unless no address is configured or this machine does not have it yet.

        Raises:
            ConfigInvalid: the port is in use, or must not be bound.
        """
        where = self._config.address
        if not where or _is_missing(where):
            return
        server = _server(self._service)
        credentials = grpc.ssl_server_credentials(
            [(self._identity.tls_key, self._identity.tls_certificate)],
            root_certificates=self._identity.tls_ca,
            require_client_auth=True,
        )
        port = _bind(lambda: server.add_secure_port(where, credentials), where)
        self._server, self.address = server, f"{where.rpartition(':')[0]}:{port}"

    async def serve(self) -> None:
        """Serve on the bound port; without one, wait until the address is there."""
        if self.is_awaited:
            self._log.warning("waiting for the address", address=self._config.address)
            await self._wait_bound()
            self._log.info("listening", address=self.address)
        if self._server is not None:
            await self._server.start()

    async def _wait_bound(self) -> None:
        while True:
            await asyncio.sleep(_ADDRESS_EVERY_S)
            with contextlib.suppress(ConfigInvalid):
                self.bind()
            if not self.is_awaited:
                return

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            await self._server.stop(grace=None)


@contextlib.asynccontextmanager
async def open_listeners(
    config: Config,
    identity: NodeIdentity,
    service: Service,
    refusals: Refusals,
    begin: Callable[[], Awaitable[None]],
) -> AsyncIterator[str]:
    """Serve on the unix socket and, if an address is configured, on mTLS; yield the TCP address.

    `begin` runs when both are bound, before the first call can come.  If this machine does not have
    the address yet, the socket is served meanwhile, and "" is yielded.

    Raises:
        ConfigInvalid: another process has the socket or the port, or it must not be bound.
    """
    local, remote = _server(service), _TlsListener(config, identity, service)
    _prepare_socket(config.socket)
    mask = os.umask(0o177)
    try:
        _bind(lambda: local.add_insecure_port(f"unix:{config.socket}"), str(config.socket))
    finally:
        os.umask(mask)
    remote.bind()
    async with HandshakeReader(refusals).running():
        await begin()
        await local.start()
        serving = asyncio.create_task(remote.serve())
        try:
            if not remote.is_awaited:
                await serving
            yield remote.address
        finally:
            serving.cancel()
            await remote.stop()
            await local.stop(grace=None)
            config.socket.unlink(missing_ok=True)


def _server(service: Service) -> grpc.aio.Server:
    server = grpc.aio.server(
        maximum_concurrent_rpcs=bounds.MAX_CONCURRENT_RPCS, options=_SERVER_OPTIONS
    )
    server.add_generic_rpc_handlers(handlers(service))
    return server


def _is_missing(where: str) -> bool:
    """Return whether this machine lacks an address: gRPC fails without giving the reason."""
    host, _, port = where.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            line.bind((host, int(port)))
        except OSError as error:
            return error.errno == errno.EADDRNOTAVAIL
    return False


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
        hint="another agent may be running, or another program has the place",
    ) from error
