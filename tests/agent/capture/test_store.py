# SPDX-License-Identifier: Apache-2.0
"""Captures before a kill: what is kept, what is refused, and that no kill waits beyond 250 ms."""

import asyncio
import hashlib
import os
import resource
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from breakglass.agent.capture.sources import Sources
from breakglass.agent.capture.store import CaptureStore
from breakglass.core import bounds
from breakglass.core.pods import Pod
from breakglass.sim.clock import VirtualClock
from tests.support.captured_node import COMMAND, PATIENCE_S, POD, UID, Node
from tests.support.sim_runtime import VirtualAgentClock

TIMEOUT_S = bounds.CAPTURE_TIMEOUT_S


class Hang:
    """Makes all reading hang between `began` and `ended`, with the real timeout."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.began, self.ended = threading.Event(), threading.Event()
        self._patch = patch
        patch.setattr(bounds, "CAPTURE_TIMEOUT_S", TIMEOUT_S)

    def end(self) -> None:
        """Let reading go on, with all the time that captures need."""
        self._patch.setattr(bounds, "CAPTURE_TIMEOUT_S", PATIENCE_S)
        self.ended.set()


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hang]:
    """Make all reading hang until the test ends the hang, or ends itself."""
    hang, whole = Hang(monkeypatch), Sources.document

    def document(self: Sources, pod: Pod, **rest: Any) -> Any:  # noqa: ANN401 - passed on unchanged
        hang.began.set()
        hang.ended.wait(PATIENCE_S)
        return whole(self, pod, **rest)

    monkeypatch.setattr(Sources, "document", document)
    yield hang
    hang.ended.set()


async def until_free(node: Node) -> None:
    """Return when no thread of the store runs."""
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(4):
            await node.store._free.acquire()
    for _ in range(4):
        node.store._free.release()


async def test_a_capture_is_stored_with_the_hash_that_is_returned(node: Node) -> None:
    """States, logs, pressure and connections go to a private file, whose hash is returned."""
    node.logged("agent", 3)
    node.logged("side", 2, attempt=3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        remote = socket.create_connection(server.getsockname())
        with remote:
            captured = await node.captures(pids=(2**22 + 1, os.getpid()))
    raw = node.path().read_bytes()
    assert captured.sha256 == hashlib.sha256(raw).hexdigest()
    assert (captured.size, captured.note) == (len(raw), "")
    assert stat.S_IMODE(node.path().stat().st_mode) == 0o600
    assert stat.S_IMODE(node.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(node.path().parent.stat().st_mode) == 0o700
    kept = node.kept()
    assert kept["command"] == COMMAND
    assert kept["pod"]["uid"] == UID
    assert [one["state"] for one in kept["containers"]] == ["running", "exited"]
    assert kept["containers"][0]["image"] == "img???"
    assert kept["logs"]["agent"] == [f"0: line {number}" for number in range(3)]
    assert kept["logs"]["side"] == ["3: line 0", "3: line 1"]
    assert kept["connections"]["of_node"] is True
    seen = {(one["remote"], one["state"]) for one in kept["connections"]["most"]}
    assert ("127.0.0.1", "ESTABLISHED") in seen
    assert kept["pressure"]["of"] == "node"
    assert len(kept["pressure"]["load"].split()) == 5


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "a\n", "\u00e9", "x" * 129])
async def test_a_name_that_leads_out_of_the_store_keeps_nothing(node: Node, name: str) -> None:
    """A UID or command id of another form is never made into a path."""
    pod = Pod(uid=name, name="a", namespace="a", sandbox_id="")
    for captured in (await node.captures(pod), await node.captures(command_id=name)):
        assert (captured.sha256, captured.size) == ("", 0)
        assert captured.note == "not kept: its command id or pod UID is not a valid file name"
    assert not node.directory.exists()


async def test_what_was_read_before_the_kill_is_not_overwritten(node: Node) -> None:
    """A command that is resumed after a restart finds the capture of its first try."""
    node.logged("agent", 1)
    first = await node.captures()
    node.logged("agent", 2)
    again = await node.captures()
    assert (again.sha256, again.size) == (first.sha256, first.size)
    assert again.note == "kept by an earlier try of this command"
    assert node.kept()["logs"]["agent"] == ["0: line 0"]


async def test_a_full_store_keeps_nothing_more_and_says_so(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes count in whole blocks, also after a restart; files of crashed captures are removed."""
    monkeypatch.setattr(bounds, "CAPTURE_STORE_BYTES", 3 * 4096)
    await node.captures()
    (node.path().parent / ".x.0.new").write_bytes(bytes(4096))
    (node.path().parent / "other.json").write_bytes(bytes(4097))
    node.store = CaptureStore(node.directory, pod_logs=node.logs, clock=node.clock)
    node.store.measure()
    captured = await node.captures(command_id="2")
    assert (captured.sha256, captured.size) == ("", 0)
    assert captured.note == "not kept: the store is full at 12288 bytes"
    assert node.files() == [f"{UID}.json", "other.json"]


async def test_the_end_of_the_disk_is_left_to_the_log(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With less free space than the log may need, no capture is kept."""
    monkeypatch.setattr(bounds, "CAPTURE_DISK_LEFT_BYTES", 1 << 62)
    captured = await node.captures()
    assert captured.note == "not kept: the rest of the disk is reserved for the log"
    assert node.files() == []


async def test_a_store_that_cannot_be_written_is_only_noted(node: Node) -> None:
    """With a file in the store's place, the note says why; the caller gets no error."""
    node.directory.parent.mkdir()
    node.directory.touch()
    captured = await node.captures()
    assert captured.sha256 == ""
    assert captured.note.startswith("not kept: ")


async def test_a_write_that_fails_halfway_leaves_nothing(node: Node) -> None:
    """A file beyond the size limit leaves nothing, and its space is not counted."""
    node.logged("agent", 300)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        captured = await node.captures()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert captured.sha256 == ""
    assert captured.note.startswith("not kept: OSError: ")
    assert node.files() == []
    assert node.store._files._used_bytes == 0


async def test_a_document_that_is_too_large_is_not_kept(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size is checked again on the rendered bytes."""
    monkeypatch.setattr(bounds, "CAPTURE_MAX_BYTES", 100)
    captured = await node.captures()
    assert (captured.sha256, captured.size) == ("", 0)
    assert captured.note.endswith("bytes, more than 100")
    assert not node.directory.exists()


async def test_without_a_thread_there_is_no_capture(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the unit's task limit the caller goes on at once, and the thread's place is free again."""

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refused)
        captured = await node.captures()
    assert captured.note == "skipped: no thread could be started"
    await until_free(node)
    assert (await node.captures()).sha256


async def test_an_unexpected_error_is_only_noted(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No error of a capture may stop the kill."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by z\u00e9ro")

    monkeypatch.setattr(Sources, "document", broken)
    captured = await node.captures()
    assert captured.note == "not kept: ZeroDivisionError: by z??ro"
    await until_free(node)


async def test_thirty_pods_at_once_are_all_kept(node: Node) -> None:
    """With fewer threads than pods, captures wait for a free thread."""
    node.logged("agent", 300)
    async with asyncio.TaskGroup() as tasks:
        captures = [
            tasks.create_task(node.captures(command_id=f"c{number}")) for number in range(30)
        ]
    assert all(one.result().sha256 for one in captures)
    assert len(node.files()) == 30


async def test_a_capture_that_hangs_is_abandoned(node: Node, hung: Hang) -> None:
    """The caller goes on at the timeout; the thread later removes its file."""
    captured = await node.captures()
    assert (captured.sha256, captured.size) == ("", 0)
    assert captured.note == "skipped: hung for 250 ms"
    assert captured.ms >= TIMEOUT_S * 1_000
    hung.end()
    await until_free(node)
    assert node.files() == []
    assert node.store._hanging == 0
    assert (await node.captures()).sha256


async def test_when_every_thread_hangs_the_next_are_skipped_at_once(node: Node, hung: Hang) -> None:
    """Of six, four hang and two get no thread; later captures are skipped until one ends."""
    async with asyncio.TaskGroup() as tasks:
        captures = [
            tasks.create_task(node.captures(command_id=f"c{number}")) for number in range(6)
        ]
    notes = [one.result().note for one in captures]
    assert notes.count("skipped: hung for 250 ms") == 4
    assert notes.count("skipped: no thread was free for 250 ms") == 2
    captured = await node.captures()
    assert (captured.note, captured.ms) == ("skipped: earlier captures still hang", 0)
    hung.end()
    await until_free(node)
    assert node.files() == []
    assert (await node.captures()).sha256


async def test_a_caller_that_is_cancelled_leaves_nothing(node: Node, hung: Hang) -> None:
    """The cancelled capture's thread removes its file and frees its place."""
    capture = asyncio.create_task(node.captures())
    await asyncio.to_thread(hung.began.wait, PATIENCE_S)
    capture.cancel()
    with pytest.raises(asyncio.CancelledError):
        await capture
    hung.end()
    await until_free(node)
    assert node.files() == []
    assert node.store._hanging == 0


async def test_a_capture_that_just_beat_its_timeout_is_waited_for(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the timeout the file exists and its hash is on the way: that hash is returned."""
    virtual = VirtualClock()
    clock = VirtualAgentClock(virtual)
    store = CaptureStore(node.directory, pod_logs=node.logs, clock=clock)
    loop, queued = asyncio.get_running_loop(), threading.Event()
    calls: list[Callable[[], object]] = []

    def later(call: Callable[..., object], *arguments: object) -> None:
        calls.append(lambda: call(*arguments))
        queued.set()

    with monkeypatch.context() as patched:
        patched.setattr(loop, "call_soon_threadsafe", later)
        capture = asyncio.create_task(store.capture(POD, command_id=COMMAND, pids=(), group=None))
        await virtual.advance(0)
        assert queued.wait(PATIENCE_S)
        await virtual.advance(2 * PATIENCE_S)
    assert not capture.done()
    calls[0]()
    captured = await virtual.until(capture)
    assert captured.sha256 == hashlib.sha256(node.path().read_bytes()).hexdigest()
