# SPDX-License-Identifier: Apache-2.0
"""What is known of pods around a runtime that does not answer, and what is not believed."""

import asyncio
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from breakglass.agent.pods.events import PodEvent, PodEvents
from breakglass.agent.pods.inventory import PodInventory
from breakglass.core import bounds
from breakglass.core.pods import Pod
from breakglass.errors import RuntimeUnavailable
from breakglass.sim.pod_events import SimPodEvents
from lab.sim.kernel import SimulatedKernel
from tests.support.held_node import HeldNode

SILENT = RuntimeUnavailable("no answer", code="runtime-timeout")


class Folders(SimPodEvents):
    """Pod log folders, those that somebody else made among them."""

    def __init__(self, of: SimPodEvents, more: Iterable[PodEvent]) -> None:
        self._of, self._more = of, tuple(more)

    def present(self) -> tuple[PodEvent, ...]:
        """Return all of them."""
        return (*self._of.present(), *self._more)


def a_sight(node: HeldNode, folder: Path, pod_events: PodEvents | None = None) -> PodInventory:
    """Return the sight of an agent that was started just now."""
    return PodInventory(
        runtime=node.runtime,
        groups=SimulatedKernel(node.kernel, node.kernel.host),
        pod_events=pod_events or node.pod_events,
        clock=node.agent_clock,
        directory=folder,
    )


def without_runtime(inventory: PodInventory) -> dict[str, Pod]:
    """Return the pods that are seen without the runtime, by UID."""
    return {pod.uid: pod for pod in inventory.without_runtime(SILENT).pods}


async def test_what_was_listed_is_remembered_by_the_next_agent(tmp_path: Path) -> None:
    """Labels and all, so that a revision can be told; what lives is the kernel's to say."""
    async with HeldNode(tmp_path, pods=2) as node:
        seen = {pod.uid: pod for pod in await a_sight(node, tmp_path).pods()}
        node.runtime.faults.wedge()
        again = without_runtime(a_sight(node, tmp_path))
        assert again.keys() == seen.keys() == {pod.uid for pod in (*node.pods, node.beside)}
        for uid, pod in again.items():
            assert not pod.by_name
            assert pod.label("controller-revision-hash") == seen[uid].label(
                "controller-revision-hash"
            )
            assert [one.id for one in pod.containers] == [one.id for one in seen[uid].containers]
            assert pod.live


async def test_a_pod_of_which_the_kernel_has_nothing_is_not_there(tmp_path: Path) -> None:
    """A listing may be old: what it names and nobody has is no pod."""
    async with HeldNode(tmp_path) as node:
        await a_sight(node, tmp_path).pods()
        was = node.pods[0]
        made = await node.replace(was)
        await node.advance(5)
        assert was.uid not in without_runtime(a_sight(node, tmp_path))
        assert without_runtime(a_sight(node, tmp_path))[made.uid].by_name


def nothing(path: Path) -> None:
    """Take the file away."""
    path.unlink()


def noise(path: Path) -> None:
    """Leave bytes that are no text."""
    path.write_bytes(bytes(range(256)))


def half(path: Path) -> None:
    """Leave the half of it."""
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])


def another_shape(path: Path) -> None:
    """Leave JSON that is not ours."""
    path.write_text(json.dumps({"pods": [{"uid": 7}]}))


def too_much(path: Path) -> None:
    """Leave more than anybody would write."""
    path.write_text(" " * (bounds.MAX_LISTING_BYTES + 1))


def a_folder(path: Path) -> None:
    """Leave a folder in its place."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [nothing, noise, half, another_shape, too_much, a_folder])
async def test_a_listing_that_is_not_ours_is_no_listing(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """It is a memory only: without it, pods are known by the names of their log folders."""
    async with HeldNode(tmp_path) as node:
        await a_sight(node, tmp_path).pods()
        spoil(tmp_path / "listing.json")
        seen = without_runtime(a_sight(node, tmp_path))
        pods = (node.pods[0], node.beside)
        assert {pod.name for pod in seen.values()} == {pod.sandbox.metadata.name for pod in pods}
        assert all(pod.by_name for pod in seen.values())
        assert len(await a_sight(node, tmp_path).pods()) == len(seen)  # and writing goes on


async def test_a_folder_with_somebody_elses_uid_lends_no_name(tmp_path: Path) -> None:
    """Kubelet makes one folder of a pod; with two, the pod is nobody's and is left alone."""
    async with HeldNode(tmp_path) as node:
        held, other = node.pods[0].sandbox.metadata, node.beside.sandbox.metadata
        forged = PodEvent(uid=other.uid, namespace=held.namespace, name=held.name)
        (tmp_path / "listing.json").unlink(missing_ok=True)
        for more in ((forged,), (forged, replace(forged, name=f"{held.name[:-1]}z"))):
            seen = without_runtime(a_sight(node, tmp_path / "none", Folders(node.pod_events, more)))
            assert seen.keys() == {held.uid}
        same = next(one for one in node.pod_events.present() if one.uid == other.uid)
        seen = without_runtime(a_sight(node, tmp_path / "none", Folders(node.pod_events, (same,))))
        assert seen.keys() == {held.uid, other.uid}


async def test_what_the_runtime_has_shown_goes_before_any_name(tmp_path: Path) -> None:
    """A forged folder changes nothing for a pod that was listed."""
    async with HeldNode(tmp_path) as node:
        await a_sight(node, tmp_path).pods()
        held = node.pods[0].sandbox.metadata
        forged = PodEvent(uid=node.beside.uid, namespace=held.namespace, name=held.name)
        seen = without_runtime(a_sight(node, tmp_path, Folders(node.pod_events, (forged,))))
        assert seen[node.beside.uid].name == node.beside.sandbox.metadata.name
        assert not seen[node.beside.uid].by_name


async def test_a_memory_that_cannot_be_kept_costs_nothing(tmp_path: Path) -> None:
    """The pods are shown all the same."""
    async with HeldNode(tmp_path) as node:
        assert await a_sight(node, tmp_path / "missing").pods()


async def test_a_disk_that_hangs_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Writing the memory is a thread's, one at a time; looks go on (P9)."""
    async with HeldNode(tmp_path) as node:
        await node.kill_agent()
        folder = tmp_path / "stuck"
        folder.mkdir()
        os.mkfifo(folder / "listing.new")  # whoever opens it waits for a reader
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        inventory = a_sight(node, folder)
        try:
            seen = [await inventory.pods()]
            await node.replace(node.pods[0])
            seen.append(await inventory.pods())
            assert len({pod.uid for pods in seen for pod in pods}) > len(seen[0])
            assert list(folder.iterdir()) == [folder / "listing.new"]
        finally:
            reader = os.open(folder / "listing.new", os.O_RDONLY | os.O_NONBLOCK)
            await asyncio.get_running_loop().shutdown_default_executor()
            os.close(reader)
