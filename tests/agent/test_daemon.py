# SPDX-License-Identifier: Apache-2.0
"""The agent as a process: how it ends when it cannot serve."""

import socket
from pathlib import Path

from breakglass.errors import Exit
from tests.support.agent_process import AgentProcess, NodeFiles, Tls
from tests.support.organisation import Organisation


def test_an_address_that_is_taken_is_told_and_is_no_defect(tmp_path: Path) -> None:
    """Another process has the port: exit 2 with the address, never 70."""
    tls = Tls.make()
    people = Organisation(couriers=tls.pins)
    files = NodeFiles(
        folder=tmp_path, organisation=people, tls=tls, runtime=tmp_path / "cri.sock"
    ).write()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        files.config.write_text(files.config.read_text().replace("127.0.0.1:0", address))
        with AgentProcess(files) as agent:
            assert address in agent.stderr()
            assert agent.wait() == Exit.INPUT
