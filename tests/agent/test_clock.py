# SPDX-License-Identifier: Apache-2.0
"""The machine's clocks, and the stamp of an entry."""

import re
from datetime import UTC, datetime, timedelta

from breakglass.agent.clock import SystemClock, stamp
from breakglass.core.entries import parse_instant

AT = datetime(2026, 11, 21, 4, 0, 0, 123_000, tzinfo=UTC)


def test_a_reading_is_utc_and_has_no_more_than_milliseconds() -> None:
    """An entry can say exactly what a decision was made at."""
    now = SystemClock().now()
    assert now.utcoffset() == timedelta()
    assert now.microsecond % 1_000 == 0


def test_time_since_boot_never_goes_back() -> None:
    """Two readings are in order."""
    clock = SystemClock()
    assert 0 < clock.monotonic_ms() <= clock.monotonic_ms()


def test_a_boot_has_the_kernels_id() -> None:
    """It is a UUID, and the same in each reading."""
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", SystemClock().boot())
    assert SystemClock().boot() == SystemClock().boot()


def test_a_stamp_carries_the_time_of_the_decision() -> None:
    """Time since boot and the boot's id are of the moment of the stamp."""
    clock = SystemClock()
    before_ms = clock.monotonic_ms()
    made = stamp(clock, AT)
    assert parse_instant(made.time) == AT
    assert made.mono_ms >= before_ms
    assert made.boot == clock.boot()
