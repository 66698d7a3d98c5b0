# SPDX-License-Identifier: Apache-2.0
"""The disk as the log uses it: six effects, each of which can fail, behind one port.

Tests put a disk in its place that loses effects, or lets them land and fails all the same.  Reading
is not an effect and does not go through the port.
"""

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Protocol

from breakglass.errors import StateUnwritable

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700
_ZEROS_CHUNK_BYTES = 1 << 16
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Disk(Protocol):
    """The effects of the log on the disk; each raises `OSError`."""

    def create(self, path: Path, size: int) -> int:
        """Make an empty file with `size` bytes of space, in the place of an old one; return it."""
        ...

    def pwrite(self, handle: int, raw: bytes, offset: int) -> int:
        """Write at an offset and return how much was written, which may be less."""
        ...

    def fdatasync(self, handle: int) -> None:
        """Return when what was written is durable."""
        ...

    def fsync(self, handle: int) -> None:
        """Return when a new file, or the names in a folder, are durable."""
        ...

    def replace(self, old: Path, new: Path) -> None:
        """Rename a file, in the place of another if there is one."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a file."""
        ...


class RealDisk:
    """The machine's disk."""

    def create(self, path: Path, size: int) -> int:
        """Make the file with all its space taken (posix_fallocate(3)), mode 0600."""
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(path, flags, PRIVATE_FILE)
        try:
            if size:
                os.posix_fallocate(handle, 0, size)
        except OSError:
            os.close(handle)
            raise
        return handle

    def pwrite(self, handle: int, raw: bytes, offset: int) -> int:
        """Write at an offset (pwrite(2))."""
        return os.pwrite(handle, raw, offset)

    def fdatasync(self, handle: int) -> None:
        """Sync a file's bytes (fdatasync(2))."""
        os.fdatasync(handle)

    def fsync(self, handle: int) -> None:
        """Sync a file or a folder with all that is known about it (fsync(2))."""
        os.fsync(handle)

    def replace(self, old: Path, new: Path) -> None:
        """Rename a file (rename(2))."""
        old.replace(new)

    def remove(self, path: Path) -> None:
        """Remove a file (unlink(2))."""
        path.unlink()


def write_all(disk: Disk, handle: int, raw: bytes, offset: int) -> None:
    """Write all of `raw`: a full disk shortens a write before it fails one."""
    while raw:
        written = disk.pwrite(handle, raw, offset)
        if written <= 0:
            raise OSError(errno.EIO, "a write wrote nothing")
        raw, offset = raw[written:], offset + written


def make_file(disk: Disk, path: Path, raw: bytes, *, size: int) -> None:
    """Make a durable file that begins with `raw`, then zeros up to `size`, under its name or not.

    The zeros are written, not only allocated, so that later syncs touch no metadata.  The bytes
    are durable before the file gets its name, in the place of an older one; the name itself is
    durable after `sync_folder`.  A failure leaves at most a file named NAME.new, which the next
    call overwrites.
    """
    new = path.with_name(path.name + ".new")
    try:
        handle = disk.create(new, size)
        try:
            write_all(disk, handle, raw, 0)
            for offset in range(len(raw), size, _ZEROS_CHUNK_BYTES):
                write_all(disk, handle, bytes(min(_ZEROS_CHUNK_BYTES, size - offset)), offset)
            disk.fsync(handle)
        finally:
            os.close(handle)
        disk.replace(new, path)
    except OSError:
        with contextlib.suppress(OSError):
            disk.remove(new)
        raise


def sync_folder(disk: Disk, path: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        disk.fsync(handle)
    finally:
        os.close(handle)


def make_folder(disk: Disk, path: Path) -> None:
    """Make a private folder, and its parents as needed, whose names are durable on return."""
    if not path.parent.is_dir():
        make_folder(disk, path.parent)
    path.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    # Also where it was there already: whoever made it may have died before this.
    sync_folder(disk, path.parent)


def lock(path: Path) -> int:
    """Return a handle that holds the lock at `path` until it is closed.

    Raises:
        StateUnwritable: somebody else holds it ("log-locked").
        OSError: the file cannot be made or opened for writing.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_FILE)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise StateUnwritable(
            f"expected to be the only user of {path.parent}, got another",
            code="log-locked",
            hint="another agent is running on this state directory",
        ) from error
    return handle


def is_full(error: OSError) -> bool:
    """Return whether an effect failed for want of space."""
    return error.errno in _FULL


def unwritable(directory: Path, error: OSError) -> StateUnwritable:
    """Return the error of a state directory that does not take what we write."""
    code = "disk-full" if is_full(error) else ""
    message = f"expected to write in {directory}, got: {error.strerror or error}"
    return StateUnwritable(message, code=code)
