# SPDX-License-Identifier: Apache-2.0
"""The workloads of a simulated node, and the pods that their controllers make of them.

A pod has the names, labels and annotations that kubelet gives it, and its containers' annotations
hold the grace period.  An annotation that only `node` reads says how its processes react to TERM.
"""

import random
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.core import bounds
from breakglass.core.canonical import Fields, Json, parse_object, render
from breakglass.core.names import parse_workload
from breakglass.errors import Malformed
from breakglass.sim.node import IGNORES_TERM, TERM_MS

MAX_WORKLOADS_BYTES = 256 * 1024
_MAX_WORKLOADS = 200
_MAX_MS = 3_600_000
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_BASE_CHARS = 58
_UID_BITS = 128


class Controller(StrEnum):
    """The kind of controller that made a pod."""

    DAEMONSET = "daemonset"
    STATEFULSET = "statefulset"
    DEPLOYMENT = "deployment"
    BARE = "bare"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSpec:
    """One workload of a node, and how its processes react to TERM."""

    namespace: str
    name: str
    controller: Controller = Controller.DAEMONSET
    revision: str = "fc555b4c5"
    pods: int = 1
    containers: int = 1
    grace_s: int = 30
    ignores_term: bool = False
    term_ms: int = 0
    tag: str = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSpec:
    """One pod as kubelet requests it from the runtime, with attempt 0."""

    sandbox: pb.PodSandboxConfig
    containers: tuple[pb.ContainerConfig, ...]

    @property
    def uid(self) -> str:
        """The pod's UID."""
        return self.sandbox.metadata.uid


def parse_workloads(raw: bytes) -> tuple[WorkloadSpec, ...]:
    """Return the workloads in a JSON text: {"workloads": [...]}, each with every field.

    Raises:
        Malformed: the text is not in this form.
    """
    fields = Fields(parse_object(raw, max_bytes=MAX_WORKLOADS_BYTES))
    found = tuple(map(_workload, fields.objects("workloads", max_items=_MAX_WORKLOADS)))
    fields.finish()
    return found


def render_workloads(workloads: Iterable[WorkloadSpec]) -> bytes:
    """Return the JSON text of workloads, which `parse_workloads` parses."""
    items: list[Json] = [
        {
            "workload": f"{one.namespace}/{one.name}",
            "controller": one.controller.value,
            "revision": one.revision,
            "pods": one.pods,
            "containers": one.containers,
            "grace_s": one.grace_s,
            "ignores_term": one.ignores_term,
            "term_ms": one.term_ms,
            "tag": one.tag,
        }
        for one in workloads
    ]
    return render({"workloads": items})


def make_pod(spec: WorkloadSpec, seeded: random.Random, *, number: int = 0) -> PodSpec:
    """Return a new pod of a workload, with its own name and UID."""
    sandbox = pb.PodSandboxConfig(
        metadata=pb.PodSandboxMetadata(
            name=_pod_name(spec, seeded, number),
            uid=str(uuid.UUID(int=seeded.getrandbits(_UID_BITS), version=4)),
            namespace=spec.namespace,
        ),
        annotations={"kubernetes.io/config.source": "api"},
    )
    known = {
        "io.kubernetes.pod.name": sandbox.metadata.name,
        "io.kubernetes.pod.namespace": sandbox.metadata.namespace,
        "io.kubernetes.pod.uid": sandbox.metadata.uid,
    }
    sandbox.labels.update(_labels(spec, sandbox.metadata.name) | known)
    containers = tuple(
        pb.ContainerConfig(
            metadata=pb.ContainerMetadata(name=f"c{place}"),
            image=pb.ImageSpec(image=f"localhost/{spec.name}:{spec.tag}"),
            labels={"io.kubernetes.container.name": f"c{place}", **known},
            annotations={
                "io.kubernetes.pod.terminationGracePeriod": str(spec.grace_s),
                IGNORES_TERM: "true" if spec.ignores_term else "false",
                TERM_MS: str(spec.term_ms),
            },
        )
        for place in range(spec.containers)
    )
    return PodSpec(sandbox=sandbox, containers=containers)


def _workload(fields: Fields) -> WorkloadSpec:
    namespace, name = fields.parsed("workload", parse_workload)
    found = WorkloadSpec(
        namespace=namespace,
        name=name,
        controller=fields.parsed("controller", _controller),
        revision=fields.text("revision"),
        pods=fields.integer("pods", low=0, high=bounds.MAX_PODS_PER_NODE),
        containers=fields.integer("containers", low=1, high=_MAX_WORKLOADS),
        grace_s=fields.integer("grace_s", low=0, high=bounds.MAX_GRACE_S),
        ignores_term=fields.flag("ignores_term"),
        term_ms=fields.integer("term_ms", low=0, high=_MAX_MS),
        tag=fields.text("tag"),
    )
    fields.finish()
    return found


def _controller(text: str) -> Controller:
    if text not in set(Controller):
        raise Malformed(f"expected one of {', '.join(Controller)}, got another controller")
    return Controller(text)


def _pod_name(spec: WorkloadSpec, seeded: random.Random, number: int) -> str:
    suffix = "".join(seeded.choice(_SUFFIX_ALPHABET) for _ in range(5))
    match spec.controller:
        case Controller.DAEMONSET:
            return f"{spec.name}-"[:_BASE_CHARS] + suffix
        case Controller.STATEFULSET:
            return f"{spec.name}-{number}"
        case Controller.DEPLOYMENT:
            return f"{spec.name}-{spec.revision}-{suffix}"
        case Controller.BARE:
            return spec.name


def _labels(spec: WorkloadSpec, pod_name: str) -> dict[str, str]:
    app = {"app": spec.name}
    match spec.controller:
        case Controller.DAEMONSET:
            return app | {
                "controller-revision-hash": spec.revision,
                "pod-template-generation": "1",
            }
        case Controller.STATEFULSET:
            return app | {
                "controller-revision-hash": f"{spec.name}-{spec.revision}",
                "statefulset.kubernetes.io/pod-name": pod_name,
                "apps.kubernetes.io/pod-index": "0",
            }
        case Controller.DEPLOYMENT:
            return app | {"pod-template-hash": spec.revision}
        case Controller.BARE:
            return app
