# SPDX-License-Identifier: Apache-2.0
"""The lab's Kubernetes without one: reasons not to play, and how witnesses and logs are read.

The story itself is `make incident`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab import incident, kubernetes, kubernetes_node, kubernetes_texts
from lab.incident_watch import TICK_S, Watch
from lab.kubernetes_node import KubeNode
from lab.netns import Host

HELD, OTHER = "0a0a", "0b0b"
# What containerd 2.4.2 and 1.7.32 write, shortened in the ids.
CONTAINERD_2 = r"""
time="2026-11-21T07:23:53.50Z" level=info msg="RunPodSandbox for name:\"telemetry-vdtfb\" uid:\"1\" namespace:\"monitoring\""
time="2026-11-21T07:23:54.00Z" level=info msg="RunPodSandbox for name:\"telemetry-vdtfb\" uid:\"1\" namespace:\"monitoring\" returns sandbox id \"7\""
time="2026-11-21T07:23:54.25Z" level=info msg="CreateContainer within sandbox \"7\" for name:\"telemetry\" attempt:1 returns container id \"50ab\""
time="2026-11-21T07:23:54.50Z" level=info msg="StartContainer for \"50ab\""
time="2026-11-21T07:23:54.75Z" level=info msg="StartContainer for \"50ab\" returns successfully"
time="2026-11-21T07:23:55.00Z" level=info msg="RunPodSandbox for name:\"bystander-n8v5k\" uid:\"2\" namespace:\"monitoring\""
"""  # noqa: E501 - a log is as wide as it is
CONTAINERD_1_7 = r"""
time="2026-11-21T07:23:53.50Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:telemetry-zljjg,Uid:1,Namespace:monitoring,Attempt:0,}"
time="2026-11-21T07:23:54.00Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:telemetry-zljjg,Uid:1,Namespace:monitoring,Attempt:0,} returns sandbox id \"21\""
time="2026-11-21T07:23:54.25Z" level=info msg="CreateContainer within sandbox \"21\" for &ContainerMetadata{Name:telemetry,Attempt:1,} returns container id \"397a\""
time="2026-11-21T07:23:54.50Z" level=info msg="StartContainer for \"397a\""
time="2026-11-21T07:23:54.75Z" level=info msg="StartContainer for \"397a\" returns successfully"
time="2026-11-21T07:23:55.00Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:bystander-qk64n,Uid:2,Namespace:monitoring,Attempt:0,}"
"""  # noqa: E501
FIRST, SECOND = 1795245833.5, 1795245834.5


@pytest.fixture
def node(tmp_path: Path) -> KubeNode:
    """Return a node of which only the folder is there."""
    folder = tmp_path / "n1"
    kubernetes_node.prepare(folder)
    return KubeNode(
        host=Host(name="n1", address="192.0.2.11", holder=0),
        number=1,
        version="2",
        folder=folder,
        built=tmp_path,
        kubeconfig=tmp_path / "kubeconfig",
    )


@pytest.fixture
def old_go(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a machine with a Go too old, and nothing built."""
    program = tmp_path / "bin/go"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho go1.25.9\n")
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "BREAKGLASS_CACHE": str(tmp_path / "cache")}


def test_what_cannot_be_built_says_so_with_a_status_of_its_own(old_go: dict[str, str]) -> None:
    """Whoever calls it can tell "not here" from "went wrong"."""
    done = subprocess.run(
        [str(kubernetes.BUILD)], env=old_go, capture_output=True, text=True, check=False
    )
    assert done.returncode == 69
    assert done.stdout == ""
    wanted = "there is 1.25.9" if os.geteuid() == 0 else "needs root"
    assert wanted in done.stderr


def test_an_incident_that_cannot_be_played_is_no_failure_and_no_success(
    old_go: dict[str, str],
) -> None:
    """Exit 2, and the reason in plain words."""
    done = subprocess.run(
        [sys.executable, "-m", "lab.incident"],
        env=old_go,
        capture_output=True,
        text=True,
        check=False,
        cwd=kubernetes.BUILD.parent.parent.parent,
    )
    assert done.returncode == 2
    assert "incident not played: " in done.stderr


def test_the_folder_is_named_after_what_makes_it(tmp_path: Path) -> None:
    """The same sources mean the same folder, outside the tree."""
    environment = os.environ | {"BREAKGLASS_CACHE": str(tmp_path)}
    found = {
        subprocess.run(
            [str(kubernetes.BUILD), "--where"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    }
    assert len(found) == 1
    assert Path(found.pop().strip()).parent == tmp_path / "kubernetes"


@pytest.mark.parametrize(
    "arguments",
    [["--minutes", "-1"], ["--minutes", "61"], ["--minutes", "soon"], ["--backoff", "0"], ["all"]],
)
def test_arguments_that_make_no_sense_are_refused(arguments: list[str]) -> None:
    """Exit 2 before anything is started."""
    with pytest.raises(SystemExit) as ended:
        incident.main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize("log", [CONTAINERD_2, CONTAINERD_1_7], ids=["2", "1.7"])
def test_attempts_are_read_from_the_log_of_either_containerd(node: KubeNode, log: str) -> None:
    """A sandbox and a start were asked for; the answers and the neighbour's do not count."""
    node.containerd.log.write_text(log)
    found = [(one.what, one.at) for one in node.attempts("telemetry")]
    assert found == [("RunPodSandbox", FIRST), ("StartContainer", SECOND)]
    assert [one.at for one in node.attempts("telemetry", since=SECOND)] == [SECOND]


def test_code_that_runs_after_its_pod_was_stopped_is_counted(node: KubeNode) -> None:
    """A restart before the stop was seen done is one, too; another revision's lines are not."""
    written = f"1.0 tick {HELD}\n2.0 term {HELD}\n2.5 start {HELD}\n4.0 tick {OTHER}\n"
    (node.folder / "lib/witness/telemetry").write_text(written)
    watch = Watch(nodes=[node], approving=0.5, since=3.0, spared=frozenset({OTHER}))
    assert [line.at for line in watch.lines(node)] == [2.5]
    assert watch.leaked_ms() == TICK_S * 1000


def test_code_until_the_stop_was_seen_is_counted_by_the_stop_alone(node: KubeNode) -> None:
    """A witness that is killed writes no last line: then the stop begins when it was seen done."""
    (node.folder / "lib/witness/telemetry").write_text(f"1.0 tick {HELD}\n2.9 tick {HELD}\n")
    watch = Watch(nodes=[node], approving=0.5, since=3.0)
    assert watch.lines(node) == []


def test_what_is_left_of_a_cluster_is_named(tmp_path: Path) -> None:
    """A folder that is still there is no clean end."""
    assert kubernetes.left_behind(tmp_path / "gone") == []
    assert kubernetes.left_behind(tmp_path) == [f"folder {tmp_path}"]


def test_a_node_cannot_see_what_its_own_folders_hide() -> None:
    """It has a /run, a /var/lib and a /var/log of its own."""
    assert kubernetes_node.shadows(Path("/var/lib/tools/breakglass"))
    assert not kubernetes_node.shadows(Path("/srv/breakglass"))


def test_another_release_is_another_template() -> None:
    """Which is what makes the controller give its pods another revision."""
    assert kubernetes_texts.daemonset("x") != kubernetes_texts.daemonset("x", release=2)
