# SPDX-License-Identifier: Apache-2.0
"""Pod events in the kernel's own control groups, and inotify with the privileges of the unit."""

import asyncio
import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from breakglass.agent.clock import SystemClock
from breakglass.agent.pods.events import InotifyPodEvents, PodEvent

UID = "12345678-1234-4123-8123-123456789abc"
PATIENCE_S = 60.0
GROUPS = Path("/sys/fs/cgroup")
TREES = tuple(
    one
    for one in (GROUPS, GROUPS / "pids", GROUPS / "unified")
    if (one / "cgroup.procs").exists() and os.access(one, os.W_OK)
)

pytestmark = pytest.mark.real


def remove(group: Path) -> None:
    """Remove a control group and those in it; do nothing if it does not exist."""
    if group.exists():
        for one in group.iterdir():
            if one.is_dir():
                one.rmdir()
        group.rmdir()


@pytest.fixture(params=TREES, ids=str)
def parent(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Yield a new control group; remove it and the groups below it afterwards."""
    parent = Path(request.param) / f"breakglass-test-{os.getpid()}"
    parent.mkdir()
    yield parent
    remove(parent)


@pytest.mark.skipif(not TREES, reason="no control-group tree that can be written")
@pytest.mark.parametrize(
    "name", [f"pod{UID}", f"kubepods-burstable-pod{UID.replace('-', '_')}.slice"]
)
async def test_a_new_control_group_is_a_pod_event(parent: Path, name: str, tmp_path: Path) -> None:
    """A group gives an event each time it is made, also after a removal, on v1, v2 and hybrids."""
    pod_events = InotifyPodEvents(tmp_path / "none", lambda: (parent,), SystemClock())
    pod_events.open()
    try:
        for _ in range(2):
            (parent / name).mkdir()
            async with asyncio.timeout(PATIENCE_S):
                events = await pod_events.wait(2 * PATIENCE_S)
            assert events == (PodEvent(uid=UID, namespace="", name=""),)
            (parent / name).rmdir()
        assert await pod_events.wait(0) == ()
    finally:
        pod_events.close()


@pytest.mark.skipif(not TREES, reason="no control-group tree that can be written")
async def test_a_parent_that_kubelet_makes_again_is_watched_again(
    parent: Path, tmp_path: Path
) -> None:
    """The removal of the parent ends its watch; a new parent of that name gets a new watch."""
    pod_events = InotifyPodEvents(tmp_path / "none", lambda: (parent,), SystemClock())
    pod_events.open()
    try:
        remove(parent)
        assert await pod_events.wait(0) == ()
        (parent / f"pod{UID}").mkdir(parents=True)
        async with asyncio.timeout(PATIENCE_S):
            events = await pod_events.wait(2 * PATIENCE_S)
        assert events == (PodEvent(uid=UID, namespace="", name=""),)
    finally:
        pod_events.close()


PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
BARE = f"""
import ctypes, os, sys
if ctypes.CDLL(None).prctl({PR_SET_MDWE}, {PR_MDWE_REFUSE_EXEC_GAIN}, 0, 0, 0):
    sys.exit(77)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1], sys.argv[2]])
"""
WAITS = """
import asyncio, mmap, sys
from pathlib import Path
from breakglass.agent.pods.events import InotifyPodEvents
from breakglass.agent.clock import SystemClock

try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    sys.exit("writable and executable memory is not refused")
except PermissionError:
    pass

async def main():
    events = InotifyPodEvents(Path(sys.argv[1]), lambda: (), SystemClock())
    events.open()
    (Path(sys.argv[1]) / "a_b_0123456789abcdef0123456789abcdef").mkdir()
    async with asyncio.timeout(60):
        print(len(await events.wait(120)))
    events.close()

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "prctl"), reason="no prctl(2)")
def test_inotify_needs_no_memory_that_is_writable_and_executable(tmp_path: Path) -> None:
    """The kernel refuses such memory to the process, as the unit's MemoryDenyWriteExecute does."""
    command = [sys.executable, "-c", BARE, WAITS, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    assert (ran.returncode, ran.stdout) == (0, "1\n"), ran.stderr
