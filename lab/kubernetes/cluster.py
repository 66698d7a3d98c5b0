# SPDX-License-Identifier: Apache-2.0
"""Start a private Kubernetes cluster (control plane, bastion, nodes) and remove it afterwards.

    with Cluster(("2", "1.7")) as cluster:
        cluster.apply(texts.daemonset("telemetry"))

Rules:

- The programs come from `lab.kubernetes.programs`, which builds them if they do not exist; that
  takes minutes.
- The control plane, the bastion and every node have their own network namespace.  A bridge in
  another namespace joins them; there is no route to anywhere else.  The machine's own network,
  sysctls, `/run` and `/var` stay as they are.  Two clusters do not see each other.
- Leaving the context ends the processes that it started, the pods' processes (by the nodes'
  cgroups) and their shims (by the nodes' sockets), and removes cgroups, namespaces and files.

If something is missing (root rights, Go), `LabUnavailable` gives the reason.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from lab import LabUnavailable, images, leftovers, netns
from lab.daemon import READY_S, Daemon
from lab.kubernetes import programs, texts
from lab.kubernetes.node import VERSIONS, KubeNode, make_cgroup, prepare, shadows
from lab.netns import Host

CONTROL, BASTION, FIRST_NODE = "192.0.2.1", "192.0.2.2", 10
_ETCD = "http://127.0.0.1:2379"
_PEER = "http://127.0.0.1:2380"
_KUBECTL_S = 30.0
_LOOK_S = 0.2


def why_not() -> str:
    """Return why this machine cannot run the lab's Kubernetes; empty when no reason is known."""
    if reason := netns.why_not():
        return reason
    hidden = [path for path in (programs.BUILD, Path(sys.prefix)) if shadows(path.resolve())]
    return f"a node cannot see {hidden[0]}" if hidden else ""


def _programs() -> Path:
    """Return the folder with the programs; raise `LabUnavailable` if a node could not see it."""
    if reason := why_not():
        raise LabUnavailable(reason)
    folder = programs.built()
    if shadows(folder.resolve()):
        raise LabUnavailable(f"a node cannot see {folder}: choose another BREAKGLASS_CACHE")
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class KubePod:
    """A pod of a DaemonSet, as the API server shows it; kubelet reports `restarts`."""

    uid: str
    name: str
    node: str
    revision: str
    restarts: int


class Cluster:
    """A Kubernetes cluster, from entering the context to leaving it.

    Args:
        versions: the containerd version of each node, "2" or "1.7".
        backoff_s: kubelet's longest back-off; its default of 300 s when left out.
        pids: kubelet's limit of processes for each pod; none when left out.
    """

    bastion: Host
    control: Host

    def __init__(
        self,
        versions: Sequence[str] = VERSIONS,
        *,
        backoff_s: int | None = None,
        pids: int | None = None,
    ) -> None:
        self.nodes: list[KubeNode] = []
        self._versions = tuple(versions)
        self._backoff_s = backoff_s
        self._pids = pids
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._built = _programs()
            self.folder = Path(tempfile.mkdtemp(prefix="bg-kube-", dir="/tmp"))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self._lay_wires(stack)
            self._make_control_plane(stack)
            self.etcd.start()
            self.apiserver.start()
            archive = self.folder / "images.tar"
            run = {texts.PAUSE: "pause", texts.WITNESS: "witness"}
            images.write_programs(
                archive, {name: self._built / "image" / one for name, one in run.items()}
            )
            for node in self.nodes:
                stack.callback(node.close)
                make_cgroup(node.cgroup_root)
                node.configure(backoff_s=self._backoff_s, pids=self._pids)
                node.start_runtime(archive)
            self.apiserver.until(self.answers)
            for daemon in (self.controllers, self.scheduler, *(n.kubelet for n in self.nodes)):
                daemon.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # --- the API ---------------------------------------------------------------------------

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl on the control plane and return its output.

        Raises:
            subprocess.CalledProcessError: kubectl failed.
        """
        config = f"--kubeconfig={self._kubeconfig}"
        return subprocess.run(
            self.control.command(f"{self._built}/bin/kubectl", config, *arguments),
            check=True,
            capture_output=True,
            text=True,
            input=stdin,
            timeout=_KUBECTL_S,
            env=os.environ | {"HOME": str(self.folder)},
        ).stdout

    def apply(self, manifest: str) -> None:
        """Apply a manifest; repeat until the API server accepts it."""
        until(lambda: self._takes(manifest), "the API server to accept a manifest", READY_S)

    def pods(self, name: str) -> list[KubePod]:
        """Return the pods of a DaemonSet from the API server, without those being deleted."""
        chosen = ("-n", texts.NAMESPACE, "-l", f"app={name}")
        rows = json.loads(self.kubectl("get", "pods", *chosen, "-o", "json"))["items"]
        return [_pod(row) for row in rows if "deletionTimestamp" not in row["metadata"]]

    def delete(self, pod: KubePod) -> None:
        """Delete a pod, without waiting until it is gone."""
        chosen = ("-n", texts.NAMESPACE, "--wait=false")
        self.kubectl("delete", "pod", pod.name, *chosen)

    def answers(self) -> bool:
        """Return whether the API server reports that it is ready."""
        try:
            return self.kubectl("get", "--raw", "/readyz") == "ok"
        except subprocess.SubprocessError:
            return False

    def lose_api(self) -> None:
        """Kill the API server and etcd."""
        self.apiserver.end(signal.SIGKILL)
        self.etcd.end(signal.SIGKILL)

    def bring_api_back(self) -> None:
        """Start both again, wait until the API server is ready, and restart its clients.

        On a real control plane the controller manager and the scheduler end when they lose their
        leases.  Here they have no leases, and would reconnect only after their back-off.
        """
        self.etcd.start()
        self.apiserver.start()
        self.apiserver.until(self.answers)
        self.controllers.restart(signal.SIGTERM)
        self.scheduler.restart(signal.SIGTERM)

    # --- coming up -------------------------------------------------------------------------

    def _lay_wires(self, stack: contextlib.ExitStack) -> None:
        """Make the namespaces and join them by a bridge."""
        switch = Host(name="switch", address="", holder=stack.enter_context(netns.held()))
        switch.run("ip", "link", "add", "br0", "type", "bridge")
        switch.run("ip", "link", "set", "br0", "up")

        def host(name: str, address: str, *more: str) -> Host:
            made = Host(name=name, address=address, holder=stack.enter_context(netns.held(*more)))
            far = ["type", "veth", "peer", "name", f"to-{name}", "netns", str(switch.holder)]
            netns.ip("link", "add", "eth0", "netns", str(made.holder), *far)
            switch.run("ip", "link", "set", f"to-{name}", "master", "br0", "up")
            made.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
            made.run("ip", "link", "set", "eth0", "up")
            return made

        self.control = host("control", CONTROL)
        self.bastion = host("bastion", BASTION)
        self._kubeconfig = self.folder / "kubeconfig"
        for number, version in enumerate(self._versions, start=1):
            name = f"n{number}"
            folder = self.folder / name
            address = f"{CONTROL.rpartition('.')[0]}.{FIRST_NODE + number}"
            self.nodes.append(
                KubeNode(
                    host=host(name, address, *prepare(folder)),
                    number=number,
                    version=version,
                    folder=folder,
                    built=self._built,
                    kubeconfig=self._kubeconfig,
                )
            )

    def _make_control_plane(self, stack: contextlib.ExitStack) -> None:
        """Write the control plane's files, and define its programs without starting them."""
        token, key = secrets.token_hex(16), self.folder / "accounts.pem"
        self._kubeconfig.write_text(texts.kubeconfig(CONTROL, token))
        (self.folder / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
        key.write_bytes(_rsa_key())

        def daemon(name: str, *arguments: str) -> Daemon:
            command = self.control.command(f"{self._built}/bin/{name}", *arguments)
            made = Daemon(command, log=self.folder / f"{name}.log")
            stack.callback(made.end)
            return made

        self.etcd = daemon(
            "etcd",
            f"--data-dir={self.folder}/etcd",
            f"--listen-client-urls={_ETCD}",
            f"--advertise-client-urls={_ETCD}",
            f"--listen-peer-urls={_PEER}",
            f"--initial-advertise-peer-urls={_PEER}",
            f"--initial-cluster=default={_PEER}",
            "--unsafe-no-fsync",
        )
        self.apiserver = daemon(
            "kube-apiserver",
            f"--etcd-servers={_ETCD}",
            f"--secure-port={texts.API_PORT}",
            f"--bind-address={CONTROL}",
            f"--advertise-address={CONTROL}",
            f"--cert-dir={self.folder}/apiserver",
            f"--token-auth-file={self.folder}/tokens.csv",
            "--authorization-mode=AlwaysAllow",
            "--disable-admission-plugins=ServiceAccount",
            "--service-account-issuer=https://lab",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--service-cluster-ip-range={texts.SERVICES}",
            "--allow-privileged",
        )
        client = (f"--kubeconfig={self._kubeconfig}", "--leader-elect=false")
        local = ("--bind-address=127.0.0.1",)
        self.controllers = daemon(
            "kube-controller-manager",
            *client,
            *local,
            f"--cert-dir={self.folder}/controllers",
            f"--service-account-private-key-file={key}",
        )
        self.scheduler = daemon(
            "kube-scheduler", *client, *local, f"--cert-dir={self.folder}/scheduler"
        )

    def _takes(self, manifest: str) -> bool:
        try:
            self.kubectl("apply", "-f", "-", stdin=manifest)
        except subprocess.SubprocessError:
            return False
        return True


def until(is_so: Callable[[], bool], what: str, limit_s: float) -> float:
    """Wait until `is_so` returns true; return how long that took, in seconds.

    Raises:
        TimeoutError: `limit_s` has passed.
    """
    began = time.monotonic()
    while not is_so():
        if time.monotonic() - began > limit_s:
            msg = f"timed out after {limit_s:.0f} s waiting for {what}"
            raise TimeoutError(msg)
        time.sleep(_LOOK_S)
    return time.monotonic() - began


def left_behind(folder: Path) -> list[str]:
    """Return what a cluster that used `folder` left behind; empty after a clean end."""
    found = [f"folder {folder}"] if folder.exists() else []
    for tree in leftovers.hierarchies():
        found += [f"cgroup {path}" for path in tree.glob(f"{folder.name}-*")]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line.split()[4]}" for line in mounts if str(folder) in line]
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if str(folder) in (entry / "cmdline").read_text(errors="replace"):
                    found.append(f"process {entry.name}")
    return found


def _pod(row: dict[str, Any]) -> KubePod:
    statuses = row["status"].get("containerStatuses", [])
    return KubePod(
        uid=row["metadata"]["uid"],
        name=row["metadata"]["name"],
        node=row["spec"].get("nodeName", ""),
        revision=row["metadata"]["labels"]["controller-revision-hash"],
        restarts=sum(one["restartCount"] for one in statuses),
    )


def _rsa_key() -> bytes:
    """Return a new private key for service accounts, in the PEM form that kube-apiserver reads."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
