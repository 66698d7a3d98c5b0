# SPDX-License-Identifier: Apache-2.0
"""A node of the lab's Kubernetes: containerd and kubelet in a network and a mount namespace.

The node has its own `/run`, `/var/lib` and `/var/log`, so that containerd, kubelet and
breakglass-agent find the same paths as on a real node, and two nodes share nothing.  containerd's
socket can be reached at the usual path and at the lab's own path.  The namespaces end with the
processes in them, so nothing must be unmounted.

The node's witness files show which code ran, and containerd's log shows what kubelet tried.
Neither needs the agent, the API server or a runtime that answers.
"""

import contextlib
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import grpc

from breakglass._pb.cri.v1 import api_pb2 as cri
from lab import leftovers
from lab.containerd import CHANNEL_OPTIONS
from lab.daemon import Daemon
from lab.kubernetes import texts
from lab.netns import Host

VERSIONS = ("2", "1.7")
_RPC_S = 5.0
_OWN = {"/run": "run", "/var/lib": "lib", "/var/log": "log"}
_FOLDERS = (
    "run/containerd",
    "lib/cni/net.d",
    "lib/kubelet/manifests",
    "lib/kubelet/volume-plugins",
    "lib/witness",
    "log/pods",
    "sysctl",
)
# containerd 1.7 logs `&PodSandboxMetadata{Name:x,...}`, and containerd 2 logs `name:\"x\" ...`.
_NAMED = r'(?:&\w+\{Name:|name:\\")(?P<name>[^,}\\]+)'
_LINE = re.compile(r'^time="(?P<at>[^"]+)" level=info msg="(?P<said>.*)"', re.MULTILINE)
_SANDBOX = re.compile(rf"RunPodSandbox for {_NAMED}")
_CREATED = re.compile(
    rf'CreateContainer .* for {_NAMED}.* returns container id \\"(?P<container>[0-9a-f]+)\\"'
)
_START = re.compile(r'StartContainer for \\"(?P<container>[0-9a-f]+)\\"$')


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A line that a witness wrote: its pod's code ran at this time (seconds since the epoch)."""

    at: float
    what: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A request of kubelet: for a sandbox (`RunPodSandbox`) or a start (`StartContainer`)."""

    at: float
    what: str


class KubeNode:
    """One node; `lab.kubernetes.cluster` makes its namespaces and calls `close`."""

    def __init__(
        self, *, host: Host, number: int, version: str, folder: Path, built: Path, kubeconfig: Path
    ) -> None:
        self.host = host
        self.number = number
        self.version = version
        self.folder = folder
        self._built = built
        self._programs = built / ("containerd-1.7" if version == "1.7" else "containerd")
        self._more: list[Daemon] = []
        self.containerd = self.daemon(
            "containerd", f"{self._programs}/containerd", "--config", f"{folder}/config.toml"
        )
        self.kubelet = self.daemon(
            "kubelet",
            f"{built}/bin/kubelet",
            f"--config={folder}/kubelet.json",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.address}",
            "--v=2",
        )

    # --- where things are ------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The node's name in Kubernetes."""
        return self.host.name

    @property
    def address(self) -> str:
        """Its address in the cluster's network."""
        return self.host.address

    @property
    def socket(self) -> Path:
        """The CRI socket, at the same path in the node and outside."""
        return self.folder / "c.sock"

    @property
    def pod_logs(self) -> Path:
        """The folder that is /var/log/pods on the node."""
        return self.folder / "log/pods"

    @property
    def cgroup_root(self) -> str:
        """The cgroup above all pods of this node, in every hierarchy."""
        return f"/{self.folder.parent.name}-{self.name}"

    def enter(self, *argv: str) -> list[str]:
        """Return `argv` as a command that runs on this node without forking."""
        return self.host.command(*argv)

    def daemon(self, name: str, *argv: str, environment: Mapping[str, str] | None = None) -> Daemon:
        """Return a program of this node, not yet started; `close` ends it."""
        path = f"{self._programs}:{self._built}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        made = Daemon(
            self.enter(*argv),
            log=self.folder / f"{name}.log",
            environment={"PATH": path, "TZ": "UTC", **(environment or {})},
        )
        self._more.append(made)
        return made

    # --- coming and going ------------------------------------------------------------------

    def configure(self, *, backoff_s: int | None = None, pids: int | None = None) -> None:
        """Write kubelet's configuration, which kubelet reads at its next start."""
        text = texts.kubelet(
            socket=self.socket, cgroup=self.cgroup_root, backoff_s=backoff_s, pids=pids
        )
        (self.folder / "kubelet.json").write_text(text)

    def start_runtime(self, images: Path) -> None:
        """Start containerd, wait until it answers, and import the images."""
        toml = texts.containerd(self.version, socket=self.socket, built=self._built)
        (self.folder / "config.toml").write_text(toml)
        network = texts.network(self.number)
        (self.folder / "lib/cni/net.d/10-lab.conflist").write_text(network)
        self.containerd.start()
        self.containerd.until(self.answers)
        ctr = [f"{self._programs}/ctr", "--address", str(self.socket), "--namespace", "k8s.io"]
        subprocess.run(
            self.enter(*ctr, "images", "import", str(images)), check=True, capture_output=True
        )
        self.containerd.until(self._has_images)

    def close(self) -> None:
        """End everything on this node: daemons first, so that they restart nothing."""
        with contextlib.ExitStack() as steps:  # runs the callback added last first
            steps.callback(leftovers.remove_cgroup, self.cgroup_root)
            steps.callback(leftovers.end_shims, self.socket)
            steps.callback(leftovers.end_cgroup, self.cgroup_root)
            for daemon in self._more:
                steps.callback(daemon.end)

    # --- looking ---------------------------------------------------------------------------

    def answers(self) -> bool:
        """Return whether the runtime and its CRI plugin answer."""
        try:
            self._call("RuntimeService/Version")
        except grpc.RpcError:
            return False
        return True

    def sandboxes(self) -> list[cri.PodSandbox]:
        """Return every pod sandbox that the runtime lists."""
        reply = self._call("RuntimeService/ListPodSandbox")
        return list(cri.ListPodSandboxResponse.FromString(reply).items)

    def containers(self) -> list[cri.Container]:
        """Return every container that the runtime lists."""
        reply = self._call("RuntimeService/ListContainers")
        return list(cri.ListContainersResponse.FromString(reply).containers)

    def running(self, name: str) -> list[cri.Container]:
        """Return the containers of this name that the runtime reports as running."""
        return [
            one
            for one in self.containers()
            if one.metadata.name == name and one.state == cri.CONTAINER_RUNNING
        ]

    def shims(self) -> tuple[int, ...]:
        """Return the process ids of this node's shims."""
        return leftovers.shims(self.socket)

    def ticks(self, name: str) -> list[Tick]:
        """Return every line that this DaemonSet's witnesses have written, oldest first."""
        try:
            text = (self.folder / "lib/witness" / name).read_text()
        except FileNotFoundError:
            return []
        rows = [line.split() for line in text.splitlines()]
        return [Tick(at=float(at), what=what, uid=uid) for at, what, uid in rows]

    def attempts(self, name: str, *, since: float = 0.0) -> list[Attempt]:
        """Return kubelet's requests to start something for this DaemonSet, failed or not."""
        tried, names = [], dict[str, str]()
        for line in _LINE.finditer(self.containerd.log.read_text(errors="replace")):
            said, called = line["said"], ""
            if found := _CREATED.match(said):
                names[found["container"]] = found["name"]
            elif found := _START.match(said):
                called = names.get(found["container"], "")
            elif (found := _SANDBOX.match(said)) and " returns " not in said:
                called = found["name"].rpartition("-")[0]
            if called == name:
                at = datetime.fromisoformat(line["at"]).timestamp()
                tried.append(Attempt(at=at, what=said.partition(" ")[0]))
        return [one for one in tried if one.at >= since]

    def pod_groups(self) -> dict[str, list[Path]]:
        """Return the pods' cgroups by UID, in every hierarchy, orphaned ones included."""
        found: dict[str, list[Path]] = {}
        for tree in leftovers.hierarchies():
            for group in (tree / self.cgroup_root.strip("/") / "kubepods").rglob("pod*-*"):
                if group.is_dir():
                    found.setdefault(group.name.removeprefix("pod"), []).append(group)
        return found

    def limits(self, uid: str) -> dict[str, str]:
        """Return the limits of a pod's cgroups, each by the path of its file."""
        found = {}
        for group in self.pod_groups().get(uid, []):
            for name in ("pids.max", "cgroup.max.descendants"):
                with contextlib.suppress(OSError):
                    found[str(group / name)] = (group / name).read_text().strip()
        return found

    def _has_images(self) -> bool:
        # This lab has no schema for the reply, so it searches the raw bytes for the names.
        listed = self._call("ImageService/ListImages")
        return all(name.encode() in listed for name in (texts.PAUSE, texts.WITNESS))

    def _call(self, method: str) -> bytes:
        """Call a method of the runtime with an empty request; return the reply's bytes."""
        with grpc.insecure_channel(f"unix://{self.socket}", options=CHANNEL_OPTIONS) as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                f"/runtime.v1.{method}"
            )
            return call(b"", timeout=_RPC_S, wait_for_ready=True)


def prepare(folder: Path) -> tuple[str, ...]:
    """Make a node's folders; return the shell commands that mount them in its namespace."""
    for name in _FOLDERS:
        (folder / name).mkdir(parents=True)
    (folder / "run/containerd/containerd.sock").symlink_to(folder / "c.sock")
    steps = []
    for name, value in texts.SYSCTLS.items():
        shown = folder / "sysctl" / name.replace("/", ".")
        shown.write_text(f"{value}\n")
        steps.append(f"mount --bind {shown} /proc/sys/{name}")
    steps += [f"mount --bind {folder / name} {place}" for place, name in _OWN.items()]
    return (*steps, "mount --make-rshared /")


def shadows(path: Path) -> bool:
    """Return whether a node's own folder (such as its `/run`) hides `path` from the node."""
    return any(path.is_relative_to(place) for place in _OWN)


def make_cgroup(cgroup: str) -> None:
    """Make a node's cgroup in every hierarchy, with all CPUs and memory nodes of the root."""
    for tree in leftovers.hierarchies():
        made = tree / cgroup.strip("/")
        made.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (tree / name).exists() and not (made / name).read_text().strip():
                (made / name).write_text((tree / name).read_text())
