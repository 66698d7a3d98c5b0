# SPDX-License-Identifier: Apache-2.0
"""Store bounded captures of pods beside the log; the log has the hash of each file.

A kill waits for its capture at most `bounds.CAPTURE_TIMEOUT_S`.  No failure here is raised to the
caller: the capture's note says it.  A read may hang (a broken disk, an unreadable process), and a
hanging thread cannot be ended.  So each capture uses one of a few daemon threads, which delay
neither other work nor the agent's exit.  When all of them hang, captures are skipped at once.

A capture, in its thread:
(1) read the parts until a deadline of its own -> (2) keep within the store's size -> (3) write the
file under another name -> (4) rename it to `<command id>/<uid>.json` -> (5) answer.
A command keeps one file of a pod and never overwrites it: it shows the pod before its first kill.
The answer or the timeout decides, whichever comes first.  After a timeout the thread removes its
file, so the store has no file whose hash was not returned.  A crash before (4) leaves a file that
`measure` removes; a crash after (4) leaves a capture that no entry names, which the resumed command
uses as its own.

The file is not synced: a sync can take seconds on an overloaded node.  A power cut within seconds
of the kill may lose the file; the hash in the entry then shows that there was one.
"""

import asyncio
import contextlib
import hashlib
import itertools
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from breakglass.agent.capture.port import Capture
from breakglass.agent.capture.sources import Sources, printable, render
from breakglass.agent.clock import Clock
from breakglass.agent.log.disk import PRIVATE_FILE, PRIVATE_FOLDER
from breakglass.core import bounds, canonical
from breakglass.core.entries import render_instant
from breakglass.core.pods import Pod

_MAX_THREADS = 4
_READING_SHARE = 0.6  # of the timeout; the rest is for writing
_ANSWER_POLL_S = 0.01
_BLOCK_BYTES = 4_096  # the least space that a file takes
_PART = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}", re.ASCII)
_UNNAMED = ".new"


class CaptureStore:
    """Captures in a folder, one file for each command and pod.

    Args:
        directory: the folder; it is made when the first capture is stored.
        pod_logs: kubelet's podLogsDir.
        clock: a real clock: threads do not run in virtual time.
        proc: where proc(5) is mounted.
    """

    def __init__(
        self, directory: Path, *, pod_logs: Path, clock: Clock, proc: Path = Path("/proc")
    ) -> None:
        self._pod_logs = pod_logs
        self._clock = clock
        self._proc = proc
        self._files = _Files(directory)
        self._free = asyncio.Semaphore(_MAX_THREADS)
        self._hanging = 0

    def measure(self) -> None:
        """Count the stored bytes, remove crashed captures' files; else the first capture does."""
        with contextlib.suppress(OSError):
            self._files.measure()

    async def capture(
        self, pod: Pod, *, command_id: str, pids: tuple[int, ...], group: Path | None
    ) -> Capture:
        """Capture a pod and return what was kept; it never raises and ends at its timeout.

        Args:
            pod: as it was last seen.
            command_id: the id of the command that stops the pod.
            pids: processes of the pod; its connections are read through the first that allows it.
            group: the pod's control group in the cgroup2 tree, or None.
        """
        begun_ms = self._clock.monotonic_ms()
        if self._hanging >= _MAX_THREADS:
            return Capture(sha256="", size=0, ms=0, note="skipped: earlier captures still hang")
        job = _Job(pod=pod, command_id=command_id, pids=pids, group=group, begun_ms=begun_ms)
        try:
            async with asyncio.TaskGroup() as tasks:
                timer = tasks.create_task(self._time_out(job))
                starter = tasks.create_task(self._start(job))
                kept = await job.answer
                timer.cancel()
                starter.cancel()
        finally:
            self._abandon(job)
        waited_ms = self._clock.monotonic_ms() - begun_ms
        return Capture(sha256=kept.sha256, size=kept.size, ms=waited_ms, note=kept.note)

    async def _time_out(self, job: "_Job") -> None:
        await self._clock.sleep(bounds.CAPTURE_TIMEOUT_S)
        waited_ms = round(bounds.CAPTURE_TIMEOUT_S * 1_000)
        if self._abandon(job):
            note = "hung" if job.started else "no thread was free"
            job.settle(_nothing(f"skipped: {note} for {waited_ms} ms"))
        while not job.answer.done():  # the capture just beat the timeout: wait for its answer
            await self._clock.sleep(_ANSWER_POLL_S)

    def _abandon(self, job: "_Job") -> bool:
        """Claim a job so that its thread removes what it keeps; False when the thread was first."""
        if not job.claim():
            return False
        if job.started:
            job.hangs = True
            self._hanging += 1
        return True

    async def _start(self, job: "_Job") -> None:
        await self._free.acquire()
        if job.answer.done():  # the timeout came while this waited for a thread
            self._free.release()
            return
        thread = threading.Thread(target=self._run, args=(job,), daemon=True, name="capture")
        try:
            job.started = True
            thread.start()
        except RuntimeError:  # the unit's TasksMax is reached, or memory is used up
            job.started = False
            self._free.release()
            if job.claim():
                job.settle(_nothing("skipped: no thread could be started"))

    def _run(self, job: "_Job") -> None:
        """Run a job in its thread."""
        try:
            kept = self._take(job)
        except Exception as error:  # noqa: BLE001 - no failure of a capture may stop the kill
            kept = _nothing(f"not kept: {type(error).__name__}: {printable(str(error))}")
        is_first = job.claim()
        if not is_first and kept.path is not None:
            self._files.remove(kept.path, kept.size)
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            job.loop.call_soon_threadsafe(self._ended, job, kept)

    def _ended(self, job: "_Job", kept: "_Kept") -> None:
        self._free.release()
        self._hanging -= job.hangs
        job.settle(kept)

    def _take(self, job: "_Job") -> "_Kept":
        names = (job.command_id, job.pod.uid)
        if not all(map(_PART.fullmatch, names)):
            return _nothing("not kept: its command id or pod UID is not a valid file name")
        earlier = self._files.earlier(*names)
        if earlier is not None:
            return earlier
        reading_ms = round(bounds.CAPTURE_TIMEOUT_S * _READING_SHARE * 1_000)
        until_ms = job.begun_ms + reading_ms
        sources = Sources(
            pod_logs=self._pod_logs,
            proc=self._proc,
            late=lambda: self._clock.monotonic_ms() >= until_ms,
        )
        head: dict[str, canonical.Json] = {
            "command": job.command_id,
            "taken": render_instant(self._clock.now()),
        }
        document, cuts = sources.document(job.pod, pids=job.pids, group=job.group)
        note = printable("; ".join(cuts))
        return self._files.keep(*names, render(head | document | {"cuts": note}), note)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """What a thread kept; `path` is set when it wrote the file."""

    sha256: str = ""
    size: int = 0
    note: str = ""
    path: Path | None = None


def _nothing(note: str) -> _Kept:
    return _Kept(note=note)


class _Job:
    """One capture, shared by the loop and its thread; the first of them to claim it decides."""

    def __init__(
        self,
        *,
        pod: Pod,
        command_id: str,
        pids: tuple[int, ...],
        group: Path | None,
        begun_ms: int,
    ) -> None:
        self.pod, self.command_id, self.pids, self.group = pod, command_id, pids, group
        self.begun_ms = begun_ms
        self.loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[_Kept] = self.loop.create_future()
        self.started = self.hangs = False
        self._claimed = threading.Lock()

    def claim(self) -> bool:
        """Return whether this is the first claim; any thread may call it."""
        return self._claimed.acquire(blocking=False)

    def settle(self, kept: _Kept) -> None:
        """Set the answer, in the loop, unless there is one or the caller was cancelled."""
        if not self.answer.done():
            self.answer.set_result(kept)


class _Files:
    """The stored files and their total size; several threads use it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._used_bytes: int | None = None
        self._numbers = itertools.count()

    def measure(self) -> None:
        """Count the bytes that the files take, once.

        Raises:
            OSError: the folder exists and cannot be read.
        """
        with self._lock:
            if self._used_bytes is None:
                self._used_bytes = sum(map(_counted, self._directory.glob("*/*")))

    def earlier(self, command_id: str, uid: str) -> _Kept | None:
        """Return what an earlier try of this command kept of the pod, or None."""
        try:
            with self._path(command_id, uid).open("rb") as file:
                raw = file.read(bounds.CAPTURE_MAX_BYTES)
        except FileNotFoundError:
            return None
        digest = hashlib.sha256(raw).hexdigest()
        return _Kept(sha256=digest, size=len(raw), note="kept by an earlier try of this command")

    def keep(self, command_id: str, uid: str, raw: bytes, note: str) -> _Kept:
        """Write a file unless it or the store is too large; return what was kept.

        Raises:
            OSError: it could not be written; no part of it is left.
        """
        if len(raw) > bounds.CAPTURE_MAX_BYTES:
            return _nothing(f"not kept: {len(raw)} bytes, more than {bounds.CAPTURE_MAX_BYTES}")
        path = self._path(command_id, uid)
        for folder in (self._directory, path.parent):
            folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        disk = os.statvfs(path.parent)
        if disk.f_bavail * disk.f_frsize < bounds.CAPTURE_DISK_LEFT_BYTES:
            return _nothing("not kept: the rest of the disk is reserved for the log")
        if not self._reserve(_taken(len(raw))):
            return _nothing(f"not kept: the store is full at {bounds.CAPTURE_STORE_BYTES} bytes")
        unnamed = path.with_name(f".{uid}.{next(self._numbers)}{_UNNAMED}")
        try:
            handle = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
            with os.fdopen(handle, "wb") as file:
                file.write(raw)
            unnamed.rename(path)
        except OSError:
            self._release(_taken(len(raw)))
            unnamed.unlink(missing_ok=True)
            raise
        digest = hashlib.sha256(raw).hexdigest()
        return _Kept(sha256=digest, size=len(raw), note=note, path=path)

    def remove(self, path: Path, size: int) -> None:
        """Remove a file whose hash was not returned."""
        with contextlib.suppress(OSError):
            path.unlink()
            self._release(_taken(size))

    def _path(self, command_id: str, uid: str) -> Path:
        return self._directory / command_id / f"{uid}.json"

    def _reserve(self, size: int) -> bool:
        self.measure()
        with self._lock:
            used_bytes = self._used_bytes or 0
            if used_bytes + size > bounds.CAPTURE_STORE_BYTES:
                return False
            self._used_bytes = used_bytes + size
            return True

    def _release(self, size: int) -> None:
        with self._lock:
            self._used_bytes = (self._used_bytes or 0) - size


def _counted(path: Path) -> int:
    """Return the space that a file takes; remove it if a crash left it before its rename."""
    with contextlib.suppress(OSError):
        if path.name.endswith(_UNNAMED):
            path.unlink()
        else:
            return _taken(path.stat(follow_symlinks=False).st_size)
    return 0


def _taken(size: int) -> int:
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES
