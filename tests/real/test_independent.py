# SPDX-License-Identifier: Apache-2.0
"""P1: the whole path works between two hosts that have no resolver and no route elsewhere.

Both programs run under strace.  The traces must show that they connected and sent only to unix
sockets and to each other.
"""

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import netns
from lab.daemon import Daemon
from scenarios.bastion import AGENT, WORKLOAD, Bastion, as_process
from scenarios.loopback import point, start_agent
from tests.support.sim_process import SimProcess

pytestmark = pytest.mark.real

STEP_S = 60.0
_PEERS = re.compile(
    r"sin6?_port=htons\((\d+)\).*?(?:inet_addr\(\"|inet_pton\(AF_INET6, \")([^\"]+)"
)


def _why_not() -> str:
    missing = [one for one in ("strace", "ssh-keygen") if shutil.which(one) is None]
    return netns.why_not() or (f"not installed: {', '.join(missing)}" if missing else "")


@pytest.fixture
def wire() -> Iterator[netns.Wire]:
    """Return a bastion and a node."""
    reason = _why_not()
    if reason:
        pytest.skip(reason)
    with netns.Wire() as made:
        yield made


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[SimProcess]:
    """Return the node's runtime, which the agent reaches by a unix socket from any namespace."""
    made = SimProcess(tmp_path / "cri.sock", daemonset=WORKLOAD, pods=2)
    yield made
    made.close()


def _traced(trace: Path) -> tuple[str, ...]:
    return (
        "strace",
        "-D",
        "-f",
        "-qq",
        "-e",
        "trace=connect,sendto,sendmsg,sendmmsg",
        "-o",
        str(trace),
    )


def _install(bastion: Bastion, sim: SimProcess) -> Path:
    """Make a home and the node's bundle; return its agent.toml."""
    bastion.make_keys()
    bastion.init()
    bastion.add_node("n1", netns.NODE_ADDRESS)
    bundle = bastion.folder / "n1"
    bastion.write_bundle("n1", bundle)
    config = bundle / "agent.toml"
    point(config, state=bundle / "state", runtime=sim.socket)
    return config


def test_nothing_but_a_wire_is_needed(wire: netns.Wire, sim: SimProcess, tmp_path: Path) -> None:
    """P1: from signed command to stopped pod without DNS, route or API server."""
    bastion = Bastion(tmp_path)
    config, command = _install(bastion, sim), bastion.signed("stop.cmd")
    agent_trace, cli_trace = tmp_path / "agent.trace", tmp_path / "cli.trace"
    # With -D the tracer is a detached grandchild: the process is the agent itself.
    serve = (*_traced(agent_trace), *AGENT, "serve", "--config", str(config))
    agent = Daemon(wire.node.command(*serve), log=tmp_path / "agent.log")
    try:
        start_agent(agent)
        traced = as_process(prefix=wire.bastion.command(*_traced(cli_trace)))
        shown = Bastion(tmp_path, program=traced).breakglass("run", command, "--yes")
    finally:
        agent.end(signal.SIGTERM, limit_s=STEP_S)
    assert "done" in shown
    assert sim.running() == 0
    for trace in (agent_trace, cli_trace):
        peers = {(port, ip) for port, ip in _PEERS.findall(trace.read_text())}
        assert {ip.removeprefix("::ffff:") for _, ip in peers} <= {
            netns.NODE_ADDRESS,
            netns.BASTION_ADDRESS,
        }, peers
        assert all(port != "53" for port, _ in peers), peers


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.getaddrinfo('kubernetes.default', 443)",
        "socket.gethostbyname('localhost')",
        "socket.create_connection(('localhost', 1))",
    ],
)
def test_the_guard_makes_any_attempt_to_resolve_an_error(attempt: str) -> None:
    """P1: with the guard, resolving a name raises before a query is sent."""
    program = (
        "import socket\n"
        "from breakglass.agent.daemon import forbid_name_resolution\n"
        "forbid_name_resolution()\n"
        f"{attempt}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "expected no name to be resolved" in done.stderr
