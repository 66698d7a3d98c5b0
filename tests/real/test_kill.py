# SPDX-License-Identifier: Apache-2.0
"""Kill containers through the real kernel: by cgroup.kill, by freezing, and by signals alone.

The method depends on which cgroup trees exist, so each test shows the killer one set of trees.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from breakglass.agent.kernel.hierarchy import FREEZER, PIDS, UNIFIED, Hierarchies
from breakglass.agent.kernel.host import host_kernel
from breakglass.agent.kernel.kill import HostKiller
from breakglass.agent.kernel.port import Leaf
from breakglass.errors import GateFailed
from lab import leftovers
from tests.support import own_groups
from tests.support.own_groups import OwnGroups

_WHY_NOT = own_groups.why_not(*own_groups.HYBRID)
pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT or "it can")]

ID = "0123456789abcdef" * 4
POD = f"kubepods/besteffort/pod{uuid.UUID(int=1)}"
LEAF = f"{POD}/{ID}"
WAYS = {
    "cgroup.kill": own_groups.V2,
    "freezer": own_groups.V1,
    "signals": own_groups.V1_WITHOUT_FREEZER,
    "all": own_groups.HYBRID,
}
MOST_KILLS = 5
# Starts 60 children, and none of these processes ends on TERM.
_BOMB = "trap '' TERM; n=0; while [ $n -lt 60 ]; do n=$((n+1)); sh -c 'sleep 1000' & done; wait"

_KILL = """
import sys
from pathlib import Path
from breakglass.agent.kernel.host import host_kernel
from breakglass.agent.kernel.port import Leaf
from breakglass.errors import GateFailed
try:
    host_kernel(mountinfo=Path(sys.argv[1])).killer.kill(Leaf(directory=Path(sys.argv[2])))
except GateFailed as error:
    print(error.stable_code)
"""


class Node:
    """Control groups of the test, and a kernel port that sees some of the trees."""

    def __init__(self, groups: OwnGroups, mountinfo: Path, trees: tuple[str, ...]) -> None:
        self.groups = groups
        self.trees = trees
        self.mountinfo = groups.mountinfo(mountinfo, trees)
        self.kernel = host_kernel(mountinfo=self.mountinfo)
        self.hierarchies = Hierarchies(Path("/proc"), self.mountinfo)
        self.host_killer = HostKiller(self.hierarchies, Path("/proc"), frozenset)
        groups.make(LEAF)

    @property
    def leaf(self) -> Leaf:
        """The container's leaf in the first visible tree."""
        directory = self.groups.directory(LEAF, self.trees[0])
        return Leaf(directory=directory, container_id=ID)

    def spawn(self, path: str = LEAF, *argv: str) -> int:
        """Start a process in a group, in all trees of the machine."""
        self.groups.make(path)
        return self.groups.spawn(path, argv=argv)

    def state(self, path: str = LEAF) -> str:
        """Return the state of a group's freezer."""
        return (self.groups.directory(path, FREEZER) / "freezer.state").read_text().strip()


@pytest.fixture(params=WAYS)
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    """A node for each method alone, and for all together."""
    with OwnGroups() as groups:
        yield Node(groups, tmp_path / "mountinfo", WAYS[request.param])


@pytest.fixture
def hybrid(tmp_path: Path) -> Iterator[Node]:
    """A node that sees all trees of this machine."""
    with OwnGroups() as groups:
        yield Node(groups, tmp_path / "mountinfo", WAYS["all"])


def test_processes_that_fork_and_hear_nothing_are_gone(node: Node) -> None:
    """All of them, also those in groups below, and no other process."""
    node.spawn(LEAF, "sh", "-c", _BOMB)
    node.spawn(f"{LEAF}/init.scope")
    node.spawn(f"{LEAF}/system.slice/x.service", "sh", "-c", _BOMB)
    kept = node.spawn(f"{POD}/{ID[::-1]}")
    for _ in range(MOST_KILLS):  # one is enough unless the machine is too busy for them to die
        node.kernel.killer.kill(node.leaf)
    assert node.kernel.groups.pids(node.leaf) == ()
    assert leftovers.processes_in(f"{node.groups.top}/{LEAF}") == ()
    assert leftovers.processes_in(f"{node.groups.top}/{POD}") == (kept,)


@pytest.mark.parametrize("node", ["freezer", "all"], indirect=True)
def test_a_frozen_container_dies_and_is_thawed(node: Node) -> None:
    """In the v1 freezer a process ignores SIGKILL until it is thawed, so the killer thaws it."""
    node.spawn()
    node.spawn(f"{LEAF}/below")
    for path in (f"{LEAF}/below", LEAF):
        (node.groups.directory(path, FREEZER) / "freezer.state").write_text("FROZEN")
        while node.state(path) != "FROZEN":
            os.sched_yield()
    node.kernel.killer.kill(node.leaf)
    assert node.kernel.groups.pids(node.leaf) == ()
    assert [node.state(), node.state(f"{LEAF}/below")] == ["THAWED", "THAWED"]


def test_a_container_frozen_in_cgroup2_dies(hybrid: Node) -> None:
    """On v2 SIGKILL ends a frozen process too."""
    hybrid.spawn()
    (hybrid.groups.directory(LEAF, UNIFIED) / "cgroup.freeze").write_text("1")
    hybrid.kernel.killer.kill(hybrid.leaf)
    assert hybrid.kernel.groups.pids(hybrid.leaf) == ()


def test_a_process_that_cannot_die_is_reported_in_time(node: Node) -> None:
    """A process in state D (frozen by another group) stays; the container's others are gone."""
    kept = node.spawn()
    node.spawn()
    node.groups.keep(kept)
    begun = time.monotonic()
    node.kernel.killer.kill(node.leaf)
    assert time.monotonic() - begun < leftovers.PATIENCE_S  # it returned, and did not wait for ever
    assert node.kernel.groups.pids(node.leaf) == (kept,)
    assert node.kernel.killer.describe(kept) == f"{kept} D sleep"
    node.groups.release()
    os.waitid(os.P_PID, kept, os.WEXITED | os.WNOWAIT)  # its SIGKILL was pending
    assert node.kernel.groups.pids(node.leaf) == ()


def test_a_traced_and_stopped_process_dies(node: Node) -> None:
    """A process in state T gets SIGKILL too."""
    pid = node.spawn()
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    node.kernel.killer.kill(node.leaf)
    assert node.kernel.groups.pids(node.leaf) == ()


def test_a_process_in_one_tree_alone_is_found_and_dies(hybrid: Node) -> None:
    """A process that has left the group in the cgroup2 tree is still in the other trees."""
    pid = hybrid.spawn()
    hybrid.groups.make(f"{POD}/elsewhere", (UNIFIED,))
    hybrid.groups.move(pid, f"{POD}/elsewhere", UNIFIED)
    assert hybrid.kernel.groups.pids(hybrid.leaf) == (pid,)
    hybrid.kernel.killer.kill(hybrid.leaf)
    assert hybrid.kernel.groups.pids(hybrid.leaf) == ()


@pytest.mark.parametrize("label", own_groups.HYBRID)
def test_the_agent_itself_is_refused(hybrid: Node, label: str) -> None:
    """The killer's own process, moved into the container's group in one tree, is not killed."""
    beside = hybrid.spawn()
    home = _home(hybrid, label)
    hybrid.groups.move(os.getpid(), LEAF, label)
    try:
        with pytest.raises(GateFailed, match=str(os.getpid())) as refused:
            hybrid.kernel.killer.kill(hybrid.leaf)
    finally:
        (home / "cgroup.procs").write_text(str(os.getpid()))
    assert refused.value.stable_code == "kill-refused"
    assert hybrid.kernel.groups.pids(hybrid.leaf) == (beside,)


def _home(node: Node, label: str) -> Path:
    """Return this process's own group in a tree."""
    trees = node.hierarchies
    point = node.groups.trees[label]
    return next(one for _, one in trees.groups_of(os.getpid()) if one.is_relative_to(point))


def test_the_runtime_is_refused(hybrid: Node) -> None:
    """The runtime's process is refused, whichever it is now and wherever it was put."""
    pid = hybrid.spawn()
    kernel = host_kernel(runtime_pids=lambda: frozenset({pid}))
    with pytest.raises(GateFailed) as refused:
        kernel.killer.kill(hybrid.leaf)
    assert refused.value.stable_code == "kill-refused"
    assert hybrid.kernel.groups.pids(hybrid.leaf) == (pid,)


def _named_kubelet(folder: Path) -> str:
    program = folder / "kubelet"
    program.symlink_to("/bin/sleep")
    return str(program)


def test_a_real_kubelet_is_refused(hybrid: Node, tmp_path: Path) -> None:
    """A kubelet that was moved into the container's group in one tree is not killed."""
    hybrid.groups.make("system/kubelet")
    pid = hybrid.groups.spawn("system/kubelet", argv=(_named_kubelet(tmp_path), "1000"))
    _wait_for_name(pid, "kubelet")
    hybrid.groups.move(pid, LEAF, PIDS)
    with pytest.raises(GateFailed) as refused:
        hybrid.kernel.killer.kill(hybrid.leaf)
    assert refused.value.stable_code == "kill-refused"
    assert hybrid.kernel.groups.pids(hybrid.leaf) == (pid,)


def test_a_container_that_calls_itself_kubelet_dies(node: Node, tmp_path: Path) -> None:
    """Any process may take the name kubelet."""
    pid = node.spawn(LEAF, _named_kubelet(tmp_path), "1000")
    _wait_for_name(pid, "kubelet")
    node.kernel.killer.kill(node.leaf)
    assert node.kernel.groups.pids(node.leaf) == ()


def _wait_for_name(pid: int, name: str) -> None:
    end = time.monotonic() + leftovers.PATIENCE_S
    while Path(f"/proc/{pid}/comm").read_text().strip() != name:
        assert time.monotonic() < end
        os.sched_yield()


def test_a_process_that_has_left_is_not_signalled(hybrid: Node) -> None:
    """The killer checks the group of a listed process again just before the signal."""
    pid = hybrid.spawn()
    groups = hybrid.hierarchies.everywhere(hybrid.leaf.directory)
    hybrid.groups.make(f"{POD}/{ID[::-1]}")
    for label in own_groups.HYBRID:
        hybrid.groups.move(pid, f"{POD}/{ID[::-1]}", label)
    assert not hybrid.host_killer._signal(pid, groups)
    assert not hybrid.host_killer._signal(2**22 + 1, groups)
    assert leftovers.processes_in(f"{hybrid.groups.top}/{POD}") == (pid,)


def test_without_pidfds_processes_are_killed_all_the_same(
    hybrid: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux before 5.3 has no pidfds."""

    def none(pid: int, flags: int = 0) -> int:
        raise OSError(38, os.strerror(38))

    monkeypatch.setattr(os, "pidfd_open", none)
    pid = hybrid.spawn()
    groups = hybrid.hierarchies.everywhere(hybrid.leaf.directory)
    assert hybrid.host_killer._signal(pid, groups)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert not hybrid.host_killer._signal(os.getpid(), groups)


def test_a_kill_without_permission_is_an_error(node: Node) -> None:
    """A killer that may neither write the groups nor signal the process fails with kill-failed.

    The killer is root without capabilities; the container and its groups belong to another user.
    """
    pid = node.spawn(LEAF, "setpriv", "--reuid=65534", "--clear-groups", "sleep", "1000")
    _wait_for_name(pid, "sleep")
    for label in node.groups.trees:
        for name in ("cgroup.kill", "freezer.state"):
            if (file := node.groups.directory(LEAF, label) / name).exists():
                os.chown(file, 65534, 65534)
    bare = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all")
    ran = subprocess.run(
        (*bare, sys.executable, "-c", _KILL, node.mountinfo, node.leaf.directory),
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert (ran.stdout, ran.stderr) == ("kill-failed\n", "")
    assert node.kernel.groups.pids(node.leaf) == (pid,)
