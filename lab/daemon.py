# SPDX-License-Identifier: Apache-2.0
"""One program that runs until it is ended, and can be started again.

Its output goes to a file, from its first start to its last.  Only the process that was started
here is ever signalled.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

READY_S = 90.0
_END_S = 15.0
_LOOK_S = 0.02


class NeverReady(Exception):
    """Something of the lab did not come up in time; the message has the end of its log."""


class Daemon:
    """A program, from its first start to its last end.

    Args:
        command: what is run; a prefix that enters namespaces must not fork, for `pid` is signalled.
        log: the file for its output.
        environment: what it gets beside this process's own.
    """

    def __init__(
        self, command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.command = tuple(command)
        self.log = log
        self._environment = dict(environment or {})
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; a new one after every start."""
        if self._running is None:
            msg = f"expected {self.log.stem} to run, got none"
            raise ValueError(msg)
        return self._running.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._running is not None and self._running.poll() is None

    def start(self) -> None:
        """Start it; do not wait for anything."""
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | self._environment,
            )

    def end(self, number: signal.Signals = signal.SIGKILL, *, limit_s: float = _END_S) -> None:
        """Signal it and wait for its end; what has not ended in time is killed."""
        running, self._running = self._running, None
        if running is None or running.poll() is not None:
            return
        running.send_signal(number)
        try:
            running.wait(limit_s)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait(_END_S)

    def restart(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it by this signal and start it again."""
        self.end(number)
        self.start()

    def until(self, is_ready: Callable[[], bool], limit_s: float = READY_S) -> None:
        """Wait until it is ready.

        Raises:
            NeverReady: it ended, or the time is up.
        """
        end = time.monotonic() + limit_s
        while not is_ready():
            if not self.alive or time.monotonic() > end:
                msg = f"expected {self.log.stem} to be ready, got:\n{self.tail()}"
                raise NeverReady(msg)
            time.sleep(_LOOK_S)

    def tail(self, characters: int = 2000) -> str:
        """Return the end of its output."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""
