# SPDX-License-Identifier: Apache-2.0
"""The inotify client on real folders, with a real overflow, and with bytes no kernel sends."""

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

PATIENCE_S = 60.0
QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")
MANY = 100_000  # events, more than a test should make


class Recorder:
    """An `Inotify` and the calls that it made."""

    def __init__(self) -> None:
        self.inotify = Inotify(self._appeared, self._look_again)
        self.appeared: list[tuple[Path, str]] = []
        self.unseen: list[Path] = []
        self._called = asyncio.Event()

    async def until(self, is_reached: Callable[[], bool]) -> None:
        """Return when a condition is met; it is checked after each call."""
        async with asyncio.timeout(PATIENCE_S):
            while not is_reached():
                self._called.clear()
                await self._called.wait()

    def _appeared(self, directory: Path, name: str) -> None:
        self.appeared.append((directory, name))
        self._called.set()

    def _look_again(self, directory: Path) -> None:
        self.unseen.append(directory)
        self._called.set()


@pytest.fixture
async def recorder() -> AsyncIterator[Recorder]:
    """Yield an open instance, and close it after the test."""
    recorder = Recorder()
    recorder.inotify.open()
    yield recorder
    recorder.inotify.close()


def event(watch: int, mask: int, name: bytes = b"", *, padded: int | None = None) -> bytes:
    """Return the bytes of an event as the kernel writes them."""
    size = (len(name) // 16 + 1) * 16 if name else 0
    size = size if padded is None else padded
    return struct.pack("=iIII", watch, mask, 0, size) + name.ljust(size, b"\0")


def test_events_are_parsed() -> None:
    """One buffer may have several events, with and without a name."""
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
    """Events that are cut, padded with other bytes, too long or too many are Malformed."""
    with pytest.raises(Malformed):
        parse_events(raw)


async def test_a_new_folder_is_reported_with_its_name(recorder: Recorder, tmp_path: Path) -> None:
    """A folder made or moved in is reported; a file or a subfolder's content is not."""
    outside = tmp_path / "outside"
    watched = tmp_path / "watched"
    for one in (outside / "moved", watched):
        one.mkdir(parents=True)
    recorder.inotify.follow([watched])
    (watched / "file").touch()
    (watched / "made" / "deeper").mkdir(parents=True)
    (outside / "moved").rename(watched / "moved")
    await recorder.until(lambda: len(recorder.appeared) == 2)
    assert recorder.appeared == [(watched, "made"), (watched, "moved")]
    assert recorder.unseen == [watched]


async def test_a_name_of_any_bytes_is_told(recorder: Recorder, tmp_path: Path) -> None:
    """A name that is not UTF-8 is reported as the file system has it."""
    recorder.inotify.follow([tmp_path])
    made = tmp_path / os.fsdecode(b"\xff\n")
    made.mkdir()
    await recorder.until(lambda: bool(recorder.appeared))
    assert os.fsencode(recorder.appeared[0][1]) == b"\xff\n"


async def test_a_missing_folder_is_watched_once_it_appears(
    recorder: Recorder, tmp_path: Path
) -> None:
    """A missing folder is no error; once it appears, `look_again` is called for it."""
    late = tmp_path / "late"
    recorder.inotify.follow([late, tmp_path / "a\0b"])
    assert recorder.unseen == []
    late.mkdir()
    recorder.inotify.follow([late])
    assert recorder.unseen == [late]
    recorder.inotify.follow([late])
    assert recorder.unseen == [late]


async def test_a_folder_that_goes_and_comes_back_is_reported(
    recorder: Recorder, tmp_path: Path
) -> None:
    """`look_again` is called both times, and the new folder is watched."""
    watched = tmp_path / "watched"
    watched.mkdir()
    recorder.inotify.follow([watched])
    watched.rmdir()
    await recorder.until(lambda: len(recorder.unseen) == 2)
    watched.mkdir()
    recorder.inotify.follow([watched])
    assert recorder.unseen == [watched] * 3
    (watched / "new").mkdir()
    await recorder.until(lambda: bool(recorder.appeared))
    assert recorder.appeared == [(watched, "new")]


async def test_another_folder_under_the_path_is_found(recorder: Recorder, tmp_path: Path) -> None:
    """A folder that was moved away is no longer watched, even before that event is read."""
    watched, away = tmp_path / "watched", tmp_path / "away"
    watched.mkdir()
    recorder.inotify.follow([watched])
    watched.rename(away)
    watched.mkdir()
    recorder.inotify.follow([watched])
    assert recorder.unseen == [watched] * 2
    (away / "old").mkdir()
    (watched / "new").mkdir()
    await recorder.until(lambda: bool(recorder.appeared))
    assert recorder.appeared == [(watched, "new")]


async def test_a_folder_no_longer_followed_is_not_reported(
    recorder: Recorder, tmp_path: Path
) -> None:
    """A folder that is no longer in the list causes no call of either kind."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    recorder.inotify.follow([one, two])
    recorder.inotify.follow([two])
    (one / "unheard").mkdir()
    (two / "heard").mkdir()
    await recorder.until(lambda: bool(recorder.appeared))
    assert recorder.appeared == [(two, "heard")]
    assert recorder.unseen == [one, two]


@pytest.fixture
def queued() -> int:
    """Return how many events the kernel's queue takes."""
    size = int(QUEUE.read_text(encoding="ascii"))
    if size > MANY:
        pytest.skip(f"{QUEUE} is too large to be filled in a test")
    return size


async def test_an_overflowed_queue_asks_for_a_look(
    recorder: Recorder, queued: int, tmp_path: Path
) -> None:
    """The kernel's queue really overflows; `look_again` is called for the lost events."""
    recorder.inotify.follow([tmp_path])
    one, other = tmp_path / "a", tmp_path / "b"  # two folders: the kernel merges repeats
    one.touch()
    for _ in range(queued // 2 + 1):
        one.rename(other)
        other.rename(one)
    (tmp_path / "lost").mkdir()
    await recorder.until(lambda: len(recorder.unseen) == 2)
    assert recorder.unseen == [tmp_path] * 2
    assert recorder.appeared == []


async def test_invalid_bytes_close_the_instance_and_ask_for_a_look(tmp_path: Path) -> None:
    """Bytes that inotify never sends close the instance; it can be opened again."""
    recorder = Recorder()
    recorder.inotify.open()
    recorder.inotify.follow([tmp_path])
    nonsense, writer = os.pipe()
    os.write(writer, b"no events")
    os.dup2(nonsense, recorder.inotify._handle)
    os.close(nonsense)
    recorder.inotify._read()
    os.close(writer)
    assert not recorder.inotify.is_open
    assert recorder.unseen == [tmp_path] * 2
    recorder.inotify.open()
    recorder.inotify.follow([tmp_path])
    assert recorder.unseen == [tmp_path] * 3
    recorder.inotify.close()


async def test_no_instance_left_is_an_error_of_opening(tmp_path: Path) -> None:
    """`open` raises EMFILE; `follow` and `close` do nothing then."""
    recorder = Recorder()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError) as refused:
            recorder.inotify.open()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert refused.value.errno == errno.EMFILE
    recorder.inotify.follow([tmp_path])
    recorder.inotify.close()
    assert recorder.unseen == []


async def test_a_library_without_inotify_is_an_error_of_opening() -> None:
    """A C library without the function counts as a kernel without inotify."""
    recorder = Recorder()
    with pytest.raises(OSError) as refused:
        recorder.inotify._call("inotify_of_another_world", 0)
    assert refused.value.errno == errno.ENOSYS


async def test_a_tree_removed_whole_is_one_look(recorder: Recorder, tmp_path: Path) -> None:
    """Removing a folder with its content reports no new folder."""
    watched = tmp_path / "watched"
    (watched / "pod").mkdir(parents=True)
    recorder.inotify.follow([watched])
    shutil.rmtree(watched)
    await recorder.until(lambda: len(recorder.unseen) == 2)
    assert recorder.appeared == []
