# SPDX-License-Identifier: Apache-2.0
"""The log's files: preallocated segments of checked frames.

A segment is a file of zeros that frames are written into, one after another:

    magic "BGF1" | entry length u32 | note length u32 | CRC-32 u32 | entry | note | zeros to 8

all numbers big-endian; the CRC is over the two lengths, the entry and the note (the signed
checkpoint that includes the entry).  Zeros in place of a magic end a segment.  Preallocated bytes
stay writable on a full disk, and one frame is one write and one sync.

A frame that does not check, short enough to be one frame, with nothing after it but zeros, is a
torn tail: a write that a crash cut short.  Anything else that does not check is an alarm, never cut
off.  This module reads; only `space` writes.
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
    """One entry as it lies in a segment: from `offset` up to `end`."""

    offset: int
    end: int
    entry: bytes
    note: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Torn:
    """Bytes after the last whole frame that are no frame, up to the last that is not zero."""

    offset: int
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an entry lies: its segment, where its frame begins, and the entry's length."""

    segment: int
    offset: int
    entry_bytes: int


class Places:
    """The places of all entries: 12 bytes of memory each."""

    def __init__(self) -> None:
        self._numbers = array("I")

    def __len__(self) -> int:
        return len(self._numbers) // 3

    def append(self, place: Place) -> None:
        """Add the place of the next entry, at once for readers in other threads."""
        self._numbers.extend((place.segment, place.offset, place.entry_bytes))

    def __getitem__(self, index: int) -> Place:
        if not 0 <= index < len(self):
            raise IndexError(f"expected an entry below {len(self)}, got {index}")
        segment, offset, entry_bytes = self._numbers[3 * index : 3 * index + 3]
        return Place(segment=segment, offset=offset, entry_bytes=entry_bytes)


class SegmentReader:
    """Reads entries back by their places, for any thread; keeps one segment open."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._segment = -1
        self._handle = -1

    def read(self, place: Place) -> bytes:
        """Return the bytes that lie where the entry was; the caller compares their hash."""
        with self._lock:
            try:
                if self._segment != place.segment:
                    self._open(place.segment)
                return os.pread(self._handle, place.entry_bytes, place.offset + HEADER_BYTES)
            except OSError as error:
                raise FileUnreadable(
                    f"expected to read the log in {self._directory}, got: {error.strerror}"
                ) from error

    def close(self) -> None:
        """Let go of the open segment."""
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
    """Return the bytes of a frame."""
    lengths = _LENGTHS.pack(len(entry), len(note))
    content = entry + note
    crc = _CRC.pack(zlib.crc32(content, zlib.crc32(lengths)))
    frame = MAGIC + lengths + crc + content
    return frame + bytes(-len(frame) % _ALIGN)


def parse_frame(raw: bytes, offset: int) -> Frame | None:
    """Return the frame at `offset`, or None where there is no whole one."""
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
    """Yield a segment's frames, and after them what is torn.

    Raises:
        LogTampered: something before a valid frame does not check, or is longer than any frame.
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
    """Return whether a whole frame begins after `begin`: then what is there was acknowledged.

    An entry is printable text without zero bytes, so none can hold the header of a frame.
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
    """Return the segments in order; raise `LogTampered` when one is missing."""
    paths = tuple(sorted(directory.glob(f"*{SUFFIX}")))
    for number, path in enumerate(paths):
        if path != segment_path(directory, number):
            raise LogTampered(f"expected {segment_path(directory, number).name}, got {path.name}")
    return paths
