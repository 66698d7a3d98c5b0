# SPDX-License-Identifier: Apache-2.0
"""Refusals are on record, and no stranger fills the disk with them (P8)."""

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from breakglass.agent.command.refusals import Refusals, refusal
from breakglass.agent.log.auditlog import AuditLog
from breakglass.agent.log.journal import Journal
from breakglass.core import bounds
from breakglass.core.checkpoint import LogSigner
from breakglass.core.entries import ClockStepped, RefusedEntry, Stopped, Suppressed
from breakglass.core.reasons import Reason
from tests.support.organisation import Organisation

ORG = Organisation()
NO_COURIER = refusal(Reason.COURIER_UNKNOWN, "a courier", "none")


@dataclasses.dataclass
class HandClock:
    """A clock that a test moves; wall time goes with it unless it is stepped."""

    ms: int = 0
    step_ms: int = 0

    def now(self) -> datetime:
        """Return the wall time."""
        return datetime.fromtimestamp(1_800_000_000 + (self.ms + self.step_ms) / 1000, UTC)

    def monotonic_ms(self) -> int:
        """Return the time since boot."""
        return self.ms

    def boot(self) -> str:
        """Return the boot."""
        return "b0"

    async def sleep(self, seconds: float) -> None:
        """Move on."""
        self.ms += round(seconds * 1000)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Return a journal on a fresh log."""
    log = AuditLog.open(tmp_path / "log", LogSigner("breakglass/example/n1", bytes(32)))
    yield Journal(log, HandClock())
    log.close()


async def test_a_refusal_carries_the_file_where_it_is_one_of_ours(journal: Journal) -> None:
    """The log alone must re-verify the refusal; foreign bytes are only named by their digest."""
    refusals = Refusals(journal, HandClock(), 300)
    raw = ORG.signed(ORG.command(), "ana")
    first = await refusals.record(NO_COURIER, raw, peer="x")
    second = await refusals.record(NO_COURIER, b"\xff\x00", peer="x")
    assert (first, second) == (0, 1)
    one, other = journal.entry(0).body, journal.entry(1).body
    assert isinstance(one, RefusedEntry)
    assert isinstance(other, RefusedEntry)
    assert "\n".join(one.file).encode() == raw
    assert (other.file, other.size) == ((), 2)


async def test_a_flood_of_refusals_is_counted_and_told_once_there_is_room(journal: Journal) -> None:
    """Beyond the burst, refusals are answered without a receipt, and the count becomes an entry."""
    clock = HandClock()
    refusals = Refusals(journal, clock, 300)
    found = [await refusals.record(NO_COURIER, b"", peer="x") for _ in range(1000)]
    assert sum(one is not None for one in found) == bounds.MAX_REFUSALS_BURST
    assert journal.state.size == bounds.MAX_REFUSALS_BURST
    clock.ms += round(bounds.REFUSAL_REFILL_S * 1000)
    await refusals.record(NO_COURIER, b"", peer="x")
    assert journal.entry(bounds.MAX_REFUSALS_BURST).body == Suppressed(
        count=1000 - bounds.MAX_REFUSALS_BURST
    )


async def test_a_large_log_takes_no_more_refusals(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room that is left belongs to what people will sign."""
    monkeypatch.setattr(bounds, "REFUSALS_UP_TO_BYTES", 0)
    assert await Refusals(journal, HandClock(), 300).record(NO_COURIER, b"", peer="x") is None
    assert journal.state.size == 0


async def test_a_step_of_the_clock_is_an_entry(tmp_path: Path) -> None:
    """Wall time that goes another way than time since boot is on record, with its direction."""
    log = AuditLog.open(tmp_path / "log", LogSigner("breakglass/example/n1", bytes(32)))
    clock = HandClock()
    journal = Journal(log, clock)
    await journal.record(Stopped(active=0))
    clock.ms += 1000
    await journal.record(Stopped(active=0))
    clock.step_ms = -3_600_000
    await journal.record(Stopped(active=0))
    assert journal.entry(2).body == ClockStepped(back=True, step_ms=3_600_000)
    assert journal.state.size == 4
    log.close()
