# SPDX-License-Identifier: Apache-2.0
"""Containers' groups and processes, in trees of cgroup v1, v2 and hybrid hosts."""

import os
from pathlib import Path

import pytest

from breakglass.agent.kernel.hierarchy import Hierarchies
from breakglass.agent.kernel.host import host_kernel
from breakglass.agent.kernel.port import Leaf
from tests.support.fake_host import ID, PID, UID, Host

OTHER = "f" + ID[1:]
POD = f"/kubepods/besteffort/pod{UID}"
SLICED = UID.replace("-", "_")
SLICE = f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{SLICED}.slice"
KINDS = [(True, False), (False, True), (True, True)]


@pytest.mark.parametrize(("unified", "v1"), KINDS)
@pytest.mark.parametrize(
    "group",
    [
        f"{POD}/{ID}",
        f"{SLICE}/cri-containerd-{ID}.scope",
        f"{SLICE}/crio-{ID}.scope",
        f"/k8s.io/{ID}",
    ],
)
def test_a_containers_group_is_found_on_every_kind_of_host(
    tmp_path: Path, group: str, *, unified: bool, v1: bool
) -> None:
    """Both drivers' names, containerd's and CRI-O's, are found on v1, v2 and hybrid hosts."""
    host = Host(tmp_path, unified=unified, v1=v1)
    host.put_in(PID, group)
    kernel = host.kernel()
    leaf = kernel.groups.leaf_of(PID, ID)
    assert leaf is not None
    assert kernel.groups.pids(leaf) == (PID,)
    expected = host.mounts["" if unified else "pids"]
    assert leaf.directory == expected / group.strip("/") or not unified


@pytest.mark.parametrize(("unified", "v1"), KINDS)
def test_the_containers_of_a_pod_are_listed(tmp_path: Path, *, unified: bool, v1: bool) -> None:
    """Names of both drivers are listed once each; CRI-O's monitors and other names are left out."""
    for number, pod in enumerate((POD, SLICE)):
        host = Host(tmp_path / str(number), unified=unified, v1=v1)
        group = host.pod(pod)
        scope = pod == SLICE
        for one in (ID, OTHER):
            host.group(f"{pod}/cri-containerd-{one}.scope" if scope else f"{pod}/{one}")
        for odd in (f"crio-conmon-{ID[:-1]}0.scope", "init.scope", ID[:12], f"{ID}x", "bg-probe"):
            host.group(f"{pod}/{odd}")
        leaves = host.kernel().groups.leaves(group)
        assert [leaf.container_id for leaf in leaves] == [ID, OTHER]
        assert {leaf.directory.parent for leaf in leaves} == {group.trees[0][1]}


def test_a_container_that_is_only_in_a_v1_tree_is_listed(tmp_path: Path) -> None:
    """A container that the cgroup2 tree refused may still have groups in the v1 trees."""
    host = Host(tmp_path, unified=True, v1=True)
    group = host.pod(POD)
    host.group(f"{POD}/{ID}", trees=("pids", "freezer"))
    (leaf,) = host.kernel().groups.leaves(group)
    assert leaf.directory == host.mounts["pids"] / POD.strip("/") / ID


def test_processes_are_those_of_all_trees(tmp_path: Path) -> None:
    """A process that left the group in one tree is still found in the others, and listed once."""
    host = Host(tmp_path, unified=True, v1=True)
    host.put_in(PID, f"{POD}/{ID}")
    host.put_in(PID + 1, f"{POD}/{ID}")
    host.file(f"{POD}/{ID}", "", "cgroup.procs").write_text(f"{PID}\n")
    kernel = host.kernel()
    leaf = kernel.groups.leaf_of(PID, ID)
    assert leaf is not None
    assert kernel.groups.pids(leaf) == (PID, PID + 1)


def test_processes_in_groups_below_are_the_containers_too(tmp_path: Path) -> None:
    """A container with an init system moves its own processes into groups below its own."""
    host = Host(tmp_path, unified=True, v1=False)
    host.put_in(PID, f"{POD}/{ID}/init.scope")
    host.put_in(PID + 1, f"{POD}/{ID}/system.slice/x.service")
    kernel = host.kernel()
    leaf = kernel.groups.leaf_of(PID, ID)
    assert leaf is not None
    assert leaf.directory.name == ID
    assert sorted(kernel.groups.pids(leaf)) == [PID, PID + 1]


@pytest.mark.parametrize(
    "group", ["/", POD, f"{POD}/{OTHER}", f"{POD}/{ID}0", f"{POD}/a{ID}", f"{POD}/{ID[:12]}"]
)
def test_a_process_of_another_container_gives_no_group(tmp_path: Path, group: str) -> None:
    """The path must have the full container id: the process id may have been reused."""
    host = Host(tmp_path, unified=True, v1=True)
    host.put_in(PID, group if group != "/" else "/x")
    (host.proc / str(PID) / "cgroup").write_text(f"0::{group}\n5:pids:{group}\n")
    assert host.kernel().groups.leaf_of(PID, ID) is None


def test_a_process_that_is_gone_gives_no_group(tmp_path: Path) -> None:
    """A container whose process has ended gives no group."""
    assert Host(tmp_path, unified=True, v1=False).kernel().groups.leaf_of(PID, ID) is None


def test_a_group_that_is_gone_has_no_processes(tmp_path: Path) -> None:
    """The kernel removes no group with processes in it, so a missing group has none."""
    host = Host(tmp_path, unified=True, v1=False)
    assert host.kernel().groups.pids(Leaf(directory=host.mounts[""] / "gone")) == ()


def test_a_group_that_is_gone_already_is_no_leaf(tmp_path: Path) -> None:
    """A group that /proc names and whose directory was removed since is not returned."""
    host = Host(tmp_path, unified=True, v1=False)
    (host.proc / str(PID)).mkdir()
    (host.proc / str(PID) / "cgroup").write_text(f"0::{POD}/{ID}\n")
    assert host.kernel().groups.leaf_of(PID, ID) is None


def test_a_mount_of_a_part_of_the_tree_is_followed(tmp_path: Path) -> None:
    """A mount of a part of a tree gives the groups below its root, and no others."""
    host = Host(tmp_path, unified=True, v1=False, top="/machine")
    host.group(f"{POD}/{ID}")
    (host.proc / str(PID)).mkdir()
    line = host.proc / str(PID) / "cgroup"
    line.write_text(f"0::/machine{POD}/{ID}\n")
    leaf = host.kernel().groups.leaf_of(PID, ID)
    assert leaf == Leaf(directory=host.mounts[""] / POD.strip("/") / ID, container_id=ID)
    line.write_text(f"0::{POD}/{ID}\n")
    assert host.kernel().groups.leaf_of(PID, ID) is None


def test_a_host_without_proc_shows_nothing(tmp_path: Path) -> None:
    """A host without mounts gives no groups and no error."""
    kernel = host_kernel(tmp_path / "nowhere")
    assert kernel.groups.leaf_of(1, ID) is None
    assert not kernel.groups.pod_groups()
    assert not kernel.groups.parents()
    assert kernel.groups.pod_group(UID) is kernel.groups.pod_group(UID, POD) is None


def test_a_group_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A group that cannot be read raises: the caller must not take it for empty."""
    (tmp_path / "cgroup.procs").mkdir()
    with pytest.raises(OSError, match="directory"):
        host_kernel(tmp_path).groups.pids(Leaf(directory=tmp_path))


@pytest.mark.parametrize(
    ("stat", "described"),
    [
        ("4242 (fsync) D 1 2", "4242 D fsync"),
        ("4242 (a) R) (b) Z 1 2", "4242 Z a) R) (b"),
        ("4242 (a\x1b[2J) S 1", "4242 S a?[2J"),
        (None, "4242 gone"),
    ],
)
def test_a_process_is_described_by_state_and_name(
    tmp_path: Path, stat: str | None, described: str
) -> None:
    """A process chooses its own name, so its unprintable characters are replaced."""
    host = Host(tmp_path, unified=True, v1=False)
    if stat is not None:
        (host.proc / str(PID)).mkdir()
        (host.proc / str(PID) / "stat").write_text(stat)
    assert host.kernel().killer.describe(PID) == described


def test_this_machine_can_be_read() -> None:
    """On this machine's real /proc, mounts are parsed and no group has the made-up container id."""
    kernel = host_kernel()
    assert Hierarchies(Path("/proc"), Path("/proc/self/mountinfo")).trees
    assert kernel.groups.leaf_of(os.getpid(), ID) is None
    assert kernel.killer.describe(os.getpid()).startswith(f"{os.getpid()} R ")
