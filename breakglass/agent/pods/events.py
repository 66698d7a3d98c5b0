# SPDX-License-Identifier: Apache-2.0
"""Being told within a millisecond that a pod may be about to start on this node.

Two traces come before any container of a pod: its control group, which tells the uid alone, and
its folder under kubelet's pod logs, made just before the sandbox is asked for, which tells
namespace and name too.  Folders of pods stay after their death, and names may be made by whoever
may write there (root): a birth is a reason to look, never a fact about a pod.

Nothing here may be relied on.  The kernel's queue can overflow, the folders can be elsewhere or be
replaced, and inotify can be used up: then `wait` returns what is there, or nothing at its timeout,
and the caller's polling is the net.
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
    """What tells when a pod may be being born."""

    def open(self) -> None:
        """Begin to listen, inside the running loop; look at all pods once after this."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...

    async def wait(self, timeout_s: float) -> tuple[PodEvent, ...]:
        """Return what appeared since the last call as soon as something does, or () in the end."""
        ...

    def present(self) -> tuple[PodEvent, ...]:
        """Return all pod log folders as they are now; () when the folder of them is missing."""
        ...


class InotifyPodEvents:
    """Births by inotify on kubelet's pod logs and on the control groups that pods are made in.

    Args:
        pod_logs: kubelet's podLogsDir.
        cgroup_parents: gives the folders in which control groups of pods appear; asked at every
            `wait`, for they come and go with kubelet.
        clock: whose sleep the timeout is.

    One caller waits at a time.
    """

    def __init__(
        self, pod_logs: Path, cgroup_parents: Callable[[], tuple[Path, ...]], clock: Clock
    ) -> None:
        self._pod_logs = pod_logs
        self._cgroup_parents = cgroup_parents
        self._clock = clock
        self._inotify = Inotify(self._appeared, self._look_again)
        self._told = asyncio.Event()
        self._born: dict[PodEvent, None] = {}
        self._unseen: set[Path] = set()

    def open(self) -> None:
        """Begin to listen, inside the running loop; look at all pods once after this.

        A kernel that has no instance left is asked again with every `wait`.
        """
        self._follow()
        # What is there already is for the caller's own first look.
        self._unseen.clear()
        self._told.clear()

    def close(self) -> None:
        """Stop listening."""
        self._inotify.close()

    async def wait(self, timeout_s: float) -> tuple[PodEvent, ...]:
        """Return what appeared since the last call as soon as something does, or () in the end."""
        self._follow()
        async with asyncio.TaskGroup() as group:
            timer = group.create_task(self._tell_after(timeout_s))
            await self._told.wait()
            timer.cancel()
        self._told.clear()
        unseen, self._unseen = self._unseen, set()
        born, self._born = self._born, {}
        for directory in sorted(unseen):
            born.update(dict.fromkeys(self._there(directory)))
        return tuple(born)

    def present(self) -> tuple[PodEvent, ...]:
        """Return all pod log folders as they are now; () when the folder of them is missing."""
        return tuple(self._there(self._pod_logs))

    def _follow(self) -> None:
        if not self._inotify.is_open:
            with contextlib.suppress(OSError):
                self._inotify.open()
        self._inotify.follow((self._pod_logs, *self._cgroup_parents()))

    async def _tell_after(self, timeout_s: float) -> None:
        await self._clock.sleep(timeout_s)
        self._told.set()

    def _appeared(self, directory: Path, name: str) -> None:
        birth = self._birth(directory, name)
        if birth is None:
            return
        if len(self._born) < bounds.MAX_POD_FOLDERS:
            self._born[birth] = None
        else:  # nobody has waited for long: what is there says it in bounded space
            self._unseen.add(directory)
        self._told.set()

    def _look_again(self, directory: Path) -> None:
        self._unseen.add(directory)
        self._told.set()

    def _there(self, directory: Path) -> Iterator[PodEvent]:
        """Yield what the names in a folder tell now; nothing when it cannot be read."""
        with contextlib.suppress(OSError), os.scandir(directory) as entries:
            for entry in itertools.islice(entries, bounds.MAX_POD_FOLDERS):
                birth = self._birth(directory, entry.name)
                if birth is not None and entry.is_dir(follow_symlinks=False):
                    yield birth

    def _birth(self, directory: Path, name: str) -> PodEvent | None:
        if directory == self._pod_logs:
            return parse_pod_log_name(name)
        uid = uid_of_group_name(name)
        return None if uid is None else PodEvent(uid=uid, namespace="", name="")
