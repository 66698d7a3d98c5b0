# SPDX-License-Identifier: Apache-2.0
"""The port to the store of captures: a stop captures each pod before its first kill."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from breakglass.core.pods import Pod


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What was kept of a pod.

    Attributes:
        sha256: of the stored file; "" when nothing was kept.
        size: of the stored file, in bytes.
        ms: how long the caller waited.
        note: why the capture is missing or incomplete; "" otherwise.
    """

    sha256: str
    size: int
    ms: int
    note: str


class Captures(Protocol):
    """Captures pods."""

    def measure(self) -> None:
        """Count the bytes that are stored already; it may block, and never raises."""
        ...

    async def capture(
        self, pod: Pod, *, command_id: str, pids: tuple[int, ...], group: Path | None
    ) -> Capture:
        """Capture a pod and return what was kept; it never raises and ends at its timeout.

        Args:
            pod: as it was last seen.
            command_id: the id of the command that stops the pod.
            pids: processes of the pod; its connections are read through the first that allows it.
            group: the pod's control group in the cgroup2 tree, or None.
        """
        ...
