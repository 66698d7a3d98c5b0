# SPDX-License-Identifier: Apache-2.0
"""What a kill refuses, over trees of files in a folder, and what it writes into those files.

No process is in danger: the groups are files, and their process ids are unused on this machine or
are this test's own.  tests/real/test_kill.py kills real processes.
"""

import itertools
import os
from pathlib import Path

import pytest

from breakglass.agent.kernel.host import host_kernel
from breakglass.agent.kernel.port import Kernel, Leaf
from breakglass.core import bounds
from breakglass.errors import GateFailed
from tests.support.fake_host import ID, UID, Host

POD = f"kubepods/besteffort/pod{UID}"
LEAF = f"{POD}/{ID}"
UNUSED_PID = bounds.MAX_NODES * 100  # above any pid_max (2^22): no process has this id
KINDS = [(True, False), (False, True), (True, True)]


def leaf_of(host: Host, path: str = LEAF, label: str | None = None) -> Leaf:
    """Return a container's group in one tree."""
    first = next(iter(host.mounts)) if label is None else label
    return Leaf(directory=host.mounts[first] / path, container_id=ID)


def kernel_of(host: Host, *runtime: int) -> Kernel:
    """Return the kernel of a machine whose runtime has these process ids."""
    return host_kernel(host.proc, runtime_pids=lambda: frozenset(runtime))


def refused(host: Host, leaf: Leaf, *runtime: int) -> str:
    """Return the code of the error with which a kill is refused."""
    kernel = kernel_of(host, *runtime)
    before = {path: path.read_bytes() for path in host.root.rglob("*") if path.is_file()}
    with pytest.raises(GateFailed) as caught:
        kernel.killer.kill(leaf)
    assert {path: path.read_bytes() for path in before} == before
    return caught.value.stable_code


@pytest.mark.parametrize(("unified", "v1"), KINDS)
@pytest.mark.parametrize(
    "path",
    ["", "kubepods", "kubepods/besteffort", POD, f"k8s.io/{ID}", "system.slice/containerd.service"],
)
def test_only_what_is_below_a_pod_is_killed(
    tmp_path: Path, path: str, *, unified: bool, v1: bool
) -> None:
    """A pod, a parent, a service, and a container outside of every pod are refused."""
    host = Host(tmp_path, unified=unified, v1=v1)
    host.put_in(UNUSED_PID, f"{path or 'x'}")
    for label in host.mounts:
        assert refused(host, leaf_of(host, path, label)) == "kill-refused"


def test_a_directory_outside_of_the_trees_is_not_killed(tmp_path: Path) -> None:
    """A directory outside of the trees is refused, whatever its name or path."""
    host = Host(tmp_path, unified=True, v1=True)
    host.put_in(UNUSED_PID, LEAF)
    outside = tmp_path / LEAF
    outside.mkdir(parents=True)
    assert refused(host, Leaf(directory=outside)) == "kill-refused"
    inside = host.mounts[""] / LEAF
    (tmp_path / "link").symlink_to(inside)
    (inside.parent / "other").symlink_to(inside)
    for odd in (tmp_path / "link", inside.parent / "other", inside / ".." / ID, Path("/")):
        assert refused(host, Leaf(directory=odd)) == "kill-refused"


@pytest.mark.parametrize("generations", [0, 1, 2, 5])
def test_the_agent_and_its_ancestors_are_not_killed(tmp_path: Path, generations: int) -> None:
    """A group with the agent or an ancestor in it, or below it, is refused in any tree."""
    for number, below in enumerate(("", "/init.scope")):
        host = Host(tmp_path / str(number), unified=True, v1=True)
        lineage = [os.getpid(), *(UNUSED_PID + one for one in range(generations)), 1]
        for pid, parent in itertools.pairwise(lineage):
            host.put_in(pid, "system.slice/a.service", parent=parent)
        host.put_in(lineage[generations], f"{LEAF}{below}", parent=1)
        assert refused(host, leaf_of(host)) == "kill-refused"


@pytest.mark.parametrize("label", ["", "pids", "freezer", "name=systemd"])
def test_the_runtime_is_not_killed(tmp_path: Path, label: str) -> None:
    """A group with the runtime in it is refused, also when only one tree has it there."""
    host = Host(tmp_path, unified=True, v1=True)
    host.put_in(UNUSED_PID, LEAF)
    host.file(LEAF, label, "cgroup.procs").write_text(f"{UNUSED_PID}\n{UNUSED_PID + 1}\n")
    assert refused(host, leaf_of(host), UNUSED_PID + 1) == "kill-refused"


def test_a_kubelet_that_was_moved_here_is_not_killed(tmp_path: Path) -> None:
    """A kubelet that is in no pod in the other trees is the real one: the kill is refused."""
    host = Host(tmp_path, unified=True, v1=True)
    host.put_in(UNUSED_PID, LEAF)
    host.put_in(UNUSED_PID + 1, "system.slice/kubelet.service", name="kubelet")
    place = host.file(LEAF, "pids", "cgroup.procs")
    place.write_text(f"{UNUSED_PID}\n{UNUSED_PID + 1}\n")
    lines = (host.proc / str(UNUSED_PID + 1) / "cgroup").read_text()
    moved = lines.replace("pids:/system.slice/kubelet.service", f"pids:/{LEAF}")
    assert moved != lines
    (host.proc / str(UNUSED_PID + 1) / "cgroup").write_text(moved)
    assert refused(host, leaf_of(host)) == "kill-refused"


@pytest.mark.parametrize(("unified", "v1"), KINDS)
def test_a_container_that_calls_itself_kubelet_is_not_spared(
    tmp_path: Path, *, unified: bool, v1: bool
) -> None:
    """A process named kubelet that is in the pod's group in every tree does not stop the kill."""
    host = Host(tmp_path, unified=unified, v1=v1)
    host.put_in(UNUSED_PID, LEAF, name="kubelet")
    kernel = kernel_of(host)
    with pytest.raises(GateFailed) as caught:  # the files stand for no process and no kernel
        kernel.killer.kill(leaf_of(host))
    assert caught.value.stable_code == "kill-failed"


def test_a_container_in_fewer_trees_that_calls_itself_kubelet_is_not_spared(
    tmp_path: Path,
) -> None:
    """A process that moved to another group of its pod in one tree is still in the pod."""
    host = Host(tmp_path, unified=True, v1=True)
    host.put_in(UNUSED_PID, LEAF, name="kubelet")
    host.file(LEAF, "pids", "cgroup.procs").write_text("")
    lines = (host.proc / str(UNUSED_PID) / "cgroup").read_text()
    moved = lines.replace(f"pids:/{LEAF}", f"pids:/{POD}/x")
    assert moved != lines
    (host.proc / str(UNUSED_PID) / "cgroup").write_text(moved)
    with pytest.raises(GateFailed) as caught:
        kernel_of(host).killer.kill(leaf_of(host))
    assert caught.value.stable_code == "kill-failed"


def test_where_cgroup_kill_works_nothing_else_is_written(tmp_path: Path) -> None:
    """With cgroup.kill nothing else is written; here the file only records what is written."""
    host = Host(tmp_path, unified=True, v1=False)
    host.put_in(UNUSED_PID, LEAF)
    order = host.file(LEAF, "", "cgroup.kill")
    order.write_text("")
    kernel_of(host).killer.kill(leaf_of(host))  # the process id stays, as in state D
    assert order.read_text() == "1"
    assert kernel_of(host).groups.pids(leaf_of(host)) == (UNUSED_PID,)


def test_a_thaw_comes_whatever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen group is thawed also when signalling raises an error."""
    host = Host(tmp_path, unified=False, v1=True)
    host.put_in(UNUSED_PID, LEAF)
    host.group(f"{LEAF}/below")
    states = [host.file(path, "freezer", "freezer.state") for path in (LEAF, f"{LEAF}/below")]
    for state in states:
        state.write_text("FROZEN")
    seen: list[str] = []

    def interrupted(pid: int, flags: int = 0) -> int:
        seen.append(states[0].read_text())
        raise RuntimeError("interrupted")

    monkeypatch.setattr(os, "pidfd_open", interrupted)
    with pytest.raises(RuntimeError):
        kernel_of(host).killer.kill(leaf_of(host))
    assert seen == ["FROZEN"]
    assert [state.read_text() for state in states] == ["THAWED", "THAWED"]


def test_a_group_that_is_gone_is_killed_already(tmp_path: Path) -> None:
    """A kill of a group that is gone or empty succeeds."""
    host = Host(tmp_path, unified=True, v1=True)
    kernel = kernel_of(host)
    kernel.killer.kill(leaf_of(host))
    host.group(LEAF)
    kernel.killer.kill(leaf_of(host))


def test_a_group_that_cannot_be_read_is_not_killed(tmp_path: Path) -> None:
    """A group that cannot be read may contain the agent or the runtime, so it is not killed."""
    host = Host(tmp_path, unified=True, v1=False)
    host.group(LEAF)
    host.file(LEAF, "", "cgroup.procs").unlink()
    host.file(LEAF, "", "cgroup.procs").mkdir()
    assert refused(host, leaf_of(host)) == "kill-failed"
