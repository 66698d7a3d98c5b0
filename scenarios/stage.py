# SPDX-License-Identifier: Apache-2.0
"""The stage that all stories share: how one prints its acts, measures, sums up, and ends.

    sys.exit(perform("demo", lambda stage: play(stage)))

`play` prints by the stage, raises `StoryFailed` at the first thing that is not as it should be, and
returns its figures; they become the last line, with the seconds that all took.

Exit status 0 when everything was as it should be, 1 when something was not, 2 where the story
cannot be played, such as without root.
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
    """Something was not as it should be; the message says what was expected and what was got."""


# `subprocess` and the lab raise these where a program failed or did not get ready; a timeout of
# the lab is an OSError.  Everything else is a mistake in the story, and shows its traceback.
_FAILURES = (StoryFailed, AssertionError, NeverReady, OSError, subprocess.SubprocessError)


class Stage:
    """Where a story is told, on standard output.

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
        """Begin an act."""
        print(f"\n== {title}", flush=True)

    def say(self, text: str = "") -> None:
        """Print a line."""
        print(f"{self._time()}{text}", flush=True)

    def quote(self, text: str) -> None:
        """Print what a program said, indented."""
        indent = " " * (len(self._time()) or 2)
        for line in text.splitlines():
            print(f"{indent}{line}", flush=True)

    def wait_until(self, what: str, is_so: Callable[[], T], limit_s: float) -> T:
        """Ask again until the answer is true; return it.

        Raises:
            StoryFailed: it was not within `limit_s`.
        """
        end = time.monotonic() + limit_s
        while not (found := is_so()):
            require(time.monotonic() < end, f"expected {what} within {limit_s:g} s, got none")
            time.sleep(_LOOK_S)
        return found

    def _time(self) -> str:
        return f"[{self.elapsed_s:7.2f} s] " if self._timed else ""


def require(is_so: object, failure: str) -> None:
    """Raise `StoryFailed` with this message unless something is so."""
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
        name: what the last line begins with.
        play: plays it on a stage and returns its figures.
        timed: see `Stage`.
        failures: more exceptions by which it says that something was not as it should be.
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
    """Leave through every `finally`: a program that stays behind would go on for ever."""
    raise SystemExit(128 + number)
