# SPDX-License-Identifier: Apache-2.0
"""What an agent needs to live in virtual time: a clock, threads that are none, no captures."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from breakglass.agent.capture.port import Capture
from breakglass.sim.clock import VirtualClock
from tests.support.sim_runtime import VirtualAgentClock

T = TypeVar("T")


class InlineExecutor(ThreadPoolExecutor):
    """Threads that are none: what is given to one is done at once, so virtual time stays exact."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":  # noqa: ANN401
        """Return the future of a call that is over."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - a power cut goes through it, too
            future.set_exception(error)
        return future


class NodeClock(VirtualAgentClock):
    """The agent's clock on virtual time: its wall may be off, and its machine may start again."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.wall_off = timedelta()
        self.boots = 0
        self.booted_ms = clock.now_ns() // 1_000_000 - 60_000

    def now(self) -> datetime:
        """Return the UTC time as this machine believes it is."""
        return datetime.fromtimestamp(super().monotonic_ms() / 1_000, UTC) + self.wall_off

    def monotonic_ms(self) -> int:
        """Return milliseconds since boot."""
        return super().monotonic_ms() - self.booted_ms

    def boot(self) -> str:
        """Return the id of this boot."""
        return f"{self.boots:08x}-0000-4000-8000-000000000000"


class NoKnownPods:
    """A runtime that has never shown a pod."""

    def last_seen(self, uid: str) -> None:
        """Return nothing."""


class NoCaptures:
    """Keeps no captures: the real store's threads know no virtual time."""

    def measure(self) -> None:
        """Count nothing."""

    async def capture(self, *_: object, **__: object) -> Capture:
        """Return nothing."""
        return Capture(sha256="", size=0, ms=0, note="not in virtual time")
