# SPDX-License-Identifier: Apache-2.0
"""The pod inventory without the runtime, and the names and files that it does not trust."""

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
    """Pod log folders, with some that another process than kubelet made."""

    def __init__(self, of: SimPodEvents, more: Iterable[PodEvent]) -> None:
        self._of, self._more = of, tuple(more)

    def present(self) -> tuple[PodEvent, ...]:
        """Return the events of all these folders."""
        return (*self._of.present(), *self._more)


def inventory_of(node: HeldNode, folder: Path, pod_events: PodEvents | None = None) -> PodInventory:
    """Return the inventory of an agent that was just started."""
    return PodInventory(
        runtime=node.runtime,
        groups=SimulatedKernel(node.kernel, node.kernel.host),
        pod_events=pod_events or node.pod_events,
        clock=node.agent_clock,
        directory=folder,
    )


def without_runtime(inventory: PodInventory) -> dict[str, Pod]:
    """Return the pods that are found without the runtime, by UID."""
    return {pod.uid: pod for pod in inventory.without_runtime(SILENT).pods}


async def test_the_last_listing_is_read_by_the_next_agent(tmp_path: Path) -> None:
    """The listing keeps the labels that give the revision; the kernel shows what lives."""
    async with HeldNode(tmp_path, pods=2) as node:
        seen = {pod.uid: pod for pod in await inventory_of(node, tmp_path).pods()}
        node.runtime.faults.wedge()
        again = without_runtime(inventory_of(node, tmp_path))
        assert again.keys() == seen.keys() == {pod.uid for pod in (*node.pods, node.beside)}
        for uid, pod in again.items():
            assert not pod.by_name
            assert pod.label("controller-revision-hash") == seen[uid].label(
                "controller-revision-hash"
            )
            assert [one.id for one in pod.containers] == [one.id for one in seen[uid].containers]
            assert pod.live


async def test_a_pod_of_which_the_kernel_has_nothing_is_not_there(tmp_path: Path) -> None:
    """A listing may be old: a pod in it that has no control group is left out."""
    async with HeldNode(tmp_path) as node:
        await inventory_of(node, tmp_path).pods()
        was = node.pods[0]
        made = await node.replace(was)
        await node.advance(5)
        assert was.uid not in without_runtime(inventory_of(node, tmp_path))
        assert without_runtime(inventory_of(node, tmp_path))[made.uid].by_name


def missing(path: Path) -> None:
    """Remove the file."""
    path.unlink()


def random_bytes(path: Path) -> None:
    """Write bytes that are not text."""
    path.write_bytes(bytes(range(256)))


def half(path: Path) -> None:
    """Cut the file in half."""
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])


def another_shape(path: Path) -> None:
    """Write JSON of another form."""
    path.write_text(json.dumps({"pods": [{"uid": 7}]}))


def too_much(path: Path) -> None:
    """Write more than the bound on a listing."""
    path.write_text(" " * (bounds.MAX_LISTING_BYTES + 1))


def a_folder(path: Path) -> None:
    """Replace the file by a folder."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [missing, random_bytes, half, another_shape, too_much, a_folder])
async def test_a_listing_that_is_not_ours_is_no_listing(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """Without a valid listing, pods are known by the names of their log folders."""
    async with HeldNode(tmp_path) as node:
        await inventory_of(node, tmp_path).pods()
        spoil(tmp_path / "listing.json")
        seen = without_runtime(inventory_of(node, tmp_path))
        pods = (node.pods[0], node.beside)
        assert {pod.name for pod in seen.values()} == {pod.sandbox.metadata.name for pod in pods}
        assert all(pod.by_name for pod in seen.values())
        assert len(await inventory_of(node, tmp_path).pods()) == len(seen)  # and writes the next


async def test_a_folder_with_somebody_elses_uid_lends_no_name(tmp_path: Path) -> None:
    """Kubelet makes one folder for a pod; a pod with two is left alone."""
    async with HeldNode(tmp_path) as node:
        held, other = node.pods[0].sandbox.metadata, node.beside.sandbox.metadata
        forged = PodEvent(uid=other.uid, namespace=held.namespace, name=held.name)
        (tmp_path / "listing.json").unlink(missing_ok=True)
        for more in ((forged,), (forged, replace(forged, name=f"{held.name[:-1]}z"))):
            seen = without_runtime(
                inventory_of(node, tmp_path / "none", Folders(node.pod_events, more))
            )
            assert seen.keys() == {held.uid}
        same = next(one for one in node.pod_events.present() if one.uid == other.uid)
        seen = without_runtime(
            inventory_of(node, tmp_path / "none", Folders(node.pod_events, (same,)))
        )
        assert seen.keys() == {held.uid, other.uid}


async def test_what_the_runtime_has_shown_goes_before_any_name(tmp_path: Path) -> None:
    """A forged folder changes missing for a pod that was listed."""
    async with HeldNode(tmp_path) as node:
        await inventory_of(node, tmp_path).pods()
        held = node.pods[0].sandbox.metadata
        forged = PodEvent(uid=node.beside.uid, namespace=held.namespace, name=held.name)
        seen = without_runtime(inventory_of(node, tmp_path, Folders(node.pod_events, (forged,))))
        assert seen[node.beside.uid].name == node.beside.sandbox.metadata.name
        assert not seen[node.beside.uid].by_name


async def test_a_listing_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    """The pods are returned although their listing cannot be written."""
    async with HeldNode(tmp_path) as node:
        assert await inventory_of(node, tmp_path / "missing").pods()


async def test_a_disk_that_hangs_delays_no_look(tmp_path: Path) -> None:
    """One thread at a time writes the listing, and no look waits for it (P9)."""
    async with HeldNode(tmp_path) as node:
        await node.kill_agent()
        folder = tmp_path / "stuck"
        folder.mkdir()
        os.mkfifo(folder / "listing.new")  # opening it for writing waits for a reader
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        inventory = inventory_of(node, folder)
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
