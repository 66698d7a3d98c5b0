# SPDX-License-Identifier: Apache-2.0
"""Start everything for `make test-v2`: a control plane, people, and one guest as the node.

    with world(folder) as made:
        made.look().lines["telemetry"]

The guest has a real kubelet, containerd, runc and crun.  The four DaemonSets run the same witness,
in two QoS classes (BestEffort and Burstable) and with each of the two runtimes.  A command reaches
the guest by `run` over mTLS from the bastion, or by `submit` over ssh.  Guest, control plane and
bastion share a network namespace that has no route to the outside.
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
# A pod without requests and limits is BestEffort; one whose limit exceeds its request is Burstable.
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
    """The running control plane, guest and bastion."""

    def __init__(self, plane: Plane, guest: Guest, bastion: Bastion) -> None:
        self.plane, self.guest, self.bastion = plane, guest, bastion
        self._commands = 0

    def signed(self, verb: str, daemonset: str, *options: str) -> str:
        """Return the path of a command for a DaemonSet, with enough approvals."""
        self._commands += 1
        name, workload = f"{self._commands}-{verb}.cmd", f"{NAMESPACE}/{daemonset}"
        return self.bastion.signed(name, *options, verb=verb, workload=workload)

    def submit(self, command: str) -> str:
        """Deliver a command over ssh with `breakglass-agent submit`.

        Raises:
            StoryFailed: `submit` ended with another status than 0.
        """
        raw = Path(command).read_bytes()
        done = self.guest.run(f"{PROGRAM} submit", stdin=raw, check=False)
        if done.returncode:
            raise StoryFailed(f"submit: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def look(self) -> Look:
        """Return all counts, from one run of `SCRIPT`."""
        return parse_look(self.guest.run(SCRIPT).stdout)

    def slices(self, daemonset: str) -> tuple[str, ...]:
        """Return the systemd slices of a DaemonSet's pods, as the API server lists the pods."""
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
        """Return the seconds until the code of each DaemonSet has written one more line."""
        start, first = time.monotonic(), self.look().lines
        back: dict[str, float] = {}
        while len(back) < len(names):
            late = time.monotonic() - start > timeout_s
            require(not late, f"expected running code of {names}, got only {sorted(back)}")
            now = self.look().lines
            for name in names:
                if now.get(name, 0) > first.get(name, 0):
                    back.setdefault(name, time.monotonic() - start)
        return back


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    """Start everything in `folder`, whose path must be short; end it with the context.

    Raises:
        LabUnavailable: this machine lacks something that it needs.
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
    """Return a bastion in the namespace, with keys, a home and the guest in its inventory."""
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
