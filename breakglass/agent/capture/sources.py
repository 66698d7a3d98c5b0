# SPDX-License-Identifier: Apache-2.0
"""The parts of a capture: container states, last log lines, connections, pressure.

Every read is bounded: the folders, the bytes of a file, the lines of a log.  A log is opened
component by component below kubelet's pod logs, without following symlinks, and only if it is a
regular file.  A pod cannot write there; if it could, a symlink or a FIFO in place of a log would be
refused.  All text becomes printable ASCII in JSON values.

A part that cannot be read, or for which there is no time, is named in `cuts` and raises nothing.
This module stores nothing.  A read may hang in the kernel, so `store` runs it in threads that it
can abandon.
"""

import contextlib
import itertools
import json
import os
import re
import socket
import stat
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from breakglass.core import bounds
from breakglass.core.canonical import Json
from breakglass.core.pods import Container, Pod

_OPENED = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_MAX_CONTAINERS = 64
_MAX_FILES = 256  # in one container's log folder; kubelet keeps 5 per attempt
_MAX_LINE_CHARS = 4_096
_MAX_CAPTURED_CHARS = 256
_MAX_PIDS = 8  # tried until the connections of one can be read: a pod's processes share a network
_MAX_TABLE_BYTES = 512 * 1024  # of /proc/PID/net/tcp: about 3,400 connections
_MAX_SMALL_BYTES = 4_096
_MAX_REMOTES = 20
_CHUNK_BYTES = 64 * 1024

_CONTAINER = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_LOG = re.compile(r"(0|[1-9][0-9]{0,8})\.log", re.ASCII)
_CONNECTION = re.compile(
    rb"\s*\d+: [0-9A-F]+:[0-9A-F]{4} ([0-9A-F]{8}|[0-9A-F]{32}):[0-9A-F]{4} ([0-9A-F]{2}) "
)
_IPV4_CHARS = 8
_STATES = (  # by number from 1, as in include/net/tcp_states.h
    *("ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT"),
    *("CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV"),
)
_PRINTABLE = bytes(
    one if chr(one).isascii() and chr(one).isprintable() else ord("?") for one in range(256)
)


def printable(raw: bytes | str, max_chars: int = _MAX_CAPTURED_CHARS) -> str:
    """Return text as printable ASCII; a tab becomes a space, any other character "?"."""
    if isinstance(raw, str):
        raw = raw[: max_chars + 1].encode("utf-8", "replace")
    text = raw.replace(b"\t", b" ").translate(_PRINTABLE).decode("ascii")
    return text if len(text) <= max_chars else f"{text[: max_chars - 3]}..."


def render(document: dict[str, Json]) -> bytes:
    """Return a document's bytes as they are stored."""
    return json.dumps(document, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the parts of a capture are read, and until when.

    Attributes:
        pod_logs: kubelet's podLogsDir.
        proc: where proc(5) is mounted.
        late: returns whether the time for reading is over.
    """

    pod_logs: Path
    proc: Path
    late: Callable[[], bool]

    def document(
        self, pod: Pod, *, pids: tuple[int, ...], group: Path | None
    ) -> tuple[dict[str, Json], list[str]]:
        """Return the parts of a pod's capture, and a note for each part that was cut.

        The cheapest part is read first.  Log lines are added while the document stays below
        `bounds.CAPTURE_MAX_BYTES`, with 4 KiB to spare.
        """
        cuts: list[str] = []
        if len(pod.containers) > _MAX_CONTAINERS:
            cuts.append(f"only {_MAX_CONTAINERS} of {len(pod.containers)} containers")
        document: dict[str, Json] = {
            "pod": {
                "namespace": printable(pod.namespace),
                "name": printable(pod.name),
                "uid": printable(pod.uid),
                "sandbox": printable(pod.sandbox_id),
            },
            "containers": [_state(one) for one in pod.containers[:_MAX_CONTAINERS]],
            "pressure": self._pressure(group),
            "connections": self._connections(pids, cuts),
        }
        used = len(render(document)) + _MAX_SMALL_BYTES
        document["logs"] = self._logs(pod, bounds.CAPTURE_MAX_BYTES - used, cuts)
        return document, cuts

    def _pressure(self, group: Path | None) -> Json:
        """Return the pressure of the pod's group if the kernel counts it, else of the node."""
        found: dict[str, Json] = {"load": self._small(self.proc / "loadavg")}
        own = {one: self._small(group / f"{one}.pressure") for one in _PRESSURES} if group else {}
        if any(own.values()):
            return found | {"of": "pod"} | own
        node = {one: self._small(self.proc / "pressure" / one) for one in _PRESSURES}
        return found | {"of": "node"} | node

    def _small(self, path: Path) -> str | None:
        try:
            raw = b"".join(self._chunks(path, _MAX_SMALL_BYTES))
        except OSError:
            return None
        return printable(raw.strip().replace(b"\n", b"; "), _MAX_SMALL_BYTES)

    def _connections(self, pids: Iterable[int], cuts: list[str]) -> Json:
        """Count a pod's connections by remote address and state, the most frequent first."""
        if self.late():
            cuts.append("no time for connections")
            return None
        for pid in itertools.islice(pids, _MAX_PIDS):
            counted: Counter[tuple[str, str]] = Counter()
            try:
                counted.update(self._table(pid, "tcp", cuts))
            except OSError:
                continue
            with contextlib.suppress(OSError):  # a node may have no IPv6
                counted.update(self._table(pid, "tcp6", cuts))
            most: list[Json] = [
                {"remote": remote, "state": state, "count": count}
                for (remote, state), count in sorted(counted.items(), key=_most_first)
            ]
            return {
                "of_node": self._shares_network(pid),
                "total": counted.total(),
                "remotes": len(most),
                "most": most[:_MAX_REMOTES],
            }
        cuts.append("connections: no process could be read")
        return None

    def _table(self, pid: int, table: str, cuts: list[str]) -> Iterator[tuple[str, str]]:
        path = self.proc / str(pid) / "net" / table
        raw = b"".join(self._chunks(path, _MAX_TABLE_BYTES))
        if len(raw) >= _MAX_TABLE_BYTES or self.late():
            cuts.append(f"connections: only the first {len(raw)} bytes of {table}")
            raw = raw[: raw.rfind(b"\n") + 1]
        return remotes(raw)

    def _shares_network(self, pid: int) -> bool | None:
        """Return whether a process is in our network namespace; None when that is unknown.

        /proc/PID/ns/net needs a capability that the unit does not give.  The table of connections
        belongs to a network namespace, and the kernel gives it one inode in each.
        """
        try:
            ours, its = ((self.proc / one / "net" / "tcp").stat() for one in ("self", str(pid)))
        except OSError:
            return None
        return os.path.samestat(ours, its)

    def _chunks(self, path: Path, max_bytes: int) -> Iterator[bytes]:
        handle = os.open(path, _OPENED)
        try:
            left = max_bytes
            while left and (raw := os.read(handle, min(left, _CHUNK_BYTES))):
                left -= len(raw)
                yield raw
                if self.late():
                    return
        finally:
            os.close(handle)

    def _logs(self, pod: Pod, budget: int, cuts: list[str]) -> Json:
        """Return the last lines of each container with a folder among the pod's logs."""
        name = f"{pod.namespace}_{pod.name}_{pod.uid}"
        if "/" in name or "\0" in name:
            cuts.append("logs: no folder can have this pod's name")
            return {}
        logs: dict[str, Json] = {}
        try:
            with _folder(os.open(self.pod_logs / name, _OPENED | os.O_DIRECTORY)) as folder:
                every = (one for one in _names(folder, _MAX_FILES) if _CONTAINER.fullmatch(one))
                names = sorted(every)[:_MAX_CONTAINERS]
                for place, container in enumerate(names):
                    if self.late():
                        cuts.append(f"no time for the log of {container}")
                        continue
                    tail = _tail(folder, container, budget // (len(names) - place), cuts)
                    logs[container] = list[Json](tail)
                    budget -= len(render({container: logs[container]}))
        except OSError as error:
            cuts.append(f"logs: {_why(error)}")
        return logs


_PRESSURES = ("cpu", "io", "memory")


def _state(container: Container) -> Json:
    return {
        "name": printable(container.name),
        "id": printable(container.id),
        "state": container.state.value,
        "attempt": container.attempt,
        "image": printable(container.image),
        "created_ns": container.created_ns,
    }


def remotes(table: bytes) -> Iterator[tuple[str, str]]:
    """Yield remote address and state of each connection in a table of /proc/net/tcp or tcp6."""
    for line in table.splitlines():
        if match := _CONNECTION.match(line):
            state = int(match[2], 16) - 1
            yield _address(match[1]), _STATES[state] if state in range(len(_STATES)) else "UNKNOWN"


def _address(digits: bytes) -> str:
    """Return the address in digits that the kernel prints as words in the machine's byte order."""
    words = [int(digits[place : place + 8], 16) for place in range(0, len(digits), 8)]
    raw = struct.pack(f"={len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(digits) == _IPV4_CHARS else socket.AF_INET6, raw)


def _most_first(counted: tuple[tuple[str, str], int]) -> tuple[int, tuple[str, str]]:
    return -counted[1], counted[0]


@contextlib.contextmanager
def _folder(handle: int) -> Iterator[int]:
    try:
        yield handle
    finally:
        os.close(handle)


def _names(folder: int, most: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in itertools.islice(entries, most)]


def _tail(pod_folder: int, container: str, budget: int, cuts: list[str]) -> list[str]:
    """Return the last lines of a container's two newest logs that fit a budget, oldest first."""
    lines: list[str] = []
    try:
        opened = os.open(container, _OPENED | os.O_DIRECTORY, dir_fd=pod_folder)
        with _folder(opened) as folder:
            matches = [_LOG.fullmatch(name) for name in _names(folder, _MAX_FILES)]
            attempts = sorted((int(one[1]) for one in matches if one), reverse=True)
            for attempt in attempts[:2]:
                if len(lines) == bounds.CAPTURE_LOG_LINES:
                    break
                more, budget = _last_lines(
                    _tail_of(folder, f"{attempt}.log"),
                    most=bounds.CAPTURE_LOG_LINES - len(lines),
                    budget=budget,
                )
                lines = more + lines
    except OSError as error:
        cuts.append(f"log of {container}: {_why(error)}")
    if budget < 0:
        cuts.append(f"log of {container}: only its last {len(lines)} lines fit")
    return lines


def _tail_of(folder: int, name: str) -> bytes:
    """Return the last bytes of a regular file, beginning with a whole line.

    Raises:
        OSError: the file cannot be read, or is not a regular file.
    """
    if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        raise OSError("not a regular file")
    with _folder(os.open(name, _OPENED, dir_fd=folder)) as handle:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError("not a regular file")
        begin = max(0, found.st_size - bounds.CAPTURE_MAX_BYTES)
        raw = os.pread(handle, bounds.CAPTURE_MAX_BYTES, begin)
    _, newline, whole = raw.partition(b"\n")
    return whole if begin and newline and whole else raw


def _last_lines(raw: bytes, *, most: int, budget: int) -> tuple[list[str], int]:
    """Return the last lines that fit and the rest of the budget, negative if one did not fit."""
    lines: list[str] = []
    newest_first = reversed(raw.rsplit(b"\n", most + 1))
    for line in itertools.islice((one for one in newest_first if one), most):
        text = printable(line, _MAX_LINE_CHARS)
        cost = len(json.dumps(text)) + 1
        if cost > budget:
            return lines[::-1], -1
        budget -= cost
        lines.append(text)
    return lines[::-1], budget


def _why(error: OSError) -> str:
    return printable(error.strerror or str(error))
