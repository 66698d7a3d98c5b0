# SPDX-License-Identifier: Apache-2.0
"""Show stop, hold and release from end to end on three nodes: `make demo [RUNTIME=containerd]`.

Only the nodes' runtimes are simulated; with RUNTIME=containerd they are real too.  The two programs
run as processes with their own command lines, people sign with `ssh-keygen`, and commands reach the
agents over mTLS on 127.0.0.1.  Each act checks what it says, and the first failed check ends the
demo with status 1.  The last line gives the figures.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.nodes import ContainerdNode, LabNode, SimulatedNode
from scenarios.bastion import PEOPLE, WORKLOAD, Bastion, Delivered
from scenarios.loopback import Nodes
from scenarios.stage import Stage, perform, require

NODES = ("n1", "n2", "n3")
RUNTIMES: dict[str, Callable[[str, Path], LabNode]] = {
    "simulated": SimulatedNode,
    "containerd": ContainerdNode,
}
_STEP_S = 60.0


class Demo:
    """The acts of the demo, in the order in which `play` calls them."""

    def __init__(self, stage: Stage, folder: Path, runtime: str) -> None:
        self.stage = stage
        self.runtime = runtime
        self.bastion = Bastion(folder, stage=stage)
        self.nodes = Nodes(self.bastion)

    @property
    def has_kubelet(self) -> bool:
        """Whether a kubelet restarts containers; a bare containerd has no kubelet."""
        return self.runtime == "simulated"

    def prepare(self) -> None:
        """Make keys, trust, nodes and their agents."""
        stage, bastion = self.stage, self.bastion
        stage.act("Before any incident: three people, three nodes, one trust")
        bastion.make_keys()
        people = ", ".join(PEOPLE.split())
        stage.say(f"$ ssh-keygen -t ed25519 ...   (one SSH key each for {people})")
        bastion.init(show=True)
        for name in NODES:
            self.nodes.add(name, RUNTIMES[self.runtime], show=name == NODES[0])
        stage.say(f"  (breakglass-agent runs on {', '.join(NODES)}, runtime: {self.runtime})")

    def break_out(self) -> None:
        """Begin the incident: the DaemonSet's pods run on every node."""
        stage = self.stage
        stage.act("The incident: the telemetry DaemonSet floods the API servers; kubectl times out")
        stage.say(f"$ breakglass pods   (asks {len(NODES)} agents, by IP address)")
        running = self.running()
        require(all(running.values()), f"expected pods of {WORKLOAD} on all nodes, got {running}")
        by_node = ", ".join(f"{count} on {name}" for name, count in running.items())
        stage.say(f"  {sum(running.values())} pods of {WORKLOAD} are running: {by_node}")

    def running(self) -> dict[str, int]:
        """Return how many pods of the workload run on each node, as its agent reports."""
        counts = dict.fromkeys(NODES, 0)
        for row in self.bastion.rows("pods", of="pods"):
            if f"{row['namespace']}/{row['daemonset']}" == WORKLOAD and row["state"] == "running":
                counts[row["node"]] += 1
        return counts

    def approve(self) -> str:
        """Draft a command, show it, and approve it once; return its path."""
        stage, bastion = self.stage, self.bastion
        stage.act("The command: luc requests it; two other people approve it with their SSH keys")
        reason = ("--reason", "telemetry floods the API servers", "--incident", "INC-1211")
        who = ("--requester", "luc", "--grace", "2s")
        file = bastion.draft("stop-telemetry.cmd", "--hold", "2h", *reason, *who, why=(), show=True)
        bastion.breakglass("show", file)
        bastion.add_approval(file, "ana", note="      (ssh-keygen -Y sign)")
        stage.act("One approval is not enough: a node would refuse the command")
        bastion.breakglass("verify", file, expect=(3,))
        return file

    def deliver(self, file: str) -> Delivered:
        """Add the second approval and deliver the command; the pods must be seen down."""
        self.stage.act("The second approval, then delivery to all nodes")
        return self.bastion.approve_and_run(file, "bo")

    def replay(self, file: str) -> None:
        """Deliver the same file again: the nodes report the first outcome and do nothing."""
        self.stage.act("Delivered again: the nodes report the first outcome and do nothing more")
        self.bastion.breakglass("run", file, "--yes")

    def held(self) -> int:
        """Check that kubelet's restarts fail; return how many starts the gate made fail."""
        if self.has_kubelet:
            self.stage.act("kubelet restarts the containers; the gate makes every start fail")
        else:
            self.stage.act("The hold is in force (these nodes run no kubelet that would test it)")
        attempts = 0
        if self.has_kubelet:
            attempts = self.stage.wait_until("a failed start on each node", self.attempts, _STEP_S)
        self.bastion.breakglass("holds")
        running = self.running()
        require(
            not any(running.values()),
            f"expected no running pod of {WORKLOAD}, got {running}",
        )
        return attempts

    def attempts(self) -> int:
        """Return the number of failed starts, or 0 until each node has had one."""
        counts = [int(hold["attempts"]) for hold in self.bastion.rows("holds", of="holds")]
        return sum(counts) if len(counts) == len(NODES) and all(counts) else 0

    def release(self) -> float:
        """Release the hold; return the seconds until kubelet has all pods running again."""
        self.stage.act("The release: it is a command too, and needs two approvals of its own")
        file = self.bastion.draft(
            "release-telemetry.cmd",
            verb="release",
            why=("--reason", "the fixed version is out", "--requester", "luc"),
            show=True,
        )
        self.bastion.add_approval(file, "ana")
        released = self.bastion.approve_and_run(file, "bo").down
        if self.has_kubelet:
            self.stage.wait_until("all pods back", lambda: all(self.running().values()), _STEP_S)
            self.stage.say(f"  all pods of {WORKLOAD} are running again")
        return time.time() - released

    def verify(self) -> int:
        """Verify each node's whole log again; return the number of entries."""
        self.stage.act("The audit logs: the bastion verifies every entry and decision again")
        self.bastion.breakglass("log", "verify")
        rows = self.bastion.rows("log", "verify", of="nodes")
        require(len(rows) == len(NODES), f"expected {len(NODES)} rows, got {len(rows)}")
        return sum(int(row["entries"]) for row in rows)

    def print_logs(self) -> None:
        """Print the end of each agent's log, after a failed demo."""
        for name, agent in self.nodes.agents.items():
            self.stage.say(f"--- {name}: {agent.tail()}")


def play(stage: Stage, runtime: str) -> str:
    """Play the demo; return its figures.

    Raises:
        StoryFailed: a check failed.
        LabUnavailable: this machine cannot run the chosen runtime.
    """
    with tempfile.TemporaryDirectory(prefix="bg-demo-", ignore_cleanup_errors=True) as folder:
        demo = Demo(stage, Path(folder), runtime)
        try:
            demo.prepare()
            demo.break_out()
            file = demo.approve()
            delivered = demo.deliver(file)
            demo.replay(file)
            attempts = demo.held()
            back_s = demo.release()
            entries = demo.verify()
        except BaseException:
            demo.print_logs()
            raise
        finally:
            demo.nodes.close()
    again = ""
    if demo.has_kubelet:
        again = f", {attempts} starts blocked, back {back_s:.1f} s after the release"
    return (
        f"{len(NODES)} nodes ({runtime}),"
        f" second approval to all seen down {delivered.took_s * 1000:.0f} ms"
        f" (run {delivered.run_s * 1000:.0f} ms){again}, {entries} log entries verified"
    )


def main(arguments: Sequence[str]) -> int:
    """Play the demo and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="demo", description="stop, hold and release a DaemonSet on three nodes"
    )
    parser.add_argument("--runtime", choices=tuple(RUNTIMES), default="simulated")
    chosen = parser.parse_args(arguments)
    return perform("demo", lambda stage: play(stage, chosen.runtime))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
