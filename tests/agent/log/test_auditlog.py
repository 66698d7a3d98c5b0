# SPDX-License-Identifier: Apache-2.0
"""P4: the log survives what disks and crashes do, and never tells something else instead.

The fault table is made from the disk's effects, each "lost" (it failed) and "landed" (it happened,
and failed all the same); after each the log is opened again and checked whole.
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
    """Return an entry of a size of its own."""
    return f"entry {number} ".encode() + b"x" * (number * 37 % 300)


def opened(folder: Path, *, disk: Disk | None = None, sizes: Sizes = SIZES) -> AuditLog:
    """Return the log in a folder, with small segments."""
    return AuditLog.open(folder, SIGNER, disk=disk, sizes=sizes)


def check(log: AuditLog, expected: Sequence[bytes]) -> None:
    """Check everything a log claims, from its bytes alone."""
    assert list(log.entries()) == list(expected)
    tree = Tree(leaf_hash(one) for one in expected)
    checkpoint = verify_checkpoint(log.checkpoint, SIGNER.vkey)
    assert (checkpoint.size, checkpoint.root) == (log.size, tree.root())
    for index in range(log.size):
        assert verify_receipt(log.receipt(index), SIGNER.vkey) == checkpoint
        proof = log.consistency(index, log.size)
        verify_consistency(index, log.size, proof, tree.root(index), tree.root())


def reopened_and_checked(folder: Path, expected: Sequence[bytes], *, or_one_more: bytes) -> None:
    """Open a log on a healthy disk, check it whole, append, and open it once more."""
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
    """Write a log of so many entries, close it and return them."""
    entries = [entry(number) for number in range(count)]
    with opened(folder) as log:
        for number, one in enumerate(entries):
            assert log.append(one) == number
    return entries


def last_frame(folder: Path) -> tuple[Path, Frame]:
    """Return the last frame of a log and the segment it lies in."""
    found = replay(folder, SIGNER.vkey)
    path = segment_path(folder, found.segment)
    frames = [one for one in parse_segment(path.read_bytes(), name="") if isinstance(one, Frame)]
    return path, frames[-1]


def changed(path: Path, place: int, raw: bytes) -> None:
    """Write over a part of a file."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(raw)


# --- append and start --------------------------------------------------------------------------


def test_a_log_is_the_same_after_every_start(folder: Path) -> None:
    """Over many segments, each start reads what was appended, and proofs go on."""
    for count in range(40):
        with opened(folder) as log:
            assert log.size == count
            log.append(entry(count))
    with opened(folder) as log:
        check(log, [entry(number) for number in range(40)])
        assert log.repairs == ()
        assert log.used_bytes > 5 * SIZES.segment_bytes


def test_an_empty_log_has_a_signed_checkpoint(folder: Path) -> None:
    """From the first moment there is something that a later log must be consistent with."""
    with opened(folder) as log:
        check(log, [])


def test_a_receipt_is_of_a_durable_size(folder: Path) -> None:
    """What a reader in another thread sees is one size with its own checkpoint."""
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
    """Nothing, more than one tile can carry, and more than a segment holds are refused."""
    with opened(folder) as log:
        for size in (0, bounds.MAX_ENTRY_BYTES + 1, SIZES.segment_bytes):
            with pytest.raises(ValueError, match="expected"):
                log.append(b"x" * size)
        assert log.append(entry(0)) == 0
        check(log, [entry(0)])


def test_the_longest_entry_fits_a_real_segment(folder: Path) -> None:
    """With the real sizes, entries of the greatest length go on from segment to segment."""
    entries = [bytes([65 + number % 26]) * bounds.MAX_ENTRY_BYTES for number in range(70)]
    with AuditLog.open(folder, SIGNER) as log:
        for one in entries:
            log.append(one)
    with AuditLog.open(folder, SIGNER) as log:
        check(log, entries)
        assert log.used_bytes == 2 * bounds.SEGMENT_BYTES


def test_short_writes_are_completed(folder: Path) -> None:
    """A write that returns short is no error and loses nothing."""
    with opened(folder, disk=ShortDisk()) as log:
        for number in range(ENTRIES):
            log.append(entry(number))
    with opened(folder) as log:
        check(log, [entry(number) for number in range(ENTRIES)])


def test_a_closed_log_takes_nothing(folder: Path) -> None:
    """After close every append refuses, and close may be called twice."""
    log = opened(folder)
    log.close()
    log.close()
    with pytest.raises(LogUnknown, match="the log is closed"):
        log.append(entry(0))


def test_two_agents_never_share_a_log(folder: Path) -> None:
    """The folder is locked by its first user, until that closes it."""
    with opened(folder), pytest.raises(StateUnwritable, match="only user") as caught:
        opened(folder)
    assert caught.value.stable_code == "log-locked"
    opened(folder).close()


def test_files_are_for_their_owner_alone(folder: Path) -> None:
    """0700 and 0600."""
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
    """Open a log and append; return what was acknowledged, and what may be there beside."""
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
                continue  # nothing was written, and the log goes on
            except LogUnknown:
                check(log, acknowledged)
                with pytest.raises(LogUnknown, match="whose syncs succeed"):
                    log.append(entry(number))
                return acknowledged, entry(number)
            acknowledged.append(entry(number))
        check(log, acknowledged)
    return acknowledged, b""


def calls_of(effect: str, folder: Path) -> int:
    """Return how often the story does one effect on a healthy disk."""
    disk = FaultyDisk()
    assert len(story(folder, disk)[0]) == ENTRIES
    shutil.rmtree(folder)
    return disk.calls[effect]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("effect", EFFECTS)
def test_each_effect_fails_twice(folder: Path, effect: str, version: str, code: int) -> None:
    """Wherever an effect fails, nothing acknowledged is lost and nothing else appears."""
    for number in range(calls_of(effect, folder)):
        acknowledged, in_doubt = story(folder, FaultyDisk(effect, version, number, code))
        reopened_and_checked(folder, acknowledged, or_one_more=in_doubt)
        shutil.rmtree(folder)


def test_every_effect_of_the_disk_is_in_the_story_of_faults(folder: Path) -> None:
    """The table leaves nothing out but `remove`, which only happens after a failure."""
    disk = FaultyDisk()
    story(folder, disk)
    assert [effect for effect in EFFECTS if not disk.calls[effect]] == ["remove"]


def test_a_file_is_durable_before_its_name_and_the_name_before_its_use(folder: Path) -> None:
    """Around every rename stand a sync of the file and a sync of the folder."""
    disk = FaultyDisk()
    story(folder, disk)
    renames = [place for place, effect in enumerate(disk.order) if effect == "replace"]
    assert len(renames) > 3
    for place in renames:
        assert (disk.order[place - 1], disk.order[place + 1]) == ("fsync", "fsync")


def test_a_ballast_becomes_a_segment_durably(folder: Path) -> None:
    """Its new name is synced before anything is written under it."""
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
    """Killed before, in the middle of or after any effect, the log is whole at the next start."""
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
    """A torn tail is repaired in the end, however the repair itself fails at first."""
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


def test_an_interrupted_append_is_not_taken_for_a_failed_one(folder: Path) -> None:
    """After an exception from nowhere in the middle of a write the log refuses to guess."""
    with opened(folder, disk=FaultyDisk("fdatasync", "lost", 1)) as log:
        log.append(entry(0))
        with pytest.raises(PowerCutError):
            log.append(entry(1))
        with pytest.raises(LogUnknown, match="interrupted"):
            log.append(entry(2))
        check(log, [entry(0)])


@pytest.mark.parametrize("seed", range(30))
def test_power_fails_while_sectors_are_on_their_way(folder: Path, seed: int) -> None:
    """Any part of what was not synced may be missing: what was acknowledged is not."""
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
        with opened(folder, disk=disk) as log:  # a new process: the cache may still show the entry
            if log.size > len(acknowledged):
                acknowledged.append(one)
            check(log, acknowledged)
        disk.cut_power()


def test_what_a_failed_sync_left_in_memory_is_written_again(folder: Path) -> None:
    """A start that sees an entry makes it durable before anything is built on it."""
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
    """However much of the last frame reached the disk, the entries before it are whole."""
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
    """Sectors land in any order: the end of a frame may be there without its header."""
    entries = written(folder, 4)
    path, frame = last_frame(folder)
    (folder / HINT).unlink()
    changed(path, frame.offset, bytes(100))
    with opened(folder) as log:
        (repair,) = log.repairs
        assert repair.offset == frame.offset
        check(log, entries[:3])


def test_a_torn_tail_after_the_turn_of_a_segment_is_repaired(folder: Path) -> None:
    """The first frame of the next segment may be torn like any other."""
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
    """One append was under way at most, and it writes one frame."""
    with AuditLog.open(folder, SIGNER) as log:
        log.append(entry(0))
    (folder / HINT).unlink()
    path, frame = last_frame(folder)
    changed(path, frame.end, b"x" * (MAX_FRAME_BYTES + 1))
    with pytest.raises(LogTampered, match="expected a whole frame"):
        AuditLog.open(folder, SIGNER)


def test_a_tear_before_a_used_segment_is_an_alarm(folder: Path) -> None:
    """Only the end of the log can be torn: before it everything was acknowledged."""
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
    """Copies are bounded; the repair is told all the same."""
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
    """A changed byte anywhere in the frames is an alarm, and the files stay as they are."""
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


def test_a_flipped_bit_without_the_hint_is_an_alarm_or_told(folder: Path) -> None:
    """After a power cut the last frame may look torn; what came before never does."""
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


def test_bytes_in_the_blank_space_are_an_alarm_or_told(folder: Path) -> None:
    """Nothing but an append writes there, and it begins where the last one ended."""
    entries = written(folder, 3)
    path, _ = last_frame(folder)
    changed(path, SIZES.segment_bytes - 1, b"x")
    with opened(folder) as log:
        assert len(log.repairs) == 1
        check(log, entries)


def test_an_entry_that_changes_under_a_running_agent_is_not_served(folder: Path) -> None:
    """Every read is compared with the leaf in memory."""
    written(folder, 3)
    path, frame = last_frame(folder)
    with opened(folder) as log:
        changed(path, frame.offset + 20, b"?")
        with pytest.raises(LogTampered, match="entry 2"):
            log.read(2)


def test_a_log_that_lost_its_end_is_an_alarm(folder: Path) -> None:
    """The hint remembers the newest checkpoint: entries that vanished are missed."""
    written(folder, 2)
    keep = segment_path(folder, 0).read_bytes()
    with opened(folder) as log:
        log.append(entry(2))
    segment_path(folder, 0).write_bytes(keep)
    with pytest.raises(LogTampered, match="expected at least 3 entries, got 2"):
        opened(folder)


def test_a_log_that_was_written_anew_is_an_alarm(folder: Path, tmp_path: Path) -> None:
    """Another history under the same key contradicts what the hint remembers."""
    written(folder, 2)
    with opened(tmp_path / "other") as log:
        for number in range(5, 8):
            log.append(entry(number))
    shutil.copy(segment_path(tmp_path / "other", 0), segment_path(folder, 0))
    with pytest.raises(LogTampered, match="the first 2 entries unchanged"):
        opened(folder)


@pytest.mark.parametrize("raw", [b"", b"\0" * 1024, b"half a note\n\n", os.urandom(2000)])
def test_a_hint_that_is_not_whole_says_nothing(folder: Path, raw: bytes) -> None:
    """It is never synced, so a power cut may leave anything."""
    entries = written(folder, 2)
    (folder / HINT).write_bytes(raw)
    with opened(folder) as log:
        check(log, entries)


def test_a_missing_segment_is_an_alarm(folder: Path) -> None:
    """Segments are numbered without gaps."""
    written(folder, 40)
    segment_path(folder, 0).unlink()
    with pytest.raises(LogTampered, match=r"expected 00000000\.segment"):
        opened(folder)


def test_another_nodes_log_is_an_alarm(folder: Path) -> None:
    """A log that this node's key did not sign, or of another origin, is not this node's."""
    written(folder, 2)
    for other in (
        LogSigner(SIGNER.origin, bytes(32)),
        LogSigner("breakglass/example/prod-a/n2", bytes(range(32))),
    ):
        with pytest.raises(LogTampered, match="expected"):
            AuditLog.open(folder, other)


def test_a_copied_log_is_read_without_being_touched(folder: Path, tmp_path: Path) -> None:
    """An offline check needs the files and the key, takes no lock and repairs nothing."""
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
    """Append until the log refuses; return how often it did not, and the refusal."""
    count = 0
    while True:
        try:
            log.append(entry(log.size), urgent=urgent)
        except StateUnwritable as error:
            return count, error
        count += 1


def test_a_log_has_an_end_and_a_reserve_before_it(folder: Path) -> None:
    """Beyond its limit the log refuses by name; outcomes of what was accepted still fit."""
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


def test_room_that_is_no_promise_costs_the_ballast_first(folder: Path) -> None:
    """Where preallocated space can still run out, the ballast is given up and work goes on."""
    disk = FullDisk(folder / BALLAST)
    with opened(folder, disk=disk) as log:
        disk.full = True
        assert log.append(entry(0)) == 0
        assert not (folder / BALLAST).exists()
        disk.without_ballast = True
        with pytest.raises(StateUnwritable, match="No space left") as caught:
            log.append(entry(1))
        assert caught.value.stable_code == "disk-full"
        assert replay(folder, SIGNER.vkey).torn is None  # what was written short is zeros again
        disk.full = False
        assert log.append(entry(1)) == 1
        assert (folder / BALLAST).exists()
    with opened(folder) as log:
        check(log, [entry(0), entry(1)])


def test_a_ballast_that_cannot_be_removed_costs_the_append_only(folder: Path) -> None:
    """`remove` fails too: the append is refused with nothing written, and the log goes on."""
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
    """It is thrown away at the start: a segment must begin as zeros."""
    opened(folder).close()
    (folder / BALLAST).write_bytes(b"x" * SIZES.ballast_bytes)
    opened(folder).close()
    assert (folder / BALLAST).read_bytes() == bytes(SIZES.ballast_bytes)


def test_a_path_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file in place of the state directory is a clear error."""
    (tmp_path / "state").write_text("")
    with pytest.raises(StateUnwritable, match="expected to write in"):
        opened(tmp_path / "state" / "log")


def test_a_segment_that_cannot_be_read_is_told(folder: Path) -> None:
    """What is there but no file is not taken for an empty log."""
    opened(folder).close()
    segment_path(folder, 0).unlink()
    segment_path(folder, 0).mkdir()
    with pytest.raises(StateUnwritable, match="expected to read the log"):
        opened(folder)


def mounted(where: Path, *command: str) -> None:
    """Mount something for the test, or skip it and say why."""
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
    """Return a file system of a few MiB, mounted for the test."""
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
    """Leave not one block free."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (1 << 16, 512, 1):
            while True:
                try:
                    file.write(b"x" * size)
                    os.fsync(file.fileno())
                except OSError:
                    break


@pytest.mark.real
def test_a_full_disk_is_survived_on_what_was_taken_before(small_disk: Path) -> None:
    """On a real full disk: preallocated space, the ballast, the reserve, then a clear refusal."""
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
def test_a_torn_tail_on_a_full_disk_is_repaired_without_a_copy_if_need_be(small_disk: Path) -> None:
    """A start must not need space: the ballast pays for the copy, and without it there is none."""
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
def test_a_read_only_disk_is_told_at_the_start(small_disk: Path) -> None:
    """Nothing is accepted that could not be recorded."""
    folder = small_disk / "log"
    entries = written(folder, 3)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StateUnwritable, match="Read-only file system"):
        opened(folder)
    assert list(replay(folder, SIGNER.vkey).entries()) == entries
