# SPDX-License-Identifier: Apache-2.0
"""P7 with a hold: the agent is killed at each effect of a stop with a hold, and of a release.

The test cases are the lists of effects, each "lost" and "landed", on a real containerd.  After the
restart the log is complete, the gates stand or are lifted as the log says, and nothing was done
twice.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from breakglass.core.entries import KINDS
from lab.containerd import Containerd
from tests.support import crashing_agent, real_node
from tests.support.crashing_agent import ENDING, ENTRIES, HOLDING, NO_EFFECTS
from tests.support.played_kubelet import TASKS, PlayedPod, until
from tests.support.real_node import RealNode, finished, witnessing

_WHY_NOT = real_node.why_not()
pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT or "it can")]

OPEN, SHUT = ("max", TASKS), ("0", "0")
ONCE = ("hold", "hold-ended", "pod", "lifted")
either = pytest.mark.parametrize("version", ["lost", "landed"])


@pytest.fixture(scope="module")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    """Return a runtime that all tests share, because none stops it."""
    with witnessing(tmp_path_factory.mktemp("crash") / "lab") as made:
        yield made


@pytest.fixture
def node(containerd: Containerd, tmp_path: Path) -> Iterator[RealNode]:
    """Return a node whose agent has not been started."""
    made = RealNode(containerd, tmp_path)
    try:
        yield made
    finally:
        made.close()


def start_dying(node: RealNode, effect: str, version: str) -> None:
    """Start an agent that kills itself at that effect."""
    node.start("-m", crashing_agent.__name__, effect, version)


def die(node: RealNode, raw: bytes) -> None:
    """Deliver a command; the agent must kill itself during it."""
    with contextlib.suppress(grpc.RpcError):
        node.deliver(raw)
    assert node.agent.wait() == -9


def expect_held(node: RealNode, pod: PlayedPod) -> None:
    """Check that the log has one hold and one gate, and that every start fails."""
    state = node.checked_state()
    assert [one.is_active for one in state.holds.values()] == [True]
    assert list(state.gates) == [pod.uid]
    assert pod.limits == SHUT
    assert not pod.processes
    starts = pod.starts
    node.kubelet.fails(node.kubelet.start, pod)
    assert pod.starts == starts


def expect_released(node: RealNode, pod: PlayedPod) -> None:
    """Check that the log has no hold, no limit is set, and each effect was recorded once."""
    state = node.checked_state()
    assert not state.active_holds
    assert not state.gates
    assert pod.limits == OPEN
    with node.agent.local() as client:
        counts = Counter(entry.kind for entry in client.entries())
    assert {kind: counts[kind] for kind in ONCE} == dict.fromkeys(ONCE, 1)
    starts = pod.starts
    node.kubelet.start(pod)
    until(lambda: pod.starts == starts + 1, "the next start")


@either
@pytest.mark.parametrize("effect", HOLDING)
def test_a_stop_that_holds_is_resolved_at_the_next_start(
    node: RealNode, effect: str, version: str
) -> None:
    """The pod is down and held, whichever effects had happened; a release then ends the hold."""
    pod = node.kubelet.pod()
    raw = node.signed(hold_s=3600, grace_s=5)
    start_dying(node, effect, version)
    die(node, raw)

    node.start()
    end = finished(node.deliver(raw))

    assert (end.result, end.pods, end.down, end.held) == ("done", 1, 1, 1)
    expect_held(node, pod)
    assert node.release().result == "released"
    expect_released(node, pod)


@either
@pytest.mark.parametrize("effect", ENDING)
def test_a_release_is_resolved_at_the_next_start(node: RealNode, effect: str, version: str) -> None:
    """The gate is open and the old values are restored, whichever effects had happened."""
    pod = node.kubelet.pod()
    if effect == "finished":  # a stop has this effect too
        node.start()
        node.stop()
        node.agent.kill()
        start_dying(node, effect, version)
    else:
        start_dying(node, effect, version)
        node.stop()
    raw = node.signed(verb="release")
    die(node, raw)

    node.start()
    end = finished(node.deliver(raw))

    assert end.result == "released"
    expect_released(node, pod)


@either
def test_an_extension_is_resolved_at_the_next_start(node: RealNode, version: str) -> None:
    """The lease is extended, and delivering the same command twice gives the same end."""
    pod = node.kubelet.pod()
    start_dying(node, "extended", version)
    node.stop(hold_s=600)
    raw = node.signed(verb="extend", hold_s=7200)
    die(node, raw)

    node.start()

    assert finished(node.deliver(raw)).result == "extended"
    assert node.hold().left_s > 3600
    expect_held(node, pod)


def test_every_kind_of_entry_is_in_a_table_or_no_effect() -> None:
    """A new kind of entry without a test case fails this test."""
    rows = {*ENTRIES, *HOLDING, *ENDING, "extended"}
    assert set(KINDS) - NO_EFFECTS == rows & set(KINDS)
    assert not rows & NO_EFFECTS
