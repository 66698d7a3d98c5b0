# SPDX-License-Identifier: Apache-2.0
"""The plan: which pods of a node a command stops, from the pods as they are.

Pure, and the only place where a command's workload meets a node's pods.  A pod with nothing live
needs no step.  More live pods than the signed limit refuse the whole command on this node: half of
a surprise is still a surprise.  Protected workloads are refused by the caller, before a plan.
"""

from dataclasses import dataclass
from typing import TypeAlias

from breakglass.core.command import Command
from breakglass.core.pods import Container, Pod, Workload, belongs
from breakglass.core.reasons import Reason, Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One pod to stop: which of its containers, and how long each may take to end by itself."""

    pod: Pod
    containers: tuple[Container, ...]
    grace_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """One pod of the workload that needs no step, and why."""

    pod: Pod
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a command does on a node: the steps, and the workload's pods that need none."""

    steps: tuple[Step, ...]
    skipped: tuple[Skipped, ...] = ()


Planning: TypeAlias = "Plan | Refused"


def plan(command: Command, pods: tuple[Pod, ...]) -> Planning:
    """Return the steps of a command on a node with these pods, or why it is refused here."""
    action = command.action
    workload = Workload(
        namespace=action.namespace, name=action.name, revision=action.revision or None
    )
    members = tuple(pod for pod in pods if belongs(pod, workload).member)
    steps = tuple(
        Step(
            pod=pod,
            containers=tuple(one for one in pod.containers if one.live),
            grace_s=action.grace_s,
        )
        for pod in members
        if pod.live
    )
    if len(steps) > command.caps.max_pods_per_node:
        return Refused(
            reason=Reason.TOO_MANY_PODS,
            needed=f"at most {command.caps.max_pods_per_node} live pods of {action.workload}",
            have=str(len(steps)),
        )
    skipped = tuple(Skipped(pod=pod, reason="nothing live") for pod in members if not pod.live)
    return Plan(steps=steps, skipped=skipped)
