# SPDX-License-Identifier: Apache-2.0
"""The stage that all stories share: it prints acts, measures time, and ends the story.

    sys.exit(perform("demo", lambda stage: play(stage)))

`play` prints through the stage, raises `StoryFailed` at the first failed check, and returns its
figures.  `perform` prints them as the last line, with the total seconds.

Exit status 0 when every check passed, 1 when one failed, 2 when this machine cannot play the story,
for example without root rights.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

from lab import LabUnavailable
from lab.daemon import NeverReady

T = TypeVar("T")
_LOOK_S = 0.2


class StoryFailed(Exception):
    """A check of a story failed; the message says what happened."""


# `subprocess` and the lab raise these when a program failed or did not become ready; a timeout of
# the lab is an OSError.  Any other exception is a mistake in the story, and shows its traceback.
_FAILURES = (StoryFailed, AssertionError, NeverReady, OSError, subprocess.SubprocessError)


class Stage:
    """Prints a story to standard output.

    Args:
        timed: whether each line begins with the seconds since the story began.
    """

    def __init__(self, *, timed: bool = False) -> None:
        self._began = time.monotonic()
        self._timed = timed

    @property
    def elapsed_s(self) -> float:
        """Return the seconds since the story began."""
        return time.monotonic() - self._began

    def act(self, title: str) -> None:
        """Print the title of an act."""
        print(f"\n== {title}", flush=True)

    def say(self, text: str = "") -> None:
        """Print a line."""
        print(f"{self._time()}{text}", flush=True)

    def quote(self, text: str) -> None:
        """Print a program's output, indented."""
        indent = " " * (len(self._time()) or 2)
        for line in text.splitlines():
            print(f"{indent}{line}", flush=True)

    def wait_until(self, what: str, is_so: Callable[[], T], limit_s: float) -> T:
        """Call `is_so` until its answer is true; return that answer.

        Raises:
            StoryFailed: it was not true within `limit_s`.
        """
        end = time.monotonic() + limit_s
        while not (found := is_so()):
            require(time.monotonic() < end, f"timed out after {limit_s:g} s waiting for {what}")
            time.sleep(_LOOK_S)
        return found

    def _time(self) -> str:
        return f"[{self.elapsed_s:7.2f} s] " if self._timed else ""


def require(is_so: object, failure: str) -> None:
    """Raise `StoryFailed` with this message unless `is_so` is true."""
    if not is_so:
        raise StoryFailed(failure)


def perform(
    name: str,
    play: Callable[[Stage], str],
    *,
    timed: bool = False,
    failures: tuple[type[Exception], ...] = (),
) -> int:
    """Play a story, print its last line, and return the exit status.

    Args:
        name: the first word of the last line.
        play: plays the story on a stage and returns its figures.
        timed: see `Stage`.
        failures: more exceptions that count as a failed check.
    """
    os.environ.setdefault("NO_COLOR", "1")
    signal.signal(signal.SIGTERM, _end)
    stage = Stage(timed=timed)
    try:
        figures = play(stage)
    except LabUnavailable as error:
        print(f"{name} not played: {error}", file=sys.stderr)
        return 2
    except _FAILURES + failures as error:
        said = getattr(error, "stderr", None)
        what = str(error) or repr(error)
        print(f"{name} failed: {what}{f': {said}' if said else ''}", file=sys.stderr)
        return 1
    print(f"\n{name} ok: {figures}, {stage.elapsed_s:.1f} s in all")
    return 0


def _end(number: int, _: object) -> NoReturn:
    """Exit through every `finally`, so that no program that the story started keeps running."""
    raise SystemExit(128 + number)
