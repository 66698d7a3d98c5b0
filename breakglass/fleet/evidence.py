# SPDX-License-Identifier: Apache-2.0
"""What nodes answered: verified against their pinned log keys, and kept.

    evidence/CLUSTER/NODE/checkpoint               the newest verified checkpoint
    evidence/CLUSTER/NODE/receipts/SIZE.jsonl      the receipts of one conversation
    evidence/CLUSTER/NODE/log.jsonl                the whole log, as `log verify` last read it

A node shows its log to us alone; what keeps it from showing another one tomorrow is that we keep
the checkpoint and demand a proof that the log has only grown since.  A receipt that does
not verify, a smaller log or a failed proof raises an `EvidenceError`.  A disk of ours that cannot
be written is no reason to believe a node less: that is told, and nothing waits for it (P9).
"""

import asyncio
import base64
import json
from dataclasses import dataclass, field
from pathlib import Path

from breakglass.core import limits
from breakglass.core.checkpoint import Checkpoint, verify_checkpoint
from breakglass.core.entries import Entry, parse_entry
from breakglass.core.merkle import verify_consistency
from breakglass.core.receipt import Receipt, verify_receipt
from breakglass.errors import EvidenceError, FileUnreadable, LogTampered, Malformed
from breakglass.fleet import files
from breakglass.fleet.roads import Road

CHECKPOINT = "checkpoint"
MAX_RECEIPTS_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A verified checkpoint and the note that it was read from."""

    checkpoint: Checkpoint
    note: bytes


@dataclass(slots=True, kw_only=True)
class Evidence:
    """The evidence of one conversation with one node.

    Attributes:
        folder: where this node's evidence is kept.
        log_key: what its checkpoints are pinned to.
    """

    folder: Path
    log_key: str
    _receipts: list[Receipt] = field(default_factory=list)
    _seen: list[Seen] = field(default_factory=list)

    def take(self, receipt: Receipt) -> Entry:
        """Return the entry of a receipt that verifies; raise `EvidenceError`."""
        try:
            checkpoint = verify_receipt(receipt, self.log_key)
            entry = parse_entry(receipt.entry)
        except Malformed as error:
            raise _not_evidence(error) from error
        self._receipts.append(receipt)
        self._seen.append(Seen(checkpoint=checkpoint, note=receipt.checkpoint))
        return entry

    @property
    def has_any(self) -> bool:
        """Whether any receipt was taken."""
        return bool(self._receipts)

    async def settle(self, road: Road) -> str:
        """Prove that the log only grew, and keep what was taken; return why that was impossible.

        Raises:
            EvidenceError: the log is not the one it was.
            BreakglassError: the node did not answer.
        """
        stored = stored_checkpoint(self.folder, self.log_key)
        if not self._seen:
            return ""
        sizes = [one.checkpoint.size for one in self._seen]
        newest = self._seen[sizes.index(max(sizes))]
        oldest = self._seen[sizes.index(min(sizes))]
        for old in (stored, oldest):
            if old is not None:
                newest = await self._grown(road, old, newest)
        return await asyncio.to_thread(self._keep, newest)

    async def _grown(self, road: Road, old: Seen, newest: Seen) -> Seen:
        """Return the newest checkpoint of a log that is `old` with more behind it."""
        before, after = old.checkpoint, newest.checkpoint
        if before.size > after.size:
            raise _shrunk(before.size, after.size)
        if before.size == after.size:
            if before.root != after.root:
                raise LogTampered(f"expected one log of {before.size} entries, got two")
            return newest
        proof, note = await road.consistency(before.size)
        try:
            # The usual answer is the checkpoint of the last receipt, which is verified already.
            latest = after if note == newest.note else verify_checkpoint(note, self.log_key)
        except Malformed as error:
            raise _not_evidence(error) from error
        if latest.size < after.size:
            raise _shrunk(after.size, latest.size)
        verify_consistency(before.size, latest.size, proof, before.root, latest.root)
        return Seen(checkpoint=latest, note=note)

    def keep_receipts(self) -> str:
        """Keep what was taken, of a node that does not answer any more; return why not, or ""."""
        lines = [_render(receipt) for receipt in self._receipts]
        if not lines:
            return ""
        name = f"{max(one.checkpoint.size for one in self._seen):012d}.jsonl"
        try:
            folder = make_folder(self.folder / "receipts")
            files.write_atomically(folder / name, b"".join(lines))
        except FileUnreadable as error:
            return error.message
        return ""

    def _keep(self, newest: Seen) -> str:
        return self.keep_receipts() or keep_checkpoint(self.folder, self.log_key, newest)


def stored_checkpoint(folder: Path, log_key: str) -> Seen | None:
    """Return the newest checkpoint kept of a node; raise `EvidenceError` if it is none."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    note = files.read_bounded(path, max_bytes=limits.MAX_ENTRY_BYTES)
    try:
        return Seen(checkpoint=verify_checkpoint(note, log_key), note=note)
    except Malformed as error:
        raise _not_evidence(error) from error


def keep_checkpoint(folder: Path, log_key: str, newest: Seen) -> str:
    """Keep a checkpoint unless a newer one is there; return why that was impossible, or ""."""
    try:
        make_folder(folder)
        with files.locked(folder):
            there = stored_checkpoint(folder, log_key)
            if there is None or there.checkpoint.size < newest.checkpoint.size:
                files.write_atomically(folder / CHECKPOINT, newest.note)
    except FileUnreadable as error:
        return error.message
    return ""


def stored_receipts(folder: Path) -> tuple[Receipt, ...]:
    """Return every receipt kept of a node; raise `EvidenceError` for a file that is none."""
    found: list[Receipt] = []
    for path in sorted((folder / "receipts").glob("*.jsonl")):
        raw = files.read_bounded(path, max_bytes=MAX_RECEIPTS_BYTES)
        try:
            found.extend(_parse(line) for line in raw.splitlines())
        except (ValueError, KeyError, TypeError) as error:
            raise LogTampered(f"expected receipts in {path}, got something else") from error
    return tuple(found)


def make_folder(folder: Path) -> Path:
    """Make a folder of the evidence, for its owner alone; raise `FileUnreadable`."""
    try:
        folder.mkdir(mode=files.PRIVATE_FOLDER, parents=True, exist_ok=True)
    except OSError as error:
        raise FileUnreadable(
            f"expected to write {folder}, got: {(error.strerror or 'an error').lower()}",
            code="file-unwritable",
        ) from error
    return folder


def _render(receipt: Receipt) -> bytes:
    document = {
        "index": receipt.index,
        "entry": receipt.entry.decode("ascii"),
        "proof": [base64.b64encode(one).decode() for one in receipt.proof],
        "checkpoint": receipt.checkpoint.decode(),
    }
    return json.dumps(document).encode() + b"\n"


def _parse(line: bytes) -> Receipt:
    document = json.loads(line)
    return Receipt(
        entry=document["entry"].encode("ascii"),
        index=int(document["index"]),
        proof=tuple(base64.b64decode(one, validate=True) for one in document["proof"]),
        checkpoint=document["checkpoint"].encode(),
    )


def _shrunk(before: int, after: int) -> LogTampered:
    return LogTampered(f"expected a log of at least {before} entries, got one of {after}")


def _not_evidence(error: Malformed) -> EvidenceError:
    return LogTampered(error.message, code=error.stable_code)
