# SPDX-License-Identifier: Apache-2.0
"""The node's clocks, behind one port: decisions get a reading, never a clock.

`SystemClock` is the only place of the agent that reads time.
"""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from breakglass.core.entries import Stamp, render_instant

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # proc(5)


class Clock(Protocol):
    """Wall time, time since boot, and a way to wait."""

    def now(self) -> datetime:
        """Return the UTC time, cut to milliseconds."""
        ...

    def monotonic_ms(self) -> int:
        """Return milliseconds since boot, suspended time included."""
        ...

    def boot(self) -> str:
        """Return the kernel's id of this boot."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...


class SystemClock:
    """The machine's clocks; the boot id is read once, for it never changes under a process."""

    def __init__(self) -> None:
        try:
            self._boot = _BOOT_ID.read_text(encoding="ascii").strip()
        except OSError:
            self._boot = "unknown"

    def now(self) -> datetime:
        """Return the UTC time, cut to milliseconds, so that an entry can say exactly this."""
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1_000 * 1_000)

    def monotonic_ms(self) -> int:
        """Return milliseconds of CLOCK_BOOTTIME (clock_gettime(2))."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def boot(self) -> str:
        """Return the kernel's boot id, or "unknown" where /proc does not show it."""
        return self._boot

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await asyncio.sleep(seconds)


def stamp(clock: Clock, at: datetime | None = None) -> Stamp:
    """Return the stamp of an entry written now, or decided `at`."""
    time_text = render_instant(at or clock.now())
    return Stamp(time=time_text, mono_ms=clock.monotonic_ms(), boot=clock.boot())
