# SPDX-License-Identifier: Apache-2.0
"""Make pods in a real runtime with the names, labels, annotations and cgroups that kubelet uses.

`make_pod` does what kubelet does for one pod on the host's network: it runs one sandbox, then
creates and starts each container.  The marks of each kind of controller (name suffix, revision
hash, config source) are as measured on real clusters.  It returns when every container runs and has
a handler for TERM: the first process of a pid namespace does not get a signal without a handler,
and the test would wait for the whole grace period.

It restarts nothing: for a kubelet see `breakglass.sim`.
"""

import secrets
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import grpc

from breakglass._pb.cri.v1 import api_pb2 as cri
from lab import images, leftovers
from lab.containerd import CHANNEL_OPTIONS, cgroup_root

Controller = Literal["daemonset", "statefulset", "deployment", "bare"]

REVISION = "fc555b4c5"
RPC_S = 60.0
STARTED_S = 60.0
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SIGTERM_BIT = 1 << 14
_LOOK_S = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class MadePod:
    """One running pod; `container_ids` are in the order of the names `c0`, `c1`, ..."""

    uid: str
    name: str
    namespace: str
    sandbox_id: str
    container_ids: tuple[str, ...]
    cgroup: str


def make_pod(
    socket: Path,
    *,
    namespace: str,
    name: str | None = None,
    daemonset: str | None = None,
    controller: Controller | None = None,
    revision: str = REVISION,
    uid: str | None = None,
    attempt: int = 0,
    containers: int = 1,
    ignores_term: bool = False,
    grace_s: int = 30,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> MadePod:
    """Run one pod on the runtime at `socket` and return when its processes are ready.

    Args:
        socket: the CRI socket of a `lab.containerd.Containerd`.
        namespace: the Kubernetes namespace.
        name: the pod's name; made from `daemonset` as the controller does when left out.
        daemonset: the controller's name, whatever its kind.
        controller: the kind of controller whose labels and name the pod gets; when left out, a
            DaemonSet if `daemonset` is given, else none.
        revision: the hash in the revision label.
        uid: the pod's UID; random when left out.
        attempt: the number of earlier sandboxes of this pod.
        containers: the number of containers.
        ignores_term: whether its processes ignore TERM and run until they get SIGKILL.
        grace_s: the grace period that kubelet writes into the containers' annotations.
        labels: more labels of the pod, which override the controller's.
        annotations: more annotations of the pod, which override kubelet's.

    Raises:
        grpc.RpcError: the runtime refused.
        TimeoutError: a process did not become ready.
    """
    kind: Controller = controller or ("daemonset" if daemonset else "bare")
    owner = daemonset or "pod"
    pod_uid = uid or str(uuid.uuid4())
    cgroup = f"{cgroup_root(socket)}/kubepods/besteffort/pod{pod_uid}"
    sandbox = cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(
            name=name or _pod_name(kind, owner, revision),
            uid=pod_uid,
            namespace=namespace,
            attempt=attempt,
        ),
        annotations=_pod_annotations() | dict(annotations or {}),
        linux=cri.LinuxPodSandboxConfig(
            cgroup_parent=cgroup,
            security_context=cri.LinuxSandboxSecurityContext(namespace_options=_host_network()),
        ),
    )
    sandbox.labels.update(_controller_labels(kind, owner, sandbox.metadata.name, revision))
    sandbox.labels.update({**(labels or {}), **_known(sandbox)})
    configs = tuple(
        _container(index, _known(sandbox), ignores_term=ignores_term, grace_s=grace_s)
        for index in range(containers)
    )
    made = _run(socket, sandbox, configs)
    for container_id in made.container_ids:
        _wait_for_shell(f"{cgroup}/{container_id}")
    return made


def remove_pod(socket: Path, pod: MadePod) -> None:
    """Remove a pod's sandbox, containers and cgroups, as kubelet does when a pod is deleted."""
    with grpc.insecure_channel(f"unix://{socket}", options=CHANNEL_OPTIONS) as channel:
        # breakglass never makes this call and has no schema for it.  The request is field 1, the
        # sandbox's id of 64 characters.
        remove: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/runtime.v1.RuntimeService/RemovePodSandbox"
        )
        remove(b"\x0a\x40" + pod.sandbox_id.encode(), timeout=RPC_S, wait_for_ready=True)
    leftovers.remove_cgroup(pod.cgroup)


def processes_of(pod: MadePod) -> tuple[int, ...]:
    """Return the process ids of the pod's containers, without the sandbox's process."""
    return tuple(
        pid
        for container_id in pod.container_ids
        for pid in leftovers.processes_in(f"{pod.cgroup}/{container_id}")
    )


def _run(
    socket: Path, sandbox: cri.PodSandboxConfig, containers: Sequence[cri.ContainerConfig]
) -> MadePod:
    with grpc.insecure_channel(f"unix://{socket}", options=CHANNEL_OPTIONS) as channel:
        runtime = _Runtime(channel)
        sandbox_id = runtime.run_sandbox(sandbox)
        return MadePod(
            uid=sandbox.metadata.uid,
            name=sandbox.metadata.name,
            namespace=sandbox.metadata.namespace,
            sandbox_id=sandbox_id,
            container_ids=tuple(
                runtime.run_container(sandbox_id, config, sandbox) for config in containers
            ),
            cgroup=sandbox.linux.cgroup_parent,
        )


class _Runtime:
    """The three CRI calls that make a pod, each with a deadline."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def run_sandbox(self, config: cri.PodSandboxConfig) -> str:
        call = self._channel.unary_unary(
            "/runtime.v1.RuntimeService/RunPodSandbox",
            request_serializer=cri.RunPodSandboxRequest.SerializeToString,
            response_deserializer=cri.RunPodSandboxResponse.FromString,
        )
        return str(
            call(
                cri.RunPodSandboxRequest(config=config), timeout=RPC_S, wait_for_ready=True
            ).pod_sandbox_id
        )

    def run_container(
        self, sandbox_id: str, config: cri.ContainerConfig, sandbox: cri.PodSandboxConfig
    ) -> str:
        create = self._channel.unary_unary(
            "/runtime.v1.RuntimeService/CreateContainer",
            request_serializer=cri.CreateContainerRequest.SerializeToString,
            response_deserializer=cri.CreateContainerResponse.FromString,
        )
        start = self._channel.unary_unary(
            "/runtime.v1.RuntimeService/StartContainer",
            request_serializer=cri.StartContainerRequest.SerializeToString,
            response_deserializer=cri.StartContainerResponse.FromString,
        )
        request = cri.CreateContainerRequest(
            pod_sandbox_id=sandbox_id, config=config, sandbox_config=sandbox
        )
        container_id = str(create(request, timeout=RPC_S, wait_for_ready=True).container_id)
        start(
            cri.StartContainerRequest(container_id=container_id), timeout=RPC_S, wait_for_ready=True
        )
        return container_id


def _pod_name(kind: Controller, owner: str, revision: str) -> str:
    suffix = "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(5))
    match kind:
        case "daemonset":
            return f"{owner}-"[:58] + suffix  # at most 63 characters, of which 5 are random
        case "statefulset":
            return f"{owner}-0"
        case "deployment":
            return f"{owner}-{revision}-{suffix}"
        case "bare":
            return owner


def _controller_labels(
    kind: Controller, owner: str, pod_name: str, revision: str
) -> dict[str, str]:
    app = {"app": owner}
    match kind:
        case "daemonset":
            return app | {"controller-revision-hash": revision, "pod-template-generation": "1"}
        case "statefulset":
            return app | {
                "controller-revision-hash": f"{owner}-{revision}",
                "statefulset.kubernetes.io/pod-name": pod_name,
                "apps.kubernetes.io/pod-index": "0",
            }
        case "deployment":
            return app | {"pod-template-hash": revision}
        case "bare":
            return app


def _known(sandbox: cri.PodSandboxConfig) -> dict[str, str]:
    """Return the labels that kubelet sets on a sandbox and on each of its containers."""
    return {
        "io.kubernetes.pod.name": sandbox.metadata.name,
        "io.kubernetes.pod.namespace": sandbox.metadata.namespace,
        "io.kubernetes.pod.uid": sandbox.metadata.uid,
    }


def _pod_annotations() -> dict[str, str]:
    seen = time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime())
    return {"kubernetes.io/config.source": "api", "kubernetes.io/config.seen": seen}


def _host_network() -> cri.NamespaceOption:
    # The sandbox's hostname must be empty: runc cannot set one without a UTS namespace.
    return cri.NamespaceOption(network=cri.NODE, pid=cri.CONTAINER, ipc=cri.POD)


def _container(
    index: int, known: Mapping[str, str], *, ignores_term: bool, grace_s: int
) -> cri.ContainerConfig:
    name = f"c{index}"
    command: Sequence[str] = images.STUBBORN if ignores_term else images.OBEDIENT
    return cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name=name, attempt=0),
        image=cri.ImageSpec(image=images.WORKLOAD),
        command=command,
        labels={"io.kubernetes.container.name": name, **known},
        annotations={
            "io.kubernetes.container.hash": "a1b2c3d4",
            "io.kubernetes.container.restartCount": "0",
            "io.kubernetes.container.terminationMessagePath": "/dev/termination-log",
            "io.kubernetes.container.terminationMessagePolicy": "File",
            "io.kubernetes.pod.terminationGracePeriod": str(grace_s),
        },
        linux=cri.LinuxContainerConfig(
            security_context=cri.LinuxContainerSecurityContext(namespace_options=_host_network())
        ),
    )


def _wait_for_shell(cgroup: str) -> None:
    """Wait until the shell in the container's cgroup handles TERM and has started its child.

    Until then the number of processes changes by itself, and tests read a TERM from that number.
    """
    end = time.monotonic() + STARTED_S
    while not _has_shell_and_child(leftovers.processes_in(cgroup)):
        if time.monotonic() > end:
            msg = f"no shell with a child handles TERM in {cgroup} after {STARTED_S:.0f} s"
            raise TimeoutError(msg)
        time.sleep(_LOOK_S)


def _has_shell_and_child(pids: Sequence[int]) -> bool:
    return len(pids) > 1 and any(map(_catches_term, pids))


def _catches_term(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return bool(int(fields.get("SigCgt", "0"), 16) & _SIGTERM_BIT)
