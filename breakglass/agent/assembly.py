# SPDX-License-Identifier: Apache-2.0
"""The agent's parts, put together once: who looks, who holds, who stops, who lets go.

Nothing is started here and nothing is touched.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from breakglass.agent.capture.store import EvidenceStore
from breakglass.agent.clock import Clock, SystemClock
from breakglass.agent.command.execute import CarryOut
from breakglass.agent.command.release import LettingGo
from breakglass.agent.command.stop import Stopping
from breakglass.agent.config import Config
from breakglass.agent.hold.leases import Holds
from breakglass.agent.hold.watch import Watch
from breakglass.agent.kernel.host import CgroupKernel
from breakglass.agent.kernel.port import Kernel
from breakglass.agent.log.auditlog import AuditLog
from breakglass.agent.log.journal import Journal
from breakglass.agent.pods.events import Births, InotifyBirths
from breakglass.agent.pods.inventory import Sight
from breakglass.agent.runtime.cri import CriRuntime
from breakglass.agent.runtime.peer import RuntimePids
from breakglass.agent.runtime.port import Runtime
from breakglass.core.checkpoint import LogSigner


def _kernel(endpoint: Path) -> Kernel:
    """Return this machine's kernel, which never kills the runtime behind a socket."""
    return CgroupKernel(runtime_pids=RuntimePids(endpoint))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What the agent touches the world through; the defaults are the real things."""

    open_log: Callable[[Path, LogSigner], AuditLog] = AuditLog.open
    runtime: Callable[[Path], Runtime] = CriRuntime
    kernel: Callable[[Path], Kernel] = _kernel
    clock: Callable[[], Clock] = SystemClock
    births: Callable[[Path, Callable[[], tuple[Path, ...]], Clock], Births] = InotifyBirths


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """The parts that the process and its service work with."""

    runtime: Runtime
    sight: Sight
    evidence: EvidenceStore
    holds: Holds
    watch: Watch
    carry_out: CarryOut


def assemble(config: Config, journal: Journal, clock: Clock, ports: Ports) -> Assembly:
    """Return the parts of an agent with these settings."""
    runtime = ports.runtime(config.runtime_endpoint)
    kernel = ports.kernel(config.runtime_endpoint)
    births = ports.births(config.pod_logs, kernel.parents, clock)
    sight = Sight(
        runtime=runtime,
        kernel=kernel,
        births=births,
        clock=clock,
        directory=config.state_directory,
    )
    holds = Holds(journal=journal, runtime=runtime, kernel=kernel, sight=sight, clock=clock)
    watch = Watch(
        holds=holds,
        journal=journal,
        runtime=runtime,
        kernel=kernel,
        sight=sight,
        births=births,
        clock=clock,
    )
    evidence = EvidenceStore(
        config.state_directory / "evidence", pod_logs=config.pod_logs, clock=clock
    )
    stopping = Stopping(
        journal=journal,
        runtime=runtime,
        kernel=kernel,
        sight=sight,
        holds=holds,
        tallies=watch.tallies,
        evidence=evidence,
        clock=clock,
    )
    carry_out = CarryOut(
        journal=journal,
        sight=sight,
        holds=holds,
        stopping=stopping,
        letting_go=LettingGo(holds=holds, tallies=watch.tallies, clock=clock),
        clock=clock,
    )
    return Assembly(
        runtime=runtime,
        sight=sight,
        evidence=evidence,
        holds=holds,
        watch=watch,
        carry_out=carry_out,
    )
