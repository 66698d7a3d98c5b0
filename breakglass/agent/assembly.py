# SPDX-License-Identifier: Apache-2.0
"""The agent's parts, put together once: who looks, who holds, who stops, who lets go.

Nothing is started here and nothing is touched.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from breakglass.agent.capture.store import CaptureStore
from breakglass.agent.clock import Clock, SystemClock
from breakglass.agent.command.execute import Executor
from breakglass.agent.command.release import ReleaseCommand
from breakglass.agent.command.stop import StopCommand
from breakglass.agent.config import Config
from breakglass.agent.hold.leases import Leases
from breakglass.agent.hold.watch import Watch
from breakglass.agent.kernel.host import CgroupKernel
from breakglass.agent.kernel.port import Kernel
from breakglass.agent.log.auditlog import AuditLog
from breakglass.agent.log.journal import Journal
from breakglass.agent.pods.events import InotifyPodEvents, PodEvents
from breakglass.agent.pods.inventory import PodInventory
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
    pod_events: Callable[[Path, Callable[[], tuple[Path, ...]], Clock], PodEvents] = (
        InotifyPodEvents
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """The parts that the process and its service work with."""

    runtime: Runtime
    inventory: PodInventory
    evidence: CaptureStore
    holds: Leases
    watch: Watch
    carry_out: Executor


def _captures(config: Config, clock: Clock) -> CaptureStore:
    directory = config.state_directory / "evidence"
    return CaptureStore(directory, pod_logs=config.pod_logs, clock=clock)


def assemble(config: Config, journal: Journal, clock: Clock, ports: Ports) -> Assembly:
    """Return the parts of an agent with these settings."""
    runtime = ports.runtime(config.runtime_endpoint)
    kernel = ports.kernel(config.runtime_endpoint)
    pod_events = ports.pod_events(config.pod_logs, kernel.parents, clock)
    inventory = PodInventory(
        runtime=runtime,
        kernel=kernel,
        pod_events=pod_events,
        clock=clock,
        directory=config.state_directory,
    )
    holds = Leases(
        journal=journal, runtime=runtime, kernel=kernel, inventory=inventory, clock=clock
    )
    watch = Watch(
        holds=holds,
        journal=journal,
        runtime=runtime,
        kernel=kernel,
        inventory=inventory,
        pod_events=pod_events,
        clock=clock,
    )
    evidence = _captures(config, clock)
    stopping = StopCommand(
        journal=journal,
        runtime=runtime,
        kernel=kernel,
        inventory=inventory,
        holds=holds,
        counters=watch.counters,
        evidence=evidence,
        clock=clock,
    )
    carry_out = Executor(
        journal=journal,
        inventory=inventory,
        holds=holds,
        stopping=stopping,
        letting_go=ReleaseCommand(holds=holds, counters=watch.counters, clock=clock),
        clock=clock,
    )
    return Assembly(
        runtime=runtime,
        inventory=inventory,
        evidence=evidence,
        holds=holds,
        watch=watch,
        carry_out=carry_out,
    )
