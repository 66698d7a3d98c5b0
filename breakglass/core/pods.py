# SPDX-License-Identifier: Apache-2.0
"""Pods as the container runtime reports them, and the DaemonSets that they belong to.

The API server may be down, so a DaemonSet's pod is recognised from the labels and annotations that
kubelet put on its sandbox (containers carry no pod labels):

- it came from the API server (`kubernetes.io/config.source`), not from a file on the node;
- its revision label has the shape that only the DaemonSet controller writes: the bare hash;
- it has no label of another controller;
- its name is `(daemonset + "-")[:58]` and five characters of Kubernetes' safe alphabet.

This identifies a DaemonSet's pod but does not prove it: a client that may create pods with such
labels can imitate one.  For a DaemonSet's name of 58 characters or more the name rule is necessary
but not sufficient (two such sets of one namespace may share the first 58); `Belongs.exact` is then
false.

A pod is one UID.  Its labels are those of its newest sandbox.  Its containers are those of all its
sandboxes, because an application survives the death of an older sandbox's pause process.  This
module makes no calls to a runtime and decides nothing about authority.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NoReturn

from breakglass.core.targets import matches

Pairs = tuple[tuple[str, str], ...]

_BASE_CHARS = 58  # 63 characters of a DNS label, less the five that the API server appends
_SUFFIX = re.compile(r"[bcdfghjklmnpqrstvwxz2456789]{5}", re.ASCII)
_SUFFIX_CHARS = 5
_REVISION = re.compile(r"[456789bcdf]{1,10}", re.ASCII)
_REVISION_LABEL = "controller-revision-hash"
_SOURCE = "kubernetes.io/config.source"
_OTHER_CONTROLLERS = (
    ("pod-template-hash", "a Deployment or ReplicaSet"),
    ("statefulset.kubernetes.io/pod-name", "a StatefulSet"),
    ("apps.kubernetes.io/pod-index", "a StatefulSet"),
    ("batch.kubernetes.io/job-name", "a Job"),
    ("job-name", "a Job"),
)

# The only labels and annotations that `identify` reads.
TELLING = frozenset({_REVISION_LABEL, _SOURCE, *(label for label, _ in _OTHER_CONTROLLERS)})


class ContainerState(StrEnum):
    """A container's state as the runtime reports it."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container; `grace_s` is the pod's own grace period, None where it is not recorded."""

    id: str
    name: str
    state: ContainerState
    attempt: int = 0
    image: str = ""
    image_ref: str = ""
    created_ns: int = 0
    grace_s: int | None = None

    @property
    def live(self) -> bool:
        """Whether it runs, may be running, or may still start: every state but exited."""
        return self.state is not ContainerState.EXITED

    def is_of(self, digest: str) -> bool:
        """Whether its image has this digest ("sha256:..."), as its id or at the end of its name."""
        return any(
            text == digest or text.endswith(f"@{digest}") for text in (self.image, self.image_ref)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod by its newest sandbox, with the containers of all its sandboxes.

    `by_name` means that the runtime never listed the pod: only its name and its control group are
    known, so the absence of labels proves nothing.
    """

    uid: str
    name: str
    namespace: str
    sandbox_id: str
    attempt: int = 0
    ready: bool = False
    labels: Pairs = ()
    annotations: Pairs = ()
    created_ns: int = 0
    containers: tuple[Container, ...] = ()
    by_name: bool = False

    @classmethod
    def vanished(cls, *, uid: str, namespace: str, name: str, sandbox_id: str) -> "Pod":
        """Return a pod that was known before and that the runtime no longer lists."""
        return cls(uid=uid, namespace=namespace, name=name, sandbox_id=sandbox_id)

    @classmethod
    def known_by_name(cls, *, uid: str, namespace: str = "", name: str = "") -> "Pod":
        """Return a pod that the runtime never listed; "" for a name that is not known yet."""
        return cls(uid=uid, namespace=namespace, name=name, sandbox_id="", by_name=True)

    @property
    def live(self) -> bool:
        """Whether any of its containers is live."""
        return any(container.live for container in self.containers)

    def label(self, key: str) -> str | None:
        """Return the value of a label, or None."""
        return _value(self.labels, key)

    def annotation(self, key: str) -> str | None:
        """Return the value of an annotation, or None."""
        return _value(self.annotations, key)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedContainer:
    """A container, with the sandbox and the pod that the runtime reports for it."""

    container: Container
    sandbox_id: str
    uid: str
    name: str
    namespace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A DaemonSet, or one revision of it."""

    namespace: str
    name: str
    revision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSetIdentity:
    """The DaemonSet that a pod belongs to, as its sandbox shows.

    Attributes:
        daemonset: the DaemonSet's name, or None when the pod belongs to no DaemonSet; only the
            first 58 characters of the name when `exact` is false.
        revision: the revision's hash, or None.
        exact: whether the pod's name contains the DaemonSet's whole name.
        why_not: why the pod belongs to no DaemonSet; "" when it belongs to one.
    """

    daemonset: str | None
    revision: str | None
    exact: bool
    why_not: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Belongs:
    """Whether a pod belongs to a workload, why, and whether its name contains the whole name."""

    member: bool
    exact: bool
    reason: str

    def __bool__(self) -> NoReturn:
        """Raise `TypeError`: a caller must read `member`."""
        raise TypeError("a verdict has no truth value; read its `member`")


def identify(pod: Pod) -> DaemonSetIdentity:
    """Return the DaemonSet that a pod belongs to, from its sandbox's name and labels."""
    why_not = _why_no_daemonset(pod)
    if why_not:
        return DaemonSetIdentity(daemonset=None, revision=None, exact=False, why_not=why_not)
    base = pod.name[:-_SUFFIX_CHARS]
    exact = len(base) < _BASE_CHARS
    return DaemonSetIdentity(
        daemonset=base[:-1] if exact else base,
        revision=pod.label(_REVISION_LABEL),
        exact=exact,
        why_not="",
    )


def belongs(pod: Pod, workload: Workload) -> Belongs:
    """Return whether a pod belongs to a workload, by the rules in this module's docstring."""
    reason = _why_not_of(pod, workload)
    exact = len(workload.name) < _BASE_CHARS
    if reason:
        return Belongs(member=False, exact=exact, reason=reason)
    return Belongs(member=True, exact=exact, reason="its labels and its name match")


def name_fits(pod_name: str, daemonset: str) -> bool:
    """Return whether a pod's name has the form that the DaemonSet's controller generates."""
    suffix = pod_name[-_SUFFIX_CHARS:]
    of = f"{daemonset}-"[:_BASE_CHARS]
    return pod_name[:-_SUFFIX_CHARS] == of and bool(_SUFFIX.fullmatch(suffix))


def is_protected(workload: str, patterns: Iterable[str]) -> bool:
    """Tell whether "namespace/name" matches one of the node owner's "pattern/pattern" pairs.

    A star does not match the slash, so "kube-system/*" is that namespace and no other.
    """
    namespace, _, name = workload.partition("/")
    for pattern in patterns:
        of_namespace, _, of_name = pattern.partition("/")
        if matches(of_namespace, namespace) and matches(of_name, name):
            return True
    return False


def join_pods(sandboxes: Iterable[Pod], listed: Iterable[ListedContainer]) -> tuple[Pod, ...]:
    """Return one pod per UID from the runtime's two lists, oldest first.

    Args:
        sandboxes: each sandbox as a pod without containers.
        listed: all containers.  A container without a listed sandbox becomes a pod without labels:
            it may be running, so it must not be missed.
    """
    newest: dict[tuple[str, str, str], Pod] = {}
    of_sandbox: dict[str, tuple[str, str, str]] = {}
    for sandbox in sandboxes:
        key = (sandbox.namespace, sandbox.name, sandbox.uid)
        of_sandbox[sandbox.sandbox_id] = key
        known = newest.get(key)
        if known is None or _age(known) < _age(sandbox):
            newest[key] = sandbox
    containers: dict[tuple[str, str, str], list[Container]] = {}
    for one in listed:
        key = of_sandbox.get(one.sandbox_id, (one.namespace, one.name, one.uid))
        if key not in newest:
            newest[key] = Pod.vanished(
                namespace=key[0], name=key[1], uid=key[2], sandbox_id=one.sandbox_id
            )
        containers.setdefault(key, []).append(one.container)
    pods = (replace(pod, containers=tuple(containers.get(key, ()))) for key, pod in newest.items())
    return tuple(sorted(pods, key=lambda pod: (pod.created_ns, pod.namespace, pod.name, pod.uid)))


def _value(pairs: Pairs, key: str) -> str | None:
    return next((value for name, value in pairs if name == key), None)


def _age(sandbox: Pod) -> tuple[int, int]:
    return sandbox.attempt, sandbox.created_ns


def _why_no_daemonset(pod: Pod) -> str:
    source = pod.annotation(_SOURCE)
    if source != "api":
        return f"not from the API server: config source {source or 'unknown'}"
    for label, controller in _OTHER_CONTROLLERS:
        if pod.label(label) is not None:
            return f"of {controller}: label {label}"
    revision = pod.label(_REVISION_LABEL)
    if revision is None:
        return f"no label {_REVISION_LABEL}"
    if not _REVISION.fullmatch(revision):
        return "of another controller: its revision label is not a bare hash"
    base = pod.name[:-_SUFFIX_CHARS]
    if len(base) > _BASE_CHARS or not _SUFFIX.fullmatch(pod.name[-_SUFFIX_CHARS:]):
        return "its name does not end in a controller's generated suffix"
    if len(base) < _BASE_CHARS and (not base.endswith("-") or base == "-"):
        return "its name does not end in a controller's generated suffix"
    return ""


def _why_not_of(pod: Pod, workload: Workload) -> str:
    if pod.namespace != workload.namespace:
        return f"in namespace {pod.namespace}"
    why_not = _why_no_daemonset(pod)
    if why_not:
        return why_not
    # Never startswith: "telemetry" must not reach "telemetry-agent".
    if pod.name[:-_SUFFIX_CHARS] != f"{workload.name}-"[:_BASE_CHARS]:
        return "its name is another DaemonSet's"
    revision = pod.label(_REVISION_LABEL)
    if workload.revision is not None and revision != workload.revision:
        return f"of revision {revision}"
    return ""
