# SPDX-License-Identifier: Apache-2.0
"""kubelet, played by a test: what it does on a node before and between the starts of containers.

A pod's control group in every tree, with its limit of processes; its folder of logs; its sandbox;
then containers, each start with one attempt more, whatever came of the one before.  It never waits
and never gives up: when it tries again is the test's to say.

What runs in the containers is a witness: its first act is a line in a file of its own, it makes no
process, and no line means that none of its code ran.
"""

import secrets
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.message import Message

from breakglass._pb.cri.v1 import api_pb2 as cri
from lab import images, leftovers
from lab.containerd import CHANNEL_OPTIONS, Containerd

WITNESS = "localhost/witness:1"
SOURCE = Path(__file__).parents[2] / "lab" / "kubernetes" / "witness.c"
REVISION = "fc555b4c5"
TASKS = "1024"
DESCENDANTS = "cgroup.max.descendants"
SEEN_S = 20.0
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
# At a gate, and in a sandbox that is dead; anything else is a runtime that does not work.
_FAILED = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.NOT_FOUND)
_CALL_S = 60.0
# The first process of a pod's own namespace hears no signal that it does not ask for.
_STUBBORN = ("/bin/busybox", "sh", "-c", "echo 0 start - >>/witnessed; exec sleep 2147483647")
_Reply = TypeVar("_Reply", bound=Message)
_NETWORK = cri.NamespaceOption(network=cri.NODE, pid=cri.CONTAINER, ipc=cri.POD)


def why_not() -> str:
    """Say why no witness can be made here; empty when it can."""
    return "" if shutil.which("gcc") else "not installed: gcc"


def build_witness(folder: Path) -> Path:
    """Return the witness, built in a folder."""
    program = folder / "witness"
    command = ["gcc", "-O1", "-static", "-pthread", "-o", str(program), str(SOURCE)]
    subprocess.run(command, check=True, capture_output=True)
    return program


def until(condition: Callable[[], object], what: str = "it") -> None:
    """Wait until something can be seen from outside; fail when it never is."""
    end = time.monotonic() + SEEN_S
    while not condition():
        assert time.monotonic() < end, f"{what} was never seen"
        time.sleep(0.005)


@dataclass(kw_only=True)
class PlayedPod:
    """A pod as kubelet knows it.

    Attributes:
        sandbox: its configuration; the id is in `sandbox_id`, "" while there is none.
        container_ids: all that were ever created in it.
        witnessed: the file of its witnesses.
    """

    sandbox: cri.PodSandboxConfig
    handler: str
    witnessed: Path
    stubborn: bool = False
    sandbox_id: str = ""
    container_ids: list[str] = field(default_factory=list)

    @property
    def uid(self) -> str:
        """Its UID."""
        return self.sandbox.metadata.uid

    @property
    def name(self) -> str:
        """Its name."""
        return self.sandbox.metadata.name

    @property
    def cgroup(self) -> str:
        """Its control group, the same in every tree."""
        return self.sandbox.linux.cgroup_parent

    def directory(self, tree: str) -> Path:
        """Return its directory in the tree that is mounted under this name."""
        return Path("/sys/fs/cgroup", tree, self.cgroup.lstrip("/"))

    @property
    def limits(self) -> tuple[str, str]:
        """How many groups and how many processes may be in it."""
        descendants = self.directory("unified") / DESCENDANTS
        tasks = self.directory("pids") / "pids.max"
        return descendants.read_text().strip(), tasks.read_text().strip()

    @property
    def starts(self) -> int:
        """How often user code began to run."""
        lines = self.witnessed.read_text().splitlines() if self.witnessed.exists() else []
        return sum(line.split()[1] == "start" for line in lines)

    @property
    def processes(self) -> tuple[int, ...]:
        """The processes of its containers, without its sandbox's."""
        return tuple(
            pid
            for one in self.container_ids
            for pid in leftovers.processes_in(f"{self.cgroup}/{one}")
        )


class PlayedKubelet:
    """One node's kubelet.

    Args:
        containerd: the node's runtime, which has the witness's image.
        folder: where `pods`, its folder of logs, and the witnesses' files are.
    """

    def __init__(self, containerd: Containerd, folder: Path) -> None:
        self.pod_logs = folder / "pods"
        self.pod_logs.mkdir(parents=True, exist_ok=True)
        # The witness's path is mounted into pods: a short one, that is there before them.
        self._witnessed = folder / "witnessed"
        self._witnessed.mkdir(exist_ok=True)
        self.pods: list[PlayedPod] = []
        self._containerd = containerd
        self._channel = grpc.insecure_channel(containerd.endpoint, options=CHANNEL_OPTIONS)

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def pod(
        self,
        workload: str = "monitoring/telemetry",
        *,
        containers: int = 1,
        **shape: Any,  # noqa: ANN401 - those of `born`
    ) -> PlayedPod:
        """Return a pod of a DaemonSet that runs; the shape is that of `born`."""
        pod = self.born(workload, **shape)
        self.run_sandbox(pod)
        for number in range(containers):
            self.start(pod, f"c{number}")
        until(lambda: pod.starts == containers, f"user code of {pod.name}")
        return pod

    def born(
        self,
        workload: str = "monitoring/telemetry",
        *,
        revision: str = REVISION,
        handler: str = "runc",
        tasks: str = TASKS,
        logged: bool = True,
        stubborn: bool = False,
    ) -> PlayedPod:
        """Return a pod that has its control group and its folder of logs, and nothing else yet.

        Args:
            workload: its DaemonSet.
            revision: the DaemonSet's revision that it is of.
            handler: what makes its containers.
            tasks: the limit of its processes.
            logged: whether its folder of logs is where the agent looks.
            stubborn: whether its processes do not hear TERM.
        """
        namespace, _, owner = workload.partition("/")
        suffix = "".join(secrets.choice(_ALPHABET) for _ in range(5))
        uid = str(uuid.uuid4())
        known = {
            "io.kubernetes.pod.name": f"{owner}-{suffix}",
            "io.kubernetes.pod.namespace": namespace,
            "io.kubernetes.pod.uid": uid,
        }
        sandbox = cri.PodSandboxConfig(
            metadata=cri.PodSandboxMetadata(
                name=known["io.kubernetes.pod.name"], uid=uid, namespace=namespace
            ),
            labels={"controller-revision-hash": revision, "pod-template-generation": "1", **known},
            annotations={"kubernetes.io/config.source": "api"},
            linux=cri.LinuxPodSandboxConfig(
                cgroup_parent=f"{self._containerd.cgroup_root}/kubepods/besteffort/pod{uid}",
                security_context=cri.LinuxSandboxSecurityContext(namespace_options=_NETWORK),
            ),
        )
        pod = PlayedPod(
            sandbox=sandbox,
            handler=handler,
            witnessed=self._witnessed / uid,
            stubborn=stubborn,
        )
        self.pods.append(pod)
        for tree in leftovers.hierarchies():
            (tree / pod.cgroup.lstrip("/")).mkdir(parents=True, exist_ok=True)
        (pod.directory("pids") / "pids.max").write_text(tasks)
        if logged:
            self.log_folder(pod)
        return pod

    def log_folder(self, pod: PlayedPod) -> None:
        """Make a pod's folder of logs."""
        (self.pod_logs / f"{pod.sandbox.metadata.namespace}_{pod.name}_{pod.uid}").mkdir()

    def run_sandbox(self, pod: PlayedPod) -> None:
        """Make a pod's sandbox; raise `grpc.RpcError` when the runtime cannot."""
        request = cri.RunPodSandboxRequest(config=pod.sandbox, runtime_handler=pod.handler)
        reply = self._call("RunPodSandbox", request, cri.RunPodSandboxResponse)
        pod.sandbox_id = reply.pod_sandbox_id
        pod.sandbox.metadata.attempt += 1

    def create(self, pod: PlayedPod, name: str = "c0") -> str:
        """Create a container with one attempt more, and return its id."""
        known = {key: pod.sandbox.labels[key] for key in pod.sandbox.labels if "/" not in key}
        attempt = len(pod.container_ids)
        request = cri.CreateContainerRequest(
            pod_sandbox_id=pod.sandbox_id,
            sandbox_config=pod.sandbox,
            config=cri.ContainerConfig(
                metadata=cri.ContainerMetadata(name=name, attempt=attempt),
                image=cri.ImageSpec(image=images.WORKLOAD if pod.stubborn else WITNESS),
                command=_STUBBORN if pod.stubborn else (),
                args=() if pod.stubborn else ("/witnessed",),
                envs=[cri.KeyValue(key="POD_UID", value=pod.uid)],
                mounts=[
                    cri.Mount(
                        container_path="/witnessed", host_path=str(pod.witnessed), readonly=False
                    )
                ],
                labels={"io.kubernetes.container.name": name, **known},
                annotations={"io.kubernetes.container.restartCount": str(attempt)},
                linux=cri.LinuxContainerConfig(
                    security_context=cri.LinuxContainerSecurityContext(namespace_options=_NETWORK)
                ),
            ),
        )
        pod.witnessed.touch()
        reply = self._call("CreateContainer", request, cri.CreateContainerResponse)
        pod.container_ids.append(reply.container_id)
        return reply.container_id

    def start(self, pod: PlayedPod, name: str = "c0") -> None:
        """Create a container and start it; raise `grpc.RpcError` when the runtime cannot."""
        self.start_created(self.create(pod, name))

    def start_created(self, container_id: str) -> None:
        """Start a container that was created; raise `grpc.RpcError` when the runtime cannot."""
        request = cri.StartContainerRequest(container_id=container_id)
        self._call("StartContainer", request, cri.StartContainerResponse)

    def image_of(self, pod: PlayedPod) -> str:
        """Return the digest of the image of a pod's containers, as the runtime tells it."""
        request = cri.ContainerStatusRequest(container_id=pod.container_ids[0])
        reply = self._call("ContainerStatus", request, cri.ContainerStatusResponse)
        return reply.status.image_ref.rpartition("@")[2]

    def fails(self, act: Callable[[PlayedPod], None], pod: PlayedPod) -> str:
        """Return what the runtime says of an act that must fail."""
        with pytest.raises(grpc.RpcError) as failure:
            act(pod)
        assert failure.value.code() in _FAILED, failure.value
        return str(failure.value.details())

    def remove(self, pod: PlayedPod) -> None:
        """End a pod and take it out of the runtime and the trees, as kubelet does in the end."""
        leftovers.end_cgroup(pod.cgroup)
        if pod.sandbox_id:
            # The runtime learns of a death by an event, and removes nothing before.
            until(lambda: self._removed(pod), "the removal")
        leftovers.remove_cgroup(pod.cgroup)

    def _removed(self, pod: PlayedPod) -> bool:
        request = cri.RemovePodSandboxRequest(pod_sandbox_id=pod.sandbox_id)
        try:
            self._call("RemovePodSandbox", request, cri.RemovePodSandboxResponse)
        except grpc.RpcError:
            return False
        return True

    def _call(self, method: str, request: Message, response: type[_Reply]) -> _Reply:
        call = self._channel.unary_unary(
            f"/runtime.v1.RuntimeService/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return call(request, timeout=_CALL_S, wait_for_ready=True)
