# SPDX-License-Identifier: Apache-2.0
"""A held pod does not start: a real agent, a real containerd, real control groups.

`tests.support.played_kubelet` makes kubelet's calls to the runtime, so that a test decides when
kubelet tries again and waits for no back-off.  The workload itself shows whether it ran: its first
act is to write a line to a file.
"""

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from breakglass.core.entries import Planned
from breakglass.core.hold_entries import Enforced, GateIntended, GateLifted, HoldEnded
from lab import leftovers
from lab.containerd import Containerd
from tests.support import real_node
from tests.support.played_kubelet import TASKS, until
from tests.support.real_node import WORKLOAD, RealNode, ended_pods, finished, witnessing

_WHY_NOT = real_node.why_not()
pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT or "it can")]

OPEN, SHUT = ("max", TASKS), ("0", "0")
needs_crun = pytest.mark.skipif(shutil.which("crun") is None, reason="not installed: crun")
both = pytest.mark.parametrize("oci", ["runc", pytest.param("crun", marks=needs_crun)])
GATE = {"runc": "pids", "crun": "descendants"}  # cgroupfs on a hybrid host


@pytest.fixture(scope="module")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    """Return a runtime that all tests share, because none stops it."""
    with witnessing(tmp_path_factory.mktemp("hold") / "lab", for_crun=True) as made:
        yield made


@pytest.fixture
def node(containerd: Containerd, tmp_path: Path) -> Iterator[RealNode]:
    """Return a new node for each test, with a ready agent."""
    made = RealNode(containerd, tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.close()


@both
def test_a_held_pod_stays_down_whatever_kubelet_tries(node: RealNode, oci: str) -> None:
    """Every start of a gated pod fails without running user code, and the agent counts it."""
    pod = node.kubelet.pod(handler=oci)
    assert pod.limits == OPEN

    progress = node.submit(hold_s=3600, grace_s=5)

    end = finished(progress)
    assert (end.result, end.pods, end.down, end.held) == ("done", 1, 1, 1)
    assert ended_pods(progress)[pod.uid].gate == GATE[oci]
    assert pod.limits == SHUT
    assert not pod.processes
    for _ in range(3):
        node.kubelet.fails(node.kubelet.start, pod)
    assert pod.starts == 1
    until(lambda: node.hold().attempts == 3, "three attempts")
    assert (node.hold().stops, node.hold().leaked_ms) == (0, 0)
    assert node.metric("hold_attempts_total") == 3
    assert node.metric("gated_pods") == 1
    until(lambda: [one.gate for one in node.hold().pods] == [GATE[oci]], "the gate's kind")
    (gated,) = node.hold().pods
    assert (gated.uid, gated.name, gated.note) == (pod.uid, pod.name, "")
    (hold,) = node.holds()
    assert (hold.workload, hold.reason) == (WORKLOAD, "telemetry floods the API servers")
    assert list(hold.approvals) == ["ana", "bo"]


@both
def test_a_release_restores_the_old_limits(node: RealNode, oci: str) -> None:
    """Among them podPidsLimit; the next start works, and the log has the blocked attempt."""
    pod = node.kubelet.pod(handler=oci)
    node.stop()
    node.kubelet.fails(node.kubelet.start, pod)
    until(lambda: node.hold().attempts == 1, "one attempt")

    end = node.release()

    assert (end.result, end.pods) == ("released", 1)
    assert pod.limits == OPEN
    assert not node.holds()
    assert not node.checked_state().gates
    (counted,) = node.bodies(Enforced)
    assert (counted.attempts, counted.stops, counted.leaked_ms) == (1, 0, 0)
    node.kubelet.start(pod)
    until(lambda: pod.starts == 2, "the new start")


def test_holds_compose_and_the_last_one_to_end_opens_the_gate(node: RealNode) -> None:
    """With two holds of one workload, the end of the shorter one changes nothing."""
    pod = node.kubelet.pod()
    node.stop(hold_s=1)
    node.stop(hold_s=3600)
    until(lambda: len(node.holds()) == 1, "the end of the short one")
    assert [one.why for one in node.bodies(HoldEnded)] == ["expired"]
    assert pod.limits == SHUT
    node.kubelet.fails(node.kubelet.start, pod)
    assert node.release().result == "released"
    assert pod.limits == OPEN


def test_one_of_two_holds_is_released_by_its_command(node: RealNode) -> None:
    """The other hold stays in force, and a release of the workload then ends it."""
    pod = node.kubelet.pod()
    first, second = node.signed(hold_s=60), node.signed(hold_s=600)
    for raw in (first, second):
        node.deliver(raw)
    ids = [one.command for one in node.holds()]
    assert node.release(holds_of=ids[0]).result == "released"
    assert [one.command for one in node.holds()] == ids[1:]
    assert pod.limits == SHUT
    assert node.release().result == "released"
    assert pod.limits == OPEN


def test_an_extension_prolongs_and_never_shortens(node: RealNode) -> None:
    """An extension counts from its own acceptance, and a shorter one changes nothing."""
    pod = node.kubelet.pod()
    node.stop(hold_s=60)
    longer = finished(node.submit(verb="extend", hold_s=3600))
    assert (longer.result, longer.held) == ("extended", 1)
    left_s = node.hold().left_s
    assert left_s > 3000
    shorter = finished(node.submit(verb="extend", hold_s=60))
    assert shorter.result == "extended"
    assert node.hold().left_s > 3000
    assert pod.limits == SHUT


def test_a_hold_ends_by_itself(node: RealNode) -> None:
    """When its lease ends the gate opens without a command, and the log says why."""
    pod = node.kubelet.pod()
    assert node.stop(hold_s=5).held == 1
    until(lambda: pod.limits == OPEN, "an open gate")
    until(lambda: not node.holds(), "the end of the hold")
    assert [one.why for one in node.bodies(HoldEnded)] == ["expired"]
    until(lambda: node.bodies(GateLifted), "the end of the gate")
    node.kubelet.start(pod)


@both
def test_a_new_pod_is_gated_before_anything_starts(node: RealNode, oci: str) -> None:
    """The new pod's log folder has its name, so even its sandbox fails at the gate."""
    old = node.kubelet.pod(handler=oci)
    node.stop()
    newborn = node.kubelet.born(handler=oci)
    until(lambda: "0" in newborn.limits, "a gate")
    until(lambda: newborn.limits == SHUT, "the whole gate")
    if oci == "runc":
        node.kubelet.fails(node.kubelet.run_sandbox, newborn)
    until(lambda: len(node.hold().pods) == 2, "both pods")
    assert node.release().result == "released"
    assert (old.limits, newborn.limits) == (OPEN, OPEN)
    node.kubelet.run_sandbox(newborn)
    node.kubelet.start(newborn)
    until(lambda: newborn.starts == 1, "the new pod's start")


def test_a_held_revision_leaves_the_other_one_alone(node: RealNode) -> None:
    """The fixed revision of the same DaemonSet runs while the bad revision stays down."""
    bad = node.kubelet.pod(revision="5d8f9c4b7")
    node.stop(revision="5d8f9c4b7")
    fixed = node.kubelet.pod(revision="66b9cd54f")
    until(lambda: fixed.starts == 1, "the fixed revision's start")
    assert fixed.limits == OPEN
    again = node.kubelet.born(revision="5d8f9c4b7")
    node.kubelet.run_sandbox(again)
    until(lambda: again.limits == SHUT, "a gate between sandbox and container")
    node.kubelet.fails(node.kubelet.start, again)
    assert (bad.starts, again.starts) == (1, 0)
    assert fixed.processes
    assert fixed.limits == OPEN


def test_a_new_pod_without_a_log_folder_is_gated_before_its_container_starts(
    node: RealNode,
) -> None:
    """With the logs elsewhere its control group is the only event; the sandbox has its name."""
    node.stop()
    newborn = node.kubelet.born(logged=False)
    node.kubelet.run_sandbox(newborn)
    until(lambda: newborn.limits == SHUT, "a gate between sandbox and container")
    node.kubelet.fails(node.kubelet.start, newborn)
    assert not newborn.starts


def test_a_missed_birth_ends_in_the_net(node: RealNode) -> None:
    """The agent missed its start: it is seen running, stopped, and counted."""
    node.stop()
    with node.asleep():
        pod = node.kubelet.pod()
    until(lambda: pod.limits == SHUT and not pod.processes, "the watch to stop it")
    until(lambda: node.hold().stops == 1, "the count")
    assert node.hold().leaked_ms > 0
    assert node.metric("hold_leaked_seconds_total") > 0
    node.kubelet.fails(node.kubelet.start, pod)
    assert pod.starts == 1


def test_a_limit_that_another_process_changed_is_set_again_and_counted(node: RealNode) -> None:
    """As by kubelet, which writes podPidsLimit when it makes a pod."""
    pod = node.kubelet.pod()
    node.stop()
    (pod.directory("pids") / "pids.max").write_text("4096")
    until(lambda: pod.limits == SHUT, "the limit")
    until(lambda: node.hold().resets == 1, "the count")
    assert node.metric("hold_resets_total") == 1
    node.kubelet.fails(node.kubelet.start, pod)
    node.release()
    assert pod.limits == ("max", "4096")  # the other process's value is the one restored


def test_a_killed_agent_leaves_the_gate_and_the_next_one_keeps_the_hold(node: RealNode) -> None:
    """A gate stands without an agent; pods that are ungated by then are gated before READY."""
    pod = node.kubelet.pod()
    node.stop()
    node.agent.kill()
    node.kubelet.fails(node.kubelet.start, pod)
    (pod.directory("pids") / "pids.max").write_text(TASKS)
    newborn = node.kubelet.born()
    node.kubelet.run_sandbox(newborn)
    node.start()
    assert pod.limits == newborn.limits == SHUT  # without waiting: the agent has logged "ready"
    node.kubelet.fails(node.kubelet.start, pod)
    node.kubelet.fails(node.kubelet.start, newborn)
    assert node.hold().left_s > 3000
    node.release()
    assert pod.limits == newborn.limits == OPEN
    node.checked_state()


@both
def test_a_start_in_progress_when_the_gate_is_set_is_found(node: RealNode, oci: str) -> None:
    """Kubelet starts one container after another during the stop, and none of them survives it."""
    pod = node.kubelet.pod(handler=oci)
    over = threading.Event()

    def try_on() -> None:
        while not over.is_set():
            with contextlib.suppress(grpc.RpcError):
                node.kubelet.start(pod)

    kubelet = threading.Thread(target=try_on)
    kubelet.start()
    try:
        until(lambda: pod.starts > 2, "more containers")
        end = node.stop(grace_s=1)
        starts, tried = pod.starts, len(pod.container_ids)
        until(lambda: len(pod.container_ids) > tried + 2, "more attempts")
    finally:
        over.set()
        kubelet.join()
    assert (end.result, end.down, end.held) == ("done", 1, 1)
    assert pod.starts == starts
    assert not pod.processes


def test_a_pod_deleted_under_the_hold_is_forgotten_and_its_successor_held(node: RealNode) -> None:
    """Its group is removed with its limits, so nothing is restored, and the log says so."""
    pod = node.kubelet.pod()
    node.stop()
    node.kubelet.remove(pod)
    until(lambda: node.bodies(GateLifted), "the end of the gate")
    assert [(one.uid, one.why) for one in node.bodies(GateLifted)] == [(pod.uid, "gone")]
    successor = node.kubelet.born()
    until(lambda: successor.limits == SHUT, "a gate")
    node.kubelet.fails(node.kubelet.run_sandbox, successor)
    assert not node.checked_state().gates.keys() - {successor.uid}


def test_a_hold_of_one_image_leaves_the_pods_of_another_alone(node: RealNode) -> None:
    """A later pod is gated when its container shows the image, before that container starts."""
    bad, fixed = node.kubelet.pod(), node.kubelet.pod(stubborn=True)
    end = node.stop(image=node.kubelet.image_of(bad))
    assert (end.result, end.pods, end.held) == ("done", 1, 1)
    assert (bad.limits, fixed.limits) == (SHUT, OPEN)
    later = node.kubelet.born()
    node.kubelet.run_sandbox(later)
    created = node.kubelet.create(later)
    until(lambda: later.limits == SHUT, "a gate between creation and start")
    node.kubelet.fails(lambda pod: node.kubelet.start_created(created), later)
    assert not later.starts
    assert fixed.processes
    assert fixed.limits == OPEN


def test_a_dry_run_reports_the_gate_and_changes_nothing(node: RealNode) -> None:
    """It reports the limits and the group; it stops, sets and holds nothing."""
    pod = node.kubelet.pod()
    end = node.stop(mode="dry-run")
    assert end.result == "planned"
    ((planned,),) = (one.pods for one in node.bodies(Planned))
    assert planned.gate == f"descendants, pids on {pod.cgroup.lstrip('/')}"
    assert pod.limits == OPEN
    assert pod.processes
    assert not node.holds()
    assert not node.bodies(GateIntended)


def test_an_eviction_ends_the_sandbox_too(node: RealNode) -> None:
    """It stops the containers, then the sandbox; a new sandbox of the pod fails at the gate."""
    pod = node.kubelet.pod()
    progress = node.submit(verb="evict", hold_s=3600, grace_s=5)
    assert finished(progress).result == "done"
    assert ended_pods(progress)[pod.uid].sandbox == "down"
    assert not leftovers.processes_in(pod.cgroup)
    node.kubelet.fails(node.kubelet.run_sandbox, pod)
    assert pod.starts == 1


def test_a_workload_without_pods_is_held_for_later_pods(node: RealNode) -> None:
    """A hold for pods that may come is valid, and its note says that there are none now."""
    end = node.stop()
    assert (end.result, end.pods) == ("nothing", 0)
    assert end.note.startswith("0 pods now, held for 1h")
    newborn = node.kubelet.born()
    until(lambda: newborn.limits == SHUT, "a gate")
    node.kubelet.fails(node.kubelet.run_sandbox, newborn)


def test_a_hold_longer_than_the_policy_allows_is_refused(node: RealNode) -> None:
    """The command is refused, and no pod is touched."""
    pod = node.kubelet.pod()
    refused = node.submit(hold_s=25 * 3600)[-1].refused
    assert (refused.code, refused.needed) == ("hold-too-long", "a hold of at most 24h")
    assert pod.limits == OPEN
    assert pod.processes


def test_a_release_without_a_hold_does_nothing(node: RealNode) -> None:
    """The result is "nothing" with the code "no-hold", and the command does not fail."""
    end = node.release()
    assert (end.result, end.code) == ("nothing", "no-hold")
    assert WORKLOAD in end.note
