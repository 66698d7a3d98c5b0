# SPDX-License-Identifier: Apache-2.0
"""A whole simulated node behind its socket, its clock, its faults, and its workloads file."""

import asyncio
import random
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.core.pods import Pod, Workload, belongs, identify
from breakglass.errors import Malformed
from breakglass.sim.client import CriClient
from breakglass.sim.clock import VirtualClock
from breakglass.sim.cri_server import METHODS, SERVICE, CriServer
from breakglass.sim.faults import CriError, Fault, Faults, Kind
from breakglass.sim.node import SimNode
from breakglass.sim.serve import serve
from breakglass.sim.workloads import (
    Controller,
    WorkloadSpec,
    make_pod,
    parse_workloads,
    render_workloads,
)

WORKLOADS = (
    WorkloadSpec(namespace="default", name="telemetry", pods=2, containers=2),
    WorkloadSpec(namespace="default", name="telemetry-agent", ignores_term=True),
    WorkloadSpec(namespace="default", name="store", controller=Controller.STATEFULSET),
    WorkloadSpec(namespace="default", name="web", controller=Controller.DEPLOYMENT, term_ms=50),
    WorkloadSpec(namespace="default", name="alone", controller=Controller.BARE),
)


def test_every_method_of_the_service_is_wired() -> None:
    """The table and the interface agree, both ways and with their types."""
    service = pb.DESCRIPTOR.services_by_name["RuntimeService"]
    assert service.full_name == SERVICE
    assert {
        method.name: (method.input_type.name, method.output_type.name) for method in service.methods
    } == {name: (asked.__name__, replied.__name__) for name, (asked, replied) in METHODS.items()}


async def test_a_node_serves_its_pods_and_restarts_them(tmp_path: Path) -> None:
    """`ready` is called once all pods run; kubelet restarts a stopped container."""
    socket, ready = tmp_path / "cri.sock", asyncio.Event()
    serving = asyncio.create_task(serve(socket, WORKLOADS, ready=ready.set))
    async with CriClient(socket) as client:
        await ready.wait()
        first = await _containers(client)
        assert len(first) == 8
        assert {one.state for one in first} == {pb.CONTAINER_RUNNING}
        await client.call(
            "StopContainer", pb.StopContainerRequest(container_id=first[0].id, timeout=5)
        )
        async with asyncio.timeout(60):
            while len(await _containers(client)) == len(first):
                pass  # each call lets the node's tasks run
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not socket.exists()


async def _containers(client: CriClient) -> list[pb.Container]:
    reply = await client.call("ListContainers", pb.ListContainersRequest())
    return list(cast("pb.ListContainersResponse", reply).containers)


async def test_errors_cross_the_socket_with_their_code(tmp_path: Path) -> None:
    """A client gets the runtime's code and message; without a runtime it gets UNAVAILABLE."""
    socket, clock = tmp_path / "cri.sock", VirtualClock()
    faults = Faults(clock)
    faults.add(Fault(method="Version", kind=Kind.FAIL, message="no space left on device"))
    async with CriServer(SimNode(clock=clock), socket, faults), CriClient(socket) as client:
        with pytest.raises(CriError, match="no space left"):
            await client.call("Version", pb.VersionRequest())
        await client.call("Version", pb.VersionRequest())
    async with CriClient(socket) as client:
        with pytest.raises(CriError) as caught:
            await client.call("Version", pb.VersionRequest())
    assert caught.value.status.name == "UNAVAILABLE"


async def test_a_client_is_used_inside_its_context(tmp_path: Path) -> None:
    """A call before the context is open raises `RuntimeError`."""
    with pytest.raises(RuntimeError):
        await CriClient(tmp_path / "cri.sock").call("Version", pb.VersionRequest())


def test_workloads_survive_their_file() -> None:
    """Parsing rendered workloads gives the same value."""
    assert parse_workloads(render_workloads(WORKLOADS)) == WORKLOADS


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b'{"workloads": [{"workload": "default/web"}]}',
        render_workloads(WORKLOADS).replace(b'"bare"', b'"cronjob"'),
        render_workloads(WORKLOADS).replace(b'"pods": 2', b'"pods": -2'),
        render_workloads(WORKLOADS).replace(b'"term_ms"', b'"extra"'),
    ],
)
def test_a_wrong_workloads_file_is_malformed(raw: bytes) -> None:
    """Missing, unknown and impossible values are refused."""
    with pytest.raises(Malformed):
        parse_workloads(raw)


@pytest.mark.parametrize("spec", WORKLOADS, ids=lambda one: one.name)
def test_pods_are_shaped_as_their_controller_shapes_them(spec: WorkloadSpec) -> None:
    """Only the pods of a DaemonSet are identified as pods of a DaemonSet."""
    config = make_pod(spec, random.Random(1)).sandbox
    pod = Pod(
        uid=config.metadata.uid,
        name=config.metadata.name,
        namespace=config.metadata.namespace,
        sandbox_id="ab" * 32,
        labels=tuple(config.labels.items()),
        annotations=tuple(config.annotations.items()),
    )
    is_one = spec.controller is Controller.DAEMONSET
    assert (identify(pod).daemonset == spec.name) is is_one
    workload = Workload(namespace=spec.namespace, name=spec.name, revision=spec.revision)
    assert belongs(pod, workload).member is is_one


def test_a_long_name_is_cut_as_the_api_server_cuts_it() -> None:
    """58 characters of the name remain before the suffix, 63 in all."""
    spec = replace(WORKLOADS[0], name="c" * 60)
    name = make_pod(spec, random.Random(1)).sandbox.metadata.name
    assert len(name) == 63
    assert name.startswith("c" * 58)


async def test_a_virtual_clock_wakes_in_order() -> None:
    """Each sleeper wakes at its own time, the earlier first, in whatever order they slept."""
    clock, woken = VirtualClock(), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.now_ns()))

    begun_ns = clock.now_ns()
    async with asyncio.TaskGroup() as group:
        for seconds in (3, 1, 2, 0):
            group.create_task(sleeper(seconds))
        await clock.advance(2)
        assert [seconds for seconds, _ in woken] == [0, 1, 2]
        await clock.advance(1)
    assert woken[-1] == (3, begun_ns + 3_000_000_000)


async def test_waiting_for_what_never_comes_is_an_error() -> None:
    """A task that can never end raises `RuntimeError` instead of hanging the test."""
    waiting = asyncio.create_task(asyncio.Event().wait())
    with pytest.raises(RuntimeError, match="for ever"):
        await VirtualClock().until(waiting)
    waiting.cancel()


@pytest.mark.parametrize("kind", list(Kind))
async def test_each_fault_does_what_it_is_called(kind: Kind) -> None:
    """Each kind: carried out or not, answered or not, at once or late."""
    clock, done = VirtualClock(), []
    faults = Faults(clock)
    faults.add(Fault(method="StopContainer", kind=kind, delay_s=5))

    async def carry_out() -> pb.StopContainerResponse:
        done.append(clock.now_ns())
        return pb.StopContainerResponse()

    await faults.around("Version", carry_out)
    done.clear()
    begun_ns = clock.now_ns()
    call = asyncio.create_task(faults.around("StopContainer", carry_out))
    await clock.advance(10)
    is_done = kind in {Kind.LOSE_REPLY, Kind.FAIL_AFTER, Kind.DELAY}
    is_answered = kind in {Kind.FAIL, Kind.FAIL_AFTER, Kind.DELAY}
    assert bool(done) is is_done
    assert call.done() is is_answered
    if kind is Kind.DELAY:
        assert done == [begun_ns + 5_000_000_000]
    elif is_answered:
        assert isinstance(call.exception(), CriError)
    call.cancel()
    await faults.around("StopContainer", carry_out)


async def test_calls_of_callers_who_left_a_stuck_runtime_are_not_carried_out() -> None:
    """After the runtime is unstuck, it carries out only the calls that still wait."""
    clock, done = VirtualClock(), []
    faults = Faults(clock)
    faults.wedge()

    async def carry_out() -> pb.VersionResponse:
        done.append(1)
        return pb.VersionResponse()

    left = asyncio.create_task(faults.around("Version", carry_out))
    waits = asyncio.create_task(faults.around("Version", carry_out))
    await clock.advance(60)
    left.cancel()
    faults.unwedge()
    await waits
    assert done == [1]
