# SPDX-License-Identifier: Apache-2.0
"""Every effect of a hold fails twice: lost, where it did not happen, and landed, where it did.

An effect ends in an error, or in the end of the agent, which is then started again.  After each the
same must be true: what was accepted is down and held, what was not is untouched; and a release
leaves every limit as it was.
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from breakglass.core.entries import Accepted, Finished
from breakglass.core.gates import Layout
from breakglass.sim.faults import Fault, Kind
from breakglass.sim.kernel import EVERYTHING, FOR_EVER, Host, KernelFault
from tests.support.faulty_disk import DyingDisk, PowerCutError
from tests.support.held_node import HeldNode

pytestmark = pytest.mark.slow  # the tables together

LOST, LANDED = "lost", "landed"
TASKS = 1024
HOST = Host(layout=Layout.HYBRID)  # runc: both limits are set before the stop
SYSTEMD = Host(systemd=True)  # one before it, one after
PODS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One effect that goes wrong in one version.

    Attributes:
        arrange: lets the n-th of these effects go wrong from now on.
        at: which of them, from 0.
        stuck: whether the runtime is stuck meanwhile, so that the kernel's rung is taken.
        leaks: whether user code may run between the failed effect and the next look.
    """

    name: str
    version: str
    arrange: Callable[[HeldNode, str, int], None]
    at: int = 0
    host: Host = HOST
    stuck: bool = False
    leaks: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.at} {self.version}"


def kernel(operation: str, *, dies: bool) -> Callable[[HeldNode, str, int], None]:
    """Return what lets the n-th operation of the kernel fail, or be the agent's last."""

    def arrange(node: HeldNode, version: str, number: int) -> None:
        error: BaseException = OSError(errno.EIO, os.strerror(errno.EIO))
        if dies:
            error = PowerCutError()
        node.kernel.faults.append(
            KernelFault(operation=operation, landed=version == LANDED, after=number, error=error)
        )

    return arrange


def call(method: str, *kinds: Kind) -> Callable[[HeldNode, str, int], None]:
    """Return what lets a call of the runtime end in these ways; without any, it is the last."""

    def arrange(node: HeldNode, version: str, _: int) -> None:
        if kinds:
            lost, landed = kinds
            kind = lost if version == LOST else landed
            node.runtime.faults.add(Fault(method=method, kind=kind))
        else:
            node.runtime.deaths[method] = version

    return arrange


def disk(effect: str, code: int = 0) -> Callable[[HeldNode, str, int], None]:
    """Return what lets the n-th effect on the log fail, or be the agent's last."""

    def arrange(node: HeldNode, version: str, number: int) -> None:
        assert isinstance(node.disk, DyingDisk)
        over = KernelFault(operation=EVERYTHING, times=FOR_EVER, error=PowerCutError())
        node.disk.at_the_end = lambda: node.kernel.faults.append(over)
        node.disk.fail_next(effect, version, number, code)

    return arrange


# How often each effect happens from a command's arrival to its end: held against healthy runs.
STOPPING = {"write": 2 * PODS, "probe": 2 * PODS, "pwrite": 18, "fdatasync": 9}
RELEASING = {"write": 2 * PODS, "probe": 0, "pwrite": 12, "fdatasync": 6}


def rows(
    name: str,
    arrange: Callable[[HeldNode, str, int], None],
    count: int,
    **more: Any,  # noqa: ANN401 - Row's own
) -> list[Row]:
    """Return the rows of one effect, lost and landed, at each of its places."""
    return [
        Row(name=name, version=version, arrange=arrange, at=at, **more)
        for version in (LOST, LANDED)
        for at in range(count)
    ]


TABLE = [
    *rows("write fails", kernel("write", dies=False), STOPPING["write"], leaks=True),
    *rows("write is the last", kernel("write", dies=True), STOPPING["write"]),
    *rows("slice fails", kernel("write", dies=False), STOPPING["write"], host=SYSTEMD, leaks=True),
    *rows("slice is the last", kernel("write", dies=True), STOPPING["write"], host=SYSTEMD),
    *rows("read fails", kernel("read", dies=False), PODS, leaks=True),
    *rows("probe is the last", kernel("probe", dies=True), STOPPING["probe"]),
    *rows("kill fails", kernel("kill", dies=False), PODS, stuck=True, leaks=True),
    *rows("kill is the last", kernel("kill", dies=True), PODS, stuck=True),
    *rows("stop fails", call("StopContainer", Kind.FAIL, Kind.FAIL_AFTER), 1),
    *rows("stop hangs", call("StopContainer", Kind.HANG, Kind.LOSE_REPLY), 1),
    *rows("stop is the last", call("StopContainer"), 1),
    *rows("status is the last", call("ContainerStatus"), 1),
    *rows("list is the last", call("ListContainers"), 1),
    *rows("append is written last", disk("pwrite"), STOPPING["pwrite"]),
    *rows("append is synced last", disk("fdatasync"), STOPPING["fdatasync"]),
    *rows("append is not synced", disk("fdatasync", errno.EIO), STOPPING["fdatasync"]),
]
RELEASES = [
    *rows("write fails", kernel("write", dies=False), RELEASING["write"]),
    *rows("write is the last", kernel("write", dies=True), RELEASING["write"]),
    *rows("slice fails", kernel("write", dies=False), RELEASING["write"], host=SYSTEMD),
    *rows("slice is the last", kernel("write", dies=True), RELEASING["write"], host=SYSTEMD),
    *rows("read fails", kernel("read", dies=False), 2 * PODS),
    *rows("append is written last", disk("pwrite"), RELEASING["pwrite"]),
    *rows("append is synced last", disk("fdatasync"), RELEASING["fdatasync"]),
    *rows("append is not synced", disk("fdatasync", errno.EIO), RELEASING["fdatasync"]),
]
LEAK_MS = 3_000  # of two pods: until the next tick sets the gate and stops what runs


async def revive(node: HeldNode) -> bool:
    """Start another agent where the last has died; return whether it had."""
    if node.is_alive:
        return False
    node.disk = DyingDisk()
    node.kernel.faults.clear()
    await node.restart_agent(away_s=2)
    return True


def counts(node: HeldNode) -> dict[str, int]:
    """Return how often each effect has happened."""
    assert isinstance(node.disk, DyingDisk)
    of_disk = {effect: node.disk.calls[effect] for effect in ("pwrite", "fdatasync")}
    return {effect: node.kernel.calls[effect] for effect in ("write", "probe")} | of_disk


def fewer(before: dict[str, int], now: dict[str, int]) -> dict[str, int]:
    """Return how much each count has grown."""
    return {effect: now[effect] - before[effect] for effect in now}


@pytest.mark.parametrize("host", [HOST, SYSTEMD], ids=["hybrid", "systemd"])
async def test_the_table_has_every_place(tmp_path: Path, host: Host) -> None:
    """A healthy stop and release have no more effects than the table has rows for."""
    async with HeldNode(tmp_path, host, pods=PODS, tasks=TASKS, disk=DyingDisk()) as node:
        begun = counts(node)
        await node.submit(hold_s=1800)
        stopped = counts(node)
        await node.submit(verb="release")
        released = counts(node)
    for effect, count in fewer(begun, stopped).items():
        assert count <= STOPPING[effect], effect
    for effect, count in fewer(stopped, released).items():
        assert count <= RELEASING[effect], effect


@pytest.mark.parametrize("row", TABLE, ids=str)
async def test_a_hold_survives_every_effect_that_fails(tmp_path: Path, row: Row) -> None:
    """What was accepted is down and held; what was not is as it was, and is delivered again."""
    async with HeldNode(tmp_path, row.host, pods=PODS, tasks=TASKS, disk=DyingDisk()) as node:
        before = [node.limits(pod) for pod in node.pods]
        raw = node.signed(hold_s=1800)
        if row.stuck:
            node.runtime.faults.wedge()
        row.arrange(node, row.version, row.at)
        await node.deliver(raw)
        await revive(node)
        node.runtime.faults.unwedge()
        if not node.bodies(Accepted):
            assert [node.limits(pod) for pod in node.pods] == before
            assert len(node.running()) == PODS
            await node.deliver(raw)
        since_ns = node.clock.now_ns()
        await node.advance(25)
        if await revive(node):
            await node.advance(25)
        assert len(node.bodies(Finished)) == 1
        assert node.user_ms(since_ns) <= LEAK_MS * row.leaks
        await node.expect_held(120)
        assert all(gated.gate not in {"", "watch only"} for gated in node.state.gates.values())
        node.kernel.faults.clear()
        assert (await node.submit(verb="release")).result == "released"
        assert [node.limits(pod) for pod in node.pods] == before
        await node.expect_back()


@pytest.mark.parametrize("row", RELEASES, ids=str)
async def test_a_release_survives_every_effect_that_fails(tmp_path: Path, row: Row) -> None:
    """No pod is left gated, and none was let go before the end of its hold was on record."""
    async with HeldNode(tmp_path, row.host, pods=PODS, tasks=TASKS, disk=DyingDisk()) as node:
        before = [node.limits(pod) for pod in node.pods]
        await node.submit(hold_s=1800)
        await node.advance(60)
        raw = node.signed(verb="release")
        row.arrange(node, row.version, row.at)
        await node.deliver(raw)
        await revive(node)
        if node.state.active_holds:
            await node.expect_held(60)
            await node.deliver(raw)
        await node.advance(5)
        if await revive(node):
            await node.advance(5)
        assert not node.state.active_holds
        assert not node.state.gates
        assert [node.limits(pod) for pod in node.pods] == before
        await node.expect_back()
