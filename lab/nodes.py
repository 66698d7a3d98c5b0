# SPDX-License-Identifier: Apache-2.0
"""Nodes that run a flooding DaemonSet and other pods, over a simulated or a real runtime."""

import subprocess
import sys
from pathlib import Path
from typing import Protocol

from lab.sim.node import kernel_socket

WORKLOAD = "monitoring/telemetry"
PODS = 2
READY_S = 60.0


class LabNode(Protocol):
    """A node's runtime, and the Python arguments that run an agent over it."""

    name: str
    socket: Path
    agent: tuple[str, ...]

    def close(self) -> None:
        """End the runtime."""
        ...


class SimulatedNode:
    """A simulated runtime with a simulated kubelet, in another process."""

    def __init__(self, name: str, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.name = name
        self.socket = folder / "cri.sock"
        self.agent: tuple[str, ...] = ("-m", "lab.sim.agent", str(kernel_socket(self.socket)))
        seed = sum(name.encode())
        command = [
            sys.executable,
            "-m",
            "lab.sim.node",
            str(self.socket),
            WORKLOAD,
            str(PODS),
            str(seed),
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        if self._process.stdout is None or self._process.stdout.readline() != b"ready\n":
            self.close()
            raise OSError(f"the simulated node {name} did not start")

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait(timeout=READY_S)
        if self._process.stdout is not None:
            self._process.stdout.close()


class ContainerdNode:
    """A real containerd with real pods and no kubelet: nothing restarts the pods."""

    def __init__(self, name: str, folder: Path) -> None:
        from lab.containerd import Containerd  # noqa: PLC0415 - needs root and containerd
        from lab.pods import make_pod  # noqa: PLC0415

        folder.mkdir(parents=True)
        self.name = name
        self._containerd = Containerd(folder)
        self._containerd.__enter__()
        self.socket = self._containerd.socket
        self.agent: tuple[str, ...] = ("-m", "breakglass.cli.agent")
        namespace, _, daemonset = WORKLOAD.partition("/")
        try:
            for _ in range(PODS):
                make_pod(self.socket, namespace=namespace, daemonset=daemonset)
            make_pod(self.socket, namespace=namespace, daemonset=f"{daemonset}-agent")
            make_pod(
                self.socket, namespace=namespace, daemonset=daemonset, controller="statefulset"
            )
            make_pod(self.socket, namespace="kube-system", daemonset="kube-proxy")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the pods and the runtime."""
        self._containerd.__exit__(None, None, None)
