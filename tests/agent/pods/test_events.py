# SPDX-License-Identifier: Apache-2.0
"""Births as the agent hears them: real folders, made as kubelet makes them."""

import asyncio
import resource
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from breakglass.agent.clock import SystemClock
from breakglass.agent.pods.events import InotifyPodEvents, PodEvent
from breakglass.agent.pods.inotify import IN_Q_OVERFLOW, InotifyEvent
from breakglass.core import bounds
from breakglass.sim.clock import VirtualClock
from tests.support.sim_runtime import VirtualAgentClock

UIDS = tuple(f"12345678-1234-4123-8123-{number:012x}" for number in range(1, 9))
LONG_S = 10.0


def logs_of(uid: str) -> str:
    """Return the name of a pod's folder of logs."""
    return f"observability_telemetry-{uid[-5:]}_{uid}"


def born(uid: str) -> PodEvent:
    """Return the birth that this folder tells."""
    return PodEvent(uid=uid, namespace="observability", name=f"telemetry-{uid[-5:]}")


def group(uid: str) -> PodEvent:
    """Return the birth that a control group tells."""
    return PodEvent(uid=uid, namespace="", name="")


class Node:
    """Folders as a node has them, and the births that are heard there."""

    def __init__(self, root: Path) -> None:
        self.logs = root / "pods"
        self.parents = [root / "kubepods", root / "kubepods" / "burstable"]
        for one in (self.logs, *self.parents):
            one.mkdir()
        self.pod_events = InotifyPodEvents(self.logs, lambda: tuple(self.parents), SystemClock())

    def starts(self, uid: str) -> None:
        """Let kubelet begin with a pod."""
        (self.logs / logs_of(uid)).mkdir()

    async def hears(self) -> tuple[PodEvent, ...]:
        """Return what is told, well before the timeout."""
        async with asyncio.timeout(LONG_S / 2):
            return await self.pod_events.wait(LONG_S)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """Give a node that is listened to."""
    node = Node(tmp_path)
    node.pod_events.open()
    yield node
    node.pod_events.close()


async def test_a_new_pod_wakes_who_waits(node: Node) -> None:
    """The folder is made while somebody waits, and told at once."""
    asyncio.get_running_loop().call_soon(node.starts, UIDS[0])
    assert await node.hears() == (born(UIDS[0]),)
    assert await node.pod_events.wait(0) == ()


async def test_what_came_between_two_waits_is_told_by_the_second(node: Node) -> None:
    """Nothing is lost while nobody waits; each birth is told once, in order."""
    asyncio.get_running_loop().call_soon(node.starts, UIDS[0])
    await node.hears()
    for uid in UIDS[1:4]:
        node.starts(uid)
    assert await node.hears() == tuple(born(uid) for uid in UIDS[1:4])


async def test_a_control_group_tells_the_uid(node: Node) -> None:
    """Both drivers' names; the same pod in two hierarchies is one birth."""
    slice_name = f"kubepods-burstable-pod{UIDS[1].replace('-', '_')}.slice"
    (node.parents[1] / f"pod{UIDS[0]}").mkdir()
    (node.parents[1] / slice_name).mkdir()
    (node.parents[0] / f"pod{UIDS[0]}").mkdir()
    assert await node.hears() == (group(UIDS[0]), group(UIDS[1]))


async def test_other_folders_and_files_are_no_births(node: Node) -> None:
    """Whatever else appears there does not even wake."""
    (node.logs / "lost+found").mkdir()
    (node.logs / f"pod{UIDS[0]}").mkdir()
    (node.logs / logs_of(UIDS[0])).touch()
    (node.parents[0] / "besteffort").mkdir()
    (node.parents[0] / logs_of(UIDS[0])).mkdir()
    node.starts(UIDS[1])
    assert await node.hears() == (born(UIDS[1]),)


async def test_pods_that_are_there_already_are_present_and_not_born(tmp_path: Path) -> None:
    """The first wait tells only what came after the opening."""
    node = Node(tmp_path)
    node.starts(UIDS[0])
    node.pod_events.open()
    assert await node.pod_events.wait(0) == ()
    assert node.pod_events.present() == (born(UIDS[0]),)
    node.pod_events.close()


async def test_logs_that_vanish_and_return_are_looked_at(node: Node) -> None:
    """What was made before the new folder was watched is found by looking."""
    node.starts(UIDS[0])
    await node.hears()
    shutil.rmtree(node.logs)
    assert await node.hears() == ()
    assert node.pod_events.present() == ()
    assert await node.pod_events.wait(0) == ()
    node.logs.mkdir()
    node.starts(UIDS[1])
    assert await node.hears() == (born(UIDS[1]),)
    node.starts(UIDS[2])
    assert await node.hears() == (born(UIDS[2]),)


async def test_another_folder_of_logs_is_found(node: Node, tmp_path: Path) -> None:
    """Logs that are moved to another disk, with a link in their place, are heard there."""
    disk = tmp_path / "disk"
    node.logs.rename(disk)
    node.logs.symlink_to(disk)
    node.starts(UIDS[0])
    assert born(UIDS[0]) in await node.hears()
    node.starts(UIDS[1])
    assert born(UIDS[1]) in await node.hears()
    node.starts(UIDS[2])
    assert await node.hears() == (born(UIDS[2]),)


async def test_parents_are_asked_for_at_every_wait(node: Node, tmp_path: Path) -> None:
    """A parent that comes later is looked at once and then heard."""
    late = tmp_path / "kubepods.slice"
    node.parents.append(late)
    assert await node.pod_events.wait(0) == ()
    (late / f"kubepods-pod{UIDS[0].replace('-', '_')}.slice").mkdir(parents=True)
    assert await node.hears() == (group(UIDS[0]),)
    (late / f"kubepods-pod{UIDS[1].replace('-', '_')}.slice").mkdir()
    assert await node.hears() == (group(UIDS[1]),)


async def test_an_overflow_tells_all_that_is_there(node: Node) -> None:
    """The births that the queue lost are among those present."""
    for uid in UIDS[:3]:
        node.starts(uid)
    await node.hears()
    node.pod_events._inotify._take(InotifyEvent(watch=-1, mask=IN_Q_OVERFLOW, name=b""))
    assert set(await node.hears()) == {born(uid) for uid in UIDS[:3]}


async def test_a_flood_that_nobody_waits_for_stays_bounded(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit nothing is remembered; the next wait looks instead."""
    monkeypatch.setattr(bounds, "MAX_POD_FOLDERS", 4)
    for uid in UIDS:
        node.starts(uid)
    heard = await node.hears()
    assert 4 <= len(heard) <= 8
    assert set(heard) <= {born(uid) for uid in UIDS}
    assert len(node.pod_events.present()) == 4


async def test_without_inotify_the_timeout_is_slept(tmp_path: Path) -> None:
    """No instance is left: nothing is told until there is one, and then by a look."""
    node = Node(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        node.pod_events.open()
        node.starts(UIDS[0])
        assert await node.pod_events.wait(0.001) == ()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert await node.hears() == (born(UIDS[0]),)
    node.pod_events.close()


async def test_the_timeout_is_the_clocks(tmp_path: Path) -> None:
    """An hour of virtual time passes without a birth, and `wait` ends with it."""
    virtual = VirtualClock()
    pod_events = InotifyPodEvents(tmp_path, lambda: (), VirtualAgentClock(virtual))
    pod_events.open()
    begun_ns = virtual.now_ns()
    waiting = asyncio.create_task(pod_events.wait(3_600))
    assert await virtual.until(waiting) == ()
    assert virtual.now_ns() - begun_ns == 3_600 * 1_000_000_000
    pod_events.close()


async def test_a_wait_that_is_cancelled_loses_nothing(node: Node) -> None:
    """What is born while nobody waits any more is told by the next wait."""
    waiting = asyncio.create_task(node.pod_events.wait(LONG_S))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    node.starts(UIDS[0])
    assert await node.hears() == (born(UIDS[0]),)


def handles() -> int:
    """Return how many descriptors this process has."""
    return len(tuple(Path("/proc/self/fd").iterdir()))


async def test_closing_gives_everything_back(tmp_path: Path) -> None:
    """No descriptor is left, and closing twice is closing once."""
    before = handles()
    node = Node(tmp_path)
    node.pod_events.open()
    assert handles() == before + 1
    node.pod_events.close()
    node.pod_events.close()
    assert handles() == before
