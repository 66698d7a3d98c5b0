# SPDX-License-Identifier: Apache-2.0
"""The log's files: preallocated segments of checked frames.

A segment is a file of zeros that frames are written into, one after another:

    magic "BGF1" | entry length u32 | note length u32 | CRC-32 u32 | entry | note | zeros to 8

all numbers big-endian; the CRC is over the two lengths, the entry and the note (the signed
checkpoint that includes the entry).  Zeros in place of a magic end a segment.  Preallocated bytes
stay writable on a full disk, and one frame is one write and one sync.

A frame that does not check, with nothing valid after it in the last segment, is a torn tail: a
write that a crash cut short.  Anything else that does not check is an alarm, never cut off.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from breakglass.core import limits
from breakglass.errors import LogTampered

MAGIC = b"BGF1"
SUFFIX = ".segment"
_HEADER = struct.Struct(">4sIII")
_LENGTHS = struct.Struct(">II")
HEADER_BYTES = _HEADER.size
_ALIGN = 8
MAX_NOTE_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One entry as it lies in a segment: from `offset` up to `end`."""

    offset: int
    end: int
    entry: bytes
    note: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Torn:
    """Bytes after the last whole frame that are no frame."""

    offset: int
    size: int


def render_frame(entry: bytes, note: bytes) -> bytes:
    """Return the bytes of a frame."""
    lengths = _LENGTHS.pack(len(entry), len(note))
    header = MAGIC + lengths + struct.pack(">I", zlib.crc32(lengths + entry + note))
    frame = header + entry + note
    return frame + bytes(-len(frame) % _ALIGN)


def parse_frame(raw: bytes, offset: int) -> Frame | None:
    """Return the frame at `offset`, or None where there is no whole one."""
    if offset + _HEADER.size > len(raw):
        return None
    magic, entry_bytes, note_bytes, crc = _HEADER.unpack_from(raw, offset)
    if magic != MAGIC or entry_bytes > limits.MAX_ENTRY_BYTES or note_bytes > MAX_NOTE_BYTES:
        return None
    middle = offset + _HEADER.size + entry_bytes
    end = middle + note_bytes
    padded = end + -end % _ALIGN
    if padded > len(raw) or any(raw[end:padded]):
        return None
    lengths = raw[offset + len(MAGIC) : offset + len(MAGIC) + _LENGTHS.size]
    if zlib.crc32(lengths + raw[offset + _HEADER.size : end]) != crc:
        return None
    return Frame(
        offset=offset, end=padded, entry=raw[offset + _HEADER.size : middle], note=raw[middle:end]
    )


def read_frames(raw: bytes, *, name: str, is_last: bool) -> Iterator[Frame | Torn]:
    """Yield a segment's frames, and at the end of the last one what was torn.

    Raises:
        LogTampered: something before a valid frame, or in a segment that is not the last, does not
            check.
    """
    offset = 0
    while (frame := parse_frame(raw, offset)) is not None:
        yield frame
        offset = frame.end
    tail = raw[offset:].rstrip(b"\0")
    if not tail:
        return
    later = raw.find(MAGIC, offset + 1)
    while later != -1:
        if later % _ALIGN == 0 and parse_frame(raw, later) is not None:
            raise LogTampered(
                f"expected a whole frame at {offset} of {name}, got one that does not check"
            )
        later = raw.find(MAGIC, later + 1)
    if not is_last:
        raise LogTampered(f"expected the end of {name} at {offset}, got bytes that are no frame")
    yield Torn(offset=offset, size=len(tail))


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
