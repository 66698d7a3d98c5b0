# SPDX-License-Identifier: Apache-2.0
"""The node's audit log: durable appends, a Merkle proof for every size, a replay at every start.

Each append, in order:

 (1) the entry's leaf joins the tree; the checkpoint of the new size is signed.
 (2) one frame with both is written into preallocated space.    A crash leaves a torn tail.
 (3) the frame is synced.                                       A crash leaves all or a torn tail.
 (4) the entry counts; the newest checkpoint goes to the hint.  A crash leaves an older hint.

A checkpoint is shown only after (4), when its entry is durable.  So no two checkpoints that were
shown contradict each other, wherever a crash falls.

At start the files are replayed (see `replay`) and written only when all of them verify: a torn
tail is copied to quarantine, zeroed and listed in `repairs`.  Without a torn tail the last frame
is written once more, because after a failed sync it may be in memory and not on the disk.

One thread appends at a time; any thread may read meanwhile.

What it cannot prevent: root on this node can rewrite everything after the newest checkpoint that
another machine has seen.  That is why a checkpoint leaves the node with every reply.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from breakglass.agent.log.disk import (
    PRIVATE_FILE,
    Disk,
    RealDisk,
    lock,
    make_file,
    make_folder,
    sync_folder,
    unwritable,
)
from breakglass.agent.log.replay import HINT, Replay, read_entry, replay
from breakglass.agent.log.segments import (
    MAX_FRAME_NOTE_BYTES,
    Place,
    SegmentReader,
    Torn,
    render_frame,
    segment_path,
)
from breakglass.agent.log.space import BALLAST, Sizes, Space
from breakglass.core import bounds
from breakglass.core.checkpoint import Checkpoint, LogSigner, sign_checkpoint
from breakglass.core.merkle import leaf_hash
from breakglass.core.receipt import Receipt
from breakglass.errors import BadProof, FileUnreadable, StateUnwritable

LOCK = "lock"
QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """A torn tail that was zeroed, and the copy of its bytes.

    `copy` names a file in the folder `quarantine`; "" when the copy could not be made.
    """

    segment: str
    offset: int
    size: int
    copy: str


class AuditLog:
    """One node's log; a lock on its folder allows one writer.

    `open` makes it.  As a context manager it closes itself.
    """

    def __init__(
        self, directory: Path, signer: LogSigner, disk: Disk, sizes: Sizes, held_lock: int
    ) -> None:
        """Replay the log in a folder that the caller has locked; call `open` instead."""
        self._directory = directory
        self._signer = signer
        self._disk = disk
        self._lock = self._hint = -1
        self._reader = SegmentReader(directory)
        found = replay(directory, signer.vkey)
        self._tree, self._places = found.tree, found.places
        # One tuple: a reader in another thread never gets a size with another size's checkpoint.
        self._durable = (found.tree.size, found.checkpoint or self._signed())
        self._space = Space(
            directory,
            disk,
            sizes,
            segments=found.sizes,
            current=found.segment,
            end=found.end,
        )
        self.repairs: tuple[Repair, ...] = ()
        try:
            self._settle(found)
        except BaseException:
            self.close()
            raise
        self._lock = held_lock  # last: when this constructor raises, the caller releases the lock

    @classmethod
    def open(
        cls,
        directory: Path,
        signer: LogSigner,
        *,
        disk: Disk | None = None,
        sizes: Sizes | None = None,
    ) -> Self:
        """Open the log in `directory`, replayed and repaired; make an empty one if there is none.

        Args:
            directory: the log's own folder; missing parents are made.
            signer: the node's log key.
            disk: the disk operations; the machine's own by default.
            sizes: how much disk the log may take.

        Raises:
            StateUnwritable: the folder cannot be used, or another agent uses it ("log-locked").
            LogTampered: the log contradicts itself, its checkpoint or its hint; it is unchanged.
            LogUnknown: a write or a sync failed.
        """
        held = -1
        try:
            disk = disk or RealDisk()
            make_folder(disk, directory)
            held = lock(directory / LOCK)
            return cls(directory, signer, disk, sizes or Sizes(), held)
        except BaseException as error:
            if held >= 0:
                os.close(held)
            if isinstance(error, OSError):
                raise unwritable(directory, error) from error
            if isinstance(error, FileUnreadable):
                raise StateUnwritable(error.message) from error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- reading ---------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """The number of durable entries."""
        return self._durable[0]

    @property
    def checkpoint(self) -> bytes:
        """The signed checkpoint of all durable entries."""
        return self._durable[1]

    @property
    def used_bytes(self) -> int:
        """The bytes of disk that the segments take."""
        return self._space.used_bytes

    @property
    def vkey(self) -> str:
        """The public key that verifies the checkpoints."""
        return self._signer.vkey

    def read(self, index: int) -> bytes:
        """Return the bytes of one entry.

        Raises:
            IndexError: there is no such entry.
            FileUnreadable: its segment cannot be read.
            LogTampered: the bytes on the disk are not the bytes that were appended.
        """
        return read_entry(self._reader, self._tree, self._places, index)

    def entries(self) -> Iterator[bytes]:
        """Yield all entries in order; raise what `read` raises."""
        for index in range(self.size):
            yield self.read(index)

    def receipt(self, index: int) -> Receipt:
        """Return an entry with its proof under the newest checkpoint; raise what `read` raises."""
        size, checkpoint = self._durable
        proof = self._tree.inclusion_proof(index, size)
        return Receipt(entry=self.read(index), index=index, proof=proof, checkpoint=checkpoint)

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that size `new` extends size `old`; raise `BadProof` for other sizes."""
        if not 0 <= old <= new <= self.size:
            raise BadProof(f"expected sizes up to {self.size}, got {old} and {new}")
        return self._tree.consistency_proof(old, new)

    # --- writing ---------------------------------------------------------------------------

    def append(self, entry: bytes, *, urgent: bool = False) -> int:
        """Append an entry and return its index; it is durable on return.

        Args:
            entry: 1 to `bounds.MAX_ENTRY_BYTES` bytes.
            urgent: whether it may use the reserve for outcomes of accepted commands.

        Raises:
            ValueError: the entry is empty or too long.
            StateUnwritable: there is no space ("disk-full", "log-full").  Nothing was written;
                appends succeed again once there is space.
            LogUnknown: a write or a sync failed, now or before; no append succeeds any more.
        """
        if not 0 < len(entry) <= bounds.MAX_ENTRY_BYTES:
            raise ValueError(f"expected 1 to {bounds.MAX_ENTRY_BYTES} bytes, got {len(entry)}")
        self._space.verify_usable()
        index = self._tree.size
        self._tree.append(leaf_hash(entry))  # (1)
        try:
            note = self._signed()
            segment, offset = self._space.write(render_frame(entry, note), urgent=urgent)  # (2) (3)
        except BaseException:
            self._tree.truncate(index)
            raise
        self._places.append(Place(segment=segment, offset=offset, entry_bytes=len(entry)))  # (4)
        self._durable = (index + 1, note)
        self._write_hint()
        self._space.prepare()
        return index

    def close(self) -> None:
        """Close the files and release the lock; appended entries are durable already."""
        self._space.close()
        self._reader.close()
        for handle in (self._hint, self._lock):
            if handle >= 0:
                os.close(handle)
        self._hint = self._lock = -1

    # --- inside ----------------------------------------------------------------------------

    def _settle(self, found: Replay) -> None:
        """Prepare the verified files for appends: repair a torn tail, or rewrite the last frame."""
        self._space.open()
        with contextlib.suppress(OSError):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._hint = os.open(self._directory / HINT, flags, PRIVATE_FILE)
        if found.torn is not None:
            copy = self._keep_aside(found.segment, found.torn)
            self._space.settle(bytes(len(found.torn.raw)), found.torn.offset)
            path = segment_path(self._directory, found.segment)
            self.repairs = (
                Repair(
                    segment=path.name,
                    offset=found.torn.offset,
                    size=len(found.torn.raw),
                    copy=copy,
                ),
            )
        elif found.end:
            place = self._places[len(self._places) - 1]
            entry = self.read(len(self._places) - 1)
            self._space.settle(render_frame(entry, found.checkpoint), place.offset)
        self._write_hint()

    def _keep_aside(self, segment: int, torn: Torn) -> str:
        """Copy a torn tail to quarantine, durably; return the copy's name, "" when it fails."""
        folder = self._directory / QUARANTINE
        digest = hashlib.sha256(torn.raw).hexdigest()[:16]
        name = f"{segment:08d}-{torn.offset}-{digest}"
        for _ in range(2):
            with contextlib.suppress(OSError):
                make_folder(self._disk, folder)
                if len(list(folder.iterdir())) >= bounds.MAX_QUARANTINED:
                    return ""
                make_file(self._disk, folder / name, torn.raw, size=len(torn.raw))
                sync_folder(self._disk, folder)
                return name
            with contextlib.suppress(OSError):
                self._disk.remove(self._directory / BALLAST)
        return ""

    def _signed(self) -> bytes:
        size, root = self._tree.size, self._tree.root()
        checkpoint = Checkpoint(origin=self._signer.origin, size=size, root=root)
        return sign_checkpoint(checkpoint, self._signer)

    def _write_hint(self) -> None:
        """Write the newest checkpoint for the next start; not synced, and a failure is ignored."""
        if self._hint >= 0:
            with contextlib.suppress(OSError):
                self._disk.pwrite(self._hint, self.checkpoint.ljust(MAX_FRAME_NOTE_BYTES, b"\0"), 0)
