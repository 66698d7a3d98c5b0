# SPDX-License-Identifier: Apache-2.0
"""A Kubernetes control plane in a network namespace, for a node outside it.

    with Plane(programs, island=pid, folder=folder) as plane:
        plane.kubectl("apply", "-f", "daemonset.yaml")

It runs etcd, kube-apiserver, kube-controller-manager and kube-scheduler as processes, with their
files in `folder`.  The token gives every right.  The processes end with this one.

It starts no node and no container runtime.
"""

import contextlib
import secrets
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lab.guest.machine import BASTION as ADDRESS
from lab.guest.machine import inside

PORT = 6443
CONTROLLERS = ("kube-controller-manager", "kube-scheduler")
_READY_S = 180.0
_CALL_S = 120.0
_END_S = 20.0
_LOOK_S = 0.5
_ETCD = "http://127.0.0.1:2379"
_PEER = "http://127.0.0.1:2380"
_KUBECONFIG = """apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "https://{address}", insecure-skip-tls-verify: true}}}}]
users: [{{name: u, user: {{token: "{token}"}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
current-context: x
"""


class Plane:
    """A control plane, from entering the context to leaving it.

    Args:
        programs: the folder with kube-apiserver and the others.
        island: a process in a network namespace in which `lab.guest.machine.ROUTE` was run.
        folder: for everything that the programs write.
    """

    def __init__(self, programs: Path, *, island: int, folder: Path) -> None:
        self._programs, self._island, self._folder = programs, island, folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def kubeconfig(self) -> Path:
        """The file with which kubelet and kubectl reach the API server."""
        return self._folder / "kubeconfig"

    def kubectl(self, *arguments: str | Path, check: bool = True, stdin: str = "") -> str:
        """Run kubectl and return its stdout; raise AssertionError when it fails."""
        done = subprocess.run(
            [*self._command("kubectl"), "--kubeconfig", self.kubeconfig, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=_CALL_S,
            cwd=self._folder,
            env={"HOME": str(self._folder), "PATH": "/usr/bin:/bin"},
        )
        if check and done.returncode:
            words = " ".join(map(str, arguments))
            raise AssertionError(f"kubectl {words}: exit {done.returncode}\n{done.stderr}")
        return done.stdout

    def start(self, *names: str) -> None:
        """Start some of the programs; if the API server is among them, wait until it is ready."""
        for name in names:
            with (self._folder / f"{name}.log").open("ab") as log:
                self._running[name] = subprocess.Popen(
                    [*self._command(name), *self._options(name)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._folder,
                )
        if "kube-apiserver" in names:
            self._wait_ready()

    def kill(self, *names: str) -> None:
        """Kill some of the programs with SIGKILL, as in a crash."""
        for name in names:
            self._running[name].kill()
        for name in names:
            self._running.pop(name).wait(timeout=_END_S)

    def __enter__(self) -> Self:
        token = secrets.token_hex(16)
        self._write("tokens.csv", f'{token},admin,admin,"system:masters"\n')
        self._write("kubeconfig", _KUBECONFIG.format(address=f"{ADDRESS}:{PORT}", token=token))
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        form = (PrivateFormat.TraditionalOpenSSL, NoEncryption())
        self._write("accounts.key", key.private_bytes(Encoding.PEM, *form).decode())
        try:
            self.start("etcd", "kube-apiserver")
            self.start(*CONTROLLERS)
        except BaseException:
            self.kill(*self._running)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill(*self._running)

    def _write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)
        (self._folder / name).chmod(0o600)

    def _command(self, name: str) -> list[str]:
        return inside(self._island, self._programs / name)

    def _options(self, name: str) -> Sequence[str]:
        if name == "etcd":
            return tuple(_etcd_options())
        if name == "kube-apiserver":
            return tuple(_apiserver_options())
        common = ("--kubeconfig=kubeconfig", "--leader-elect=false", "--bind-address=127.0.0.1")
        if name == "kube-scheduler":
            return (*common, "--cert-dir=pki-scheduler")
        # A guest under TCG may report late; the controllers must not evict its pods for that.
        patient = ("--node-monitor-grace-period=3600s", "--cert-dir=pki-controllers")
        return (*common, *patient, "--service-account-private-key-file=accounts.key")

    def _wait_ready(self) -> None:
        end = time.monotonic() + _READY_S
        while True:
            with contextlib.suppress(AssertionError):
                self.kubectl("get", "--raw=/readyz")
                return
            dead = [name for name, one in self._running.items() if one.poll() is not None]
            if dead or time.monotonic() > end:
                log = (self._folder / f"{(dead or ['kube-apiserver'])[0]}.log").read_text()
                raise AssertionError(f"the API server did not become ready: {log[-1000:]}")
            time.sleep(_LOOK_S)


def _etcd_options() -> Iterator[str]:
    yield from ("--data-dir=etcd", f"--initial-cluster=default={_PEER}", "--unsafe-no-fsync")
    yield from (f"--listen-client-urls={_ETCD}", f"--advertise-client-urls={_ETCD}")
    yield from (f"--listen-peer-urls={_PEER}", f"--initial-advertise-peer-urls={_PEER}")


def _apiserver_options() -> Iterator[str]:
    yield from (f"--etcd-servers={_ETCD}", f"--secure-port={PORT}", "--cert-dir=pki")
    yield from (f"--bind-address={ADDRESS}", f"--advertise-address={ADDRESS}")
    yield from ("--authorization-mode=AlwaysAllow", "--token-auth-file=tokens.csv")
    yield from ("--service-account-issuer=https://lab", "--allow-privileged")
    yield from ("--service-account-key-file=accounts.key",)
    yield from ("--service-account-signing-key-file=accounts.key",)
    yield from ("--disable-admission-plugins=ServiceAccount",)
    yield from ("--service-cluster-ip-range=10.94.0.0/24",)
