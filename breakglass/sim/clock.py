# SPDX-License-Identifier: Apache-2.0
"""Clocks for simulated nodes: the machine's clock, or one that only a test moves.

With `VirtualClock` five minutes of a kubelet's back-off take a millisecond, in the same order every
time.  Simulated parts read no other clock.
"""

import asyncio
import heapq
import itertools
import time
from typing import Protocol, TypeVar

T = TypeVar("T")

_NS = 1_000_000_000
_MAX_ITERATIONS = 100_000  # of the event loop: after more, some task never waits


class SimClock(Protocol):
    """The clock of simulated nodes."""

    def now_ns(self) -> int:
        """Return nanoseconds since 1970."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...


class WallClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        """Return nanoseconds since 1970."""
        return time.time_ns()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await asyncio.sleep(seconds)


class VirtualClock:
    """A clock that moves only inside `advance`.

    Args:
        start_ns: its first reading.
    """

    def __init__(self, start_ns: int = 1_800_000_000 * _NS) -> None:
        self._now_ns = start_ns
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def now_ns(self) -> int:
        """Return nanoseconds since 1970."""
        return self._now_ns

    async def sleep(self, seconds: float) -> None:
        """Return when `advance` has moved the clock by `seconds`."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        wake = asyncio.get_running_loop().create_future()
        until_ns = self._now_ns + round(seconds * _NS)
        heapq.heappush(self._sleepers, (until_ns, next(self._order), wake))
        await wake

    async def advance(self, seconds: float) -> None:
        """Move the clock by `seconds`, and wake each sleeper at its time, in order."""
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
        """Move the clock from sleeper to sleeper until a task is done; return its result.

        Raises:
            RuntimeError: the task waits and no task sleeps, so it would wait for ever.
        """
        await self._let_run()
        while not task.done():
            if not self._sleepers:
                raise RuntimeError("the task waits for ever: no task sleeps")
            await self.advance((self._sleepers[0][0] - self._now_ns) / _NS)
        return task.result()

    @staticmethod
    async def _let_run() -> None:
        """Let all tasks run until each of them waits."""
        ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]  # noqa: SLF001
        for _ in range(_MAX_ITERATIONS):
            await asyncio.sleep(0)
            if not ready:
                return
        raise RuntimeError("a task runs for ever without waiting")
