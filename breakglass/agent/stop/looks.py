# SPDX-License-Identifier: Apache-2.0
"""Looks at the runtime that many can share: both lists once for all who wait for them.

A look is only worth what it shows *after* the thing that is to be seen, so `Looks.fresh` returns
one that began after the call.  Callers who come while a look is under way wait for it to end and
share the next one, and looks rest between each other: thirty pods cost a few looks, not thirty.
Silence is shared by all who waited through the end of it: it says the same of each.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

from breakglass.agent.clock import Clock
from breakglass.agent.runtime.port import TIMEOUT, Runtime
from breakglass.core import bounds
from breakglass.core.pods import ContainerState, Pod
from breakglass.errors import RuntimeTooOld, RuntimeUnavailable

_RESTS = 2  # times as long as the look before took: a third of the time at most is looked

PodKey: TypeAlias = "tuple[str, str, str]"


class Seen(StrEnum):
    """What a look shows of a container or of a pod."""

    DOWN = "down"  # listed, and nothing of it is live
    GONE = "gone"  # not listed any more
    RUNNING = "running"
    CREATED = "created"  # not started yet, and may be at any moment
    RESTARTED = "restarted"  # a pod whose stopped containers were replaced by new ones
    UNKNOWN = "unknown"  # the runtime gave no look

    @property
    def ended(self) -> bool:
        """Whether this is an end: nothing is left of it that could run."""
        return self in {Seen.DOWN, Seen.GONE}


SEEN_OF_STATE = {
    ContainerState.EXITED: Seen.DOWN,
    ContainerState.CREATED: Seen.CREATED,
    ContainerState.RUNNING: Seen.RUNNING,
    ContainerState.UNKNOWN: Seen.RUNNING,  # not known to be down
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The runtime's pods at one moment; a higher number is a later look."""

    number: int
    pods: Mapping[PodKey, Pod]

    def of(self, pod: Pod) -> Pod | None:
        """Return how a pod is now, or None when it is no longer listed."""
        return self.pods.get(_key(pod))

    def seen(self, pod: Pod, container_id: str) -> Seen:
        """Return what this look shows of one container of a pod."""
        now = self.of(pod)
        for one in now.containers if now else ():
            if one.id == container_id:
                return SEEN_OF_STATE[one.state]
        return Seen.GONE


class Looks:
    """The looks that the climbs of one command share."""

    def __init__(self, runtime: Runtime, clock: Clock) -> None:
        self._runtime = runtime
        self._clock = clock
        self._turn = asyncio.Lock()
        self._begun = 0
        self._under_way = 0  # the number of the look that is taken now, 0 for none
        self._latest: Look | None = None
        self._rests_until_ms = 0
        self._failure: tuple[int, RuntimeUnavailable | RuntimeTooOld] | None = None

    async def fresh(self) -> Look:
        """Return a look that began after this call.

        Raises:
            RuntimeUnavailable, RuntimeTooOld: the runtime gave none; a caller who waited for the
                same look gets the same error.
        """
        asked, during = self._begun, self._under_way
        async with self._turn:
            if self._latest is not None and self._latest.number > asked:
                return self._latest
            if self._failure is not None:
                number, failure = self._failure
                is_silence = failure.stable_code == TIMEOUT
                if number > asked or (number == during and is_silence):
                    raise failure
            # Looks without a pause would take from the stops the time they are waiting for.
            await self._clock.sleep((self._rests_until_ms - self._clock.monotonic_ms()) / 1_000)
            self._begun += 1
            number, begun_ms = self._begun, self._clock.monotonic_ms()
            self._under_way = number
            try:
                pods = await self._runtime.pods()
            except (RuntimeUnavailable, RuntimeTooOld) as error:
                self._failure = (number, error)
                raise
            finally:
                self._under_way = 0
            now_ms = self._clock.monotonic_ms()
            self._rests_until_ms = now_ms + _RESTS * (now_ms - begun_ms)
            by_key = MappingProxyType({_key(pod): pod for pod in pods})
            self._latest = Look(number=number, pods=by_key)
            return self._latest

    async def patient(self) -> Look | None:
        """Return a fresh look, waiting for a runtime that is away; None when it stays away."""
        deadline_ms = self._clock.monotonic_ms() + round(bounds.RUNTIME_PATIENCE_S * 1_000)
        while True:
            try:
                return await self.fresh()
            except RuntimeTooOld:
                return None
            except RuntimeUnavailable:
                if self._clock.monotonic_ms() >= deadline_ms:
                    return None
                await self._clock.sleep(bounds.LOOK_INTERVAL_S)


def _key(pod: Pod) -> PodKey:
    return pod.namespace, pod.name, pod.uid
