# SPDX-License-Identifier: Apache-2.0
"""Releases and extensions over a whole agent in virtual time: which holds they mean, and once."""

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from breakglass.core.entries import Accepted, Finished
from breakglass.core.gates import Oci
from breakglass.core.hold_entries import GateLifted, HoldEnded, HoldExtended
from breakglass.errors import StateUnwritable
from breakglass.sim.kernel import Host, KernelFault
from tests.support.held_node import TELEMETRY, HeldNode, revised

BAD, GOOD = "fc555b4c5", "6b9b78"


def left_s(node: HeldNode) -> list[int]:
    """Return what is left of each hold, in seconds."""
    now_ms = node.agent_clock.monotonic_ms()
    return [round(hold.left_ms(now_ms) / 1_000) for hold in node.state.active_holds]


async def dies_after(node: HeldNode, raw: bytes, kind: type[Any]) -> None:
    """Deliver a file, and kill the agent as soon as an entry of this kind is on record."""
    assert node.agent is not None
    count = len(node.bodies(kind))
    delivering = asyncio.create_task(_deliver(node, raw))
    for _ in range(10_000):
        await asyncio.sleep(0)
        if len(node.bodies(kind)) > count:
            break
    await asyncio.sleep(0)  # what it has begun with is begun
    assert node.state.commands[node.bodies(Accepted)[-1].id].finished_at is None
    await node.kill_agent()
    delivering.cancel()


async def _deliver(node: HeldNode, raw: bytes) -> None:
    assert node.agent is not None
    async for _ in node.agent.parts.procedure.deliver(raw, peer="test"):
        pass


# Which holds are meant


@pytest.mark.parametrize("verb", ["release", "extend"])
async def test_where_nothing_is_held_there_is_nothing_to_do(tmp_path: Path, verb: str) -> None:
    """With a code that scripts can tell from a release that was done."""
    async with HeldNode(tmp_path) as node:
        ended = await node.submit(verb=verb)
        assert (ended.result, ended.code) == ("nothing", "no-hold")
        assert ended.note == "this node has no active hold of monitoring/telemetry that it selects"


@pytest.mark.parametrize(
    "meaning",
    [
        {"workload": "monitoring/other"},
        {"workload": "default/telemetry"},
        {"revision": GOOD},
        {"holds_of": "019aa3c1-7a5e-7cc2-b8f1-0a1b2c3d4e5f"},
    ],
    ids=["another name", "another namespace", "another revision", "another command"],
)
@pytest.mark.parametrize("verb", ["release", "extend"])
async def test_another_hold_is_not_meant(
    tmp_path: Path, verb: str, meaning: dict[str, str]
) -> None:
    """What is held stays held, and as long as it was."""
    async with HeldNode(tmp_path) as node:
        await node.submit(revision=BAD)
        before = left_s(node)
        ended = await node.submit(verb=verb, **meaning)
        assert (ended.result, ended.code) == ("nothing", "no-hold")
        assert left_s(node) == before
        assert (node.bodies(HoldEnded), node.bodies(HoldExtended)) == ([], [])


async def test_a_release_of_one_revision_leaves_the_hold_on_another(tmp_path: Path) -> None:
    """Two holds of a workload are two leases."""
    async with HeldNode(tmp_path, pods=2) as node:
        other = await node.replace(node.pods[1], revised(TELEMETRY, GOOD))
        await node.advance(10)
        await node.submit(revision=BAD)
        await node.submit(revision=GOOD)
        ended = await node.submit(verb="release", revision=GOOD)
        assert (ended.result, ended.pods) == ("released", 1)
        assert f"monitoring/telemetry@{GOOD}" in ended.note
        assert [hold.workload.revision for hold in node.state.active_holds] == [BAD]
        assert set(node.state.gates) == {node.pods[0].uid}
        assert node.limits(other) == ("max", "max", "infinity")


async def test_a_release_without_a_revision_means_them_all(tmp_path: Path) -> None:
    """And names each."""
    async with HeldNode(tmp_path) as node:
        await node.submit(revision=BAD)
        await node.submit(revision=GOOD)
        ended = await node.submit(verb="release")
        assert ended.result == "released"
        assert all(f"@{one}" in ended.note for one in (BAD, GOOD))
        assert node.state.active_holds == ()


# Bounds, and what would be


async def test_a_release_is_bounded_as_a_stop_is(tmp_path: Path) -> None:
    """More pods than people signed for are not let up at once (P8)."""
    async with HeldNode(tmp_path, pods=3) as node:
        await node.submit()
        ended = await node.submit(verb="release", max_pods_per_node=2)
        assert (ended.result, ended.code) == ("refused", "too-many-pods")
        assert "expected at most 2 held pods, got 3" in ended.note
        assert (len(node.state.active_holds), len(node.state.gates)) == (1, 3)


@pytest.mark.parametrize("verb", ["release", "extend"])
async def test_a_dry_run_says_which_holds_it_means(tmp_path: Path, verb: str) -> None:
    """And changes none."""
    async with HeldNode(tmp_path) as node:
        await node.submit()
        (hold,) = node.state.active_holds
        before = left_s(node)
        ended = await node.submit(verb=verb, mode="dry-run")
        assert (ended.result, ended.note) == (
            "planned",
            f"would {verb} hold {hold.id} of monitoring/telemetry",
        )
        assert left_s(node) == before


async def test_a_release_of_a_hold_without_pods_says_so(tmp_path: Path) -> None:
    """The lease ends; nothing had to be put back."""
    async with HeldNode(tmp_path) as node:
        await node.submit(workload="monitoring/absent")
        ended = await node.submit(verb="release", workload="monitoring/absent")
        assert (ended.result, ended.pods) == ("released", 0)
        assert "no pod let go" in ended.note


# What fails half-way


async def test_a_limit_that_does_not_go_back_is_told_and_tried_again(tmp_path: Path) -> None:
    """The command is incomplete, the log keeps the old values, and the watch puts them back."""
    async with HeldNode(tmp_path, tasks=1024) as node:
        before = node.limits()
        await node.submit()
        node.kernel.faults.append(KernelFault(operation="write", times=1))
        ended = await node.submit(verb="release")
        assert (ended.result, ended.code) == ("incomplete", "gate-not-lifted")
        assert "the kernel refused" in ended.note
        assert node.state.active_holds == ()
        await node.advance(3)
        assert (node.state.gates, node.limits()) == ({}, before)
        await node.expect_back()


async def test_scopes_that_crun_left_are_reset_and_counted(tmp_path: Path) -> None:
    """Failed units stay in systemd; those of this pod are reset, by exact name."""
    async with HeldNode(tmp_path, Host(systemd=True, oci=Oci.CRUN)) as node:
        await node.submit()
        await node.advance(20)
        assert node.group().failed
        await node.submit(verb="release")
        assert node.group().failed == []
        assert {one.why for one in node.bodies(GateLifted)} == {"released"}
        await node.expect_back()


@pytest.mark.parametrize("kind", [Accepted, HoldEnded, GateLifted])
async def test_a_release_that_was_cut_off_is_finished_by_the_next_agent(
    tmp_path: Path, kind: type[Any]
) -> None:
    """After any of its entries: the hold is over, the limits are back, and it says released."""
    async with HeldNode(tmp_path, tasks=1024) as node:
        before = node.limits()
        await node.submit()
        await dies_after(node, node.signed(verb="release"), kind)
        await node.start_agent()
        await node.advance(5)
        assert node.bodies(Finished)[-1].result == "released"
        assert len(node.bodies(HoldEnded)) == 1
        assert (node.state.active_holds, node.state.gates) == ((), {})
        assert node.limits() == before
        assert node.state.unfinished == ()


# Leases


async def test_an_extension_that_was_cut_off_counts_once(tmp_path: Path) -> None:
    """Not from the next start on: that would hold longer than people signed (P7)."""
    async with HeldNode(tmp_path) as node:
        await node.submit(hold_s=600)
        await dies_after(node, node.signed(verb="extend", hold_s=3_600), HoldExtended)
        await node.advance(1_200)
        await node.start_agent()
        await node.advance(5)
        assert node.bodies(Finished)[-1].result == "extended"
        assert len(node.bodies(HoldExtended)) == 1
        assert left_s(node) == [pytest.approx(3_600 - 1_205, abs=5)]


async def test_an_extension_never_shortens(tmp_path: Path) -> None:
    """The later end counts, and the command says that it was carried out."""
    async with HeldNode(tmp_path) as node:
        await node.submit(hold_s=3_600)
        ended = await node.submit(verb="extend", hold_s=60)
        assert (ended.result, ended.held) == ("extended", 1)
        assert left_s(node) == [pytest.approx(3_600, abs=5)]


@pytest.mark.parametrize(
    ("wait", "left"),
    [
        (lambda node: node.advance(0), 3_600),
        (lambda node: node.advance(1_800), 1_800),
    ],
    ids=["at once", "after half of it"],
)
async def test_a_reboot_takes_little_from_a_lease_and_gives_it_little(
    tmp_path: Path, wait: Callable[[HeldNode], Any], left: int
) -> None:
    """What was left counts from the boot on; a quiet hold is on record every ten minutes."""
    async with HeldNode(tmp_path) as node:
        await node.submit(workload="monitoring/absent", hold_s=3_600)
        await wait(node)
        await node.reboot(off_s=7_200)
        node.start_kubelet()
        await node.start_agent()
        (now,) = left_s(node)
        assert left - 10 <= now <= left + 600


async def test_a_lease_ends_although_the_log_takes_no_counts(tmp_path: Path) -> None:
    """Counts are a courtesy: where there is room for ends alone, the pods are let go all the same.

    P6: none is forever.
    """
    async with HeldNode(tmp_path) as node:
        await node.submit(hold_s=60)
        assert node.agent is not None
        log, honest = node.agent.log, node.agent.log.append

        def full(entry: bytes, *, urgent: bool = False) -> int:
            if not urgent:
                raise StateUnwritable(f"expected room for an entry, got errno {errno.ENOSPC}")
            return honest(entry, urgent=urgent)

        log.append = full  # type: ignore[method-assign]
        await node.advance(70)
        assert (node.state.active_holds, node.state.gates) == ((), {})
        assert [one.why for one in node.bodies(HoldEnded)] == ["expired"]
        assert await node.expect_back() <= 315


async def test_a_release_that_is_resumed_ends_no_later_hold(tmp_path: Path) -> None:
    """A stop that people signed after it, and that was accepted after it, goes on."""
    async with HeldNode(tmp_path) as node:
        await node.submit()
        (first,) = node.state.holds
        assert node.agent is not None
        # The test holds the pod's lock, so neither command can end.
        async with node.agent.parts.hold.gates._locks.locked(node.pods[0].uid):
            release = asyncio.create_task(node._deliver(node.signed(verb="release")))
            await node.advance(1)
            stop = asyncio.create_task(node._deliver(node.signed(hold_s=1200)))
            await node.advance(1)
            assert [hold.id == first for hold in node.state.active_holds] == [False]
            await node.kill_agent()
        release.cancel()
        stop.cancel()
        await node.start_agent()
        await node.advance(5)
        assert [hold.id == first for hold in node.state.active_holds] == [False]
        assert [one.result for one in node.bodies(Finished)] == ["done", "released", "done"]
        await node.expect_held(120)
