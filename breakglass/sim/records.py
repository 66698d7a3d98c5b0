# SPDX-License-Identifier: Apache-2.0
"""What a simulated runtime remembers of sandboxes and containers, and how it tells of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar, cast

import grpc
from google.protobuf.message import Message

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.sim.faults import CriError

_M = TypeVar("_M", bound=Message)
_T = TypeVar("_T")


@dataclass(slots=True, kw_only=True)
class Sandbox:
    """A sandbox; it is never more than ready or not."""

    id: str
    config: pb.PodSandboxConfig
    created_ns: int
    ready: bool = True


@dataclass(slots=True, kw_only=True)
class Container:
    """A container, with when and how its process will end as far as that is settled.

    Attributes:
        signalled: whether it was ever asked to end.
        ends_ns: when its process ends, with `ends_with` as its exit code.
        kill_ns: when the runtime kills it whoever still waits for that.
        log: the signals it was sent.
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
    signalled: bool = False
    ends_ns: int | None = None
    ends_with: int = 0
    kill_ns: int | None = None
    log: list[str] = field(default_factory=list)

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self.state == pb.CONTAINER_RUNNING

    def end_at(self, at_ns: int, code: int) -> None:
        """Let it end then, unless it ends before."""
        if self.ends_ns is None or at_ns < self.ends_ns:
            self.ends_ns, self.ends_with = at_ns, code


def found(table: Mapping[str, _T], wanted: str) -> _T:
    """Return what an id or any unique prefix of one stands for, as all runtimes do."""
    if not wanted:
        raise CriError(grpc.StatusCode.UNKNOWN, "prefix can't be empty")
    fitting = [one for known, one in table.items() if known.startswith(wanted)]
    if len(fitting) != 1:
        raise CriError(grpc.StatusCode.NOT_FOUND, f'an error occurred: "{wanted}": not found')
    return fitting[0]


def copied(message: _M) -> _M:
    """Return a copy of a message, which its sender may change later."""
    made = type(message)()
    made.CopyFrom(message)
    return made


def sandbox_item(sandbox: Sandbox) -> pb.PodSandbox:
    """Return a sandbox as a list shows it."""
    return pb.PodSandbox(
        id=sandbox.id,
        metadata=sandbox.config.metadata,
        state=pb.SANDBOX_READY if sandbox.ready else pb.SANDBOX_NOTREADY,
        created_at=sandbox.created_ns,
        labels=sandbox.config.labels,
        annotations=sandbox.config.annotations,
    )


def container_item(one: Container) -> pb.Container:
    """Return a container as a list shows it."""
    return pb.Container(
        id=one.id,
        pod_sandbox_id=one.sandbox_id,
        metadata=one.config.metadata,
        image=one.config.image,
        image_ref=one.config.image.image,
        state=cast("pb.ContainerState", one.state),
        created_at=one.created_ns,
        labels=one.config.labels,
        annotations=one.config.annotations,
    )


def container_status(one: Container) -> pb.ContainerStatus:
    """Return a container as its status shows it."""
    return pb.ContainerStatus(
        id=one.id,
        metadata=one.config.metadata,
        state=cast("pb.ContainerState", one.state),
        created_at=one.created_ns,
        started_at=one.started_ns,
        finished_at=one.finished_ns,
        exit_code=one.exit_code,
        image=one.config.image,
        reason=one.reason,
        labels=one.config.labels,
        annotations=one.config.annotations,
    )
