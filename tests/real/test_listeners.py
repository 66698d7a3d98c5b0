# SPDX-License-Identifier: Apache-2.0
"""The listeners of a real agent: the socket's permissions, the TLS version, a late address."""

import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from breakglass.core.entries import RefusedEntry
from lab import netns
from tests.support.agent_process import AgentProcess, NodeFiles, Tls
from tests.support.organisation import Organisation

CONNECT_S = 60.0
LATE = "192.0.2.7"  # RFC 5737: for documentation


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    """Return an agent without a runtime, which listens anyway."""
    tls = Tls.make()
    people = Organisation(couriers=tls.pins)
    files = NodeFiles(
        folder=tmp_path, organisation=people, tls=tls, runtime=tmp_path / "cri.sock"
    ).write()
    with AgentProcess(files) as made:
        yield made.wait_ready()


def test_only_root_opens_the_socket(agent: AgentProcess) -> None:
    """The socket has mode 0600 in a folder of mode 0700, with any umask."""
    assert agent.files.socket.stat().st_mode & 0o777 == 0o600
    assert agent.files.socket.parent.stat().st_mode & 0o777 == 0o700


def test_an_older_tls_ends_in_the_handshake(agent: AgentProcess, tmp_path: Path) -> None:
    """A courier that offers at most TLS 1.2 gets no connection, and the log has the refusal."""
    courier = agent.files.tls.couriers["bastion"]
    (tmp_path / "c.pem").write_bytes(courier.certificate + courier.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(tmp_path / "c.pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    host, _, port = agent.address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=CONNECT_S) as wire,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(wire)
    agent.wait_for("gRPC wrote to stderr")
    with agent.local() as door:
        codes = [one.body.code for one in door.entries() if isinstance(one.body, RefusedEntry)]
        while not codes:
            entries = door.entries()
            codes = [one.body.code for one in entries if isinstance(one.body, RefusedEntry)]
    assert codes == ["tls-failed"]


@pytest.mark.skipif(bool(netns.why_not()), reason=netns.why_not() or "it can")
def test_an_address_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    """At boot the address may be missing: the agent serves its socket and listens there later."""
    tls = Tls.make()
    people = Organisation(couriers=tls.pins)
    files = NodeFiles(
        folder=tmp_path, organisation=people, tls=tls, runtime=tmp_path / "cri.sock"
    ).write()
    files.config.write_text(files.config.read_text().replace("127.0.0.1:0", f"{LATE}:7443"))
    with netns.held() as holder:
        inside = ("nsenter", f"--net=/proc/{holder}/ns/net", "--")
        with AgentProcess(files, prefix=inside) as agent:
            assert agent.wait_for("waiting for the address")["address"] == f"{LATE}:7443"
            with agent.local() as door:
                assert door.entries()
            subprocess.run([*inside, "ip", "addr", "add", f"{LATE}/32", "dev", "lo"], check=True)
            assert agent.wait_for("listening")["address"] == f"{LATE}:7443"
            knock = f"import socket; socket.create_connection(({LATE!r}, 7443), {CONNECT_S})"
            subprocess.run([*inside, sys.executable, "-c", knock], check=True)
