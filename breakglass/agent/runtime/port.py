# SPDX-License-Identifier: Apache-2.0
"""The port to a container runtime: what the agent asks of one, in core's words.

Rules for every implementation, held by one conformance suite (tests/contract/test_runtime.py):

- every call returns or raises within its own deadline, whatever the runtime does;
- an id that is not the full 64 hex digits is refused before any call: runtimes resolve prefixes,
  and one character has stopped a pod;
- NOT_FOUND means the container is gone; it is an answer, not an error;
- a return without an error proves nothing about a container: only a fresh `pods` or `container`
  does;
- nothing is ever removed: exited containers are what makes kubelet wait before it tries again.

Errors: `RuntimeUnavailable` (codes runtime-unavailable: nobody answers; runtime-timeout: not in
time; runtime-error: it answered with an error) and `RuntimeTooOld`.
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
    """Which runtime answers; `ready` is what it says of itself in its Status."""

    name: str
    version: str
    api: str
    ready: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerLook:
    """One container at one moment.

    Attributes:
        pid: its first process where the runtime told it.
        reason: why it ended; "StartError" where it never ran.
        started_ns, finished_ns: Unix time by the runtime; 0 for not at all.
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
    """One sandbox at one moment; `cgroup_parent` is "" and `oci` unknown where nothing was told."""

    ready: bool
    cgroup_parent: str
    oci: Oci


class Runtime(Protocol):
    """A container runtime on this node."""

    async def pods(self) -> tuple[Pod, ...]:
        """Return all pods with all their containers, as they are now."""
        ...

    async def container(self, container_id: str) -> ContainerLook | None:
        """Return one container as it is now, or None when it is gone."""
        ...

    async def stop_container(self, container_id: str, *, timeout_s: int, deadline_s: float) -> None:
        """Ask for TERM, and KILL after `timeout_s`; wait at most `deadline_s` for the answer.

        The deadline must exceed the timeout: containerd never kills once its caller has gone.
        """
        ...

    async def sandbox(self, sandbox_id: str) -> SandboxLook | None:
        """Return one sandbox as it is now, or None when it is gone."""
        ...

    async def stop_sandbox(self, sandbox_id: str, *, deadline_s: float) -> None:
        """Ask for a sandbox's end, its network's included; wait at most `deadline_s`."""
        ...

    async def version(self) -> RuntimeVersion:
        """Return which runtime answers."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


def verify_full_id(container_id: str) -> None:
    """Raise `RuntimeUnavailable` unless this is a full id."""
    if not _FULL_ID.fullmatch(container_id):
        got = quoted(container_id)
        raise RuntimeUnavailable(f"expected a full id of 64 hex digits, got {got}", code=ERROR)
