# SPDX-License-Identifier: Apache-2.0
"""Bounded evidence of a pod before it is killed: kept beside the log, its hash in the log.

A kill waits for it at most `bounds.EVIDENCE_TIMEOUT_S`, and nothing that goes wrong here reaches
the caller: the note says it.  Reading may hang (a dead disk, a process that cannot be looked at),
and a thread that hangs cannot be ended, so each capture has one of few daemon threads, which hold
back neither other work nor the agent's end.  When all of them hang, captures are skipped at once.

What a capture does, in its thread:
(1) read the parts until a deadline of its own -> (2) keep within the store's size -> (3) write the
file under another name -> (4) rename it to `<command id>/<uid>.json` -> (5) answer.
One command keeps one file of a pod: what was read before the first kill is never overwritten.
Whoever comes first, the answer or the timeout, decides: after a timeout the thread takes its file
away again, so no file is there whose hash was never told.  A crash before (4) leaves a file that
`measure` removes; a crash after (4) leaves evidence that no entry names, and a command that is
resumed takes that as its own.

It is not synced: a sync can take seconds when a node drowns.  Power lost within seconds of the kill
may take the file, and then the entry's hash says that there was one.
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
_WORD_S = 0.01
_BLOCK_BYTES = 4_096  # what a file takes at least
_PART = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}", re.ASCII)
_UNNAMED = ".new"


class CaptureStore:
    """Evidence in a folder, one file for each command and pod.

    Args:
        directory: where; it is made when it is needed.
        pod_logs: kubelet's podLogsDir.
        clock: a real one: threads do not run in virtual time.
        proc: where proc(5) is mounted.
    """

    def __init__(
        self, directory: Path, *, pod_logs: Path, clock: Clock, proc: Path = Path("/proc")
    ) -> None:
        self._pod_logs = pod_logs
        self._clock = clock
        self._proc = proc
        self._shelf = _Shelf(directory)
        self._free = asyncio.Semaphore(_MAX_THREADS)
        self._hanging = 0

    def measure(self) -> None:
        """Count what is in the store; else the first capture does, in the time of its pod."""
        with contextlib.suppress(OSError):
            self._shelf.measure()

    async def capture(
        self, pod: Pod, *, command_id: str, pids: tuple[int, ...], group: Path | None
    ) -> Capture:
        """Return the evidence that was kept of a pod; it never raises, and ends at the timeout.

        Args:
            pod: as it was last seen.
            command_id: what it is stopped by.
            pids: processes of the pod, the first of which is asked for its connections.
            group: the pod's control group in the cgroup2 tree, or None.
        """
        begun_ms = self._clock.monotonic_ms()
        if self._hanging >= _MAX_THREADS:
            return Capture(sha256="", size=0, ms=0, note="skipped: earlier captures still hang")
        job = _Job(pod=pod, command_id=command_id, pids=pids, group=group, begun_ms=begun_ms)
        try:
            async with asyncio.TaskGroup() as tasks:
                timer = tasks.create_task(self._give_up(job))
                starter = tasks.create_task(self._start(job))
                kept = await job.answer
                timer.cancel()
                starter.cancel()
        finally:
            self._abandon(job)
        waited_ms = self._clock.monotonic_ms() - begun_ms
        return Capture(sha256=kept.sha256, size=kept.size, ms=waited_ms, note=kept.note)

    async def _give_up(self, job: "_Job") -> None:
        await self._clock.sleep(bounds.CAPTURE_TIMEOUT_S)
        waited_ms = round(bounds.CAPTURE_TIMEOUT_S * 1_000)
        if self._abandon(job):
            note = "hung" if job.started else "no thread was free"
            job.settle(_nothing(f"skipped: {note} for {waited_ms} ms"))
        while not job.answer.done():  # its thread was first, and its word is on the way
            await self._clock.sleep(_WORD_S)

    def _abandon(self, job: "_Job") -> bool:
        """Let the thread of a job, if it has one, end in vain; whether that was still possible."""
        if not job.claim():
            return False
        if job.started:
            job.hangs = True
            self._hanging += 1
        return True

    async def _start(self, job: "_Job") -> None:
        await self._free.acquire()
        if job.answer.done():  # its time ended in the same turn of the loop
            self._free.release()
            return
        thread = threading.Thread(target=self._run, args=(job,), daemon=True, name="evidence")
        try:
            job.started = True
            thread.start()
        except RuntimeError:  # the unit's TasksMax, or no memory
            job.started = False
            self._free.release()
            if job.claim():
                job.settle(_nothing("skipped: no thread could be started"))

    def _run(self, job: "_Job") -> None:
        """Do a job, in its thread."""
        try:
            kept = self._take(job)
        except Exception as error:  # noqa: BLE001 - whatever it is, the kill comes first
            kept = _nothing(f"not kept: {type(error).__name__}: {printable(str(error))}")
        won = job.claim()
        if not won and kept.path is not None:
            self._shelf.remove(kept.path, kept.size)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            job.loop.call_soon_threadsafe(self._ended, job, kept)

    def _ended(self, job: "_Job", kept: "_Kept") -> None:
        self._free.release()
        self._hanging -= job.hangs
        job.settle(kept)

    def _take(self, job: "_Job") -> "_Kept":
        names = (job.command_id, job.pod.uid)
        if not all(map(_PART.fullmatch, names)):
            return _nothing("not kept: its command or uid is no name of a file")
        earlier = self._shelf.earlier(*names)
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
        return self._shelf.keep(*names, render(head | document | {"cuts": note}), note)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """What the thread did; `path` is set when it made the file."""

    sha256: str = ""
    size: int = 0
    note: str = ""
    path: Path | None = None


def _nothing(note: str) -> _Kept:
    return _Kept(note=note)


class _Job:
    """One capture, between the loop and its thread: who claims it first decides its end."""

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
        """Tell whether the caller is the first, from any thread."""
        return self._claimed.acquire(blocking=False)

    def settle(self, kept: _Kept) -> None:
        """Answer, in the loop, unless somebody did or nobody waits any more."""
        if not self.answer.done():
            self.answer.set_result(kept)


class _Shelf:
    """The files, and how much they take together; used from several threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._turn = threading.Lock()
        self._used_bytes: int | None = None
        self._numbers = itertools.count()

    def measure(self) -> None:
        """Count what the files take, once.

        Raises:
            OSError: the folder is there and cannot be read.
        """
        with self._turn:
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
        return _Kept(sha256=digest, size=len(raw), note="taken by an earlier try of this command")

    def keep(self, command_id: str, uid: str, raw: bytes, note: str) -> _Kept:
        """Write a file, unless it is too much; return what was kept.

        Raises:
            OSError: it could not be written; nothing is left of it.
        """
        if len(raw) > bounds.CAPTURE_MAX_BYTES:
            return _nothing(f"not kept: {len(raw)} bytes are too many")
        path = self._path(command_id, uid)
        for folder in (self._directory, path.parent):
            folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        disk = os.statvfs(path.parent)
        if disk.f_bavail * disk.f_frsize < bounds.CAPTURE_DISK_LEFT_BYTES:
            return _nothing("not kept: what is left of the disk is for the log")
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
        """Take a file away whose hash nobody was told."""
        with contextlib.suppress(OSError):
            path.unlink()
            self._release(_taken(size))

    def _path(self, command_id: str, uid: str) -> Path:
        return self._directory / command_id / f"{uid}.json"

    def _reserve(self, size: int) -> bool:
        self.measure()
        with self._turn:
            used_bytes = self._used_bytes or 0
            if used_bytes + size > bounds.CAPTURE_STORE_BYTES:
                return False
            self._used_bytes = used_bytes + size
            return True

    def _release(self, size: int) -> None:
        with self._turn:
            self._used_bytes = (self._used_bytes or 0) - size


def _counted(path: Path) -> int:
    """Return what a file takes; one that a crash left without its name is removed."""
    with contextlib.suppress(OSError):
        if path.name.endswith(_UNNAMED):
            path.unlink()
        else:
            return _taken(path.stat(follow_symlinks=False).st_size)
    return 0


def _taken(size: int) -> int:
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES
