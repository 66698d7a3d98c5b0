# SPDX-License-Identifier: Apache-2.0
"""Looks: listings of the runtime's pods that many callers share.

A look proves only what it shows *after* the act that it checks, so `Looks.fresh` returns one that
began after the call.  Callers that come during a look wait until it ends and share the next one,
and looks pause between each other: thirty pods need a few looks, not thirty.  When a look times
out, all callers that waited for its end get the same timeout.
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

_RESTS = 2  # the pause in durations of the last look: looks take at most a third of the time

PodKey: TypeAlias = "tuple[str, str, str]"


class Seen(StrEnum):
    """What a look shows of a container or of a pod."""

    DOWN = "down"  # listed, and nothing of it is live
    GONE = "gone"  # no longer listed
    RUNNING = "running"
    CREATED = "created"  # not started yet; it may start at any moment
    RESTARTED = "restarted"  # a pod whose stopped containers were replaced by new ones
    UNKNOWN = "unknown"  # the runtime did not answer the look

    @property
    def ended(self) -> bool:
        """Whether it has ended: nothing that could run is left."""
        return self in {Seen.DOWN, Seen.GONE}


SEEN_OF_STATE = {
    ContainerState.EXITED: Seen.DOWN,
    ContainerState.CREATED: Seen.CREATED,
    ContainerState.RUNNING: Seen.RUNNING,
    ContainerState.UNKNOWN: Seen.RUNNING,  # unknown is never taken for down
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The runtime's pods at one moment; a later look has a higher number."""

    number: int
    pods: Mapping[PodKey, Pod]

    def of(self, pod: Pod) -> Pod | None:
        """Return a pod as this look shows it, or None when it is not listed."""
        return self.pods.get(_key(pod))

    def seen(self, pod: Pod, container_id: str) -> Seen:
        """Return what this look shows of one of a pod's containers."""
        now = self.of(pod)
        for one in now.containers if now else ():
            if one.id == container_id:
                return SEEN_OF_STATE[one.state]
        return Seen.GONE


class Looks:
    """The looks that all climbs of one command share."""

    def __init__(self, runtime: Runtime, clock: Clock) -> None:
        self._runtime = runtime
        self._clock = clock
        self._lock = asyncio.Lock()
        self._begun = 0
        self._under_way = 0  # the number of the look in progress, 0 for none
        self._latest: Look | None = None
        self._rests_until_ms = 0
        self._failure: tuple[int, RuntimeUnavailable | RuntimeTooOld] | None = None

    async def fresh(self) -> Look:
        """Return a look that began after this call.

        Raises:
            RuntimeUnavailable, RuntimeTooOld: the runtime did not answer; callers that waited for
                the same look get the same error.
        """
        asked, during = self._begun, self._under_way
        async with self._lock:
            if self._latest is not None and self._latest.number > asked:
                return self._latest
            if self._failure is not None:
                number, failure = self._failure
                is_silence = failure.stable_code == TIMEOUT
                if number > asked or (number == during and is_silence):
                    raise failure
            # Without a pause, looks would slow down the stops that they wait for.
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

    async def wait_fresh(self) -> Look | None:
        """Return a fresh look; wait while the runtime restarts; None if it stays away."""
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
