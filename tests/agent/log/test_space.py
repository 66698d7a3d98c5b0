# SPDX-License-Identifier: Apache-2.0
"""The space of a log: preallocated, with a reserve and a ballast, on disks that are full."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from breakglass.agent.log.auditlog import AuditLog
from breakglass.agent.log.replay import HINT, replay
from breakglass.agent.log.segments import segment_path
from breakglass.agent.log.space import BALLAST, Sizes
from breakglass.errors import StateUnwritable
from tests.support.faulty_disk import (
    FaultyDisk,
    FullDisk,
)
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


def test_a_ballast_becomes_a_segment_durably(folder: Path) -> None:
    """The ballast's new name is synced before any frame is written to it."""
    disk = FaultyDisk()
    sizes = Sizes(segment_bytes=2048, ballast_bytes=2048, reserve_bytes=0, max_bytes=4096)
    with opened(folder, disk=disk, sizes=sizes) as log:
        filled(log, urgent=True)
        assert log.used_bytes == 4096
    last = len(disk.order) - disk.order[::-1].index("replace")
    assert disk.order[last] == "fsync"


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
