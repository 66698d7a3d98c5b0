# SPDX-License-Identifier: Apache-2.0
"""A containerd of one's own, with its own root, state and sockets, and nothing left afterwards.

    with Containerd(directory) as containerd:
        make_pod(containerd.socket, namespace="monitoring", daemonset="telemetry")

Rules:

- Sockets, state and the runtime's files live in a short directory below /tmp, because a unix
  socket's path must be shorter than 108 bytes; the rest lives in `directory`.
- Runtime handlers are runc and, where it is installed, crun: its name is looked up only when used.
- Pods use the host's network, so no CNI plugin is needed.  The OOM score is left alone where this
  process may not lower it (`restrict_oom_score_adj`).
- Leaving the context ends the containers, the shims, the mounts and the cgroups, also when
  containerd is stopped, dead or never became ready.  Only what this object started is ended.

It does not install anything and does not look at any other containerd.
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

READY_S = 30.0
# Reconnect fast: the default back-off still waits long after a restarted containerd answers.  The
# minimum is the time for one attempt to connect, too, so a call here waits for the next one.
CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)
_TOOLS = ("containerd", "containerd-shim-runc-v2", "runc", "ctr", "umount")
_PROBE_S = 2.0
_LOOK_S = 0.01

# Version 2 of the configuration is read by every containerd from 1.6 on.  What has a machine-wide
# default (the NRI socket, /opt, runc's own state) gets a path of its own: two labs must not meet.
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
    """Say why this machine cannot run a containerd of the lab's own; empty when it can."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [tool for tool in _TOOLS if _tool(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return "" if images.BUSYBOX.exists() else f"not installed: busybox-static ({images.BUSYBOX})"


def cgroup_root(socket: Path) -> str:
    """Return the cgroup below which the pods of the lab's containerd behind `socket` live.

    It is what kubelet calls its `cgroupRoot`, one per lab, so that two labs do not meet.
    """
    return f"/{socket.parent.name}"


class Containerd:
    """One containerd, from entering the context to leaving it.

    Args:
        directory: where its configuration, log and images go; a directory of its own when left out.
        enter: a command prefix that puts it somewhere, such as `Host.command()` of `lab.netns`.
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
        """What containerd wrote to its standard output and error."""
        return self._directory / "containerd.log"

    @property
    def pid(self) -> int:
        """The process id; a new one after every restart."""
        return self._running().pid

    @property
    def cgroup_root(self) -> str:
        """The cgroup below which all pods of this containerd live."""
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
        """Start it and wait until it answers; pods of an earlier start are found again."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._enter, _tool("containerd") or "containerd", "--config", self._config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"PATH": _path()},  # it looks for its shim, and that for runc
            )
        self._wait_ready()

    def kill(self) -> None:
        """End containerd at once, as a crash would; its pods go on running."""
        process = self._running()
        process.kill()  # also when it is stopped: SIGKILL needs no SIGCONT before it
        process.wait(leftovers.PATIENCE_S)
        self._process = None

    def restart(self) -> None:
        """Crash it and start it again, with its pods running on."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stop it from answering while its socket still accepts connections."""
        os.kill(self.pid, signal.SIGSTOP)
        # kill(2) returns before every thread has stopped, and one that has not may still answer.
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let it answer again."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End everything this object started; each step runs even if one before it failed.

        (1) containerd, so that it restarts nothing, (2) the processes in its pods' cgroups,
        (3) the shims that reap them, (4) the shims' sockets, (5) mounts, (6) cgroups, (7) files.
        """
        with contextlib.ExitStack() as steps:  # runs the last one first
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
            msg = "expected a running containerd, got none"
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
                        time.sleep(
                            _LOOK_S
                        )  # the socket may answer before the plugin behind it does
                        continue
                    msg = f"expected containerd to answer, got {error}\n{self._log_tail()}"
                    raise RuntimeError(msg) from error
                return

    def add_programs(self, programs: Mapping[str, Path]) -> None:
        """Make an image of each static program known: the reference, and what it runs."""
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
        """Wait until the CRI plugin has heard of the images; it learns of an import by an event."""
        end = time.monotonic() + READY_S
        with grpc.insecure_channel(self.endpoint, options=CHANNEL_OPTIONS) as channel:
            images_of: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                "/runtime.v1.ImageService/ListImages"
            )
            # The reply is searched as bytes: names stand in it as they are, without a schema.
            while not all(
                name.encode() in images_of(b"", timeout=_PROBE_S, wait_for_ready=True)
                for name in references
            ):
                if time.monotonic() > end:
                    msg = f"expected images {', '.join(references)} to be listed, got some missing"
                    raise TimeoutError(msg)
                time.sleep(_LOOK_S)

    def _log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""


def _tool(name: str) -> str | None:
    return shutil.which(name, path=_path())


def _path() -> str:
    # Debian keeps half of the tools in sbin, which is often missing from PATH.
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin"
