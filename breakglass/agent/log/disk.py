# SPDX-License-Identifier: Apache-2.0
"""The disk operations of the log: six effects behind one port, each of which can fail.

Tests replace the disk with one that loses an effect, or performs it and still raises an error.
Reading is not an effect and does not go through the port.
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
    """The log's effects on the disk; each raises `OSError` when it fails."""

    def create(self, path: Path, size: int) -> int:
        """Create or replace an empty file with `size` bytes reserved; return its descriptor."""
        ...

    def pwrite(self, handle: int, raw: bytes, offset: int) -> int:
        """Write at an offset; return the number of bytes written, which may be fewer than asked."""
        ...

    def fdatasync(self, handle: int) -> None:
        """Make the bytes written to a file durable."""
        ...

    def fsync(self, handle: int) -> None:
        """Make a new file, or the names in a folder, durable."""
        ...

    def replace(self, old: Path, new: Path) -> None:
        """Rename a file; replace the file that has the new name, if there is one."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a file."""
        ...


class RealDisk:
    """The machine's disk."""

    def create(self, path: Path, size: int) -> int:
        """Create the file with mode 0600 and reserve its space (posix_fallocate(3))."""
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
        """Sync a file or a folder with its metadata (fsync(2))."""
        os.fsync(handle)

    def replace(self, old: Path, new: Path) -> None:
        """Rename a file (rename(2))."""
        old.replace(new)

    def remove(self, path: Path) -> None:
        """Remove a file (unlink(2))."""
        path.unlink()


def write_all(disk: Disk, handle: int, raw: bytes, offset: int) -> None:
    """Write all of `raw` in as many writes as needed: a disk near full writes less than asked."""
    while raw:
        written = disk.pwrite(handle, raw, offset)
        if written <= 0:
            raise OSError(errno.EIO, "the write wrote 0 bytes")
        raw, offset = raw[written:], offset + written


def make_file(disk: Disk, path: Path, raw: bytes, *, size: int) -> None:
    """Create or replace a file, atomically and durably: `raw`, then zeros up to `size`.

    The zeros are written, not only allocated, so that later syncs touch no metadata.  The bytes
    are synced before the file gets its name; the name itself is durable after `sync_folder`.  A
    failure leaves at most a file NAME.new, which the next call overwrites.
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
    """Make a private folder and its missing parents; their names are durable on return."""
    if not path.parent.is_dir():
        make_folder(disk, path.parent)
    path.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    # Sync an existing folder too: the process that made it may have died before its sync.
    sync_folder(disk, path.parent)


def lock(path: Path) -> int:
    """Take the lock at `path`; return a descriptor that holds it until it is closed.

    Raises:
        StateUnwritable: another process holds the lock ("log-locked").
        OSError: the file cannot be created or opened for writing.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_FILE)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise StateUnwritable(
            f"cannot lock {path.parent}: another agent uses it",
            code="log-locked",
            hint="only one agent may use a state directory: stop the other one",
        ) from error
    return handle


def is_full(error: OSError) -> bool:
    """Return whether an effect failed because the disk or the quota is full."""
    return error.errno in _FULL


def unwritable(directory: Path, error: OSError) -> StateUnwritable:
    """Return the error for a failed write in the state directory."""
    code = "disk-full" if is_full(error) else ""
    message = f"cannot write in {directory}: {error.strerror or error}"
    return StateUnwritable(message, code=code)
