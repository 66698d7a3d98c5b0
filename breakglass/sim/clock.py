# SPDX-License-Identifier: Apache-2.0
"""Time for simulated nodes: the machine's, or one that stands still until somebody moves it.

With `VirtualClock` five minutes of a kubelet's back-off take a millisecond, in the same order every
time.  Simulated things never read a clock of their own.
"""

import asyncio
import heapq
import itertools
import time
from typing import Protocol, TypeVar

T = TypeVar("T")

_NS = 1_000_000_000
_MAX_TURNS = 100_000  # of the event loop: more is a task that never waits


class SimClock(Protocol):
    """What simulated nodes know of time."""

    def now_ns(self) -> int:
        """Return nanoseconds since 1970."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...


class WallClock:
    """The machine's time."""

    def now_ns(self) -> int:
        """Return nanoseconds since 1970."""
        return time.time_ns()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await asyncio.sleep(seconds)


class VirtualClock:
    """Time that passes only inside `advance`.

    Args:
        start_ns: what it shows at first.
    """

    def __init__(self, start_ns: int = 1_800_000_000 * _NS) -> None:
        self._now_ns = start_ns
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def now_ns(self) -> int:
        """Return nanoseconds since 1970."""
        return self._now_ns

    async def sleep(self, seconds: float) -> None:
        """Return when `advance` has gone that far."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        wake = asyncio.get_running_loop().create_future()
        until_ns = self._now_ns + round(seconds * _NS)
        heapq.heappush(self._sleepers, (until_ns, next(self._order), wake))
        await wake

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass, waking whoever sleeps, each at its own time and in order."""
        end_ns = self._now_ns + round(seconds * _NS)
        await self._let_run()
        while self._sleepers and self._sleepers[0][0] <= end_ns:
            until_ns, _, wake = heapq.heappop(self._sleepers)
            self._now_ns = max(self._now_ns, until_ns)
            if not wake.done():  # a cancelled sleeper stays in the heap
                wake.set_result(None)
                await self._let_run()
        self._now_ns = end_ns

    async def until(self, task: "asyncio.Task[T]") -> T:
        """Let time jump from sleeper to sleeper until a task is done; return its result.

        Raises:
            RuntimeError: nobody sleeps and the task still waits: it would for ever.
        """
        await self._let_run()
        while not task.done():
            if not self._sleepers:
                raise RuntimeError("expected somebody to sleep, got a task that waits for ever")
            await self.advance((self._sleepers[0][0] - self._now_ns) / _NS)
        return task.result()

    @staticmethod
    async def _let_run() -> None:
        """Let everything that can run do so, until all that is left waits."""
        waiting = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]  # noqa: SLF001
        for _ in range(_MAX_TURNS):
            await asyncio.sleep(0)
            if not waiting:
                return
        raise RuntimeError("expected everybody to wait, got a task that runs for ever")
