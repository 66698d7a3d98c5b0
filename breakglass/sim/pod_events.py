# SPDX-License-Identifier: Apache-2.0
"""The traces of new pods on a simulated node: the agent's births port, in any kind of time.

The simulated kubelet tells of a pod's control group (the uid alone) and of its folder of logs (all
of its name).  On demand traces are missed, the queue overflows, the folder of logs is elsewhere, or
nothing can be listened to at all.
"""

import asyncio

from breakglass.core.pod_names import PodEvent
from breakglass.sim.clock import SimClock


class SimPodEvents:
    """What inotify would tell of a simulated node's pods.

    Args:
        clock: whose sleep a timeout is.

    Attributes:
        deaf: whether the watched folder is not the one that kubelet uses.
    """

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock
        self._folders: dict[str, PodEvent] = {}
        self._queued: dict[PodEvent, None] = {}
        self._told = asyncio.Event()
        self._is_open = False
        self._to_miss = 0
        self.elsewhere = False
        self.deaf = False

    # What kubelet does, and what goes wrong.

    def grouped(self, uid: str) -> None:
        """Take notice of a control group that was made for a pod."""
        self._tell(PodEvent(uid=uid, namespace="", name=""))

    def logged(self, birth: PodEvent) -> None:
        """Take notice of a pod's folder of logs; one that is there already tells nothing."""
        if birth.uid not in self._folders:
            self._folders[birth.uid] = birth
            if not self.elsewhere:
                self._tell(birth)

    def gone(self, uid: str) -> None:
        """Take notice that a deleted pod's folder was removed."""
        self._folders.pop(uid, None)

    def miss(self, count: int) -> None:
        """Tell nothing of the next so many traces."""
        self._to_miss += count

    def overflow(self) -> None:
        """Lose what is queued, and tell of all folders in its place, as after IN_Q_OVERFLOW."""
        self._queued = dict.fromkeys(self._folders.values())
        self._told.set()

    # The port.

    def open(self) -> None:
        """Begin to listen."""
        self._is_open = True
        self._queued.clear()
        self._told.clear()

    def close(self) -> None:
        """Stop listening."""
        self._is_open = False

    async def wait(self, timeout_s: float) -> tuple[PodEvent, ...]:
        """Return what appeared since the last call as soon as something does, or () in the end."""
        async with asyncio.TaskGroup() as group:
            timer = group.create_task(self._tell_after(timeout_s))
            await self._told.wait()
            timer.cancel()
        self._told.clear()
        queued, self._queued = self._queued, {}
        return tuple(queued)

    def present(self) -> tuple[PodEvent, ...]:
        """Return all pod log folders as they are now."""
        return () if self.elsewhere else tuple(self._folders.values())

    def _tell(self, birth: PodEvent) -> None:
        if self._to_miss:
            self._to_miss -= 1
        elif self._is_open and not self.deaf:
            self._queued[birth] = None
            self._told.set()

    async def _tell_after(self, timeout_s: float) -> None:
        await self._clock.sleep(timeout_s)
        self._told.set()
