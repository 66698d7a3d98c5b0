# SPDX-License-Identifier: Apache-2.0
"""P1: two hosts with one wire between them, no resolver and no route: the whole path works there.

Both programs run under strace, and whatever they connected or sent to is looked at afterwards: unix
sockets and each other, nothing else.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import netns
from tests.support.sim_process import SimProcess

pytestmark = pytest.mark.real

WORKLOAD = "monitoring/telemetry"
READY_S = 30.0
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
    """Return the node's runtime; a unix socket belongs to no network."""
    made = SimProcess(tmp_path / "cri.sock", daemonset=WORKLOAD, pods=2)
    yield made
    made.close()


def _breakglass(folder: Path, *arguments: str, under: tuple[str, ...] = ()) -> str:
    command = [*under, sys.executable, "-m", "breakglass.cli.main", "--home", str(folder / "home")]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=STEP_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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


def _install(folder: Path, sim: SimProcess) -> Path:
    """Make a home, a command with two approvals, and the node's bundle; return its agent.toml."""
    for person in ("ana", "bo", "luc"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / person)]
        subprocess.run(keygen, check=True, stdin=subprocess.DEVNULL)
    pairs = [f"{one}={folder / one}.pub" for one in ("ana", "bo", "luc")]
    people = [part for pair in pairs for part in ("--person", pair)]
    _breakglass(folder, "init", "--domain", "example", *people)
    _breakglass(folder, "node", "add", "n1", netns.NODE_ADDRESS, "--cluster", "prod-a")
    _breakglass(folder, "node", "bundle", "n1", "--out", str(folder / "n1"))
    file = str(folder / "stop.cmd")
    why = ("--cluster", "prod-a", "--reason", "floods", "--requester", "luc", "-o", file)
    _breakglass(folder, "draft", "stop", WORKLOAD, *why)
    for person in ("ana", "bo"):
        _breakglass(folder, "approve", file, "--key", str(folder / person), "--yes")
    config = folder / "n1" / "agent.toml"
    text = config.read_text()
    for key, value in (("socket", "run/a.sock"), ("directory", "state"), ("endpoint", sim.socket)):
        text = re.sub(rf'(?m)^{key} = ".*"$', f'{key} = "{value}"', text)
    config.write_text(text)
    return config


def test_nothing_but_a_wire_is_needed(wire: netns.Wire, sim: SimProcess, tmp_path: Path) -> None:
    """P1: signed command to stopped pod without DNS, route or API server; nothing else is asked."""
    config = _install(tmp_path, sim)
    agent_trace, cli_trace = tmp_path / "agent.trace", tmp_path / "cli.trace"
    agent = subprocess.Popen(
        wire.node.command(
            *_traced(agent_trace),
            *(sys.executable, "-m", "breakglass.cli.agent", "serve", "--config", str(config)),
        ),
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert agent.stdout is not None
        assert any('"ready"' in line for line in iter(agent.stdout.readline, ""))
        under = tuple(wire.bastion.command(*_traced(cli_trace)))
        shown = _breakglass(tmp_path, "run", str(tmp_path / "stop.cmd"), "--yes", under=under)
    finally:
        # With -D the tracer is nobody's parent: this process is the agent itself.
        agent.terminate()
        agent.wait(timeout=STEP_S)
        if agent.stdout is not None:
            agent.stdout.close()
    assert "done" in shown
    assert sim.running() == 0
    for trace in (agent_trace, cli_trace):
        asked = {(port, ip) for port, ip in _PEERS.findall(trace.read_text())}
        assert {ip.removeprefix("::ffff:") for _, ip in asked} <= {
            netns.NODE_ADDRESS,
            netns.BASTION_ADDRESS,
        }, asked
        assert all(port != "53" for port, _ in asked), asked


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.getaddrinfo('kubernetes.default', 443)",
        "socket.gethostbyname('localhost')",
        "socket.create_connection(('localhost', 1))",
    ],
)
def test_the_guard_makes_any_attempt_to_resolve_an_error(attempt: str) -> None:
    """P1: after the guard, asking for a name raises before anything is asked."""
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
