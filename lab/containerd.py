# SPDX-License-Identifier: Apache-2.0
"""A private containerd, with its own root, state and sockets, which cleans up after itself.

    with Containerd(directory) as containerd:
        make_pod(containerd.socket, namespace="monitoring", daemonset="telemetry")

Rules:

- Sockets, state and the runtime's files are in a short directory below /tmp, because the path of a
  unix socket must be shorter than 108 bytes.  The rest is in `directory`.
- The runtime handlers are runc and crun.  containerd looks for the crun binary only when a pod
  uses that handler, so crun need not be installed.
- Pods use the host's network, so no CNI plugin is needed.  Where this process may not lower an OOM
  score, containerd leaves it unchanged (`restrict_oom_score_adj`).
- Leaving the context removes the containers, the shims, the mounts and the cgroups, also when
  containerd is paused, dead or never became ready.  It ends only what this object started.

It installs nothing and does not look at any other containerd.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from lab import LabUnavailable, images, leftovers

READY_S = 60.0
# Reconnect fast: with gRPC's default back-off a client waits long after a restarted containerd
# answers again.  The minimum back-off is also the timeout of one connection attempt, so calls here
# use wait_for_ready.
CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)
_TOOLS = ("containerd", "containerd-shim-runc-v2", "runc", "ctr", "umount")
_PROBE_S = 2.0
_LOOK_S = 0.01

# Every containerd from 1.6 on reads version 2 of the configuration.  Whatever has a machine-wide
# default (the NRI socket, /opt, runc's own state) gets a private path, so that two labs running at
# the same time do not share it.
_CONFIG = """version = 2
root = "{root}"
state = "{short}/state"
[grpc]
  address = "{short}/c.sock"
[ttrpc]
  address = "{short}/c.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/opt"
[plugins."io.containerd.nri.v1.nri"]
  disable = true
  socket_path = "{short}/nri.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{root}/cni/bin"
    conf_dir = "{root}/cni/conf"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "{short}/runc"
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun.options]
      BinaryName = "crun"
      Root = "{short}/crun"
      SystemdCgroup = false
"""


def why_not() -> str:
    """Return why this machine cannot run the lab's containerd; empty when it can."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [tool for tool in _TOOLS if _tool(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return "" if images.BUSYBOX.exists() else f"not installed: busybox-static ({images.BUSYBOX})"


def cgroup_root(socket: Path) -> str:
    """Return the cgroup above all pods of the lab's containerd at `socket`.

    It is what kubelet calls its `cgroupRoot`.  Each lab has its own, so that two labs do not
    share one.
    """
    return f"/{socket.parent.name}"


class Containerd:
    """One containerd, from entering the context to leaving it.

    Args:
        directory: for its configuration, log and images; a new temporary directory by default.
        enter: a command prefix that runs it elsewhere, such as `Host.command()` of `lab.netns`.
    """

    def __init__(self, directory: Path | None = None, *, enter: Sequence[str] = ()) -> None:
        self._short = Path(tempfile.mkdtemp(prefix="bg-lab-", dir="/tmp"))
        self._directory = directory or self._short
        self._enter = tuple(enter)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """The CRI socket."""
        return self._short / "c.sock"

    @property
    def endpoint(self) -> str:
        """The CRI socket as a gRPC target."""
        return f"unix://{self.socket}"

    @property
    def state(self) -> Path:
        """The state directory, with the bundles of running containers."""
        return self._short / "state"

    @property
    def log(self) -> Path:
        """The file with containerd's standard output and error."""
        return self._directory / "containerd.log"

    @property
    def pid(self) -> int:
        """The process id, which changes with every restart."""
        return self._running().pid

    @property
    def cgroup_root(self) -> str:
        """The cgroup above all pods of this containerd."""
        return cgroup_root(self.socket)

    def __enter__(self) -> Self:
        reason = why_not()
        if reason:
            self.close()
            raise LabUnavailable(reason)
        try:
            self._write_config()
            self.start()
            self._import_images()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start it and wait until it answers; it finds the pods of an earlier start again."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._enter, _tool("containerd") or "containerd", "--config", self._config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"PATH": _path()},  # containerd looks for its shim, that for runc
            )
        self._wait_ready()

    def kill(self) -> None:
        """Kill containerd with SIGKILL, as in a crash; its pods keep running."""
        process = self._running()
        process.kill()  # works on a paused process too: SIGKILL needs no SIGCONT before it
        process.wait(leftovers.PATIENCE_S)
        self._process = None

    def restart(self) -> None:
        """Kill it and start it again, while its pods keep running."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Make it stop answering (SIGSTOP), while its socket still accepts connections."""
        os.kill(self.pid, signal.SIGSTOP)
        # kill(2) returns before every thread has stopped, and a running thread may still answer.
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Make it answer again (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End and remove everything this object started; each step runs even if another failed.

        (1) containerd, so that it restarts nothing, (2) the processes in its pods' cgroups,
        (3) the shims that reap them, (4) the shims' sockets, (5) mounts, (6) cgroups, (7) files.
        """
        with contextlib.ExitStack() as steps:  # runs the callback added last first
            if self._directory != self._short:
                steps.callback(shutil.rmtree, self._directory / "containerd", ignore_errors=True)
            steps.callback(shutil.rmtree, self._short, ignore_errors=True)
            steps.callback(leftovers.remove_cgroup, self.cgroup_root)
            steps.callback(leftovers.unmount_below, self._directory / "containerd")
            steps.callback(leftovers.unmount_below, self._short)
            steps.callback(leftovers.remove_shim_sockets, self.state)
            steps.callback(leftovers.end_shims, self.socket)
            steps.callback(leftovers.end_cgroup, self.cgroup_root)
            if self._process is not None:
                steps.callback(self.kill)

    @property
    def _config(self) -> str:
        return str(self._short / "config.toml")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            msg = "this containerd is not running"
            raise ValueError(msg)
        return self._process

    def _write_config(self) -> None:
        root = self._directory / "containerd"
        for name in ("cni/bin", "cni/conf", "opt"):
            (root / name).mkdir(parents=True)
        text = _CONFIG.format(root=root, short=self._short, pause=images.PAUSE)
        Path(self._config).write_text(text)

    def _wait_ready(self) -> None:
        process, end = self._running(), time.monotonic() + READY_S
        with grpc.insecure_channel(self.endpoint, options=CHANNEL_OPTIONS) as channel:
            version: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                "/runtime.v1.RuntimeService/Version"
            )
            while True:
                try:
                    version(b"", timeout=_PROBE_S, wait_for_ready=True)
                except grpc.RpcError as error:
                    if process.poll() is None and time.monotonic() < end:
                        # The socket may accept a call before the CRI plugin is ready for it.
                        time.sleep(_LOOK_S)
                        continue
                    msg = f"containerd did not become ready: {error}\n{self._log_tail()}"
                    raise RuntimeError(msg) from error
                return

    def add_programs(self, programs: Mapping[str, Path]) -> None:
        """Import one image for each static program: its reference and the program's path."""
        archive = self._short / "programs.tar"
        images.write_programs(archive, programs)
        self._import(archive, tuple(programs))

    def _import_images(self) -> None:
        archive = self._short / "images.tar"
        images.write_archive(archive)
        self._import(archive, (images.PAUSE, images.WORKLOAD))

    def _import(self, archive: Path, names: Sequence[str]) -> None:
        ctr = [_tool("ctr") or "ctr", "--address", str(self.socket), "--namespace", "k8s.io"]
        subprocess.run([*ctr, "images", "import", str(archive)], check=True, capture_output=True)
        archive.unlink()
        self._wait_listed(names)

    def _wait_listed(self, references: Sequence[str]) -> None:
        """Wait until the CRI plugin lists the images, which it learns by an event."""
        end = time.monotonic() + READY_S
        with grpc.insecure_channel(self.endpoint, options=CHANNEL_OPTIONS) as channel:
            images_of: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                "/runtime.v1.ImageService/ListImages"
            )
            # This lab has no schema for the reply, so it searches the raw bytes for the names.
            while not all(
                name.encode() in images_of(b"", timeout=_PROBE_S, wait_for_ready=True)
                for name in references
            ):
                if time.monotonic() > end:
                    msg = f"containerd did not list {', '.join(references)} in {READY_S:.0f} s"
                    raise TimeoutError(msg)
                time.sleep(_LOOK_S)

    def _log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""


def _tool(name: str) -> str | None:
    return shutil.which(name, path=_path())


def _path() -> str:
    # Debian has many of the tools in sbin, which is often missing from PATH.
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin"
