# SPDX-License-Identifier: Apache-2.0
"""Faults between a client and a simulated runtime, injected on demand.

Each fault is of one method and happens a given number of times.  "Failed" and "failed but happened"
are different faults, which a client cannot tell apart: a missing answer says nothing about what the
runtime did.
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
    """An error that a runtime answers."""

    def __init__(self, status: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Kind(Enum):
    """How a call fails."""

    HANG = auto()  # not carried out, no answer
    FAIL = auto()  # not carried out, answered with an error
    LOSE_REPLY = auto()  # carried out, no answer
    FAIL_AFTER = auto()  # carried out, answered with an error
    DELAY = auto()  # carried out later


@dataclass(slots=True, kw_only=True)
class Fault:
    """A fault of the next `times` calls of a method."""

    method: str
    kind: Kind
    times: int = 1
    status: grpc.StatusCode = grpc.StatusCode.UNKNOWN
    message: str = "ttrpc: closed"
    delay_s: float = 0.0


class Faults:
    """The pending faults, and whether the whole runtime is stuck."""

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock
        self._pending: list[Fault] = []
        self._not_stuck = asyncio.Event()
        self._not_stuck.set()

    def add(self, fault: Fault) -> None:
        """Add a fault for the next calls of its method."""
        self._pending.append(fault)

    def clear(self) -> None:
        """Remove all faults."""
        self._pending.clear()
        self._not_stuck.set()

    def wedge(self) -> None:
        """Behave as a stopped process: accept every call and answer none."""
        self._not_stuck.clear()

    def unwedge(self) -> None:
        """Answer again; calls whose clients have disconnected are not carried out."""
        self._not_stuck.set()

    async def around(self, method: str, carry_out: Callable[[], Awaitable[Message]]) -> Message:
        """Carry out a call, with the next fault of its method."""
        await self._not_stuck.wait()
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
