# SPDX-License-Identifier: Apache-2.0
"""Preallocated space for the log, and the one write that fills it.

The next segment is made once a quarter of the current one is used.  On a disk that becomes full
the log still has the rest of this segment, the next one, and a ballast file, which becomes the
last segment by a rename alone.  Of all that, `reserve_bytes` are kept for urgent frames: the
outcomes of accepted commands.

A write, in order, and what a failure leaves:

 (1) space is found, in the next segment if needed.     Nothing: a blank segment has no entry.
 (2) the frame is written.                              No space: zeros again, `StateUnwritable`.
 (3) it is synced.                                      Unknown: every later write is refused.

After a failed sync the kernel may return bytes that never reached the disk, and it reports the
failure only once (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020).  So
nothing is retried here: the next start reads the files and writes the last frame once more.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from breakglass.agent.log.disk import Disk, is_full, make_file, sync_folder, unwritable, write_all
from breakglass.agent.log.segments import segment_path
from breakglass.core import bounds
from breakglass.errors import LogUnknown, StateUnwritable

BALLAST = "ballast"
_PREPARE_AT = 4  # make the next segment once 1/4 of the current one is used


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much disk a log may take; a segment must hold the longest entry."""

    segment_bytes: int = bounds.SEGMENT_BYTES
    ballast_bytes: int = bounds.BALLAST_BYTES
    reserve_bytes: int = bounds.LOG_RESERVE_BYTES
    max_bytes: int = bounds.MAX_LOG_BYTES


class Space:
    """The segments of one log, and the place of the next frame.

    Args:
        directory: the folder of the segments.
        disk: the disk operations; every write goes through them.
        sizes: how much disk may be taken.
        segments: the lengths of the segments that exist.
        current: the number of the segment that is being filled.
        end: the offset of the next frame in it.
    """

    def __init__(
        self,
        directory: Path,
        disk: Disk,
        sizes: Sizes,
        *,
        segments: list[int],
        current: int,
        end: int,
    ) -> None:
        self._directory = directory
        self._disk = disk
        self._sizes = sizes
        self._segments = list(segments)
        self._current = current
        self._end = end
        self._handle = -1
        self._failure = ""

    def open(self) -> None:
        """Open the current segment; make the first segment and the ballast when missing.

        Raises:
            StateUnwritable: there is no segment and none can be made.
            LogUnknown: a folder could not be synced.
            OSError: the current segment cannot be opened.
        """
        if not self._segments:
            self._grow()
        self._sync_names()
        self._handle = self._opened(self._current)
        self._remove_bad_ballast()
        self.prepare()

    def close(self) -> None:
        """Close the current segment; every later write is refused."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1
        self._failure = self._failure or "the log is closed"

    @property
    def used_bytes(self) -> int:
        """The bytes of disk that the segments take."""
        return sum(self._segments)

    @property
    def next_place(self) -> tuple[int, int]:
        """The segment and the offset of the next frame, if the frame fits there."""
        return self._current, self._end

    def verify_usable(self) -> None:
        """Raise `LogUnknown` when a write or a sync failed before."""
        if self._failure:
            raise LogUnknown(f"the log takes no more writes: {self._failure}")

    def write(self, frame: bytes, *, urgent: bool) -> tuple[int, int]:
        """Write a frame durably; return its segment and offset.

        Raises:
            StateUnwritable: there is no space ("disk-full", "log-full"); nothing is written.
            LogUnknown: a write or a sync failed, now or before.
        """
        self.verify_usable()
        self._make_room(len(frame), urgent=urgent)  # (1)
        place = self.next_place
        # Any other exception here, such as one from a signal handler, must refuse later writes.
        self._failure = "a write was interrupted"
        try:
            write_all(self._disk, self._handle, frame, self._end)  # (2)
        except OSError as error:
            if not is_full(error):
                self._break(error)
            self._write_without_space(frame, error)
        self._sync()  # (3)
        self._failure = ""
        self._end += len(frame)
        return place

    def settle(self, raw: bytes, offset: int) -> None:
        """Rewrite a part of the current segment, durably, before the first append.

        Raises:
            LogUnknown: the write or the sync failed.
        """
        try:
            write_all(self._disk, self._handle, raw, offset)
        except OSError as error:
            self._break(error)
        self._sync()

    def prepare(self) -> None:
        """Preallocate the next segment, then the ballast, where the disk has space.

        The log calls it after each append; `write` never waits for it.  It makes a segment about
        every three thousand entries, which takes some milliseconds.
        """
        with contextlib.suppress(StateUnwritable, LogUnknown):
            if not self._has_next and self._end * _PREPARE_AT > self._segments[self._current]:
                self._grow()
            # A ballast that became a segment is replaced only while the log may still grow.
            room = self._sizes.max_bytes - self.used_bytes
            if not self._has_ballast and room >= self._sizes.ballast_bytes:
                self._make(BALLAST, self._sizes.ballast_bytes)
                self._sync_names()

    # --- space -----------------------------------------------------------------------------

    @property
    def _has_next(self) -> bool:
        return self._current + 1 < len(self._segments)

    @property
    def _has_ballast(self) -> bool:
        return (self._directory / BALLAST).exists()

    def _room(self) -> int:
        """Return how many bytes can be written without more disk space."""
        ballast = self._sizes.ballast_bytes if self._has_ballast else 0
        return sum(self._segments[self._current :]) - self._end + ballast

    def _make_room(self, count: int, *, urgent: bool) -> None:
        if count > self._sizes.segment_bytes:
            raise ValueError(f"expected a frame that fits a segment, got {count} bytes")
        keep = 0 if urgent else self._sizes.reserve_bytes
        while keep and self._room() - count < keep:
            self._grow()
        while self._end + count > self._segments[self._current]:
            if not self._has_next:
                self._grow_or_use_ballast()
            self._open_next()

    def _open_next(self) -> None:
        try:
            handle = self._opened(self._current + 1)
        except OSError as error:
            raise unwritable(self._directory, error) from error
        os.close(self._handle)
        self._handle, self._current, self._end = handle, self._current + 1, 0

    def _grow_or_use_ballast(self) -> None:
        try:
            self._grow()
        except StateUnwritable:
            # A rename works on a full disk, and no other process can take that space meanwhile.
            if not self._has_ballast:
                raise
            path = segment_path(self._directory, len(self._segments))
            try:
                self._disk.replace(self._directory / BALLAST, path)
            except OSError as error:
                raise unwritable(self._directory, error) from error
            self._sync_names()
            self._segments.append(self._sizes.ballast_bytes)

    def _grow(self) -> None:
        """Make one more segment; raise `StateUnwritable` when the log or the disk is full."""
        size = self._sizes.segment_bytes
        if sum(self._segments) + size + self._sizes.ballast_bytes > self._sizes.max_bytes:
            raise StateUnwritable(
                f"cannot add a log segment: the log would exceed {self._sizes.max_bytes} bytes",
                code="log-full",
                hint="keep a copy of the log, then start a new one with a new node key",
            )
        self._make(segment_path(self._directory, len(self._segments)).name, size)
        self._sync_names()
        self._segments.append(size)

    def _make(self, name: str, size: int) -> None:
        try:
            make_file(self._disk, self._directory / name, b"", size=size)
        except OSError as error:
            raise unwritable(self._directory, error) from error

    def _remove_bad_ballast(self) -> None:
        """Remove a ballast that could not become a segment: it must be whole and all zeros."""
        path = self._directory / BALLAST
        if path.exists() and path.read_bytes() != bytes(self._sizes.ballast_bytes):
            with contextlib.suppress(OSError):
                self._disk.remove(path)

    # --- the disk --------------------------------------------------------------------------

    def _opened(self, number: int) -> int:
        path = segment_path(self._directory, number)
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)

    def _write_without_space(self, frame: bytes, error: OSError) -> None:
        """Retry without the ballast: btrfs and ZFS do not keep preallocated space for a file."""
        with contextlib.suppress(OSError):
            self._disk.remove(self._directory / BALLAST)
            write_all(self._disk, self._handle, frame, self._end)
            return
        try:
            write_all(self._disk, self._handle, bytes(len(frame)), self._end)
        except OSError as second:
            self._break(second)
        self._sync()
        self._failure = ""
        raise unwritable(self._directory, error) from error

    def _sync(self) -> None:
        try:
            self._disk.fdatasync(self._handle)
        except OSError as error:
            self._break(error)

    def _sync_names(self) -> None:
        try:
            sync_folder(self._disk, self._directory)
        except OSError as error:
            self._break(error)

    def _break(self, error: OSError) -> NoReturn:
        self._failure = error.strerror or str(error)
        raise LogUnknown(f"cannot write to the log durably: {self._failure}") from error
