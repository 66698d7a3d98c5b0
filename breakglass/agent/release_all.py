# SPDX-License-Identifier: Apache-2.0
"""The way out for root on a node: every hold ends, every limit of ours goes back.

It is for a node whose agent is being disabled or uninstalled, or will not start: nothing of ours
may keep a pod down when nobody is left to let it go.  The agent must be stopped, for it would set
all of it again.  What is let go is on record like everything else; root needs no approval, because
root could write to the control groups anyway.

Where the log cannot be used, limits are found by looking: a group of a pod whose limits read as a
gate of ours is opened.  The old values are not known then, so they become the kernel's own default.
"""

import asyncio
from dataclasses import dataclass, field

from breakglass.agent.assembly import Ports, assemble
from breakglass.agent.config import Config, read_identity
from breakglass.agent.holds import LET_GO
from breakglass.agent.journal import Journal
from breakglass.agent.kernel import Kernel
from breakglass.core.checkpoint import LogSigner
from breakglass.core.gates import Oci
from breakglass.errors import BreakglassError, GateFailed, NodeError

LOCKED = "log-locked"


@dataclass(slots=True)
class LetGo:
    """What came of it.

    Attributes:
        holds: the holds that were ended, as "namespace/name[@revision]".
        pods: the pods whose limits are back as they were, by the log.
        unrecorded: the groups that were gated without the log knowing it.
        failed: what could not be done.
        log_error: why the log could not be used, "" when it could.
    """

    holds: list[str] = field(default_factory=list)
    pods: list[str] = field(default_factory=list)
    unrecorded: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    log_error: str = ""


def release_all(config: Config, ports: Ports | None = None) -> LetGo:
    """End every hold and open every gate of this node.

    Raises:
        NodeError: an agent is running here ("log-locked"); nothing was done.
    """
    ports, done = ports or Ports(), LetGo()
    try:
        identity = read_identity(config)
        signer = LogSigner(origin=config.origin, seed=identity.log_seed)
        audit = ports.open_log(config.state_directory / "log", signer)
    except NodeError as error:
        if error.stable_code == LOCKED:
            raise
        done.log_error = error.message
    except BreakglassError as error:
        done.log_error = error.message
    else:
        try:
            asyncio.run(_by_the_log(config, Journal(audit, ports.clock()), ports, done))
        except BreakglassError as error:
            done.log_error = error.message
        finally:
            audit.close()
    _by_looking(ports.kernel(config.runtime_endpoint), done)
    return done


async def _by_the_log(config: Config, journal: Journal, ports: Ports, done: LetGo) -> None:
    holds = assemble(config, journal, ports.clock(), ports).holds
    await journal.record_repairs()
    for hold in holds.active:
        await holds.end(hold, LET_GO, by="root")
        revision = f"@{hold.workload.revision}" if hold.workload.revision else ""
        done.holds.append(f"{hold.workload.namespace}/{hold.workload.name}{revision}")
    before = {gated.uid: f"{gated.namespace}/{gated.name}" for gated in holds.gated}
    done.failed.extend(await holds.lift_uncovered())
    still = {gated.uid for gated in holds.gated}
    done.pods.extend(name for uid, name in before.items() if uid not in still)


def _by_looking(kernel: Kernel, done: LetGo) -> None:
    """Open what still reads as a gate of ours, whoever set it."""
    for group in kernel.pod_groups():
        try:
            limits = kernel.limits(group, Oci.UNKNOWN)
            opened = set(kernel.changed(group, limits))
            shut = [limit for limit in limits if limit not in opened]
            for limit in reversed(shut):
                kernel.lift(group, limit)
            if shut:
                done.unrecorded.append(group.path)
                kernel.reset_failed(group)
        except GateFailed as error:
            done.failed.append(f"{group.path}: {error.message}")
