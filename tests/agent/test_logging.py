# SPDX-License-Identifier: Apache-2.0
"""Log lines whose reader is stuck, slow or gone: the agent goes on."""

import fcntl
import os
import select
from pathlib import Path

import pytest

from breakglass.agent.logging import MAX_LINES, LogLines

LINE = "x" * 100
PIPE_BYTES = 4096


def test_lines_come_out_in_order(tmp_path: Path) -> None:
    """All of them, by the end."""
    with (tmp_path / "out").open("w") as out:
        lines = LogLines(out)
        for number in range(100):
            lines.info(f"line {number}")
        lines.flush()
    assert (tmp_path / "out").read_text().splitlines() == [f"line {one}" for one in range(100)]


def test_a_reader_that_is_stuck_stops_nobody() -> None:
    """What does not fit is dropped and counted; when the reader goes on, so do the lines."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with os.fdopen(writer, "w") as out:
        lines = LogLines(out)
        for _ in range(MAX_LINES + 4 * PIPE_BYTES // len(LINE)):
            lines.warning(LINE)
        seen = b""
        while lines._waiting.unfinished_tasks:
            if select.select([reader], [], [], 0.01)[0]:
                seen += os.read(reader, PIPE_BYTES)
        assert seen.count(LINE.encode()) >= MAX_LINES
        lines.info("again")
        while b"again\n" not in seen:
            seen += os.read(reader, PIPE_BYTES)
        assert b"lines dropped" in seen
    os.close(reader)


@pytest.mark.parametrize("end", ["reader", "writer"])
def test_a_reader_that_is_gone_is_no_error(end: str) -> None:
    """Nor is a stdout that was closed."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as out:
        lines = LogLines(out)
        os.close(reader)
        if end == "writer":
            out.close()
        lines.error(LINE)
        lines.info(LINE)
        lines.flush()
        assert not lines._waiting.unfinished_tasks
        if not out.closed:
            with pytest.raises(BrokenPipeError):
                out.close()
