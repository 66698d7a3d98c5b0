# SPDX-License-Identifier: Apache-2.0
"""The pod events of a simulated node: the agent's port for inotify, with any clock.

The simulated kubelet reports a pod's control group (its UID alone) and its pod log folder (UID,
namespace and name).  On demand, events are missed, the queue overflows, the pod log folder is
elsewhere, or no events come at all.
"""

import asyncio

from breakglass.core.pod_names import PodEvent
from breakglass.sim.clock import SimClock


class SimPodEvents:
    """The events that inotify would report of a simulated node's pods.

    Args:
        clock: the clock of the timeouts.

    Attributes:
        elsewhere: whether kubelet's pod log folders are not below the watched folder.
        deaf: whether no event is reported at all.
    """

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock
        self._folders: dict[str, PodEvent] = {}
        self._queued: dict[PodEvent, None] = {}
        self._arrived = asyncio.Event()
        self._is_open = False
        self._to_miss = 0
        self.elsewhere = False
        self.deaf = False

    # Called by kubelet, and by tests for faults.

    def grouped(self, uid: str) -> None:
        """Report that a pod's control group was made."""
        self._report(PodEvent(uid=uid, namespace="", name=""))

    def logged(self, event: PodEvent) -> None:
        """Report that a pod log folder was made, unless it exists already."""
        if event.uid not in self._folders:
            self._folders[event.uid] = event
            if not self.elsewhere:
                self._report(event)

    def gone(self, uid: str) -> None:
        """Remove a deleted pod's log folder."""
        self._folders.pop(uid, None)

    def miss(self, count: int) -> None:
        """Drop the next `count` events."""
        self._to_miss += count

    def overflow(self) -> None:
        """Drop the queued events and report all folders instead, as after IN_Q_OVERFLOW."""
        self._queued = dict.fromkeys(self._folders.values())
        self._arrived.set()

    # The port.

    def open(self) -> None:
        """Start to listen."""
        self._is_open = True
        self._queued.clear()
        self._arrived.clear()

    def close(self) -> None:
        """Stop listening."""
        self._is_open = False

    async def wait(self, timeout_s: float) -> tuple[PodEvent, ...]:
        """Return the events since the last call, as soon as there is one, or () at the timeout."""
        async with asyncio.TaskGroup() as group:
            timer = group.create_task(self._wake_after(timeout_s))
            await self._arrived.wait()
            timer.cancel()
        self._arrived.clear()
        queued, self._queued = self._queued, {}
        return tuple(queued)

    def present(self) -> tuple[PodEvent, ...]:
        """Return the pod log folders that exist now."""
        return () if self.elsewhere else tuple(self._folders.values())

    def _report(self, event: PodEvent) -> None:
        if self._to_miss:
            self._to_miss -= 1
        elif self._is_open and not self.deaf:
            self._queued[event] = None
            self._arrived.set()

    async def _wake_after(self, timeout_s: float) -> None:
        await self._clock.sleep(timeout_s)
        self._arrived.set()
