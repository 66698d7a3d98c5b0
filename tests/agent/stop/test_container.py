# SPDX-License-Identifier: Apache-2.0
"""One container on its way down, fault by fault: rungs, looks, reports, and how long it takes."""

import asyncio

import grpc
import pytest

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.agent.kernel.port import PodGroup
from breakglass.core import bounds
from breakglass.errors import GateFailed
from breakglass.sim.faults import FOR_EVER, Kind
from breakglass.sim.kernel import KernelFault
from tests.support.ladder_world import World, create


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


async def _do_nothing(_: object) -> pb.StopContainerResponse:
    return pb.StopContainerResponse()


def _no_group(uid: str, hint: str = "") -> None:
    return None


def _no_leaf(pid: int, container_id: str) -> None:
    return None


def _refused_group(uid: str, hint: str = "") -> PodGroup:
    raise GateFailed("refused the control group: it is not the pod's", code="cgroup-mismatch")
