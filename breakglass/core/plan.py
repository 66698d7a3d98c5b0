# SPDX-License-Identifier: Apache-2.0
"""The plan: which pods of a node a command stops.

This module is pure and the only place that matches a command's workload with a node's pods.

- A pod without live containers needs no step, unless the command holds it: kubelet starts it again
  after its back-off.
- More pods than the signed limit refuse the whole command on this node.  It never stops only some
  of them: the approvers did not expect so many.
- A workload name that matches only pods of another kind (static pods, pods of other controllers) is
  refused with the reason.
- The caller refuses protected workloads before it plans.

Without the runtime a pod is known by its name only.  If the command has a revision or an image,
such a pod is skipped, because neither can be proven.
"""

import re
from dataclasses import dataclass
from typing import TypeAlias

from breakglass.core.command import Action, Command
from breakglass.core.pods import Container, Pod, Workload, belongs, identify, name_fits
from breakglass.core.reasons import Reason, Refused

# The rest of a name: a bare pod's; a StatefulSet's or indexed Job's; a Job's or a Deployment's.
_SAFE = "[bcdfghjklmnpqrstvwxz2456789]"
_OTHERS = re.compile(rf"|-[0-9]{{1,9}}|(-{_SAFE}{{1,10}})?-{_SAFE}{{5}}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One pod to stop: its live containers, and their grace period in seconds."""

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
    """What a command does on a node: the steps, and the workload's pods that it skips."""

    steps: tuple[Step, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def note(self) -> str:
        """The skipped pods and why, as one text; "" when there are none."""
        return "; ".join(f"{one.pod.name}: {one.reason}" for one in self.skipped)


Planning: TypeAlias = "Plan | Refused"


def workload_of(action: Action) -> Workload:
    """Return the workload that a command's action names."""
    return Workload(namespace=action.namespace, name=action.name, revision=action.revision or None)


def plan(command: Command, pods: tuple[Pod, ...]) -> Planning:
    """Return the steps of a command on a node with these pods, or why the node refuses it."""
    action = command.action
    steps: list[Step] = []
    skipped: list[Skipped] = []
    for pod in pods:
        if not _is_of(pod, action):
            continue
        why = _why_no_step(pod, action)
        if why:
            skipped.append(Skipped(pod=pod, reason=why))
        else:
            live = tuple(one for one in pod.containers if one.live)
            steps.append(Step(pod=pod, containers=live, grace_s=action.grace_s))
    if len(steps) > command.caps.max_pods_per_node:
        kind = "pods" if action.hold_s else "live pods"
        return Refused(
            reason=Reason.TOO_MANY_PODS,
            needed=f"at most {command.caps.max_pods_per_node} {kind} of {action.workload}",
            have=str(len(steps)),
        )
    other = None if steps or skipped else _of_another_kind(pods, action)
    if other is not None:
        return Refused(
            reason=Reason.NOT_DAEMONSET,
            needed=f"pods of a DaemonSet {action.workload}",
            have=f"{other.name}, {identify(other).why_not}",
        )
    return Plan(steps=tuple(steps), skipped=tuple(skipped))


def _is_of(pod: Pod, action: Action) -> bool:
    """Return whether a pod belongs to the DaemonSet, whatever its revision."""
    if pod.by_name:
        return pod.namespace == action.namespace and name_fits(pod.name, action.name)
    return belongs(pod, Workload(namespace=action.namespace, name=action.name)).member


def _why_no_step(pod: Pod, action: Action) -> str:
    if pod.by_name:
        unproven = bool(action.revision or action.image)
        return "its revision and image are not known without the runtime" if unproven else ""
    member = belongs(pod, workload_of(action))
    if not member.member:
        return member.reason
    if not pod.live and not (action.hold_s and pod.ready):
        return "no live container"
    if action.image and not any(one.is_of(action.image) for one in pod.containers):
        return "no container has that image"
    return ""


def _of_another_kind(pods: tuple[Pod, ...], action: Action) -> Pod | None:
    """Return a live pod that fits the command's workload name and belongs to no DaemonSet."""
    for pod in pods:
        in_namespace = pod.live and pod.namespace == action.namespace
        if in_namespace and _is_named_after(pod, action.name) and identify(pod).why_not:
            return pod
    return None


def _is_named_after(pod: Pod, name: str) -> bool:
    """Return whether a pod's name is the name itself, or one that another controller generates."""
    if not pod.name.startswith(name):
        return False
    rest = pod.name[len(name) :]
    is_static = pod.annotation("kubernetes.io/config.source") == "file"
    return bool(_OTHERS.fullmatch(rest)) or (is_static and rest.startswith("-"))
