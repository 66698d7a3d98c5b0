# SPDX-License-Identifier: Apache-2.0
"""The pod inventory: this node's pods from the runtime, or without it when it does not answer.

The last good listing is kept in memory and in a file of the state directory.  So the agent knows
the node's pods while the runtime is stuck, also after a restart of the agent.  Without the runtime,
the kernel shows which of those pods and containers live.  Newer pods are known by their log folders
and control groups, which give nothing but names (`Pod.by_name`).

The file is only a memory: before the agent acts on a pod, it checks the pod against the kernel.
The file is not synced, because a reboot replaces the pods anyway.
"""

import asyncio
import contextlib
import itertools
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from breakglass.agent.clock import Clock
from breakglass.agent.kernel.port import Leaf, PodGroup, PodGroups
from breakglass.agent.pods.events import PodEvent, PodEvents
from breakglass.agent.runtime.port import TIMEOUT, Runtime
from breakglass.core import bounds
from breakglass.core.canonical import Fields, Json, parse_object
from breakglass.core.pods import TELLING, Container, ContainerState, Pairs, Pod
from breakglass.errors import Malformed, RuntimeTooOld, RuntimeUnavailable

_FILE = "listing.json"
_MAX_IMAGE_CHARS = 64 * 1024
_MAX_LISTED_PODS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """This node's pods; `error` says why the runtime did not list them, "" when it did."""

    pods: tuple[Pod, ...]
    error: str = ""
    code: str = ""

    @property
    def without_runtime(self) -> bool:
        """Whether the pods were found without the runtime."""
        return bool(self.code)


class PodInventory:
    """This node's pods, from the runtime or without it.

    Args:
        directory: the folder for the file with the last listing.
    """

    def __init__(
        self,
        *,
        runtime: Runtime,
        groups: PodGroups,
        pod_events: PodEvents,
        clock: Clock,
        directory: Path,
    ) -> None:
        self._runtime = runtime
        self._groups = groups
        self._pod_events = pod_events
        self._clock = clock
        self._file = directory / _FILE
        self._listed: dict[str, Pod] = {pod.uid: pod for pod in _read(self._file)}
        self._written: object = None
        self._is_writing = False

    def last_seen(self, uid: str) -> Pod | None:
        """Return a pod from the last listing that the runtime gave, however old that is."""
        return self._listed.get(uid)

    def pod_of(self, event: PodEvent) -> Pod | None:
        """Return the pod of an event, as far as it is known without asking the runtime.

        A control group's event has only the UID.  After a reboot the pod's log folder exists
        already and makes no event, so its name is looked up.
        """
        if last := self._listed.get(event.uid):
            return last
        named = (event,) if event.name else self._pod_events.present()
        return _named(named).get(event.uid)

    @property
    def listed(self) -> tuple[Pod, ...]:
        """The pods of the last listing that the runtime gave, however old that is."""
        return tuple(self._listed.values())

    async def pods(self) -> tuple[Pod, ...]:
        """Ask the runtime once for its pods, and keep them as the last listing.

        Raises:
            RuntimeUnavailable, RuntimeTooOld: the runtime gave no listing.
        """
        pods = await self._runtime.pods()
        self._remember(pods)
        return pods

    async def look(self) -> Snapshot:
        """Ask the runtime once; return the pods without it when it does not answer."""
        try:
            return Snapshot(pods=await self.pods())
        except (RuntimeUnavailable, RuntimeTooOld) as error:
            return self.without_runtime(error)

    async def wait_snapshot(self) -> Snapshot:
        """Return the pods; give a runtime that restarts some time before doing without it.

        A socket without a listener usually means that the runtime restarts.  A socket with a
        listener that does not answer means that the runtime is stuck: that gets less time.
        """
        begun_ms, silent = self._clock.monotonic_ms(), 0
        while True:
            try:
                return Snapshot(pods=await self.pods())
            except RuntimeTooOld as error:
                return self.without_runtime(error)
            except RuntimeUnavailable as error:
                silent += error.stable_code == TIMEOUT
                waited_s = (self._clock.monotonic_ms() - begun_ms) / 1_000
                if silent >= bounds.MAX_SILENT_LOOKS or waited_s >= bounds.RUNTIME_PATIENCE_S:
                    return self.without_runtime(error)
                await self._clock.sleep(bounds.LOOK_INTERVAL_S)

    def without_runtime(self, error: RuntimeUnavailable | RuntimeTooOld) -> Snapshot:
        """Return the pods without the runtime: from the last listing, log folders and kernel."""
        return self._look_without_runtime(error.message, error.stable_code)

    def _look_without_runtime(self, error: str, code: str) -> Snapshot:
        groups = {group.uid: group for group in self._groups.pod_groups()}
        named = _named(self._pod_events.present())
        pods: list[Pod] = []
        for uid, group in groups.items():
            known = self._listed.get(uid) or named.get(uid)
            if known is not None:
                pods.append(self._by_kernel(known, group))
        return Snapshot(pods=tuple(pods), error=error, code=code)

    def look_again(self, snapshot: Snapshot) -> Snapshot:
        """Return the pods as the kernel shows them now, after a snapshot without the runtime."""
        return self._look_without_runtime(snapshot.error, snapshot.code)

    def _by_kernel(self, pod: Pod, group: PodGroup) -> Pod:
        """Return a pod with the containers that the kernel shows, also ones not listed before."""
        known = {one.id: one for one in pod.containers}
        leaves = {leaf.container_id: leaf for leaf in self._groups.leaves(group)}
        leaves.pop(pod.sandbox_id, None)
        containers = [
            replace(
                known.get(key, Container(id=key, name="unknown", state=ContainerState.UNKNOWN)),
                state=self._state(leaf),
            )
            for key, leaf in leaves.items()
        ]
        return replace(pod, containers=tuple(containers))

    def _state(self, leaf: Leaf) -> ContainerState:
        try:
            return ContainerState.RUNNING if self._groups.pids(leaf) else ContainerState.EXITED
        except OSError:
            return ContainerState.UNKNOWN

    def _remember(self, pods: tuple[Pod, ...]) -> None:
        self._listed = {pod.uid: pod for pod in pods}
        shape = tuple((pod.sandbox_id, *(one.id for one in pod.containers)) for pod in pods)
        if shape != self._written and not self._is_writing:
            # A full or hanging disk must not delay a stop (P9): no caller waits for this write,
            # and a later listing replaces what was not written.
            self._written, self._is_writing = shape, True
            asyncio.get_running_loop().run_in_executor(None, self._keep, pods)

    def _keep(self, pods: tuple[Pod, ...]) -> None:
        """Write the listing to its file; runs in a thread."""
        try:
            with contextlib.suppress(OSError):
                _write(self._file, pods)
        finally:
            self._is_writing = False


def _named(pod_events: Iterable[PodEvent]) -> dict[str, Pod]:
    """Return pods by their log folders' names, without any UID that has two names.

    kubelet makes one folder for a pod.  Another process that may write there, such as a log
    collector with a writable mount, could give another pod a held workload's name to get it killed.
    """
    pods: dict[str, Pod] = {}
    twice: set[str] = set()
    for one in pod_events:
        pod = Pod.known_by_name(uid=one.uid, namespace=one.namespace, name=one.name)
        if pods.setdefault(one.uid, pod) != pod:
            twice.add(one.uid)
    return {uid: pod for uid, pod in pods.items() if uid not in twice}


def _write(path: Path, pods: tuple[Pod, ...]) -> None:
    document = {"pods": [_document(pod) for pod in pods[:_MAX_LISTED_PODS]]}
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        json.dump(document, file)
    fresh.rename(path)


def _document(pod: Pod) -> dict[str, Json]:
    return {
        "uid": pod.uid,
        "name": pod.name,
        "namespace": pod.namespace,
        "sandbox": pod.sandbox_id,
        "labels": _telling(pod.labels),
        "annotations": _telling(pod.annotations),
        "containers": [
            {"id": one.id, "name": one.name, "image": one.image, "image_ref": one.image_ref}
            for one in pod.containers
        ],
    }


def _telling(pairs: Pairs) -> list[Json]:
    return [text for pair in pairs if pair[0] in TELLING for text in pair]


def _read(path: Path) -> tuple[Pod, ...]:
    """Return the pods in the file; () when it is missing or not in our format."""
    try:
        with path.open("rb") as file:
            raw = file.read(bounds.MAX_LISTING_BYTES + 1)
        fields = Fields(parse_object(raw, max_bytes=bounds.MAX_LISTING_BYTES))
        return tuple(_pod(one) for one in fields.objects("pods", max_items=_MAX_LISTED_PODS))
    except (OSError, Malformed):
        return ()


def _pod(fields: Fields) -> Pod:
    def pairs(key: str) -> Pairs:
        texts = fields.lines(key, max_items=2 * len(TELLING))
        return tuple(itertools.pairwise(texts))[::2]

    return Pod(
        uid=fields.text("uid"),
        name=fields.text("name"),
        namespace=fields.text("namespace"),
        sandbox_id=fields.text("sandbox"),
        labels=pairs("labels"),
        annotations=pairs("annotations"),
        containers=tuple(
            Container(
                id=one.text("id"),
                name=one.text("name"),
                state=ContainerState.UNKNOWN,
                image=one.text("image", max_chars=_MAX_IMAGE_CHARS),
                image_ref=one.text("image_ref", max_chars=_MAX_IMAGE_CHARS),
            )
            for one in fields.objects("containers", max_items=_MAX_LISTED_PODS)
        ),
    )
