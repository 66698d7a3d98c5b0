# SPDX-License-Identifier: Apache-2.0
"""The log's files: preallocated segments of frames with checksums.

A segment is a file of zeros, into which frames are written one after another:

    magic "BGF1" | entry length u32 | note length u32 | CRC-32 u32 | entry | note | zeros to 8

All numbers are big-endian.  The CRC covers the two lengths, the entry and the note (the signed
checkpoint that includes the entry).  Zeros in place of a magic end the segment.  Preallocated
bytes stay writable on a full disk; one frame takes one write and one sync.

An invalid frame is a torn tail when it is no longer than a frame and only zeros follow: a crash
cut that write short.  Any other invalid frame is an alarm, and nothing is cut off.  This module
reads; only `space` writes.
"""

import os
import struct
import threading
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from breakglass.core import bounds
from breakglass.errors import FileUnreadable, LogTampered

MAGIC = b"BGF1"
SUFFIX = ".segment"
_HEADER = struct.Struct(">4sIII")
_LENGTHS = struct.Struct(">II")
_CRC = struct.Struct(">I")
_LENGTHS_AT = len(MAGIC)
HEADER_BYTES = _HEADER.size
_ALIGN = 8
MAX_FRAME_NOTE_BYTES = 1024
MAX_FRAME_BYTES = HEADER_BYTES + bounds.MAX_ENTRY_BYTES + MAX_FRAME_NOTE_BYTES + _ALIGN


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One entry in a segment: its frame begins at `offset` and ends before `end`."""

    offset: int
    end: int
    entry: bytes
    note: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Torn:
    """Bytes after the last whole frame that are not a frame, without the zeros at their end."""

    offset: int
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an entry is: its segment, the offset of its frame, and the entry's length."""

    segment: int
    offset: int
    entry_bytes: int


class Places:
    """The places of all entries, 12 bytes of memory each."""

    def __init__(self) -> None:
        self._numbers = array("I")

    def __len__(self) -> int:
        return len(self._numbers) // 3

    def append(self, place: Place) -> None:
        """Add the place of the next entry; readers in other threads see all of it or nothing."""
        self._numbers.extend((place.segment, place.offset, place.entry_bytes))

    def __getitem__(self, index: int) -> Place:
        if not 0 <= index < len(self):
            raise IndexError(f"expected an entry below {len(self)}, got {index}")
        segment, offset, entry_bytes = self._numbers[3 * index : 3 * index + 3]
        return Place(segment=segment, offset=offset, entry_bytes=entry_bytes)


class SegmentReader:
    """Reads entries by their places, in any thread; keeps one segment open."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._segment = -1
        self._handle = -1

    def read(self, place: Place) -> bytes:
        """Return the bytes at an entry's place; the caller compares their hash."""
        with self._lock:
            try:
                if self._segment != place.segment:
                    self._open(place.segment)
                return os.pread(self._handle, place.entry_bytes, place.offset + HEADER_BYTES)
            except OSError as error:
                raise FileUnreadable(
                    f"cannot read the log in {self._directory}: {error.strerror}"
                ) from error

    def close(self) -> None:
        """Close the open segment."""
        with self._lock:
            self._close()

    def _open(self, segment: int) -> None:
        self._close()
        self._handle = os.open(segment_path(self._directory, segment), os.O_RDONLY | os.O_CLOEXEC)
        self._segment = segment

    def _close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
        self._segment = self._handle = -1


def render_frame(entry: bytes, note: bytes) -> bytes:
    """Return the bytes of a frame, zeros to a multiple of 8 included."""
    lengths = _LENGTHS.pack(len(entry), len(note))
    content = entry + note
    crc = _CRC.pack(zlib.crc32(content, zlib.crc32(lengths)))
    frame = MAGIC + lengths + crc + content
    return frame + bytes(-len(frame) % _ALIGN)


def parse_frame(raw: bytes, offset: int) -> Frame | None:
    """Return the frame at `offset`, or None when there is no whole, valid frame."""
    begin = offset + HEADER_BYTES
    if begin > len(raw):
        return None
    magic, entry_bytes, note_bytes, crc = _HEADER.unpack_from(raw, offset)
    if magic != MAGIC or entry_bytes > bounds.MAX_ENTRY_BYTES or note_bytes > MAX_FRAME_NOTE_BYTES:
        return None
    middle = begin + entry_bytes
    end = middle + note_bytes
    padded = end + -end % _ALIGN
    if padded > len(raw) or any(raw[end:padded]):
        return None
    lengths = raw[offset + _LENGTHS_AT : offset + _LENGTHS_AT + _LENGTHS.size]
    if zlib.crc32(raw[begin:end], zlib.crc32(lengths)) != crc:
        return None
    return Frame(offset=offset, end=padded, entry=raw[begin:middle], note=raw[middle:end])


def parse_segment(raw: bytes, *, name: str) -> Iterator[Frame | Torn]:
    """Yield a segment's frames, then its torn tail if it has one.

    Raises:
        LogTampered: an invalid frame has a valid one after it, or is longer than any frame.
    """
    offset = 0
    while (frame := parse_frame(raw, offset)) is not None:
        yield frame
        offset = frame.end
    tail = raw[offset:].rstrip(b"\0")
    if tail:
        if len(tail) > MAX_FRAME_BYTES or _holds_a_frame(raw, offset, offset + len(tail)):
            raise LogTampered(
                f"expected a whole frame at byte {offset} of {name}, got a broken one"
            )
        yield Torn(offset=offset, raw=tail)


def _holds_a_frame(raw: bytes, begin: int, end: int) -> bool:
    """Return whether a whole frame begins after `begin`: then the bytes at `begin` were synced.

    An entry is printable text without zero bytes, so no entry can contain a frame's header.
    """
    found = raw.find(MAGIC, begin + 1, end)
    while found != -1:
        if found % _ALIGN == 0 and parse_frame(raw, found) is not None:
            return True
        found = raw.find(MAGIC, found + 1, end)
    return False


def segment_path(directory: Path, number: int) -> Path:
    """Return the path of a segment."""
    return directory / f"{number:08d}{SUFFIX}"


def segment_paths(directory: Path) -> tuple[Path, ...]:
    """Return the segments' paths in order; raise `LogTampered` when one is missing."""
    paths = tuple(sorted(directory.glob(f"*{SUFFIX}")))
    for number, path in enumerate(paths):
        if path != segment_path(directory, number):
            raise LogTampered(f"expected {segment_path(directory, number).name}, got {path.name}")
    return paths
