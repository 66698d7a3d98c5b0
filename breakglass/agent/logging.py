# SPDX-License-Identifier: Apache-2.0
"""Log lines on stdout that never block the agent.

The reader of stdout may be stuck: journald writes to the same disk that an overloaded node waits
for, and one more line would then block the whole agent, holds included (P9).  So a thread writes
the lines.  What does not fit its queue is dropped, and the next line reports how many.
"""

import atexit
import queue
import threading
import time
from typing import TextIO

MAX_LINES = 1_000
_AT_THE_END_S = 1.0
_FLUSH_POLL_S = 0.005


class LogLines:
    """The logger that structlog writes to.

    Args:
        out: the stream to write to.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._waiting: queue.Queue[str] = queue.Queue(MAX_LINES)
        self._dropped = 0
        threading.Thread(target=self._write, daemon=True, name="lines").start()
        atexit.register(self.flush)

    def msg(self, line: str) -> None:
        """Queue a line, or drop it when the queue is full; never block."""
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    debug = info = warning = error = critical = exception = msg

    def flush(self) -> None:
        """Wait up to a second until all lines are written."""
        end = time.monotonic() + _AT_THE_END_S
        while self._waiting.unfinished_tasks and time.monotonic() < end:
            time.sleep(_FLUSH_POLL_S)

    def _write(self) -> None:
        while True:
            line = self._waiting.get()
            dropped, self._dropped = self._dropped, 0
            more = f'{{"event": "lines dropped", "count": {dropped}}}\n' if dropped else ""
            try:
                self._out.write(f"{more}{line}\n")
                self._out.flush()
            except (OSError, ValueError):  # the reader or the stream is closed
                continue
            finally:
                self._waiting.task_done()
