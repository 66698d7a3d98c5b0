# SPDX-License-Identifier: Apache-2.0
"""Frames: each is found whole or not at all, and no entry can be taken for a frame."""

import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breakglass.agent.log.segments import (
    HEADER_BYTES,
    MAGIC,
    MAX_FRAME_BYTES,
    MAX_FRAME_NOTE_BYTES,
    Frame,
    Place,
    Places,
    SegmentReader,
    Torn,
    parse_frame,
    parse_segment,
    render_frame,
    segment_path,
    segment_paths,
)
from breakglass.core import bounds
from breakglass.errors import FileUnreadable, LogTampered

ENTRY, NOTE = b'{"kind":"stopped"}', b"a note\n"


@given(entry=st.binary(max_size=300), note=st.binary(max_size=300), before=st.integers(0, 9))
def test_what_is_rendered_is_read_back(entry: bytes, note: bytes, before: int) -> None:
    """A frame gives back its entry and its note exactly, at any offset."""
    raw = render_frame(entry, note)
    assert len(raw) % 8 == 0
    frame = parse_frame(bytes(before * 8) + raw, before * 8)
    assert frame == Frame(offset=before * 8, end=before * 8 + len(raw), entry=entry, note=note)


def test_a_frame_is_laid_out_as_documented() -> None:
    """A frame is: magic, two lengths, zlib's CRC of lengths, entry and note, zeros to 8 bytes."""
    lengths = struct.pack(">II", len(ENTRY), len(NOTE))
    crc = struct.pack(">I", zlib.crc32(lengths + ENTRY + NOTE))
    expected = b"BGF1" + lengths + crc + ENTRY + NOTE
    assert render_frame(ENTRY, NOTE) == expected + bytes(-len(expected) % 8)


def test_no_changed_bit_makes_another_frame() -> None:
    """Changing any one bit of a frame, padding included, makes it invalid."""
    raw = render_frame(ENTRY, NOTE)
    for place in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[place // 8] ^= 1 << place % 8
        assert parse_frame(bytes(flipped), 0) is None


def test_no_part_of_a_frame_is_a_frame() -> None:
    """A frame whose end is cut off, or replaced by zeros, is invalid."""
    raw = render_frame(ENTRY, NOTE)
    whole = len(raw.rstrip(b"\0"))
    for cut in range(whole):
        assert parse_frame(raw[:cut], 0) is None
        assert parse_frame(raw[:cut].ljust(len(raw), b"\0"), 0) is None


@pytest.mark.parametrize(
    ("entry_bytes", "note_bytes"),
    [(bounds.MAX_ENTRY_BYTES + 1, 0), (0, MAX_FRAME_NOTE_BYTES + 1), (2**32 - 1, 2**32 - 1)],
)
def test_a_length_beyond_its_limit_is_no_frame(entry_bytes: int, note_bytes: int) -> None:
    """Lengths are compared with their bounds before the bytes are read."""
    content = bytes(min(entry_bytes + note_bytes, 1 << 17))
    lengths = struct.pack(">II", entry_bytes, note_bytes)
    crc = struct.pack(">I", zlib.crc32(lengths + content))
    assert parse_frame(MAGIC + lengths + crc + content + bytes(8), 0) is None


def test_the_longest_frame_is_within_the_bound() -> None:
    """The bound on torn tails covers the longest frame that is ever written."""
    raw = render_frame(b"x" * bounds.MAX_ENTRY_BYTES, b"n" * MAX_FRAME_NOTE_BYTES)
    assert len(raw) <= MAX_FRAME_BYTES
    assert parse_frame(raw, 0) is not None


def test_a_segment_is_frames_and_zeros() -> None:
    """A segment may be blank, full, or anything between."""
    frame = render_frame(ENTRY, NOTE)
    for raw, count in ((b"", 0), (bytes(64), 0), (frame * 3, 3), (frame * 2 + bytes(64), 2)):
        items = list(parse_segment(raw, name="x"))
        assert [type(one) for one in items] == [Frame] * count


def test_what_is_no_frame_at_the_end_is_torn() -> None:
    """A torn tail reaches from its first byte to its last byte that is not zero."""
    frame = render_frame(ENTRY, NOTE)
    *_, torn = parse_segment(frame + frame[:20] + bytes(64), name="x")
    assert torn == Torn(offset=len(frame), raw=frame[:20].rstrip(b"\0"))
    *_, torn = parse_segment(frame + bytes(24) + frame[24:] + bytes(64), name="x")
    assert torn == Torn(offset=len(frame), raw=bytes(24) + frame[24:].rstrip(b"\0"))


def test_a_broken_frame_before_a_whole_one_is_an_alarm() -> None:
    """The whole frame was written after the broken one had been acknowledged."""
    frame = render_frame(ENTRY, NOTE)
    for broken in (
        bytes(len(frame)),
        frame[:-16] + bytes(16),
        b"?" + frame[1:],
        frame[:20] + bytes(8),
    ):
        padded = broken + bytes(-len(broken) % 8)
        with pytest.raises(LogTampered, match=f"expected a whole frame at byte {len(frame)} of x"):
            list(parse_segment(frame + padded + frame + bytes(64), name="x"))


def test_the_magic_in_an_entry_is_no_frame() -> None:
    """An entry with the magic in its text does not turn a torn tail into an alarm."""
    torn = render_frame(b"BGF1 " * 40, NOTE)[:-24]
    (item,) = parse_segment(torn + bytes(64), name="x")
    assert isinstance(item, Torn)


def test_a_segment_keeps_its_number(tmp_path: Path) -> None:
    """Segments are listed in order; a gap, or a file name of another form, is an alarm."""
    assert segment_paths(tmp_path) == ()
    for number in (1, 0):
        segment_path(tmp_path, number).write_bytes(b"")
    assert segment_paths(tmp_path) == (segment_path(tmp_path, 0), segment_path(tmp_path, 1))
    (tmp_path / "2.segment").write_bytes(b"")
    with pytest.raises(LogTampered, match=r"expected 00000002\.segment, got 2\.segment"):
        segment_paths(tmp_path)


def test_places_are_kept_by_index() -> None:
    """A place is returned as it was added; an index below 0 or beyond the last raises."""
    places = Places()
    for number in range(5):
        places.append(Place(segment=number, offset=number * 8, entry_bytes=number + 1))
    assert len(places) == 5
    assert places[3] == Place(segment=3, offset=24, entry_bytes=4)
    for index in (-1, 5):
        with pytest.raises(IndexError, match="expected an entry below 5"):
            places[index]


def test_a_reader_follows_the_segments(tmp_path: Path) -> None:
    """The reader opens whichever segment an entry is in; a missing segment is an error."""
    for number in (0, 1):
        segment_path(tmp_path, number).write_bytes(render_frame(b"%d" % number, NOTE))
    reader = SegmentReader(tmp_path)
    for number in (0, 1, 1, 0):
        assert reader.read(Place(segment=number, offset=0, entry_bytes=1)) == b"%d" % number
    with pytest.raises(FileUnreadable, match="cannot read the log"):
        reader.read(Place(segment=2, offset=0, entry_bytes=1))
    assert reader.read(Place(segment=0, offset=0, entry_bytes=1)) == b"0"
    reader.close()
    reader.close()
    assert HEADER_BYTES == 16
