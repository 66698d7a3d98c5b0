# SPDX-License-Identifier: Apache-2.0
"""The simulated worlds of the running test: when it fails, pytest prints their state and logs.

A world registers a function that describes it, or leaves its description behind when an exception
ends it.  `tests/conftest.py` prints both below the failure and forgets them after the test.
"""

from collections.abc import Callable, Iterable

MAX_LINES = 200
_describe: list[tuple[str, Callable[[], Iterable[str]]]] = []
_left: list[tuple[str, str]] = []


def register(name: str, describe: Callable[[], Iterable[str]]) -> None:
    """Have a world described, by `describe`, if the running test fails."""
    _describe.append((name, describe))


def leave(name: str, lines: Iterable[str]) -> None:
    """Keep the description of a world that an exception ends."""
    _left.append((name, _bounded(lines)))


def sections() -> list[tuple[str, str]]:
    """Return the title and the text of each world of the running test."""
    return [*_left, *((name, _bounded(describe())) for name, describe in _describe)]


def forget() -> None:
    """Forget the worlds of a test that is over."""
    _describe.clear()
    _left.clear()


def _bounded(lines: Iterable[str]) -> str:
    found = list(lines)
    cut = len(found) - MAX_LINES
    return "\n".join([f"({cut} earlier lines left out)", *found[-MAX_LINES:]] if cut > 0 else found)
