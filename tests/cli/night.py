# SPDX-License-Identifier: Apache-2.0
"""A bastion and running nodes: each node is an agent process over a simulated runtime.

The bastion reaches the agents over mTLS on loopback.
"""

from collections.abc import Iterator
from pathlib import Path

import grpc

from breakglass._pb.cri.v1 import api_pb2 as cri
from breakglass.agent.log.replay import replay
from breakglass.fleet.home.home import Home
from scenarios.bastion import Bastion
from scenarios.loopback import Nodes
from tests.support import worlds
from tests.support.described import log_lines

_CALL_S = 2.0  # a runtime that a test has stopped answers nothing


class Night(Nodes):
    """A bastion with three people, and running nodes."""

    def __init__(self, bastion: Bastion) -> None:
        super().__init__(bastion)
        worlds.show("nodes of the night", self._describe)

    def approved(self, *extra: str) -> str:
        """Return a command file that two people have approved."""
        return self.bastion.signed("cmd", "--grace", "1s", *extra)

    def _describe(self) -> Iterator[str]:
        inventory = Home.at(Path(self.bastion.path("home"))).inventory()
        for row in inventory.nodes:
            agent = self.agents[row.name]
            yield f"{row.name}: the agent {'runs' if agent.alive else 'does not run'}"
            yield from _container_lines(self.runtimes[row.name].socket)
            log = self.bastion.folder / "state" / row.name / "log"
            yield from log_lines(tuple(replay(log, row.log_key).entries()))
            yield "the agent's own lines:"
            yield from (f"  {line}" for line in agent.tail().splitlines())


def _container_lines(socket: Path) -> Iterator[str]:
    """Yield the containers of a runtime, by one question."""
    yield "containers:"
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        ask = channel.unary_unary(
            "/runtime.v1.RuntimeService/ListContainers",
            request_serializer=cri.ListContainersRequest.SerializeToString,
            response_deserializer=cri.ListContainersResponse.FromString,
        )
        try:
            found = ask(cri.ListContainersRequest(), timeout=_CALL_S).containers
        except grpc.RpcError as error:
            yield f"  the runtime does not answer: {error}"
            return
    for one in found:
        state = cri.ContainerState.Name(one.state)
        yield f"  {one.id[:12]} of {one.labels['io.kubernetes.pod.name']} {state}"
