# SPDX-License-Identifier: Apache-2.0
"""A small inotify(7) client: it reports folders that appear in a few watched folders.

It calls the C library through ctypes, which needs no dependency.  It makes no ctypes callback, so
no memory must be both writable and executable.  It reports:

- `appeared(directory, name)`: a folder of that name was made in, or moved to, a watched folder;
- `look_again(directory)`: folders may have appeared there unreported, because the queue overflowed,
  the watched folder went away, or another folder has its path now.

A missing folder is no error.  `follow` adds every watch again at each call: only that finds a
folder that came back, or one that replaced another or was mounted over it.

It watches no subfolders and guarantees nothing: its caller must poll too.
"""

import asyncio
import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from breakglass.errors import Malformed

IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_UNMOUNT = 0x2000
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ISDIR = 0x4000_0000
_IN_ONLYDIR = 0x0100_0000

_WATCHED = IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | _IN_ONLYDIR
_APPEARED = IN_CREATE | IN_MOVED_TO
_ENDED = IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED

_HEADER = struct.Struct("=iIII")  # wd, mask, cookie, len in the machine's byte order (inotify(7))
_MAX_NAME_BYTES = 256  # NAME_MAX and a NUL; the kernel pads names to multiples of the header's 16
_READ_BYTES = 64 * 1024  # about 600 events with the names of pod log folders
_EMPTY = frozenset({errno.EAGAIN, errno.EINTR})


@dataclass(frozen=True, slots=True, kw_only=True)
class InotifyEvent:
    """One event; after an overflow of the queue `watch` is -1 and `name` is empty."""

    watch: int
    mask: int
    name: bytes


def parse_events(raw: bytes) -> tuple[InotifyEvent, ...]:
    """Return the events in the bytes of one read(2).

    Raises:
        Malformed: the bytes are not whole events in the format of inotify(7).
    """
    if len(raw) > _READ_BYTES:
        raise Malformed(f"expected at most {_READ_BYTES} bytes of events, got {len(raw)}")
    found: list[InotifyEvent] = []
    place = 0
    while place < len(raw):
        if len(raw) - place < _HEADER.size:
            raise Malformed(f"expected an event of {_HEADER.size} bytes, got {len(raw) - place}")
        watch, mask, _, size = _HEADER.unpack_from(raw, place)
        place += _HEADER.size
        if size > min(_MAX_NAME_BYTES, len(raw) - place):
            raise Malformed(f"expected a name that fits, got one of {size} bytes")
        name, _, padding = raw[place : place + size].partition(b"\0")
        if len(name) == size > 0 or padding.strip(b"\0") or b"/" in name:
            raise Malformed("expected a name that ends in NUL bytes, got another")
        place += size
        found.append(InotifyEvent(watch=watch, mask=mask, name=name))
    return tuple(found)


class Inotify:
    """An inotify instance in the running event loop.

    Args:
        appeared: called with a watched folder and the name of a new folder in it.
        look_again: called with a watched folder that may have unreported new folders.
    """

    def __init__(
        self, appeared: Callable[[Path, str], None], look_again: Callable[[Path], None]
    ) -> None:
        self._appeared = appeared
        self._look_again = look_again
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = -1
        self._watches: dict[int, Path] = {}

    @property
    def is_open(self) -> bool:
        """Whether this has an instance from the kernel that still works."""
        return self._handle >= 0

    def open(self) -> None:
        """Get an instance from the kernel and read it in the running loop.

        Raises:
            OSError: the kernel gives none: EMFILE beyond fs.inotify.max_user_instances, ENOSYS.
        """
        loop = asyncio.get_running_loop()
        self._handle = self._call("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)
        loop.add_reader(self._handle, self._read)

    def close(self) -> None:
        """Close the instance; a second call does nothing."""
        if self.is_open:
            asyncio.get_running_loop().remove_reader(self._handle)
            os.close(self._handle)
        self._handle = -1
        self._watches = {}

    def follow(self, directories: Iterable[Path]) -> None:
        """Watch exactly these folders; call `look_again` for each that appeared, went or changed.

        A folder that is missing, or that the kernel refuses to watch (ENOSPC beyond
        fs.inotify.max_user_watches), is tried again at the next call.
        """
        if not self.is_open:
            return
        asked, wanted = tuple(directories), dict[int, Path]()
        for directory in asked:
            with contextlib.suppress(OSError, ValueError):  # ValueError: a NUL in the path
                path = os.fsencode(directory)
                watch = self._call("inotify_add_watch", self._handle, path, _WATCHED)
                wanted.setdefault(watch, directory)
        known, self._watches = self._watches, wanted
        for watch in known.keys() - wanted.keys():
            with contextlib.suppress(OSError):  # the folder is gone, and its watch with it
                self._call("inotify_rm_watch", self._handle, watch)
        changed = sorted(known.items() ^ wanted.items())
        for directory in dict.fromkeys(one for _, one in changed if one in asked):
            self._look_again(directory)

    def _read(self) -> None:
        """Read and report the events that are there; the loop calls again while there are more."""
        try:
            events = parse_events(os.read(self._handle, _READ_BYTES))
        except OSError as error:
            if error.errno not in _EMPTY:
                self._give_up()
            return
        except Malformed:
            self._give_up()
            return
        for event in events:
            self._take(event)

    def _take(self, event: InotifyEvent) -> None:
        if event.mask & IN_Q_OVERFLOW:
            for directory in tuple(self._watches.values()):
                self._look_again(directory)
            return
        if event.watch not in self._watches:  # `follow` has removed the watch
            return
        directory = self._watches[event.watch]
        if event.mask & _ENDED:
            # The kernel keeps the watch of a folder that was moved, so remove it here.
            with contextlib.suppress(OSError):
                self._call("inotify_rm_watch", self._handle, event.watch)
            del self._watches[event.watch]
            self._look_again(directory)
        elif event.mask & _APPEARED and event.mask & IN_ISDIR and event.name:
            self._appeared(directory, os.fsdecode(event.name))

    def _give_up(self) -> None:
        """Close an instance that fails or gives invalid events; all its folders need a look."""
        directories = tuple(self._watches.values())
        self.close()
        for directory in directories:
            self._look_again(directory)

    def _call(self, name: str, *arguments: int | bytes) -> int:
        """Call a C function that sets errno; `ctypes` lets other threads run meanwhile."""
        try:
            function = getattr(self._libc, name)
        except AttributeError as error:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from error
        result = int(function(*map(_as_c, arguments)))
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result


def _as_c(argument: int | bytes) -> ctypes.c_char_p | ctypes.c_uint32:
    # The mask is unsigned, the descriptors signed; as arguments both are the same 32 bits.
    if isinstance(argument, bytes):
        return ctypes.c_char_p(argument)
    return ctypes.c_uint32(argument)
