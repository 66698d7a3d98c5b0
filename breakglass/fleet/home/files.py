# SPDX-License-Identifier: Apache-2.0
"""Read files up to a bound, and write files whole or not at all.

A write replaces the file in one step (a new file, fsync, rename, fsync of the folder), so that a
crash leaves the old file or the new one.  An `OSError` becomes `FileUnreadable`, with the path and
the text of the operating system.
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
    """Return a file's bytes; raise `FileUnreadable` if there are more than `max_bytes`."""
    with _as_unreadable("read", path), path.open("rb") as file:
        raw = file.read(max_bytes + 1)
    if len(raw) > max_bytes:
        raise FileUnreadable(
            f"cannot read {path}: it has more than {max_bytes} bytes",
            hint="check that it is the right file",
        )
    return raw


def write_atomically(path: Path, raw: bytes, *, mode: int = PRIVATE_FILE) -> None:
    """Replace the file at `path` in one step, durable on return; follow a symbolic link."""
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
    """Replace a file by the result of `change`, keeping its mode, under a lock between processes.

    The lock is on the file itself, which another process may replace during the wait: so after the
    wait this checks that the locked file is still the one at `path`, and else starts again.
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
    """Make the folder `path` with these files in one step; it must be missing or empty.

    Args:
        path: the folder; missing parents are made.
        files: relative names and bytes.
        public: the names with mode 0644; all other files get 0600.
    """
    with _as_unreadable("write", path):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise FileUnreadable(
                f"cannot write {path}: it exists and is not an empty folder",
                code="exists",
                hint="choose another path; nothing was overwritten",
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
    """Hold the lock of a folder, `.lock`; raise `FileUnreadable` if it cannot be made."""
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
        words = (error.strerror or "an error of the operating system").lower()
        code = "file-unreadable" if verb == "read" else "file-unwritable"
        raise FileUnreadable(f"cannot {verb} {path}: {words}", code=code) from error
