# SPDX-License-Identifier: Apache-2.0
"""What is known of this node's pods: from the runtime, or around it when it does not answer.

The last good listing is kept, in memory and in a file of the state directory, so that a node whose
runtime is stuck can still be told which pods it has, also by an agent that was started since.
Around the runtime, the kernel says which of those pods and containers live; pods that came since
are known by their log folders and control groups, and nothing but their names is (`Pod.by_name`).

The file is a memory and no authority: what is acted on is checked against the kernel, pod by pod.
It is not synced, because after a reboot the pods are other ones anyway.
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
    """This node's pods; `error` is why the runtime did not show them, "" where it did."""

    pods: tuple[Pod, ...]
    error: str = ""
    code: str = ""

    @property
    def without_runtime(self) -> bool:
        """Whether they were seen around the runtime."""
        return bool(self.code)


class PodInventory:
    """The node's pods, whoever can show them.

    Args:
        directory: where the last listing is kept.
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

    def last(self, uid: str) -> Pod | None:
        """Return a pod as the runtime showed it last, whenever that was."""
        return self._listed.get(uid)

    def expected(self, birth: PodEvent) -> Pod | None:
        """Return the pod that a birth is of, as far as anything but the runtime's answer tells.

        A group tells its UID alone; after a reboot its folder of logs is there already and tells
        nothing more, so the folder is looked up.
        """
        if last := self._listed.get(birth.uid):
            return last
        named = (birth,) if birth.name else self._pod_events.present()
        return _named(named).get(birth.uid)

    @property
    def listed(self) -> tuple[Pod, ...]:
        """The pods of the last listing that the runtime gave, whenever that was."""
        return tuple(self._listed.values())

    async def pods(self) -> tuple[Pod, ...]:
        """Return the runtime's pods, one question, and remember them.

        Raises:
            RuntimeUnavailable, RuntimeTooOld: it gave no answer.
        """
        pods = await self._runtime.pods()
        self._remember(pods)
        return pods

    async def look(self) -> Snapshot:
        """Return the pods by one question to the runtime, or around it at once."""
        try:
            return Snapshot(pods=await self.pods())
        except (RuntimeUnavailable, RuntimeTooOld) as error:
            return self.without_runtime(error)

    async def patient(self) -> Snapshot:
        """Return the pods by the runtime, waiting a while for one that restarts; or around it.

        A socket that nobody listens on is a restart, mostly; one that is listened on and gives no
        answer is a runtime that is stuck, and waited for less.
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
        """Return the pods without the runtime: by the last listing, log folders and kernel."""
        return self._around(error.message, error.stable_code)

    def _around(self, error: str, code: str) -> Snapshot:
        groups = {group.uid: group for group in self._groups.pod_groups()}
        named = _named(self._pod_events.present())
        pods: list[Pod] = []
        for uid, group in groups.items():
            known = self._listed.get(uid) or named.get(uid)
            if known is not None:
                pods.append(self._by_kernel(known, group))
        return Snapshot(pods=tuple(pods), error=error, code=code)

    def again(self, snapshot: Snapshot) -> Snapshot:
        """Return the pods as the kernel shows them now, after a sighting around the runtime."""
        return self._around(snapshot.error, snapshot.code)

    def _by_kernel(self, pod: Pod, group: PodGroup) -> Pod:
        """Return a pod with the containers that the kernel shows, those unknown to us included."""
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
            # A memory that cannot be kept, or a disk that hangs, must not cost a stop (P9): nobody
            # waits for it, and the next look writes what is newer.
            self._written, self._is_writing = shape, True
            asyncio.get_running_loop().run_in_executor(None, self._keep, pods)

    def _keep(self, pods: tuple[Pod, ...]) -> None:
        """Write the listing, in a thread."""
        try:
            with contextlib.suppress(OSError):
                _write(self._file, pods)
        finally:
            self._is_writing = False


def _named(pod_events: Iterable[PodEvent]) -> dict[str, Pod]:
    """Return pods by their log folders' names; a UID that has two names is nobody's.

    kubelet makes one folder of a pod.  Whoever else may write there (a log collector, mounting it
    writable) could lend a held workload's name to another pod, and have that one killed.
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
    """Return what the file remembers; nothing when it is missing or not what we write."""
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
