# SPDX-License-Identifier: Apache-2.0
"""What a look after a stop shows of the pods that were planned."""

import pytest

from breakglass.agent.command.results import observe
from breakglass.core.entries import PlannedPod
from breakglass.core.pods import Container, ContainerState, Pod

UID = "0f3c2a1e-0000-4000-8000-000000000001"
OURS, NEW = "a" * 64, "b" * 64
PLANNED = PlannedPod(
    uid=UID, namespace="monitoring", name="telemetry-abcde", sandbox="", containers=(OURS,), gate=""
)


def seen(*, gated: bool = True, **states: ContainerState) -> str:
    """Return what is seen of the pod when its old and its new container are in these states."""
    ids = {"ours": OURS, "new": NEW}
    containers = tuple(
        Container(id=ids[which], name="agent", state=state) for which, state in states.items()
    )
    now = Pod(
        uid=UID,
        namespace="monitoring",
        name="telemetry-abcde",
        sandbox_id="c" * 64,
        containers=containers,
    )
    (one,) = observe((PLANNED,), (now,), gated=frozenset({UID} if gated else ()))
    return one.seen


@pytest.mark.parametrize("gated", [True, False])
def test_what_was_stopped_and_runs_is_running(*, gated: bool) -> None:
    """No gate makes up for a container that was to be stopped and was not."""
    assert seen(gated=gated, ours=ContainerState.RUNNING) == "running"
    assert seen(gated=gated, ours=ContainerState.CREATED) == "running"
    assert seen(gated=gated, ours=ContainerState.EXITED) == "down"


@pytest.mark.parametrize("gated", [True, False])
def test_a_new_container_that_runs_was_started_again(*, gated: bool) -> None:
    """A gate that let one through is no gate."""
    states = {"ours": ContainerState.EXITED, "new": ContainerState.RUNNING}
    assert seen(gated=gated, **states) == "restarted"


def test_behind_a_gate_a_container_that_is_only_made_is_one_that_is_about_to_fail() -> None:
    """Kubelet goes on trying, and a look falls between its making and its failing start."""
    states = {"ours": ContainerState.EXITED, "new": ContainerState.CREATED}
    assert seen(gated=True, **states) == "down"
    assert seen(gated=False, **states) == "restarted"


def test_a_pod_that_is_not_listed_is_gone() -> None:
    """Nothing is made up of a pod that the runtime no longer has."""
    (one,) = observe((PLANNED,), ())
    assert one.seen == "gone"
