# SPDX-License-Identifier: Apache-2.0
"""Verify a node's whole log on the bastion.

 (1) read every entry and their checkpoint into a temporary file, up to a bound
 (2) verify that the pinned key signed the checkpoint, and that its root is that of these entries
 (3) verify that the stored checkpoint is an earlier one of the same log
 (4) verify that each stored receipt is of an entry and of an earlier checkpoint of this log
 (5) decide every command in the log again, from the trust and the signatures in the log
 (6) store the log and the newest checkpoint

If a step fails, no stored file is replaced.
"""

from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from breakglass.core import bounds
from breakglass.core.checkpoint import verify_checkpoint
from breakglass.core.merkle import Tree, leaf_hash
from breakglass.core.receipt import verify_receipt
from breakglass.core.recheck import Recheck, recheck_log
from breakglass.errors import (
    BreakglassError,
    EvidenceError,
    FileUnreadable,
    LogTampered,
    Malformed,
    Unreached,
)
from breakglass.fleet.evidence import store
from breakglass.fleet.evidence.store import VerifiedCheckpoint
from breakglass.fleet.home.inventory import InventoryNode
from breakglass.fleet.roads.port import OpenRoad, Road

LOG = "log.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """The result of verifying one node's log.

    Attributes:
        state: "verified", "bad" (something does not verify), "unreached" or "failed".
        report: the result of step (5); None if an earlier step failed.
        unkept: why the log could not be stored, or "".
    """

    node: str
    cluster: str
    state: str
    code: str = ""
    message: str = ""
    hint: str = ""
    entries: int = 0
    report: Recheck | None = None
    unkept: str = ""


async def check_log(
    node: InventoryNode, *, open_road: OpenRoad, folder: Path, trust_sha256: str
) -> LogRow:
    """Verify a node's whole log and return its row; every `BreakglassError` becomes part of it."""
    try:
        store.make_folder(folder)
        fresh = folder / f".{LOG}.fresh"
        try:
            return await _check(node, open_road, folder, fresh, trust_sha256)
        finally:
            fresh.unlink(missing_ok=True)
    except BreakglassError as error:
        state = "failed"
        if isinstance(error, EvidenceError):
            state = "bad"
        elif isinstance(error, Unreached):
            state = "unreached"
        return LogRow(
            node=node.name,
            cluster=node.cluster,
            state=state,
            code=error.stable_code,
            message=error.message,
            hint=error.hint,
        )


async def _check(
    node: InventoryNode, open_road: OpenRoad, folder: Path, fresh: Path, trust_sha256: str
) -> LogRow:
    async with open_road(node) as road:
        tree, newest = await _read(road, node, fresh)  # (1), (2)
    _verify_stored(folder, node.log_key, tree)  # (3)
    _verify_receipts(folder, node.log_key, tree)  # (4)
    report = recheck_log(_entries_of(fresh), trust_sha256=trust_sha256)  # (5)
    if report.findings:
        first = report.findings[0]
        return LogRow(
            node=node.name,
            cluster=node.cluster,
            state="bad",
            code="decision-not-proven",
            message=f"{first.message} (entry {first.index},"
            f" {len(report.findings)} such entries in all)",
            hint=EvidenceError.default_hint,
            entries=tree.size,
            report=report,
        )
    return LogRow(
        node=node.name,
        cluster=node.cluster,
        state="verified",
        entries=tree.size,
        report=report,
        unkept=_store(folder, node.log_key, fresh, newest),  # (6)
    )


async def _read(road: Road, node: InventoryNode, fresh: Path) -> tuple[Tree, VerifiedCheckpoint]:
    """Write every entry to `fresh`; return their tree and the checkpoint, which agree."""
    tree, total, newest = Tree(), 0, None
    with _writing(fresh) as file:
        while newest is None or tree.size < newest.checkpoint.size:
            before = tree.size
            async with aclosing(road.entries(tree.size)) as read:
                async for one in read:
                    if newest is not None and tree.size == newest.checkpoint.size:
                        break  # the log grew during the read: the next read gets newer entries
                    total += len(one.entry)
                    _verify_entry(one.index, tree.size, one.entry, total)
                    tree.append(leaf_hash(one.entry))
                    file.write(one.entry + b"\n")
                    if newest is None and one.checkpoint:
                        newest = _verified(one.checkpoint, node.log_key)
            if newest is None or tree.size == before:
                raise LogTampered(
                    f"expected entries up to their checkpoint, got the end after {tree.size}"
                )
    if tree.size > newest.checkpoint.size or tree.root() != newest.checkpoint.root:
        raise LogTampered(
            f"expected the checkpoint to have the root of its {newest.checkpoint.size} entries,"
            " got another root"
        )
    return tree, newest


def _writing(fresh: Path) -> BinaryIO:
    try:
        return fresh.open("wb")
    except OSError as error:
        words = (error.strerror or "an error").lower()
        raise FileUnreadable(f"cannot write {fresh}: {words}", code="file-unwritable") from error


def _verify_entry(index: int, expected: int, entry: bytes, total: int) -> None:
    if index != expected:
        raise LogTampered(f"expected entry {expected}, got {index}")
    if b"\n" in entry or len(entry) > bounds.MAX_ENTRY_BYTES or total > bounds.MAX_LOG_BYTES:
        raise LogTampered(
            f"expected entries of one line and a log of at most {bounds.MAX_LOG_BYTES} bytes,"
            f" got another at entry {index}"
        )


def _verified(note: bytes, log_key: str) -> VerifiedCheckpoint:
    try:
        return VerifiedCheckpoint(checkpoint=verify_checkpoint(note, log_key), note=note)
    except Malformed as error:
        raise LogTampered(error.message, code=error.stable_code) from error


def _verify_stored(folder: Path, log_key: str, tree: Tree) -> None:
    stored = store.stored_checkpoint(folder, log_key)
    if stored is None:
        return
    size, root = stored.checkpoint.size, stored.checkpoint.root
    if size > tree.size:
        raise LogTampered(
            f"expected a log of at least {size} entries, got one of {tree.size}", code="log-shrank"
        )
    if tree.root(size) != root:
        raise LogTampered(
            f"expected the log whose first {size} entries this machine has verified, got another",
            code="log-forked",
        )


def _verify_receipts(folder: Path, log_key: str, tree: Tree) -> None:
    for receipt in store.stored_receipts(folder):
        try:
            checkpoint = verify_receipt(receipt, log_key)
        except Malformed as error:
            raise LogTampered(error.message, code=error.stable_code) from error
        is_in_log = (
            receipt.index < checkpoint.size <= tree.size
            and tree.leaf(receipt.index) == leaf_hash(receipt.entry)
            and tree.root(checkpoint.size) == checkpoint.root
        )
        if not is_in_log:
            raise LogTampered(
                f"expected entry {receipt.index} as in its stored receipt, got another",
                code="log-forked",
            )


def _entries_of(fresh: Path) -> Iterator[bytes]:
    with fresh.open("rb") as file:
        for line in file:
            yield line.removesuffix(b"\n")


def _store(folder: Path, log_key: str, fresh: Path, newest: VerifiedCheckpoint) -> str:
    try:
        fresh.replace(folder / LOG)
    except OSError as error:
        return f"cannot write {folder / LOG}: {(error.strerror or 'an error').lower()}"
    return store.keep_checkpoint(folder, log_key, newest)
