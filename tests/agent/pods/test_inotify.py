# SPDX-License-Identifier: Apache-2.0
"""inotify as the kernel really is: real folders, a real overflow, and bytes it would never send."""

import asyncio
import errno
import os
import resource
import shutil
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from breakglass.agent.pods import inotify
from breakglass.agent.pods.inotify import Inotify, InotifyEvent, parse_events
from breakglass.errors import Malformed

PATIENCE_S = 10.0
QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")
MANY = 100_000  # events, more than a test should make


class Ears:
    """An `Inotify` and all that it told."""

    def __init__(self) -> None:
        self.inotify = Inotify(self._appeared, self._look_again)
        self.appeared: list[tuple[Path, str]] = []
        self.unseen: list[Path] = []
        self._told = asyncio.Event()

    async def until(self, seen: Callable[[], bool]) -> None:
        """Return when something is so; the kernel's word wakes it."""
        async with asyncio.timeout(PATIENCE_S):
            while not seen():
                self._told.clear()
                await self._told.wait()

    def _appeared(self, directory: Path, name: str) -> None:
        self.appeared.append((directory, name))
        self._told.set()

    def _look_again(self, directory: Path) -> None:
        self.unseen.append(directory)
        self._told.set()


@pytest.fixture
async def ears() -> AsyncIterator[Ears]:
    """Give an open instance; it is closed in the end."""
    ears = Ears()
    ears.inotify.open()
    yield ears
    ears.inotify.close()


def event(watch: int, mask: int, name: bytes = b"", *, padded: int | None = None) -> bytes:
    """Return an event as the kernel lays it out."""
    size = (len(name) // 16 + 1) * 16 if name else 0
    size = size if padded is None else padded
    return struct.pack("=iIII", watch, mask, 0, size) + name.ljust(size, b"\0")


def test_events_are_read_as_they_stand() -> None:
    """Several in one buffer, with and without a name."""
    raw = event(1, inotify.IN_CREATE, b"a" * 16) + event(-1, inotify.IN_Q_OVERFLOW)
    assert parse_events(raw) == (
        InotifyEvent(watch=1, mask=inotify.IN_CREATE, name=b"a" * 16),
        InotifyEvent(watch=-1, mask=inotify.IN_Q_OVERFLOW, name=b""),
    )
    assert parse_events(b"") == ()
    assert parse_events(event(1, 1, b"n" * 255))[0].name == b"n" * 255


@pytest.mark.parametrize(
    "raw",
    [
        event(1, 1, b"abc")[:-1],
        event(1, 1, b"abc") + b"\0",
        event(1, 1)[:15],
        event(1, 1, b"abc", padded=3),
        event(1, 1, b"abc\0d"),
        event(1, 1, b"a/b"),
        event(1, 1, b"n" * 256),
        struct.pack("=iIII", 1, 1, 0, 0xFFFF_FFFF),
        event(1, 1) * 4097,
    ],
)
def test_bytes_that_are_no_events_are_refused(raw: bytes) -> None:
    """Cut, trailing, unended, padded with something, a path, too long, lying, too many."""
    with pytest.raises(Malformed):
        parse_events(raw)


async def test_a_new_folder_is_told_with_its_name(ears: Ears, tmp_path: Path) -> None:
    """Made or moved in; a file is not told, nor what lies deeper."""
    outside = tmp_path / "outside"
    watched = tmp_path / "watched"
    for one in (outside / "moved", watched):
        one.mkdir(parents=True)
    ears.inotify.follow([watched])
    (watched / "file").touch()
    (watched / "made" / "deeper").mkdir(parents=True)
    (outside / "moved").rename(watched / "moved")
    await ears.until(lambda: len(ears.appeared) == 2)
    assert ears.appeared == [(watched, "made"), (watched, "moved")]
    assert ears.unseen == [watched]


async def test_a_name_of_any_bytes_is_told(ears: Ears, tmp_path: Path) -> None:
    """A name that is no text is told as the file system has it, and breaks nothing."""
    ears.inotify.follow([tmp_path])
    made = tmp_path / os.fsdecode(b"\xff\n")
    made.mkdir()
    await ears.until(lambda: bool(ears.appeared))
    assert os.fsencode(ears.appeared[0][1]) == b"\xff\n"


async def test_a_missing_folder_is_taken_when_it_appears(ears: Ears, tmp_path: Path) -> None:
    """It is no error, and what it holds when its watch begins is to be looked at."""
    late = tmp_path / "late"
    ears.inotify.follow([late, tmp_path / "a\0b"])
    assert ears.unseen == []
    late.mkdir()
    ears.inotify.follow([late])
    assert ears.unseen == [late]
    ears.inotify.follow([late])
    assert ears.unseen == [late]


async def test_a_folder_that_goes_and_comes_back_is_told(ears: Ears, tmp_path: Path) -> None:
    """Both times one has to look, and the new one is heard."""
    watched = tmp_path / "watched"
    watched.mkdir()
    ears.inotify.follow([watched])
    watched.rmdir()
    await ears.until(lambda: len(ears.unseen) == 2)
    watched.mkdir()
    ears.inotify.follow([watched])
    assert ears.unseen == [watched] * 3
    (watched / "new").mkdir()
    await ears.until(lambda: bool(ears.appeared))
    assert ears.appeared == [(watched, "new")]


async def test_another_folder_under_the_path_is_found(ears: Ears, tmp_path: Path) -> None:
    """A folder that is moved away is left alone, even before the kernel's word of it is read."""
    watched, away = tmp_path / "watched", tmp_path / "away"
    watched.mkdir()
    ears.inotify.follow([watched])
    watched.rename(away)
    watched.mkdir()
    ears.inotify.follow([watched])
    assert ears.unseen == [watched] * 2
    (away / "old").mkdir()
    (watched / "new").mkdir()
    await ears.until(lambda: bool(ears.appeared))
    assert ears.appeared == [(watched, "new")]


async def test_what_is_no_longer_followed_is_silent(ears: Ears, tmp_path: Path) -> None:
    """A folder taken out of the list is not told of any more, and is not to be looked at."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    ears.inotify.follow([one, two])
    ears.inotify.follow([two])
    (one / "unheard").mkdir()
    (two / "heard").mkdir()
    await ears.until(lambda: bool(ears.appeared))
    assert ears.appeared == [(two, "heard")]
    assert ears.unseen == [one, two]


@pytest.fixture
def queued() -> int:
    """Give how many events the kernel's queue takes."""
    size = int(QUEUE.read_text(encoding="ascii"))
    if size > MANY:
        pytest.skip(f"{QUEUE} is too large to be filled in a test")
    return size


async def test_an_overflowed_queue_asks_for_a_look(ears: Ears, queued: int, tmp_path: Path) -> None:
    """The kernel's queue really overflows; what came after it is lost, and that is told."""
    ears.inotify.follow([tmp_path])
    one, other = tmp_path / "a", tmp_path / "b"  # two, for the kernel merges what repeats
    one.touch()
    for _ in range(queued // 2 + 1):
        one.rename(other)
        other.rename(one)
    (tmp_path / "lost").mkdir()
    await ears.until(lambda: len(ears.unseen) == 2)
    assert ears.unseen == [tmp_path] * 2
    assert ears.appeared == []


async def test_nonsense_closes_the_instance_and_asks_for_a_look(tmp_path: Path) -> None:
    """What cannot be from inotify ends it; it can be opened again."""
    ears = Ears()
    ears.inotify.open()
    ears.inotify.follow([tmp_path])
    nonsense, writer = os.pipe()
    os.write(writer, b"no events")
    os.dup2(nonsense, ears.inotify._handle)
    os.close(nonsense)
    ears.inotify._read()
    os.close(writer)
    assert not ears.inotify.is_open
    assert ears.unseen == [tmp_path] * 2
    ears.inotify.open()
    ears.inotify.follow([tmp_path])
    assert ears.unseen == [tmp_path] * 3
    ears.inotify.close()


async def test_no_instance_left_is_an_error_of_opening(tmp_path: Path) -> None:
    """EMFILE comes out as it is; following and closing do nothing then."""
    ears = Ears()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError) as refused:
            ears.inotify.open()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert refused.value.errno == errno.EMFILE
    ears.inotify.follow([tmp_path])
    ears.inotify.close()
    assert ears.unseen == []


async def test_a_library_without_inotify_is_an_error_of_opening() -> None:
    """A C library that has no such function counts as a kernel that has none."""
    ears = Ears()
    with pytest.raises(OSError) as refused:
        ears.inotify._call("inotify_of_another_world", 0)
    assert refused.value.errno == errno.ENOSYS


async def test_a_tree_removed_whole_is_one_look(ears: Ears, tmp_path: Path) -> None:
    """Removing a folder with all it holds is no birth."""
    watched = tmp_path / "watched"
    (watched / "pod").mkdir(parents=True)
    ears.inotify.follow([watched])
    shutil.rmtree(watched)
    await ears.until(lambda: len(ears.unseen) == 2)
    assert ears.appeared == []
