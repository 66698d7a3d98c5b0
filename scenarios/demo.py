# SPDX-License-Identifier: Apache-2.0
"""The main job from end to end, as a stranger would do it: `make demo [RUNTIME=containerd]`.

Everything is the real thing but the nodes' runtimes, and those too with RUNTIME=containerd: the
two programs run as processes with their own command lines, people sign with `ssh-keygen`, the
commands travel over mTLS to 127.0.0.1.  Each act checks what it says; the first thing that is not
so ends the demo with status 1.  The last line sums up in figures.
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
    """The acts, in the order in which `play` plays them."""

    def __init__(self, stage: Stage, folder: Path, runtime: str) -> None:
        self.stage = stage
        self.runtime = runtime
        self.bastion = Bastion(folder, stage=stage)
        self.nodes = Nodes(self.bastion)

    @property
    def has_kubelet(self) -> bool:
        """Whether something starts containers again; a bare containerd has no kubelet."""
        return self.runtime == "simulated"

    def prepare(self) -> None:
        """Peacetime: keys, trust, nodes and their agents."""
        stage, bastion = self.stage, self.bastion
        stage.act("Peacetime: three people, three nodes, one trust")
        bastion.make_keys()
        people = ", ".join(PEOPLE.split())
        stage.say(f"$ ssh-keygen -t ed25519 ...   (one key each for {people})")
        bastion.init(show=True)
        for name in NODES:
            self.nodes.add(name, RUNTIMES[self.runtime], show=name == NODES[0])
        stage.say(f"  ({', '.join(NODES)} run breakglass-agent over {self.runtime} runtimes)")

    def break_out(self) -> None:
        """The incident: a DaemonSet floods; kubelet undoes every plain stop."""
        stage = self.stage
        stage.act(
            "The night: a telemetry DaemonSet floods the API servers; kubectl does not answer"
        )
        stage.say(f"$ breakglass pods   ({len(NODES)} nodes asked by IP)")
        running = self.running()
        require(all(running.values()), f"expected pods of {WORKLOAD} everywhere, got {running}")
        stage.say(f"  {sum(running.values())} pods of {WORKLOAD} run, {running}")

    def running(self) -> dict[str, int]:
        """Return how many pods of the workload run on each node, as its agent sees them."""
        counts = dict.fromkeys(NODES, 0)
        for row in self.bastion.rows("pods", of="pods"):
            if f"{row['namespace']}/{row['daemonset']}" == WORKLOAD and row["state"] == "running":
                counts[row["node"]] += 1
        return counts

    def approve(self) -> str:
        """Draft, read, approve once; return the command's path."""
        stage, bastion = self.stage, self.bastion
        stage.act(
            "The command: drafted by one, approved by two others, each with their own SSH key"
        )
        reason = ("--reason", "telemetry floods the API servers", "--incident", "INC-1211")
        who = ("--requester", "luc", "--grace", "2s")
        file = bastion.draft("stop-telemetry.cmd", "--hold", "2h", *reason, *who, why=(), show=True)
        bastion.breakglass("show", file)
        bastion.add_approval(file, "ana", note="      (ssh-keygen -Y sign)")
        stage.act("One approval is not enough")
        bastion.breakglass("verify", file, expect=(3,))
        return file

    def deliver(self, file: str) -> Delivered:
        """Second approval, delivery, pods seen down."""
        self.stage.act("The second approval, and delivery")
        return self.bastion.approve_and_run(file, "bo")

    def replay(self, file: str) -> None:
        """The same file once more: answered, not acted on."""
        self.stage.act("Delivered again, it answers the first outcome and acts no second time")
        self.bastion.breakglass("run", file, "--yes")

    def held(self) -> int:
        """What kubelet does next: it tries to start the containers again, and cannot."""
        self.stage.act("kubelet starts its containers again, and the gate makes every start fail")
        attempts = 0
        if self.has_kubelet:
            attempts = self.stage.wait_until("a start that fails", self.attempts, _STEP_S)
        self.bastion.breakglass("holds")
        running = self.running()
        require(
            not any(running.values()),
            f"expected every pod of {WORKLOAD} to stay down, got {running}",
        )
        return attempts

    def attempts(self) -> int:
        """Return how many starts have failed, once each node has seen one; before that 0."""
        counts = [int(hold["attempts"]) for hold in self.bastion.rows("holds", of="holds")]
        return sum(counts) if len(counts) == len(NODES) and all(counts) else 0

    def release(self) -> float:
        """Let go by another quorum; return how long kubelet takes to have all pods back."""
        self.stage.act("It is over: the release is a command too, and needs its own approvals")
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
            self.stage.say("  all pods run again")
        return time.time() - released

    def verify(self) -> int:
        """Re-verify each node's whole log; return how many entries that were."""
        self.stage.act(
            "The evidence: every node's log, its tree, and every decision in it, verified again"
        )
        self.bastion.breakglass("log", "verify")
        rows = self.bastion.rows("log", "verify", of="nodes")
        require(len(rows) == len(NODES), "expected a row for every node")
        return sum(int(row["entries"]) for row in rows)

    def tell_logs(self) -> None:
        """Print the ends of what the agents said; for a demo that went wrong."""
        for name, agent in self.nodes.agents.items():
            self.stage.say(f"--- {name}: {agent.tail()}")


def play(stage: Stage, runtime: str) -> str:
    """Play the demo; return its figures.

    Raises:
        StoryFailed: something was not as it should be.
        LabUnavailable: such a runtime cannot run here.
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
            demo.tell_logs()
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
    """Play, and return the exit status."""
    parser = argparse.ArgumentParser(prog="demo", description="the main job from end to end")
    parser.add_argument("--runtime", choices=tuple(RUNTIMES), default="simulated")
    chosen = parser.parse_args(arguments)
    return perform("demo", lambda stage: play(stage, chosen.runtime))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
