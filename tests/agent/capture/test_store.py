# SPDX-License-Identifier: Apache-2.0
"""Captures before a kill: what is kept, what is refused, and that no kill waits beyond 250 ms."""

import asyncio
import hashlib
import json
import os
import resource
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from breakglass.agent.capture.port import Capture
from breakglass.agent.capture.sources import Sources, printable
from breakglass.agent.capture.store import CaptureStore
from breakglass.agent.clock import SystemClock
from breakglass.core import bounds
from breakglass.core.pods import Container, ContainerState, Pod
from breakglass.sim.clock import VirtualClock
from tests.support.sim_runtime import VirtualAgentClock

UID = "12345678-1234-4123-8123-123456789abc"
COMMAND = "019abcde-0000-7000-8000-000000000001"
POD = Pod(
    uid=UID,
    name="telemetry-x2b4z",
    namespace="observability",
    sandbox_id="5" * 64,
    containers=(
        Container(id="a" * 64, name="agent", state=ContainerState.RUNNING, image="img\n\u00e9"),
        Container(id="b" * 64, name="side", state=ContainerState.EXITED, attempt=3),
    ),
)
PATIENCE_S = 60.0
TIMEOUT_S = bounds.CAPTURE_TIMEOUT_S


class Node:
    """A folder of pod logs, a /proc, and a store of captures."""

    def __init__(self, root: Path) -> None:
        self.logs = root / "pods"
        self.own = self.logs / f"{POD.namespace}_{POD.name}_{POD.uid}"
        self.own.mkdir(parents=True)
        self.directory = root / "state" / "evidence"
        self.clock = SystemClock()
        self.store = CaptureStore(self.directory, pod_logs=self.logs, clock=self.clock)

    def logged(self, container: str, lines: int, *, attempt: int = 0) -> None:
        """Write lines to a container's log."""
        (self.own / container).mkdir(exist_ok=True)
        text = "".join(f"{attempt}: line {number}\n" for number in range(lines))
        (self.own / container / f"{attempt}.log").write_text(text)

    async def captures(
        self,
        pod: Pod = POD,
        *,
        command_id: str = COMMAND,
        pids: tuple[int, ...] = (),
        group: Path | None = None,
    ) -> Capture:
        """Capture the pod; check that the caller waited no longer than the timeout."""
        async with asyncio.timeout(2 * PATIENCE_S):
            return await self.store.capture(pod, command_id=command_id, pids=pids, group=group)

    def kept(self, uid: str = UID) -> dict[str, Any]:
        """Return the document in a pod's stored file."""
        document: dict[str, Any] = json.loads(self.path(uid).read_bytes())
        return document

    def path(self, uid: str = UID) -> Path:
        """Return the path of a pod's stored file."""
        return self.directory / COMMAND / f"{uid}.json"

    def files(self) -> list[str]:
        """Return the names of all files in the store."""
        return sorted(one.name for one in self.directory.glob("*/*"))


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give captures all the time they need, except in tests of the timeout."""
    monkeypatch.setattr(bounds, "CAPTURE_TIMEOUT_S", PATIENCE_S)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Return a node with one pod."""
    return Node(tmp_path)


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


async def test_pressure_is_the_pods_own_where_the_kernel_counts_it(
    node: Node, tmp_path: Path
) -> None:
    """The pod's group is read first, the node's files only if the group has no figures."""
    (tmp_path / "cpu.pressure").write_text("some avg10=1.00\nfull avg10=0.50\n")
    await node.captures(group=tmp_path)
    pressure = node.kept()["pressure"]
    assert (pressure["of"], pressure["cpu"]) == ("pod", "some avg10=1.00; full avg10=0.50")
    assert pressure["io"] is None


async def test_connections_are_counted_and_the_most_come_first(node: Node, tmp_path: Path) -> None:
    """Lines that are no connection are skipped; at most twenty rows are kept."""
    proc = tmp_path / "proc" / "7" / "net"
    proc.mkdir(parents=True)
    line = "   0: 0100007F:0CEA {}:01BB {} 00000000:00000000 00:00000000 00000000     0        0 1"
    rows = [line.format("0A00000A", "01")] * 5 + [line.format(f"{n:08X}", "02") for n in range(30)]
    table = ["  sl  local_address rem_address   st", "nonsense", *rows, line.format("0" * 8, "FF")]
    (proc / "tcp").write_text("\n".join(table) + "\n")
    store = CaptureStore(
        node.directory, pod_logs=node.logs, clock=node.clock, proc=tmp_path / "proc"
    )
    captured = await store.capture(POD, command_id=COMMAND, pids=(6, 7), group=None)
    assert captured.note == ""
    connections = node.kept()["connections"]
    assert connections["most"][0] == {"remote": "10.0.0.10", "state": "ESTABLISHED", "count": 5}
    assert (connections["total"], connections["remotes"]) == (36, 32)
    assert len(connections["most"]) == 20
    assert connections["of_node"] is None


async def test_ipv6_addresses_are_written_in_the_usual_form(node: Node, tmp_path: Path) -> None:
    """The kernel prints four words in machine order; of a cut table only whole lines count."""
    proc = tmp_path / "proc" / "7" / "net"
    proc.mkdir(parents=True)
    (proc / "tcp").write_text("")
    digits = "B80D0120" + "0" * 16 + "01000000"
    line = f"   0: {'0' * 32}:0CEA {digits}:01BB 01 00000000:00000000\n"
    (proc / "tcp6").write_text(line * 6_000)
    store = CaptureStore(
        node.directory, pod_logs=node.logs, clock=node.clock, proc=tmp_path / "proc"
    )
    captured = await store.capture(POD, command_id=COMMAND, pids=(7,), group=None)
    assert "only the first" in captured.note
    (only,) = node.kept()["connections"]["most"]
    assert (only["remote"], only["state"]) == ("2001:db8::1", "ESTABLISHED")
    assert only["count"] == 512 * 1024 // len(line)


async def test_the_last_lines_of_the_two_newest_attempts_are_kept(node: Node) -> None:
    """A container that was just restarted has lines of the attempt before in its capture."""
    node.logged("agent", 500, attempt=9)
    node.logged("agent", 150, attempt=10)
    node.logged("agent", 9, attempt=2)
    await node.captures()
    lines = node.kept()["logs"]["agent"]
    assert len(lines) == bounds.CAPTURE_LOG_LINES
    assert (lines[0], lines[49], lines[50], lines[-1]) == (
        "9: line 450",
        "9: line 499",
        "10: line 0",
        "10: line 149",
    )


async def test_of_a_huge_log_only_the_end_is_read(node: Node) -> None:
    """Of a sparse log of a gigabyte, only the last part is read."""
    node.logged("agent", 0)
    with (node.own / "agent" / "0.log").open("r+b") as log:
        log.seek(1 << 30)
        log.write(b"\nlast\twords \xc3\xa9\x1b[31m\n")
    captured = await node.captures()
    assert captured.size <= bounds.CAPTURE_MAX_BYTES
    assert node.kept()["logs"]["agent"][-1] == "last words ???[31m"


async def test_all_containers_share_the_bytes_that_there_are(node: Node) -> None:
    """With long lines that double in JSON, every container keeps its newest lines."""
    for number in range(30):
        (node.own / f"c{number}").mkdir()
        text = "".join(f"{line:03}" + '"' * 6_000 + "\n" for line in range(40))
        (node.own / f"c{number}" / "0.log").write_text(text)
    captured = await node.captures()
    assert bounds.CAPTURE_MAX_BYTES // 2 < captured.size <= bounds.CAPTURE_MAX_BYTES
    assert "only its last" in captured.note
    logs = node.kept()["logs"]
    assert len(logs) == 30
    assert all(lines[-1].startswith("039") for lines in logs.values())
    assert len(captured.note) <= 256


@pytest.mark.parametrize("kind", ["fifo", "link", "folder", "socket"])
async def test_only_regular_files_are_logs(
    node: Node, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FIFO without a writer does not hang it and a symlink is refused; other logs are kept."""
    node.logged("side", 1)
    (node.own / "agent").mkdir()
    log = node.own / "agent" / "0.log"
    (tmp_path / "secret").write_text("secret\n")
    match kind:
        case "fifo":
            os.mkfifo(log)
        case "link":
            log.symlink_to(tmp_path / "secret")
        case "folder":
            log.mkdir()
        case _:
            monkeypatch.chdir(log.parent)  # a socket's path has at most 108 bytes
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(log.name)
    captured = await node.captures()
    assert "log of agent: not a regular file" in captured.note
    assert node.kept()["logs"] == {"agent": [], "side": ["0: line 0"]}


async def test_links_in_place_of_folders_are_not_followed(node: Node, tmp_path: Path) -> None:
    """The pod's folder and a container's may be no symlink; other names are left out."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "agent").mkdir(parents=True)
    (elsewhere / "agent" / "0.log").write_text("secret\n")
    (node.own / "agent").symlink_to(elsewhere / "agent")
    (node.own / "..x").mkdir()
    captured = await node.captures()
    assert captured.note.startswith("connections: no process could be read; log of agent: ")
    assert node.kept()["logs"] == {"agent": []}
    (node.own / "agent").unlink()
    (node.own / "..x").rmdir()
    node.own.rmdir()
    node.own.symlink_to(elsewhere)
    captured = await node.captures(command_id="2")
    assert "secret" not in (node.directory / "2" / f"{UID}.json").read_text()
    assert "logs: " in captured.note


@pytest.mark.parametrize(
    ("pod", "note"),
    [
        (Pod(uid="u", name="../x", namespace="a", sandbox_id=""), "no folder can have this pod's"),
        (Pod(uid="u", name="a\0b", namespace="a", sandbox_id=""), "no folder can have this pod's"),
        (Pod(uid="u", name="gone", namespace="a", sandbox_id=""), "No such file"),
        (Pod(uid="u", name="n" * 300, namespace="a", sandbox_id=""), "File name too long"),
    ],
)
async def test_a_pod_without_a_log_folder_keeps_the_rest(node: Node, pod: Pod, note: str) -> None:
    """A pod's name that is no folder's name costs the logs and nothing else."""
    captured = await node.captures(pod)
    assert note in captured.note
    assert node.kept("u")["logs"] == {}


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


async def test_parts_without_time_are_named(node: Node) -> None:
    """Without any time the states are kept, and the note names each missing part."""
    node.logged("agent", 1)
    sources = Sources(pod_logs=node.logs, proc=Path("/proc"), late=lambda: True)
    document, cuts = sources.document(POD, pids=(os.getpid(),), group=None)
    assert cuts == ["no time for connections", "no time for the log of agent"]
    assert document["logs"] == {}
    assert document["connections"] is None


async def test_a_pod_of_very_many_containers_is_cut(node: Node) -> None:
    """A thousand containers with every text at its longest still fit."""
    name = '"' * 1_000
    many = tuple(
        Container(id=name, name=name, state=ContainerState.RUNNING, image=name)
        for _ in range(1_000)
    )
    captured = await node.captures(replace(POD, containers=many))
    assert captured.note.startswith("only 64 of 1000 containers")
    assert len(node.kept()["containers"]) == 64
    assert captured.size <= bounds.CAPTURE_MAX_BYTES


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


def test_text_is_made_printable_and_short() -> None:
    """Control characters, escapes and non-ASCII letters become "?"."""
    assert printable("a\tb\x1b[0m\n\x7f") == "a b?[0m??"
    assert printable(b"\xff\x00~") == "??~"
    assert printable("\ud800\U0001f600") == "?????"
    assert printable("x" * 1_000_000, 10) == "xxxxxxx..."
