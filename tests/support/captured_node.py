# SPDX-License-Identifier: Apache-2.0
"""A node with one pod whose facts are captured: log folders, a /proc, and a store."""

import asyncio
import json
from pathlib import Path
from typing import Any

from breakglass.agent.capture.port import Capture
from breakglass.agent.capture.store import CaptureStore
from breakglass.agent.clock import SystemClock
from breakglass.core.pods import Container, ContainerState, Pod

UID = "12345678-1234-4123-8123-123456789abc"
COMMAND = "019abcde-0000-7000-8000-000000000001"
POD = Pod(
    uid=UID,
    name="telemetry-x2b4z",
    namespace="observability",
    sandbox_id="5" * 64,
    containers=(
        Container(id="a" * 64, name="agent", state=ContainerState.RUNNING, image="img\n\u00e9"),
        Container(id="b" * 64, name="side", state=ContainerState.EXITED, attempt=3),
    ),
)
PATIENCE_S = 60.0


class Node:
    """A folder of pod logs, a /proc, and a store of captures."""

    def __init__(self, root: Path) -> None:
        self.logs = root / "pods"
        self.own = self.logs / f"{POD.namespace}_{POD.name}_{POD.uid}"
        self.own.mkdir(parents=True)
        self.directory = root / "state" / "evidence"
        self.clock = SystemClock()
        self.store = CaptureStore(self.directory, pod_logs=self.logs, clock=self.clock)

    def logged(self, container: str, lines: int, *, attempt: int = 0) -> None:
        """Write lines to a container's log."""
        (self.own / container).mkdir(exist_ok=True)
        text = "".join(f"{attempt}: line {number}\n" for number in range(lines))
        (self.own / container / f"{attempt}.log").write_text(text)

    async def captures(
        self,
        pod: Pod = POD,
        *,
        command_id: str = COMMAND,
        pids: tuple[int, ...] = (),
        group: Path | None = None,
    ) -> Capture:
        """Capture the pod; check that the caller waited no longer than the timeout."""
        async with asyncio.timeout(2 * PATIENCE_S):
            return await self.store.capture(pod, command_id=command_id, pids=pids, group=group)

    def kept(self, uid: str = UID) -> dict[str, Any]:
        """Return the document in a pod's stored file."""
        document: dict[str, Any] = json.loads(self.path(uid).read_bytes())
        return document

    def path(self, uid: str = UID) -> Path:
        """Return the path of a pod's stored file."""
        return self.directory / COMMAND / f"{uid}.json"

    def files(self) -> list[str]:
        """Return the names of all files in the store."""
        return sorted(one.name for one in self.directory.glob("*/*"))
