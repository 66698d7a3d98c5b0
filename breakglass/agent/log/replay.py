# SPDX-License-Identifier: Apache-2.0
"""Read and verify a log from its files alone.

Every frame is checked, every leaf hashed, and the root after every entry compared with the
checkpoint in its frame.  The signature is verified on the last checkpoint of each segment, which
covers everything before it.  100,000 entries take about two seconds.

`replay` changes nothing and takes no lock, so it also reads a copied directory.  It reports a torn
tail and does not repair it; anything else that is wrong raises `LogTampered`.
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from breakglass.agent.log.segments import (
    Frame,
    Place,
    Places,
    SegmentReader,
    Torn,
    parse_segment,
    segment_paths,
)
from breakglass.core import bounds
from breakglass.core.checkpoint import parse_vkey, verify_checkpoint
from breakglass.core.merkle import Tree, leaf_hash
from breakglass.errors import EvidenceError, FileUnreadable, LogTampered, Malformed

HINT = "newest"


@dataclass(slots=True, kw_only=True)
class Replay:
    """The verified content of a log's files; the next frame goes to `segment` at offset `end`.

    `checkpoint` is the last signed note, b"" in an empty log.  `sizes` are the lengths of all
    segments; those after `segment` are blank.
    """

    directory: Path
    tree: Tree = field(default_factory=Tree)
    places: Places = field(default_factory=Places)
    sizes: list[int] = field(default_factory=list)
    checkpoint: bytes = b""
    segment: int = 0
    end: int = 0
    torn: Torn | None = None

    def entries(self) -> Iterator[bytes]:
        """Yield all entries in order; each is compared with its leaf again."""
        reader = SegmentReader(self.directory)
        try:
            for index in range(self.tree.size):
                yield read_entry(reader, self.tree, self.places, index)
        finally:
            reader.close()


def replay(directory: Path, vkey: str) -> Replay:
    """Read and verify the log in `directory`.

    Args:
        directory: the log's folder, or a copy of it.
        vkey: the node's log key; its name is the log's origin.

    Raises:
        Malformed: `vkey` is not a log key.
        FileUnreadable: the files cannot be read.
        LogTampered: they contradict themselves, the key, or the hint of the newest checkpoint.
    """
    origin = parse_vkey(vkey).name
    found = Replay(directory=directory)
    try:
        for number, path in enumerate(segment_paths(directory)):
            raw = path.read_bytes()
            found.sizes.append(len(raw))
            before = found.tree.size
            for item in parse_segment(raw, name=path.name):
                _take(found, origin, number, item)
            if found.tree.size > before:
                _verify_signature(found, vkey)
        _verify_hint(found, vkey)
    except OSError as error:
        raise FileUnreadable(
            f"cannot read the log in {directory}: {error.strerror or error}"
        ) from error
    return found


def read_entry(reader: SegmentReader, tree: Tree, places: Places, index: int) -> bytes:
    """Return an entry's bytes; raise `LogTampered` when they no longer match the entry's leaf."""
    entry = reader.read(places[index])
    if leaf_hash(entry) != tree.leaf(index):
        raise LogTampered(f"expected entry {index} as it was appended, got other bytes")
    return entry


def _take(found: Replay, origin: str, number: int, item: Frame | Torn) -> None:
    if found.torn is not None:
        raise LogTampered(
            f"expected the end of the log at byte {found.torn.offset} of segment {found.segment},"
            f" got more in segment {number}"
        )
    if isinstance(item, Torn):
        found.segment, found.end, found.torn = number, item.offset, item
        return
    index = found.tree.size
    found.tree.append(leaf_hash(item.entry))
    root = base64.b64encode(found.tree.root()).decode()
    if not item.note.startswith(f"{origin}\n{index + 1}\n{root}\n\n".encode()):
        raise LogTampered(
            f"expected the checkpoint of {index + 1} entries of {origin}, got another"
        )
    found.places.append(Place(segment=number, offset=item.offset, entry_bytes=len(item.entry)))
    found.segment, found.end, found.checkpoint = number, item.end, item.note


def _verify_signature(found: Replay, vkey: str) -> None:
    try:
        verify_checkpoint(found.checkpoint, vkey)
    except (EvidenceError, Malformed) as error:
        raise LogTampered(f"{error.message}, at entry {found.tree.size - 1}") from error


def _verify_hint(found: Replay, vkey: str) -> None:
    """Compare the log with the hint: the newest checkpoint that the last writer kept.

    The hint is not durable.  After a power cut it may be old, torn or missing, and then it proves
    nothing.  A valid hint was written after its entry was durable, so a log that has fewer or
    other entries was changed.
    """
    path = found.directory / HINT
    raw = path.read_bytes()[: bounds.MAX_NOTE_BYTES].rstrip(b"\0") if path.exists() else b""
    try:
        hinted = verify_checkpoint(raw, vkey)
    except (EvidenceError, Malformed):
        return
    if hinted.size > found.tree.size:
        raise LogTampered(f"expected at least {hinted.size} entries, got {found.tree.size}")
    if found.tree.root(hinted.size) != hinted.root:
        raise LogTampered(f"expected the first {hinted.size} entries unchanged, got others")
