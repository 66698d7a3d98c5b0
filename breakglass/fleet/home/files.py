# SPDX-License-Identifier: Apache-2.0
"""Files on a person's machine: read with a bound, written whole or not at all.

Whatever is written here replaces its predecessor in one step (a new file, fsync, rename, fsync of
the folder), so that a crash leaves the old file or the new one.  Errors of the operating system
become `FileUnreadable`, with the path and the system's own words.
"""

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from breakglass.errors import FileUnreadable

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700
PUBLIC_FILE = 0o644


def read_bounded(path: Path, *, max_bytes: int) -> bytes:
    """Return a file's bytes; raise `FileUnreadable` when there are more than `max_bytes`."""
    with _as_unreadable("read", path), path.open("rb") as file:
        raw = file.read(max_bytes + 1)
    if len(raw) > max_bytes:
        raise FileUnreadable(f"expected at most {max_bytes} bytes in {path}, got more")
    return raw


def write_atomically(path: Path, raw: bytes, *, mode: int = PRIVATE_FILE) -> None:
    """Put `raw` at `path` in one step, durable on return; a symbolic link is followed."""
    with _as_unreadable("write", path):
        target = Path(os.path.realpath(path))
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:64]}.", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(raw)
                file.flush()
                os.fchmod(handle, mode)
                os.fsync(handle)
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)


def change_atomically(path: Path, change: Callable[[bytes], bytes], *, max_bytes: int) -> None:
    """Replace a file by what `change` makes of it, keeping its mode, one process at a time.

    The lock is on the file that is replaced, so after waiting for it one must look whether it is
    still the file at that path.
    """
    while True:
        with _as_unreadable("read", path), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            locked, there = os.fstat(file.fileno()), path.stat()
            if (locked.st_dev, locked.st_ino) != (there.st_dev, there.st_ino):
                continue
            before = read_bounded(path, max_bytes=max_bytes)
            write_atomically(path, change(before), mode=stat.S_IMODE(locked.st_mode))
            return


def write_folder(path: Path, files: Mapping[str, bytes], *, public: frozenset[str]) -> None:
    """Make the folder `path` with these files in one step; it must not exist, or be empty.

    Args:
        path: the folder; missing parents are made.
        files: relative names and bytes.
        public: the names that others may read; everything else is for the owner alone.
    """
    with _as_unreadable("write", path):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise FileUnreadable(
                f"expected no {path}, or an empty folder, got one with something in it",
                code="exists",
                hint="choose another place; nothing was overwritten",
            )
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name[:64]}.", dir=target.parent) as made:
            folder = Path(made, "made")
            folder.mkdir(mode=PRIVATE_FOLDER)
            for name, raw in files.items():
                _write_new(folder, name, raw, PUBLIC_FILE if name in public else PRIVATE_FILE)
            folder.replace(target)
        _sync_folder(target.parent)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the one lock of a folder; raise `FileUnreadable` when it cannot be made."""
    with _as_unreadable("write", folder):
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write_new(folder: Path, name: str, raw: bytes, mode: int) -> None:
    path = folder / name
    for parent in reversed(path.relative_to(folder).parents[:-1]):
        (folder / parent).mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(raw)
        file.flush()
        os.fchmod(handle, mode)
        os.fsync(handle)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _as_unreadable(verb: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        words = (error.strerror or "an error of the system").lower()
        code = "file-unreadable" if verb == "read" else "file-unwritable"
        raise FileUnreadable(f"expected to {verb} {path}, got: {words}", code=code) from error
