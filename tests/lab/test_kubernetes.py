# SPDX-License-Identifier: Apache-2.0
"""The lab's Kubernetes without a cluster: when it cannot be built, how nodes' files are parsed."""

import os
import subprocess
from pathlib import Path

import pytest

from lab.kubernetes import cluster, programs, texts
from lab.kubernetes.node import shadows
from tests.support.kubernetes import node_of_files, old_go

# Log lines of containerd 2.4.2 and 1.7.32, with shortened ids.
CONTAINERD_2 = r"""
time="2026-11-21T07:23:53.50Z" level=info msg="RunPodSandbox for name:\"telemetry-vdtfb\" uid:\"1\" namespace:\"monitoring\""
time="2026-11-21T07:23:54.00Z" level=info msg="RunPodSandbox for name:\"telemetry-vdtfb\" uid:\"1\" namespace:\"monitoring\" returns sandbox id \"7\""
time="2026-11-21T07:23:54.25Z" level=info msg="CreateContainer within sandbox \"7\" for name:\"telemetry\" attempt:1 returns container id \"50ab\""
time="2026-11-21T07:23:54.50Z" level=info msg="StartContainer for \"50ab\""
time="2026-11-21T07:23:54.75Z" level=info msg="StartContainer for \"50ab\" returns successfully"
time="2026-11-21T07:23:55.00Z" level=info msg="RunPodSandbox for name:\"bystander-n8v5k\" uid:\"2\" namespace:\"monitoring\""
"""  # noqa: E501 - log lines are long
CONTAINERD_1_7 = r"""
time="2026-11-21T07:23:53.50Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:telemetry-zljjg,Uid:1,Namespace:monitoring,Attempt:0,}"
time="2026-11-21T07:23:54.00Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:telemetry-zljjg,Uid:1,Namespace:monitoring,Attempt:0,} returns sandbox id \"21\""
time="2026-11-21T07:23:54.25Z" level=info msg="CreateContainer within sandbox \"21\" for &ContainerMetadata{Name:telemetry,Attempt:1,} returns container id \"397a\""
time="2026-11-21T07:23:54.50Z" level=info msg="StartContainer for \"397a\""
time="2026-11-21T07:23:54.75Z" level=info msg="StartContainer for \"397a\" returns successfully"
time="2026-11-21T07:23:55.00Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:bystander-qk64n,Uid:2,Namespace:monitoring,Attempt:0,}"
"""  # noqa: E501
FIRST, SECOND = 1795245833.5, 1795245834.5


def test_a_build_that_lacks_something_has_its_own_exit_status(tmp_path: Path) -> None:
    """The caller can tell "cannot be built here" (69) from "the build failed"."""
    done = subprocess.run(
        [str(programs.BUILD)], env=old_go(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 69
    assert done.stdout == ""
    wanted = "there is 1.25.9" if os.geteuid() == 0 else "needs root"
    assert wanted in done.stderr


def test_the_folder_is_named_by_the_hash_of_its_sources(tmp_path: Path) -> None:
    """The same sources give the same folder, outside the repository."""
    environment = os.environ | {"BREAKGLASS_CACHE": str(tmp_path)}
    found = {
        subprocess.run(
            [str(programs.BUILD), "--where"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    }
    assert len(found) == 1
    assert Path(found.pop().strip()).parent == tmp_path / "kubernetes"


@pytest.mark.parametrize("log", [CONTAINERD_2, CONTAINERD_1_7], ids=["2", "1.7"])
def test_attempts_are_read_from_the_log_of_either_containerd(tmp_path: Path, log: str) -> None:
    """Requests for a sandbox and a start count; answers and other pods' requests do not."""
    node = node_of_files(tmp_path)
    node.containerd.log.write_text(log)
    found = [(one.what, one.at) for one in node.attempts("telemetry")]
    assert found == [("RunPodSandbox", FIRST), ("StartContainer", SECOND)]
    assert [one.at for one in node.attempts("telemetry", since=SECOND)] == [SECOND]


def test_what_a_cluster_left_behind_is_named(tmp_path: Path) -> None:
    """A folder that still exists is not a clean end."""
    assert cluster.left_behind(tmp_path / "gone") == []
    assert cluster.left_behind(tmp_path) == [f"folder {tmp_path}"]


def test_a_node_cannot_see_what_its_own_folders_hide() -> None:
    """A node has its own /run, /var/lib and /var/log."""
    assert shadows(Path("/var/lib/tools/breakglass"))
    assert not shadows(Path("/srv/breakglass"))


def test_another_release_is_another_template() -> None:
    """The changed template makes the controller give its pods another revision."""
    assert texts.daemonset("x") != texts.daemonset("x", release=2)
