# SPDX-License-Identifier: Apache-2.0
"""The names of pods' and containers' groups, and paths in the trees."""

from pathlib import Path, PurePosixPath

import pytest

from breakglass.agent.kernel import hierarchy
from breakglass.agent.kernel.hierarchy import Hierarchies
from tests.support.fake_host import ID, STATIC_UID, UID, Host

SLICED = UID.replace("-", "_")


@pytest.mark.parametrize(
    ("name", "uid"),
    [
        (f"pod{UID}", UID),
        (f"pod{STATIC_UID}", STATIC_UID),
        (f"kubepods-pod{SLICED}.slice", UID),
        (f"kubepods-besteffort-pod{SLICED}.slice", UID),
        (f"a_b-kubepods-burstable-pod{STATIC_UID}.slice", STATIC_UID),
        (f"pod{SLICED}", None),
        (f"pod{UID}.slice", None),
        (f"-pod{SLICED}.slice", None),
        (f"--force-pod{SLICED}.slice", None),
        (f"kubepods-pod{UID}.slice", None),
        (f"kubepods-pod{SLICED}.slice\n", None),
        (f"kube pods-pod{SLICED}.slice", None),
        (f"kubepods-pod{SLICED}.scope", None),
        (f"pod{UID.upper()}", None),
        (f"pod{UID}\n", None),
        (f"pod{UID}x", None),
        (f"pod{UID[:-1]}", None),
        (f"xpod{UID}", None),
        (f"pod{STATIC_UID}0", None),
        ("pod", None),
        ("", None),
    ],
)
def test_a_name_is_a_pods_when_it_is_its_whole_uid(name: str, uid: str | None) -> None:
    """Nothing may stand before or after the UID, which is in lower case as Kubernetes writes it."""
    assert hierarchy.pod_uid_of(name) == uid


@pytest.mark.parametrize(
    ("name", "container_id"),
    [
        (ID, ID),
        (f"cri-containerd-{ID}.scope", ID),
        (f"crio-{ID}.scope", ID),
        (f"docker-{ID}.scope", ID),
        (f"crio-conmon-{ID}.scope", None),
        (f"{ID}.slice", None),
        (f"{ID}0", None),
        (ID[:-1], None),
        (ID.upper(), None),
        (f"CRIO-{ID}.scope", None),
        ("init.scope", None),
    ],
)
def test_a_containers_name_is_its_whole_id(name: str, container_id: str | None) -> None:
    """The cgroupfs driver uses the bare id, systemd a scope; CRI-O's monitor is no container."""
    assert hierarchy.container_id_of(name) == container_id


def test_a_path_is_below_the_mount_it_says(tmp_path: Path) -> None:
    """A path with a symlink or ".." in it is in no tree."""
    host = Host(tmp_path, unified=True, v1=True)
    host.group(f"kubepods/pod{UID}")
    trees = Hierarchies(host.proc, host.proc / "self" / "mountinfo")
    place = host.mounts["pids"] / f"kubepods/pod{UID}"
    assert trees.path_of(place) == PurePosixPath(f"kubepods/pod{UID}")
    assert trees.path_of(place / ".." / f"pod{UID}") is None
    assert trees.path_of(tmp_path) is None
    (tmp_path / "link").symlink_to(place)
    assert trees.path_of(tmp_path / "link") is None
    assert trees.path_of(host.mounts["pids"]) == PurePosixPath()
