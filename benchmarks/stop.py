# SPDX-License-Identifier: Apache-2.0
"""Measure a signed stop against plain calls to the runtime: `stop-1-pod`, `stop-30-pods`.

Our side is one Submit of an approved command to a real agent process over a real containerd, until
the stream says *finished*: decided, recorded, planned, stopped and seen down.  The reference is the
least that stops the same pods: `StopContainer` on each, as many at a time, and one `ListContainers`
to look.  Both sides get new identical pods whose process obeys TERM.  The time to make and remove
them does not count.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import grpc

from benchmarks.rows import Row, compare
from breakglass._pb.cri.v1 import api_pb2 as cri
from breakglass.core.entries import Finished, parse_entry
from lab.containerd import CHANNEL_OPTIONS, Containerd
from lab.pods import MadePod, make_pod, remove_pod
from tests.support.agent_process import AgentProcess, Door, NodeFiles, Tls
from tests.support.organisation import Organisation

WIDTH = 8
GRACE_S = 30
NAMESPACE = "monitoring"
ROUNDS = {1: 15, 30: 7}


def measure() -> Iterator[Row]:
    """Yield both rows; raise `lab.LabUnavailable` if this machine cannot run containerd."""
    with tempfile.TemporaryDirectory(prefix="bg-bench-") as folder, Containerd() as containerd:
        tls = Tls.make()
        organisation = Organisation(couriers=tls.pins)
        files = NodeFiles(
            folder=Path(folder), organisation=organisation, tls=tls, runtime=containerd.socket
        ).write()
        with AgentProcess(files) as agent:
            agent.wait_ready()
            with agent.local() as client, ThreadPoolExecutor(WIDTH) as pool:
                reference = _Runtime(containerd.socket, pool)
                ours = _Agent(containerd.socket, pool, client, organisation)
                for count, rounds in ROUNDS.items():
                    yield compare(
                        f"stop-{count}-pod{'s' if count > 1 else ''}",
                        partial(ours.stop, count),
                        partial(reference.stop, count),
                        rounds=rounds,
                        unit="ms",
                    )


class _Side:
    """Makes new pods, times `_stop`, and removes the pods."""

    daemonset: str

    def __init__(self, socket: Path, pool: ThreadPoolExecutor) -> None:
        self._socket = socket
        self._pool = pool

    def stop(self, count: int) -> float:
        pods = tuple(self._pool.map(self._make, range(count)))
        try:
            return self._stop(pods) * 1e3
        finally:
            tuple(self._pool.map(lambda pod: remove_pod(self._socket, pod), pods))

    def _make(self, _: int) -> MadePod:
        return make_pod(self._socket, namespace=NAMESPACE, daemonset=self.daemonset)

    def _stop(self, pods: Sequence[MadePod]) -> float:
        raise NotImplementedError


class _Agent(_Side):
    daemonset = "telemetry"

    def __init__(
        self, socket: Path, pool: ThreadPoolExecutor, client: Door, organisation: Organisation
    ) -> None:
        super().__init__(socket, pool)
        self._client = client
        self._organisation = organisation

    def _stop(self, pods: Sequence[MadePod]) -> float:
        text = self._organisation.command(
            workload=f"{NAMESPACE}/{self.daemonset}",
            grace_s=GRACE_S,
            max_pods_per_node=len(pods),
            created=datetime.now(UTC).replace(microsecond=0),
        )
        raw = self._organisation.signed(text, "ana bo")
        begun = time.perf_counter()
        progress = self._client.submit(raw)
        taken = time.perf_counter() - begun
        last = parse_entry(progress[-1].finished.entry).body
        if not isinstance(last, Finished) or (last.result, last.down) != ("done", len(pods)):
            msg = f"expected {len(pods)} pods down, got {progress[-1]}"
            raise RuntimeError(msg)
        return taken


class _Runtime(_Side):
    daemonset = "telemetry-agent"

    def __init__(self, socket: Path, pool: ThreadPoolExecutor) -> None:
        super().__init__(socket, pool)
        channel = grpc.insecure_channel(f"unix://{socket}", options=CHANNEL_OPTIONS)
        self._stop_container = channel.unary_unary(
            "/runtime.v1.RuntimeService/StopContainer",
            request_serializer=cri.StopContainerRequest.SerializeToString,
            response_deserializer=cri.StopContainerResponse.FromString,
        )
        self._list = channel.unary_unary(
            "/runtime.v1.RuntimeService/ListContainers",
            request_serializer=cri.ListContainersRequest.SerializeToString,
            response_deserializer=cri.ListContainersResponse.FromString,
        )

    def _stop(self, pods: Sequence[MadePod]) -> float:
        ids = [one for pod in pods for one in pod.container_ids]
        begun = time.perf_counter()
        tuple(self._pool.map(self._stop_one, ids))
        seen = {one.id: one.state for one in self._list(cri.ListContainersRequest()).containers}
        taken = time.perf_counter() - begun
        if any(seen[one] != cri.CONTAINER_EXITED for one in ids):
            msg = f"expected {len(ids)} containers exited, got {seen}"
            raise RuntimeError(msg)
        return taken

    def _stop_one(self, container_id: str) -> None:
        request = cri.StopContainerRequest(container_id=container_id, timeout=GRACE_S)
        self._stop_container(request, timeout=GRACE_S + 10)
