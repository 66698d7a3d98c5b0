# SPDX-License-Identifier: Apache-2.0
"""The signed stop on a real containerd, by a real agent process: the named pods, and no others.

Each test reads the pods' control groups from the kernel, which no component between the test and
the processes can falsify (P5).
"""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from breakglass._pb.breakglass.v1 import agent_pb2 as pb
from breakglass.core.entries import Finished, PodEnded, parse_entry
from lab.containerd import Containerd, why_not
from lab.pods import MadePod, make_pod, processes_of
from tests.support.agent_process import AgentProcess, NodeFiles, Tls
from tests.support.organisation import Organisation

pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can")]

LIFE_SUPPORT = "kube-system/kube-proxy"
SEEN_S = 60.0


class Node:
    """A containerd, an agent over it, and the people whose approvals the agent accepts."""

    def __init__(self, containerd: Containerd, folder: Path) -> None:
        self.containerd = containerd
        tls = Tls.make()
        now = datetime.now(UTC).replace(microsecond=0)
        self.organisation = Organisation(couriers=tls.pins, now=now)
        self.files = NodeFiles(
            folder=folder,
            organisation=self.organisation,
            tls=tls,
            runtime=containerd.socket,
            protected=(LIFE_SUPPORT,),
        ).write()
        self.agent = AgentProcess(self.files)

    def pod(self, workload: str, **shape: Any) -> MadePod:  # noqa: ANN401 - make_pod's own
        """Run a pod of the workload "namespace/name", a DaemonSet unless `shape` says otherwise."""
        namespace, _, name = workload.partition("/")
        return make_pod(self.containerd.socket, namespace=namespace, daemonset=name, **shape)

    def submit(  # the overrides are those of Organisation.draft
        self,
        workload: str = "monitoring/telemetry",
        **command: Any,  # noqa: ANN401 - any of draft's
    ) -> list[pb.Progress]:
        """Deliver a stop that two people approved, and return its progress."""
        text = self.organisation.command(workload=workload, **command)
        with self.agent.local() as client:
            return client.submit(self.organisation.signed(text, "ana bo"))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """Return a new node for each test, because tests stop and restart its runtime."""
    with Containerd(tmp_path / "lab") as containerd:
        made = Node(containerd, tmp_path / "n")
        with made.agent:
            made.agent.wait_ready()
            yield made


def outcome(progress: list[pb.Progress]) -> Finished:
    """Return how a command ended."""
    body = parse_entry(progress[-1].finished.entry).body
    assert isinstance(body, Finished), progress
    return body


def stopped(progress: list[pb.Progress]) -> dict[str, PodEnded]:
    """Return the recorded outcome of each pod, by its UID."""
    bodies = [
        parse_entry(one.pod.entry).body for one in progress if one.WhichOneof("step") == "pod"
    ]
    return {body.uid: body for body in bodies if isinstance(body, PodEnded)}


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` returns true; fail after `SEEN_S`."""
    end = time.monotonic() + SEEN_S
    while not condition():
        assert time.monotonic() < end, f"not true within {SEEN_S:g} s"
        time.sleep(0.005)


def test_a_stop_reaches_exactly_its_own_pods(node: Node) -> None:
    """Among look-alikes of every kind, only the named DaemonSet's pods end (P8)."""
    ours = [node.pod("monitoring/telemetry", containers=2), node.pod("monitoring/telemetry")]
    others = {
        "a longer name": node.pod("monitoring/telemetry-agent"),
        "another namespace": node.pod("staging/telemetry"),
        "a StatefulSet": node.pod("monitoring/telemetry", controller="statefulset"),
        "a Deployment": node.pod("monitoring/telemetry", controller="deployment"),
        "a bare pod": node.pod("monitoring/telemetry", controller="bare", name="telemetry-x2x4z"),
        "a static pod": node.pod(
            "monitoring/telemetry", annotations={"kubernetes.io/config.source": "file"}
        ),
        "life support": node.pod(LIFE_SUPPORT),
    }
    before = {what: processes_of(pod) for what, pod in others.items()}

    progress = node.submit()

    assert outcome(progress).result == "done"
    assert stopped(progress).keys() == {pod.uid for pod in ours}
    assert [processes_of(pod) for pod in ours] == [(), ()]
    assert {what: processes_of(pod) for what, pod in others.items()} == before
    assert all(before.values())


def test_only_the_named_revision_is_stopped(node: Node) -> None:
    """The fixed revision of the same DaemonSet keeps running while the bad one is stopped."""
    bad = node.pod("monitoring/telemetry", revision="5d8f9c4b7")
    good = node.pod("monitoring/telemetry", revision="66b9cd54f")

    progress = node.submit(revision="5d8f9c4b7")

    assert stopped(progress).keys() == {bad.uid}
    assert not processes_of(bad)
    assert processes_of(good)


def test_no_command_stops_a_protected_workload(node: Node) -> None:
    """No quorum overrides the node's own list of protected workloads (P8)."""
    pod = node.pod(LIFE_SUPPORT)

    progress = node.submit(LIFE_SUPPORT)

    assert progress[-1].refused.code == "protected"
    assert processes_of(pod)


def test_a_process_that_obeys_ends_within_its_grace(node: Node) -> None:
    """A pod that handles TERM is down on the first rung, long before its grace is over."""
    pod = node.pod("monitoring/telemetry")

    progress = node.submit(grace_s=60)

    (container,) = stopped(progress)[pod.uid].containers
    assert (container.rung, container.seen, container.kernel) == (1, "down", "gone")
    assert container.ms < 60_000
    assert not processes_of(pod)


def test_a_process_that_ignores_term_is_killed_after_its_grace(node: Node) -> None:
    """The process gets the whole signed grace, and then SIGKILL."""
    pod = node.pod("monitoring/telemetry", ignores_term=True)

    progress = node.submit(grace_s=2)

    (container,) = stopped(progress)[pod.uid].containers
    assert (container.seen, container.kernel) == ("down", "gone")
    assert container.ms >= 2_000
    assert outcome(progress).result == "done"
    assert not processes_of(pod)


def test_a_stop_outlives_a_restart_of_the_runtime(node: Node) -> None:
    """The runtime restarts in the middle of the grace period; the command still ends as done."""
    pod = node.pod("monitoring/telemetry", ignores_term=True)
    before = len(processes_of(pod))
    progress: list[pb.Progress] = []
    delivery = threading.Thread(target=lambda: progress.extend(node.submit(grace_s=3)))

    delivery.start()
    wait_until(lambda: len(processes_of(pod)) > before)  # it got TERM: the stop has begun
    node.containerd.restart()
    delivery.join(60)

    assert outcome(progress).result == "done"
    assert stopped(progress)[pod.uid].seen == "down"
    assert not processes_of(pod)


def test_a_runtime_that_hangs_for_a_while_is_waited_for(node: Node) -> None:
    """A paused containerd accepts connections and does not answer, which must not count as success.

    After it answers again the command ends as done.
    """
    pod = node.pod("monitoring/telemetry", ignores_term=True)
    before = len(processes_of(pod))
    progress: list[pb.Progress] = []
    delivery = threading.Thread(target=lambda: progress.extend(node.submit(grace_s=2)))

    delivery.start()
    wait_until(lambda: len(processes_of(pod)) > before)
    node.containerd.pause()
    threading.Timer(4.0, node.containerd.resume).start()
    delivery.join(90)

    assert outcome(progress).result == "done"
    assert not processes_of(pod)
