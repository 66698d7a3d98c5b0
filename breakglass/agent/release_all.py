# SPDX-License-Identifier: Apache-2.0
"""`release-all`: root ends every hold on a node and puts every limit back.

It is for a node whose agent is being disabled or uninstalled, or does not start: no limit may keep
a pod down without an agent that can lift it.  The agent must be stopped first, because it would set
the limits again.  The ends of the holds are recorded in the log.  Root needs no approval, because
root can write to the control groups anyway.

If the log cannot be used, the limits are found by looking: a pod's group whose limits have a gate's
values is opened.  Its old values are unknown then, so it gets the kernel's defaults.
"""

import asyncio
import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

from breakglass.agent.assembly import Ports, assemble_holds
from breakglass.agent.config import Config, read_identity
from breakglass.agent.hold.leases import LET_GO
from breakglass.agent.kernel.port import GroupLimits, Kernel, PodGroup
from breakglass.agent.log.auditlog import LOCK
from breakglass.agent.log.disk import lock
from breakglass.agent.log.journal import Journal
from breakglass.core.checkpoint import LogSigner
from breakglass.core.gates import Oci
from breakglass.errors import BreakglassError, GateFailed, StateUnwritable

LOCKED = "log-locked"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseAllResult:
    """What `release-all` did.

    Attributes:
        holds: the holds that were ended, as "namespace/name[@revision]".
        pods: the pods whose limits are back as they were, by the log.
        unrecorded: the groups that had a gate's values and are not in the log.
        failed: what could not be done.
        log_error: why the log could not be used, "" when it could.
    """

    holds: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    unrecorded: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    log_error: str = ""


def release_all(config: Config, ports: Ports | None = None) -> ReleaseAllResult:
    """End every hold and open every gate of this node.

    Raises:
        StateUnwritable: an agent is running here ("log-locked"); nothing was done.
    """
    ports = ports or Ports()
    _verify_alone(config.state_directory / "log" / LOCK)
    done = _by_the_log(config, ports)
    return _by_looking(ports.kernel(config.runtime_endpoint), done)


def _verify_alone(place: Path) -> None:
    """Raise if an agent runs, also if its settings or files cannot be read."""
    with contextlib.suppress(OSError):  # no usable log
        try:
            os.close(lock(place))
        except StateUnwritable as error:
            hint = "stop the agent first: systemctl stop breakglass-agent"
            raise StateUnwritable(error.message, code=LOCKED, hint=hint) from error


def _by_the_log(config: Config, ports: Ports) -> ReleaseAllResult:
    """End the holds in the log; a log that cannot be used is reported, and not fatal."""
    try:
        identity = read_identity(config)
        signer = LogSigner(origin=config.origin, seed=identity.log_seed)
        audit = ports.open_log(config.state_directory / "log", signer)
    except BreakglassError as error:
        if error.stable_code == LOCKED:  # an agent was started in between
            raise
        return ReleaseAllResult(log_error=error.message)
    try:
        return asyncio.run(_let_go(config, Journal(audit, ports.clock()), ports))
    except BreakglassError as error:
        return ReleaseAllResult(log_error=error.message)
    finally:
        audit.close()


async def _let_go(config: Config, journal: Journal, ports: Ports) -> ReleaseAllResult:
    hold = assemble_holds(config, journal, ports.clock(), ports)
    coverage = hold.coverage
    await journal.record_repairs()
    ended = []
    for one in coverage.active:
        await hold.leases.end(one, LET_GO, by="root")
        revision = f"@{one.workload.revision}" if one.workload.revision else ""
        ended.append(f"{one.workload.namespace}/{one.workload.name}{revision}")
    before = {gated.uid: f"{gated.namespace}/{gated.name}" for gated in coverage.gated}
    failed = await hold.gates.lift_uncovered()
    still = {gated.uid for gated in coverage.gated}
    return ReleaseAllResult(
        holds=tuple(ended),
        pods=tuple(name for uid, name in before.items() if uid not in still),
        failed=tuple(failed),
    )


def _by_looking(kernel: Kernel, done: ReleaseAllResult) -> ReleaseAllResult:
    """Open every group whose limits still have a gate's values."""
    unrecorded, failed = list(done.unrecorded), list(done.failed)
    for group in kernel.groups.pod_groups():
        shut, problems = _open(kernel.limits, group)
        failed.extend(f"{group.path}: {problem}" for problem in problems)
        if shut:
            unrecorded.append(group.path)
    return replace(done, unrecorded=tuple(unrecorded), failed=tuple(failed))


def _open(limits: GroupLimits, group: PodGroup) -> tuple[int, list[str]]:
    """Open each limit of a group that has a gate's value; return how many, and what failed."""
    shut, problems = [], []
    try:
        current = limits.current(group, Oci.UNKNOWN)
        opened = limits.changed(group, current)
        shut = [limit for limit in current if limit not in opened]
    except GateFailed as error:
        problems.append(error.message)
    for limit in reversed(shut):
        try:
            limits.lift(group, limit)
        except GateFailed as error:
            problems.append(error.message)
    try:
        if shut:
            limits.reset_failed(group)
    except GateFailed as error:
        problems.append(error.message)
    return len(shut), problems
