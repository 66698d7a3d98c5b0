# SPDX-License-Identifier: Apache-2.0
"""The contract of the runtime port, over simulated runtimes and a real containerd."""

import asyncio
import time

import pytest

from breakglass.agent.runtime import port
from breakglass.agent.runtime.cri import CriRuntime
from breakglass.core import bounds
from breakglass.core.pods import Container, ContainerState, Pod, Workload, belongs
from breakglass.errors import RuntimeUnavailable
from tests.contract import rigs
from tests.contract.rigs import PATIENCE_S, Made, Rig

TELEMETRY = Workload(namespace="default", name="telemetry")
UNKNOWN_ID = "ab" * 32
KILLED = 137  # the exit code of a container that SIGKILL has ended


async def find(runtime: CriRuntime, made: Made) -> Pod:
    """Return a pod from a fresh listing."""
    return next(pod for pod in await runtime.pods() if pod.uid == made.uid)


async def state_of(runtime: CriRuntime, made: Made, place: int = 0) -> ContainerState:
    """Return the state of one container from a fresh listing."""
    containers = {one.id: one for one in (await find(runtime, made)).containers}
    return containers[made.container_ids[place]].state


async def test_the_runtime_says_who_it_is(rig: Rig, runtime: CriRuntime) -> None:
    """Name, version and readiness come from the runtime."""
    version = await runtime.version()
    assert (version.name, version.api, version.ready) == (rig.name, "v1", True)


async def test_pods_come_with_what_identifies_them(rig: Rig, runtime: CriRuntime) -> None:
    """A pod is listed with everything that identifies its workload, and with all containers."""
    made = await rig.pod(containers=2)
    pod = await find(runtime, made)
    assert (pod.name, pod.namespace, pod.sandbox_id) == (made.name, "default", made.sandbox_id)
    assert pod.ready
    assert pod.live
    assert {one.id for one in pod.containers} == set(made.container_ids)
    assert {one.name for one in pod.containers} == {"c0", "c1"}
    assert all(_runs_with_grace(one) for one in pod.containers)
    assert belongs(pod, TELEMETRY).member


def _runs_with_grace(container: Container) -> bool:
    return container.state is ContainerState.RUNNING and container.grace_s == 30


async def test_a_stop_within_the_grace_ends_one_container(rig: Rig, runtime: CriRuntime) -> None:
    """A process that obeys TERM ends early, and the pod's other container keeps running."""
    made = await rig.pod(containers=2)
    await runtime.stop_container(made.container_ids[0], timeout_s=60, deadline_s=70)
    look = await runtime.container(made.container_ids[0])
    assert look is not None
    assert look.state is ContainerState.EXITED
    assert look.exit_code != KILLED  # the grace was not over
    assert await state_of(runtime, made, 1) is ContainerState.RUNNING
    assert (await find(runtime, made)).live


async def test_a_process_that_ignores_term_is_killed_after_the_grace(
    rig: Rig, runtime: CriRuntime
) -> None:
    """The runtime sends SIGKILL after the grace period."""
    made = await rig.pod(ignores_term=True)
    begun = time.monotonic()
    await runtime.stop_container(made.container_ids[0], timeout_s=1, deadline_s=11)
    assert time.monotonic() - begun >= 0.9
    assert await state_of(runtime, made) is ContainerState.EXITED


async def test_a_timeout_of_zero_kills_at_once(rig: Rig, runtime: CriRuntime) -> None:
    """A stop with timeout 0 (rung 2) does not wait for a process that ignores TERM."""
    made = await rig.pod(ignores_term=True)
    await runtime.stop_container(made.container_ids[0], timeout_s=0, deadline_s=10)
    look = await runtime.container(made.container_ids[0])
    assert look is not None
    assert (look.state, look.exit_code) == (ContainerState.EXITED, KILLED)


async def test_a_stop_again_is_no_error(rig: Rig, runtime: CriRuntime) -> None:
    """Stopping an exited container succeeds and changes nothing."""
    made = await rig.pod()
    for _ in range(2):
        await runtime.stop_container(made.container_ids[0], timeout_s=5, deadline_s=15)
    assert await state_of(runtime, made) is ContainerState.EXITED


async def test_a_running_container_has_a_process_id(rig: Rig, runtime: CriRuntime) -> None:
    """The status of a running container has a process id, and that of an exited one has none."""
    made = await rig.pod()
    before = await runtime.container(made.container_ids[0])
    await runtime.stop_container(made.container_ids[0], timeout_s=0, deadline_s=10)
    after = await runtime.container(made.container_ids[0])
    assert before is not None
    assert after is not None
    assert before.state is ContainerState.RUNNING
    assert before.pid is not None
    assert after.pid is None


async def test_an_unknown_id_is_gone_and_nothing_else_happens(
    rig: Rig, runtime: CriRuntime
) -> None:
    """Both OK and NOT_FOUND mean that the container is gone; other pods keep running."""
    made = await rig.pod()
    await runtime.stop_container(UNKNOWN_ID, timeout_s=0, deadline_s=10)
    assert await runtime.container(UNKNOWN_ID) is None
    assert await state_of(runtime, made) is ContainerState.RUNNING


async def test_a_removed_pod_is_gone(rig: Rig, runtime: CriRuntime) -> None:
    """Containers that were removed meanwhile are an answer, not an error."""
    made = await rig.pod()
    await rigs.remove(rig, made)
    assert await runtime.container(made.container_ids[0]) is None
    await runtime.stop_container(made.container_ids[0], timeout_s=1, deadline_s=11)
    assert made.uid not in {pod.uid for pod in await runtime.pods()}


@pytest.mark.parametrize("cut", [1, 12, 63])
async def test_a_shortened_id_is_refused_before_any_call(
    rig: Rig, runtime: CriRuntime, cut: int
) -> None:
    """Runtimes resolve prefixes, and one character has stopped a pod, so the agent sends none."""
    made = await rig.pod()
    with pytest.raises(RuntimeUnavailable, match="full id"):
        await runtime.stop_container(made.container_ids[0][:cut], timeout_s=0, deadline_s=10)
    with pytest.raises(RuntimeUnavailable, match="full id"):
        await runtime.container(made.container_ids[0][:cut])
    assert await state_of(runtime, made) is ContainerState.RUNNING


async def test_a_sandbox_id_stops_nothing(rig: Rig, runtime: CriRuntime) -> None:
    """The runtime may answer OK to an id of the wrong kind; only a listing shows the truth."""
    made = await rig.pod()
    await runtime.stop_container(made.sandbox_id, timeout_s=0, deadline_s=10)
    pod = await find(runtime, made)
    assert pod.ready
    assert pod.live


async def test_a_created_container_is_left_as_it_is(rig: Rig, runtime: CriRuntime) -> None:
    """The runtime answers OK to the stop of a created container, which can still start later."""
    made = await rig.pod()
    late = await rigs.create_only(rig, made)
    await runtime.stop_container(late, timeout_s=1, deadline_s=11)
    states = {one.id: one.state for one in (await find(runtime, made)).containers}
    assert states[late] is ContainerState.CREATED
    await rigs.start(rig, late)
    look = await runtime.container(late)
    assert look is not None
    assert look.state is ContainerState.RUNNING


async def test_a_deadline_within_the_grace_is_refused(rig: Rig, runtime: CriRuntime) -> None:
    """A call that ends before the grace period is over would leave the container running."""
    with pytest.raises(ValueError, match="deadline"):
        await runtime.stop_container(UNKNOWN_ID, timeout_s=5, deadline_s=5)


async def test_a_stuck_runtime_costs_a_deadline_and_no_more(rig: Rig, runtime: CriRuntime) -> None:
    """A paused runtime accepts connections: each call ends by its deadline and stops nothing."""
    made = await rig.pod()
    await runtime.pods()
    await rig.pause()
    calls = [
        runtime.pods(),
        runtime.version(),
        runtime.container(made.container_ids[0]),
        runtime.stop_container(made.container_ids[0], timeout_s=0, deadline_s=1.0),
    ]
    begun = time.monotonic()
    try:
        for ended in await asyncio.gather(*calls, return_exceptions=True):  # noqa: TID251 - all four
            assert isinstance(ended, RuntimeUnavailable)
            assert ended.stable_code == port.TIMEOUT
        assert time.monotonic() - begun < PATIENCE_S
    finally:
        await rig.resume()
    assert await state_of(runtime, made) is ContainerState.RUNNING


async def test_a_runtime_that_returns_is_found_at_once(rig: Rig, runtime: CriRuntime) -> None:
    """A dead runtime is an error at once; after its restart the same client lists its pods."""
    made = await rig.pod()
    await runtime.pods()
    await rig.kill()
    try:
        with pytest.raises(RuntimeUnavailable) as caught:
            await runtime.pods()
        assert caught.value.stable_code == port.UNAVAILABLE  # and not TIMEOUT: it came before
    finally:
        await rig.start()
    back = time.monotonic()
    while True:
        try:
            assert await state_of(runtime, made) is ContainerState.RUNNING
        except RuntimeUnavailable:
            assert time.monotonic() - back < PATIENCE_S
            await asyncio.sleep(bounds.LOOK_INTERVAL_S)
        else:
            return


async def test_a_socket_that_is_not_there_is_said_at_once(rig: Rig) -> None:
    """A wrong path is an error with a hint, not a wait."""
    client = CriRuntime(rig.socket.with_name("unused.sock"))
    with pytest.raises(RuntimeUnavailable) as caught:
        await client.version()
    assert caught.value.stable_code == port.UNAVAILABLE  # and not TIMEOUT: it came before
    assert "socket path" in caught.value.hint
    await client.close()
