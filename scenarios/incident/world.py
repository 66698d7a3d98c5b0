# SPDX-License-Identifier: Apache-2.0
"""Start everything for `make incident`: a Kubernetes cluster, people, a bastion, agents.

The bastion runs the CLI in its own network namespace and reaches the nodes by IP address.  Agents
run in their nodes' namespaces, from unchanged bundles.  The checks are in `scenarios.incident.acts`
and `scenarios.incident.watch`.
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
_PORT = 7450  # the same on every node, because each has its own network namespace
_STEP_S = 90.0
_RATE_S = 3.0
_LOG_LINES = 30
_NOTE = "   (ssh-keygen -Y sign)"


class World:
    """The cluster, the bastion and the agents.

    Args:
        cluster: the running cluster.
        stage: the stage that prints the story.
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

    def print_logs(self) -> None:
        """Print the end of every program's log, after a failed story."""
        for node in self.nodes:
            for daemon in (node.containerd, node.kubelet, self.agents.get(node.name)):
                if daemon is not None:
                    lines = daemon.tail(20_000).splitlines()[-_LOG_LINES:]
                    self.stage.say(f"--- {node.name}, {daemon.log.name}:")
                    self.stage.quote("\n".join(lines))

    # --- commands and reads ----------------------------------------------------------------

    def deliver(
        self, verb: str, workload: str, *options: str, reason: str, expect: Sequence[int] = (0,)
    ) -> Delivered:
        """Draft a command, add two people's approvals, and deliver it."""
        self._drafts += 1
        who = ("--requester", "luc", "--incident", "INC-1211", "--reason", reason)
        name = f"{self._drafts}-{verb}.cmd"
        file = self.bastion.draft(name, *options, verb=verb, workload=workload, why=who, show=True)
        self.bastion.add_approval(file, "ana", note=_NOTE)
        return self.bastion.approve_and_run(file, "bo", note=_NOTE, expect=expect)

    def id_of(self, command: Delivered) -> str:
        """Return the id of a delivered command."""
        return str(self.bastion.json("show", command.file).json["id"])

    def expect_holds(self, count: int) -> None:
        """Raise `StoryFailed` unless every agent reports exactly `count` holds."""
        found = sorted(str(row["node"]) for row in self.bastion.rows("holds", of="holds"))
        wanted = sorted(node.name for node in self.nodes for _ in range(count))
        require(found == wanted, f"expected holds on the nodes {wanted}, got them on {found}")

    def handshakes_per_s(self) -> float:
        """Return the failed TLS handshakes a second, from the API server's own metrics."""
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
        """Return whether the controller has replaced a pod on this node."""
        return any(pod.node == node.name and pod.uid != old.uid for pod in self.cluster.pods(FLOOD))

    def _handshakes(self) -> float:
        name = "apiserver_tls_handshake_errors_total "
        lines = self.cluster.kubectl("get", "--raw", "/metrics").splitlines()
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    # --- preparation -----------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the people's keys, the home and the nodes' bundles; start the agents."""
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
        """Start a node's agent and wait until it logs "ready"."""
        start_agent(self.agents[node.name])

    def kill_agent(self, node: KubeNode) -> None:
        """Kill a node's agent with SIGKILL, as in a crash."""
        self.agents[node.name].end(signal.SIGKILL)
