# SPDX-License-Identifier: Apache-2.0
"""The runtime port over CRI v1 on a unix socket: containerd, CRI-O and other runtimes with CRI v1.

Every call has a deadline of its own, because a connection proves nothing: a stopped containerd
accepts connections and never answers.  gRPC messages become core's types here and go no further.
This module never calls RemovePodSandbox or RemoveContainer.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.agent.runtime.port import (
    ERROR,
    TIMEOUT,
    UNAVAILABLE,
    ContainerLook,
    RuntimeVersion,
    SandboxLook,
    verify_full_id,
)
from breakglass.core import bounds
from breakglass.core.gates import Oci
from breakglass.core.names import quoted
from breakglass.core.pods import Container, ContainerState, ListedContainer, Pod, join_pods
from breakglass.errors import RuntimeTooOld, RuntimeUnavailable

CHANNEL_OPTIONS: Final = (
    # A subchannel pool of its own; otherwise channels to the same socket share one back-off.
    ("grpc.use_local_subchannel_pool", 1),
    # With the default back-off, calls work up to 78 s after the runtime is back; with this, 0.6 s.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Servers that are built on tonic refuse the socket's path as an authority (grpc/grpc#38142).
    ("grpc.default_authority", "localhost"),
    ("grpc.max_receive_message_length", bounds.MAX_RUNTIME_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),  # the ladder decides what to retry
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
    # No keepalive: containerd answers its pings with GOAWAY too_many_pings.
)

_SERVICE = "/runtime.v1.RuntimeService"
_METHODS: Mapping[str, tuple[type[Message], type[Message]]] = {
    "Version": (pb.VersionRequest, pb.VersionResponse),
    "Status": (pb.StatusRequest, pb.StatusResponse),
    "ListPodSandbox": (pb.ListPodSandboxRequest, pb.ListPodSandboxResponse),
    "ListContainers": (pb.ListContainersRequest, pb.ListContainersResponse),
    "ContainerStatus": (pb.ContainerStatusRequest, pb.ContainerStatusResponse),
    "PodSandboxStatus": (pb.PodSandboxStatusRequest, pb.PodSandboxStatusResponse),
    "StopPodSandbox": (pb.StopPodSandboxRequest, pb.StopPodSandboxResponse),
    "StopContainer": (pb.StopContainerRequest, pb.StopContainerResponse),
}
_STATES: Mapping[int, ContainerState] = {
    pb.CONTAINER_CREATED: ContainerState.CREATED,
    pb.CONTAINER_RUNNING: ContainerState.RUNNING,
    pb.CONTAINER_EXITED: ContainerState.EXITED,
}
_RUNC_SHIMS = ("io.containerd.runc.", "io.containerd.runtime.v1.linux")
_VIRTUAL = ("kata", "runsc", "gvisor", "firecracker", "hyperv")
_GRACE = "io.kubernetes.pod.terminationGracePeriod"
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)
_MAX_DETAILS_CHARS = 300
_UnaryCall: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[Message, Message]"


class CriRuntime:
    """The runtime that listens on a socket.

    Args:
        endpoint: the socket's absolute path; a leading "unix://" is accepted.

    The connection is made at the first call, in the running event loop.
    """

    def __init__(self, endpoint: Path | str) -> None:
        self._path = str(endpoint).removeprefix("unix://")
        self._channel: grpc.aio.Channel | None = None
        self._calls: dict[str, _UnaryCall] = {}

    async def pods(self) -> tuple[Pod, ...]:
        """Return all pods with all their containers, from the runtime's two lists."""
        # A call is sent as soon as it is made, so both lists take the time of one.
        pods_call = self._ask("ListPodSandbox", pb.ListPodSandboxRequest())
        containers_call = self._ask("ListContainers", pb.ListContainersRequest())
        try:
            sandboxes = cast("pb.ListPodSandboxResponse", await _answer(pods_call))
            containers = cast("pb.ListContainersResponse", await _answer(containers_call))
        finally:
            pods_call.call.cancel()
            containers_call.call.cancel()
        return join_pods(map(_sandbox, sandboxes.items), map(_listed, containers.containers))

    async def container(self, container_id: str) -> ContainerLook | None:
        """Return one container as it is now, or None when it is gone."""
        verify_full_id(container_id)
        request = pb.ContainerStatusRequest(container_id=container_id, verbose=True)
        try:
            reply = await self._call("ContainerStatus", request)
        except _NotFoundError:
            return None
        found = cast("pb.ContainerStatusResponse", reply)
        return ContainerLook(
            state=_STATES.get(found.status.state, ContainerState.UNKNOWN),
            pid=_pid(_details(found.info)),
            exit_code=found.status.exit_code,
            reason=found.status.reason,
            started_ns=found.status.started_at,
            finished_ns=found.status.finished_at,
            image_ref=found.status.image_ref,
        )

    async def stop_container(self, container_id: str, *, timeout_s: int, deadline_s: float) -> None:
        """Ask for SIGTERM, and SIGKILL after `timeout_s`; a container that is gone is a success."""
        verify_full_id(container_id)
        if deadline_s <= timeout_s:
            raise ValueError("expected a deadline beyond the timeout")
        request = pb.StopContainerRequest(container_id=container_id, timeout=timeout_s)
        try:
            await self._call("StopContainer", request, deadline_s=deadline_s)
        except _NotFoundError:
            return

    async def sandbox(self, sandbox_id: str) -> SandboxLook | None:
        """Return one sandbox as it is now, or None when it is gone."""
        verify_full_id(sandbox_id)
        request = pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id, verbose=True)
        try:
            reply = await self._call("PodSandboxStatus", request)
        except _NotFoundError:
            return None
        found = cast("pb.PodSandboxStatusResponse", reply)
        details = _details(found.info)
        return SandboxLook(
            ready=found.status.state == pb.SANDBOX_READY,
            cgroup_parent=_text(details, "config", "linux", "cgroup_parent"),
            oci=_oci(details),
        )

    async def stop_sandbox(self, sandbox_id: str, *, deadline_s: float) -> None:
        """Ask to stop a sandbox; one that is gone is a success."""
        verify_full_id(sandbox_id)
        request = pb.StopPodSandboxRequest(pod_sandbox_id=sandbox_id)
        try:
            await self._call("StopPodSandbox", request, deadline_s=deadline_s)
        except _NotFoundError:
            return

    async def version(self) -> RuntimeVersion:
        """Return which runtime answers, and whether it reports itself ready."""
        reply = await self._call("Version", pb.VersionRequest(version="v1"))
        version = cast("pb.VersionResponse", reply)
        status = cast("pb.StatusResponse", await self._call("Status", pb.StatusRequest()))
        return RuntimeVersion(
            name=version.runtime_name,
            version=version.runtime_version,
            api=version.runtime_api_version,
            ready=any(
                one.type == "RuntimeReady" and one.status for one in status.status.conditions
            ),
        )

    async def close(self) -> None:
        """Close the connection; pending calls end with an error."""
        channel, self._channel = self._channel, None
        self._calls.clear()
        if channel is not None:
            await channel.close()

    async def _call(
        self, method: str, request: Message, *, deadline_s: float = bounds.RUNTIME_CALL_TIMEOUT_S
    ) -> Message:
        pending = self._ask(method, request, deadline_s=deadline_s)
        try:
            return await _answer(pending)
        finally:
            pending.call.cancel()

    def _ask(
        self, method: str, request: Message, *, deadline_s: float = bounds.RUNTIME_CALL_TIMEOUT_S
    ) -> "_PendingCall":
        call = self._multicallable(method)(request, timeout=deadline_s)
        return _PendingCall(method=method, call=call, deadline_s=deadline_s)

    def _multicallable(self, method: str) -> _UnaryCall:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(f"unix:{self._path}", CHANNEL_OPTIONS)
        if method not in self._calls:
            request, reply = _METHODS[method]
            self._calls[method] = self._channel.unary_unary(
                f"{_SERVICE}/{method}",
                request_serializer=request.SerializeToString,
                response_deserializer=reply.FromString,
            )
        return self._calls[method]


@dataclass(frozen=True, slots=True, kw_only=True)
class _PendingCall:
    """A call that was sent and has no answer yet."""

    method: str
    call: "grpc.aio.UnaryUnaryCall[Message, Message]"
    deadline_s: float


async def _answer(pending: _PendingCall) -> Message:
    try:
        return await pending.call
    except grpc.aio.AioRpcError as error:
        raise _translated(pending.method, error, pending.deadline_s) from error


class _NotFoundError(RuntimeUnavailable):
    """The runtime does not know this id; a call about one container takes it as an answer."""


def _translated(
    method: str, error: grpc.aio.AioRpcError, deadline_s: float
) -> RuntimeUnavailable | RuntimeTooOld:
    """Return our error for the runtime's error, whose text is quoted: short and printable."""
    status, said = error.code(), quoted((error.details() or "")[:_MAX_DETAILS_CHARS])
    match status:
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            message = f"the container runtime did not answer {method} within {deadline_s:g} s"
            return RuntimeUnavailable(message, code=TIMEOUT)
        case grpc.StatusCode.UNAVAILABLE:
            message = f"no container runtime answers {method}: {said}"
            return RuntimeUnavailable(message, code=UNAVAILABLE)
        case grpc.StatusCode.UNIMPLEMENTED:
            return RuntimeTooOld(f"the container runtime does not speak CRI v1: {said}")
        case grpc.StatusCode.NOT_FOUND:
            message = f"the container runtime does not know the id in {method}: {said}"
            return _NotFoundError(message, code=ERROR)
        case _:
            message = f"the container runtime failed {method}: {status.name} {said}"
            return RuntimeUnavailable(message, code=ERROR)


def _sandbox(item: pb.PodSandbox) -> Pod:
    return Pod(
        uid=item.metadata.uid,
        name=item.metadata.name,
        namespace=item.metadata.namespace,
        sandbox_id=item.id,
        attempt=item.metadata.attempt,
        ready=item.state == pb.SANDBOX_READY,
        labels=tuple(item.labels.items()),
        annotations=tuple(item.annotations.items()),
        created_ns=item.created_at,
    )


def _listed(item: pb.Container) -> ListedContainer:
    labels = item.labels
    return ListedContainer(
        container=Container(
            id=item.id,
            name=item.metadata.name,
            state=_STATES.get(item.state, ContainerState.UNKNOWN),
            attempt=item.metadata.attempt,
            image=item.image.image,
            image_ref=item.image_ref,
            created_ns=item.created_at,
            grace_s=_grace_s(item.annotations.get(_GRACE, "")),
        ),
        sandbox_id=item.pod_sandbox_id,
        uid=labels.get("io.kubernetes.pod.uid", ""),
        name=labels.get("io.kubernetes.pod.name", ""),
        namespace=labels.get("io.kubernetes.pod.namespace", ""),
    )


def _grace_s(text: str) -> int | None:
    return int(text) if _SECONDS.fullmatch(text) else None


def _details(info: Mapping[str, str]) -> Mapping[str, object]:
    """Return the JSON under "info" in a verbose status, which containerd and CRI-O give alike."""
    try:
        document = json.loads(info.get("info", ""))
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _pid(details: Mapping[str, object]) -> int | None:
    """Return the id of the container's first process; None when it is not given."""
    pid = details.get("pid")
    return pid if isinstance(pid, int) and not isinstance(pid, bool) and pid > 0 else None


def _text(details: Mapping[str, object], *keys: str) -> str:
    """Return the text under nested keys, "" when there is none."""
    value: object = details
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _oci(details: Mapping[str, object]) -> Oci:
    """Return which OCI runtime makes the pod's containers; unknown when it is not plainly given."""
    shim = _text(details, "runtimeType")
    if not shim:
        return Oci.UNKNOWN
    if not shim.startswith(_RUNC_SHIMS):
        return Oci.VIRTUAL_MACHINE if any(one in shim for one in _VIRTUAL) else Oci.UNKNOWN
    # Without a binary name of its own the runc shim runs "runc".
    given = _text(details, "runtimeOptions", "binary_name")  # the JSON tag in containerd's options
    name = PurePosixPath(given or _text(details, "runtimeOptions", "BinaryName") or "runc").name
    return {"runc": Oci.RUNC, "crun": Oci.CRUN}.get(name, Oci.UNKNOWN)
