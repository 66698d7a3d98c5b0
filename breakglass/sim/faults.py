# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between a caller and a runtime, on demand.

Each fault is of one method and happens a given number of times.  "Lost" and "landed" are kept
apart, because a caller cannot: an answer that never comes says nothing about what was done.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import NoReturn

import grpc
from google.protobuf.message import Message

from breakglass.sim.clock import SimClock

EVERY_CALL = "*"
FOR_EVER = -1


class CriError(Exception):
    """What a runtime answers in place of a reply."""

    def __init__(self, status: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Kind(Enum):
    """How a call goes wrong."""

    HANG = auto()  # nothing is done and no answer comes
    FAIL = auto()  # nothing is done, and an error says so
    LOSE_REPLY = auto()  # it is done, and no answer comes
    FAIL_AFTER = auto()  # it is done, and an error is answered
    DELAY = auto()  # it is done, later


@dataclass(slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong with calls of a method, so many times."""

    method: str
    kind: Kind
    times: int = 1
    status: grpc.StatusCode = grpc.StatusCode.UNKNOWN
    message: str = "ttrpc: closed"
    delay_s: float = 0.0


class Faults:
    """The faults that are still to come, and whether the whole runtime is stuck."""

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock
        self._pending: list[Fault] = []
        self._moving = asyncio.Event()
        self._moving.set()

    def add(self, fault: Fault) -> None:
        """Let this happen at the next calls of its method."""
        self._pending.append(fault)

    def clear(self) -> None:
        """Let nothing more go wrong."""
        self._pending.clear()
        self._moving.set()

    def wedge(self) -> None:
        """Be as a stopped process: every call is taken, none is answered."""
        self._moving.clear()

    def unwedge(self) -> None:
        """Go on; calls whose callers have gone meanwhile are not carried out."""
        self._moving.set()

    async def around(self, method: str, carry_out: Callable[[], Awaitable[Message]]) -> Message:
        """Carry out a call as the next fault of its method has it."""
        await self._moving.wait()
        fault = self._take(method)
        if fault is None:
            return await carry_out()
        match fault.kind:
            case Kind.HANG:
                await _never()
            case Kind.FAIL:
                raise CriError(fault.status, fault.message)
            case Kind.LOSE_REPLY:
                await carry_out()
                await _never()
            case Kind.FAIL_AFTER:
                await carry_out()
                raise CriError(fault.status, fault.message)
            case Kind.DELAY:
                await self._clock.sleep(fault.delay_s)
        return await carry_out()

    def _take(self, method: str) -> Fault | None:
        for fault in self._pending:
            if fault.method in {method, EVERY_CALL}:
                if fault.times != FOR_EVER:
                    fault.times -= 1
                    if not fault.times:
                        self._pending.remove(fault)
                return fault
        return None


async def _never() -> NoReturn:
    while True:
        await asyncio.Event().wait()
