# SPDX-License-Identifier: Apache-2.0
"""The ladder on a simulated node in virtual time: its acts and outcomes, fault by fault."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace

import grpc
import pytest

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.agent.kernel.port import PodGroup
from breakglass.agent.runtime.port import ContainerLook
from breakglass.agent.stop.ladder import Ladders, PodOutcome
from breakglass.core import bounds
from breakglass.core.plan import Step
from breakglass.core.pods import Container, ContainerState, Pod
from breakglass.errors import GateFailed
from breakglass.sim.clock import VirtualClock
from breakglass.sim.faults import FOR_EVER, Fault, Kind
from breakglass.sim.kernel import KernelFault
from breakglass.sim.kubelet import Kubelet
from breakglass.sim.node import SimNode
from breakglass.sim.profiles import CONTAINERD_1_6, CONTAINERD_2_1, CRIO_1_35, Profile
from breakglass.sim.workloads import WorkloadSpec, make_pod
from tests.support import worlds
from tests.support.climbs import climb, stop_pods
from tests.support.described import group_lines, pod_lines, runtime_lines
from tests.support.sim_runtime import SimRuntime, StubbornKernel, VirtualAgentClock
from tests.support.virtual_agent import InlineExecutor


class LosingRuntime(SimRuntime):
    """A runtime that reports the containers in `lost` as exited, as without their shims."""

    def __init__(self, node: SimNode, clock: VirtualClock) -> None:
        super().__init__(node, clock)
        self.lost: set[str] = set()

    async def pods(self) -> tuple[Pod, ...]:
        """Return all pods."""
        return tuple(
            replace(pod, containers=tuple(map(self._as_reported, pod.containers)))
            for pod in await super().pods()
        )

    async def container(self, container_id: str) -> ContainerLook | None:
        """Return one container."""
        look = await super().container(container_id)
        if look is not None and container_id in self.lost:
            return replace(look, state=ContainerState.EXITED, pid=None)
        return look

    def _as_reported(self, one: Container) -> Container:
        return replace(one, state=ContainerState.EXITED) if one.id in self.lost else one


class World:
    """One node with pods of default/telemetry, and the ports of a ladder for it."""

    def __init__(self, profile: Profile = CONTAINERD_2_1) -> None:
        self.clock = VirtualClock()
        self.agent_clock = VirtualAgentClock(self.clock)
        self.node = SimNode(profile=profile, clock=self.clock)
        self.runtime = LosingRuntime(self.node, self.clock)
        self.kernel = StubbornKernel(self.node)
        self.kubelet = Kubelet(self.node.call, self.clock, ())
        worlds.show("world of the ladder", self._describe)

    def _describe(self) -> Iterator[str]:
        yield f"virtual time {self.clock.now_ns() / 1e9:.3f} s, {self.runtime.looks} looks"
        yield from pod_lines(self.kubelet.pods)
        yield from runtime_lines(self.node)
        yield from group_lines(self.kernel.files)
        yield "stops (container, grace in seconds):"
        for container_id, grace_s in self.runtime.stops:
            yield f"  {container_id[:12]} {grace_s}"

    async def run(
        self,
        *,
        pods: int = 1,
        containers: int = 1,
        ignores_term: bool = False,
        term_ms: int = 0,
    ) -> tuple[Pod, ...]:
        """Start pods and return them as the runtime lists them."""
        spec = WorkloadSpec(
            namespace="default",
            name="telemetry",
            containers=containers,
            ignores_term=ignores_term,
            term_ms=term_ms,
        )
        seeded = random.Random(1)
        made = [make_pod(spec, seeded) for _ in range(pods)]
        self.kubelet = Kubelet(self.node.call, self.clock, made)
        await self.kubelet.sync()
        found = await self.runtime.pods()
        self.runtime.looks = 0
        return found

    @property
    def ports(self) -> Ladders:
        """The ports through which pods are brought down."""
        return Ladders(
            runtime=self.runtime, groups=self.kernel, killer=self.kernel, clock=self.agent_clock
        )

    async def climb(self, pod: Pod, *, grace_s: int = 30) -> PodOutcome:
        """Bring one pod down, in virtual time."""
        return await self.clock.until(self.climbing(pod, grace_s=grace_s))

    def climbing(self, pod: Pod, *, grace_s: int = 30) -> "asyncio.Task[PodOutcome]":
        """Start to bring one pod down, as a task."""
        live = tuple(one for one in pod.containers if one.live)
        return asyncio.create_task(climb(self.ports, pod, live, grace_s=grace_s))

    async def climb_without_runtime(self, pod: Pod) -> PodOutcome:
        """Bring one pod down without its runtime."""
        ladder = self.ports.ladder(without_runtime=True)
        step = Step(pod=pod, containers=pod.containers, grace_s=30)
        return await self.clock.until(asyncio.create_task(ladder.climb(step)))

    def fault(self, method: str, kind: Kind, **more: object) -> None:
        """Make the next calls of a method fail in this way."""
        self.runtime.faults.add(Fault(method=method, kind=kind, **more))  # type: ignore[arg-type]

    def signals(self, pod: Pod) -> tuple[str, ...]:
        """Return the signals that the pod's first container got."""
        return self.node.signals(pod.containers[0].id)


@pytest.fixture(autouse=True)
async def inline() -> None:
    """Run at once what goes to a thread, so that virtual time stays exact."""
    asyncio.get_running_loop().set_default_executor(InlineExecutor())


@pytest.fixture(params=[CONTAINERD_1_6, CONTAINERD_2_1, CRIO_1_35], ids=lambda one: one.version)
def world(request: pytest.FixtureRequest) -> World:
    """Return a world with each kind of runtime."""
    return World(request.param)


async def test_an_obedient_pod_is_down_after_one_stop_and_one_look(world: World) -> None:
    """SIGTERM and one look are enough: no further wait, and the kernel agrees."""
    (pod,) = await world.run()
    outcome = await world.climb(pod)
    (container,) = outcome.containers
    assert (outcome.seen, outcome.uid, outcome.name) == ("down", pod.uid, pod.name)
    assert (container.rung, container.seen, container.kernel) == (1, "down", "gone")
    assert container.error == ""
    assert world.signals(pod) == ("TERM",)
    assert world.runtime.looks == 1
    assert outcome.ms == 0


async def test_the_grace_is_the_signed_one(world: World) -> None:
    """A process gets the command's grace, not its pod's."""
    (pod,) = await world.run(term_ms=5_000)
    outcome = await world.climb(pod, grace_s=60)
    assert outcome.seen == "down"
    assert world.runtime.stops == [(pod.containers[0].id, 60)]
    assert world.signals(pod) == ("TERM",)
    assert outcome.ms == pytest.approx(5_000, abs=50)


async def test_a_process_that_ignores_term_is_killed_by_the_runtime_in_time(
    world: World,
) -> None:
    """Rung 1's deadline is beyond the grace, so that the runtime itself still kills."""
    (pod,) = await world.run(ignores_term=True)
    outcome = await world.climb(pod, grace_s=7)
    assert (outcome.seen, outcome.containers[0].rung) == ("down", 1)
    assert world.signals(pod) == ("TERM", "KILL")
    assert outcome.ms == pytest.approx(7_000, abs=50)


async def test_no_grace_kills_at_once(world: World) -> None:
    """A command with a grace of 0 s does not wait."""
    (pod,) = await world.run(ignores_term=True)
    outcome = await world.climb(pod, grace_s=0)
    assert (outcome.seen, outcome.containers[0].rung) == ("down", 1)
    assert world.signals(pod) == ("KILL",)


async def test_a_stop_that_hangs_is_followed_by_a_kill(world: World) -> None:
    """Rung 1 ends by the agent's own deadline, and rung 2 brings the pod down."""
    (pod,) = await world.run()
    world.fault("StopContainer", Kind.HANG)
    outcome = await world.climb(pod, grace_s=5)
    (container,) = outcome.containers
    assert (outcome.seen, container.rung) == ("down", 2)
    assert container.error.startswith("runtime-timeout")
    assert world.runtime.stops == [(pod.containers[0].id, 5), (pod.containers[0].id, 0)]
    expected_ms = (5 + bounds.STOP_MARGIN_S + bounds.SETTLE_TIMEOUT_S) * 1_000
    assert outcome.ms == pytest.approx(expected_ms, abs=100)


async def test_ok_proves_nothing(world: World) -> None:
    """A stop that answers OK and does nothing is seen by a look, and the next rung acts."""
    (pod,) = await world.run(ignores_term=True)

    async def do_nothing(_: object) -> pb.StopContainerResponse:
        world.node._calls = honest
        return pb.StopContainerResponse()

    honest = world.node._calls
    world.node._calls = {**honest, "StopContainer": do_nothing}
    outcome = await world.climb(pod)
    assert (outcome.seen, outcome.containers[0].rung) == ("down", 2)
    assert outcome.containers[0].error == ""


async def test_an_error_proves_nothing_either(world: World) -> None:
    """After `ttrpc: closed` from a stop that worked, a look shows the container down."""
    (pod,) = await world.run()
    world.fault("StopContainer", Kind.FAIL_AFTER)
    outcome = await world.climb(pod)
    (container,) = outcome.containers
    assert (outcome.seen, container.rung) == ("down", 1)
    assert "ttrpc: closed" in container.error
    assert len(world.runtime.stops) == 1


async def test_a_lost_reply_costs_a_deadline_and_no_second_stop(world: World) -> None:
    """The stop worked and its answer was lost: the look after the deadline shows it."""
    (pod,) = await world.run()
    world.fault("StopContainer", Kind.LOSE_REPLY)
    outcome = await world.climb(pod, grace_s=5)
    assert (outcome.seen, outcome.containers[0].rung) == ("down", 1)
    assert len(world.runtime.stops) == 1


async def test_an_error_is_asked_again_within_the_rung(world: World) -> None:
    """A transient error does not cost the pod its grace."""
    (pod,) = await world.run()
    world.fault("StopContainer", Kind.FAIL)
    outcome = await world.climb(pod)
    assert (outcome.seen, outcome.containers[0].rung) == ("down", 1)
    assert world.signals(pod) == ("TERM",)
    assert len(world.runtime.stops) == 2


async def test_a_grace_that_is_used_up_by_errors_ends_the_rung(world: World) -> None:
    """A retry asks for the rest of the grace; of one second nothing is left."""
    (pod,) = await world.run()
    world.fault("StopContainer", Kind.FAIL, times=2)
    outcome = await world.climb(pod, grace_s=1)
    assert outcome.seen == "down"
    assert outcome.containers[0].rung == 2


async def test_errors_for_ever_end_with_the_kernels_kill(world: World) -> None:
    """The kernel kills a pod that the runtime cannot stop; the runtime's error is reported."""
    (pod,) = await world.run()
    world.fault("StopContainer", Kind.FAIL, times=FOR_EVER, message="no such shim")
    outcome = await world.climb(pod)
    (container,) = outcome.containers
    assert (outcome.seen, container.seen, container.kernel) == ("down", "down", "gone")
    assert (container.rung, len(world.runtime.stops)) == (3, 2 * bounds.MAX_STOP_TRIES)
    assert "no such shim" in container.error


async def test_a_stop_without_effect_ends_with_the_kernels_kill(world: World) -> None:
    """The runtime always answers OK and the process lives on: rung 3 kills it."""
    (pod,) = await world.run()
    world.node._calls = {**world.node._calls, "StopContainer": _do_nothing}
    outcome = await world.climb(pod, grace_s=2)
    (container,) = outcome.containers
    assert (outcome.seen, container.rung, container.error) == ("down", 3, "")
    assert world.signals(pod) == ("KILL",)


async def test_what_the_kernel_cannot_kill_is_reported_by_pid(world: World) -> None:
    """Rung 4: a process in uninterruptible sleep is reported with its id, never as "down" (P5)."""
    (pod,) = await world.run()
    world.node.stick(pod.containers[0].id)
    outcome = await world.climb(pod, grace_s=1)
    (container,) = outcome.containers
    assert (outcome.seen, container.seen, container.kernel) == ("running", "running", "alive")
    assert container.rung == 3
    assert "1 processes left: 5000001" in container.error


async def test_a_kill_that_the_kernel_refuses_is_reported(world: World) -> None:
    """The outcome has the kill's error beside the runtime's."""
    (pod,) = await world.run()
    world.fault("StopContainer", Kind.FAIL, times=FOR_EVER, message="no such shim")
    world.kernel.files.faults.append(KernelFault(operation="kill"))
    outcome = await world.climb(pod, grace_s=1)
    (container,) = outcome.containers
    assert (outcome.seen, container.rung) == ("running", 3)
    assert "no such shim" in container.error
    assert "the kernel refused" in container.error


async def test_a_stuck_runtime_is_bypassed(world: World) -> None:
    """With a runtime that never answers, the pod is down within the grace and a bound."""
    (pod,) = await world.run()
    world.runtime.faults.wedge()
    outcome = await world.climb(pod, grace_s=5)
    (container,) = outcome.containers
    assert (outcome.seen, container.seen, container.kernel) == ("down", "down", "gone")
    assert (container.rung, len(world.runtime.stops)) == (3, 1)
    assert container.error.startswith("runtime-timeout")
    silent_s = bounds.RUNTIME_CALL_TIMEOUT_S * (1 + bounds.MAX_SILENT_LOOKS)
    assert outcome.ms <= (5 + bounds.STOP_MARGIN_S + silent_s + 1) * 1_000


async def test_a_stuck_process_under_a_stuck_runtime_is_reported(world: World) -> None:
    """Without an answer and with a process left, the pod is running; the process is named."""
    (pod,) = await world.run()
    world.node.stick(pod.containers[0].id)
    world.runtime.faults.wedge()
    outcome = await world.climb(pod, grace_s=0)
    assert (outcome.seen, outcome.containers[0].kernel) == ("running", "alive")
    assert "processes left" in outcome.containers[0].error


async def test_without_a_group_a_stuck_runtime_leaves_the_end_unknown(world: World) -> None:
    """Neither runtime nor kernel shows the end, so the pod is unknown."""
    (pod,) = await world.run()
    world.kernel.pod_group = _no_group  # type: ignore[method-assign]
    world.kernel.leaf_of = _no_leaf  # type: ignore[method-assign]
    world.runtime.faults.wedge()
    outcome = await world.climb(pod, grace_s=0)
    assert (outcome.seen, outcome.containers[0].seen) == ("unknown", "unknown")
    assert outcome.containers[0].kernel == "unseen"
    assert world.signals(pod) == ()


async def test_without_the_runtime_it_is_not_asked_at_all(world: World) -> None:
    """A runtime that is known not to answer costs no further wait: the kernel kills at once."""
    (pod,) = await world.run(containers=2)
    world.runtime.faults.wedge()
    world.runtime.looks = 0
    outcome = await world.climb_without_runtime(pod)
    assert (outcome.seen, outcome.ms) == ("down", 0)
    assert {(one.rung, one.kernel) for one in outcome.containers} == {(3, "gone")}
    assert (world.runtime.looks, world.runtime.stops) == (0, [])
    assert world.node.running() == ()


async def test_without_the_runtime_new_containers_go_down_too(world: World) -> None:
    """A container that is newer than the last listing is found by its control group."""
    (pod,) = await world.run()
    late = await create(world, pod, "late")
    await world.node.call("StartContainer", pb.StartContainerRequest(container_id=late))
    outcome = await world.climb_without_runtime(pod)
    assert outcome.seen == "down"
    assert [one.name for one in outcome.containers] == ["c0", "unknown"]
    assert world.node.running() == ()
    assert pod.sandbox_id in {one.id for one in world.node.processes()}  # the pause process is left


async def test_without_the_runtime_a_pod_that_runs_again_is_not_down(world: World) -> None:
    """No container is planned; the kernel shows a process, which is not stopped."""
    (pod,) = await world.run()
    outcome = await world.climb_without_runtime(replace(pod, containers=()))
    assert (outcome.seen, outcome.containers) == ("restarted", ())
    assert world.node.running() == (pod.containers[0].id,)


async def test_without_the_runtime_unreadable_groups_are_unknown(world: World) -> None:
    """With unreadable groups the pod is unknown: not down, and no defect."""
    (pod,) = await world.run()
    late = await create(world, pod, "late")
    await world.node.call("StartContainer", pb.StartContainerRequest(container_id=late))
    world.kernel.unreadable = True
    outcome = await world.climb_without_runtime(pod)
    assert (outcome.seen, {one.kernel for one in outcome.containers}) == ("unknown", {"unseen"})


async def test_a_pod_whose_group_is_not_its_own_is_left_alone(world: World) -> None:
    """A path that is not the pod's gives no group to kill: nothing is touched or claimed."""
    (pod,) = await world.run()
    world.kernel.pod_group = _refused_group  # type: ignore[method-assign]
    outcome = await world.climb_without_runtime(pod)
    assert (outcome.seen, outcome.containers[0].kernel) == ("unknown", "unseen")
    assert world.signals(pod) == ()


async def test_a_runtime_without_the_call_is_too_old_to_help(world: World) -> None:
    """UNIMPLEMENTED is not asked again; the kernel brings the pod down."""
    (pod,) = await world.run()
    world.fault("StopContainer", Kind.FAIL, times=FOR_EVER, status=grpc.StatusCode.UNIMPLEMENTED)
    outcome = await world.climb(pod)
    assert (outcome.seen, outcome.containers[0].rung) == ("down", 3)
    assert len(world.runtime.stops) == 2
    assert outcome.containers[0].error.startswith("runtime-too-old")


async def test_without_lists_the_kernel_decides(world: World) -> None:
    """After a stop that answered OK, only the kernel shows the end."""
    (pod,) = await world.run()
    world.fault("ListContainers", Kind.FAIL, times=FOR_EVER, status=grpc.StatusCode.UNIMPLEMENTED)
    outcome = await world.climb(pod)
    assert (outcome.seen, outcome.containers[0].kernel) == ("down", "gone")


async def test_a_runtime_that_restarts_meanwhile_is_asked_again(world: World) -> None:
    """When the runtime restarts during a stop, it is repeated with the rest of the grace."""
    (pod,) = await world.run(term_ms=8_000)
    world.fault("StopContainer", Kind.FAIL, status=grpc.StatusCode.UNAVAILABLE)
    climbing = world.climbing(pod, grace_s=20)
    world.runtime.alive = True

    async def restart() -> None:
        await world.clock.sleep(0.02)
        world.runtime.alive = False
        await world.clock.sleep(3)
        world.runtime.alive = True

    restarting = asyncio.create_task(restart())
    outcome = await world.clock.until(climbing)
    await restarting
    assert (outcome.seen, outcome.containers[0].rung) == ("down", 1)
    assert [timeout_s for _, timeout_s in world.runtime.stops] == [20, 17]
    assert world.signals(pod) == ("TERM",)


async def test_a_runtime_that_stays_away_is_not_waited_for_long(world: World) -> None:
    """A runtime that is gone is waited for once; then the kernel brings the pod down."""
    (pod,) = await world.run()
    world.runtime.alive = False
    outcome = await world.climb(pod)
    assert (outcome.seen, outcome.containers[0].rung) == ("down", 3)
    assert outcome.ms < 3 * bounds.RUNTIME_PATIENCE_S * 1_000


async def test_what_is_down_already_is_not_touched(world: World) -> None:
    """A container that ended after the plan is only looked at: rung 0."""
    (pod,) = await world.run()
    world.node.end(pod.containers[0].id)
    outcome = await world.climb(pod)
    assert (outcome.seen, outcome.containers[0].rung) == ("down", 0)
    assert world.runtime.stops == []


async def test_what_is_gone_already_is_not_touched(world: World) -> None:
    """NOT_FOUND counts as success: the container is gone."""
    (pod,) = await world.run()
    await world.node.call(
        "RemovePodSandbox", pb.RemovePodSandboxRequest(pod_sandbox_id=pod.sandbox_id)
    )
    outcome = await world.climb(pod)
    assert (outcome.seen, outcome.containers[0].seen) == ("gone", "gone")
    assert world.runtime.stops == []


async def test_a_container_that_vanishes_during_its_stop_is_gone(world: World) -> None:
    """Another process removes the container during its stop."""
    (pod,) = await world.run(ignores_term=True)
    climbing = world.climbing(pod)
    await world.clock.advance(0.5)
    container_id = pod.containers[0].id
    world.node.end(container_id)
    world.node.forget(container_id)
    outcome = await world.clock.until(climbing)
    assert outcome.containers[0].seen == "gone"
    assert outcome.seen == "down"


async def test_all_containers_of_a_pod_go_down_side_by_side(world: World) -> None:
    """Three containers of one pod take the time of one."""
    (pod,) = await world.run(containers=3, ignores_term=True)
    outcome = await world.climb(pod, grace_s=4)
    assert outcome.seen == "down"
    assert [one.rung for one in outcome.containers] == [1, 1, 1]
    assert outcome.ms < 4_500


async def test_a_created_container_that_starts_late_is_stopped_too(world: World) -> None:
    """A stop does nothing to a container in CREATED: it is stopped once it has started."""
    (pod,) = await world.run()
    late = await create(world, pod, "late")
    (now,) = await world.runtime.pods()
    climbing = world.climbing(now)
    await world.clock.advance(1)
    await world.node.call("StartContainer", pb.StartContainerRequest(container_id=late))
    outcome = await world.clock.until(climbing)
    assert outcome.seen == "down"
    assert world.node.signals(late) == ("TERM",)
    assert world.node.running() == ()


async def test_a_created_container_that_never_starts_is_reported(world: World) -> None:
    """A container in CREATED may start at any moment, so the pod is not down."""
    (pod,) = await world.run()
    await create(world, pod, "late")
    (now,) = await world.runtime.pods()
    outcome = await world.climb(now)
    assert outcome.seen == "created"
    assert outcome.ms < (2 * bounds.QUIET_TIMEOUT_S + 1) * 1_000


async def test_what_starts_while_its_pod_goes_down_goes_down_too(world: World) -> None:
    """One container comes back while another still ends: both are brought down."""
    (pod,) = await world.run(containers=2, term_ms=3_000)
    first, second = pod.containers
    climbing = world.climbing(pod)
    await world.clock.advance(0.5)
    world.node.end(first.id)
    await world.kubelet.sync()
    assert len(world.node.running()) == 2
    outcome = await world.clock.until(climbing)
    assert outcome.seen == "down"
    assert len(outcome.containers) == 3
    assert world.node.running() == ()
    assert world.node.signals(second.id) == ("TERM",)


async def test_a_pod_that_always_comes_back_is_reported_restarted(world: World) -> None:
    """The rounds are bounded: a pod that restarts faster than it is stopped is reported."""
    (pod,) = await world.run()
    honest = world.node._calls["StopContainer"]

    async def stop_and_start_another(request: pb.StopContainerRequest) -> object:
        reply = await honest(request)
        other = await create(world, pod, "again")
        await world.node.call("StartContainer", pb.StartContainerRequest(container_id=other))
        return reply

    world.node._calls = {**world.node._calls, "StopContainer": stop_and_start_another}  # type: ignore[dict-item]
    outcome = await world.climb(pod)
    assert outcome.seen == "restarted"
    assert len(outcome.containers) == bounds.MAX_CLIMB_ROUNDS


async def test_processes_that_outlive_their_container_are_reported(world: World) -> None:
    """The runtime reports exited, the kernel shows processes even after a kill: not down (P5)."""
    (pod,) = await world.run()
    world.kernel.stubborn[pod.containers[0].id] = 12
    outcome = await world.climb(pod)
    (container,) = outcome.containers
    assert (outcome.seen, container.seen, container.kernel) == ("running", "down", "alive")
    assert container.rung == 3
    shown = " ".join(f"{pid} S simulated" for pid in range(101, 109))
    assert container.error == f"12 processes left: {shown}"


async def test_processes_that_a_runtime_has_lost_are_killed(world: World) -> None:
    """After its shim was killed the runtime reports exited; its processes are killed (P5)."""
    (pod,) = await world.run()
    world.runtime.lost.add(pod.containers[0].id)
    outcome = await world.climb(pod)
    (container,) = outcome.containers
    assert (outcome.seen, container.rung, container.kernel) == ("down", 3, "gone")
    assert world.runtime.stops == []
    assert world.node.running() == ()


async def test_an_unreadable_group_leaves_the_runtimes_look(world: World) -> None:
    """With an unreadable control group, the runtime's look alone counts."""
    (pod,) = await world.run()
    world.kernel.unreadable = True
    outcome = await world.climb(pod)
    assert (outcome.seen, outcome.containers[0].kernel) == ("down", "unseen")
    assert "cannot read the control group" in outcome.containers[0].error


async def test_a_status_that_fails_is_no_reason_to_wait(world: World) -> None:
    """Without the status before the stop, the group is found below the pod's group."""
    (pod,) = await world.run()
    world.fault("ContainerStatus", Kind.FAIL)
    outcome = await world.climb(pod)
    assert (outcome.seen, outcome.containers[0].kernel) == ("down", "gone")


async def test_a_step_without_containers_only_looks(world: World) -> None:
    """A planned pod whose containers are already down is reported as seen, untouched."""
    (pod,) = await world.run()
    outcome = await world.clock.until(asyncio.create_task(climb(world.ports, pod, (), grace_s=30)))
    assert outcome.seen == "restarted"
    assert world.runtime.stops == []


async def test_many_pods_end_one_by_one_and_share_their_looks() -> None:
    """Thirty pods go down a bounded number at a time; each outcome comes once, with few looks."""
    world = World()
    pods = await world.run(pods=30)
    steps = [Step(pod=pod, containers=pod.containers, grace_s=30) for pod in pods]

    async def collect() -> list[PodOutcome]:
        stopping = stop_pods(world.ports, steps)
        return [outcome async for outcome in stopping]

    outcomes = await world.clock.until(asyncio.create_task(collect()))
    assert {outcome.uid for outcome in outcomes} == {pod.uid for pod in pods}
    assert {outcome.seen for outcome in outcomes} == {"down"}
    assert world.runtime.looks < len(pods)
    assert world.node.running() == ()


async def test_each_pod_of_many_has_its_whole_grace() -> None:
    """A pod that waits for its stop loses none of its grace: each gets SIGTERM first."""
    world = World()
    pods = await world.run(pods=2 * bounds.MAX_PARALLEL_STOPS, ignores_term=True)
    steps = [Step(pod=pod, containers=pod.containers, grace_s=5) for pod in pods]

    async def collect() -> list[PodOutcome]:
        stopping = stop_pods(world.ports, steps)
        return [outcome async for outcome in stopping]

    begun_ms = world.agent_clock.monotonic_ms()
    outcomes = await world.clock.until(asyncio.create_task(collect()))
    assert {outcome.containers[0].rung for outcome in outcomes} == {1}
    assert {timeout_s for _, timeout_s in world.runtime.stops} == {5}
    assert world.agent_clock.monotonic_ms() - begun_ms == pytest.approx(10_000, abs=500)


async def test_a_slow_pod_does_not_hold_back_the_others() -> None:
    """Outcomes come when they are seen, not in the order of the plan."""
    world = World()
    slow, quick = await world.run(pods=2, ignores_term=True)
    world.node.end(quick.containers[0].id)
    steps = [Step(pod=pod, containers=pod.containers, grace_s=9) for pod in (slow, quick)]
    stopping = stop_pods(world.ports, steps)
    first = await world.clock.until(asyncio.create_task(_next(stopping)))
    assert (first.uid, first.ms) == (quick.uid, 0)
    second = await world.clock.until(asyncio.create_task(_next(stopping)))
    assert second.uid == slow.uid


async def test_leaving_early_ends_the_climbs() -> None:
    """Closing the iteration leaves no task that could still act."""
    world = World()
    slow, quick = await world.run(pods=2, ignores_term=True)
    world.node.end(quick.containers[0].id)
    steps = [Step(pod=pod, containers=pod.containers, grace_s=9) for pod in (slow, quick)]
    before = asyncio.all_tasks()
    async with aclosing(stop_pods(world.ports, steps)) as stopping:
        async for outcome in stopping:
            assert outcome.uid == quick.uid
            break
    await world.clock.advance(60)
    assert not asyncio.all_tasks() - before
    assert world.node.running() == (slow.containers[0].id,)


async def test_a_defect_in_a_climb_reaches_the_caller() -> None:
    """An unexpected error is raised where the outcomes are read."""
    world = World()
    (pod,) = await world.run()
    world.kernel.leaf_of = _broken  # type: ignore[method-assign]
    stopping = stop_pods(world.ports, [Step(pod=pod, containers=pod.containers, grace_s=9)])
    with pytest.raises(ExceptionGroup) as caught:
        await _next(stopping)
    assert caught.group_contains(ZeroDivisionError)


def _broken(pid: int, container_id: str) -> None:
    raise ZeroDivisionError


async def _do_nothing(_: object) -> pb.StopContainerResponse:
    return pb.StopContainerResponse()


def _no_group(uid: str, hint: str = "") -> None:
    return None


def _no_leaf(pid: int, container_id: str) -> None:
    return None


def _refused_group(uid: str, hint: str = "") -> PodGroup:
    raise GateFailed("refused the control group: it is not the pod's", code="cgroup-mismatch")


async def _next(stopping: AsyncIterator[PodOutcome]) -> PodOutcome:
    return await anext(stopping)


async def create(world: World, pod: Pod, name: str) -> str:
    """Create a container in a pod, as kubelet does a moment before it starts one."""
    reply = await world.node.call(
        "CreateContainer",
        pb.CreateContainerRequest(
            pod_sandbox_id=pod.sandbox_id,
            config=pb.ContainerConfig(metadata=pb.ContainerMetadata(name=name)),
        ),
    )
    assert isinstance(reply, pb.CreateContainerResponse)
    return reply.container_id
