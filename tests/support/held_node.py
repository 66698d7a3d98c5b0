# SPDX-License-Identifier: Apache-2.0
"""A node in virtual time: kubelet, runtime, control groups, and a whole agent that can be killed.

Everything of the agent is real but its outermost ports: the log is on a real disk, commands are
signed, decided and carried out, holds are kept.  Five minutes of kubelet's tries take a fraction of
a second.  User code is counted by the runtime's own records, which the agent cannot touch.
"""

import asyncio
import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.agent import daemon
from breakglass.agent.assembly import Agent, Ports, assemble
from breakglass.agent.config import Config, NodeIdentity
from breakglass.agent.log.auditlog import AuditLog
from breakglass.agent.log.disk import Disk, RealDisk
from breakglass.agent.log.journal import Journal
from breakglass.agent.log.replay import replay
from breakglass.core.checkpoint import LogSigner
from breakglass.core.entries import Entry, Finished, PodEnded
from breakglass.core.progress import Progress
from breakglass.errors import LogUnknown
from breakglass.sim.clock import VirtualClock
from breakglass.sim.faults import CriError
from breakglass.sim.kernel import Group, Host, SimKernel
from breakglass.sim.kubelet import Kubelet, Machine
from breakglass.sim.node import SimNode
from breakglass.sim.pod_events import SimPodEvents
from breakglass.sim.workloads import PodSpec, WorkloadSpec, make_pod
from lab.sim.kernel import SimulatedKernel
from tests.support import worlds
from tests.support.described import group_lines, log_lines, pod_lines, runtime_lines
from tests.support.faulty_disk import PowerCutError
from tests.support.organisation import Organisation
from tests.support.sim_runtime import SimRuntime
from tests.support.virtual_agent import InlineExecutor, NoCaptures, NodeClock

T = TypeVar("T")

TELEMETRY = WorkloadSpec(namespace="monitoring", name="telemetry")
NEIGHBOUR = WorkloadSpec(namespace="monitoring", name="telemetry-agent")
_NS = 1_000_000_000
_SIGNER = LogSigner("breakglass/example/prod-a/n1", bytes(32))


@dataclass(slots=True)
class RunningAgent:
    """An agent that runs: its log, the task that is its process, and its parts."""

    log: AuditLog
    journal: Journal
    made: Agent | None = None
    process: asyncio.Task[None] | None = None

    @property
    def parts(self) -> Agent:
        """Its parts, which are there once it is ready."""
        assert self.made is not None
        return self.made


class HeldNode:
    """One node with a DaemonSet's pods and a neighbour, from entering the context to leaving it.

    Args:
        folder: for the agent's state.
        host: what kind of machine it is.
        pods: how many pods the DaemonSet has here.
        tasks: kubelet's podPidsLimit, 0 for none.
        spec: the workload.
        disk: what the log is on.
    """

    def __init__(
        self,
        folder: Path,
        host: Host | None = None,
        *,
        pods: int = 1,
        tasks: int = 0,
        spec: WorkloadSpec = TELEMETRY,
        disk: Disk | None = None,
    ) -> None:
        self.clock = VirtualClock()
        self.agent_clock = NodeClock(self.clock)
        self.node = SimNode(clock=self.clock, start_s=0.1)
        self.kernel = SimKernel(self.node, host)
        self.pod_events = SimPodEvents(self.clock)
        self.runtime = SimRuntime(self.node, self.clock)
        self.organisation = Organisation("ana bo luc", now=self.agent_clock.now())
        self.disk: Disk = disk or RealDisk()
        self.spec = spec
        self.seeded = random.Random(7)
        self.pods = [make_pod(spec, self.seeded) for _ in range(pods)]
        self.beside = make_pod(NEIGHBOUR, self.seeded)
        self.agent: RunningAgent | None = None
        self._folder = folder
        self._machine = Machine(
            kernel=self.kernel,
            pod_events=self.pod_events,
            volume_s=0.3,
            tasks=tasks,
            tasks_after_s=0.0001,
        )
        self._kubelet: Kubelet | None = None
        self._kubelet_task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._shown = worlds.show("held node", self._describe)
        asyncio.get_running_loop().set_default_executor(InlineExecutor())
        self.start_kubelet([*self.pods, self.beside])
        await self.advance(3)
        await self.start_agent()
        assert len(self.running()) == len(self.pods)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._shown.freeze()
        await self.kill_agent()
        await self.kill_kubelet()

    def _describe(self) -> Iterator[str]:
        agent = "runs" if self.is_alive else "does not run"
        runtime = "answers" if self.runtime.alive else "does not answer"
        now_s = self.clock.now_ns() / _NS
        yield f"virtual time {now_s:.3f} s; the runtime {runtime}, the agent {agent}"
        yield from pod_lines(self.kubelet.pods)
        yield from runtime_lines(self.node)
        yield from group_lines(self.kernel)
        yield from log_lines(tuple(replay(self._folder / "log", _SIGNER.vkey).entries()))

    # Time, and the machine.

    async def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        await self.clock.advance(seconds)

    @staticmethod
    def hours(number: int) -> timedelta:
        """Return so many hours."""
        return timedelta(hours=number)

    async def reboot(self, off_s: float = 30) -> None:
        """Let the machine end and start again; nothing of the agent's memory is left."""
        await self.kill_agent()
        await self.kill_kubelet()
        self.node.reboot()
        self.kernel.reboot()
        await self.advance(off_s)
        self.agent_clock.boots += 1
        self.agent_clock.booted_ms = self.clock.now_ns() // 1_000_000 - 5_000

    # Kubelet.

    @property
    def kubelet(self) -> Kubelet:
        """The kubelet that runs, or ran last."""
        assert self._kubelet is not None
        return self._kubelet

    def start_kubelet(self, pods: list[PodSpec] | None = None) -> None:
        """Start it; it remembers no back-off."""
        if pods is None:
            pods = list(self.kubelet.pods)
        self._kubelet = Kubelet(self._call, self.clock, pods, self._machine, seed=3)
        self._kubelet_task = asyncio.create_task(self._kubelet.run())

    async def kill_kubelet(self) -> None:
        """Kill it."""
        if self._kubelet_task is not None:
            await _cancelled(self._kubelet_task)
            self._kubelet_task = None

    async def replace(self, pod: PodSpec, spec: WorkloadSpec | None = None) -> PodSpec:
        """Let a pod be deleted and its controller make another, maybe of another revision."""
        made = make_pod(spec or self.spec, self.seeded)
        await self.clock.until(asyncio.create_task(self.kubelet.replace(pod.uid, made)))
        if pod in self.pods:
            self.pods[self.pods.index(pod)] = made
        return made

    async def _call(self, method: str, request: Message) -> Message:
        if not self.runtime.alive:
            raise CriError(grpc.StatusCode.UNAVAILABLE, "connection refused")
        return await self.runtime.faults.around(method, lambda: self.node.call(method, request))

    # The runtime.

    async def restart_runtime(self, away_s: float = 0.3) -> None:
        """Kill the runtime, and start it again after a while; its containers run on."""
        self.runtime.alive = False
        await self.advance(away_s)
        self.node.restarted()
        self.runtime.alive = True

    # The agent.

    async def start_agent(self) -> None:
        """Start the agent, and return when it is ready."""
        log = AuditLog.open(self._folder / "log", _SIGNER, disk=self.disk)
        agent = self.agent = RunningAgent(log=log, journal=Journal(log, self.agent_clock))
        ready = asyncio.Event()
        agent.process = asyncio.create_task(self._serve(agent, ready))
        waiting = asyncio.create_task(_either(agent.process, ready))
        await self.clock.until(waiting)

    async def _serve(self, agent: "RunningAgent", ready: asyncio.Event) -> None:
        """Be the agent's process: the daemon's own assembly and order, without its listeners."""
        ports = Ports(
            runtime=lambda _: self.runtime,
            kernel=lambda _: SimulatedKernel(self.kernel, self.kernel.host).ports(),
            clock=lambda: self.agent_clock,
            pod_events=lambda *_: self.pod_events,
            captures=lambda *_: NoCaptures(),
        )
        identity = NodeIdentity(
            trust=self.organisation.trust,
            trust_text=self.organisation.trust_text,
            log_seed=bytes(32),
            tls_key=b"",
            tls_certificate=b"",
            tls_ca=b"",
        )
        async with asyncio.TaskGroup() as tasks:
            made = agent.made = assemble(
                self._config(),
                identity,
                agent.journal,
                self.agent_clock,
                ports,
                tasks,
                asyncio.Event(),
            )
            await daemon.begin(made)
            ready.set()
            tasks.create_task(made.watch.run())
            await agent.journal.broken.wait()
            raise LogUnknown("expected a durable log, got a failed sync")

    async def kill_agent(self) -> None:
        """Kill it: nothing more of it happens, and the next one finds what is on the disk."""
        agent, self.agent = self.agent, None
        if agent is not None:
            if agent.process is not None:
                await _cancelled(agent.process)
            agent.log.close()

    async def restart_agent(self, away_s: float = 0) -> None:
        """Kill it, and start another one after a while."""
        await self.kill_agent()
        await self.advance(away_s)
        await self.start_agent()

    def _config(self) -> Config:
        none = Path("/nowhere")
        return Config(
            name="n1",
            domain="example",
            cluster="prod-a",
            pool="",
            address="",
            socket=none,
            tls_key=none,
            tls_certificate=none,
            tls_ca=none,
            trust_file=none,
            trust_sha256=self.organisation.trust.sha256,
            state_directory=self._folder,
            log_key=none,
            runtime_endpoint=none,
            skew_s=300,
            protected=("kube-system/kube-proxy",),
            pod_logs=none,
        )

    # Commands.

    def signed(self, **command: Any) -> bytes:  # noqa: ANN401 - any of draft's
        """Return the signed text of a command, drafted now."""
        shape = {"created": self.agent_clock.now().replace(microsecond=0), "grace_s": 0} | command
        if shape.get("verb", "stop") not in {"stop", "evict"}:
            del shape["grace_s"]
        return self.organisation.signed(self.organisation.command(**shape), "ana bo")

    async def submit(self, **command: Any) -> Finished:  # noqa: ANN401 - any of draft's
        """Deliver a signed command and return how it ended; a stop holds for ten minutes."""
        verb = command.get("verb", "stop")
        if verb in {"stop", "evict"}:
            command = {"hold_s": 600} | command
        raw = self.signed(**command)
        told = await self.clock.until(asyncio.create_task(self._deliver(raw)))
        body = self.entry(told[-1]).body
        assert isinstance(body, Finished)
        return body

    async def deliver(self, raw: bytes) -> list[str]:
        """Deliver a signed file to an agent that may die of it; return the kinds that were told."""
        task = asyncio.create_task(self._deliver(raw))
        try:
            return [one.kind for one in await self.clock.until(task)]
        except PowerCutError:  # before anything was accepted: the agent's own tasks know nothing
            await self.kill_agent()
            return []

    @property
    def is_alive(self) -> bool:
        """Whether the agent's process goes on."""
        process = self.agent.process if self.agent else None
        return process is not None and not process.done()

    async def _deliver(self, raw: bytes) -> list[Progress]:
        assert self.agent is not None
        procedure = self.agent.parts.procedure
        return [step async for step in procedure.deliver(raw, peer="test")]

    def entry(self, step: Progress) -> Entry:
        """Return the entry that a step was recorded as."""
        assert self.agent is not None
        assert step.index is not None, step.refused
        return self.agent.journal.entry(step.index)

    # What is seen.

    @property
    def state(self) -> Any:  # noqa: ANN401 - core.fold.State
        """What the log tells."""
        assert self.agent is not None
        return self.agent.journal.state

    def bodies(self, kind: type[T]) -> list[T]:
        """Return what the log has of one kind, in order."""
        assert self.agent is not None
        found = (self.agent.journal.entry(index).body for index in range(self.state.size))
        return [one for one in found if isinstance(one, kind)]

    def ended_pods(self) -> list[PodEnded]:
        """Return the outcomes of pods."""
        return self.bodies(PodEnded)

    def running(self, pods: list[PodSpec] | None = None) -> list[str]:
        """Return the containers of the workload that run now, as the kernel knows it."""
        uids = {pod.uid for pod in (self.pods if pods is None else pods)}
        sandboxes = set(self.node._sandboxes)
        return [
            one.id for one in self.node.processes() if one.uid in uids and one.id not in sandboxes
        ]

    def user_ms(self, since_ns: int, pods: list[PodSpec] | None = None) -> int:
        """Return how long user code of the workload ran since then."""
        uids = {pod.uid for pod in (self.pods if pods is None else pods)}
        now_ns = self.clock.now_ns()
        total_ns = 0
        for one in self.node._containers.values():
            if one.config.labels["io.kubernetes.pod.uid"] in uids and one.started_ns:
                until_ns = now_ns if one.state == pb.CONTAINER_RUNNING else one.finished_ns
                total_ns += max(0, until_ns - max(one.started_ns, since_ns))
        return total_ns // 1_000_000

    def tries(self) -> int:
        """Return how many starts limits have made fail."""
        uids = {pod.uid for pod in self.pods}
        return sum(self.kernel.group(uid).blocked for uid, _ in self.kernel.groups() if uid in uids)

    def group(self, pod: PodSpec | None = None) -> Group:
        """Return a pod's control group; the first pod's unless told otherwise."""
        return self.kernel.group((pod or self.pods[0]).uid)

    def limits(self, pod: PodSpec | None = None) -> tuple[str, str, str]:
        """Return the values of a pod's group: descendants, tasks, and the slice's property."""
        group = self.group(pod)
        return group.descendants, group.pids, group.tasks_max

    async def expect_held(self, seconds: float = 300) -> None:
        """Let kubelet try for so long; it did, nothing ran, and the neighbour was left alone."""
        since_ns, before = self.clock.now_ns(), self.tries()
        neighbour = self.running([self.beside])
        await self.advance(seconds)
        assert self.user_ms(since_ns) == 0
        assert self.running() == []
        assert self.tries() > before
        assert self.running([self.beside]) == neighbour != []

    async def expect_back(self, within_s: float = 315) -> float:
        """Let time pass until every pod runs, and return how long that took."""
        since_ns = self.clock.now_ns()
        while len(self.running()) < len(self.pods):
            await self.advance(0.5)
            assert self.clock.now_ns() - since_ns <= within_s * _NS
        return (self.clock.now_ns() - since_ns) / _NS


def revised(spec: WorkloadSpec, revision: str) -> WorkloadSpec:
    """Return the same workload in another revision, of another image."""
    return replace(spec, revision=revision, tag=revision)


async def _cancelled(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    with contextlib.suppress(BaseException):
        await task


async def _either(process: "asyncio.Task[None]", ready: asyncio.Event) -> None:
    """Return when an agent is ready; raise what it ended of."""
    waiting = asyncio.create_task(ready.wait())
    both: set[asyncio.Task[Any]] = {process, waiting}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if process.done():
        process.result()
