# SPDX-License-Identifier: Apache-2.0
"""The stage of `make incident`: a real Kubernetes, three people, a bastion, an agent on each node.

The bastion runs the CLI in a network namespace of its own and reaches the nodes by address; agents
run in their nodes' namespaces, from the bundle as it was written.  Nothing here judges what
happens: that is `lab.incident_acts` and `lab.incident_watch`.
"""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import kubernetes_texts
from lab.kubernetes import Cluster, KubePod
from lab.kubernetes_daemon import Daemon
from lab.kubernetes_node import KubeNode

CLUSTER = "prod-a"
PEOPLE = ("ana", "bo", "luc")
FLOOD, BYSTANDER = "telemetry", "bystander"
WORKLOAD = f"{kubernetes_texts.NAMESPACE}/{FLOOD}"
_PORT = 7450  # every node has a network of its own
_STEP_S = 90.0
_RATE_S = 3.0
_LOG_LINES = 30


class IncidentFailed(Exception):
    """Something in the story was not as it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """A command that was approved by two and carried out; times since the epoch and in seconds."""

    id: str
    approving: float
    down: float

    @property
    def took_s(self) -> float:
        """From just before the second approval to the end of `run`, which saw it done."""
        return self.down - self.approving


class Stage:
    """Everything that takes part, and the telling of it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.agents: dict[str, Daemon] = {}
        self._home = cluster.folder / "home"
        self._keys = cluster.folder / "keys"
        self._began = time.monotonic()
        self._drafts = 0

    @property
    def nodes(self) -> Sequence[KubeNode]:
        """The nodes, in the order of their names."""
        return self.cluster.nodes

    # --- telling ---------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Print a line of the timeline."""
        print(f"[{time.monotonic() - self._began:7.2f} s] {text}", flush=True)

    def act(self, title: str) -> None:
        """Begin an act."""
        print(f"\n== {title}", flush=True)

    def tell_logs(self) -> None:
        """Print the ends of what the programs said; for a story that went wrong."""
        for node in self.nodes:
            for daemon in (node.containerd, node.kubelet, self.agents.get(node.name)):
                if daemon is not None:
                    lines = daemon.tail(20_000).splitlines()[-_LOG_LINES:]
                    print(f"--- {node.name}, {daemon.log.name}:", *lines, sep="\n", flush=True)

    # --- the bastion -----------------------------------------------------------------------

    def breakglass(self, *arguments: str, expect: Sequence[int] = (0,), show: bool = True) -> str:
        """Run the CLI on the bastion; return its stdout."""
        if show:
            self.say(f"$ breakglass {' '.join(self._short(one) for one in arguments)}")
        command = (sys.executable, "-m", "breakglass.cli.main", "--home", str(self._home))
        done = subprocess.run(
            self.cluster.bastion.command(*command, *arguments),
            capture_output=True,
            text=True,
            timeout=_STEP_S,
            check=False,
        )
        if show:
            for line in (done.stdout + done.stderr).splitlines():
                print(f"            {self._short(line)}", flush=True)
        if done.returncode not in expect:
            raise IncidentFailed(
                f"expected exit {' or '.join(map(str, expect))} of breakglass {arguments[0]},"
                f" got {done.returncode}: {done.stdout}{done.stderr}"
            )
        return done.stdout

    def as_json(self, *arguments: str) -> dict[str, object]:
        """Run the CLI for a program's eyes; return its one JSON document."""
        found: dict[str, object] = json.loads(
            self.breakglass("--output", "json", *arguments, show=False)
        )
        return found

    def rows(self, *arguments: str, of: str) -> list[dict[str, object]]:
        """Return one list of the JSON document that the CLI prints."""
        found = self.as_json(*arguments)[of]
        if not isinstance(found, list):
            raise IncidentFailed(f"expected a list of {of}, got {found}")
        return found

    def deliver(
        self, verb: str, workload: str, *options: str, reason: str, expect: Sequence[int] = (0,)
    ) -> Delivered:
        """Draft a command, have two people approve it with their keys, and carry it out."""
        self._drafts += 1
        file = self.cluster.folder / f"{self._drafts}-{verb}.cmd"
        who = ("--cluster", CLUSTER, "--requester", "luc", "--incident", "INC-1211")
        self.breakglass(
            "draft", verb, workload, *who, "--reason", reason, *options, "-o", str(file)
        )
        self._approve(file, "ana")
        approving = time.time()
        self._approve(file, "bo")
        self.breakglass("run", str(file), "--yes", expect=expect)
        down = time.time()
        shown = self.as_json("show", str(file))["id"]
        return Delivered(id=str(shown), approving=approving, down=down)

    def _approve(self, file: Path, person: str) -> None:
        key = str(self._keys / person)
        self.breakglass("approve", str(file), "--key", key, "--yes", show=False)
        self.say(f"$ breakglass approve {file.name} --key {person}   (ssh-keygen -Y sign)")

    # --- questions -------------------------------------------------------------------------

    def expect_holds(self, count: int) -> None:
        """Ask every agent for its holds; raise `IncidentFailed` unless each has so many."""
        found = sorted(str(row["node"]) for row in self.rows("holds", of="holds"))
        if found != sorted(node.name for node in self.nodes for _ in range(count)):
            raise IncidentFailed(f"expected {count} holds on every node, got them on {found}")

    def handshakes_per_s(self) -> float:
        """Return how many TLS handshakes a second clients leave at the API server."""
        before = self._handshakes()
        time.sleep(_RATE_S)
        return (self._handshakes() - before) / _RATE_S

    def pod_on(self, node: KubeNode) -> KubePod:
        """Return the flooding DaemonSet's pod on a node; raise `IncidentFailed` without one."""
        for pod in self.cluster.pods(FLOOD):
            if pod.node == node.name:
                return pod
        raise IncidentFailed(f"expected a pod of {FLOOD} on {node.name}, got none")

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
        self._keys.mkdir(mode=0o700)
        for person in PEOPLE:
            words = ("-q", "-t", "ed25519", "-N", "", "-C", person, "-f", str(self._keys / person))
            subprocess.run(["ssh-keygen", *words], check=True, stdin=subprocess.DEVNULL)
        people = [one for name in PEOPLE for one in ("--person", f"{name}={self._keys / name}.pub")]
        self.breakglass("init", "--domain", "example", *people, show=False)
        for node in self.nodes:
            address = f"{node.address}:{_PORT}"
            self.breakglass("node", "add", node.name, address, "--cluster", CLUSTER, show=False)
            bundle = node.folder / "bundle"
            self.breakglass("node", "bundle", node.name, "--out", str(bundle), show=False)
            command = (sys.executable, "-m", "breakglass.cli.agent", "serve")
            self.agents[node.name] = node.daemon(
                "agent", *command, "--config", str(bundle / "agent.toml")
            )
            self.start_agent(node)
        self.say(f"keys for {', '.join(PEOPLE)}; breakglass-agent on {len(self.nodes)} nodes")

    def start_agent(self, node: KubeNode) -> None:
        """Start a node's agent and wait until it says that it is ready."""
        agent = self.agents[node.name]
        before = _ready_count(agent)
        agent.start()
        agent.until(lambda: _ready_count(agent) > before)

    def kill_agent(self, node: KubeNode) -> None:
        """End a node's agent as a crash would."""
        self.agents[node.name].end(signal.SIGKILL)

    def _short(self, text: str) -> str:
        return text.replace(f"{self.cluster.folder}/", "")


def _ready_count(agent: Daemon) -> int:
    with contextlib.suppress(FileNotFoundError):
        return agent.log.read_text(errors="replace").count('"ready"')
    return 0
