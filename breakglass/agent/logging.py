# SPDX-License-Identifier: Apache-2.0
"""Log lines on stdout, for which nobody waits.

Whoever reads them may be stuck when it matters: journald writes to the same disk that a node drowns
in, and then a line more would stop the whole agent, holds included (P9).  So a thread writes them;
what it cannot take in time is dropped, and the number of lines that were is told with the next one.
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
    """What `structlog` writes to.

    Args:
        out: where the lines go.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._waiting: queue.Queue[str] = queue.Queue(MAX_LINES)
        self._dropped = 0
        threading.Thread(target=self._write, daemon=True, name="lines").start()
        atexit.register(self.flush)

    def msg(self, line: str) -> None:
        """Take a line, or drop it; at once in any case."""
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    debug = info = warning = error = critical = exception = msg

    def flush(self) -> None:
        """Wait a moment until all lines are out."""
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
            except (OSError, ValueError):  # nobody is there any more
                continue
            finally:
                self._waiting.task_done()
