# SPDX-License-Identifier: Apache-2.0
"""P7: the agent is killed at each of its effects; the next start resolves it, in the log.

The test cases are the list of effects, each "lost" and "landed".  After the restart the test checks
the whole log and the outcome, and that nothing was done twice.
"""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from breakglass.core.entries import Accepted, Entry, Finished, PodEnded, Started, render_entry
from breakglass.core.fold import State, fold
from breakglass.core.recheck import recheck_log
from tests.support.agent_process import AgentProcess, NodeFiles, Tls
from tests.support.crashing_agent import EFFECTS
from tests.support.organisation import Organisation
from tests.support.sim_process import SimProcess

PODS = 3


class Node:
    """A node whose agent can be made to kill itself at an effect."""

    def __init__(self, folder: Path, *, restarts: bool = False) -> None:
        self.tls = Tls.make()
        self.organisation = Organisation(
            now=datetime.now(UTC).replace(microsecond=0), couriers=self.tls.pins
        )
        self.sim = SimProcess(
            folder / "cri.sock", daemonset="monitoring/telemetry", pods=PODS, kubelet=restarts
        )
        self.files = NodeFiles(
            folder=folder, organisation=self.organisation, tls=self.tls, runtime=self.sim.socket
        ).write()

    def dying(self, effect: str, version: str) -> AgentProcess:
        """Start an agent that kills itself at that effect."""
        program = ("-m", "tests.support.crashing_agent", effect, version)
        return AgentProcess(self.files, program=program).wait_ready()

    def later(self, seconds: int) -> AgentProcess:
        """Start an agent whose clock is ahead by some seconds."""
        return AgentProcess(
            self.files, program=("-m", "tests.support.late_agent", str(seconds))
        ).wait_ready()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """Return a node with a simulated runtime and pods to stop."""
    made = Node(tmp_path)
    yield made
    made.sim.close()


def _checked(entries: list[Entry], organisation: Organisation) -> State:
    """Check the whole log and return the state that its entries give."""
    report = recheck_log(
        [render_entry(one) for one in entries], trust_sha256=organisation.trust.sha256
    )
    assert report.findings == ()
    state = State()
    for entry in entries:
        state = fold(state, entry)
    return state


def _die(node: Node, raw: bytes, effect: str, version: str) -> None:
    with node.dying(effect, version) as agent:
        with contextlib.suppress(grpc.RpcError), agent.local() as client:
            client.submit(raw)
        assert agent.wait() == -9


@pytest.mark.parametrize("version", ["lost", "landed"])
@pytest.mark.parametrize("effect", EFFECTS)
def test_a_kill_at_any_effect_is_resolved_at_the_next_start(
    node: Node, effect: str, version: str
) -> None:
    """After the restart: one acceptance, one outcome per pod, one end, and every pod is down."""
    raw = node.organisation.signed(node.organisation.command(), "ana bo")
    _die(node, raw, effect, version)
    with AgentProcess(node.files).wait_ready() as agent, agent.local() as client:
        answers = client.submit(raw)
        entries = client.entries()
    assert answers[-1].WhichOneof("step") == "finished"
    state = _checked(entries, node.organisation)
    (command,) = state.commands.values()
    assert command.finished_at is not None
    bodies = [entry.body for entry in entries]
    assert sum(isinstance(body, Accepted) for body in bodies) == 1
    ends = [body for body in bodies if isinstance(body, Finished)]
    assert [(one.result, one.pods, one.down) for one in ends] == [("done", PODS, PODS)]
    outcomes = [body for body in bodies if isinstance(body, PodEnded)]
    assert len({one.uid for one in outcomes}) == PODS
    assert all(one.seen in {"down", "gone"} for one in outcomes)
    assert sum(isinstance(body, Started) for body in bodies) == 2
    assert node.sim.running() == 0
    # Nothing twice: the agent stopped no container again whose stop had landed.
    assert node.sim.stops() == PODS


def test_a_restart_after_the_window_only_looks(node: Node) -> None:
    """A command whose validity ended meanwhile is closed as interrupted; no pod is touched."""
    raw = node.organisation.signed(node.organisation.command(valid_s=600), "ana bo")
    _die(node, raw, "planned", "landed")
    stops = node.sim.stops()
    with node.later(timedelta(hours=2).seconds) as agent, agent.local() as client:
        answers = client.submit(raw)
        entries = client.entries()
    (end,) = (entry.body for entry in entries if isinstance(entry.body, Finished))
    assert (end.result, end.code) == ("interrupted", "interrupted")
    assert [one.seen for one in end.observed] == ["running"] * PODS
    assert answers[-1].repeated
    assert node.sim.stops() == stops == 0
    _checked(entries, node.organisation)


def test_a_container_that_kubelet_started_meanwhile_is_not_stopped_again(tmp_path: Path) -> None:
    """The command stops the planned containers, and not those that kubelet started later."""
    node = Node(tmp_path, restarts=True)
    try:
        raw = node.organisation.signed(node.organisation.command(), "ana bo")
        _die(node, raw, "pod", "lost")
        node.sim.wait_until_running(PODS)
        stops = node.sim.stops()
        with AgentProcess(node.files).wait_ready() as agent, agent.local() as client:
            client.submit(raw)
            entries = client.entries()
        (end,) = (entry.body for entry in entries if isinstance(entry.body, Finished))
        assert (end.result, end.down) == ("done", PODS)
        assert end.restarted > 0
        assert node.sim.stops() - stops < PODS
        _checked(entries, node.organisation)
    finally:
        node.sim.close()
