# SPDX-License-Identifier: Apache-2.0
"""Start a container again in its pod, as kubelet does, and read its state from the runtime."""

from collections.abc import Sequence

import grpc

from breakglass._pb.cri.v1 import api_pb2 as cri
from lab import images
from lab.pods import RPC_S, MadePod

_SERVICE = "/runtime.v1.RuntimeService"


class Runtime:
    """A CRI client that lists, reads and stops containers; each call has a deadline."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._list = channel.unary_unary(
            f"{_SERVICE}/ListContainers",
            request_serializer=cri.ListContainersRequest.SerializeToString,
            response_deserializer=cri.ListContainersResponse.FromString,
        )
        self._status = channel.unary_unary(
            f"{_SERVICE}/ContainerStatus",
            request_serializer=cri.ContainerStatusRequest.SerializeToString,
            response_deserializer=cri.ContainerStatusResponse.FromString,
        )
        self._stop = channel.unary_unary(
            f"{_SERVICE}/StopContainer",
            request_serializer=cri.StopContainerRequest.SerializeToString,
            response_deserializer=cri.StopContainerResponse.FromString,
        )

    def containers(self) -> Sequence[cri.Container]:
        """Return all containers."""
        return tuple(self._list(cri.ListContainersRequest(), timeout=RPC_S).containers)

    def status(self, container_id: str) -> cri.ContainerStatus:
        """Return one container's status."""
        request = cri.ContainerStatusRequest(container_id=container_id)
        return self._status(request, timeout=RPC_S).status

    def stop(self, container_id: str) -> None:
        """Stop a container without a grace period."""
        request = cri.StopContainerRequest(container_id=container_id, timeout=0)
        self._stop(request, timeout=RPC_S)


def start_again(channel: grpc.Channel, pod: MadePod, *, attempt: int, name: str = "c0") -> str:
    """Create a container in a pod and start it; return its id even if the start fails."""
    create = channel.unary_unary(
        f"{_SERVICE}/CreateContainer",
        request_serializer=cri.CreateContainerRequest.SerializeToString,
        response_deserializer=cri.CreateContainerResponse.FromString,
    )
    start = channel.unary_unary(
        f"{_SERVICE}/StartContainer",
        request_serializer=cri.StartContainerRequest.SerializeToString,
        response_deserializer=cri.StartContainerResponse.FromString,
    )
    metadata = cri.PodSandboxMetadata(name=pod.name, uid=pod.uid, namespace=pod.namespace)
    host = cri.NamespaceOption(network=cri.NODE)
    security = cri.LinuxContainerSecurityContext(namespace_options=host)
    config = cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name=name, attempt=attempt),
        image=cri.ImageSpec(image=images.WORKLOAD),
        command=images.OBEDIENT,
        labels={
            "io.kubernetes.container.name": name,
            "io.kubernetes.pod.name": pod.name,
            "io.kubernetes.pod.namespace": pod.namespace,
            "io.kubernetes.pod.uid": pod.uid,
        },
        linux=cri.LinuxContainerConfig(security_context=security),
    )
    request = cri.CreateContainerRequest(
        pod_sandbox_id=pod.sandbox_id,
        config=config,
        sandbox_config=cri.PodSandboxConfig(
            metadata=metadata, linux=cri.LinuxPodSandboxConfig(cgroup_parent=pod.cgroup)
        ),
    )
    container_id = str(create(request, timeout=RPC_S).container_id)
    try:
        start(cri.StartContainerRequest(container_id=container_id), timeout=RPC_S)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNKNOWN:
            raise
    return container_id
