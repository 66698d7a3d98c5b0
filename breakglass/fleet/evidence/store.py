# SPDX-License-Identifier: Apache-2.0
"""The files of the evidence on the bastion.

    evidence/CLUSTER/NODE/checkpoint               the newest verified checkpoint
    evidence/CLUSTER/NODE/receipts/SIZE.jsonl      the receipts of one connection
    evidence/CLUSTER/NODE/log.jsonl                the whole log, as `log verify` last read it

The stored checkpoint keeps a node from showing another log later: this bastion then demands a proof
that the log has only grown since.  If the disk cannot be written, the row says so and the delivery
goes on (P9).
"""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from breakglass.core import bounds
from breakglass.core.checkpoint import Checkpoint, verify_checkpoint
from breakglass.core.receipt import Receipt
from breakglass.errors import EvidenceError, FileUnreadable, LogTampered, Malformed
from breakglass.fleet.home import files

CHECKPOINT = "checkpoint"
MAX_RECEIPTS_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedCheckpoint:
    """A verified checkpoint and the note that it was read from."""

    checkpoint: Checkpoint
    note: bytes


def stored_checkpoint(folder: Path, log_key: str) -> VerifiedCheckpoint | None:
    """Return a node's stored checkpoint, or None; raise `EvidenceError` if it does not verify."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    note = files.read_bounded(path, max_bytes=bounds.MAX_ENTRY_BYTES)
    try:
        return VerifiedCheckpoint(checkpoint=verify_checkpoint(note, log_key), note=note)
    except Malformed as error:
        raise not_evidence(error) from error


def keep_checkpoint(folder: Path, log_key: str, newest: VerifiedCheckpoint) -> str:
    """Store a checkpoint unless a newer one is stored; return why that failed, or ""."""
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
    """Return every stored receipt of a node; raise `EvidenceError` for a broken file."""
    found: list[Receipt] = []
    for path in sorted((folder / "receipts").glob("*.jsonl")):
        raw = files.read_bounded(path, max_bytes=MAX_RECEIPTS_BYTES)
        try:
            found.extend(parse_receipt(line) for line in raw.splitlines())
        except (ValueError, KeyError, TypeError) as error:
            raise LogTampered(f"expected receipts in {path}, got something else") from error
    return tuple(found)


def make_folder(folder: Path) -> Path:
    """Make a folder of the evidence with mode 0700; raise `FileUnreadable`."""
    try:
        folder.mkdir(mode=files.PRIVATE_FOLDER, parents=True, exist_ok=True)
    except OSError as error:
        raise FileUnreadable(
            f"cannot write {folder}: {(error.strerror or 'an error').lower()}",
            code="file-unwritable",
        ) from error
    return folder


def render_receipt(receipt: Receipt) -> bytes:
    """Return a receipt as one line of JSON."""
    document = {
        "index": receipt.index,
        "entry": receipt.entry.decode("ascii"),
        "proof": [base64.b64encode(one).decode() for one in receipt.proof],
        "checkpoint": receipt.checkpoint.decode(),
    }
    return json.dumps(document).encode() + b"\n"


def parse_receipt(line: bytes) -> Receipt:
    """Return the receipt in a line of JSON.

    Raises:
        ValueError, KeyError, TypeError: the line is not a receipt.
    """
    document = json.loads(line)
    return Receipt(
        entry=document["entry"].encode("ascii"),
        index=int(document["index"]),
        proof=tuple(base64.b64decode(one, validate=True) for one in document["proof"]),
        checkpoint=document["checkpoint"].encode(),
    )


def not_evidence(error: Malformed) -> EvidenceError:
    """Return the `EvidenceError` for bytes of a node that cannot be parsed."""
    return LogTampered(error.message, code=error.stable_code)
