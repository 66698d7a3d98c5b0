# SPDX-License-Identifier: Apache-2.0
"""The disk as the log uses it: few effects, each of which can fail, behind one port.

Tests put a disk in its place that loses effects, or lets them land and fails all the same.
"""

import os
from pathlib import Path
from typing import Protocol

PRIVATE_FILE = 0o600


class Disk(Protocol):
    """The effects of the log on the disk; each raises `OSError`."""

    def create(self, path: Path, size: int) -> int:
        """Make a file of `size` zeros, durable with its name, and return it open."""
        ...

    def open(self, path: Path) -> int:
        """Return an existing file open for reading and writing."""
        ...

    def pwrite(self, handle: int, raw: bytes, offset: int) -> int:
        """Write at an offset and return how much was written, which may be less."""
        ...

    def fdatasync(self, handle: int) -> None:
        """Return when what was written is durable."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        ...


class RealDisk:
    """The machine's disk."""

    def create(self, path: Path, size: int) -> int:
        """Make a file of zeros; written, not only allocated, so that syncs touch no metadata."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            os.posix_fallocate(handle, 0, size)
            zeros = bytes(min(size, 1 << 16))
            for offset in range(0, size, len(zeros)):
                os.pwrite(handle, zeros[: size - offset], offset)
            os.fsync(handle)
            sync_folder(path.parent)
        except OSError:
            os.close(handle)
            path.unlink(missing_ok=True)
            raise
        return handle

    def open(self, path: Path) -> int:
        """Return an existing file open for reading and writing."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def pwrite(self, handle: int, raw: bytes, offset: int) -> int:
        """Write at an offset (pwrite(2))."""
        return os.pwrite(handle, raw, offset)

    def fdatasync(self, handle: int) -> None:
        """Sync a file's bytes (fdatasync(2))."""
        os.fdatasync(handle)

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
