# SPDX-License-Identifier: Apache-2.0
"""The gRPC service: bytes in, one procedure, recorded entries out.

No method acts on anything but `Submit`, and `Submit` acts only on what people signed: a courier may
deliver and read, and nothing else.  `handlers` says who may call what.

Messages are turned into values on the first line of each method.  Evidence leaves as the raw
entries with their proofs; nothing is described a second time.
"""

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, assert_never

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from breakglass import __version__
from breakglass._pb.breakglass.v1 import agent_pb2 as pb
from breakglass._pb.health.v1 import health_pb2
from breakglass.agent.clock import Clock
from breakglass.agent.command.procedure import NodeScope, Procedure
from breakglass.agent.command.refusals import refusal
from breakglass.agent.hold.counters import HoldCounters
from breakglass.agent.hold.coverage import Coverage
from breakglass.agent.log.journal import Journal
from breakglass.agent.pods.inventory import PodInventory
from breakglass.agent.runtime.port import Runtime
from breakglass.agent.serve.answers import held_pods, hold_message, ungated_pods
from breakglass.agent.serve.metrics import render_metrics
from breakglass.core import bounds
from breakglass.core.checkpoint import parse_checkpoint, parse_note
from breakglass.core.entries import render_instant
from breakglass.core.names import parse_id, quoted, render_time
from breakglass.core.pods import identify, is_protected
from breakglass.core.progress import Progress, ProgressKind
from breakglass.core.reasons import Reason
from breakglass.core.trust import Trust
from breakglass.errors import BadProof, Defect, Malformed, NodeError

SERVICE = "breakglass.v1.Agent"
HEALTH = "grpc.health.v1.Health"
_TLS = ("TLSv1.3", b"TLSv1.3")

CallContext: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of the agent that the service reads and delivers to."""

    node_scope: NodeScope
    trust: Trust
    journal: Journal
    procedure: Procedure
    runtime: Runtime
    inventory: PodInventory
    coverage: Coverage
    counters: HoldCounters
    clock: Clock
    is_ready: Callable[[], bool]

    def metrics_text(self) -> str:
        """Return this node's metrics as Prometheus text."""
        return render_metrics(
            self.journal.state,
            {hold.id: self.counters.now(hold) for hold in self.coverage.active},
            active=self.procedure.active,
            mono_ms=self.clock.monotonic_ms(),
            ungated=len(
                ungated_pods(self.coverage.active, self.journal.state.gates, self.inventory)
            ),
        )


class Service:
    """The methods of the agent."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._couriers = {one.spki_sha256: one.name for one in parts.trust.couriers}
        self._log = structlog.get_logger("service")

    async def submit(
        self, request: pb.SubmitRequest, context: CallContext
    ) -> AsyncIterator[pb.Progress]:
        """Deliver a signed file, and stream its steps."""
        raw = request.signed_file
        peer = await self._admit(context, raw)
        async for step in self._parts.procedure.deliver(raw, peer=peer):
            self._log_step(step, peer)
            yield self._progress(step)

    async def describe(self, _: pb.DescribeRequest, context: CallContext) -> pb.DescribeResponse:
        """Return this node's identity, trust, runtime, log checkpoint and clock."""
        await self._admit(context)
        parts, state = self._parts, self._parts.journal.state
        try:
            found = await parts.runtime.version()
            runtime, ready = f"{found.name} {found.version}", True
        except NodeError as error:
            runtime, ready = f"{error.stable_code}: {error.message}", False
        return pb.DescribeResponse(
            version=__version__,
            domain=parts.node_scope.domain,
            cluster=parts.node_scope.cluster,
            node=parts.node_scope.node,
            pool=parts.node_scope.pool,
            node_time=self._now(),
            trust_version=parts.trust.version,
            trust_sha256=parts.trust.sha256,
            log_key=parts.journal.log.vkey,
            checkpoint=parts.journal.log.checkpoint,
            runtime=runtime,
            runtime_ready=ready,
            protected=parts.node_scope.protected,
            active_commands=parts.procedure.active,
            time_floor=render_time(state.time_floor) if state.time_floor else "",
        )

    async def pods(self, _: pb.PodsRequest, context: CallContext) -> pb.PodsResponse:
        """List this node's pods, and the DaemonSet of each that a command could name."""
        await self._admit(context)
        try:
            pods = await self._parts.runtime.pods()
        except NodeError as error:
            await context.abort(
                grpc.StatusCode.UNAVAILABLE, f"{error.stable_code}: {error.message}"
            )
            raise
        found = []
        for pod in pods:
            identity = identify(pod)
            workload = f"{pod.namespace}/{identity.daemonset}" if identity.daemonset else ""
            found.append(
                pb.Pod(
                    namespace=pod.namespace,
                    name=pod.name,
                    uid=pod.uid,
                    daemonset=identity.daemonset or "",
                    revision=identity.revision or "",
                    state="running" if pod.live else "stopped",
                    containers=len(pod.containers),
                    running=sum(one.live for one in pod.containers),
                    protected=bool(workload)
                    and is_protected(workload, self._parts.node_scope.protected),
                    why_not=identity.why_not,
                )
            )
        return pb.PodsResponse(pods=found, node_time=self._now())

    async def outcome(self, request: pb.OutcomeRequest, context: CallContext) -> pb.OutcomeResponse:
        """Return what the log has of one command."""
        await self._admit(context)
        journal = self._parts.journal
        try:
            command = journal.state.commands.get(parse_id(request.id))
        except Malformed as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
            raise
        if command is None:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"expected a command accepted here, got {request.id}"
            )
            raise AssertionError
        finished = None if command.finished_at is None else self._receipt(command.finished_at)
        return pb.OutcomeResponse(
            state=str(command.phase),
            accepted=self._receipt(command.accepted_at),
            finished=finished,
            pods=[self._receipt(index) for _, index in command.pods],
            node_time=self._now(),
        )

    async def entries(
        self, request: pb.EntriesRequest, context: CallContext
    ) -> AsyncIterator[pb.Entry]:
        """Stream raw entries; the last one carries the checkpoint over all of them."""
        await self._admit(context)
        log = self._parts.journal.log
        checkpoint = log.checkpoint  # appends go on: use one size from here on
        size = parse_checkpoint(parse_note(checkpoint).text).size
        count = min(request.count or bounds.MAX_ENTRIES_PER_READ, bounds.MAX_ENTRIES_PER_READ)
        end = min(size, request.first + count)
        for index in range(request.first, end):
            last = checkpoint if index == end - 1 else b""
            yield pb.Entry(index=index, entry=log.read(index), checkpoint=last)

    async def consistency(
        self, request: pb.ConsistencyRequest, context: CallContext
    ) -> pb.ConsistencyResponse:
        """Prove that the log has only grown since it had `old_size` entries."""
        await self._admit(context)
        log = self._parts.journal.log
        checkpoint = log.checkpoint  # appends go on: use one size from here on
        size = parse_checkpoint(parse_note(checkpoint).text).size
        try:
            proof = log.consistency(request.old_size, size)
        except (BadProof, ValueError) as error:
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, str(error))
            raise
        return pb.ConsistencyResponse(proof=proof, checkpoint=checkpoint)

    async def holds(self, _: pb.HoldsRequest, context: CallContext) -> pb.HoldsResponse:
        """List the active holds: why, until when, with their counters and pods."""
        await self._admit(context)
        parts = self._parts
        mono_ms = parts.clock.monotonic_ms()
        held = [
            hold_message(
                hold,
                parts.journal,
                parts.counters.now(hold),
                parts.clock.now(),
                mono_ms,
                pods=held_pods(hold, parts.journal.state.gates, parts.inventory),
            )
            for hold in parts.coverage.active
        ]
        return pb.HoldsResponse(holds=held, node_time=self._now())

    async def metrics(self, _: pb.MetricsRequest, context: CallContext) -> pb.MetricsResponse:
        """Return this node's metrics as Prometheus text."""
        await self._admit(context)
        return pb.MetricsResponse(text=self._parts.metrics_text())

    async def check(
        self, request: health_pb2.HealthCheckRequest, context: CallContext
    ) -> health_pb2.HealthCheckResponse:
        """Answer the standard health check; an unknown service is NOT_FOUND."""
        await self._admit(context)
        if request.service not in {"", SERVICE}:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"expected {SERVICE}, got {quoted(request.service)}"
            )
        status = health_pb2.HealthCheckResponse.ServingStatus
        return health_pb2.HealthCheckResponse(
            status=status.SERVING if self._parts.is_ready() else status.NOT_SERVING
        )

    async def _admit(self, context: CallContext, raw: bytes = b"") -> str:
        """Return the caller's name for the log; end a call of a caller that the trust lacks."""
        if context.peer().startswith("unix:"):
            return "local"
        auth = context.auth_context()
        if not any(value in _TLS for value in auth.get("ssl_tls_version", ())):
            await self._turn_away(
                context, raw, Reason.TLS_VERSION, "TLS 1.3", "an older version", "unknown"
            )
        certificates = auth.get("x509_pem_cert", ())
        spki = _spki_sha256(next(iter(certificates), b""))
        # The name comes from the trust, never from the certificate: the caller chose the latter.
        name = self._couriers.get(spki)
        if name is None:
            have = spki or "no certificate"
            await self._turn_away(
                context, raw, Reason.COURIER_UNKNOWN, "a courier of the trust", have, spki
            )
        return f"courier {name}"

    async def _turn_away(
        self, context: CallContext, raw: bytes, reason: Reason, needed: str, have: str, spki: str
    ) -> None:
        refused = refusal(reason, needed, have)
        await self._parts.procedure.refusals.record(refused, raw, peer=f"stranger {spki[:16]}")
        self._log.warning("caller refused", code=str(reason), have=have)
        message = f"{reason}: expected {needed}, got {have}"
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, message)

    def _progress(self, step: Progress) -> pb.Progress:
        """Return a step as a message with its receipt."""
        message = pb.Progress(repeated=step.repeated, node_time=self._now())
        match step.kind:
            case ProgressKind.REFUSED:
                message.refused.CopyFrom(self._refusal(step))
            case ProgressKind.ACCEPTED:
                message.accepted.CopyFrom(self._receipt_of(step))
            case ProgressKind.POD:
                message.pod.CopyFrom(self._receipt_of(step))
            case ProgressKind.FINISHED:
                message.finished.CopyFrom(self._receipt_of(step))
            case _:
                assert_never(step.kind)
        return message

    def _refusal(self, step: Progress) -> pb.Refusal:
        """Return why a file was refused; without a receipt where the refusal was only counted."""
        refused = step.refused
        if refused is None:
            raise Defect("expected a refusal with its reason, got none")
        return pb.Refusal(
            code=str(refused.reason),
            needed=refused.needed,
            have=refused.have,
            hint=refused.hint,
            receipt=None if step.index is None else self._receipt(step.index),
        )

    def _receipt_of(self, step: Progress) -> pb.Receipt:
        if step.index is None:
            raise Defect(f"expected the entry of a step {step.kind}, got none")
        return self._receipt(step.index)

    def _receipt(self, index: int) -> pb.Receipt:
        receipt = self._parts.journal.receipt(index)
        return pb.Receipt(
            entry=receipt.entry,
            index=receipt.index,
            proof=receipt.proof,
            checkpoint=receipt.checkpoint,
        )

    def _log_step(self, step: Progress, peer: str) -> None:
        if step.refused is not None:
            self._log.warning("refused", code=str(step.refused.reason), peer=peer, entry=step.index)
        else:
            self._log.info(str(step.kind), peer=peer, entry=step.index, repeated=step.repeated)

    def _now(self) -> str:
        return render_instant(self._parts.clock.now())


def _spki_sha256(pem: bytes) -> str:
    try:
        key = x509.load_pem_x509_certificate(pem).public_key()
    except ValueError:
        return ""
    return hashlib.sha256(
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()
