# SPDX-License-Identifier: Apache-2.0
"""The agent that dies at one effect.

    python -m tests.support.crashing_agent EFFECT VERSION serve --config FILE

EFFECT is a kind of log entry, "stop" (the runtime's StopContainer), "set-limit" or "lift-limit"
(the kernel's limits); VERSION is "lost" (killed before it happened) or "landed" (it happened, and
then the kill).  The kill is SIGKILL to itself: nothing is flushed, closed or tidied.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from breakglass.agent.assembly import Ports
from breakglass.agent.config import load
from breakglass.agent.daemon import log_as_json, serve
from breakglass.agent.kernel.port import Kernel, PodGroup
from breakglass.agent.log.auditlog import AuditLog
from breakglass.agent.runtime.cri import CriRuntime
from breakglass.core.checkpoint import LogSigner
from breakglass.core.entries import KINDS, parse_entry
from breakglass.core.gates import Limit

STOP, SET_LIMIT, LIFT_LIMIT = "stop", "set-limit", "lift-limit"
ENTRIES = ("accepted", "planned", "pod", "finished")
EFFECTS = (*ENTRIES, STOP)  # of a stop without a hold
HOLDING = ("hold", "gate", SET_LIMIT, STOP, "pod", "finished")
ENDING = ("hold-ended", LIFT_LIMIT, "lifted", "finished")
# What no order of people is: a start and an end of the agent, what it merely sees or counts, or
# turns away.
NO_EFFECTS = frozenset(
    {
        "gated",
        *("started", "stopped", "trust", "clock", "repaired"),
        *("refused", "suppressed", "enforced"),
    }
)


def die() -> NoReturn:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


class DyingLog(AuditLog):
    """A log that kills the process around the append of one kind of entry."""

    def append(self, entry: bytes, **options: bool) -> int:
        """Append, and die before or after it where the effect is this kind."""
        effect, version = sys.argv[1:3]
        here = effect in KINDS and parse_entry(entry).kind == effect
        if here and version == "lost":
            die()
        index = super().append(entry, **options)
        if here:
            die()
        return index


class DyingRuntime(CriRuntime):
    """A runtime client that kills the process around its first StopContainer."""

    async def stop_container(self, container_id: str, *, timeout_s: int, deadline_s: float) -> None:
        """Stop, and die before or after it where the effect is the stop."""
        effect, version = sys.argv[1:3]
        if effect == STOP and version == "lost":
            die()
        await super().stop_container(container_id, timeout_s=timeout_s, deadline_s=deadline_s)
        if effect == STOP:
            die()


def dying_kernel(endpoint: Path) -> Kernel:
    """Return the machine's kernel, which kills the process around its first limit."""
    kernel = Ports().kernel(endpoint)
    effect, version = sys.argv[1:3]

    def around(act: Callable[[PodGroup, Limit], None]) -> Callable[[PodGroup, Limit], None]:
        def dying(group: PodGroup, limit: Limit) -> None:
            if version == "landed":
                act(group, limit)
            die()

        return dying

    if effect == SET_LIMIT:
        vars(kernel.limits)["set_limit"] = around(kernel.limits.set_limit)
    if effect == LIFT_LIMIT:
        vars(kernel.limits)["lift"] = around(kernel.limits.lift)
    return kernel


def open_log(directory: Path, signer: LogSigner) -> AuditLog:
    """Open the node's log as one that dies."""
    return DyingLog.open(directory, signer)


if __name__ == "__main__":
    log_as_json()
    ports = Ports(open_log=open_log, runtime=DyingRuntime, kernel=dying_kernel)
    serve(load(Path(sys.argv[5])), ports)
