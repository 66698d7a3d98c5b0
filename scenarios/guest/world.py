# SPDX-License-Identifier: Apache-2.0
"""Everything that takes part in `make test-v2`: a control plane, people, one guest as the node.

    with world(folder) as made:
        made.look().lines["telemetry"]

The guest has a real kubelet, containerd, runc and crun; the four DaemonSets are the same witness
under each quality class that a DaemonSet has and each of the two runtimes.  A command reaches the
guest by one of two roads: `run` over mTLS from the bastion, or `submit` over ssh.  Guest, control
plane and bastion share a network namespace with no way out.
"""

import contextlib
import json
import shutil
import string
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lab import LabUnavailable, images, netns
from lab.guest import drives
from lab.guest.drives import ADDRESS
from lab.guest.machine import ROUTE, Guest, inside, why_not
from lab.guest.plane import Plane
from lab.kubernetes import programs
from scenarios.bastion import Bastion, as_process
from scenarios.guest.look import NAMESPACE, SCRIPT, Look, parse_look
from scenarios.stage import StoryFailed, require

NODE = "n1"
PROGRAM = f"{drives.INSTALLED}/bin/breakglass-agent"
REPOSITORY = Path(__file__).resolve().parents[2]
INSTALL = Path(__file__).resolve().parent / "install"
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
_STEP_S = 300.0
_UP_S = 900.0


class World:
    """Everything that takes part, up and running."""

    def __init__(self, plane: Plane, guest: Guest, bastion: Bastion) -> None:
        self.plane, self.guest, self.bastion = plane, guest, bastion
        self._commands = 0

    def signed(self, verb: str, daemonset: str, *options: str) -> str:
        """Return a command for a DaemonSet with enough approvals on it."""
        self._commands += 1
        name, workload = f"{self._commands}-{verb}.cmd", f"{NAMESPACE}/{daemonset}"
        return self.bastion.signed(name, *options, verb=verb, workload=workload)

    def submit(self, command: str) -> str:
        """Deliver a command over ssh, to the agent's own program on the node.

        Raises:
            StoryFailed: the program ended with another status than 0.
        """
        raw = Path(command).read_bytes()
        done = self.guest.run(f"{PROGRAM} submit", stdin=raw, check=False)
        if done.returncode:
            raise StoryFailed(f"submit: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def look(self) -> Look:
        """Look at everything that is counted, in one go."""
        return parse_look(self.guest.run(SCRIPT).stdout)

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
            late = time.monotonic() - start > timeout_s
            require(not late, f"expected user code of {names}, got only {sorted(back)}")
            now = self.look().lines
            for name in names:
                if now.get(name, 0) > first.get(name, 0):
                    back.setdefault(name, time.monotonic() - start)
        return back


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    """Bring everything up in `folder`, whose path is short; take it down at the end.

    Raises:
        LabUnavailable: this machine lacks something.
    """
    if reason := why_not() or drives.why_not() or netns.why_not():
        raise LabUnavailable(reason)
    base, built = drives.root(), programs.built()
    with contextlib.ExitStack() as stack:
        island = stack.enter_context(netns.held(*ROUTE))
        for name in ("plane", "people", "guest"):
            (folder / name).mkdir()
        plane = stack.enter_context(Plane(built / "bin", island=island, folder=folder / "plane"))
        bastion = _bastion(folder / "people", island)
        drive = folder / "stage.ext4"
        extra = _write_extra(folder, built, plane, bastion)
        drives.make_stage(drive, base=base, kubernetes=built, extra=extra)
        guest = stack.enter_context(
            Guest(base, stage=drive, island=island, folder=folder / "guest")
        )
        guest.run("sh /stage/extra/setup.sh", timeout_s=_UP_S)
        made = World(plane, guest, bastion)
        _start(made)
        yield made


def _bastion(folder: Path, island: int) -> Bastion:
    """Return a bastion inside the island, with people, a home and the guest in its inventory."""
    made = Bastion(folder, program=as_process(prefix=inside(island), timeout_s=_STEP_S))
    made.make_keys()
    made.init()
    made.add_node(NODE, ADDRESS)
    return made


def _write_extra(folder: Path, built: Path, plane: Plane, bastion: Bastion) -> Path:
    extra = folder / "extra"
    shutil.copytree(INSTALL, extra)
    shutil.copy(plane.kubeconfig, extra)
    shutil.copytree(REPOSITORY / "systemd", extra / "systemd")
    pods = {images.PAUSE: built / "image/pause", images.WORKLOAD: built / "image/witness"}
    images.write_programs(extra / "images.tar", pods)
    bastion.write_bundle(NODE, extra / "bundle")
    return extra


def _start(world: World) -> None:
    """Start the DaemonSets, and wait until the code of each has run."""
    world.plane.kubectl("apply", "-f-", stdin=_CLASSES)
    template = string.Template((INSTALL / "daemonset.yaml").read_text())
    for name, (runtime, resources) in DAEMONSETS.items():
        filled = template.substitute(NAME=name, RUNTIME=runtime, RESOURCES=resources)
        world.plane.kubectl("apply", "-f-", stdin=filled)
    world.wait_for_lines(tuple(DAEMONSETS), timeout_s=_UP_S)
