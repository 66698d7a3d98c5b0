# SPDX-License-Identifier: Apache-2.0
"""A real agent in a process of its own, with its files in a folder, and clients to its door.

`NodeFiles` writes what `node bundle` would; `AgentProcess` starts `breakglass-agent serve` (or a
program of the test's that wraps it) and reads its log lines.  Only the process started here is
ended.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message

from breakglass._pb.breakglass.v1 import agent_pb2 as pb
from breakglass.core.checkpoint import LogSigner
from breakglass.core.entries import Entry, parse_entry
from breakglass.fleet.home.identity import (
    TlsIdentity,
    make_ca,
    make_courier,
    make_node,
    server_name,
    spki_sha256,
)
from tests.support import worlds
from tests.support.organisation import Organisation

_Reply = TypeVar("_Reply", bound=Message)
READY_S = 60.0
CALL_S = 60.0
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Tls:
    """A certificate authority, a node's identity and couriers by name."""

    ca: TlsIdentity
    node: TlsIdentity
    couriers: dict[str, TlsIdentity]

    @classmethod
    def make(cls, node: str = "n1", cluster: str = "prod-a", couriers: str = "bastion") -> "Tls":
        """Return a fresh authority with a node and its couriers."""
        ca = make_ca("example", now=NOW)
        return cls(
            ca=ca,
            node=make_node(ca, node=node, cluster=cluster, ip="127.0.0.1", now=NOW),
            couriers={name: make_courier(ca, name, now=NOW) for name in couriers.split()},
        )

    @property
    def pins(self) -> dict[str, str]:
        """The couriers' pins, as an organisation's trust lists them."""
        return {name: spki_sha256(one.certificate) for name, one in self.couriers.items()}


@dataclass(kw_only=True)
class NodeFiles:
    """A node's folder: agent.toml and all it names."""

    folder: Path
    organisation: Organisation
    tls: Tls
    runtime: Path
    name: str = "n1"
    cluster: str = "prod-a"
    pool: str = "gpu"
    protected: tuple[str, ...] = ("kube-system/kube-proxy",)
    seed: bytes = bytes(range(32))
    pod_logs: str = "pods"

    @property
    def config(self) -> Path:
        """The path of agent.toml."""
        return self.folder / "agent.toml"

    @property
    def socket(self) -> Path:
        """The path of the agent's unix socket."""
        return self.folder / "run" / "agent.sock"

    @property
    def log_directory(self) -> Path:
        """The folder of the audit log."""
        return self.folder / "state" / "log"

    @property
    def vkey(self) -> str:
        """The key that verifies this node's checkpoints."""
        origin = f"breakglass/{self.organisation.domain}/{self.cluster}/{self.name}"
        return LogSigner(origin=origin, seed=self.seed).vkey

    def write(self) -> Self:
        """Write every file; return this."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "trust.json").write_bytes(self.organisation.trust_text)
        (self.folder / "key.pem").write_bytes(self.tls.node.key)
        (self.folder / "cert.pem").write_bytes(self.tls.node.certificate)
        (self.folder / "ca.pem").write_bytes(self.tls.ca.certificate)
        (self.folder / "log.key").write_text(self.seed.hex() + "\n")
        quoted = ", ".join(f'"{one}"' for one in self.protected)
        self.config.write_text(
            f'[node]\nname = "{self.name}"\ndomain = "{self.organisation.domain}"\n'
            f'cluster = "{self.cluster}"\npool = "{self.pool}"\n'
            f'[listen]\naddress = "127.0.0.1:0"\nsocket = "run/agent.sock"\n'
            f'[tls]\nkey = "key.pem"\ncertificate = "cert.pem"\nca = "ca.pem"\n'
            f'[trust]\nfile = "trust.json"\nsha256 = "{self.organisation.trust.sha256}"\n'
            f'[state]\ndirectory = "state"\nlog_key = "log.key"\n'
            f'[runtime]\nendpoint = "{self.runtime}"\n'
            f'[clock]\nskew = "5m"\n'
            f"[protected]\nworkloads = [{quoted}]\n"
            f'[watch]\npod_logs = "{self.pod_logs}"\n'
        )
        return self


class AgentProcess:
    """A running agent.

    Args:
        files: the node's folder.
        program: what to run in place of the agent's own entry, before `serve --config FILE`.
        prefix: a command to run it under, such as nsenter or strace.
    """

    def __init__(
        self,
        files: NodeFiles,
        *,
        program: Sequence[str] = ("-m", "breakglass.cli.agent"),
        prefix: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.files = files
        self.lines: list[dict[str, Any]] = []
        worlds.show("log lines of the agent", lambda: map(str, self.lines))
        self._fresh: queue.Queue[dict[str, Any]] = queue.Queue()
        self.process = subprocess.Popen(
            [*prefix, sys.executable, *program, "serve", "--config", str(files.config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.address = ""

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                value = json.loads(line)
            except ValueError:
                value = {"event": "not json", "line": line}
            self.lines.append(value)
            self._fresh.put(value)
        self._fresh.put({"event": "end of output"})

    def wait_for(self, event: str, *, timeout_s: float = READY_S) -> dict[str, Any]:
        """Return the next log line with that event; fail when the agent ends before it."""
        while True:
            line = self._fresh.get(timeout=timeout_s)
            if line["event"] == event:
                return line
            if line["event"] == "end of output":
                raise AssertionError(f"the agent ended: {self.lines} {self.stderr()}")

    def wait_ready(self) -> Self:
        """Return this when the door is open."""
        self.address = self.wait_for("ready")["address"]
        return self

    def stderr(self) -> str:
        """Return what the agent wrote to standard error; it must have ended."""
        assert self.process.stderr is not None
        self.process.wait(timeout=READY_S)
        return self.process.stderr.read()

    def wait(self) -> int:
        """Return the exit status when the process has ended."""
        return self.process.wait(timeout=READY_S)

    def stop(self) -> int:
        """End the agent as systemd would, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=READY_S + 20)

    def kill(self) -> None:
        """End the agent as the kernel would."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=READY_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._reader.join(timeout=READY_S)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    # --- clients ---------------------------------------------------------------------------

    def local(self) -> "Door":
        """Return a client on the unix socket."""
        options = (*_OPTIONS, ("grpc.default_authority", "localhost"))
        return Door(grpc.insecure_channel(f"unix:{self.files.socket}", options=options))

    def remote(self, courier: TlsIdentity | None, *, ca: TlsIdentity | None = None) -> "Door":
        """Return a client on the mTLS port with a courier's identity, or without any."""
        name = server_name(node=self.files.name, cluster=self.files.cluster)
        credentials = grpc.ssl_channel_credentials(
            self.files.tls.node.certificate,
            courier.key if courier else None,
            courier.certificate if courier else None,
        )
        options = (*_OPTIONS, ("grpc.ssl_target_name_override", name))
        return Door(grpc.secure_channel(f"ipv4:{self.address}", credentials, options=options))


_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))


class Door:
    """A plain client, written apart from the product's own."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def call(self, method: str, request: Message, response: type[_Reply]) -> _Reply:
        """Make one unary call."""
        stub = self.channel.unary_unary(
            f"/breakglass.v1.Agent/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return stub(request, timeout=CALL_S)

    def submit(self, raw: bytes) -> list[pb.Progress]:
        """Deliver a signed file and return all that it was told."""
        return list(self.submitting(raw))

    def submitting(self, raw: bytes) -> Iterator[pb.Progress]:
        """Deliver a signed file and yield what it is told."""
        stub = self.channel.unary_stream(
            "/breakglass.v1.Agent/Submit",
            request_serializer=pb.SubmitRequest.SerializeToString,
            response_deserializer=pb.Progress.FromString,
        )
        return iter(stub(pb.SubmitRequest(signed_file=raw), timeout=CALL_S))

    def entries(self, first: int = 0) -> list[Entry]:
        """Return all entries of the node's log, parsed."""
        stub = self.channel.unary_stream(
            "/breakglass.v1.Agent/Entries",
            request_serializer=pb.EntriesRequest.SerializeToString,
            response_deserializer=pb.Entry.FromString,
        )
        found: list[Entry] = []
        while True:
            more = [
                parse_entry(one.entry)
                for one in stub(pb.EntriesRequest(first=first + len(found)), timeout=CALL_S)
            ]
            if not more:
                return found
            found += more
