# SPDX-License-Identifier: Apache-2.0
"""The nodes that a command targets, and patterns of names.

In a pattern `*` matches any run of characters, `?` one character, and `[01-20]` a number with
exactly that many digits.  Clusters are always named exactly.  An empty selector selects nothing; a
document that selects nothing is malformed and never means "all" (P8).

Patterns are matched in pieces of fixed width, so a hostile pattern takes at most quadratic time.
This module knows no inventory: it answers for one node at a time.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from breakglass.core import bounds
from breakglass.core.names import quoted
from breakglass.errors import Malformed

EVERY_NODE = "*"

_PATTERN = re.compile(r"(?:[a-z0-9._?-]|\*(?!\*)|\[[0-9]+-[0-9]+\])+", re.ASCII)
_PIECE = re.compile(r"\[([0-9]+)-([0-9]+)\]|\?|[a-z0-9._-]+", re.ASCII)
_Piece: TypeAlias = "str | tuple[str, str]"  # literal text or "?", or the two ends of a range


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The nodes that a command names.

    Attributes:
        clusters: exact names, at least one.
        nodes: patterns of node names.
        pools: exact names of pools.
        excepted: patterns of node names to leave out; they override the other selectors.
    """

    clusters: tuple[str, ...]
    nodes: tuple[str, ...]
    pools: tuple[str, ...]
    excepted: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise `Malformed` for targets that select nothing."""
        if not self.clusters:
            raise Malformed("expected at least one cluster by name, got none", code="empty-target")
        if not self.nodes and not self.pools:
            raise Malformed("expected nodes or pools, got neither", code="empty-target")
        if EVERY_NODE in self.excepted:
            raise Malformed("expected a node to act on, got all excepted", code="empty-target")

    def covers(self, cluster: str, node: str, pool: str) -> bool:
        """Return whether this node is a target; `pool` is "" for a node without a pool."""
        return (
            cluster in self.clusters
            and (pool in self.pools or any(matches(pattern, node) for pattern in self.nodes))
            and not any(matches(pattern, node) for pattern in self.excepted)
        )


def parse_pattern(text: str) -> str:
    """Return a valid pattern of names unchanged.

    Raises:
        Malformed: it has another character, two stars in a row, too many stars, or a range whose
            ends differ in width or are reversed.
    """
    if len(text) > bounds.MAX_PATTERN_CHARS:
        raise Malformed(f"expected a pattern of at most 128 characters, got {len(text)}")
    if not _PATTERN.fullmatch(text):
        raise Malformed(f"expected a pattern such as web-*, db-? or n[01-20], got {quoted(text)}")
    if text.count("*") > bounds.MAX_PATTERN_STARS:
        raise Malformed(f"expected at most {bounds.MAX_PATTERN_STARS} stars, got {quoted(text)}")
    for part in _parts(text):
        for piece in part:
            if not isinstance(piece, str):
                _verify_range(*piece)
    return text


def matches(pattern: str, name: str) -> bool:
    """Return whether `name` matches a pattern that `parse_pattern` accepted."""
    first, *between = _parts(pattern)
    at = _end_of_fit(first, name, 0)
    if at is None or not between:
        return at == len(name)
    *between, last = between
    for part in between:
        at = _end_of_search(part, name, at)
        if at is None:
            return False
    start = len(name) - _width(last)
    return start >= at and _end_of_fit(last, name, start) is not None


def _verify_range(low: str, high: str) -> None:
    if len(low) != len(high) or low > high:
        raise Malformed(
            f"expected a range such as [01-20], low to high with equal widths, got [{low}-{high}]"
        )


@lru_cache(maxsize=1024)
def _parts(pattern: str) -> tuple[tuple[_Piece, ...], ...]:
    """Return the parts between the stars, each as its pieces; a part has a fixed width."""
    return tuple(
        tuple((found[1], found[2]) if found[1] else found[0] for found in _PIECE.finditer(part))
        for part in pattern.split("*")
    )


def _width(part: tuple[_Piece, ...]) -> int:
    return sum(len(piece) if isinstance(piece, str) else len(piece[0]) for piece in part)


def _end_of_fit(part: tuple[_Piece, ...], name: str, at: int) -> int | None:
    """Return where `part` ends if it matches at `at`, or None."""
    for piece in part:
        if isinstance(piece, str):
            end = at + len(piece)
            fits = end <= len(name) if piece == "?" else name.startswith(piece, at)
        else:
            low, high = piece
            end = at + len(low)
            digits = name[at:end]
            number = digits.isascii() and digits.isdecimal() and len(digits) == len(low)
            fits = number and low <= digits <= high
        if not fits:
            return None
        at = end
    return at


def _end_of_search(part: tuple[_Piece, ...], name: str, at: int) -> int | None:
    """Return where the first match of `part` at or after `at` ends, or None."""
    for start in range(at, len(name) - _width(part) + 1):
        end = _end_of_fit(part, name, start)
        if end is not None:
            return end
    return None
