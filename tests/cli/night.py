# SPDX-License-Identifier: Apache-2.0
"""A night at the bastion: nodes that really answer, each an agent over a simulated runtime.

The agents are processes reached over mTLS on loopback.
"""

import contextlib
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

from lab.nodes import SimulatedNode
from tests.cli.conftest import Bastion

READY_S = 20.0


class Night:
    """A bastion with three people, and nodes that really answer."""

    def __init__(self, bastion: Bastion) -> None:
        self.bastion = bastion
        self.scope = contextlib.ExitStack()
        self.agents: dict[str, subprocess.Popen[str]] = {}
        self.programs: dict[str, tuple[str, ...]] = {}

    def add(self, name: str) -> None:
        """Add a node and start its runtime and its agent from its bundle."""
        port = free_port()
        self.bastion.add_node(name, f"127.0.0.1:{port}")
        folder = Path(self.bastion.path(name))
        assert self.bastion.run("node", "bundle", name, "--out", str(folder)).exit == 0
        runtime = SimulatedNode(name, folder / "runtime")
        self.scope.callback(runtime.close)
        config = folder / "agent.toml"
        text = config.read_text()
        for key, value in (
            ("socket", folder / "agent.sock"),
            ("directory", folder / "state"),
            ("endpoint", runtime.socket),
        ):
            text = re.sub(rf'(?m)^{key} = ".*"$', f'{key} = "{value}"', text)
        config.write_text(f'{text}\n[watch]\npod_logs = "{folder / "pods"}"\n')
        self.programs[name] = runtime.agent
        self.start(name)

    def start(self, name: str) -> None:
        """Start an agent and wait until it is ready."""
        config = self.bastion.folder / name / "agent.toml"
        agent = subprocess.Popen(
            [sys.executable, *self.programs[name], "serve", "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert agent.stdout is not None
        watchdog = threading.Timer(READY_S, agent.kill)
        watchdog.start()
        said = ""
        for line in agent.stdout:
            said += line
            if '"ready"' in line:
                break
        watchdog.cancel()
        assert agent.poll() is None, said
        threading.Thread(target=_drain, args=(agent.stdout,), daemon=True).start()
        self.agents[name] = agent

    def stop(self, name: str) -> None:
        """End an agent."""
        agent = self.agents.pop(name)
        agent.terminate()
        agent.wait(timeout=READY_S + 20)

    def close(self) -> None:
        """End everything."""
        for name in list(self.agents):
            self.stop(name)
        self.scope.close()

    def approved(self, *extra: str) -> str:
        """Return a file that two people approved."""
        file = self.bastion.draft("cmd", "--grace", "1s", *extra)
        for person in ("ana", "bo"):
            assert self.bastion.approve(file, person).exit == 0
        return file


def _drain(stream: IO[str]) -> None:
    """Read an agent's log lines to their end, so that it never waits for a reader."""
    with stream:
        for _ in stream:
            pass


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
