# SPDX-License-Identifier: Apache-2.0
"""The way out for root: with the log, without it, and not beside an agent that runs."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from breakglass.agent.assembly import Ports
from breakglass.agent.config import Config
from breakglass.agent.release_all import ReleaseAllResult, release_all
from breakglass.core.gates import Layout, Oci
from breakglass.core.hold_entries import GateLifted, HoldEnded
from breakglass.errors import NodeError
from breakglass.sim.kernel import Host
from lab.sim.kernel import SimulatedKernel
from tests.support.held_node import HeldNode

HOSTS = {
    "v2-systemd-crun": Host(systemd=True, oci=Oci.CRUN),
    "hybrid-runc": Host(layout=Layout.HYBRID),
    "v1-systemd-runc": Host(layout=Layout.LEGACY, systemd=True),
}
every_host = pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)


def settings(node: HeldNode, folder: Path) -> Config:
    """Return the node's settings, with files that can be read."""
    (folder / "trust.json").write_bytes(node.organisation.trust_text)
    (folder / "log.key").write_text("00" * 32)
    tls = folder / "tls"
    tls.touch()
    return replace(
        node._config(),
        trust_file=folder / "trust.json",
        log_key=folder / "log.key",
        tls_key=tls,
        tls_certificate=tls,
        tls_ca=tls,
    )


def let_go(node: HeldNode, folder: Path) -> ReleaseAllResult:
    """Do what root does, as a process of its own would: in another loop."""
    ports = Ports(
        runtime=lambda _: node.runtime,
        kernel=lambda _: SimulatedKernel(node.kernel, node.kernel.host).ports(),
        clock=lambda: node.agent_clock,
        pod_events=lambda *_: node.pod_events,
    )
    return in_a_thread(lambda: release_all(settings(node, folder), ports))


def in_a_thread(act: Callable[[], ReleaseAllResult]) -> ReleaseAllResult:
    """Return what a call returns that has a loop of its own, or raise what it raises."""
    found: list[ReleaseAllResult | Exception] = []

    def run() -> None:
        try:
            found.append(act())
        except Exception as error:  # noqa: BLE001 - raised again below
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    (one,) = found
    if isinstance(one, Exception):
        raise one
    return one


@every_host
async def test_every_hold_ends_and_every_limit_is_back(tmp_path: Path, host: Host) -> None:
    """With the agent gone: on record as root's, old values and all, and nothing comes back."""
    async with HeldNode(tmp_path, host, pods=2, tasks=1024) as node:
        before = [node.limits(pod) for pod in node.pods]
        await node.submit(hold_s=7200)
        await node.submit(hold_s=3600)
        await node.expect_held(60)
        await node.kill_agent()

        done = let_go(node, tmp_path)

        assert done.holds == ("monitoring/telemetry",) * 2
        assert len(done.pods) == len(node.pods)
        assert (done.unrecorded, done.failed, done.log_error) == ((), (), "")
        assert [node.limits(pod) for pod in node.pods] == before
        await node.start_agent()
        assert [(one.why, one.by) for one in node.bodies(HoldEnded)] == [("let-go", "root")] * 2
        assert len(node.bodies(GateLifted)) == len(node.pods)
        assert not node.state.gates
        await node.expect_back()


async def test_nothing_is_let_go_under_an_agent_that_runs(tmp_path: Path) -> None:
    """It would set all of it again; root is told to stop it first."""
    async with HeldNode(tmp_path) as node:
        await node.submit()
        with pytest.raises(NodeError) as caught:
            let_go(node, tmp_path)
        assert caught.value.stable_code == "log-locked"
        assert "systemctl stop breakglass-agent" in caught.value.hint
        await node.expect_held(60)


async def test_files_that_cannot_be_read_are_no_way_around_an_agent_that_runs(
    tmp_path: Path,
) -> None:
    """It has them in memory: opening its gates would start what it keeps down."""
    async with HeldNode(tmp_path) as node:
        await node.submit()
        held = node.limits()
        config = replace(settings(node, tmp_path), tls_key=tmp_path / "gone")
        ports = Ports(kernel=lambda _: SimulatedKernel(node.kernel, node.kernel.host).ports())
        with pytest.raises(NodeError) as caught:
            in_a_thread(lambda: release_all(config, ports))
        assert (caught.value.stable_code, node.limits()) == ("log-locked", held)
        await node.kill_agent()
        done = in_a_thread(lambda: release_all(config, ports))
        assert (len(done.unrecorded), node.limits()) == (1, ("max", "max", "infinity"))


@every_host
async def test_a_damaged_log_lets_nobody_down_forever(tmp_path: Path, host: Host) -> None:
    """What reads as a gate of ours is opened by looking, and that the log was not used is said."""
    async with HeldNode(tmp_path, host) as node:
        before = [node.limits(pod) for pod in node.pods]
        await node.submit(hold_s=7200)
        await node.kill_agent()
        segment = min((tmp_path / "log").glob("*.segment"))
        raw = bytearray(segment.read_bytes())
        raw[200] ^= 1
        segment.write_bytes(raw)

        done = let_go(node, tmp_path)

        assert done.log_error
        assert not done.holds
        assert len(done.unrecorded) == 1
        assert not done.failed
        assert [node.limits(pod) for pod in node.pods] == before


async def test_where_nothing_is_held_nothing_is_done(tmp_path: Path) -> None:
    """Running it twice, or for nothing, is no failure."""
    async with HeldNode(tmp_path) as node:
        await node.kill_agent()
        assert let_go(node, tmp_path) == ReleaseAllResult()
