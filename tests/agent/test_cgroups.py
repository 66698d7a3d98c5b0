# SPDX-License-Identifier: Apache-2.0
"""The kernel's look, over trees as cgroup v1, v2 and hybrid hosts show them, and this machine's."""

import errno
import os
from pathlib import Path, PosixPath

import pytest

from breakglass.agent.cgroups import CgroupKernel
from breakglass.agent.kernel import Leaf

ID = "0123456789abcdef" * 4
OTHER = "f" + ID[1:]
POD = "/kubepods/besteffort/pod12345678-1234-1234-1234-123456789abc"
SLICE = "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice"
PID = 4242


class Host:
    """A /proc and control-group filesystems in a folder."""

    def __init__(self, root: Path, *, unified: bool, v1: bool, top: str = "/") -> None:
        self.root = root
        self.proc = root / "proc"
        (self.proc / "self").mkdir(parents=True)
        lines = ["22 1 0:21 / /proc rw - proc proc rw"]
        self.mounts = {}
        if v1:
            self.mounts["pids"] = root / "sys" / "pids"
            self.mounts["name=systemd"] = root / "sys" / "systemd"
            lines += [
                f"30 1 0:26 {top} {self.mounts['pids']} rw shared:9 - cgroup cgroup rw,pids",
                f"31 1 0:27 {top} {self.mounts['name=systemd']} rw - cgroup none"
                " rw,xattr,release_agent=/x,name=systemd",
            ]
        if unified:
            self.mounts[""] = root / "sys" / "unified"
            lines.append(f"32 1 0:28 {top} {self.mounts['']} rw shared:11 - cgroup2 cgroup2 rw")
        (self.proc / "self" / "mountinfo").write_text("\n".join(lines) + "\n")

    def process(self, pid: int, path: str) -> None:
        """Let a process be in a group, in every hierarchy."""
        lines = []
        for number, (controllers, mount) in enumerate(self.mounts.items(), 1):
            shown = 0 if not controllers else number
            lines.append(f"{shown}:{controllers}:{path}")
            directory = mount / path.strip("/")
            directory.mkdir(parents=True, exist_ok=True)
            for parent in (directory, *directory.relative_to(mount).parents):
                (mount / parent / "cgroup.procs").touch()
            with (directory / "cgroup.procs").open("a") as procs:
                procs.write(f"{pid}\n")
        (self.proc / str(pid)).mkdir()
        (self.proc / str(pid) / "cgroup").write_text("\n".join(lines) + "\n")

    def kernel(self) -> CgroupKernel:
        """Return the kernel as the agent sees it here."""
        return CgroupKernel(self.proc)


@pytest.mark.parametrize(("unified", "v1"), [(True, False), (False, True), (True, True)])
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
    """Names by cgroupfs and by systemd, containerd and CRI-O, v1, v2 and hybrid."""
    host = Host(tmp_path, unified=unified, v1=v1)
    host.process(PID, group)
    kernel = host.kernel()
    leaf = kernel.leaf_of(PID, ID)
    assert leaf is not None
    assert kernel.pids(leaf) == (PID,)
    expected = host.mounts["" if unified else "name=systemd"]
    assert leaf.directory == expected / group.strip("/") or not unified


def test_processes_in_groups_below_are_the_containers_too(tmp_path: Path) -> None:
    """A container that runs an init system moves its own processes further down."""
    host = Host(tmp_path, unified=True, v1=False)
    host.process(PID, f"{POD}/{ID}/init.scope")
    host.process(PID + 1, f"{POD}/{ID}/system.slice/x.service")
    (host.mounts[""] / POD.strip("/") / ID / "cgroup.procs").write_text("")
    kernel = host.kernel()
    leaf = kernel.leaf_of(PID, ID)
    assert leaf is not None
    assert leaf.directory.name == ID
    assert sorted(kernel.pids(leaf)) == [PID, PID + 1]


@pytest.mark.parametrize(
    "group", ["/", POD, f"{POD}/{OTHER}", f"{POD}/{ID}0", f"{POD}/a{ID}", f"{POD}/{ID[:12]}"]
)
def test_a_process_of_somebody_else_gives_no_group(tmp_path: Path, group: str) -> None:
    """The full id must stand in the path: a process id may have been given away meanwhile."""
    host = Host(tmp_path, unified=True, v1=True)
    host.process(PID, group)
    assert host.kernel().leaf_of(PID, ID) is None


def test_a_process_that_is_gone_gives_no_group(tmp_path: Path) -> None:
    """Nothing is claimed of a container whose process could not be looked up."""
    assert Host(tmp_path, unified=True, v1=False).kernel().leaf_of(PID, ID) is None


def test_a_group_that_is_gone_has_no_processes(tmp_path: Path) -> None:
    """The leaf is removed with its last process, which is what gone looks like."""
    host = Host(tmp_path, unified=True, v1=False)
    kernel = host.kernel()
    assert kernel.pids(Leaf(directory=host.mounts[""] / "gone")) == ()


def test_a_group_that_is_gone_already_is_no_leaf(tmp_path: Path) -> None:
    """/proc may tell of a group whose directory was removed since."""
    host = Host(tmp_path, unified=True, v1=False)
    host.process(PID, f"{POD}/{ID}")
    directory = host.mounts[""] / POD.strip("/") / ID
    (directory / "cgroup.procs").unlink()
    directory.rmdir()
    assert host.kernel().leaf_of(PID, ID) is None


def test_a_mount_of_a_part_of_the_tree_is_followed(tmp_path: Path) -> None:
    """Where a hierarchy is seen from below its root, paths outside of it are not found."""
    host = Host(tmp_path, unified=True, v1=False, top="/machine")
    host.process(PID, f"/machine{POD}/{ID}")
    seen = host.mounts[""] / POD.strip("/") / ID
    seen.mkdir(parents=True)
    leaf = host.kernel().leaf_of(PID, ID)
    assert leaf == Leaf(directory=seen, container_id=ID)
    host.process(PID + 1, f"{POD}/{ID}")
    assert host.kernel().leaf_of(PID + 1, ID) is None


def test_a_host_without_proc_shows_nothing(tmp_path: Path) -> None:
    """No mounts, no groups, and no error."""
    assert CgroupKernel(tmp_path / "nowhere").leaf_of(1, ID) is None


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EOPNOTSUPP])
def test_a_group_that_is_just_going_or_threaded_counts_for_nothing(
    tmp_path: Path, number: int
) -> None:
    """Both answers of the kernel mean that no process is told here."""

    class Odd(PosixPath):  # whose files answer like cgroupfs
        def read_text(self, *_: object, **__: object) -> str:
            raise OSError(number, "as the kernel says it")

    assert CgroupKernel(tmp_path).pids(Leaf(directory=Odd(tmp_path))) == ()


def test_a_group_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Unreadable is not empty: whoever asks must not take it for gone."""
    (tmp_path / "cgroup.procs").mkdir()
    with pytest.raises(OSError, match="directory"):
        CgroupKernel(tmp_path).pids(Leaf(directory=tmp_path))


def test_this_machine_can_be_read() -> None:
    """The real /proc has no group for us by that name, and its mounts are understood."""
    kernel = CgroupKernel()
    assert kernel._hierarchies.trees
    assert kernel.leaf_of(os.getpid(), ID) is None
