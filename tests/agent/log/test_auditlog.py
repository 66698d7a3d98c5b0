# SPDX-License-Identifier: Apache-2.0
"""P4: after any disk fault or crash the log holds exactly the acknowledged entries, or alarms.

The fault table is made from the disk's effects.  Each fails as "lost" (it did not happen) and as
"landed" (it happened, and an error was raised); then the log is opened again and checked whole.
"""

import contextlib
import errno
import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from breakglass.agent.log.auditlog import LOCK, QUARANTINE, AuditLog
from breakglass.agent.log.disk import Disk
from breakglass.agent.log.replay import HINT, replay
from breakglass.agent.log.segments import MAX_FRAME_BYTES, Frame, parse_segment, segment_path
from breakglass.agent.log.space import BALLAST, Sizes
from breakglass.core import bounds
from breakglass.core.checkpoint import LogSigner, parse_vkey, verify_checkpoint
from breakglass.core.merkle import Tree, leaf_hash, verify_consistency
from breakglass.core.receipt import verify_receipt
from breakglass.errors import BadProof, LogTampered, LogUnknown, Malformed, StateUnwritable
from tests.support.faulty_disk import (
    EFFECTS,
    VERSIONS,
    CachedDisk,
    FaultyDisk,
    FullDisk,
    PowerCutError,
    ShortDisk,
)

SIGNER = LogSigner("breakglass/example/prod-a/n1", bytes(range(32)))
SIZES = Sizes(segment_bytes=2048, ballast_bytes=2048, reserve_bytes=0)
ENTRIES = 9


def entry(number: int) -> bytes:
    """Return an entry whose length depends on its number."""
    return f"entry {number} ".encode() + b"x" * (number * 37 % 300)


def opened(folder: Path, *, disk: Disk | None = None, sizes: Sizes = SIZES) -> AuditLog:
    """Return the log in a folder, opened with small segments."""
    return AuditLog.open(folder, SIGNER, disk=disk, sizes=sizes)


def check(log: AuditLog, expected: Sequence[bytes]) -> None:
    """Check every size, proof, entry and checkpoint of a log from its bytes alone."""
    assert list(log.entries()) == list(expected)
    tree = Tree(leaf_hash(one) for one in expected)
    checkpoint = verify_checkpoint(log.checkpoint, SIGNER.vkey)
    assert (checkpoint.size, checkpoint.root) == (log.size, tree.root())
    for index in range(log.size):
        assert verify_receipt(log.receipt(index), SIGNER.vkey) == checkpoint
        proof = log.consistency(index, log.size)
        verify_consistency(index, log.size, proof, tree.root(index), tree.root())


def reopened_and_checked(folder: Path, expected: Sequence[bytes], *, or_one_more: bytes) -> None:
    """Open a log on a healthy disk, check it whole, append an entry, and open it once more."""
    with opened(folder) as log:
        entries = [*expected, or_one_more] if log.size > len(expected) else [*expected]
        check(log, entries)
        entries.append(b"after the crash")
        assert log.append(entries[-1]) == log.size - 1
    with opened(folder) as log:
        assert log.repairs == ()
        check(log, entries)
    assert replay(folder, SIGNER.vkey).torn is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a log."""
    return tmp_path / "log"


def written(folder: Path, count: int) -> list[bytes]:
    """Write a log of `count` entries, close it and return the entries."""
    entries = [entry(number) for number in range(count)]
    with opened(folder) as log:
        for number, one in enumerate(entries):
            assert log.append(one) == number
    return entries


def last_frame(folder: Path) -> tuple[Path, Frame]:
    """Return the last frame of a log and its segment's path."""
    found = replay(folder, SIGNER.vkey)
    path = segment_path(folder, found.segment)
    frames = [one for one in parse_segment(path.read_bytes(), name="") if isinstance(one, Frame)]
    return path, frames[-1]


def changed(path: Path, place: int, raw: bytes) -> None:
    """Overwrite a part of a file."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(raw)


# --- append and start --------------------------------------------------------------------------


def test_a_log_is_the_same_after_every_start(folder: Path) -> None:
    """Each start reads the entries of all segments as appended, and later proofs extend earlier."""
    for count in range(40):
        with opened(folder) as log:
            assert log.size == count
            log.append(entry(count))
    with opened(folder) as log:
        check(log, [entry(number) for number in range(40)])
        assert log.repairs == ()
        assert log.used_bytes > 5 * SIZES.segment_bytes


def test_an_empty_log_has_a_signed_checkpoint(folder: Path) -> None:
    """The empty log's checkpoint commits the node: every later log must be consistent with it."""
    with opened(folder) as log:
        check(log, [])


def test_a_receipt_is_of_a_durable_size(folder: Path) -> None:
    """A reader in another thread always gets a size together with that size's checkpoint."""
    written(folder, 3)
    with opened(folder) as log:
        assert verify_receipt(log.receipt(0), log.vkey).size == 3
        with pytest.raises(IndexError):
            log.receipt(3)
        with pytest.raises(IndexError):
            log.read(-1)
        with pytest.raises(BadProof, match="up to 3"):
            log.consistency(2, 4)


def test_an_entry_has_a_size(folder: Path) -> None:
    """An empty entry, and one too long for a tile or for a segment, are refused."""
    with opened(folder) as log:
        for size in (0, bounds.MAX_ENTRY_BYTES + 1, SIZES.segment_bytes):
            with pytest.raises(ValueError, match="expected"):
                log.append(b"x" * size)
        assert log.append(entry(0)) == 0
        check(log, [entry(0)])


def test_the_longest_entry_fits_a_real_segment(folder: Path) -> None:
    """With the real sizes, entries of the greatest length are appended across several segments."""
    entries = [bytes([65 + number % 26]) * bounds.MAX_ENTRY_BYTES for number in range(70)]
    with AuditLog.open(folder, SIGNER) as log:
        for one in entries:
            log.append(one)
    with AuditLog.open(folder, SIGNER) as log:
        check(log, entries)
        assert log.used_bytes == 2 * bounds.SEGMENT_BYTES


def test_short_writes_are_completed(folder: Path) -> None:
    """A write that writes fewer bytes than asked is continued and loses nothing."""
    with opened(folder, disk=ShortDisk()) as log:
        for number in range(ENTRIES):
            log.append(entry(number))
    with opened(folder) as log:
        check(log, [entry(number) for number in range(ENTRIES)])


def test_a_closed_log_refuses_appends(folder: Path) -> None:
    """After `close` every append is refused; `close` may be called twice."""
    log = opened(folder)
    log.close()
    log.close()
    with pytest.raises(LogUnknown, match="the log is closed"):
        log.append(entry(0))


def test_two_agents_never_share_a_log(folder: Path) -> None:
    """The first agent locks the folder until it closes the log."""
    with opened(folder), pytest.raises(StateUnwritable, match="another agent uses it") as caught:
        opened(folder)
    assert caught.value.stable_code == "log-locked"
    opened(folder).close()


def test_files_are_for_their_owner_alone(folder: Path) -> None:
    """Folders have mode 0700 and files 0600."""
    written(folder, ENTRIES)
    path, frame = last_frame(folder)
    (folder / HINT).unlink()
    changed(path, frame.end - 20, b"torn")
    opened(folder).close()
    for path in (folder, *folder.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)
    assert {LOCK, HINT, BALLAST, QUARANTINE} < {path.name for path in folder.iterdir()}


# --- faults ------------------------------------------------------------------------------------


def story(folder: Path, disk: FaultyDisk) -> tuple[list[bytes], bytes]:
    """Open a log and append; return the acknowledged entries, and the one that may be there too."""
    acknowledged: list[bytes] = []
    try:
        log = opened(folder, disk=disk)
    except (StateUnwritable, LogUnknown):
        return [], b""
    with log:
        for number in range(ENTRIES):
            try:
                assert log.append(entry(number)) == len(acknowledged)
            except StateUnwritable:
                continue  # nothing was written, and later appends succeed
            except LogUnknown:
                check(log, acknowledged)
                with pytest.raises(LogUnknown, match="the log takes no more writes"):
                    log.append(entry(number))
                return acknowledged, entry(number)
            acknowledged.append(entry(number))
        check(log, acknowledged)
    return acknowledged, b""


def calls_of(effect: str, folder: Path) -> int:
    """Return how often `story` performs one effect on a healthy disk."""
    disk = FaultyDisk()
    assert len(story(folder, disk)[0]) == ENTRIES
    shutil.rmtree(folder)
    return disk.calls[effect]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("effect", EFFECTS)
def test_each_effect_fails_twice(folder: Path, effect: str, version: str, code: int) -> None:
    """Whichever effect fails, no acknowledged entry is lost and no other entry appears."""
    for number in range(calls_of(effect, folder)):
        acknowledged, in_doubt = story(folder, FaultyDisk(effect, version, number, code))
        reopened_and_checked(folder, acknowledged, or_one_more=in_doubt)
        shutil.rmtree(folder)


def test_every_effect_of_the_disk_is_in_the_story_of_faults(folder: Path) -> None:
    """`story` performs every effect but `remove`, which happens only after a failure."""
    disk = FaultyDisk()
    story(folder, disk)
    assert [effect for effect in EFFECTS if not disk.calls[effect]] == ["remove"]


def test_a_file_is_durable_before_its_name_and_the_name_before_its_use(folder: Path) -> None:
    """Each rename comes after a sync of the file and before a sync of the folder."""
    disk = FaultyDisk()
    story(folder, disk)
    renames = [place for place, effect in enumerate(disk.order) if effect == "replace"]
    assert len(renames) > 3
    for place in renames:
        assert (disk.order[place - 1], disk.order[place + 1]) == ("fsync", "fsync")


def test_a_ballast_becomes_a_segment_durably(folder: Path) -> None:
    """The ballast's new name is synced before any frame is written to it."""
    disk = FaultyDisk()
    sizes = Sizes(segment_bytes=2048, ballast_bytes=2048, reserve_bytes=0, max_bytes=4096)
    with opened(folder, disk=disk, sizes=sizes) as log:
        filled(log, urgent=True)
        assert log.used_bytes == 4096
    last = len(disk.order) - disk.order[::-1].index("replace")
    assert disk.order[last] == "fsync"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("effect", EFFECTS)
def test_the_process_may_end_at_each_effect(folder: Path, effect: str, version: str) -> None:
    """A process killed before, during or after any effect leaves a log that opens whole."""
    for number in range(calls_of(effect, folder)):
        acknowledged: list[bytes] = []
        try:
            with opened(folder, disk=FaultyDisk(effect, version, number)) as log:
                for one in range(ENTRIES):
                    log.append(entry(one))
                    acknowledged.append(entry(one))
        except PowerCutError:
            pass
        reopened_and_checked(folder, acknowledged, or_one_more=entry(len(acknowledged)))
        shutil.rmtree(folder)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("effect", EFFECTS)
def test_each_effect_of_a_repair_fails_twice(folder: Path, effect: str, version: str) -> None:
    """A torn tail is repaired in the end, whichever effect of the repair fails first."""
    for code in (errno.EIO, errno.ENOSPC, 0):
        for number in range(6):
            entries = written(folder, 5)
            path, frame = last_frame(folder)
            (folder / HINT).unlink()
            changed(path, frame.end - 40, bytes(40))
            with contextlib.suppress(StateUnwritable, LogUnknown, PowerCutError):
                opened(folder, disk=FaultyDisk(effect, version, number, code)).close()
            reopened_and_checked(folder, entries[:4], or_one_more=b"")
            shutil.rmtree(folder)


def test_an_interrupted_append_makes_the_log_refuse(folder: Path) -> None:
    """After an unexpected exception in the middle of a write, the log refuses later appends."""
    with opened(folder, disk=FaultyDisk("fdatasync", "lost", 1)) as log:
        log.append(entry(0))
        with pytest.raises(PowerCutError):
            log.append(entry(1))
        with pytest.raises(LogUnknown, match="interrupted"):
            log.append(entry(2))
        check(log, [entry(0)])


@pytest.mark.parametrize("seed", range(30))
def test_a_power_cut_loses_only_unsynced_sectors(folder: Path, seed: int) -> None:
    """A power cut may lose any unsynced sector, and never an acknowledged entry."""
    rng = random.Random(seed)
    disk = CachedDisk(seed)
    acknowledged: list[bytes] = []
    for _ in range(4):
        with opened(folder, disk=disk) as log:
            check(log, acknowledged)
            for _ in range(rng.randrange(6)):
                one = entry(len(acknowledged)) + bytes([65 + rng.randrange(26)]) * rng.randrange(
                    900
                )
                log.append(one)
                acknowledged.append(one)
            disk.failing = True
            one = entry(len(acknowledged)) + b"y" * rng.randrange(900)
            with pytest.raises(LogUnknown):
                log.append(one)
            disk.failing = False
        if rng.random() < 0.5:
            disk.cut_power()
        with opened(folder, disk=disk) as log:  # a new process may still read the entry from cache
            if log.size > len(acknowledged):
                acknowledged.append(one)
            check(log, acknowledged)
        disk.cut_power()


def test_an_entry_of_a_failed_sync_is_written_again_at_start(folder: Path) -> None:
    """A start makes the last entry durable before it appends another."""
    disk = CachedDisk(1)
    with opened(folder, disk=disk) as log:
        disk.failing = True
        with pytest.raises(LogUnknown):
            log.append(entry(0))
    disk.failing = False
    with opened(folder, disk=disk) as log:
        check(log, [entry(0)])
        log.append(entry(1))
    disk.cut_power()
    with opened(folder) as log:
        check(log, [entry(0), entry(1)])


# --- torn tails --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_torn_tail_is_kept_aside_and_told_at_any_length(folder: Path, tmp_path: Path) -> None:
    """The entries before a torn frame stay whole, however many of its bytes reached the disk."""
    entries = written(folder, 3)
    path, frame = last_frame(folder)
    raw = path.read_bytes()
    whole = len(raw[: frame.end].rstrip(b"\0"))
    (folder / HINT).unlink()  # it is written after the frame
    for cut in range(frame.offset, whole):
        torn = tmp_path / "torn"
        shutil.copytree(folder, torn)
        (torn / path.name).write_bytes(raw[:cut].ljust(len(raw), b"\0"))
        left = raw[frame.offset : cut].rstrip(b"\0")
        with opened(torn) as log:
            kept = [(torn / QUARANTINE / one.copy).read_bytes() for one in log.repairs]
            assert kept == ([left] if left else [])
            assert all(
                (one.segment, one.offset, one.size) == (path.name, frame.offset, len(left))
                for one in log.repairs
            )
        reopened_and_checked(torn, entries[:2], or_one_more=b"")
        shutil.rmtree(torn)


def test_a_tail_torn_at_its_beginning_is_repaired_too(folder: Path) -> None:
    """Sectors reach the disk in any order, so a frame's end may be there without its header."""
    entries = written(folder, 4)
    path, frame = last_frame(folder)
    (folder / HINT).unlink()
    changed(path, frame.offset, bytes(100))
    with opened(folder) as log:
        (repair,) = log.repairs
        assert repair.offset == frame.offset
        check(log, entries[:3])


def test_a_torn_first_frame_of_a_segment_is_repaired(folder: Path) -> None:
    """The first frame of the next segment may be torn too."""
    entries = written(folder, 2)
    path, frame = last_frame(folder)
    count = 2
    while frame.offset or path == segment_path(folder, 0):
        with opened(folder) as log:
            log.append(entry(count))
            entries.append(entry(count))
        count += 1
        path, frame = last_frame(folder)
    (folder / HINT).unlink()
    changed(path, frame.end - 40, bytes(40))
    reopened_and_checked(folder, entries[:-1], or_one_more=b"")


def test_a_tear_longer_than_a_frame_is_an_alarm(folder: Path) -> None:
    """At most one append was in progress, and it writes one frame."""
    with AuditLog.open(folder, SIGNER) as log:
        log.append(entry(0))
    (folder / HINT).unlink()
    path, frame = last_frame(folder)
    changed(path, frame.end, b"x" * (MAX_FRAME_BYTES + 1))
    with pytest.raises(LogTampered, match="expected a whole frame"):
        AuditLog.open(folder, SIGNER)


def test_a_tear_before_a_used_segment_is_an_alarm(folder: Path) -> None:
    """Only the end of the log can be torn: everything before it was acknowledged."""
    written(folder, 20)
    path = segment_path(folder, 0)
    frames = [one for one in parse_segment(path.read_bytes(), name="") if isinstance(one, Frame)]
    changed(path, frames[-1].end - 40, bytes(40))
    with pytest.raises(LogTampered, match="got more in segment 1"):
        opened(folder)
    (folder / HINT).unlink()
    with pytest.raises(LogTampered, match="got more in segment 1"):
        opened(folder)


def test_a_full_quarantine_takes_no_more(folder: Path) -> None:
    """The number of copies is bounded; the repair is reported without a copy."""
    entries = written(folder, 3)
    (folder / QUARANTINE).mkdir()
    for number in range(bounds.MAX_QUARANTINED):
        (folder / QUARANTINE / str(number)).write_bytes(b"")
    path, frame = last_frame(folder)
    (folder / HINT).unlink()
    changed(path, frame.end - 40, bytes(40))
    with opened(folder) as log:
        assert [one.copy for one in log.repairs] == [""]
        check(log, entries[:2])


# --- changed logs ------------------------------------------------------------------------------


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


# --- space -------------------------------------------------------------------------------------


def filled(log: AuditLog, *, urgent: bool) -> tuple[int, StateUnwritable]:
    """Append until the log refuses; return the number of appends, and the refusal."""
    count = 0
    while True:
        try:
            log.append(entry(log.size), urgent=urgent)
        except StateUnwritable as error:
            return count, error
        count += 1


def test_a_log_has_an_end_and_a_reserve_before_it(folder: Path) -> None:
    """A full log refuses with "log-full"; outcomes of accepted commands still fit the reserve."""
    sizes = Sizes(segment_bytes=4096, ballast_bytes=4096, reserve_bytes=3000, max_bytes=16384)
    with opened(folder, sizes=sizes) as log:
        first, refusal = filled(log, urgent=False)
        second, last = filled(log, urgent=True)
        assert first > 10
        assert second >= 3
        assert (refusal.stable_code, last.stable_code) == ("log-full", "log-full")
        assert log.used_bytes <= sizes.max_bytes
        check(log, [entry(number) for number in range(first + second)])
    with opened(folder, sizes=sizes) as log:
        assert filled(log, urgent=True)[0] == 0
        check(log, [entry(number) for number in range(first + second)])


def test_a_write_without_space_removes_the_ballast_first(folder: Path) -> None:
    """When a preallocated write finds no space, removing the ballast makes the append succeed."""
    disk = FullDisk(folder / BALLAST)
    with opened(folder, disk=disk) as log:
        disk.full = True
        assert log.append(entry(0)) == 0
        assert not (folder / BALLAST).exists()
        disk.without_ballast = True
        with pytest.raises(StateUnwritable, match="No space left") as caught:
            log.append(entry(1))
        assert caught.value.stable_code == "disk-full"
        assert replay(folder, SIGNER.vkey).torn is None  # the partial write was zeroed again
        disk.full = False
        assert log.append(entry(1)) == 1
        assert (folder / BALLAST).exists()
    with opened(folder) as log:
        check(log, [entry(0), entry(1)])


def test_a_ballast_that_cannot_be_removed_costs_the_append_only(folder: Path) -> None:
    """When `remove` fails too, the append writes nothing and is refused; the next ones succeed."""
    disk = FullDisk(folder / BALLAST)
    with opened(folder, disk=disk) as log:
        disk.full = disk.stuck = True
        with pytest.raises(StateUnwritable, match="No space left"):
            log.append(entry(0))
        disk.full = False
        assert log.append(entry(0)) == 0
    with opened(folder) as log:
        check(log, [entry(0)])


def test_a_ballast_that_is_not_blank_never_becomes_a_segment(folder: Path) -> None:
    """A ballast with other bytes than zeros is removed at the start."""
    opened(folder).close()
    (folder / BALLAST).write_bytes(b"x" * SIZES.ballast_bytes)
    opened(folder).close()
    assert (folder / BALLAST).read_bytes() == bytes(SIZES.ballast_bytes)


def test_a_path_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """A file in place of the state directory is a clear error."""
    (tmp_path / "state").write_text("")
    with pytest.raises(StateUnwritable, match="cannot write in"):
        opened(tmp_path / "state" / "log")


def test_a_segment_that_cannot_be_read_is_an_error(folder: Path) -> None:
    """A segment's path that is not a file is an error, not an empty log."""
    opened(folder).close()
    segment_path(folder, 0).unlink()
    segment_path(folder, 0).mkdir()
    with pytest.raises(StateUnwritable, match="cannot read the log"):
        opened(folder)


def mounted(where: Path, *command: str) -> None:
    """Mount a file system for the test, or skip the test and say why."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    where.mkdir()
    done = subprocess.run(
        ["mount", *command, str(where)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")


@pytest.fixture(params=["tmpfs", "ext4"])
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Yield a file system of a few MiB that is mounted for the test."""
    where = tmp_path / "disk"
    if request.param == "tmpfs":
        mounted(where, "-t", "tmpfs", "-o", "size=4m", "tmpfs")
    else:
        if shutil.which("mkfs.ext4") is None:
            pytest.skip("needs mkfs.ext4")
        image = tmp_path / "image"
        image.write_bytes(bytes(8 << 20))
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
        mounted(where, "-o", "loop", str(image))
    yield where
    subprocess.run(["umount", str(where)], check=True)


def fill(disk: Path) -> None:
    """Fill a file system until no block is free."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (1 << 16, 512, 1):
            while True:
                try:
                    file.write(b"x" * size)
                    os.fsync(file.fileno())
                except OSError:
                    break


@pytest.mark.real
def test_a_full_disk_is_survived_on_preallocated_space(small_disk: Path) -> None:
    """A really full disk takes the preallocated space, ballast and reserve; then appends refuse."""
    folder = small_disk / "log"
    sizes = Sizes(segment_bytes=65536, ballast_bytes=131_072, reserve_bytes=32_768)
    with opened(folder, sizes=sizes) as log:
        log.append(entry(0))
        fill(small_disk)
        first, refusal = filled(log, urgent=False)
        assert first * 700 > 65536 + 131_072 - 2 * 32_768
        assert refusal.stable_code == "disk-full"
    with opened(folder, sizes=sizes) as log:  # a restart needs no space
        second, last = filled(log, urgent=True)
        assert second * 700 > 32_768 - 2 * 700
        assert last.stable_code == "disk-full"
        assert not (folder / BALLAST).exists()
    entries = [entry(number) for number in range(1 + first + second)]
    (small_disk / "filler").unlink()
    with opened(folder, sizes=sizes) as log:
        assert list(log.entries()) == entries
        assert log.append(b"there is room again") == len(entries)
        assert (folder / BALLAST).exists()


@pytest.mark.real
def test_a_torn_tail_on_a_full_disk_is_repaired_even_without_a_copy(small_disk: Path) -> None:
    """A start on a full disk frees the ballast for the copy, or repairs without a copy."""
    folder = small_disk / "log"
    entries = written(folder, 3)
    path, frame = last_frame(folder)
    (folder / HINT).unlink()
    changed(path, frame.end - 40, bytes(40))
    fill(small_disk)
    with opened(folder) as log:
        assert len(log.repairs) == 1
        check(log, entries[:2])


@pytest.mark.real
def test_a_read_only_disk_is_an_error_at_the_start(small_disk: Path) -> None:
    """A read-only disk is an error at the start, before any command is accepted."""
    folder = small_disk / "log"
    entries = written(folder, 3)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StateUnwritable, match="Read-only file system"):
        opened(folder)
    assert list(replay(folder, SIGNER.vkey).entries()) == entries
