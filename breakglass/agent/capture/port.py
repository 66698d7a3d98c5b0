# SPDX-License-Identifier: Apache-2.0
"""The port to what keeps captures: what a stop asks for before a pod's first kill."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from breakglass.core.pods import Pod


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What was kept of a pod.

    Attributes:
        sha256: of the stored file's bytes; "" when nothing could be kept.
        size: the file's bytes.
        ms: how long the caller waited.
        note: why it is missing or cut, "" otherwise.
    """

    sha256: str
    size: int
    ms: int
    note: str


class Captures(Protocol):
    """Keeps captures of pods."""

    def measure(self) -> None:
        """Count what is stored already; it may block, and never raises."""
        ...

    async def capture(
        self, pod: Pod, *, command_id: str, pids: tuple[int, ...], group: Path | None
    ) -> Capture:
        """Return what was kept of a pod; it never raises, and ends at its timeout.

        Args:
            pod: as it was last seen.
            command_id: what it is stopped by.
            pids: processes of the pod, the first of which is asked for its connections.
            group: the pod's control group in the cgroup2 tree, or None.
        """
        ...
