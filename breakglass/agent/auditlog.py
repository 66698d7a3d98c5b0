# SPDX-License-Identifier: Apache-2.0
"""The node's audit log: appended durably, proven at every size, replayed at every start.

Each append, in order:

 (1) the entry's leaf joins the tree, and the checkpoint of the new size is signed.
 (2) one frame with both is written into preallocated space.    A crash leaves a torn tail.
 (3) the frame is synced.                                       A crash leaves all or a torn tail.
 (4) the entry counts; the newest checkpoint is hinted.         A crash leaves an older hint.

At start every frame is read and the tree computed anew; the checkpoint of each frame must name the
computed root, and the last one must be signed by this node's key.  A torn tail is kept aside, cut
off and told in `repairs`; if the hint remembers more entries than are left, that is an alarm.

A failed sync is fatal to the object: the kernel may show bytes that never reached the disk, so
nothing is believed until a new start has read them again.  A full disk is survived by space that
was taken before: the rest of the segment, the next one, and a ballast.

What it cannot do: root on this node can rewrite everything after the newest checkpoint that
somebody else has seen.  That is why checkpoints leave with every reply.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from breakglass.agent.disk import PRIVATE_FILE, Disk, RealDisk, sync_folder
from breakglass.agent.segments import (
    HEADER_BYTES,
    Frame,
    Torn,
    read_frames,
    render_frame,
    segment_path,
    segment_paths,
)
from breakglass.core import limits
from breakglass.core.checkpoint import (
    Checkpoint,
    LogSigner,
    parse_checkpoint,
    parse_note,
    sign_checkpoint,
    verify_checkpoint,
)
from breakglass.core.merkle import Tree, leaf_hash
from breakglass.core.receipt import Receipt
from breakglass.errors import EvidenceError, LogTampered, LogUnknown, Malformed, StateUnwritable

HINT = "newest"
BALLAST = "ballast"
LOCK = "lock"
QUARANTINE = "quarantine"
_PRIVATE_FOLDER = 0o700


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """A torn tail that was cut off, and where its bytes are kept."""

    segment: str
    offset: int
    size: int
    copy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    segment: int
    entry_offset: int
    entry_bytes: int


class AuditLog:
    """One node's log; one writer, enforced by a lock on its folder."""

    def __init__(
        self, directory: Path, signer: LogSigner, *, segment_bytes: int, disk: Disk
    ) -> None:
        """Prepare a log; use `open`."""
        self._directory = directory
        self._signer = signer
        self._segment_bytes = segment_bytes
        self._disk = disk
        self._tree = Tree()
        self._places: list[_Place] = []
        self._handles: list[int] = []
        self._end = 0
        self._current = 0
        self._broken = ""
        self._lock = -1
        self._hint = -1
        # Replaced as one value: readers in another thread see a size with its own checkpoint.
        self._durable = (0, b"")
        self.repairs: tuple[Repair, ...] = ()

    @classmethod
    def open(
        cls,
        directory: Path,
        signer: LogSigner,
        *,
        segment_bytes: int = limits.SEGMENT_BYTES,
        disk: Disk | None = None,
    ) -> Self:
        """Return the log in `directory`, made there if there is none, replayed and repaired.

        Raises:
            StateUnwritable: the folder cannot be used, or another agent uses it ("log-locked").
            LogTampered: the log contradicts itself, its checkpoint or its hint.
        """
        log = cls(directory, signer, segment_bytes=segment_bytes, disk=disk or RealDisk())
        try:
            log._prepare()
            log._replay()
        except OSError as error:
            log.close()
            raise _unwritable(directory, error) from error
        except BaseException:
            log.close()
            raise
        return log

    # --- reading ---------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """How many entries are durable."""
        return self._durable[0]

    @property
    def checkpoint(self) -> bytes:
        """The signed checkpoint of all durable entries; nothing for an empty log."""
        return self._durable[1]

    @property
    def used_bytes(self) -> int:
        """How much disk the segments take."""
        return len(self._handles) * self._segment_bytes

    @property
    def vkey(self) -> str:
        """The key that verifies the checkpoints."""
        return self._signer.vkey

    def read(self, index: int) -> bytes:
        """Return the bytes of one entry."""
        place = self._places[index]
        return os.pread(self._handles[place.segment], place.entry_bytes, place.entry_offset)

    def entries(self) -> Iterator[bytes]:
        """Yield all entries in order."""
        for index in range(self.size):
            yield self.read(index)

    def receipt(self, index: int) -> Receipt:
        """Return an entry with its proof under the newest checkpoint."""
        size, checkpoint = self._durable
        proof = self._tree.inclusion_proof(index, size)
        return Receipt(entry=self.read(index), index=index, proof=proof, checkpoint=checkpoint)

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the log has only grown; raise `BadProof` for sizes it never had."""
        return tuple(self._tree.consistency_proof(old, new))

    # --- writing ---------------------------------------------------------------------------

    def append(self, entry: bytes) -> int:
        """Append an entry and return its index; it is durable on return.

        Raises:
            StateUnwritable: there is no room; nothing was written.
            LogUnknown: a write or a sync failed, now or before.
        """
        if self._broken:
            raise LogUnknown(f"expected a log whose syncs succeed, got: {self._broken}")
        index = self.size
        self._tree.append(leaf_hash(entry))  # (1)
        try:
            note = self._sign()
            frame = render_frame(entry, note)
            offset = self._make_room(len(frame))
            self._write(frame, offset)  # (2)
            self._sync()  # (3)
        except BaseException:
            self._tree.truncate(index)
            raise
        self._take(Frame(offset=offset, end=offset + len(frame), entry=entry, note=note))  # (4)
        self._write_hint()
        self._prepare_next()
        return index

    def close(self) -> None:
        """Let go of the files; what was appended is durable already."""
        for handle in (*self._handles, self._hint, self._lock):
            if handle >= 0:
                os.close(handle)
        self._handles, self._hint, self._lock = [], -1, -1
        self._broken = self._broken or "the log is closed"

    # --- inside ----------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._directory.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._lock = os.open(self._directory / LOCK, flags, PRIVATE_FILE)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StateUnwritable(
                f"expected to be the only user of {self._directory}, got another",
                code="log-locked",
                hint="another agent is running on this state directory",
            ) from error
        self._hint = os.open(self._directory / HINT, flags, PRIVATE_FILE)
        if not (self._directory / BALLAST).exists():
            with contextlib.suppress(OSError):
                os.close(self._disk.create(self._directory / BALLAST, limits.BALLAST_BYTES))

    def _replay(self) -> None:
        paths = segment_paths(self._directory)
        used = self._used(paths)
        for number, path in enumerate(paths):
            self._handles.append(self._disk.open(path))
            raw = path.read_bytes()
            for found in read_frames(raw, name=path.name, is_last=number >= used):
                if isinstance(found, Torn):
                    self._repair(path, number, raw, found)
                else:
                    self._replay_frame(number, found)
        if self.checkpoint:
            try:
                verify_checkpoint(self.checkpoint, self.vkey)
            except (EvidenceError, Malformed) as error:
                raise LogTampered(f"{error.message} at the end of {self._directory}") from error
        self._verify_hint()
        if not self._handles:
            self._handles.append(
                self._disk.create(segment_path(self._directory, 0), self._segment_bytes)
            )

    @staticmethod
    def _used(paths: tuple[Path, ...]) -> int:
        """Return the number of the last segment that holds anything."""
        for number in range(len(paths) - 1, 0, -1):
            if any(paths[number].read_bytes()):
                return number
        return 0

    def _replay_frame(self, number: int, frame: Frame) -> None:
        self._tree.append(leaf_hash(frame.entry))
        try:
            said = parse_checkpoint(parse_note(frame.note).text)
        except Malformed as error:
            raise LogTampered(f"{error.message} in entry {self.size}") from error
        if (said.size, said.root) != (self._tree.size, self._tree.root()):
            raise LogTampered(
                f"expected the root of {self._tree.size} entries, got another checkpoint"
            )
        self._current, self._end = number, 0
        self._take(frame)

    def _repair(self, path: Path, number: int, raw: bytes, torn: Torn) -> None:
        """Keep a torn tail aside, durably, then write zeros over it."""
        folder = self._directory / QUARANTINE
        folder.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
        copy = folder / f"{path.stem}-{torn.offset}-{self.size}"
        with copy.open("wb") as file:
            file.write(raw[torn.offset : torn.offset + torn.size])
            file.flush()
            os.fsync(file.fileno())
        sync_folder(folder)
        self._current, self._end = number, torn.offset
        self._write(bytes(torn.size), torn.offset)
        self._sync()
        repair = Repair(segment=path.name, offset=torn.offset, size=torn.size, copy=copy.name)
        self.repairs = (*self.repairs, repair)

    def _verify_hint(self) -> None:
        raw = os.pread(self._hint, limits.MAX_ENTRY_BYTES, 0).rstrip(b"\0")
        if not raw:
            return
        try:
            hinted = verify_checkpoint(raw, self.vkey)
        except (EvidenceError, Malformed):
            return  # it is not durable and may be torn; only a whole one says anything
        if hinted.size > self.size:
            raise LogTampered(f"expected at least {hinted.size} entries, got {self.size}")

    def _sign(self) -> bytes:
        checkpoint = Checkpoint(
            origin=self._signer.origin, size=self._tree.size, root=self._tree.root()
        )
        return sign_checkpoint(checkpoint, self._signer)

    def _make_room(self, count: int) -> int:
        """Return where a frame of `count` bytes goes, in the next segment if need be."""
        if self._end + count > self._segment_bytes:
            if self._current + 1 == len(self._handles):
                self._add_segment()
            self._current, self._end = self._current + 1, 0
        return self._end

    def _add_segment(self) -> None:
        if (len(self._handles) + 1) * self._segment_bytes > limits.MAX_LOG_BYTES:
            raise StateUnwritable(
                f"expected a log of at most {limits.MAX_LOG_BYTES} bytes, got more",
                code="log-full",
                hint="keep a copy of the log, then start a new one with a new node key",
            )
        path = segment_path(self._directory, len(self._handles))
        try:
            handle = self._disk.create(path, self._segment_bytes)
        except OSError as first:
            with contextlib.suppress(OSError):
                self._disk.unlink(self._directory / BALLAST)
            try:
                handle = self._disk.create(path, self._segment_bytes)
            except OSError:
                raise _unwritable(self._directory, first) from first
        self._handles.append(handle)

    def _prepare_next(self) -> None:
        """Take the next segment's space while there still is some; no harm if there is none yet."""
        if self._current + 1 == len(self._handles) and self._end * 2 > self._segment_bytes:
            path = segment_path(self._directory, len(self._handles))
            with contextlib.suppress(OSError):
                self._handles.append(self._disk.create(path, self._segment_bytes))

    def _write(self, raw: bytes, offset: int) -> None:
        handle = self._handles[self._current]
        try:
            while raw:
                written = self._disk.pwrite(handle, raw, offset)
                raw, offset = raw[written:], offset + written
        except OSError as error:
            self._break(error)

    def _sync(self) -> None:
        try:
            self._disk.fdatasync(self._handles[self._current])
        except OSError as error:
            self._break(error)

    def _break(self, error: OSError) -> None:
        self._broken = error.strerror or str(error)
        raise LogUnknown(f"expected a durable write to the log, got: {self._broken}") from error

    def _take(self, frame: Frame) -> None:
        self._places.append(
            _Place(
                segment=self._current,
                entry_offset=frame.offset + HEADER_BYTES,
                entry_bytes=len(frame.entry),
            )
        )
        self._end = frame.end
        self._durable = (len(self._places), frame.note)

    def _write_hint(self) -> None:
        with contextlib.suppress(OSError):
            os.pwrite(self._hint, self.checkpoint.ljust(1024, b"\0"), 0)


def _unwritable(directory: Path, error: OSError) -> StateUnwritable:
    return StateUnwritable(f"expected to write in {directory}, got: {error.strerror or error}")
