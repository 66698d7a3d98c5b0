# SPDX-License-Identifier: Apache-2.0
"""Plan a command on a node's pods."""

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
    """A step has every container that is not exited."""
    planned = plan(COMMAND, (RUNNING, HALF, EXITED, OTHER))
    assert isinstance(planned, Plan)
    assert [(step.pod.name, [one.name for one in step.containers]) for step in planned.steps] == [
        ("telemetry-56hr6", ["c0"]),
        ("telemetry-ksl6k", ["c1", "c2"]),
    ]
    assert {step.grace_s for step in planned.steps} == {20}


def test_a_pod_with_nothing_live_needs_no_step() -> None:
    """A pod without live containers is skipped by name; other workloads' pods are not named."""
    planned = plan(COMMAND, (EXITED, OTHER))
    assert isinstance(planned, Plan)
    assert planned.steps == ()
    assert [(one.pod.name, one.reason) for one in planned.skipped] == [
        ("telemetry-kwbrj", "no live container")
    ]


def test_a_pod_between_two_starts_is_held_too() -> None:
    """A pod with a ready sandbox but no live container gets a step only with a hold."""
    waiting = replace(EXITED, ready=True)
    command = replace(COMMAND, action=replace(COMMAND.action, hold_s=60))
    planned = plan(command, (waiting, EXITED))
    assert isinstance(planned, Plan)
    assert [(step.pod, step.containers) for step in planned.steps] == [(waiting, ())]
    plain = plan(COMMAND, (waiting,))
    assert isinstance(plain, Plan)
    assert plain.steps == ()


def test_more_live_pods_than_signed_for_refuse_all_of_them() -> None:
    """More pods than the signed cap refuse the command, and no pod is stopped (P8)."""
    third = pod("9qqgw", ContainerState.RUNNING)
    refused = plan(COMMAND, (RUNNING, HALF, third))
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.TOO_MANY_PODS
    assert refused.needed.startswith("at most 2 ")
    assert refused.have == "3"


def test_pods_that_are_down_do_not_count_against_the_cap() -> None:
    """Only pods that would be stopped are counted."""
    assert isinstance(plan(COMMAND, (RUNNING, HALF, EXITED)), Plan)


@pytest.mark.parametrize(("revision", "steps"), [("fc555b4c5", 1), ("9c8d7f6b5", 0)])
def test_a_revision_narrows_the_plan(revision: str, steps: int) -> None:
    """A command for one revision leaves the pods of another running."""
    command = replace(COMMAND, action=replace(COMMAND.action, revision=revision))
    planned = plan(command, (RUNNING,))
    assert isinstance(planned, Plan)
    assert len(planned.steps) == steps


def named(name: str, *, namespace: str = "default", **changed: object) -> Pod:
    """Return a running pod that belongs to no DaemonSet."""
    bare = replace(RUNNING, name=name, namespace=namespace, labels=())
    return replace(bare, **changed)  # type: ignore[arg-type]


STATIC = (("kubernetes.io/config.source", "file"),)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (named("telemetry"), "no label"),
        (named("telemetry-0"), "no label"),
        (named("telemetry-x2b4c"), "no label"),
        (named("telemetry-6c5b7d9f8-x2b4c", labels=(("pod-template-hash", "6c5b"),)), "Deployment"),
        (named("telemetry-node-7", annotations=STATIC), "config source file"),
    ],
)
def test_a_pod_of_another_kind_under_that_name_is_refused_with_the_reason(
    other: Pod, why: str
) -> None:
    """Static pods and other controllers' pods are refused with the reason."""
    refused = plan(COMMAND, (other, OTHER))
    assert isinstance(refused, Refused)
    assert (refused.reason, other.name in refused.have) == (Reason.NOT_DAEMONSET, True)
    assert why in refused.have


@pytest.mark.parametrize(
    "other",
    [
        named("telemetry-agent-x"),
        named("telemetry-0", namespace="elsewhere"),
        named("telemetry-0", containers=()),
        named("metrics"),
    ],
)
def test_a_pod_of_another_name_is_no_reason(other: Pod) -> None:
    """Pods with unrelated names do not refuse a command for an absent workload."""
    assert plan(COMMAND, (other,)) == Plan(steps=())


def test_a_pod_of_another_kind_beside_the_workloads_own_is_left_alone() -> None:
    """Only the DaemonSet's pods are in the plan."""
    planned = plan(COMMAND, (RUNNING, named("telemetry-0")))
    assert isinstance(planned, Plan)
    assert ([step.pod for step in planned.steps], planned.note) == ([RUNNING], "")


@pytest.mark.parametrize(
    ("changed", "note"),
    [
        ({"revision": "9c8d7f6b5"}, "telemetry-56hr6: "),
        ({"image": f"sha256:{'1f' * 32}"}, "telemetry-56hr6: no container has that image"),
    ],
)
def test_what_a_condition_leaves_out_is_said(changed: dict[str, str], note: str) -> None:
    """A pod of the DaemonSet that is not stopped is skipped with the reason."""
    action = replace(COMMAND.action, **changed)  # type: ignore[arg-type]
    planned = plan(replace(COMMAND, action=action), (RUNNING,))
    assert isinstance(planned, Plan)
    assert planned.steps == ()
    assert planned.note.startswith(note)


def test_a_condition_of_an_image_is_met_by_its_digest() -> None:
    """An image matches by its digest, as an id or at the end of its name."""
    digest = f"sha256:{'1f' * 32}"
    command = replace(COMMAND, action=replace(COMMAND.action, image=digest))
    (container,) = RUNNING.containers
    of_it = replace(RUNNING, containers=(replace(container, image_ref=f"r.example/t@{digest}"),))
    planned = plan(command, (of_it,))
    assert isinstance(planned, Plan)
    assert [step.pod for step in planned.steps] == [of_it]


def test_a_pod_that_only_the_kernel_shows_is_known_by_its_name() -> None:
    """Without the runtime a pod's name gives the DaemonSet, but no revision and no image."""
    bare = replace(RUNNING, labels=(), annotations=(), sandbox_id="", by_name=True)
    stranger = replace(bare, name="telemetry-agent-56hr6", uid="x")
    planned = plan(COMMAND, (bare, stranger))
    assert isinstance(planned, Plan)
    assert [step.pod for step in planned.steps] == [bare]
    narrowed = plan(replace(COMMAND, action=replace(COMMAND.action, revision="9c8d7f6b5")), (bare,))
    assert isinstance(narrowed, Plan)
    assert (narrowed.steps, "not known without the runtime" in narrowed.note) == ((), True)
