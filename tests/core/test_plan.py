# SPDX-License-Identifier: Apache-2.0
"""From a command and the pods of a node to what will be stopped there."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from breakglass.core.command import Action, Caps, Command, Mode, Rollout, TrustPin, Verb
from breakglass.core.plan import Plan, plan
from breakglass.core.pods import Container, ContainerState, Pod
from breakglass.core.reasons import Reason, Refused
from breakglass.core.targets import Targets

COMMAND = Command(
    id="019aa3c1-7a5e-7cc2-b8f1-0a1b2c3d4e5f",
    domain="example",
    trust=TrustPin(version=1, sha256="0" * 64),
    action=Action(
        verb=Verb.STOP,
        namespace="default",
        name="telemetry",
        revision="",
        grace_s=20,
        hold_s=0,
    ),
    targets=Targets(clusters=("c1",), nodes=("*",), pools=(), excepted=()),
    caps=Caps(max_nodes=10, max_pods_per_node=2),
    rollout=Rollout(canary=0, max_parallel=1, max_failures=0),
    mode=Mode.EXECUTE,
    incident="",
    reason="it floods the API servers",
    requester="ana",
    created=datetime(2026, 11, 21, tzinfo=UTC),
    not_before=datetime(2026, 11, 21, tzinfo=UTC),
    not_after=datetime(2026, 11, 21, 1, tzinfo=UTC),
)


def pod(
    suffix: str,
    *states: ContainerState,
    daemonset: str = "telemetry",
    revision: str = "fc555b4c5",
) -> Pod:
    """Return a DaemonSet's pod with containers in these states."""
    return Pod(
        uid=suffix,
        name=f"{daemonset}-{suffix}",
        namespace="default",
        sandbox_id="ab" * 32,
        labels=(("controller-revision-hash", revision),),
        annotations=(("kubernetes.io/config.source", "api"),),
        containers=tuple(
            Container(id=f"{place:064x}", name=f"c{place}", state=state)
            for place, state in enumerate(states)
        ),
    )


RUNNING = pod("56hr6", ContainerState.RUNNING)
HALF = pod("ksl6k", ContainerState.EXITED, ContainerState.CREATED, ContainerState.UNKNOWN)
EXITED = pod("kwbrj", ContainerState.EXITED)
OTHER = pod("56hr6", ContainerState.RUNNING, daemonset="telemetry-agent")


def test_each_live_pod_of_the_workload_gets_a_step_with_what_is_live() -> None:
    """Exited containers are left alone, created and unknown ones are not."""
    planned = plan(COMMAND, (RUNNING, HALF, EXITED, OTHER))
    assert isinstance(planned, Plan)
    assert [(step.pod.name, [one.name for one in step.containers]) for step in planned.steps] == [
        ("telemetry-56hr6", ["c0"]),
        ("telemetry-ksl6k", ["c1", "c2"]),
    ]
    assert {step.grace_s for step in planned.steps} == {20}


def test_a_pod_with_nothing_live_needs_no_step() -> None:
    """It is named as skipped, and pods of others are not named at all."""
    planned = plan(COMMAND, (EXITED, OTHER))
    assert isinstance(planned, Plan)
    assert planned.steps == ()
    assert [(one.pod.name, one.reason) for one in planned.skipped] == [
        ("telemetry-kwbrj", "nothing live")
    ]


def test_more_live_pods_than_signed_for_refuse_all_of_them() -> None:
    """The cap is in the signed text, and none of the pods is stopped beyond it (P8)."""
    third = pod("9qqgw", ContainerState.RUNNING)
    refused = plan(COMMAND, (RUNNING, HALF, third))
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.TOO_MANY_PODS
    assert "at most 2 live pods" in refused.needed
    assert refused.have == "3"


def test_pods_that_are_down_do_not_count_against_the_cap() -> None:
    """Only what would be stopped is counted."""
    assert isinstance(plan(COMMAND, (RUNNING, HALF, EXITED)), Plan)


@pytest.mark.parametrize(("revision", "steps"), [("fc555b4c5", 1), ("9c8d7f6b5", 0)])
def test_a_revision_narrows_the_plan(revision: str, steps: int) -> None:
    """A command for one revision leaves the pods of another running."""
    command = replace(COMMAND, action=replace(COMMAND.action, revision=revision))
    planned = plan(command, (RUNNING,))
    assert isinstance(planned, Plan)
    assert len(planned.steps) == steps
