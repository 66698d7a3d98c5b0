# SPDX-License-Identifier: Apache-2.0
"""Run agents on this machine, each over a runtime of the lab and reached over mTLS on loopback.

An agent runs from the bundle that `breakglass node bundle` wrote.  Only the paths of its socket,
its state, its runtime and the pods' logs are changed, because a real node's paths would be those of
this machine.
"""

import contextlib
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from lab.daemon import Daemon
from lab.nodes import LabNode, SimulatedNode
from scenarios.bastion import Bastion
from scenarios.stage import require

_END_S = 40.0  # on SIGTERM the agent waits up to 20 s for running commands


def start_agent(agent: Daemon) -> None:
    """Start an agent, the first time or again, and wait until it logs "ready".

    Raises:
        NeverReady: it ended, or did not log that in time.
    """
    before = _ready_count(agent)
    agent.start()
    agent.until(lambda: _ready_count(agent) > before)


def point(config: Path, *, state: Path, runtime: Path) -> None:
    """Point the paths of a bundle's `agent.toml` at this machine's folders.

    Args:
        config: the file.
        state: the folder for the agent's state and socket and the pods' logs; made if missing.
        runtime: the runtime's socket.
    """
    state.mkdir(parents=True, exist_ok=True)
    text = config.read_text()
    paths = {"socket": state / "agent.sock", "directory": state, "endpoint": runtime}
    for key, path in paths.items():
        text, count = re.subn(rf'(?m)^{key} = ".*"$', f'{key} = "{path}"', text)
        require(count == 1, f"expected one {key} in {config}, got {count}")
    config.write_text(f'{text}\n[watch]\npod_logs = "{state / "pods"}"\n')


class Nodes:
    """The nodes of a bastion, each with a runtime and an agent, until `close`.

    Attributes:
        agents: the agent of each node by the node's name, those that were stopped too.
        runtimes: the runtime of each node by the node's name.
    """

    def __init__(self, bastion: Bastion) -> None:
        self.bastion = bastion
        self.agents: dict[str, Daemon] = {}
        self.runtimes: dict[str, LabNode] = {}

    def add(
        self,
        name: str,
        make: Callable[[str, Path], LabNode] = SimulatedNode,
        *,
        show: bool = False,
    ) -> None:
        """Start a node's runtime, add the node to the inventory, and start its agent.

        Args:
            name: the node's name.
            make: starts the runtime, given the name and a folder to make.
            show: whether to print the commands on the stage.
        """
        folder = self.bastion.folder
        runtime = make(name, folder / "runtime" / name)
        self.runtimes[name] = runtime
        self.bastion.add_node(name, f"127.0.0.1:{_free_port()}", show=show)
        config = self.config(name)
        self.bastion.write_bundle(name, config.parent, show=show)
        point(config, state=folder / "state" / name, runtime=runtime.socket)
        command = (sys.executable, *runtime.agent, "serve", "--config", str(config))
        self.agents[name] = Daemon(command, log=folder / f"{name}.log")
        self.start(name)

    def config(self, name: str) -> Path:
        """Return the `agent.toml` of a node."""
        return self.bastion.folder / "nodes" / name / "agent.toml"

    def start(self, name: str) -> None:
        """Start a node's agent, and wait until it is ready."""
        start_agent(self.agents[name])

    def stop(self, name: str) -> None:
        """End a node's agent with SIGTERM, as systemd does."""
        self.agents[name].end(signal.SIGTERM, limit_s=_END_S)

    def close(self) -> None:
        """End every agent, then every runtime; each step runs even if one before it failed."""
        with contextlib.ExitStack() as steps:  # runs the last one first
            for runtime in self.runtimes.values():
                steps.callback(runtime.close)
            for name in self.agents:
                steps.callback(self.stop, name)


def _ready_count(agent: Daemon) -> int:
    with contextlib.suppress(FileNotFoundError):
        return agent.log.read_text(errors="replace").count('"ready"')
    return 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
