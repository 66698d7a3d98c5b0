# SPDX-License-Identifier: Apache-2.0
"""What a capture reads of a pod: pressure, connections and log lines, all bounded."""

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from breakglass.agent.capture.sources import Sources, printable
from breakglass.agent.capture.store import CaptureStore
from breakglass.core import bounds
from breakglass.core.pods import Container, ContainerState, Pod
from tests.support.captured_node import COMMAND, POD, UID, Node


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


def test_text_is_made_printable_and_short() -> None:
    """Control characters, escapes and non-ASCII letters become "?"."""
    assert printable("a\tb\x1b[0m\n\x7f") == "a b?[0m??"
    assert printable(b"\xff\x00~") == "??~"
    assert printable("\ud800\U0001f600") == "?????"
    assert printable("x" * 1_000_000, 10) == "xxxxxxx..."
