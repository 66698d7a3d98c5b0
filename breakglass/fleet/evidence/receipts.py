# SPDX-License-Identifier: Apache-2.0
"""The evidence of one connection to a node: receipts verified against its pinned log key.

A receipt that does not verify, a smaller log or a failed consistency proof raises `EvidenceError`.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from breakglass.core.checkpoint import verify_checkpoint
from breakglass.core.entries import Entry, parse_entry
from breakglass.core.merkle import verify_consistency
from breakglass.core.receipt import Receipt, verify_receipt
from breakglass.errors import FileUnreadable, LogTampered, Malformed
from breakglass.fleet.evidence.store import (
    VerifiedCheckpoint,
    keep_checkpoint,
    make_folder,
    not_evidence,
    render_receipt,
    stored_checkpoint,
)
from breakglass.fleet.home import files
from breakglass.fleet.roads.port import Road


@dataclass(slots=True, kw_only=True)
class NodeEvidence:
    """The receipts of one connection to one node.

    Attributes:
        folder: where this node's evidence is stored.
        log_key: the key that must have signed the node's checkpoints.
    """

    folder: Path
    log_key: str
    _receipts: list[Receipt] = field(default_factory=list)
    _checkpoints: list[VerifiedCheckpoint] = field(default_factory=list)

    def take(self, receipt: Receipt) -> Entry:
        """Verify a receipt, remember it and return its entry; raise `EvidenceError`."""
        try:
            checkpoint = verify_receipt(receipt, self.log_key)
            entry = parse_entry(receipt.entry)
        except Malformed as error:
            raise not_evidence(error) from error
        self._receipts.append(receipt)
        self._checkpoints.append(VerifiedCheckpoint(checkpoint=checkpoint, note=receipt.checkpoint))
        return entry

    @property
    def has_any(self) -> bool:
        """Whether any receipt was taken."""
        return bool(self._receipts)

    async def settle(self, road: Road) -> str:
        """Verify that the log only grew, and store the receipts; return why storing failed, or "".

        Raises:
            EvidenceError: the log is not a longer version of the stored one.
            BreakglassError: the node did not answer.
        """
        stored = stored_checkpoint(self.folder, self.log_key)
        if not self._checkpoints:
            return ""
        sizes = [one.checkpoint.size for one in self._checkpoints]
        newest = self._checkpoints[sizes.index(max(sizes))]
        oldest = self._checkpoints[sizes.index(min(sizes))]
        for old in (stored, oldest):
            if old is not None:
                newest = await self._grown(road, old, newest)
        return await asyncio.to_thread(self._store, newest)

    async def _grown(
        self, road: Road, old: VerifiedCheckpoint, newest: VerifiedCheckpoint
    ) -> VerifiedCheckpoint:
        """Verify that the log of `newest` extends that of `old`; return the newest checkpoint."""
        before, after = old.checkpoint, newest.checkpoint
        if before.size > after.size:
            raise _shrunk(before.size, after.size)
        if before.size == after.size:
            if before.root != after.root:
                raise LogTampered(f"expected one root of {before.size} entries, got two")
            return newest
        proof, note = await road.consistency(before.size)
        try:
            # Usually the node answers with the checkpoint of the last receipt, verified already.
            latest = after if note == newest.note else verify_checkpoint(note, self.log_key)
        except Malformed as error:
            raise not_evidence(error) from error
        if latest.size < after.size:
            raise _shrunk(after.size, latest.size)
        verify_consistency(before.size, latest.size, proof, before.root, latest.root)
        return VerifiedCheckpoint(checkpoint=latest, note=note)

    def keep_receipts(self) -> str:
        """Store the receipts, without a proof of growth; return why that failed, or ""."""
        lines = [render_receipt(receipt) for receipt in self._receipts]
        if not lines:
            return ""
        name = f"{max(one.checkpoint.size for one in self._checkpoints):012d}.jsonl"
        try:
            folder = make_folder(self.folder / "receipts")
            files.write_atomically(folder / name, b"".join(lines))
        except FileUnreadable as error:
            return error.message
        return ""

    def _store(self, newest: VerifiedCheckpoint) -> str:
        return self.keep_receipts() or keep_checkpoint(self.folder, self.log_key, newest)


def _shrunk(before: int, after: int) -> LogTampered:
    return LogTampered(f"expected a log of at least {before} entries, got one of {after}")
