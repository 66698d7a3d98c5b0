# SPDX-License-Identifier: Apache-2.0
"""Holds over hours of virtual time: what keeps pods down, and what may not let them up."""

from pathlib import Path

import pytest

from breakglass.core.gates import Layout, Oci
from breakglass.sim.kernel import Host
from tests.support.held_node import HeldNode

HOSTS = {
    "v2-runc": Host(),
    "v2-systemd-runc": Host(systemd=True),
    "v2-systemd-crun": Host(systemd=True, oci=Oci.CRUN),
    "hybrid-runc": Host(layout=Layout.HYBRID),
    "hybrid-crun": Host(layout=Layout.HYBRID, oci=Oci.CRUN),
    "hybrid-systemd-crun": Host(layout=Layout.HYBRID, systemd=True, oci=Oci.CRUN),
    "v1-runc": Host(layout=Layout.LEGACY),
    "v1-systemd-runc": Host(layout=Layout.LEGACY, systemd=True),
}
every_host = pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)


@every_host
async def test_a_held_pod_stays_down_and_comes_back_as_it_was(tmp_path: Path, host: Host) -> None:
    """Ten minutes of kubelet's tries run no line of user code; the release restores every limit."""
    async with HeldNode(tmp_path, host, pods=2, tasks=1024) as node:
        before = [node.limits(pod) for pod in node.pods]
        ended = await node.submit(hold_s=1200)
        assert (ended.result, ended.down, ended.held) == ("done", 2, 2)
        await node.expect_held(600)
        released = await node.submit(verb="release")
        assert released.result == "released"
        assert [node.limits(pod) for pod in node.pods] == before
        await node.expect_back()
        assert not node.state.gates
