# SPDX-License-Identifier: Apache-2.0
"""The main job from end to end, as a stranger would do it: `make demo [RUNTIME=containerd]`.

Everything is the real thing but the nodes' runtimes, and those too with RUNTIME=containerd: the
two programs run as processes with their own command lines, people sign with `ssh-keygen`, the
commands travel over mTLS to 127.0.0.1.  Each act checks what it says; the first thing that is not
so ends the demo with status 1.  The last line sums up in figures.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lab.nodes import DemoNode, SimulatedNode

NODES = ("n1", "n2", "n3")
CLUSTER = "prod-a"
WORKLOAD = "monitoring/telemetry"
PEOPLE = ("ana", "bo", "luc")
READY_S = 30.0
STEP_S = 60.0


class DemoFailed(Exception):
    """Something in the demo was not as it says."""


class Demo:
    """The stage: a folder, three nodes, three people, and a bastion's home."""

    def __init__(self, folder: Path, runtime: str) -> None:
        self.folder = folder
        self.runtime = runtime
        self.home = folder / "home"
        self.agents: list[subprocess.Popen[bytes]] = []
        self.nodes: list[DemoNode] = []

    # --- telling ---------------------------------------------------------------------------

    @staticmethod
    def say(text: str = "") -> None:
        """Print a line of the story."""
        print(text, flush=True)

    def act(self, title: str) -> None:
        """Begin an act."""
        self.say(f"\n== {title}")

    # --- the two programs ------------------------------------------------------------------

    def breakglass(self, *arguments: str, expect: int = 0, show: bool = True) -> str:
        """Run the CLI as a person would; return its stdout."""
        if show:
            self.say(f"$ breakglass {' '.join(_short(one, self.folder) for one in arguments)}")
        command = [
            sys.executable,
            "-m",
            "breakglass.cli.main",
            "--home",
            str(self.home),
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=STEP_S, check=False)
        if show:
            for line in (done.stdout + done.stderr).splitlines():
                self.say(f"  {_short(line, self.folder)}")
        if done.returncode != expect:
            raise DemoFailed(
                f"expected exit {expect} of {arguments[0]}, got {done.returncode}:"
                f" {done.stdout}{done.stderr}"
            )
        return done.stdout

    def as_json(self, *arguments: str, expect: int = 0) -> dict[str, object]:
        """Run the CLI for a program's eyes; return its one JSON document."""
        found: dict[str, object] = json.loads(
            self.breakglass("--output", "json", *arguments, expect=expect, show=False)
        )
        return found

    def start_agent(self, node: DemoNode) -> None:
        """Start `breakglass-agent serve` on the bundle of one node and wait until it is ready."""
        config = self.folder / "nodes" / node.name / "agent.toml"
        log = (self.folder / f"{node.name}.log").open("wb")
        command = [sys.executable, *node.agent, "serve", "--config", str(config)]
        agent = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
        log.close()
        self.agents.append(agent)
        _until(
            lambda: b'"ready"' in (self.folder / f"{node.name}.log").read_bytes(),
            f"agent of {node.name}",
            agent,
        )

    # --- the acts --------------------------------------------------------------------------

    def prepare(self) -> None:
        """Peacetime: keys, trust, nodes and their agents."""
        self.act("Peacetime: three people, three nodes, one trust")
        keys = self.folder / "keys"
        keys.mkdir(mode=0o700)
        for person in PEOPLE:
            _ssh_keygen("-t", "ed25519", "-N", "", "-C", person, "-f", str(keys / person))
        self.say(f"$ ssh-keygen -t ed25519 ...   (one key each for {', '.join(PEOPLE)})")
        people = [part for name in PEOPLE for part in ("--person", f"{name}={keys / name}.pub")]
        self.breakglass("init", "--domain", "example", *people)
        for name in NODES:
            node = self.make_node(name)
            port = _free_port()
            self.breakglass(
                "node",
                "add",
                name,
                f"127.0.0.1:{port}",
                "--cluster",
                CLUSTER,
                show=name == NODES[0],
            )
            out = self.folder / "nodes" / name
            self.breakglass("node", "bundle", name, "--out", str(out), show=name == NODES[0])
            _move_in(out / "agent.toml", node, self.folder / "state" / name)
            self.nodes.append(node)
            self.start_agent(node)
        self.say(f"  ({', '.join(NODES)} run breakglass-agent over {self.runtime} runtimes)")

    def make_node(self, name: str) -> DemoNode:
        """Return a node with its runtime running."""
        if self.runtime == "containerd":
            from lab.nodes import ContainerdNode  # noqa: PLC0415 - needs root and containerd

            return ContainerdNode(name, self.folder / "runtime" / name)
        return SimulatedNode(name, self.folder / "runtime" / name)

    def break_out(self) -> None:
        """The incident: a DaemonSet floods; kubelet undoes every plain stop."""
        self.act("The night: a telemetry DaemonSet floods the API servers; kubectl does not answer")
        self.say(f"$ breakglass pods   ({len(NODES)} nodes asked by IP)")
        running = self.running()
        if any(count == 0 for count in running.values()):
            raise DemoFailed(f"expected pods of {WORKLOAD} everywhere, got {running}")
        self.say(f"  {sum(running.values())} pods of {WORKLOAD} run, {running}")

    def running(self) -> dict[str, int]:
        """Return how many pods of the workload run on each node, as its agent sees them."""
        found = self.as_json("pods")
        rows = found["pods"]
        if not isinstance(rows, list):
            raise DemoFailed("expected a list of pods")
        counts = dict.fromkeys(NODES, 0)
        for row in rows:
            if f"{row['namespace']}/{row['daemonset']}" == WORKLOAD and row["state"] == "running":
                counts[row["node"]] += 1
        return counts

    def approve(self) -> Path:
        """Draft, read, approve twice."""
        self.act("The command: drafted by one, approved by two others, each with their own SSH key")
        file = self.folder / "stop-telemetry.cmd"
        why = ("--reason", "telemetry floods the API servers", "--incident", "INC-1211")
        who = ("--requester", "luc", "--grace", "2s")
        what = (WORKLOAD, "--cluster", CLUSTER, "--hold", "2h")
        self.breakglass("draft", "stop", *what, *why, *who, "-o", str(file))
        self.breakglass("show", str(file))
        self.breakglass(
            "approve", str(file), "--key", str(self.folder / "keys" / "ana"), "--yes", show=False
        )
        self.say("$ breakglass approve stop-telemetry.cmd --key ana      (ssh-keygen -Y sign)")
        self.act("One approval is not enough")
        self.breakglass("verify", str(file), expect=3)
        return file

    def deliver(self, file: Path) -> tuple[float, float]:
        """Second approval, delivery, pods seen down; return the two times in seconds."""
        self.act("The second approval, and delivery")
        began = time.monotonic()
        self.breakglass(
            "approve", str(file), "--key", str(self.folder / "keys" / "bo"), "--yes", show=False
        )
        self.say("$ breakglass approve stop-telemetry.cmd --key bo")
        sent = time.monotonic()
        self.breakglass("run", str(file), "--yes")
        down = time.monotonic()
        return down - began, down - sent

    def replay(self, file: Path) -> None:
        """The same file once more: answered, not acted on."""
        self.act("Delivered again, it answers the first outcome and acts no second time")
        self.breakglass("run", str(file), "--yes")

    def held(self) -> int:
        """What kubelet does next: it tries to start the containers again, and cannot."""
        self.act("kubelet starts its containers again, and the gate makes every start fail")
        attempts = 0
        if self.runtime == "simulated":  # a bare containerd has no kubelet
            attempts = self.until("a start that fails", self.attempts)
        self.breakglass("holds")
        running = self.running()
        if any(running.values()):
            raise DemoFailed(f"expected every pod of {WORKLOAD} to stay down, got {running}")
        return attempts

    def attempts(self) -> int:
        """Return how many starts have failed, once each node has seen one; before that 0."""
        holds = self.as_json("holds")["holds"]
        counts = [int(hold["attempts"]) for hold in holds] if isinstance(holds, list) else []
        return sum(counts) if len(counts) == len(NODES) and all(counts) else 0

    def release(self) -> float:
        """Let go by another quorum; return how long kubelet takes to have all pods back."""
        self.act("It is over: the release is a command too, and needs its own approvals")
        file = self.folder / "release-telemetry.cmd"
        what = (WORKLOAD, "--cluster", CLUSTER, "--reason", "the fixed version is out")
        self.breakglass("draft", "release", *what, "--requester", "luc", "-o", str(file))
        for person in ("ana", "bo"):
            key = str(self.folder / "keys" / person)
            self.breakglass("approve", str(file), "--key", key, "--yes", show=False)
            self.say(f"$ breakglass approve {file.name} --key {person}")
        self.breakglass("run", str(file), "--yes")
        released = time.monotonic()
        if self.runtime == "simulated":
            self.until("all pods back", lambda: all(count > 0 for count in self.running().values()))
            self.say("  all pods run again")
        return time.monotonic() - released

    def until(self, what: str, is_so: Callable[[], int]) -> int:
        """Ask again until it is so; return the answer."""
        began = time.monotonic()
        while time.monotonic() - began < STEP_S:
            found = is_so()
            if found:
                return found
            time.sleep(0.2)
        raise DemoFailed(f"expected {what} within {STEP_S:g} s, got none")

    def verify(self) -> int:
        """Re-verify each node's whole log; return how many entries that were."""
        self.act(
            "The evidence: every node's log, its tree, and every decision in it, verified again"
        )
        self.breakglass("log", "verify")
        found = self.as_json("log", "verify")
        rows = found["nodes"]
        if not isinstance(rows, list) or len(rows) != len(NODES):
            raise DemoFailed("expected a row for every node")
        return sum(int(row["entries"]) for row in rows)

    def close(self) -> None:
        """End what was started."""
        for agent in self.agents:
            if agent.poll() is None:
                agent.terminate()
        for agent in self.agents:
            with contextlib.suppress(subprocess.TimeoutExpired):
                agent.wait(timeout=READY_S)
            if agent.poll() is None:
                agent.kill()
                agent.wait()
        for node in self.nodes:
            node.close()


def play(runtime: str) -> None:
    """Play the demo; raise `DemoFailed` at the first thing that is not so."""
    began = time.monotonic()
    with _folder() as folder:
        demo = Demo(folder, runtime)
        try:
            demo.prepare()
            demo.break_out()
            file = demo.approve()
            whole_s, run_s = demo.deliver(file)
            demo.replay(file)
            attempts = demo.held()
            back_s = demo.release()
            entries = demo.verify()
        except BaseException:
            for node in NODES:
                log = folder / f"{node}.log"
                if log.exists():
                    demo.say(f"--- {node}: {log.read_text()[-2000:]}")
            raise
        finally:
            demo.close()
    again = ""
    if runtime == "simulated":
        again = f", {attempts} starts blocked, back {back_s:.1f} s after the release"
    demo.say(
        f"\ndemo ok: {len(NODES)} nodes ({runtime}),"
        f" second approval to all seen down {whole_s * 1000:.0f} ms"
        f" (run {run_s * 1000:.0f} ms){again}, {entries} log entries verified,"
        f" {time.monotonic() - began:.1f} s in all"
    )


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bg-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move_in(config: Path, node: DemoNode, state: Path) -> None:
    """Point a bundle's paths, which are those of a real node, at the demo's folder."""
    state.mkdir(parents=True)
    text = config.read_text()
    for key, value in (
        ("socket", state / "agent.sock"),
        ("directory", state),
        ("endpoint", node.socket),
    ):
        text, count = re.subn(rf'(?m)^{key} = ".*"$', f'{key} = "{value}"', text)
        if count != 1:
            raise DemoFailed(f"expected one {key} in {config}, got {count}")
    config.write_text(text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _ssh_keygen(*arguments: str) -> None:
    if shutil.which("ssh-keygen") is None:
        raise DemoFailed("expected ssh-keygen, got none: install the OpenSSH client")
    subprocess.run(["ssh-keygen", "-q", *arguments], check=True, stdin=subprocess.DEVNULL)


def _short(text: str, folder: Path) -> str:
    return text.replace(f"{folder}/", "")


def _until(is_so: Callable[[], bool], what: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_S
    while not is_so():
        if process.poll() is not None or time.monotonic() > deadline:
            raise DemoFailed(f"expected the {what} to be ready, got none")
        time.sleep(0.02)


def main(arguments: Sequence[str]) -> int:
    """Play, and return the exit status."""
    parser = argparse.ArgumentParser(prog="demo", description="the main job from end to end")
    parser.add_argument("--runtime", choices=("simulated", "containerd"), default="simulated")
    chosen = parser.parse_args(arguments)
    os.environ.setdefault("NO_COLOR", "1")
    try:
        play(chosen.runtime)
    except (DemoFailed, subprocess.SubprocessError, OSError) as error:
        print(f"demo failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
