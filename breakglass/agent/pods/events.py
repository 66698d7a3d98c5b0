# SPDX-License-Identifier: Apache-2.0
"""Detect new pods within a millisecond, through inotify.

Two things appear before any container of a pod: its control group, whose name has only the UID,
and its folder under kubelet's pod logs, made just before kubelet asks for the sandbox, whose name
also has namespace and name.  The folder stays after the pod's end, and any process that may write
there (root) can make one.  So a pod event is a reason to look, never a fact about a pod.

Do not rely on events alone.  The kernel's queue can overflow, a folder can be elsewhere or be
replaced, and inotify instances can run out.  Then `wait` returns what it knows, or () at its
timeout, and the caller's polling finds the pod.
"""

import asyncio
import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from breakglass.agent.clock import Clock
from breakglass.agent.pods.inotify import Inotify
from breakglass.core import bounds
from breakglass.core.pod_names import PodEvent, parse_pod_log_name, uid_of_group_name

__all__ = ["InotifyPodEvents", "PodEvent", "PodEvents"]


class PodEvents(Protocol):
    """Reports pods that may be new on this node."""

    def open(self) -> None:
        """Start to listen, in the running loop; the caller then looks at all pods once."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...

    async def wait(self, timeout_s: float) -> tuple[PodEvent, ...]:
        """Return the events since the last call, as soon as there is one; () at the timeout."""
        ...

    def present(self) -> tuple[PodEvent, ...]:
        """Return an event for each existing pod log folder; () when their parent is missing."""
        ...


class InotifyPodEvents:
    """Pod events by inotify, on kubelet's pod logs and on the parents of pods' control groups.

    Args:
        pod_logs: kubelet's podLogsDir.
        cgroup_parents: returns the folders in which pods' control groups appear.  Each `wait`
            calls it, because kubelet makes and removes those folders.
        clock: times the wait.

    Only one caller waits at a time.
    """

    def __init__(
        self, pod_logs: Path, cgroup_parents: Callable[[], tuple[Path, ...]], clock: Clock
    ) -> None:
        self._pod_logs = pod_logs
        self._cgroup_parents = cgroup_parents
        self._clock = clock
        self._inotify = Inotify(self._appeared, self._look_again)
        self._wake = asyncio.Event()
        self._events: dict[PodEvent, None] = {}
        self._unread: set[Path] = set()

    def open(self) -> None:
        """Start to listen, in the running loop; the caller then looks at all pods once.

        When the kernel has no inotify instance left, each `wait` tries again.
        """
        self._follow()
        # The caller's own first look finds what exists already.
        self._unread.clear()
        self._wake.clear()

    def close(self) -> None:
        """Stop listening."""
        self._inotify.close()

    async def wait(self, timeout_s: float) -> tuple[PodEvent, ...]:
        """Return the events since the last call, as soon as there is one; () at the timeout."""
        self._follow()
        async with asyncio.TaskGroup() as group:
            timer = group.create_task(self._wake_after(timeout_s))
            await self._wake.wait()
            timer.cancel()
        self._wake.clear()
        unread, self._unread = self._unread, set()
        events, self._events = self._events, {}
        for directory in sorted(unread):
            events.update(dict.fromkeys(self._events_in(directory)))
        return tuple(events)

    def present(self) -> tuple[PodEvent, ...]:
        """Return an event for each existing pod log folder; () when their parent is missing."""
        return tuple(self._events_in(self._pod_logs))

    def _follow(self) -> None:
        if not self._inotify.is_open:
            with contextlib.suppress(OSError):
                self._inotify.open()
        self._inotify.follow((self._pod_logs, *self._cgroup_parents()))

    async def _wake_after(self, timeout_s: float) -> None:
        await self._clock.sleep(timeout_s)
        self._wake.set()

    def _appeared(self, directory: Path, name: str) -> None:
        event = self._event(directory, name)
        if event is None:
            return
        if len(self._events) < bounds.MAX_POD_FOLDERS:
            self._events[event] = None
        else:  # too many events since the last `wait`: the next one reads the folder instead
            self._unread.add(directory)
        self._wake.set()

    def _look_again(self, directory: Path) -> None:
        self._unread.add(directory)
        self._wake.set()

    def _events_in(self, directory: Path) -> Iterator[PodEvent]:
        """Yield an event for each pod's name in a folder; none when it cannot be read."""
        with contextlib.suppress(OSError), os.scandir(directory) as entries:
            for entry in itertools.islice(entries, bounds.MAX_POD_FOLDERS):
                event = self._event(directory, entry.name)
                if event is not None and entry.is_dir(follow_symlinks=False):
                    yield event

    def _event(self, directory: Path, name: str) -> PodEvent | None:
        if directory == self._pod_logs:
            return parse_pod_log_name(name)
        uid = uid_of_group_name(name)
        return None if uid is None else PodEvent(uid=uid, namespace="", name="")
