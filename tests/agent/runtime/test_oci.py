# SPDX-License-Identifier: Apache-2.0
"""Which OCI runtime makes a pod's containers: asked for once for each sandbox."""

import random
from dataclasses import replace

import pytest

from breakglass.agent.runtime import oci
from breakglass.agent.runtime.oci import OciRuntimes
from breakglass.core.gates import Oci
from breakglass.core.pods import Pod
from breakglass.sim.clock import VirtualClock
from breakglass.sim.kernel import Host, SimKernel
from breakglass.sim.kubelet import Kubelet, Machine
from breakglass.sim.node import SimNode
from breakglass.sim.workloads import WorkloadSpec, make_pod
from tests.support.sim_runtime import SimRuntime

TELEMETRY = WorkloadSpec(namespace="monitoring", name="telemetry")
UNKNOWN = (Oci.UNKNOWN, "")


async def crun_pod() -> tuple[SimRuntime, Pod]:
    """Return a runtime that makes containers with crun, and a pod in it."""
    clock = VirtualClock()
    node = SimNode(clock=clock)
    kernel = SimKernel(node, Host(oci=Oci.CRUN))
    made = make_pod(TELEMETRY, random.Random(1))
    kubelet = Kubelet(node.call, clock, [made], Machine(kernel=kernel))
    await kubelet.sync()
    runtime = SimRuntime(node, clock)
    (pod,) = await runtime.pods()
    return runtime, pod


async def test_a_sandbox_is_asked_for_once() -> None:
    """Neither its OCI runtime nor its group changes: a runtime that is gone is not missed."""
    runtime, pod = await crun_pod()
    runtimes = OciRuntimes(runtime)
    found = await runtimes.of(pod, ask=True)
    assert found[0] is Oci.CRUN
    assert found[1].endswith(pod.uid)
    runtime.alive = False
    assert await runtimes.of(pod, ask=True) == await runtimes.of(pod, ask=False) == found


async def test_without_an_answer_it_is_unknown_until_there_is_one() -> None:
    """A runtime that does not answer, a sandbox that is gone, and a pod without one."""
    runtime, pod = await crun_pod()
    runtimes = OciRuntimes(runtime)
    assert await runtimes.of(pod, ask=False) == UNKNOWN
    assert await runtimes.of(replace(pod, sandbox_id=""), ask=True) == UNKNOWN
    assert await runtimes.of(replace(pod, sandbox_id="f" * 64), ask=True) == UNKNOWN
    runtime.alive = False
    assert await runtimes.of(pod, ask=True) == UNKNOWN
    runtime.alive = True
    assert (await runtimes.of(pod, ask=True))[0] is Oci.CRUN


async def test_what_is_cached_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full cache is emptied, and the sandbox is asked for again."""
    runtime, pod = await crun_pod()
    monkeypatch.setattr(oci, "_MAX_KNOWN", 1)
    runtimes = OciRuntimes(runtime)
    runtimes._known["e" * 64] = (Oci.RUNC, "")
    await runtimes.of(pod, ask=True)
    assert set(runtimes._known) == {pod.sandbox_id}
