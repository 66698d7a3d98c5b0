# SPDX-License-Identifier: Apache-2.0
"""The world of this suite: an island with a control plane and one guest, four DaemonSets on it.

    with world(folder) as world:
        world.look().lines["telemetry"]

The guest is one node with a real kubelet, containerd, runc and crun; the DaemonSets are the same
witness under each quality class that a DaemonSet has and each of the two runtimes.  What is counted
is counted by others than the agent: user code by the lines it wrote itself, attempts by kubelet's
own log, gates by the kernel's files.
"""

import contextlib
import json
import shutil
import string
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import LabUnavailable, guest_images, images, netns
from lab.guest import ROUTE, Guest, why_not
from lab.guest_plane import Plane
from tests.guest.people import People

NAMESPACE = "monitoring"
HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
# Without limits a pod is BestEffort; with less requested than allowed it is Burstable.
_FREE, _BURSTABLE = "{}", "{requests: {cpu: 10m}, limits: {cpu: 500m}}"
DAEMONSETS: Mapping[str, tuple[str, str]] = {
    "telemetry": ("runc", _FREE),
    "telemetry-burstable": ("runc", _BURSTABLE),
    "telemetry-crun": ("crun", _FREE),
    "telemetry-burstable-crun": ("crun", _BURSTABLE),
}
_CLASSES = f"""apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}}}
---
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {{name: runc}}
handler: runc
---
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {{name: crun}}
handler: crun
"""
_PODS = "/sys/fs/cgroup/kubepods.slice/*/kubepods-*-pod*.slice"
_FAILED = "(RunContainerError|CreatePodSandboxError)"
_POD = rf"{NAMESPACE}\/([^\"]+)-[a-z0-9]{{5}}"
# One line per fact: what a DaemonSet's code wrote, what kubelet failed to start, what a slice says.
_LOOK = rf"""
cd /node-out && for file in *; do test -f $file && echo "lines $file $(wc -l <$file)"; done
sed -nE 's/.*"Error syncing pod, skipping".* with {_FAILED}:.* pod="{_POD}".*/failed \2 \1/p' \
 /var/log/kubelet.log
for pod in {_PODS}; do test -d $pod &&
 echo "gate ${{pod##*/}} $(cat $pod/cgroup.max.descendants) $(cat $pod/pids.max)"; done
echo end
"""
_UP_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Two limits of a pod's cgroup, as the kernel tells them."""

    descendants: str
    pids: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was there at one moment, for each DaemonSet and each pod's slice.

    Attributes:
        lines: what user code has written.
        attempts: containers that kubelet could not start, and sandboxes that it could not make.
        sandboxes: of those, the sandboxes.
        gates: the limits of each slice.
    """

    lines: Mapping[str, int]
    attempts: Mapping[str, int]
    sandboxes: Mapping[str, int]
    gates: Mapping[str, Gate]


def parse_look(text: str) -> Look:
    """Return what the script that looks has said."""
    lines: dict[str, int] = {}
    attempts: Counter[str] = Counter()
    sandboxes: Counter[str] = Counter()
    gates: dict[str, Gate] = {}
    *facts, end = text.splitlines()
    assert end == "end", text
    for fact in facts:
        kind, name, *rest = fact.split()
        match kind:
            case "lines":
                lines[name] = int(rest[0])
            case "failed":
                attempts[name] += 1
                sandboxes[name] += rest[0] == "CreatePodSandboxError"
            case "gate":
                gates[name] = Gate(descendants=rest[0], pids=rest[1])
    return Look(lines=lines, attempts=attempts, sandboxes=sandboxes, gates=gates)


class World:
    """Everything that a story needs, up and running."""

    def __init__(self, plane: Plane, guest: Guest, people: People) -> None:
        self.plane, self.guest, self.people = plane, guest, people

    def look(self) -> Look:
        """Look at everything that is counted, in one go."""
        return parse_look(self.guest.run(_LOOK).stdout)

    def slices(self, daemonset: str) -> tuple[str, ...]:
        """Return the slices of a DaemonSet's pods, which the API server must still know."""
        found = json.loads(
            self.plane.kubectl("get", "pods", f"-n{NAMESPACE}", f"-lapp={daemonset}", "-ojson")
        )
        quality = {"BestEffort": "besteffort", "Burstable": "burstable"}
        return tuple(
            f"kubepods-{quality[pod['status']['qosClass']]}"
            f"-pod{pod['metadata']['uid'].replace('-', '_')}.slice"
            for pod in found["items"]
        )

    def wait_for_lines(self, names: Sequence[str], *, timeout_s: float) -> dict[str, float]:
        """Return the seconds until user code of each DaemonSet has written one line more."""
        start, first = time.monotonic(), self.look().lines
        back: dict[str, float] = {}
        while len(back) < len(names):
            if time.monotonic() - start > timeout_s:
                raise AssertionError(f"expected user code of {names}, got only {sorted(back)}")
            now = self.look().lines
            for name in names:
                if now.get(name, 0) > first.get(name, 0):
                    back.setdefault(name, time.monotonic() - start)
        return back


def kubernetes() -> Path:
    """Return the folder with Kubernetes' programs, built now if it is not there yet.

    Raises:
        LabUnavailable: this machine cannot build them.
    """
    script = REPOSITORY / "tests/kubernetes/build.sh"
    done = subprocess.run(
        ("sh", script), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise LabUnavailable(f"Kubernetes is not built (exit {done.returncode})")
    return Path(done.stdout.strip())


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    """Bring everything up in `folder`, whose path is short; take it down at the end.

    Raises:
        LabUnavailable: this machine lacks something.
    """
    if reason := why_not() or guest_images.why_not() or netns.why_not():
        raise LabUnavailable(reason)
    base, programs = guest_images.root(), kubernetes()
    with contextlib.ExitStack() as stack:
        island = stack.enter_context(netns.held(*ROUTE))
        for name in ("plane", "people", "guest"):
            (folder / name).mkdir()
        plane = stack.enter_context(Plane(programs / "bin", island=island, folder=folder / "plane"))
        people = People(folder / "people", island)
        stage = folder / "stage.ext4"
        extra = _write_extra(folder, programs, plane, people)
        guest_images.make_stage(stage, base=base, kubernetes=programs, extra=extra)
        guest = stack.enter_context(
            Guest(base, stage=stage, island=island, folder=folder / "guest")
        )
        guest.run("sh /stage/extra/setup.sh", timeout_s=_UP_S)
        made = World(plane, guest, people)
        _start(made)
        yield made


def _write_extra(folder: Path, programs: Path, plane: Plane, people: People) -> Path:
    extra = folder / "extra"
    shutil.copytree(HERE, extra, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copy(plane.kubeconfig, extra)
    shutil.copytree(REPOSITORY / "systemd", extra / "systemd")
    pods = {images.PAUSE: programs / "image/pause", images.WORKLOAD: programs / "image/witness"}
    images.write_programs(extra / "images.tar", pods)
    people.write_bundle(extra / "bundle")
    return extra


def _start(world: World) -> None:
    """Start the DaemonSets, and wait until the code of each has run."""
    world.plane.kubectl("apply", "-f-", stdin=_CLASSES)
    template = string.Template((HERE / "daemonset.yaml").read_text())
    for name, (runtime, resources) in DAEMONSETS.items():
        filled = template.substitute(NAME=name, RUNTIME=runtime, RESOURCES=resources)
        world.plane.kubectl("apply", "-f-", stdin=filled)
    world.wait_for_lines(tuple(DAEMONSETS), timeout_s=_UP_S)
