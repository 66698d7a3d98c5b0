# SPDX-License-Identifier: Apache-2.0
"""Pod events through inotify, on real folders that are made as kubelet makes them."""

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
LONG_S = 120.0


def logs_of(uid: str) -> str:
    """Return the name of a pod's log folder."""
    return f"observability_telemetry-{uid[-5:]}_{uid}"


def log_event(uid: str) -> PodEvent:
    """Return the event of this pod's log folder."""
    return PodEvent(uid=uid, namespace="observability", name=f"telemetry-{uid[-5:]}")


def group_event(uid: str) -> PodEvent:
    """Return the event of this pod's control group."""
    return PodEvent(uid=uid, namespace="", name="")


class Node:
    """The folders of a node, and the pod events from them."""

    def __init__(self, root: Path) -> None:
        self.logs = root / "pods"
        self.parents = [root / "kubepods", root / "kubepods" / "burstable"]
        for one in (self.logs, *self.parents):
            one.mkdir()
        self.pod_events = InotifyPodEvents(self.logs, lambda: tuple(self.parents), SystemClock())

    def starts(self, uid: str) -> None:
        """Make a pod's log folder, as kubelet does first."""
        (self.logs / logs_of(uid)).mkdir()

    async def events(self) -> tuple[PodEvent, ...]:
        """Return the next events; fail when there are none well before the timeout."""
        async with asyncio.timeout(LONG_S / 2):
            return await self.pod_events.wait(LONG_S)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """Yield a node whose pod events are open."""
    node = Node(tmp_path)
    node.pod_events.open()
    yield node
    node.pod_events.close()


async def test_a_new_pod_ends_a_wait(node: Node) -> None:
    """A log folder that is made during a wait ends it at once."""
    asyncio.get_running_loop().call_soon(node.starts, UIDS[0])
    assert await node.events() == (log_event(UIDS[0]),)
    assert await node.pod_events.wait(0) == ()


async def test_an_event_between_two_waits_comes_with_the_second(node: Node) -> None:
    """Events between two waits are kept; each is returned once, in order."""
    asyncio.get_running_loop().call_soon(node.starts, UIDS[0])
    await node.events()
    for uid in UIDS[1:4]:
        node.starts(uid)
    assert await node.events() == tuple(log_event(uid) for uid in UIDS[1:4])


async def test_a_control_groups_event_has_the_uid(node: Node) -> None:
    """Names of both drivers give events; a pod in two trees gives one."""
    slice_name = f"kubepods-burstable-pod{UIDS[1].replace('-', '_')}.slice"
    (node.parents[1] / f"pod{UIDS[0]}").mkdir()
    (node.parents[1] / slice_name).mkdir()
    (node.parents[0] / f"pod{UIDS[0]}").mkdir()
    assert await node.events() == (group_event(UIDS[0]), group_event(UIDS[1]))


async def test_other_folders_and_files_are_no_events(node: Node) -> None:
    """A folder or file without a pod's name does not end the wait."""
    (node.logs / "lost+found").mkdir()
    (node.logs / f"pod{UIDS[0]}").mkdir()
    (node.logs / logs_of(UIDS[0])).touch()
    (node.parents[0] / "besteffort").mkdir()
    (node.parents[0] / logs_of(UIDS[0])).mkdir()
    node.starts(UIDS[1])
    assert await node.events() == (log_event(UIDS[1]),)


async def test_pods_from_before_the_opening_are_present_and_no_events(tmp_path: Path) -> None:
    """The first wait returns only pods that came after the opening."""
    node = Node(tmp_path)
    node.starts(UIDS[0])
    node.pod_events.open()
    assert await node.pod_events.wait(0) == ()
    assert node.pod_events.present() == (log_event(UIDS[0]),)
    node.pod_events.close()


async def test_logs_that_vanish_and_return_are_read_again(node: Node) -> None:
    """A pod from before the new folder was watched is found by reading the folder."""
    node.starts(UIDS[0])
    await node.events()
    shutil.rmtree(node.logs)
    assert await node.events() == ()
    assert node.pod_events.present() == ()
    assert await node.pod_events.wait(0) == ()
    node.logs.mkdir()
    node.starts(UIDS[1])
    assert await node.events() == (log_event(UIDS[1]),)
    node.starts(UIDS[2])
    assert await node.events() == (log_event(UIDS[2]),)


async def test_another_log_folder_is_found(node: Node, tmp_path: Path) -> None:
    """Logs that were moved to another disk behind a symlink give events."""
    disk = tmp_path / "disk"
    node.logs.rename(disk)
    node.logs.symlink_to(disk)
    node.starts(UIDS[0])
    assert log_event(UIDS[0]) in await node.events()
    node.starts(UIDS[1])
    assert log_event(UIDS[1]) in await node.events()
    node.starts(UIDS[2])
    assert await node.events() == (log_event(UIDS[2]),)


async def test_parents_are_asked_for_at_every_wait(node: Node, tmp_path: Path) -> None:
    """A parent that appears later is read once and watched from then on."""
    late = tmp_path / "kubepods.slice"
    node.parents.append(late)
    assert await node.pod_events.wait(0) == ()
    (late / f"kubepods-pod{UIDS[0].replace('-', '_')}.slice").mkdir(parents=True)
    assert await node.events() == (group_event(UIDS[0]),)
    (late / f"kubepods-pod{UIDS[1].replace('-', '_')}.slice").mkdir()
    assert await node.events() == (group_event(UIDS[1]),)


async def test_an_overflow_tells_all_that_is_there(node: Node) -> None:
    """The pods whose events the queue lost are among those present."""
    for uid in UIDS[:3]:
        node.starts(uid)
    await node.events()
    node.pod_events._inotify._take(InotifyEvent(watch=-1, mask=IN_Q_OVERFLOW, name=b""))
    assert set(await node.events()) == {log_event(uid) for uid in UIDS[:3]}


async def test_a_flood_that_nobody_waits_for_stays_bounded(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound no event is kept; the next wait reads the folder instead."""
    monkeypatch.setattr(bounds, "MAX_POD_FOLDERS", 4)
    for uid in UIDS:
        node.starts(uid)
    found = await node.events()
    assert 4 <= len(found) <= 8
    assert set(found) <= {log_event(uid) for uid in UIDS}
    assert len(node.pod_events.present()) == 4


async def test_without_inotify_the_timeout_is_slept(tmp_path: Path) -> None:
    """Without an instance there are no events; with one again, the folder is read."""
    node = Node(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        node.pod_events.open()
        node.starts(UIDS[0])
        assert await node.pod_events.wait(0.001) == ()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert await node.events() == (log_event(UIDS[0]),)
    node.pod_events.close()


async def test_the_timeout_is_the_clocks(tmp_path: Path) -> None:
    """A wait without events ends after an hour of virtual time."""
    virtual = VirtualClock()
    pod_events = InotifyPodEvents(tmp_path, lambda: (), VirtualAgentClock(virtual))
    pod_events.open()
    begun_ns = virtual.now_ns()
    waiting = asyncio.create_task(pod_events.wait(3_600))
    assert await virtual.until(waiting) == ()
    assert virtual.now_ns() - begun_ns == 3_600 * 1_000_000_000
    pod_events.close()


async def test_a_wait_that_is_cancelled_loses_nothing(node: Node) -> None:
    """A pod that comes after the cancelled wait is returned by the next one."""
    waiting = asyncio.create_task(node.pod_events.wait(LONG_S))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    node.starts(UIDS[0])
    assert await node.events() == (log_event(UIDS[0]),)


def descriptors() -> int:
    """Return the number of this process's open descriptors."""
    return len(tuple(Path("/proc/self/fd").iterdir()))


async def test_closing_releases_all_descriptors(tmp_path: Path) -> None:
    """No descriptor is left open, and a second close does nothing."""
    before = descriptors()
    node = Node(tmp_path)
    node.pod_events.open()
    assert descriptors() == before + 1
    node.pod_events.close()
    node.pod_events.close()
    assert descriptors() == before
