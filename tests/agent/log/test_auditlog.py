# SPDX-License-Identifier: Apache-2.0
"""P4: after any disk fault or crash the log holds exactly the acknowledged entries, or alarms.

The fault table is made from the disk's effects.  Each fails as "lost" (it did not happen) and as
"landed" (it happened, and an error was raised); then the log is opened again and checked whole.
"""

import contextlib
import errno
import random
import shutil
from pathlib import Path

import pytest

from breakglass.agent.log.auditlog import LOCK, QUARANTINE, AuditLog
from breakglass.agent.log.replay import HINT
from breakglass.agent.log.segments import MAX_FRAME_BYTES, Frame, parse_segment, segment_path
from breakglass.agent.log.space import BALLAST
from breakglass.core import bounds
from breakglass.core.receipt import verify_receipt
from breakglass.errors import BadProof, LogTampered, LogUnknown, StateUnwritable
from tests.support.faulty_disk import (
    EFFECTS,
    VERSIONS,
    CachedDisk,
    FaultyDisk,
    PowerCutError,
    ShortDisk,
)
from tests.support.small_log import (
    ENTRIES,
    SIGNER,
    SIZES,
    changed,
    check,
    entry,
    last_frame,
    opened,
    reopened_and_checked,
    written,
)

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
