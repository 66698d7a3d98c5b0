# SPDX-License-Identifier: Apache-2.0
"""A simulated runtime: its state and its CRI v1 calls, answered as real runtimes were measured to.

`SimNode.call` takes and returns the messages of CRI v1, so a kubelet can use it directly, in
virtual time, or through `cri_server` and a socket.  It also simulates these habits of runtimes:
they resolve any unique prefix of an id; newer containerds answer OK to an unknown id; containerd
sends TERM only once to a container; containerd does not kill if the caller disconnects, CRI-O does.

Nothing runs in the background: each call ends the containers whose time has come.  There are no
processes; the process ids are above the kernel's maximum, so that they name no real process.
"""

import itertools
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol, TypeAlias, TypeVar, cast

import grpc
from google.protobuf.message import Message

from breakglass._pb.cri.v1 import api_pb2 as pb
from breakglass.sim.clock import SimClock, WallClock
from breakglass.sim.faults import CriError
from breakglass.sim.profiles import CONTAINERD_2_1, Profile
from breakglass.sim.records import (
    Process,
    SimContainer,
    SimSandbox,
    container_item,
    container_status,
    copied,
    found,
    sandbox_info,
    sandbox_item,
    sandbox_status,
)

IGNORES_TERM: Final = "sim.breakglass/ignores-term"  # annotation: "true"
TERM_MS: Final = "sim.breakglass/term-ms"  # annotation: how long a container takes to end on TERM

_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000
_FIRST_PID = 5_000_000  # above PID_MAX_LIMIT, 2^22
_WAIT_S = 0.01
_ID_BITS = 256
_KILLED, _TERMINATED, _LOST = 137, 143, 255

_T = TypeVar("_T")
_Call: TypeAlias = "Callable[[Message], Awaitable[Message]]"


class Gatekeeper(Protocol):
    """The control groups of the machine, as the runtime uses them."""

    def runtime_options(self) -> Mapping[str, str | bool]:
        """Return the options of the OCI runtime."""
        ...

    def refusal(self, uid: str, started_id: str) -> str:
        """Return the error text if a limit makes a start in this pod fail, else ""."""
        ...


class SimNode:
    """One node's runtime.

    Attributes:
        gatekeeper: the machine's control groups; without them, every start succeeds.
        notice_s: how much later than the kernel the runtime notices that a container has ended.

    Args:
        profile: which runtime it answers like.
        clock: its clock.
        seed: of its ids.
        latency_s: the least time of each call.
        start_s: the time of a start; the limits are checked in the middle of it.
    """

    def __init__(
        self,
        *,
        profile: Profile = CONTAINERD_2_1,
        clock: SimClock | None = None,
        seed: int = 0,
        latency_s: float = 0.0,
        start_s: float = 0.0,
    ) -> None:
        self.profile = profile
        self.latency_s = latency_s
        self.start_s = start_s
        self.notice_s = 0.0
        self.gatekeeper: Gatekeeper | None = None
        self._pids = itertools.count(_FIRST_PID)
        self._clock = clock or WallClock()
        self._random = random.Random(seed)  # noqa: S311 - ids of simulated containers
        self._sandboxes: dict[str, SimSandbox] = {}
        self._containers: dict[str, SimContainer] = {}
        self._calls = cast("Mapping[str, _Call]", self._table())

    async def call(self, method: str, request: Message) -> Message:
        """Carry out one call of CRI v1.

        Raises:
            CriError: the runtime answers with an error.
        """
        if self.latency_s:
            await self._clock.sleep(self.latency_s)
        if method not in self._calls:
            raise CriError(grpc.StatusCode.UNIMPLEMENTED, f"unknown method {method}")
        self._pass_time()
        return await self._calls[method](request)

    def end(self, container_id: str, exit_code: int = 0) -> None:
        """End a container's process now, as if it had ended by itself."""
        self._containers[container_id].end_at(self._clock.now_ns(), exit_code)
        self._pass_time()

    def lose_sandbox(self, sandbox_id: str) -> None:
        """End a sandbox's pause process; its containers keep running, as on a real node."""
        self._sandboxes[sandbox_id].ready = False

    def forget(self, container_id: str) -> None:
        """Remove a container, as another client of the runtime does."""
        del self._containers[container_id]

    def kill(self, killed_id: str) -> None:
        """Kill a container's process or a sandbox's pause, as the kernel does."""
        if killed_id in self._sandboxes:
            self._sandboxes[killed_id].ready = False
        elif killed_id in self._containers:
            self._kill(self._containers[killed_id])
            self._pass_time()

    def stick(self, container_id: str, *, stuck: bool = True) -> None:
        """Put a container's process into D state, or out of it."""
        self._containers[container_id].stuck = stuck

    def reboot(self) -> None:
        """Behave as a runtime after a reboot: list everything, with nothing running."""
        for container in self._containers.values():
            if container.running:
                container.state, container.finished_ns = pb.CONTAINER_EXITED, self._now()
                container.exit_code, container.reason = _LOST, "Unknown"
        for sandbox in self._sandboxes.values():
            sandbox.ready = False
        self.restarted()

    def processes(self) -> tuple[Process, ...]:
        """Return the running processes, pauses included, as the kernel knows them."""
        self._pass_time()
        pauses = [
            Process(id=one.id, uid=one.uid, pid=one.pid)
            for one in self._sandboxes.values()
            if one.ready
        ]
        return (
            *pauses,
            *(
                Process(id=one.id, uid=self._sandboxes[one.sandbox_id].uid, pid=one.pid)
                for one in self._containers.values()
                if one.running and not one.over
            ),
        )

    def restarted(self) -> None:
        """Behave as a restarted runtime: forget which containers were sent TERM."""
        for container in self._containers.values():
            container.signalled = False

    def signals(self, container_id: str) -> tuple[str, ...]:
        """Return the signals that were sent to a container, in order."""
        return tuple(self._containers[container_id].log)

    def running(self) -> tuple[str, ...]:
        """Return the ids of the containers that run now."""
        self._pass_time()
        return tuple(one.id for one in self._containers.values() if one.running)

    def _table(self) -> Mapping[str, object]:
        return {
            "Version": self._version,
            "Status": self._status,
            "ListPodSandbox": self._list_sandboxes,
            "PodSandboxStatus": self._sandbox_status,
            "RunPodSandbox": self._run_sandbox,
            "StopPodSandbox": self._stop_sandbox,
            "RemovePodSandbox": self._remove_sandbox,
            "ListContainers": self._list_containers,
            "ContainerStatus": self._container_status,
            "CreateContainer": self._create_container,
            "StartContainer": self._start_container,
            "StopContainer": self._stop_container,
        }

    # Reads.

    async def _version(self, _: pb.VersionRequest) -> pb.VersionResponse:
        return pb.VersionResponse(
            version="0.1.0",
            runtime_name=self.profile.name,
            runtime_version=self.profile.version,
            runtime_api_version="v1",
        )

    async def _status(self, _: pb.StatusRequest) -> pb.StatusResponse:
        ready = [
            pb.RuntimeCondition(type=name, status=True) for name in ("RuntimeReady", "NetworkReady")
        ]
        return pb.StatusResponse(status=pb.RuntimeStatus(conditions=ready))

    async def _list_sandboxes(self, request: pb.ListPodSandboxRequest) -> pb.ListPodSandboxResponse:
        items = [sandbox_item(one) for one in self._sandboxes.values()]
        return pb.ListPodSandboxResponse(
            items=[
                item
                for item in items
                if not request.filter.id or item.id.startswith(request.filter.id)
            ]
        )

    async def _list_containers(
        self, request: pb.ListContainersRequest
    ) -> pb.ListContainersResponse:
        wanted = request.filter
        return pb.ListContainersResponse(
            containers=[
                container_item(one)
                for one in self._containers.values()
                if wanted.id in {"", one.id} and wanted.pod_sandbox_id in {"", one.sandbox_id}
            ]
        )

    async def _sandbox_status(
        self, request: pb.PodSandboxStatusRequest
    ) -> pb.PodSandboxStatusResponse:
        sandbox = found(self._sandboxes, request.pod_sandbox_id)
        reply = pb.PodSandboxStatusResponse(status=sandbox_status(sandbox))
        if request.verbose:
            options = self.gatekeeper.runtime_options() if self.gatekeeper else {}
            reply.info["info"] = sandbox_info(sandbox, options)
        return reply

    async def _container_status(
        self, request: pb.ContainerStatusRequest
    ) -> pb.ContainerStatusResponse:
        one = found(self._containers, request.container_id)
        reply = pb.ContainerStatusResponse(status=container_status(one))
        if request.verbose:
            pid = one.pid if one.running else 0
            reply.info["info"] = json.dumps({"sandboxID": one.sandbox_id, "pid": pid})
        return reply

    # Sandboxes.

    async def _run_sandbox(self, request: pb.RunPodSandboxRequest) -> pb.RunPodSandboxResponse:
        wanted = request.config.metadata
        for one in self._sandboxes.values():
            if one.config.metadata == wanted:
                if self.profile.finishes_stops:  # CRI-O returns the existing sandbox
                    return pb.RunPodSandboxResponse(pod_sandbox_id=one.id)
                name = f"{wanted.name}_{wanted.namespace}_{wanted.uid}_{wanted.attempt}"
                message = f'failed to reserve sandbox name "{name}"'
                raise CriError(grpc.StatusCode.UNKNOWN, message)
        new_id = self._new_id()
        refused = await self._start(wanted.uid, new_id)
        if refused:
            message = f"failed to create containerd task: failed to start sandbox: {refused}"
            raise CriError(grpc.StatusCode.UNKNOWN, message)
        sandbox = SimSandbox(
            id=new_id,
            config=copied(request.config),
            created_ns=self._now(),
            pid=next(self._pids),
            handler=request.runtime_handler,
        )
        self._sandboxes[sandbox.id] = sandbox
        return pb.RunPodSandboxResponse(pod_sandbox_id=sandbox.id)

    async def _stop_sandbox(self, request: pb.StopPodSandboxRequest) -> pb.StopPodSandboxResponse:
        sandbox = self._known(self._sandboxes, request.pod_sandbox_id)
        if sandbox is not None:
            for container in self._of(sandbox):
                self._kill(container)
            sandbox.ready = False
            self._pass_time()
        return pb.StopPodSandboxResponse()

    async def _remove_sandbox(
        self, request: pb.RemovePodSandboxRequest
    ) -> pb.RemovePodSandboxResponse:
        sandbox = self._sandboxes.pop(request.pod_sandbox_id, None)
        for container in self._of(sandbox) if sandbox else ():
            del self._containers[container.id]
        return pb.RemovePodSandboxResponse()

    # Containers.

    async def _create_container(
        self, request: pb.CreateContainerRequest
    ) -> pb.CreateContainerResponse:
        sandbox = found(self._sandboxes, request.pod_sandbox_id)
        if not sandbox.ready:
            raise CriError(grpc.StatusCode.UNKNOWN, "sandbox is not running")
        container = SimContainer(
            id=self._new_id(),
            sandbox_id=sandbox.id,
            config=copied(request.config),
            created_ns=self._now(),
            pid=next(self._pids),
            log_path=f"{sandbox.config.log_directory}/{request.config.log_path}",
        )
        self._containers[container.id] = container
        return pb.CreateContainerResponse(container_id=container.id)

    async def _start_container(
        self, request: pb.StartContainerRequest
    ) -> pb.StartContainerResponse:
        container = found(self._containers, request.container_id)
        if container.state != pb.CONTAINER_CREATED:
            raise CriError(grpc.StatusCode.UNKNOWN, "container is not in created state")
        refused = await self._start(self._sandboxes[container.sandbox_id].uid, container.id)
        if refused:
            message = (
                "failed to create containerd task: failed to create shim task: OCI runtime create "
                f"failed: runc create failed: unable to start container process: {refused}"
            )
            container.fail_to_start(self._now(), message)
            raise CriError(grpc.StatusCode.UNKNOWN, message)
        container.state, container.started_ns = pb.CONTAINER_RUNNING, self._now()
        return pb.StartContainerResponse()

    async def _start(self, uid: str, started_id: str) -> str:
        """Wait for the time of a start; return the error text if it fails, else ""."""
        await self._clock.sleep(self.start_s / 2)
        refused = self.gatekeeper.refusal(uid, started_id) if self.gatekeeper else ""
        if not refused:
            await self._clock.sleep(self.start_s / 2)
        return refused

    async def _stop_container(self, request: pb.StopContainerRequest) -> pb.StopContainerResponse:
        container = self._known(self._containers, request.container_id)
        if container is None or not container.running:
            return pb.StopContainerResponse()  # OK, although a created container stays as it is
        kill_ns = self._now() + max(request.timeout, 0) * _NS_PER_S
        if request.timeout > 0:
            self._terminate(container)
        if self.profile.finishes_stops:  # CRI-O kills by itself, at the earliest requested time
            container.kill_ns = min(kill_ns, container.kill_ns or kill_ns)
        while container.id in self.running():
            # containerd kills within the call: if the caller leaves, the container keeps running.
            left_s = (kill_ns - self._now()) / _NS_PER_S
            if left_s <= 0:
                self._kill(container)
            if left_s > 0 or container.stuck:
                await self._clock.sleep(min(_WAIT_S, left_s) if left_s > 0 else _WAIT_S)
        return pb.StopContainerResponse()

    # Time.

    def _now(self) -> int:
        return self._clock.now_ns()

    def _pass_time(self) -> None:
        """Kill and end the containers whose time has come."""
        now_ns = self._now()
        for container in self._containers.values():
            if container.running and container.kill_ns is not None and container.kill_ns <= now_ns:
                self._kill(container)
            container.pass_time(now_ns, round(self.notice_s * _NS_PER_S))

    def _terminate(self, container: SimContainer) -> None:
        if container.signalled:
            return  # containerd sends TERM only once to a container
        container.signalled = True
        container.log.append("TERM")
        annotations = container.config.annotations
        if annotations.get(IGNORES_TERM) != "true":
            takes_ns = int(annotations.get(TERM_MS, "0")) * _NS_PER_MS
            container.end_at(self._now() + takes_ns, _TERMINATED)

    def _kill(self, container: SimContainer) -> None:
        if container.running:
            container.log.append("KILL")
            container.end_at(self._now(), _KILLED)

    def _of(self, sandbox: SimSandbox) -> tuple[SimContainer, ...]:
        return tuple(one for one in self._containers.values() if one.sandbox_id == sandbox.id)

    def _known(self, table: "Mapping[str, _T]", wanted: str) -> "_T | None":
        """Return what an id stands for; None if it is unknown and this runtime answers OK."""
        try:
            return found(table, wanted)
        except CriError as error:
            if error.status is grpc.StatusCode.NOT_FOUND and self.profile.unknown_ids_are_ok:
                return None
            raise

    def _new_id(self) -> str:
        return f"{self._random.getrandbits(_ID_BITS):064x}"
