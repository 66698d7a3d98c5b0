# SPDX-License-Identifier: Apache-2.0
"""A log that was changed is an alarm, and is never believed."""

import os
import shutil
from pathlib import Path

import pytest

from breakglass.agent.log.auditlog import AuditLog
from breakglass.agent.log.replay import HINT, replay
from breakglass.agent.log.segments import segment_path
from breakglass.core.checkpoint import LogSigner, parse_vkey, verify_checkpoint
from breakglass.errors import LogTampered, Malformed
from tests.support.small_log import (
    SIGNER,
    SIZES,
    changed,
    check,
    entry,
    last_frame,
    opened,
    written,
)


def test_a_flipped_bit_is_never_believed(folder: Path, tmp_path: Path) -> None:
    """A changed byte anywhere in the frames raises an alarm and leaves the files as they are."""
    written(folder, 6)
    for path in (segment_path(folder, 0), segment_path(folder, 1)):
        raw = path.read_bytes()
        for place in range(0, len(raw.rstrip(b"\0")), 5):
            flipped = bytearray(raw)
            flipped[place] ^= 1 << place % 8
            path.write_bytes(flipped)
            with pytest.raises(LogTampered, match="expected"):
                opened(folder)
            assert path.read_bytes() == flipped
        path.write_bytes(raw)
    opened(folder).close()


def test_a_flipped_bit_without_the_hint_is_an_alarm_or_a_repair(folder: Path) -> None:
    """Without the hint the last frame may look torn; a change before it is always an alarm."""
    entries = written(folder, 4)
    path, frame = last_frame(folder)
    raw = path.read_bytes()
    for place in range(0, len(raw.rstrip(b"\0")), 5):
        (folder / HINT).unlink(missing_ok=True)
        flipped = bytearray(raw)
        flipped[place] ^= 0x10
        path.write_bytes(flipped)
        try:
            log = opened(folder)
        except LogTampered:
            assert place < frame.offset
            continue
        assert place >= frame.offset
        assert len(log.repairs) == 1
        check(log, entries[:3])
        log.close()


def test_bytes_in_the_blank_space_are_an_alarm_or_a_repair(folder: Path) -> None:
    """Bytes after the last frame are a torn tail when they fit one frame; otherwise an alarm."""
    entries = written(folder, 3)
    path, _ = last_frame(folder)
    changed(path, SIZES.segment_bytes - 1, b"x")
    with opened(folder) as log:
        assert len(log.repairs) == 1
        check(log, entries)


def test_an_entry_that_changes_under_a_running_agent_is_not_served(folder: Path) -> None:
    """Every read is compared with the leaf hash in memory."""
    written(folder, 3)
    path, frame = last_frame(folder)
    with opened(folder) as log:
        changed(path, frame.offset + 20, b"?")
        with pytest.raises(LogTampered, match="entry 2"):
            log.read(2)


def test_a_log_that_lost_its_end_is_an_alarm(folder: Path) -> None:
    """The hint has the newest checkpoint, so missing entries at the end are noticed."""
    written(folder, 2)
    keep = segment_path(folder, 0).read_bytes()
    with opened(folder) as log:
        log.append(entry(2))
    segment_path(folder, 0).write_bytes(keep)
    with pytest.raises(LogTampered, match="expected at least 3 entries, got 2"):
        opened(folder)


def test_a_log_that_was_written_anew_is_an_alarm(folder: Path, tmp_path: Path) -> None:
    """Another history under the same key contradicts the checkpoint in the hint."""
    written(folder, 2)
    with opened(tmp_path / "other") as log:
        for number in range(5, 8):
            log.append(entry(number))
    shutil.copy(segment_path(tmp_path / "other", 0), segment_path(folder, 0))
    with pytest.raises(LogTampered, match="the first 2 entries unchanged"):
        opened(folder)


@pytest.mark.parametrize("raw", [b"", b"\0" * 1024, b"half a note\n\n", os.urandom(2000)])
def test_an_invalid_hint_is_ignored(folder: Path, raw: bytes) -> None:
    """The hint is never synced, so a power cut may leave any bytes in it."""
    entries = written(folder, 2)
    (folder / HINT).write_bytes(raw)
    with opened(folder) as log:
        check(log, entries)


def test_a_missing_segment_is_an_alarm(folder: Path) -> None:
    """Segments are numbered without gaps, so a missing one is noticed."""
    written(folder, 40)
    segment_path(folder, 0).unlink()
    with pytest.raises(LogTampered, match=r"expected 00000000\.segment"):
        opened(folder)


def test_another_nodes_log_is_an_alarm(folder: Path) -> None:
    """A log that another key signed, or with another origin, is not this node's."""
    written(folder, 2)
    for other in (
        LogSigner(SIGNER.origin, bytes(32)),
        LogSigner("breakglass/example/prod-a/n2", bytes(range(32))),
    ):
        with pytest.raises(LogTampered, match="expected"):
            AuditLog.open(folder, other)


def test_a_copied_log_is_read_without_being_touched(folder: Path, tmp_path: Path) -> None:
    """An offline check needs the files and the key; it takes no lock and repairs nothing."""
    entries = written(folder, 12)
    path, frame = last_frame(folder)
    (folder / HINT).unlink()
    changed(path, frame.end - 40, bytes(40))
    before = {one: one.read_bytes() for one in folder.iterdir()}
    found = replay(folder, SIGNER.vkey)
    assert list(found.entries()) == entries[:-1]
    assert found.torn is not None
    assert verify_checkpoint(found.checkpoint, SIGNER.vkey).root == found.tree.root()
    assert {one: one.read_bytes() for one in folder.iterdir()} == before
    with pytest.raises(Malformed):
        replay(folder, parse_vkey(SIGNER.vkey).name)
