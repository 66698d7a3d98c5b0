# SPDX-License-Identifier: Apache-2.0
"""The log and the state folded from it, always changed together.

`record` folds the entry, appends it, and only then takes the new state.  An entry that cannot
follow the state is a defect and is not written; an entry that is not durable changes no state.
One entry is written at a time, in a thread, so a slow disk does not block the agent's answers.

A step of the wall clock against the time since boot becomes an entry of its own, before the entry
whose time shows it.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

from breakglass.agent.clock import Clock, stamp
from breakglass.agent.log.auditlog import AuditLog
from breakglass.core.entries import (
    OWED,
    Accepted,
    Body,
    ClockStepped,
    Entry,
    RefusedEntry,
    Repaired,
    Stamp,
    parse_entry,
    parse_instant,
    render_entry,
)
from breakglass.core.fold import State, fold
from breakglass.core.receipt import Receipt
from breakglass.errors import Defect, LogTampered, LogUnknown, Malformed, StateUnwritable

UNREADABLE = "entry-unreadable"  # the entry would not parse again, so it was not written
CLOCK_STEP_MS = 2_000  # NTP slews at most 0.5 ms a second; a larger change is a step


class Journal:
    """A node's log and its state; the only writer of both."""

    def __init__(self, log: AuditLog, clock: Clock) -> None:
        """Replay `log`; raise `LogTampered` when an entry cannot follow the one before it."""
        self._log = log
        self._clock = clock
        self._lock = asyncio.Lock()
        self._last: Stamp | None = None
        self.broken = asyncio.Event()
        self.state = State()
        for raw in log.entries():
            try:
                entry = parse_entry(raw)
            except Malformed as error:
                raise LogTampered(f"{error.message} in entry {self.state.size}") from error
            self.state = fold(self.state, entry)
            self._last = entry.stamp

    @property
    def log(self) -> AuditLog:
        """The log itself, for reading."""
        return self._log

    async def record(self, body: Body, *, at: datetime | None = None) -> int:
        """Append an entry and return its index; it is durable on return.

        Args:
            body: what to record.
            at: the time that the entry carries, when its decision used an earlier clock reading.

        Raises:
            StateUnwritable: nothing was written.
            Malformed: nothing was written; the delivered file is too large for one entry.
            LogUnknown: it is unknown what was written; nothing may be touched any more.
        """
        # A caller may be cancelled, but not between the append and the change of the state.
        return await asyncio.shield(self._record(body, at))

    async def record_if(self, body: Body, is_due: Callable[[State], bool]) -> int | None:
        """Append an entry if `is_due` accepts the state; return its index, or None.

        No other entry is appended between the check and this one.

        Raises:
            StateUnwritable, LogUnknown: as `record` does.
        """
        return await asyncio.shield(self._record_if(body, is_due))

    async def _record(self, body: Body, at: datetime | None) -> int:
        async with self._lock:
            return await self._append_stamped(body, at)

    async def _record_if(self, body: Body, is_due: Callable[[State], bool]) -> int | None:
        async with self._lock:
            return await self._append_stamped(body, None) if is_due(self.state) else None

    async def _append_stamped(self, body: Body, at: datetime | None) -> int:
        now = stamp(self._clock, at)
        step = self._clock_step(now)
        if step is not None:
            await self._append(Entry(stamp=now, body=step))
        return await self._append(Entry(stamp=now, body=body))

    async def record_repairs(self) -> None:
        """Record each repair that opening the log made."""
        for repair in self._log.repairs:
            await self.record(
                Repaired(
                    segment=repair.segment, offset=repair.offset, size=repair.size, copy=repair.copy
                )
            )

    def receipt(self, index: int) -> Receipt:
        """Return entry `index` with its proof under the newest checkpoint."""
        return self._log.receipt(index)

    def entry(self, index: int) -> Entry:
        """Return entry `index`, parsed."""
        return parse_entry(self._log.read(index))

    async def _append(self, entry: Entry) -> int:
        try:
            state = fold(self.state, entry)
        except LogTampered as error:
            raise Defect(
                f"expected an entry that can follow, got {entry.kind}: {error.message}"
            ) from error
        raw = _verified(entry)
        try:
            # Outcomes of commands that people signed may use the log's reserve.
            urgent = isinstance(entry.body, OWED)
            index = await asyncio.to_thread(self._log.append, raw, urgent=urgent)
        except LogUnknown:
            self.broken.set()
            raise
        self.state, self._last = state, entry.stamp
        return index

    def _clock_step(self, now: Stamp) -> ClockStepped | None:
        last = self._last
        if last is None or last.boot != now.boot:
            return None
        wall_ms = (parse_instant(now.time) - parse_instant(last.time)).total_seconds() * 1_000
        step_ms = round(wall_ms) - (now.mono_ms - last.mono_ms)
        if abs(step_ms) < CLOCK_STEP_MS:
            return None
        return ClockStepped(back=step_ms < 0, step_ms=abs(step_ms))


def _verified(entry: Entry) -> bytes:
    """Return the bytes of an entry that parses again: one that does not would fail every start.

    Raises:
        Malformed: a delivered file is too large for one entry.
        StateUnwritable: any other entry is too large, or has text that no entry may have.
    """
    try:
        raw = render_entry(entry)
        parse_entry(raw)
    except Malformed as error:
        if isinstance(entry.body, Accepted | RefusedEntry):
            raise
        raise StateUnwritable(
            f"cannot record {entry.kind}: its entry would not parse again: {error.message}",
            code=UNREADABLE,
            hint="please report this; nothing was written",
        ) from error
    return raw
