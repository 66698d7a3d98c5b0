# SPDX-License-Identifier: Apache-2.0
"""P4: the log survives what disks and crashes do, and never tells something else instead.

The fault table is made from the disk's effects, each "lost" (it failed) and "landed" (it happened,
and failed all the same); after each the log is opened again and checked whole.
"""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from breakglass.agent.auditlog import QUARANTINE, AuditLog
from breakglass.agent.disk import Disk, RealDisk
from breakglass.agent.replay import HINT
from breakglass.agent.segments import parse_frame, segment_path
from breakglass.agent.space import BALLAST, Sizes
from breakglass.core.checkpoint import LogSigner, verify_checkpoint
from breakglass.core.merkle import Tree, leaf_hash, verify_consistency
from breakglass.core.receipt import verify_receipt
from breakglass.errors import LogTampered, LogUnknown, StateUnwritable

SIGNER = LogSigner("breakglass/example/prod-a/n1", bytes(range(32)))
SIZES = Sizes(
    segment_bytes=96 * 1024,
    ballast_bytes=96 * 1024,
    reserve_bytes=8 * 1024,
    max_bytes=8 * 1024 * 1024,
)
# Every method of the port is an effect: a new one has its rows here by itself.
EFFECTS = tuple(name for name in vars(Disk) if not name.startswith("_"))


class FaultyDisk(RealDisk):
    """A disk that fails at one effect, from the moment it is armed."""

    def __init__(self, effect: str, version: str) -> None:
        self.effect, self.version, self.armed = effect, version, False

    def _around(self, effect: str, carry_out: Callable[[], int | None]) -> int | None:
        hit = self.armed and effect == self.effect
        if hit and self.version == "lost":
            raise OSError(errno.EIO, "Input/output error")
        found = carry_out()
        if hit:
            raise OSError(errno.EIO, "Input/output error")
        return found

    def create(self, path: Path, size: int) -> int:
        """Make a file, or fail before or after."""
        return self._around("create", lambda: super(FaultyDisk, self).create(path, size)) or 0

    def pwrite(self, handle: int, raw: bytes, offset: int) -> int:
        """Write half and fail, or all and fail."""
        if self.armed and (self.effect, self.version) == ("pwrite", "lost"):
            super().pwrite(handle, raw[: len(raw) // 2], offset)
        done = self._around("pwrite", lambda: super(FaultyDisk, self).pwrite(handle, raw, offset))
        return done or 0

    def fdatasync(self, handle: int) -> None:
        """Sync, or fail before or after."""
        self._around("fdatasync", lambda: super(FaultyDisk, self).fdatasync(handle))

    def fsync(self, handle: int) -> None:
        """Sync, or fail before or after."""
        self._around("fsync", lambda: super(FaultyDisk, self).fsync(handle))

    def replace(self, old: Path, new: Path) -> None:
        """Rename, or fail before or after."""
        self._around("replace", lambda: super(FaultyDisk, self).replace(old, new))

    def remove(self, path: Path) -> None:
        """Remove, or fail before or after."""
        self._around("remove", lambda: super(FaultyDisk, self).remove(path))


class ShortDisk(RealDisk):
    """A disk that writes a few bytes at a time, as a real one may."""

    def pwrite(self, handle: int, raw: bytes, offset: int) -> int:
        """Write at most 700 bytes."""
        return super().pwrite(handle, raw[:700], offset)


def entry(number: int) -> bytes:
    """Return an entry of a size of its own."""
    return f"entry {number} ".encode() + b"x" * (number * 1_370 % 9_000)


def opened(folder: Path, disk: Disk | None = None) -> AuditLog:
    """Return the log in a folder, with small segments."""
    return AuditLog.open(folder, SIGNER, disk=disk, sizes=SIZES)


def check(log: AuditLog, count: int) -> None:
    """Check everything a log claims, from its bytes alone."""
    assert [bytes(one) for one in log.entries()] == [entry(number) for number in range(count)]
    tree = Tree(leaf_hash(entry(number)) for number in range(count))
    assert log.size == count
    if count:
        checkpoint = verify_checkpoint(log.checkpoint, SIGNER.vkey)
        assert (checkpoint.size, checkpoint.root) == (count, tree.root())
    for index in range(count):
        verify_receipt(log.receipt(index), SIGNER.vkey)
        verify_consistency(
            index, count, log.consistency(index, count), tree.root(index), tree.root()
        )


def filled(log: AuditLog) -> tuple[int, StateUnwritable]:
    """Append until the log refuses; return how many entries it took, and the refusal."""
    for number in range(10_000):
        try:
            log.append(entry(number))
        except StateUnwritable as refused:
            return number, refused
    raise AssertionError("the log has no end")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a log."""
    return tmp_path / "log"


def written(folder: Path, count: int) -> None:
    """Write a log of so many entries and close it."""
    log = opened(folder)
    for number in range(count):
        assert log.append(entry(number)) == number
    log.close()


def test_a_log_is_the_same_after_every_start(folder: Path) -> None:
    """Over many segments, each start reads what was appended, and proofs go on."""
    for count in range(60):
        log = opened(folder)
        assert log.size == count
        log.append(entry(count))
        log.close()
    log = opened(folder)
    check(log, 60)
    assert log.repairs == ()
    assert segment_path(folder, 3).exists()
    log.close()


@pytest.mark.parametrize("version", ["lost", "landed"])
@pytest.mark.parametrize("effect", EFFECTS)
def test_each_effect_fails_twice(folder: Path, effect: str, version: str) -> None:
    """After a failure nothing more is accepted, and the next start finds a whole log."""
    disk = FaultyDisk(effect, version)
    log = opened(folder, disk=disk)
    for number in range(3):
        log.append(entry(number))
    disk.armed = True
    durable, failed = 3, None
    try:
        while durable < 200:
            log.append(entry(durable))
            durable += 1
    except (LogUnknown, StateUnwritable) as error:
        failed = error
    # Removing is only for the ballast of a full disk: its failure alone is nobody's loss.
    assert failed is not None or effect == "remove"
    check(log, durable)
    if isinstance(failed, LogUnknown):
        disk.armed = False
        with pytest.raises(LogUnknown, match="syncs succeed"):
            log.append(entry(durable))
    log.close()
    log = opened(folder)
    # What failed may have landed, whole: then it counts, and nothing else is different.
    assert log.size in {durable, durable + 1}
    check(log, log.size)
    log.append(entry(log.size))
    check(log, log.size)
    log.close()


def test_short_writes_are_completed(folder: Path) -> None:
    """A write that returns short is no error and loses nothing."""
    log = opened(folder, disk=ShortDisk())
    for number in range(5):
        log.append(entry(number))
    check(log, 5)
    log.close()


def test_a_torn_tail_is_kept_aside_and_told_at_any_length(folder: Path, tmp_path: Path) -> None:
    """However much of the last frame reached the disk, the entries before it are whole."""
    written(folder, 3)
    raw = segment_path(folder, 0).read_bytes()
    offset = 0
    for _ in range(2):
        frame = parse_frame(raw, offset)
        assert frame is not None
        offset = frame.end
    last = parse_frame(raw, offset)
    assert last is not None
    for cut in range(offset + 1, last.end - 8, 97):
        torn = tmp_path / f"torn-{cut}"
        shutil.copytree(folder, torn)
        (torn / HINT).write_bytes(b"")  # the hint is written after the frame
        (torn / "00000000.segment").write_bytes(raw[:cut].ljust(len(raw), b"\0"))
        log = opened(torn)
        (repair,) = log.repairs
        assert (repair.segment, repair.offset) == ("00000000.segment", offset)
        kept = (torn / QUARANTINE / repair.copy).read_bytes()
        assert raw[offset:cut].startswith(kept.rstrip(b"\0"))
        check(log, 2)
        log.append(entry(2))
        check(log, 3)
        log.close()
        again = opened(torn)
        assert again.repairs == ()
        check(again, 3)
        again.close()


def test_a_flipped_bit_is_never_believed(folder: Path, tmp_path: Path) -> None:
    """A changed byte is an alarm; none makes another entry, and none a shorter log in silence."""
    written(folder, 4)
    raw = segment_path(folder, 0).read_bytes()
    used = len(raw.rstrip(b"\0"))
    for place in range(0, used, 211):
        changed = tmp_path / f"changed-{place}"
        shutil.copytree(folder, changed)
        flipped = bytearray(raw)
        flipped[place] ^= 0x10
        (changed / "00000000.segment").write_bytes(bytes(flipped))
        with pytest.raises(LogTampered, match="expected"):
            opened(changed).close()


def test_a_log_that_lost_its_end_is_an_alarm(folder: Path) -> None:
    """The hint remembers the newest checkpoint: entries that vanished are missed."""
    written(folder, 2)
    keep = segment_path(folder, 0).read_bytes()
    log = opened(folder)
    log.append(entry(2))
    log.close()
    segment_path(folder, 0).write_bytes(keep)
    with pytest.raises(LogTampered, match="expected at least 3 entries, got 2"):
        opened(folder)


def test_a_missing_segment_is_an_alarm(folder: Path) -> None:
    """Segments are numbered without gaps."""
    written(folder, 40)
    segment_path(folder, 0).unlink()
    with pytest.raises(LogTampered, match=r"expected 00000000\.segment"):
        opened(folder)


def test_another_nodes_log_is_an_alarm(folder: Path) -> None:
    """A log that this node's key did not sign is not this node's."""
    written(folder, 2)
    with pytest.raises(LogTampered, match="expected"):
        AuditLog.open(folder, LogSigner("breakglass/example/prod-a/n1", bytes(32)))


def test_two_agents_never_share_a_log(folder: Path) -> None:
    """The folder is locked by its first user."""
    log = opened(folder)
    with pytest.raises(StateUnwritable, match="only user") as caught:
        opened(folder)
    assert caught.value.stable_code == "log-locked"
    log.close()
    opened(folder).close()


def test_files_are_for_their_owner_alone(folder: Path) -> None:
    """0700 and 0600, whatever the umask."""
    written(folder, 40)
    assert folder.stat().st_mode & 0o777 == 0o700
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_log_has_an_end(folder: Path) -> None:
    """Beyond its limit the log refuses by name, and keeps what it has."""
    log = opened(folder)
    count, refused = filled(log)
    assert refused.stable_code == "log-full"
    assert log.used_bytes <= SIZES.max_bytes
    # What people signed for can still be finished in the room that was kept.
    assert log.append(entry(count), urgent=True) == count
    assert log.size == count + 1
    log.close()


def test_a_path_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file in place of the state directory is a clear error."""
    (tmp_path / "state").write_text("")
    with pytest.raises(StateUnwritable, match="expected to write in"):
        opened(tmp_path / "state" / "log")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 1.5 MiB, mounted for the test."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", str(where)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {done.stderr.strip()}")
    yield where
    subprocess.run(["umount", str(where)], check=True)


def test_a_full_disk_is_survived_on_what_was_taken_before(small_disk: Path) -> None:
    """On a real full disk: preallocated space, then the ballast, then a clear refusal."""
    log = opened(small_disk / "log")
    (small_disk / "filler").write_bytes(
        b"x" * (os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize)
    )
    assert os.statvfs(small_disk).f_bavail == 0
    count, refused = filled(log)
    assert refused.stable_code == "disk-full"
    assert count > 20
    assert not (small_disk / "log" / BALLAST).exists()
    assert log.size == count
    log.close()
    (small_disk / "filler").unlink()
    log = opened(small_disk / "log")
    check(log, count)
    assert log.size == count
    assert log.append(entry(count)) == count
    log.close()
