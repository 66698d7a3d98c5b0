# SPDX-License-Identifier: Apache-2.0
"""The agent stops a workload although the runtime hangs or is dead.

The tests pause or kill a real containerd, or kill its shims.  The agent then kills the pods through
the kernel, and reads from the kernel that they are down.  When the runtime is back, no pod may
start again.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from breakglass._pb.breakglass.v1 import agent_pb2 as pb
from breakglass.agent.kernel.hierarchy import FREEZER
from lab import leftovers
from lab.containerd import Containerd
from tests.support import own_groups, real_node
from tests.support.own_groups import OwnGroups
from tests.support.played_kubelet import REVISION, PlayedPod, until
from tests.support.real_node import RealNode, ended_pods, finished, witnessing

_WHY_NOT = real_node.why_not()
pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT or "it can")]

SHUT = ("0", "0")
IMPATIENT = ("-m", "tests.support.impatient_agent")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    """Return a runtime that tests pause and kill; `mend` repairs it after each test."""
    with witnessing(tmp_path_factory.mktemp("wedged") / "lab") as made:
        yield made


@pytest.fixture
def node(whole: Containerd, tmp_path: Path) -> Iterator[RealNode]:
    """Return a node whose agent has not been started."""
    made = RealNode(whole, tmp_path)
    try:
        yield made
    finally:
        mend(whole)
        made.close()


def mend(containerd: Containerd) -> None:
    """Resume or restart containerd and resume its shims, so that it answers again."""
    for shim in leftovers.shims(containerd.socket):
        with contextlib.suppress(ProcessLookupError):  # a shim without containers has ended
            os.kill(shim, signal.SIGCONT)
    try:
        containerd.resume()
    except ValueError:  # it was killed
        containerd.start()


def shim_of(containerd: Containerd, pod: PlayedPod) -> int:
    """Return the process id of a pod's shim."""
    (found,) = (
        pid
        for pid in leftovers.shims(containerd.socket)
        if pod.sandbox_id in Path(f"/proc/{pid}/cmdline").read_text()
    )
    return found


def stopping(
    node: RealNode, pod: PlayedPod, **command: object
) -> tuple[threading.Thread, list[pb.Progress]]:
    """Begin a stop, and return when the runtime has got its StopContainer call."""
    progress: list[pb.Progress] = []
    command = {"hold_s": 3600, **command}
    delivery = threading.Thread(target=lambda: progress.extend(node.submit(**command)))
    delivery.start()
    call = f'StopContainer for \\"{pod.container_ids[0]}\\"'
    until(lambda: call in node.containerd.log.read_text(), "the stop")
    return delivery, progress


def expect_nothing_starts(node: RealNode, *pods: PlayedPod) -> None:
    """Repair the runtime; check that the pods stay down, and that the runtime reports that too."""
    mend(node.containerd)
    for pod in pods:
        node.kubelet.fails(node.kubelet.start, pod)
        assert not pod.processes
        assert pod.starts == 1
        assert pod.limits == SHUT

    until(lambda: all(listed(node).get(pod.uid) == "stopped" for pod in pods), "stopped pods")
    node.checked_state()


def wait_for_listing(node: RealNode, pod: PlayedPod) -> None:
    """Wait until the agent has written a listing with the pod.

    An agent says that it is ready before its first listing is written; these tests are about one
    that has it.
    """
    listing = node.files.folder / "state" / "listing.json"
    until(lambda: listing.exists() and pod.uid in listing.read_text(), "the listing of the pod")


def listed(node: RealNode) -> dict[str, str]:
    """Return the pods' states as the runtime reports them; none while it does not answer."""
    with node.agent.local() as client:
        try:
            pods = client.call("Pods", pb.PodsRequest(), pb.PodsResponse).pods
        except grpc.RpcError:
            return {}
    return {one.uid: one.state for one in pods}


def test_pods_are_stopped_without_a_paused_runtime(node: RealNode) -> None:
    """The agent knows one pod from the last listing, and a later one from its log folder only."""
    known = node.kubelet.pod()
    node.start()
    wait_for_listing(node, known)
    with node.asleep():
        since = node.kubelet.pod()
        node.containerd.pause()

    progress = node.submit(hold_s=3600)

    end = finished(progress)
    assert (end.result, end.pods, end.down, end.held) == ("done", 2, 2, 2)
    assert end.note.startswith("seen by the kernel alone")
    for pod in (known, since):
        assert not pod.processes
        assert pod.limits == SHUT
        for one in ended_pods(progress)[pod.uid].containers:
            assert (one.rung, one.seen, one.kernel) == (3, "down", "gone")
    # In a pod known by name only the agent cannot tell the sandbox from a container: it kills both.
    assert [len(ended_pods(progress)[pod.uid].containers) for pod in (known, since)] == [1, 2]
    expect_nothing_starts(node, known, since)
    node.kubelet.fails(node.kubelet.run_sandbox, since)


@pytest.mark.parametrize("how", ["stopped", "dead"])
def test_an_agent_started_beside_such_a_runtime_knows_its_pods(node: RealNode, how: str) -> None:
    """It knows them, with their revision, from the listing that the earlier agent saved."""
    pod = node.kubelet.pod()
    node.start()
    wait_for_listing(node, pod)
    node.agent.kill()
    if how == "dead":
        node.containerd.kill()
        node.containerd.socket.unlink()
    else:
        node.containerd.pause()
    node.start(*IMPATIENT)

    progress = node.submit(hold_s=3600, revision=REVISION)

    end = finished(progress)
    assert (end.result, end.down, end.held) == ("done", 1, 1)
    assert end.note.startswith("seen by the kernel alone")
    assert ended_pods(progress)[pod.uid].containers[0].rung == 3
    assert not pod.processes
    expect_nothing_starts(node, pod)


def test_a_runtime_that_stops_in_the_middle_of_a_stop(node: RealNode) -> None:
    """The runtime got the call and then hangs: after the grace the agent kills by the kernel."""
    pod = node.kubelet.pod(stubborn=True)
    node.start(*IMPATIENT)
    delivery, progress = stopping(node, pod, grace_s=5)  # time to pause it before its kill
    node.containerd.pause()
    delivery.join(60)
    assert finished(progress).down == 1
    (container,) = ended_pods(progress)[pod.uid].containers
    assert (container.rung, container.seen, container.kernel) == (3, "down", "gone")
    assert not pod.processes
    expect_nothing_starts(node, pod)


def test_a_stop_without_effect_ends_with_the_kernel_and_reports_what_is_left(
    node: RealNode,
) -> None:
    """One pod's shim is paused, so its stops hang; a process of the other pod cannot die."""
    if why := own_groups.why_not(FREEZER):
        pytest.skip(why)
    hangs = node.kubelet.pod(stubborn=True)
    immune = node.kubelet.pod()
    node.start(*IMPATIENT)
    os.kill(shim_of(node.containerd, hangs), signal.SIGSTOP)
    (kept,) = immune.processes
    with OwnGroups() as groups:
        groups.keep(kept)

        progress = node.submit(hold_s=3600, grace_s=1)

        end = finished(progress)
        assert (end.result, end.code, end.pods) == ("incomplete", "not-down", 2)
        assert not hangs.processes
        (container,) = ended_pods(progress)[hangs.uid].containers
        assert (container.rung, container.kernel) == (3, "gone")
        (left,) = ended_pods(progress)[immune.uid].containers
        assert (left.rung, left.seen, left.kernel) == (3, "running", "alive")
        assert f"1 processes left: {kept} D witness" in left.error
        assert hangs.limits == immune.limits == SHUT
        groups.release()
        until(lambda: not immune.processes, "the death")
    expect_nothing_starts(node, hangs, immune)


def test_the_pod_of_a_killed_shim_is_stopped_too(node: RealNode) -> None:
    """The shim dies in the middle of a stop, and containerd removes its containers."""
    pod = node.kubelet.pod(stubborn=True)
    node.start()
    delivery, progress = stopping(node, pod, grace_s=20)
    os.kill(shim_of(node.containerd, pod), signal.SIGKILL)
    delivery.join(60)
    assert (finished(progress).result, finished(progress).down) == ("done", 1)
    assert not pod.processes
    expect_nothing_starts(node, pod)
