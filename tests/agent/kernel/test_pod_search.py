# SPDX-License-Identifier: Apache-2.0
"""Where pods' groups are found, in trees of every kind, and what is never taken for one."""

import os
from pathlib import Path

import pytest

from breakglass.agent.kernel import pod_search
from breakglass.core.gates import Layout
from breakglass.errors import GateFailed
from tests.support.fake_host import ID, STATIC_UID, UID, Host

SLICED = UID.replace("-", "_")
OTHER = "99999999" + UID[8:]
KINDS = {
    "v2": (True, False, Layout.UNIFIED),
    "v1": (False, True, Layout.LEGACY),
    "hybrid": (True, True, Layout.HYBRID),
}
# One pod of each class, by each driver, below the root of the trees and below others.
PATHS = [
    f"kubepods/pod{UID}",
    f"kubepods/besteffort/pod{UID}",
    f"kubepods/burstable/pod{STATIC_UID}",
    f"ks-n1/kubepods/besteffort/pod{UID}",
    f"a/b/c/kubepods/burstable/pod{UID}",
    f"kubepods.slice/kubepods-pod{SLICED}.slice",
    f"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{SLICED}.slice",
    f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{STATIC_UID}.slice",
    f"ks_n1.slice/ks_n1-kubepods.slice/ks_n1-kubepods-besteffort.slice"
    f"/ks_n1-kubepods-besteffort-pod{SLICED}.slice",
    f"system.slice/box.service/kubepods/besteffort/pod{UID}",
]


def host_of(kind: str, root: Path) -> Host:
    """Return a machine with trees of this kind."""
    unified, v1, _ = KINDS[kind]
    return Host(root, unified=unified, v1=v1)


def code_of(refused: pytest.ExceptionInfo[GateFailed]) -> str:
    """Return the stable code of an error."""
    return refused.value.stable_code


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", PATHS)
def test_a_pod_is_found_wherever_kubelets_root_is(tmp_path: Path, kind: str, path: str) -> None:
    """A pod of any class, driver and root is found by looking, by UID and by hint."""
    host = host_of(kind, tmp_path)
    host.group(path)
    kernel = host.kernel()
    (found,) = kernel.groups.pod_groups()
    assert found.uid == (STATIC_UID if STATIC_UID in path else UID)
    assert found.path == path
    assert found.layout is KINDS[kind][2]
    assert found.is_slice == path.endswith(".slice")
    assert dict(found.trees) == {label: mount / path for label, mount in host.mounts.items()}
    assert found.inode == found.trees[0][1].stat().st_ino
    for looker in (kernel.groups, host.kernel().groups):
        assert looker.pod_group(found.uid) == found
        assert looker.pod_group(found.uid, f"/{path}") == found
        assert looker.pod_group(found.uid, path) == found
    assert {place.parent for _, place in found.trees} & set(kernel.groups.parents())


def test_a_slice_may_be_given_by_its_name_alone(tmp_path: Path) -> None:
    """Under systemd a runtime may give a slice's name alone: each dash is one level of its path."""
    host = host_of("v2", tmp_path)
    path = next(path for path in PATHS if "burstable-pod" in path)
    host.group(path)
    found = host.kernel().groups.pod_group(STATIC_UID, path.rpartition("/")[2])
    assert found is not None
    assert found.path == path


@pytest.mark.parametrize(
    "hint",
    [
        f"/kubepods/pod{OTHER}",
        f"/kubepods/pod{UID}/{ID}",
        f"/kubepods/pod{OTHER}/{ID}/kubepods/pod{UID}",
        f"/kubepods/../kubepods/pod{UID}",
        f"/kubepods/pod{UID}/..",
        f"/kubepods/pod{UID}\0",
        f"/kubepods/{UID}",
        f"kubepods-pod{OTHER.replace('-', '_')}.slice",
        "/",
        "/kubepods",
        "..",
    ],
)
def test_a_hint_that_is_not_this_pods_is_refused(tmp_path: Path, hint: str) -> None:
    """A hint that names another group, or one below another pod, is refused."""
    host = host_of("hybrid", tmp_path)
    host.group(f"kubepods/pod{OTHER}/{ID}/kubepods/pod{UID}")
    host.group(f"kubepods/pod{UID}/{ID}")
    with pytest.raises(GateFailed) as refused:
        host.kernel().groups.pod_group(UID, hint)
    assert code_of(refused) == "cgroup-mismatch"


def test_a_uid_that_is_none_has_no_group(tmp_path: Path) -> None:
    """The runtime may give any text as a UID; text of another form is never made into a path."""
    host = host_of("hybrid", tmp_path)
    host.group("kubepods/podx")
    host.group("kubepods/besteffort")
    kernel = host.kernel()
    for odd in ("x", "", "../besteffort", "*"):
        assert kernel.groups.pod_group(odd) is None
    with pytest.raises(GateFailed):
        kernel.groups.pod_group("x", "/kubepods/podx")


def test_nothing_that_a_container_makes_is_taken_for_a_pod(tmp_path: Path) -> None:
    """A container that may make groups inside its own can give them any name."""
    host = host_of("hybrid", tmp_path)
    own = f"kubepods/besteffort/pod{UID}"
    host.group(f"{own}/pod{OTHER}")
    host.group(f"{own}/{ID}/kubepods/besteffort/pod{OTHER}")
    host.group(f"docker/{ID}/kubepods/pod{OTHER}")
    host.group(f"system.slice/docker-{ID}.scope/kubepods/pod{OTHER}")
    kernel = host.kernel()
    assert [found.uid for found in kernel.groups.pod_groups()] == [UID]
    assert kernel.groups.pod_group(OTHER) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a group of another user")
def test_nothing_in_a_tree_of_a_user_is_taken_for_a_pod(tmp_path: Path) -> None:
    """A user has a part of the tree, delegated by systemd, and can give groups there any name."""
    host = host_of("v2", tmp_path)
    host.pod(f"kubepods/besteffort/pod{UID}")
    theirs = "user.slice/user-1000.slice/user@1000.service"
    for uid in (UID, OTHER):
        host.group(f"{theirs}/kubepods/pod{uid}")
    for place in (host.mounts[""] / theirs).rglob("*"):
        os.chown(place, 1000, 1000)
    os.chown(host.mounts[""] / theirs, 1000, 1000)
    kernel = host.kernel()
    assert [found.path for found in kernel.groups.pod_groups()] == [f"kubepods/besteffort/pod{UID}"]
    assert kernel.groups.pod_group(OTHER) is None
    assert not any("user.slice" in parent.parts for parent in kernel.groups.parents())


def test_links_and_files_are_no_groups(tmp_path: Path) -> None:
    """A symlink or a file with a pod's name is not a group."""
    host = host_of("v2", tmp_path)
    host.group(f"elsewhere/pod{UID}")
    host.group("kubepods/besteffort")
    parent = host.mounts[""] / "kubepods/besteffort"
    (parent / f"pod{UID}").symlink_to(host.mounts[""] / f"elsewhere/pod{UID}")
    (parent / f"pod{OTHER}").touch()
    (host.mounts[""] / "linked").symlink_to(host.mounts[""] / "kubepods")
    kernel = host.kernel()
    assert kernel.groups.pod_groups() == ()
    assert kernel.groups.pod_group(UID) is kernel.groups.pod_group(OTHER) is None
    assert kernel.groups.pod_group(UID, f"/kubepods/besteffort/pod{UID}") is None


def test_a_slice_in_a_slice_of_another_name_is_no_pods(tmp_path: Path) -> None:
    """A slice's name begins with its parent's, so a slice with another name is not a pod's."""
    host = host_of("v2", tmp_path)
    host.group(f"kubepods.slice/kubepods-besteffort.slice/kubepods-pod{SLICED}.slice")
    host.group(f"kubepods.slice/pod{OTHER}")
    assert host.kernel().groups.pod_groups() == ()


def test_a_pod_that_is_being_made_is_looked_at_again(tmp_path: Path) -> None:
    """A group in only some trees is not cached, because kubelet makes the groups tree by tree."""
    host = host_of("hybrid", tmp_path)
    path = f"kubepods/besteffort/pod{UID}"
    host.group("kubepods/besteffort")
    kernel = host.kernel()
    host.group(path, trees=("pids",))
    (early,) = kernel.groups.pod_groups()
    assert early.layout is Layout.LEGACY
    host.group(path)
    (whole,) = kernel.groups.pod_groups()
    assert whole.layout is Layout.HYBRID
    assert whole.inode == whole.trees[0][1].stat().st_ino
    assert kernel.groups.pod_groups() == (whole,)


def test_a_pod_that_was_made_again_is_seen(tmp_path: Path) -> None:
    """A directory with the same name and another inode is a new group, with limits of its own."""
    host = host_of("hybrid", tmp_path)
    path = f"kubepods/besteffort/pod{UID}"
    first = host.pod(path)
    kernel = host.kernel()
    assert kernel.groups.pod_groups() == (first,)
    for place in host.mounts.values():
        (place / path).rename(place / f"old-{UID}")  # keeps the inode in use, so it is not reused
    assert kernel.groups.pod_groups() == ()
    host.group(path)
    (second,) = kernel.groups.pod_groups()
    assert second.inode != first.inode
    assert second.path == first.path


def test_parents_are_remembered_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look lists the known parents; it walks only at first and at every 30th look."""
    host = host_of("hybrid", tmp_path)
    host.group(f"kubepods/burstable/pod{UID}")
    host.group("kubepods/besteffort")
    kernel = host.kernel()
    listed: list[str] = []
    scandir = os.scandir

    def counting(path: Path) -> "os._ScandirIterator[str]":
        listed.append(str(path))
        return scandir(str(path))

    monkeypatch.setattr(os, "scandir", counting)
    assert len(kernel.groups.pod_groups()) == 1
    listed.clear()
    assert len(kernel.groups.pod_groups()) == 1
    places = [f"kubepods{below}" for below in ("", "/besteffort", "/burstable")]
    trees = [host.mounts["pids"], host.mounts[""]]  # the tree with the pods, and that of the inodes
    assert listed == [str(tree / place) for place in places for tree in trees]

    host.group(f"new/kubepods/pod{OTHER}")
    for _ in range(pod_search._LOOKS_PER_WALK):
        kernel.groups.pod_groups()
    assert {found.uid for found in kernel.groups.pod_groups()} == {UID, OTHER}


def test_a_parent_that_only_the_runtime_knew_is_learned(tmp_path: Path) -> None:
    """A pod without "kubepods" in its path is found by the hint, then other pods beside it."""
    host = host_of("v2", tmp_path)
    host.group(f"odd/pod{UID}")
    host.group(f"odd/pod{OTHER}")
    kernel = host.kernel()
    assert kernel.groups.pod_groups() == ()
    assert kernel.groups.pod_group(UID, f"/odd/pod{UID}") is not None
    assert {found.uid for found in kernel.groups.pod_groups()} == {UID, OTHER}
    assert kernel.groups.parents() == (host.mounts[""] / "odd",)
    assert kernel.groups.pod_group(OTHER) is not None


def test_what_has_vanished_is_forgotten(tmp_path: Path) -> None:
    """A root that kubelet no longer uses is dropped once the walk finds another one."""
    host = host_of("v2", tmp_path)
    host.group(f"kubepods/pod{UID}")
    kernel = host.kernel()
    assert len(kernel.groups.pod_groups()) == 1
    (host.mounts[""] / "kubepods").rename(host.mounts[""] / "gone")
    host.group(f"root/kubepods/pod{OTHER}")
    seen: set[str] = set()
    for _ in range(pod_search._LOOKS_PER_WALK):
        seen |= {found.uid for found in kernel.groups.pod_groups()}
    assert OTHER in seen
    assert [found.uid for found in kernel.groups.pod_groups()] == [OTHER]


def test_a_walk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the depth nor the number of other groups makes a walk long."""
    host = host_of("v2", tmp_path)
    deep = "/".join("d" * (pod_search._MAX_DEPTH + 2))
    host.group(f"{deep}/kubepods/pod{UID}")
    assert host.kernel().groups.pod_groups() == ()
    for number in range(9):
        host.group(f"{number}/x")
    host.group(f"zz/zz/kubepods/pod{UID}")
    monkeypatch.setattr(pod_search, "_MAX_WALKED", 9)
    assert host.kernel().groups.pod_groups() == ()


def test_pods_beyond_all_reason_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One look keeps a bounded number of groups."""
    host = host_of("v2", tmp_path)
    for number in range(5):
        host.group(f"kubepods/pod{number}{UID[1:]}")
    monkeypatch.setattr(pod_search, "_MAX_POD_GROUPS", 3)
    assert len(host.kernel().groups.pod_groups()) == 3
