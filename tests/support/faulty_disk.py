# SPDX-License-Identifier: Apache-2.0
"""Disks that fail: one effect at a time, or the power while nothing is synced."""

import errno
import os
import random
from dataclasses import dataclass
from pathlib import Path

from breakglass.agent.log.disk import Disk, RealDisk

EFFECTS = tuple(sorted(name for name in vars(Disk) if not name.startswith("_")))
VERSIONS = ("lost", "landed")
_SECTOR_BYTES = 512


class PowerCutError(BaseException):
    """The machine is off: nothing after this effect happens."""


class FaultyDisk(RealDisk):
    """A disk on which one call of one effect fails.

    Args:
        effect: the method that fails; "" for none.
        version: "lost" where it fails before it happens (a write: half of it lands), "landed"
            where it happens and then fails.
        number: which call of it, from 0.
        code: the errno; 0 for a power cut.
    """

    def __init__(self, effect: str = "", version: str = "", number: int = 0, code: int = 0) -> None:
        self.effect, self.version, self.number, self.code = effect, version, number, code
        self.calls = dict.fromkeys(EFFECTS, 0)
        self.order: list[str] = []

    def _fails(self, effect: str) -> str:
        """Count a call and return how it fails, "" for not at all."""
        self.calls[effect] += 1
        self.order.append(effect)
        here = effect == self.effect and self.calls[effect] == self.number + 1
        return self.version if here else ""

    def _fail(self) -> Exception | PowerCutError:
        return OSError(self.code, os.strerror(self.code)) if self.code else PowerCutError()

    def create(self, path: Path, size: int) -> int:
        """Make a file, unless this call fails."""
        fails = self._fails("create")
        if fails == "lost":
            raise self._fail()
        handle = super().create(path, size)
        if fails:
            os.close(handle)
            raise self._fail()
        return handle

    def pwrite(self, handle: int, raw: bytes, offset: int) -> int:
        """Write, or half of it where this call fails."""
        fails = self._fails("pwrite")
        written = super().pwrite(handle, raw[: len(raw) // 2] if fails == "lost" else raw, offset)
        if fails:
            raise self._fail()
        return written

    def fdatasync(self, handle: int) -> None:
        """Sync, unless this call fails."""
        fails = self._fails("fdatasync")
        if fails != "lost":
            super().fdatasync(handle)
        if fails:
            raise self._fail()

    def fsync(self, handle: int) -> None:
        """Sync, unless this call fails."""
        fails = self._fails("fsync")
        if fails != "lost":
            super().fsync(handle)
        if fails:
            raise self._fail()

    def replace(self, old: Path, new: Path) -> None:
        """Rename, unless this call fails."""
        fails = self._fails("replace")
        if fails != "lost":
            super().replace(old, new)
        if fails:
            raise self._fail()

    def remove(self, path: Path) -> None:
        """Remove, unless this call fails."""
        fails = self._fails("remove")
        if fails != "lost":
            super().remove(path)
        if fails:
            raise self._fail()


def _nothing() -> None:
    """Do nothing."""


class DyingDisk(FaultyDisk):
    """A disk whose failing call is the end of its process: nothing reaches it after that.

    Attributes:
        at_the_end: called in that moment.
    """

    dead = False

    def __init__(self) -> None:
        super().__init__()
        self.at_the_end = _nothing

    def fail_next(self, effect: str, version: str, number: int, code: int = 0) -> None:
        """Let a call of an effect fail, `number` calls from now; without a code it is the last."""
        self.effect, self.version, self.code = effect, version, code
        self.number = self.calls[effect] + number

    def _fails(self, effect: str) -> str:
        if self.dead:
            raise PowerCutError
        found = super()._fails(effect)
        if found and not self.code:
            self.dead = True
            self.at_the_end()
        return found


class ShortDisk(RealDisk):
    """A disk that writes a few bytes at a time, as a real one may."""

    def pwrite(self, handle: int, raw: bytes, offset: int) -> int:
        """Write at most 401 bytes."""
        return super().pwrite(handle, raw[:401], offset)


class FullDisk(RealDisk):
    """A disk whose preallocated space is no promise, as on btrfs: writes fail once it is `full`.

    Removing the ballast helps unless it happens `without_ballast`; `stuck`, nothing is removed.
    """

    def __init__(self, ballast: Path) -> None:
        self.ballast = ballast
        self.full = self.without_ballast = self.stuck = False

    def create(self, path: Path, size: int) -> int:
        """Make a file, or fail when full."""
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().create(path, size)

    def pwrite(self, handle: int, raw: bytes, offset: int) -> int:
        """Write, or write short and then fail when full; zeros cost nothing."""
        if self.full and any(raw) and (self.ballast.exists() or self.without_ballast):
            if len(raw) < 100:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().pwrite(handle, raw[:100], offset)
        return super().pwrite(handle, raw, offset)

    def remove(self, path: Path) -> None:
        """Remove, unless the disk is stuck."""
        if self.stuck:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().remove(path)


@dataclass(frozen=True, slots=True)
class _Unsynced:
    inode: int
    path: Path
    offset: int
    before: bytes


class CachedDisk(RealDisk):
    """A disk with a volatile cache: `cut_power` takes back sectors that were never synced.

    While `failing`, syncs fail, and what they should have synced is clean in memory but not on the
    disk: no later sync brings it there, only a new write does (as Linux behaves).
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._unsynced: list[_Unsynced] = []
        self._forgotten: list[_Unsynced] = []
        self.failing = False

    def pwrite(self, handle: int, raw: bytes, offset: int) -> int:
        """Write into the cache."""
        path, inode = Path(f"/proc/self/fd/{handle}").readlink(), os.fstat(handle).st_ino
        before = os.pread(handle, len(raw), offset)
        for one in list(self._forgotten):
            if one.inode == inode and one.offset == offset and len(one.before) <= len(raw):
                self._forgotten.remove(one)
                before = one.before + before[len(one.before) :]
        self._unsynced.append(_Unsynced(inode, path, offset, before))
        return super().pwrite(handle, raw, offset)

    def fdatasync(self, handle: int) -> None:
        """Make this file's writes durable, or fail and forget them."""
        inode = os.fstat(handle).st_ino
        mine = [one for one in self._unsynced if one.inode == inode]
        self._unsynced = [one for one in self._unsynced if one.inode != inode]
        if self.failing:
            self._forgotten += mine
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def fsync(self, handle: int) -> None:
        """As `fdatasync`."""
        self.fdatasync(handle)

    def cut_power(self) -> None:
        """Take back any of the sectors that were not durable, the newest writes first."""
        for one in reversed(self._forgotten + self._unsynced):
            if not one.path.exists():
                continue
            with one.path.open("r+b") as file:
                for at in range(0, len(one.before), _SECTOR_BYTES):
                    if one in self._forgotten or self._random.random() < 0.5:
                        file.seek(one.offset + at)
                        file.write(one.before[at : at + _SECTOR_BYTES])
        self._unsynced, self._forgotten = [], []
