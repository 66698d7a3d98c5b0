# SPDX-License-Identifier: Apache-2.0
"""A log with small segments, written, opened and checked whole."""

from collections.abc import Sequence
from pathlib import Path

from breakglass.agent.log.auditlog import AuditLog
from breakglass.agent.log.disk import Disk
from breakglass.agent.log.replay import replay
from breakglass.agent.log.segments import Frame, parse_segment, segment_path
from breakglass.agent.log.space import Sizes
from breakglass.core.checkpoint import LogSigner, verify_checkpoint
from breakglass.core.merkle import Tree, leaf_hash, verify_consistency
from breakglass.core.receipt import verify_receipt

SIGNER = LogSigner("breakglass/example/prod-a/n1", bytes(range(32)))
SIZES = Sizes(segment_bytes=2048, ballast_bytes=2048, reserve_bytes=0)
ENTRIES = 9


def entry(number: int) -> bytes:
    """Return an entry whose length depends on its number."""
    return f"entry {number} ".encode() + b"x" * (number * 37 % 300)


def opened(folder: Path, *, disk: Disk | None = None, sizes: Sizes = SIZES) -> AuditLog:
    """Return the log in a folder, opened with small segments."""
    return AuditLog.open(folder, SIGNER, disk=disk, sizes=sizes)


def check(log: AuditLog, expected: Sequence[bytes]) -> None:
    """Check every size, proof, entry and checkpoint of a log from its bytes alone."""
    assert list(log.entries()) == list(expected)
    tree = Tree(leaf_hash(one) for one in expected)
    checkpoint = verify_checkpoint(log.checkpoint, SIGNER.vkey)
    assert (checkpoint.size, checkpoint.root) == (log.size, tree.root())
    for index in range(log.size):
        assert verify_receipt(log.receipt(index), SIGNER.vkey) == checkpoint
        proof = log.consistency(index, log.size)
        verify_consistency(index, log.size, proof, tree.root(index), tree.root())


def reopened_and_checked(folder: Path, expected: Sequence[bytes], *, or_one_more: bytes) -> None:
    """Open a log on a healthy disk, check it whole, append an entry, and open it once more."""
    with opened(folder) as log:
        entries = [*expected, or_one_more] if log.size > len(expected) else [*expected]
        check(log, entries)
        entries.append(b"after the crash")
        assert log.append(entries[-1]) == log.size - 1
    with opened(folder) as log:
        assert log.repairs == ()
        check(log, entries)
    assert replay(folder, SIGNER.vkey).torn is None


def written(folder: Path, count: int) -> list[bytes]:
    """Write a log of `count` entries, close it and return the entries."""
    entries = [entry(number) for number in range(count)]
    with opened(folder) as log:
        for number, one in enumerate(entries):
            assert log.append(one) == number
    return entries


def last_frame(folder: Path) -> tuple[Path, Frame]:
    """Return the last frame of a log and its segment's path."""
    found = replay(folder, SIGNER.vkey)
    path = segment_path(folder, found.segment)
    frames = [one for one in parse_segment(path.read_bytes(), name="") if isinstance(one, Frame)]
    return path, frames[-1]


def changed(path: Path, place: int, raw: bytes) -> None:
    """Overwrite a part of a file."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(raw)
