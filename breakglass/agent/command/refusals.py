# SPDX-License-Identifier: Apache-2.0
"""Record refusals, without letting unauthorised callers fill the disk.

Each refusal is an entry, with the refused file if it is a signed file.  A token bucket lets 64
become entries at once, and then one a minute.  More are counted, and the count becomes an entry.
Beyond a size of the log all are only counted: that room is for commands that people sign.  A full
or broken log does not change the answer: it is the same refusal, without a receipt (P9).
"""

import dataclasses
import hashlib
from datetime import datetime

from breakglass.agent.clock import Clock
from breakglass.agent.log.journal import Journal
from breakglass.core import bounds
from breakglass.core.entries import RefusedEntry, Suppressed, to_lines
from breakglass.core.reasons import Reason, Refused
from breakglass.core.signed_file import parse_signed_file
from breakglass.errors import Malformed, NodeError


def refusal(reason: Reason, needed: str, have: str) -> Refused:
    """Return a refusal with the reason's own hint."""
    return Refused(reason=reason, needed=needed, have=have)


class Refusals:
    """The recorder of refusals, one per agent."""

    def __init__(self, journal: Journal, clock: Clock, skew_s: int) -> None:
        self._journal = journal
        self._clock = clock
        self._skew_s = skew_s
        self._tokens = float(bounds.MAX_REFUSALS_BURST)
        self._filled_ms = clock.monotonic_ms()
        self._suppressed = 0

    async def record(
        self, refused: Refused, raw: bytes, *, peer: str, at: datetime | None = None
    ) -> int | None:
        """Record a refusal; return its index, or None where it was only counted."""
        # Refusals must leave room in the log for commands that people will sign.
        if self._journal.log.used_bytes > bounds.REFUSALS_UP_TO_BYTES or not self._take_token():
            self._suppressed += 1
            return None
        try:
            if self._suppressed:
                count, self._suppressed = self._suppressed, 0
                await self._journal.record(Suppressed(count=count))
            return await self._record(refused, raw, peer, at)
        except NodeError:
            self._suppressed += 1
            return None

    async def _record(self, refused: Refused, raw: bytes, peer: str, at: datetime | None) -> int:
        text, lines = _parts(raw)
        body = RefusedEntry(
            sha256=hashlib.sha256(text).hexdigest(),
            size=len(raw),
            code=str(refused.reason),
            needed=refused.needed,
            have=refused.have,
            skew_s=self._skew_s,
            peer=peer,
            file=lines,
        )
        try:
            return await self._journal.record(body, at=at)
        except Malformed:  # too large for one entry: record only its digest
            return await self._journal.record(dataclasses.replace(body, file=()), at=at)

    def _take_token(self) -> bool:
        now_ms = self._clock.monotonic_ms()
        gained = (now_ms - self._filled_ms) / 1_000 / bounds.REFUSAL_REFILL_S
        self._tokens = min(float(bounds.MAX_REFUSALS_BURST), self._tokens + gained)
        self._filled_ms = now_ms
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def _parts(raw: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return a signed file's text and lines; of other bytes, all of them and no lines."""
    try:
        return parse_signed_file(raw).text, to_lines(raw)
    except (Malformed, UnicodeDecodeError):
        return raw, ()
