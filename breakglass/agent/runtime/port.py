# SPDX-License-Identifier: Apache-2.0
"""The port to the container runtime: what the agent asks of it, in core's types.

Rules for every implementation, held by one conformance suite (tests/contract/test_runtime.py):

- every call returns or raises within its own deadline, whatever the runtime does;
- an id that is not the full 64 hex digits is refused before any call: runtimes resolve prefixes,
  and one character has stopped a pod;
- NOT_FOUND means that the container is gone: an answer, not an error;
- a call that returns proves nothing about a container; only a new call of `pods` or `container`
  does;
- nothing is ever removed: exited containers make kubelet wait before it tries again.

Errors: `RuntimeUnavailable` (codes runtime-unavailable: no runtime answers; runtime-timeout: no
answer before the deadline; runtime-error: it answered with an error) and `RuntimeTooOld`.
"""

import re
from dataclasses import dataclass
from typing import Protocol

from breakglass.core.gates import Oci
from breakglass.core.names import quoted
from breakglass.core.pods import ContainerState, Pod
from breakglass.errors import RuntimeUnavailable

TIMEOUT = "runtime-timeout"
UNAVAILABLE = "runtime-unavailable"
ERROR = "runtime-error"

_FULL_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeVersion:
    """Which runtime answers; `ready` is what its Status reports."""

    name: str
    version: str
    api: str
    ready: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerLook:
    """One container at one moment.

    Attributes:
        pid: its first process, if the runtime gave it.
        reason: why it ended; "StartError" when it never ran.
        started_ns, finished_ns: Unix time by the runtime's clock; 0 when it has not happened.
        image_ref: the image's digest as the runtime reports it.
    """

    state: ContainerState
    pid: int | None
    exit_code: int
    reason: str
    started_ns: int = 0
    finished_ns: int = 0
    image_ref: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLook:
    """One sandbox at one moment; `cgroup_parent` "" and `oci` unknown when not given."""

    ready: bool
    cgroup_parent: str
    oci: Oci


class Runtime(Protocol):
    """The container runtime of this node."""

    async def pods(self) -> tuple[Pod, ...]:
        """Return all pods and their containers as they are now."""
        ...

    async def container(self, container_id: str) -> ContainerLook | None:
        """Return one container as it is now, or None when it is gone."""
        ...

    async def stop_container(self, container_id: str, *, timeout_s: int, deadline_s: float) -> None:
        """Ask for SIGTERM, and SIGKILL after `timeout_s`; wait for the answer until `deadline_s`.

        The deadline must exceed the timeout: containerd sends no SIGKILL once its caller has gone.
        """
        ...

    async def sandbox(self, sandbox_id: str) -> SandboxLook | None:
        """Return one sandbox as it is now, or None when it is gone."""
        ...

    async def stop_sandbox(self, sandbox_id: str, *, deadline_s: float) -> None:
        """Ask to stop a sandbox and its network; wait for the answer until `deadline_s`."""
        ...

    async def version(self) -> RuntimeVersion:
        """Return which runtime answers, and whether it is ready."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


def verify_full_id(container_id: str) -> None:
    """Raise `RuntimeUnavailable` unless this is a full container or sandbox id."""
    if not _FULL_ID.fullmatch(container_id):
        got = quoted(container_id)
        raise RuntimeUnavailable(
            f"refused the id {got}: not a full id of 64 hex digits", code=ERROR
        )
