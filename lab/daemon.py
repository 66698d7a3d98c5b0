# SPDX-License-Identifier: Apache-2.0
"""Run one program in the background, end it, and start it again.

All of its output, over all starts, goes to one file.  Only the process that was started here gets
a signal.
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
    """A program did not become ready in time; the message has the end of its log."""


class Daemon:
    """A program that can be started and ended several times.

    Args:
        command: the command line; a prefix that enters namespaces must not fork, because signals
            go to `pid`.
        log: the file for its output.
        environment: variables to add to those of this process.
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
        """The process id, which changes with every start."""
        if self._running is None:
            msg = f"{self.log.stem} is not running"
            raise ValueError(msg)
        return self._running.pid

    @property
    def alive(self) -> bool:
        """Whether it is running."""
        return self._running is not None and self._running.poll() is None

    def start(self) -> None:
        """Start it, without waiting until it is ready."""
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
        """Signal it and wait until it ends; after `limit_s` kill it."""
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
        """End it with this signal and start it again."""
        self.end(number)
        self.start()

    def until(self, is_ready: Callable[[], bool], limit_s: float = READY_S) -> None:
        """Wait until `is_ready` returns true.

        Raises:
            NeverReady: the program ended, or `limit_s` has passed.
        """
        end = time.monotonic() + limit_s
        while not is_ready():
            if not self.alive or time.monotonic() > end:
                msg = f"{self.log.stem} did not become ready; the end of its log:\n{self.tail()}"
                raise NeverReady(msg)
            time.sleep(_LOOK_S)

    def tail(self, characters: int = 2000) -> str:
        """Return the last characters of its output."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""
