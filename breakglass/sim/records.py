# SPDX-License-Identifier: Apache-2.0
"""A simulated runtime's records of sandboxes and containers, and the CRI messages about them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar, cast

import grpc
from google.protobuf.message import Message

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.sim.faults import CriError

_M = TypeVar("_M", bound=Message)
_T = TypeVar("_T")

_START_ERROR = 128


@dataclass(slots=True, kw_only=True)
class SimSandbox:
    """A sandbox, which is ready or not ready."""

    id: str
    config: pb.PodSandboxConfig
    created_ns: int
    pid: int = 0
    handler: str = ""
    ready: bool = True

    @property
    def uid(self) -> str:
        """Its pod's UID."""
        return self.config.metadata.uid


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """The process of a container or a sandbox, as the kernel knows it."""

    id: str
    uid: str
    pid: int


@dataclass(slots=True, kw_only=True)
class SimContainer:
    """A container, and when and how its process will end, if that is known.

    Attributes:
        signalled: whether TERM was sent to it.
        ends_ns: when its process ends, with the exit code `ends_with`.
        kill_ns: when the runtime kills it, even if no caller waits any more.
        stuck: whether its process is in D state, so that no signal kills it.
        over: whether its process has ended, even if the runtime has not noticed.
        log: the signals that were sent to it.
    """

    id: str
    sandbox_id: str
    config: pb.ContainerConfig
    created_ns: int
    pid: int
    state: int = pb.CONTAINER_CREATED
    started_ns: int = 0
    finished_ns: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    signalled: bool = False
    log_path: str = ""
    ends_ns: int | None = None
    ends_with: int = 0
    kill_ns: int | None = None
    stuck: bool = False
    over: bool = False
    log: list[str] = field(default_factory=list)

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self.state == pb.CONTAINER_RUNNING

    def end_at(self, at_ns: int, code: int) -> None:
        """End it at that time, unless it ends earlier."""
        if self.ends_ns is None or at_ns < self.ends_ns:
            self.ends_ns, self.ends_with = at_ns, code

    def fail_to_start(self, at_ns: int, message: str) -> None:
        """Become a container whose start failed, as runtimes show one."""
        self.state, self.finished_ns = pb.CONTAINER_EXITED, at_ns
        self.exit_code, self.reason, self.message = _START_ERROR, "StartError", message

    def pass_time(self, now_ns: int, notice_ns: int) -> None:
        """End its process if `ends_ns` has passed; the runtime notices it `notice_ns` later."""
        if not self.running or self.stuck or self.ends_ns is None or self.ends_ns > now_ns:
            return
        self.over = True
        if self.ends_ns + notice_ns <= now_ns:
            self.state = pb.CONTAINER_EXITED
            self.finished_ns, self.exit_code = self.ends_ns, self.ends_with
            self.reason = "Error" if self.ends_with else "Completed"


def found(table: Mapping[str, _T], wanted: str) -> _T:
    """Return the record of an id or of any unique prefix, as all runtimes resolve them."""
    if not wanted:
        raise CriError(grpc.StatusCode.UNKNOWN, "prefix can't be empty")
    fitting = [one for known, one in table.items() if known.startswith(wanted)]
    if len(fitting) != 1:
        raise CriError(grpc.StatusCode.NOT_FOUND, f'an error occurred: "{wanted}": not found')
    return fitting[0]


def copied(message: _M) -> _M:
    """Return a copy of a message, because its sender may change it later."""
    made = type(message)()
    made.CopyFrom(message)
    return made


def sandbox_item(sandbox: SimSandbox) -> pb.PodSandbox:
    """Return a sandbox as ListPodSandbox shows it."""
    return pb.PodSandbox(
        id=sandbox.id,
        metadata=sandbox.config.metadata,
        state=pb.SANDBOX_READY if sandbox.ready else pb.SANDBOX_NOTREADY,
        created_at=sandbox.created_ns,
        labels=sandbox.config.labels,
        annotations=sandbox.config.annotations,
        runtime_handler=sandbox.handler,
    )


def sandbox_status(sandbox: SimSandbox) -> pb.PodSandboxStatus:
    """Return a sandbox as PodSandboxStatus shows it."""
    return pb.PodSandboxStatus(
        id=sandbox.id,
        metadata=sandbox.config.metadata,
        state=pb.SANDBOX_READY if sandbox.ready else pb.SANDBOX_NOTREADY,
        created_at=sandbox.created_ns,
        labels=sandbox.config.labels,
        annotations=sandbox.config.annotations,
        runtime_handler=sandbox.handler,
    )


def sandbox_info(sandbox: SimSandbox, options: Mapping[str, str | bool]) -> str:
    """Return the verbose status of a sandbox, as containerd gives it."""
    config = sandbox.config
    return json.dumps(
        {
            "pid": sandbox.pid if sandbox.ready else 0,
            "processStatus": "running" if sandbox.ready else "deleted",
            "runtimeHandler": sandbox.handler,
            "runtimeType": "io.containerd.runc.v2",
            "runtimeOptions": dict(options),
            "config": {
                "metadata": {
                    "name": config.metadata.name,
                    "uid": config.metadata.uid,
                    "namespace": config.metadata.namespace,
                },
                "labels": dict(config.labels),
                "annotations": dict(config.annotations),
                "linux": {"cgroup_parent": config.linux.cgroup_parent},
            },
        }
    )


def container_item(one: SimContainer) -> pb.Container:
    """Return a container as ListContainers shows it."""
    return pb.Container(
        id=one.id,
        pod_sandbox_id=one.sandbox_id,
        metadata=one.config.metadata,
        image=one.config.image,
        image_ref=image_ref(one.config.image.image),
        state=cast("pb.ContainerState", one.state),
        created_at=one.created_ns,
        labels=one.config.labels,
        annotations=one.config.annotations,
    )


def container_status(one: SimContainer) -> pb.ContainerStatus:
    """Return a container as ContainerStatus shows it."""
    return pb.ContainerStatus(
        id=one.id,
        metadata=one.config.metadata,
        state=cast("pb.ContainerState", one.state),
        created_at=one.created_ns,
        started_at=one.started_ns,
        finished_at=one.finished_ns,
        exit_code=one.exit_code,
        image=one.config.image,
        image_ref=image_ref(one.config.image.image),
        reason=one.reason,
        message=one.message,
        labels=one.config.labels,
        annotations=one.config.annotations,
        log_path=one.log_path,
    )


def image_ref(image: str) -> str:
    """Return the digest of an image."""
    return f"sha256:{hashlib.sha256(image.encode()).hexdigest()}"
