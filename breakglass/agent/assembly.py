# SPDX-License-Identifier: Apache-2.0
"""Assemble the agent's parts, for the daemon, `release-all` and tests.

This module starts nothing and touches nothing.  What a test replaces is a port.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from breakglass.agent.capture.port import Captures
from breakglass.agent.capture.store import CaptureStore
from breakglass.agent.clock import Clock, SystemClock
from breakglass.agent.command.execute import Executor
from breakglass.agent.command.procedure import NodeScope, Procedure
from breakglass.agent.command.release import ReleaseCommand
from breakglass.agent.command.stop import StopCommand
from breakglass.agent.config import Config, NodeIdentity
from breakglass.agent.hold.counters import HoldCounters
from breakglass.agent.hold.coverage import Coverage
from breakglass.agent.hold.gates import PodGates
from breakglass.agent.hold.leases import Leases
from breakglass.agent.hold.limit_setter import LimitSetter
from breakglass.agent.hold.newborn import NewbornPods
from breakglass.agent.hold.watch import Watch
from breakglass.agent.kernel.host import host_kernel
from breakglass.agent.kernel.port import Kernel
from breakglass.agent.log.auditlog import AuditLog
from breakglass.agent.log.journal import Journal
from breakglass.agent.pods.events import InotifyPodEvents, PodEvents
from breakglass.agent.pods.inventory import PodInventory
from breakglass.agent.runtime.cri import CriRuntime
from breakglass.agent.runtime.oci import OciRuntimes
from breakglass.agent.runtime.peer import RuntimePids
from breakglass.agent.runtime.port import Runtime
from breakglass.agent.serve.service import Parts
from breakglass.agent.stop.ladder import Ladders
from breakglass.core.checkpoint import LogSigner


def _kernel(endpoint: Path) -> Kernel:
    """Return this machine's kernel, which never kills the runtime behind this socket."""
    return host_kernel(runtime_pids=RuntimePids(endpoint))


def _captures(config: Config, clock: Clock) -> Captures:
    directory = config.state_directory / "evidence"
    return CaptureStore(directory, pod_logs=config.pod_logs, clock=clock)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The agent's ports to its machine; the defaults are the real ones."""

    open_log: Callable[[Path, LogSigner], AuditLog] = AuditLog.open
    runtime: Callable[[Path], Runtime] = CriRuntime
    kernel: Callable[[Path], Kernel] = _kernel
    clock: Callable[[], Clock] = SystemClock
    pod_events: Callable[[Path, Callable[[], tuple[Path, ...]], Clock], PodEvents] = (
        InotifyPodEvents
    )
    captures: Callable[[Config, Clock], Captures] = _captures


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldParts:
    """The parts that find and hold pods, without those that take commands."""

    journal: Journal
    clock: Clock
    runtime: Runtime
    kernel: Kernel
    pod_events: PodEvents
    inventory: PodInventory
    coverage: Coverage
    leases: Leases
    gates: PodGates
    counters: HoldCounters

    @property
    def ladders(self) -> Ladders:
        """The ports that pods are stopped through."""
        kernel = self.kernel
        return Ladders(
            runtime=self.runtime, groups=kernel.groups, killer=kernel.killer, clock=self.clock
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A whole agent: the parts that take commands, hold pods, and serve."""

    config: Config
    identity: NodeIdentity
    hold: HoldParts
    captures: Captures
    watch: Watch
    procedure: Procedure
    parts: Parts


def assemble_holds(config: Config, journal: Journal, clock: Clock, ports: Ports) -> HoldParts:
    """Return the parts that hold pods, with these settings."""
    runtime = ports.runtime(config.runtime_endpoint)
    kernel = ports.kernel(config.runtime_endpoint)
    pod_events = ports.pod_events(config.pod_logs, kernel.groups.parents, clock)
    inventory = PodInventory(
        runtime=runtime,
        groups=kernel.groups,
        pod_events=pod_events,
        clock=clock,
        directory=config.state_directory,
    )
    coverage = Coverage(journal, inventory)
    return HoldParts(
        journal=journal,
        clock=clock,
        runtime=runtime,
        kernel=kernel,
        pod_events=pod_events,
        inventory=inventory,
        coverage=coverage,
        leases=Leases(journal, clock),
        gates=PodGates(
            journal=journal,
            setter=LimitSetter(kernel.groups, kernel.limits),
            oci_runtimes=OciRuntimes(runtime),
            coverage=coverage,
        ),
        counters=HoldCounters(journal=journal, runtime=runtime, coverage=coverage, clock=clock),
    )


def assemble(
    config: Config,
    identity: NodeIdentity,
    journal: Journal,
    clock: Clock,
    ports: Ports,
    tasks: asyncio.TaskGroup,
    stopping: asyncio.Event,
) -> Agent:
    """Return a whole agent.

    Args:
        config: its settings.
        identity: what the files of its settings hold.
        journal: its log and state.
        clock: its clock.
        ports: its ports to the machine.
        tasks: where accepted commands run.
        stopping: set when the process is to end; the agent is not ready from then on.
    """
    hold = assemble_holds(config, journal, clock, ports)
    captures = ports.captures(config, clock)
    scope = _scope(config)
    procedure = Procedure(
        node_scope=scope,
        trust=identity.trust,
        journal=journal,
        executor=_executor(hold, captures),
        clock=clock,
        tasks=tasks,
    )
    return Agent(
        config=config,
        identity=identity,
        hold=hold,
        captures=captures,
        watch=_watch(hold),
        procedure=procedure,
        parts=Parts(
            node_scope=scope,
            trust=identity.trust,
            journal=journal,
            procedure=procedure,
            runtime=hold.runtime,
            inventory=hold.inventory,
            coverage=hold.coverage,
            counters=hold.counters,
            clock=clock,
            is_ready=lambda: not (stopping.is_set() or journal.broken.is_set()),
        ),
    )


def _scope(config: Config) -> NodeScope:
    return NodeScope(
        domain=config.domain,
        cluster=config.cluster,
        node=config.name,
        pool=config.pool,
        protected=config.protected,
        skew_s=config.skew_s,
    )


def _watch(hold: HoldParts) -> Watch:
    return Watch(
        leases=hold.leases,
        coverage=hold.coverage,
        gates=hold.gates,
        newborn=NewbornPods(
            gates=hold.gates,
            coverage=hold.coverage,
            counters=hold.counters,
            journal=hold.journal,
            runtime=hold.runtime,
            inventory=hold.inventory,
            clock=hold.clock,
        ),
        counters=hold.counters,
        journal=hold.journal,
        inventory=hold.inventory,
        groups=hold.kernel.groups,
        pod_events=hold.pod_events,
        ladders=hold.ladders,
        clock=hold.clock,
    )


def _executor(hold: HoldParts, captures: Captures) -> Executor:
    stop = StopCommand(
        journal=hold.journal,
        runtime=hold.runtime,
        groups=hold.kernel.groups,
        ladders=hold.ladders,
        inventory=hold.inventory,
        leases=hold.leases,
        gates=hold.gates,
        counters=hold.counters,
        captures=captures,
        clock=hold.clock,
    )
    release = ReleaseCommand(
        leases=hold.leases,
        coverage=hold.coverage,
        gates=hold.gates,
        counters=hold.counters,
        clock=hold.clock,
    )
    return Executor(
        journal=hold.journal,
        inventory=hold.inventory,
        stop=stop,
        release=release,
        clock=hold.clock,
    )
