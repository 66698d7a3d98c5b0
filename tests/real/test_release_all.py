# SPDX-License-Identifier: Apache-2.0
"""Opening every gate on a node as root, by `release-all` and by shell commands, with real pods.

Both open every gate that they find.  So the program sees only this lab's pods
(`tests.support.own_pods`), and the shell sees only this lab's control groups.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from breakglass.core.hold_entries import GateLifted, HoldEnded
from lab import leftovers
from lab.containerd import Containerd
from tests.support import own_pods, real_node
from tests.support.played_kubelet import TASKS, PlayedPod, until
from tests.support.real_node import WORKLOAD, RealNode, witnessing

_WHY_NOT = real_node.why_not()
pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT or "it can")]

OPEN, SHUT = ("max", TASKS), ("0", "0")
RUNBOOK = Path(__file__).parents[2] / "docs" / "runbooks" / "let-go.md"


@pytest.fixture(scope="module")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    """Return a runtime that all tests share, because none stops it."""
    with witnessing(tmp_path_factory.mktemp("way-out") / "lab") as made:
        yield made


@pytest.fixture
def node(containerd: Containerd, tmp_path: Path) -> Iterator[RealNode]:
    """Return a new node for each test, with a ready agent."""
    made = RealNode(containerd, tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.close()


@dataclass(frozen=True, kw_only=True)
class Ran:
    """The exit status of the program and the JSON document on its stdout."""

    exit: int
    document: dict[str, Any]


def release_all(node: RealNode) -> Ran:
    """Run `breakglass-agent release-all` on a node."""
    words = [node.containerd.cgroup_root, "--output", "json", "release-all"]
    ran = subprocess.run(
        [sys.executable, "-m", own_pods.__name__, *words, "--config", str(node.files.config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return Ran(exit=ran.returncode, document=json.loads(ran.stdout))


def expect_startable(node: RealNode, pod: PlayedPod) -> None:
    """Check that kubelet's next start of a pod succeeds."""
    starts = pod.starts
    node.kubelet.start(pod)
    until(lambda: pod.starts == starts + 1, "the next start")


def test_every_hold_ends_and_every_limit_is_restored(node: RealNode) -> None:
    """The old values come from the log, the log records it, and the next agent holds nothing."""
    pods = [node.kubelet.pod(), node.kubelet.pod()]
    node.stop()
    node.stop(workload="monitoring/logs")
    node.agent.stop()

    ran = release_all(node)

    assert ran.exit == 0
    assert ran.document["holds"] == [WORKLOAD, "monitoring/logs"]
    assert sorted(ran.document["pods"]) == sorted(f"monitoring/{pod.name}" for pod in pods)
    assert not ran.document["unrecorded"]
    assert [pod.limits for pod in pods] == [OPEN, OPEN]
    node.start()
    state = node.checked_state()
    assert not state.active_holds
    assert not state.gates
    assert {(one.why, one.by) for one in node.bodies(HoldEnded)} == {("let-go", "root")}
    assert {one.uid for one in node.bodies(GateLifted)} == {pod.uid for pod in pods}
    expect_startable(node, pods[0])


def test_while_an_agent_runs_nothing_is_released(node: RealNode) -> None:
    """A running agent would set every limit again; the hint says to stop it first."""
    pod = node.kubelet.pod()
    node.stop()
    ran = release_all(node)
    assert (ran.exit, ran.document["code"]) == (4, "log-locked")
    assert "stop the agent first" in ran.document["hint"]
    assert pod.limits == SHUT
    assert node.hold().workload == WORKLOAD


def flip_a_byte(node: RealNode) -> None:
    """Change one byte of the log, where its entries are."""
    segment = next(iter(sorted(node.files.log_directory.glob("*.segment"))))
    raw = bytearray(segment.read_bytes())
    raw[200] ^= 1
    segment.write_bytes(raw)


def lose_the_log(node: RealNode) -> None:
    """The state directory was deleted."""
    shutil.rmtree(node.files.log_directory)


def lose_the_key(node: RealNode) -> None:
    """Delete the log's key, so that nothing can be recorded."""
    (node.files.folder / "log.key").unlink()


@pytest.mark.parametrize(
    ("damage", "status"),
    [(flip_a_byte, 4), (lose_the_log, 0), (lose_the_key, 4)],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_without_a_log_gates_are_found_in_the_kernel(
    node: RealNode,
    damage: Callable[[RealNode], None],
    status: int,
) -> None:
    """The old values are unknown, so the limits are removed; the document has the log's error."""
    held, other = node.kubelet.pod(), node.kubelet.pod("monitoring/other")
    node.stop()
    node.agent.stop()
    damage(node)

    ran = release_all(node)

    assert ran.exit == status
    assert bool(ran.document["log_error"]) is (status != 0)
    assert ran.document["unrecorded"] == [held.cgroup.lstrip("/")]
    assert held.limits == ("max", "max")
    assert other.limits == OPEN
    assert other.processes
    expect_startable(node, held)


def test_without_a_hold_nothing_is_done(node: RealNode) -> None:
    """The document lists no hold and no pod, and the pod's limits stay."""
    pod = node.kubelet.pod()
    node.agent.stop()
    ran = release_all(node)
    assert ran.exit == 0
    for kind in ("holds", "pods", "unrecorded", "failed"):
        assert not ran.document[kind]
    assert pod.limits == OPEN
    assert pod.processes


def runbooks_block(words: str) -> str:
    """Return the shell block of the runbook that contains these words."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", RUNBOOK.read_text(), re.MULTILINE | re.DOTALL)
    (found,) = (block for block in blocks if words in block)
    return str(found)


# Mounts trees that contain only the lab's group over /sys/fs/cgroup, then runs the lines on stdin.
ALONE = """
set -eu
lab=$1 stage=$2
shift 2
mkdir "$stage"
mount -t tmpfs none "$stage"
for tree in "$@"; do
    mkdir -p "$stage/${tree##*/}$lab"
    mount --bind "$tree$lab" "$stage/${tree##*/}$lab"
done
mount --move "$stage" /sys/fs/cgroup
exec sh
"""


def run_alone(node: RealNode, stage: Path, lines: str) -> str:
    """Run shell lines as root in a mount namespace that has only this lab's control groups."""
    trees = [str(tree) for tree in leftovers.hierarchies()]
    top = node.containerd.cgroup_root
    ran = subprocess.run(
        ["unshare", "--mount", "sh", "-c", ALONE, "sh", top, str(stage), *trees],
        input=lines,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not ran.stderr
    return ran.stdout


def test_the_runbooks_lines_open_every_gate(node: RealNode, tmp_path: Path) -> None:
    """Without the program: they print what they changed, and leave a pod that is not held."""
    held, other = node.kubelet.pod(), node.kubelet.pod("monitoring/other")
    node.stop()
    node.agent.kill()
    printed = run_alone(node, tmp_path / "stage", runbooks_block("find /sys/fs/cgroup"))
    assert held.limits == ("max", "max")
    assert other.limits == OPEN
    changed = {held.directory("pids") / "pids.max", held.directory("unified")}
    assert {Path(line) for line in printed.splitlines()} == changed
    expect_startable(node, held)


def test_the_runbooks_line_for_a_hybrid_host_opens_one_pod(node: RealNode) -> None:
    """`POD` stands for the pod's folder; the lines open that pod's gate only."""
    one, two = node.kubelet.pod(), node.kubelet.pod()
    node.stop()
    node.agent.kill()
    (row,) = re.findall(r"^\| hybrid \| (.*) \|$", RUNBOOK.read_text(), re.MULTILINE)
    lines = re.findall(r"`(.*?)`", row)
    assert len(lines) == 2
    for line in lines:
        subprocess.run(["sh", "-c", line.replace("POD", one.cgroup.lstrip("/"))], check=True)
    assert (one.limits, two.limits) == (("max", "max"), SHUT)
    expect_startable(node, one)


def test_the_runbooks_line_finds_the_old_values_in_the_log(node: RealNode) -> None:
    """With podPidsLimit the old value is a number and not "max"."""
    pod = node.kubelet.pod()
    node.stop()
    node.agent.kill()
    (line,) = re.findall(r"`(grep .*segment)`", RUNBOOK.read_text())
    here = line.replace("/var/lib/breakglass/log", str(node.files.log_directory))
    ran = subprocess.run(["sh", "-c", here], capture_output=True, text=True, check=True)
    assert pod.uid in ran.stdout or pod.cgroup in ran.stdout
    assert f'"old":"{TASKS}"' in ran.stdout.replace(" ", "")
