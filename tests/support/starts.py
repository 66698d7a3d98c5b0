# SPDX-License-Identifier: Apache-2.0
"""Starts of containers in a real runtime, as kubelet tries them, and an honest witness of each.

The first thing a container does is to write a line into a file of the host's, by its shell alone: a
program that it had to fork first would look blocked where it is not.  One line is one time that
user code ran.
"""

import itertools
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from breakglass._pb.cri.v1 import api_pb2 as cri
from lab import images
from lab.containerd import CHANNEL_OPTIONS, Containerd
from lab.pods import RPC_S

_WITNESS = 'echo "$0" >>/mark/lines; trap "exit 0" TERM; while :; do sleep 3600 & wait $!; done'


class Starts:
    """One pod's sandbox and the starts of its only container.

    Args:
        containerd: the runtime.
        folder: where the witness writes, a folder of this pod's own.
        handler: which program makes the containers, "runc" or "crun".
        privileged: whether the container is.
    """

    def __init__(
        self, containerd: Containerd, folder: Path, *, handler: str, privileged: bool = False
    ) -> None:
        self.uid = str(uuid.uuid4())
        self.path = f"{containerd.cgroup_root}/kubepods/besteffort/pod{self.uid}"
        self.handler = handler
        self._folder = folder
        self._privileged = privileged
        self._numbers = itertools.count()
        self._channel = grpc.insecure_channel(containerd.endpoint, options=CHANNEL_OPTIONS)
        folder.mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()

    def lines(self) -> int:
        """Return how often user code began."""
        file = self._folder / "lines"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def sandbox(self) -> str:
        """Run a sandbox and return its id; raise `grpc.RpcError` when that fails."""
        request = cri.RunPodSandboxRequest(
            config=self._pod(next(self._numbers)), runtime_handler=self.handler
        )
        reply = self._call("RunPodSandbox", request, cri.RunPodSandboxResponse())
        assert isinstance(reply, cri.RunPodSandboxResponse)
        return reply.pod_sandbox_id

    def start(self, sandbox_id: str) -> tuple[str, str]:
        """Create a container and start it; return its id, and why the start failed or ""."""
        number = next(self._numbers)
        request = cri.CreateContainerRequest(
            pod_sandbox_id=sandbox_id, config=self._container(number), sandbox_config=self._pod(0)
        )
        created = self._call("CreateContainer", request, cri.CreateContainerResponse())
        assert isinstance(created, cri.CreateContainerResponse)
        begin = cri.StartContainerRequest(container_id=created.container_id)
        try:
            self._call("StartContainer", begin, cri.StartContainerResponse())
        except grpc.RpcError as error:
            return created.container_id, str(error.details())
        return created.container_id, ""

    def stop_sandbox(self, sandbox_id: str) -> None:
        """Stop the sandbox with all that is in it."""
        self._call(
            "StopPodSandbox",
            cri.StopPodSandboxRequest(pod_sandbox_id=sandbox_id),
            cri.StopPodSandboxResponse(),
        )

    def status(self, container_id: str) -> cri.ContainerStatus:
        """Return a container's status."""
        request = cri.ContainerStatusRequest(container_id=container_id)
        reply = self._call("ContainerStatus", request, cri.ContainerStatusResponse())
        assert isinstance(reply, cri.ContainerStatusResponse)
        return reply.status

    def _call(self, name: str, request: object, reply: object) -> object:
        call = self._channel.unary_unary(
            f"/runtime.v1.RuntimeService/{name}",
            request_serializer=type(request).SerializeToString,  # type: ignore[attr-defined]
            response_deserializer=type(reply).FromString,  # type: ignore[attr-defined]
        )
        return call(request, timeout=RPC_S, wait_for_ready=True)

    def _pod(self, attempt: int) -> cri.PodSandboxConfig:
        return cri.PodSandboxConfig(
            metadata=cri.PodSandboxMetadata(
                name=f"gated-{self.uid[:5]}", uid=self.uid, namespace="default", attempt=attempt
            ),
            linux=cri.LinuxPodSandboxConfig(
                cgroup_parent=self.path,
                security_context=self._security(),
            ),
        )

    def _security(self) -> cri.LinuxSandboxSecurityContext:
        made = cri.LinuxSandboxSecurityContext(namespace_options=_host_network())
        if self._privileged:
            # The product's schema has no such field: number 6, true.
            made.MergeFromString(b"\x30\x01")
        return made

    def _container(self, attempt: int) -> cri.ContainerConfig:
        return cri.ContainerConfig(
            metadata=cri.ContainerMetadata(name="c0", attempt=attempt),
            image=cri.ImageSpec(image=images.WORKLOAD),
            command=("/bin/busybox", "sh", "-c", _WITNESS, str(attempt)),
            mounts=[cri.Mount(container_path="/mark", host_path=str(self._folder))],
            linux=cri.LinuxContainerConfig(
                security_context=cri.LinuxContainerSecurityContext(
                    namespace_options=_host_network(), privileged=self._privileged
                )
            ),
        )


def _host_network() -> cri.NamespaceOption:
    return cri.NamespaceOption(network=cri.NODE, pid=cri.CONTAINER, ipc=cri.POD)
