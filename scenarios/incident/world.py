# SPDX-License-Identifier: Apache-2.0
"""Everything that takes part in `make incident`: a Kubernetes, people, a bastion, agents.

The bastion runs the CLI in a network namespace of its own and reaches the nodes by address; agents
run in their nodes' namespaces, from the bundle as it was written.  Nothing here judges what
happens: that is `scenarios.incident.acts` and `scenarios.incident.watch`.
"""

import signal
import time
from collections.abc import Sequence

from lab.daemon import Daemon
from lab.kubernetes import texts
from lab.kubernetes.cluster import Cluster, KubePod
from lab.kubernetes.node import KubeNode
from scenarios.bastion import AGENT, PEOPLE, Bastion, Delivered, as_process
from scenarios.loopback import start_agent
from scenarios.stage import Stage, StoryFailed, require

FLOOD, BYSTANDER = "telemetry", "bystander"
WORKLOAD = f"{texts.NAMESPACE}/{FLOOD}"
_PORT = 7450  # every node has a network of its own
_STEP_S = 90.0
_RATE_S = 3.0
_LOG_LINES = 30
_NOTE = "   (ssh-keygen -Y sign)"


class World:
    """Everything that takes part.

    Args:
        cluster: the Kubernetes, which is running.
        stage: where the story is told.
    """

    def __init__(self, cluster: Cluster, stage: Stage) -> None:
        self.cluster = cluster
        self.stage = stage
        self.agents = dict[str, Daemon]()
        program = as_process(prefix=cluster.bastion.command(), timeout_s=_STEP_S)
        self.bastion = Bastion(cluster.folder, program=program, stage=stage)
        self._drafts = 0

    @property
    def nodes(self) -> Sequence[KubeNode]:
        """The nodes, in the order of their names."""
        return self.cluster.nodes

    def tell_logs(self) -> None:
        """Print the ends of what the programs said; for a story that went wrong."""
        for node in self.nodes:
            for daemon in (node.containerd, node.kubelet, self.agents.get(node.name)):
                if daemon is not None:
                    lines = daemon.tail(20_000).splitlines()[-_LOG_LINES:]
                    self.stage.say(f"--- {node.name}, {daemon.log.name}:")
                    self.stage.quote("\n".join(lines))

    # --- commands and questions ------------------------------------------------------------

    def deliver(
        self, verb: str, workload: str, *options: str, reason: str, expect: Sequence[int] = (0,)
    ) -> Delivered:
        """Draft a command, have two people approve it with their keys, and carry it out."""
        self._drafts += 1
        who = ("--requester", "luc", "--incident", "INC-1211", "--reason", reason)
        name = f"{self._drafts}-{verb}.cmd"
        file = self.bastion.draft(name, *options, verb=verb, workload=workload, why=who, show=True)
        self.bastion.add_approval(file, "ana", note=_NOTE)
        return self.bastion.approve_and_run(file, "bo", note=_NOTE, expect=expect)

    def id_of(self, command: Delivered) -> str:
        """Return the id of a command."""
        return str(self.bastion.json("show", command.file).json["id"])

    def expect_holds(self, count: int) -> None:
        """Ask every agent for its holds; raise `StoryFailed` unless each has so many."""
        found = sorted(str(row["node"]) for row in self.bastion.rows("holds", of="holds"))
        wanted = sorted(node.name for node in self.nodes for _ in range(count))
        require(found == wanted, f"expected {count} holds on every node, got them on {found}")

    def handshakes_per_s(self) -> float:
        """Return how many TLS handshakes a second clients leave at the API server."""
        before = self._handshakes()
        time.sleep(_RATE_S)
        return (self._handshakes() - before) / _RATE_S

    def pod_on(self, node: KubeNode) -> KubePod:
        """Return the flooding DaemonSet's pod on a node; raise `StoryFailed` without one."""
        for pod in self.cluster.pods(FLOOD):
            if pod.node == node.name:
                return pod
        raise StoryFailed(f"expected a pod of {FLOOD} on {node.name}, got none")

    def has_new_pod(self, node: KubeNode, old: KubePod) -> bool:
        """Whether the controller has made a successor of a pod."""
        return any(pod.node == node.name and pod.uid != old.uid for pod in self.cluster.pods(FLOOD))

    def _handshakes(self) -> float:
        name = "apiserver_tls_handshake_errors_total "
        lines = self.cluster.kubectl("get", "--raw", "/metrics").splitlines()
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    # --- peacetime -------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the people's keys, the home, the nodes' bundles; start the agents."""
        self.bastion.make_keys()
        self.bastion.init()
        for node in self.nodes:
            self.bastion.add_node(node.name, f"{node.address}:{_PORT}")
            bundle = node.folder / "bundle"
            self.bastion.write_bundle(node.name, bundle)
            command = (*AGENT, "serve", "--config", str(bundle / "agent.toml"))
            self.agents[node.name] = node.daemon("agent", *command)
            self.start_agent(node)
        people = ", ".join(PEOPLE.split())
        self.stage.say(f"keys for {people}; breakglass-agent on {len(self.nodes)} nodes")

    def start_agent(self, node: KubeNode) -> None:
        """Start a node's agent and wait until it says that it is ready."""
        start_agent(self.agents[node.name])

    def kill_agent(self, node: KubeNode) -> None:
        """End a node's agent as a crash would."""
        self.agents[node.name].end(signal.SIGKILL)
