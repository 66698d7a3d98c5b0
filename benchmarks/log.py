# SPDX-License-Identifier: Apache-2.0
"""What a long audit log costs: at the agent's start, and at each entry after it.

- `replay-1e5`: opening a log of 100,000 entries with 11,111 commands (every frame, leaf, root and
  checkpoint checked) and folding the node's state from it, beside `json.loads` of the same entries.
- `append-at-1e5`: one more entry, folded, durable and with its checkpoint, beside the same in a log
  of 100 entries on the same file system.
"""

import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.long_log import SIGNER, write_log
from benchmarks.rows import Row, Sampler, compare
from breakglass.agent.clock import SystemClock
from breakglass.agent.log.auditlog import AuditLog
from breakglass.agent.log.journal import Journal
from breakglass.core.entries import Suppressed

LONG, SHORT = 100_000, 100
REPLAYS = 5
APPENDS = 20
ROUNDS = 41


def measure() -> Iterator[Row]:
    """Yield both rows."""
    with tempfile.TemporaryDirectory(prefix="bg-bench-", dir=Path.cwd()) as folder:
        long, short = Path(folder) / "long", Path(folder) / "short"
        write_log(long, LONG)
        write_log(short, SHORT)
        yield _replay(long)
        yield _append(long, short)


def _replay(directory: Path) -> Row:
    def ours() -> float:
        begun = time.perf_counter()
        with _opened(directory) as journal:
            taken_s = time.perf_counter() - begun
            assert journal.state.size == LONG
        return taken_s

    def reference() -> float:
        with AuditLog.open(directory, SIGNER) as log:
            entries = tuple(log.entries())  # kept no longer than this: it would slow the other side
        begun = time.perf_counter()
        for raw in entries:
            json.loads(raw)
        return time.perf_counter() - begun

    return compare("replay-1e5", ours, reference, rounds=REPLAYS, unit="s")


def _append(long: Path, short: Path) -> Row:
    with _opened(long) as at_long, _opened(short) as at_short:
        return compare(
            "append-at-1e5", _appends(at_long), _appends(at_short), rounds=ROUNDS, unit="us"
        )


def _appends(journal: Journal) -> Sampler:
    """Return a sampler of what one of many entries takes, in microseconds."""

    async def record() -> float:
        begun = time.perf_counter()
        for _ in range(APPENDS):
            await journal.record(Suppressed(count=1))
        return (time.perf_counter() - begun) / APPENDS * 1e6

    return lambda: asyncio.run(record())


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[Journal]:
    with AuditLog.open(directory, SIGNER) as log:
        yield Journal(log, SystemClock())
